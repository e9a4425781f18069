"""Executes a `Scenario` on the world state: puts its actors on stage, waits for conditions, runs commands.

What belongs to the scenario's course (which stage is awaited, since when, which flows run) is a
small frozen record, `Course`; a snapshot of the world holds it beside the arrays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from takevla.scene.actors import ActorKind, Role
from takevla.scene.route import Route
from takevla.scene.scene import TICK_US
from takevla.world import staging
from takevla.world.flow_source import FlowSource, FlowState
from takevla.world.motion import blend_lateral, fill_queue, put_on_path, switch_path
from takevla.world.places import near_polyline
from takevla.world.staging import ActorSpec, Condition, Motion, Scenario
from takevla.world.state import (
    EGO,
    EMPTY,
    HIDDEN,
    NOISE_HOLD_TICKS,
    NOISE_STEER,
    NOISE_STEER_STD,
    NOISE_THROTTLE,
    NOISE_THROTTLE_STD,
    ON_STAGE,
    ROUTE_S,
    TICK,
    WorldState,
)
from takevla.world.tracks import Ground, nearest_s, place, put

TRIGGER_M = 2.0  # a scenario fires when its trigger point is this near (benchmark facts 1.2)
STANDS_MPS = 0.1
FOREVER = 1 << 40
ROUTE_ASIDE_M = 1.8  # who is "ahead on the ego's lane": this near to its route
WAITING, RUNNING, ENDED, TIMED_OUT = range(4)  # phases of a course


def ticks(seconds: float) -> int:
    """Seconds as a whole number of ticks."""
    return round(seconds * 1e6 / TICK_US)


@dataclass(frozen=True)
class Course:
    """How far a scenario has come."""

    phase: int = WAITING
    started_tick: int = -1
    stage: int = 0  # the one awaited
    stage_tick: int = -1  # when the stage before ran
    flows: tuple[FlowState, ...] = ()
    following: tuple[tuple[int, float, float, float], ...] = ()  # slot, actor s, route s, most speed
    forced: tuple[int, ...] = ()  # signals held until the end


class Stage:
    """One scenario on one world.  `course` is all that changes besides the world's arrays."""

    def __init__(self, scenario: Scenario, route: Route, ground: Ground, first_slot: int) -> None:
        """`first_slot` is the slot of its first actor; `end_slot` the first it does not use."""
        self.scenario = scenario
        self.route = route
        self.ground = ground
        self.slots = {actor.name: first_slot + k for k, actor in enumerate(scenario.actors)}
        self.sources: list[FlowSource] = []
        self.end_slot = first_slot + len(scenario.actors)
        for number, flow in enumerate(scenario.flows):
            slots = range(self.end_slot, self.end_slot + flow.most)
            self.sources.append(FlowSource(flow, number, slots))
            self.end_slot = slots.stop
        self.course = Course(flows=tuple(FlowState() for _ in scenario.flows))

    # --- set-up ---------------------------------------------------------------------------------

    def set_up(self, state: WorldState) -> None:
        """Put actors and flows that are there from the start into the world."""
        for actor in self.scenario.actors:
            self._put_actor(state, actor)
        for k, flow in enumerate(self.scenario.flows):
            if flow.from_start:
                self._start_flow(state, k)

    def _put_actor(self, state: WorldState, actor: ActorSpec) -> None:
        i = self.slots[actor.name]
        extent = actor.extent_m or staging.EXTENT_M[actor.kind]
        track = self.ground.track(actor)
        put(state, self.ground, i, i, track, actor.kind, actor.motion, actor.start_s_m, extent)
        row = state.actors[i : i + 1]
        row["stage"] = HIDDEN if actor.hidden else ON_STAGE
        for column in ("lateral", "lateral_from", "lateral_to"):
            row[column] = actor.lateral_m
        row["turned"] = actor.turned_rad
        row["speed"] = actor.speed_mps
        row["cruise"] = actor.cruise_mps
        row["bound"] = actor.acceleration_mps2
        row["own_cue"] = row["cue"] = int(actor.cue)
        row["gone_at_path_end"] = int(actor.gone_at_path_end)
        put_on_path(state, self.ground.paths, i)

    # --- one tick -------------------------------------------------------------------------------

    def run(self, state: WorldState) -> None:
        """Advance the course by one tick; called before the world moves."""
        tick = int(state.clock[TICK])
        if self.course.phase == WAITING and state.ego[ROUTE_S] >= self.scenario.trigger_s_m - TRIGGER_M:
            self.course = replace(self.course, phase=RUNNING, started_tick=tick, stage_tick=tick)
        if self.course.phase == RUNNING:
            self._play(state, tick)
        if self.course.phase in (WAITING, RUNNING) and self.sources:
            flows = tuple(
                source.feed(state, self.ground, flow)
                for source, flow in zip(self.sources, self.course.flows, strict=True)
            )
            if flows != self.course.flows:
                self.course = replace(self.course, flows=flows)

    def _play(self, state: WorldState, tick: int) -> None:
        limit = self.scenario.timeout_s
        if limit is not None and tick - self.course.started_tick > ticks(limit):
            self._end(state, TIMED_OUT)
            return
        stages = self.scenario.stages
        if self.course.stage < len(stages):
            stage = stages[self.course.stage]
            if self._holds(state, stage.when):
                for command in stage.do:
                    self._obey(state, command)
                self.course = replace(self.course, stage=self.course.stage + 1, stage_tick=tick)
        if self.course.stage >= len(stages):
            self._end(state, ENDED)
            return
        self._keep_in_step(state)

    def _end(self, state: WorldState, phase: int) -> None:
        for signal in self.course.forced:
            state.forced[signal] = -1
        state.ego[NOISE_STEER : NOISE_HOLD_TICKS + 1] = 0.0
        for actor in self.scenario.actors:
            if actor.gone_at_end:
                state.actors["stage"][self.slots[actor.name]] = EMPTY
        self.course = replace(
            self.course,
            phase=phase,
            flows=tuple(replace(flow, on=False) for flow in self.course.flows),
            following=(),
            forced=(),
        )

    # --- conditions -----------------------------------------------------------------------------

    def _holds(self, state: WorldState, when: Condition) -> bool:
        route_s, actors = float(state.ego[ROUTE_S]), state.actors
        match when:
            case staging.Now():
                return True
            case staging.After(seconds):
                return int(state.clock[TICK]) - self.course.stage_tick >= ticks(seconds)
            case staging.EgoPast(at):
                return route_s >= at
            case staging.EgoWithin(distance, point, actor):
                if actor:
                    i = self.slots[actor]
                    point = (float(actors["x"][i]), float(actors["y"][i]))
                if point is None:
                    raise ValueError(f"scenario {self.scenario.type}: EgoWithin needs a point or an actor")
                return math.dist((actors["x"][EGO], actors["y"][EGO]), point[:2]) <= distance
            case staging.EgoArrives(at, seconds, least):
                return at - route_s <= max(least, seconds * float(actors["speed"][EGO]))
            case staging.EgoStopped(seconds):
                stands = actors["speed"][EGO] < STANDS_MPS
                return bool(stands and actors["stand_ticks"][EGO] >= ticks(seconds))
            case staging.ActorAt(actor, s):
                i = self.slots[actor]
                return bool(actors["stage"][i] == ON_STAGE and actors["done_m"][i] + actors["s"][i] >= s)
            case staging.ActorAhead(actor, by):
                i = self.slots[actor]
                dx, dy = actors["x"][i] - actors["x"][EGO], actors["y"][i] - actors["y"][EGO]
                heading = actors["heading"][EGO]
                ahead = dx * math.cos(heading) + dy * math.sin(heading) >= by
                return bool(actors["stage"][i] == ON_STAGE and ahead)
            case staging.ActorGone(actor):
                return bool(actors["stage"][self.slots[actor]] == EMPTY)
            case staging.AnyOf(conditions):
                return any(self._holds(state, condition) for condition in conditions)
            case staging.AllOf(conditions):
                return all(self._holds(state, condition) for condition in conditions)

    # --- commands -------------------------------------------------------------------------------

    def _obey(self, state: WorldState, command: staging.Command) -> None:
        actors, ground = state.actors, self.ground
        tick = int(state.clock[TICK])
        match command:
            case staging.SetMotion(actor, motion):
                i = self.slots[actor]
                actors["motion"][i] = int(motion)
                if motion == Motion.TRAFFIC and actors["chain_at"][i] >= 0:
                    actors["goes_on"][i] = 1
                    fill_queue(state, ground.paths, ground.given, ground.seed, i)
            case staging.SetCruise(actor, cruise, bound, of_ego):
                i = self.slots[actor]
                actors["cruise"][i] = cruise
                actors["cruise_of_ego"][i] = of_ego
                if bound is not None:
                    actors["bound"][i] = bound
                following = tuple(row for row in self.course.following if row[0] != i)
                self.course = replace(self.course, following=following)
            case staging.SetSpeed(actor, speed):
                actors["speed"][self.slots[actor]] = speed
            case staging.SyncArrival(actor, actor_s, route_s, most):
                row = (self.slots[actor], actor_s, route_s, most)
                self.course = replace(self.course, following=(*self.course.following, row))
            case staging.SetCue(actor, cue):
                i = self.slots[actor]
                actors["own_cue"][i] = actors["cue"][i] = int(cue)
            case staging.SwitchPath(actor, _, _, seconds, lateral, gone):
                i = self.slots[actor]
                self._place_near(state, i, command, float(actors["x"][i]), float(actors["y"][i]), 0.0)
                path = int(state.queue[i, 0])
                switch_path(state, ground.paths, ground.given, ground.seed, i, path, lateral, seconds)
                actors["gone_at_path_end"][i] = int(gone)
            case staging.Shift(actor, lateral, seconds):
                blend_lateral(state, self.slots[actor], lateral, seconds)
            case staging.Show(actor, from_ego):
                self._show(state, actor, from_ego)
            case staging.Remove(actor):
                actors["stage"][self.slots[actor]] = EMPTY
            case staging.ForceSignals(signals, light, seconds):
                until = FOREVER if seconds is None else tick + ticks(seconds)
                state.forced[list(signals)] = int(light)
                state.forced_until[list(signals)] = until
                if seconds is None:
                    self.course = replace(self.course, forced=(*self.course.forced, *signals))
            case staging.StartFlow(flow):
                self._start_flow(state, self._flow_number(flow))
            case staging.StopFlow(flow, clear):
                k = self._flow_number(flow)
                self._set_flow(k, replace(self.course.flows[k], on=False))
                if clear:
                    self.sources[k].clear(state)
            case staging.BrakeTraffic(distance, seconds):
                self._brake_traffic(state, distance, tick + ticks(seconds))
            case staging.EgoNoise(steer, steer_std, throttle, throttle_std, hold):
                state.ego[NOISE_STEER] = steer
                state.ego[NOISE_STEER_STD] = steer_std
                state.ego[NOISE_THROTTLE] = throttle
                state.ego[NOISE_THROTTLE_STD] = throttle_std
                on = any((steer, steer_std, throttle, throttle_std))
                state.ego[NOISE_HOLD_TICKS] = max(1, ticks(hold)) if on else 0
            case staging.ClearTraffic(line, radius):
                self._remove_background(state, near_polyline(actors["x"], actors["y"], line, radius))

    def _place_near(
        self,
        state: WorldState,
        i: int,
        record: ActorSpec | staging.SwitchPath,
        x: float,
        y: float,
        further_m: float,
    ) -> None:
        """Put actor i on a record's track, `further_m` beyond the point nearest to (x, y)."""
        track = self.ground.track(record)
        s = nearest_s(self.ground, track, x, y) + further_m
        place(state, self.ground, i, track, max(0.0, s))
        fill_queue(state, self.ground.paths, self.ground.given, self.ground.seed, i)

    def _show(self, state: WorldState, actor: str, from_ego: float | None) -> None:
        i, actors = self.slots[actor], state.actors
        if from_ego is not None:
            spec = next(spec for spec in self.scenario.actors if spec.name == actor)
            self._place_near(state, i, spec, float(actors["x"][EGO]), float(actors["y"][EGO]), from_ego)
        actors["stage"][i] = ON_STAGE
        put_on_path(state, self.ground.paths, i)
        # Background that stands where an actor appears leaves.
        reach = 0.5 * (actors["length"][i] + actors["length"]) + 1.0
        self._remove_background(
            state, np.hypot(actors["x"] - actors["x"][i], actors["y"] - actors["y"][i]) < reach
        )

    def _remove_background(
        self, state: WorldState, where: np.ndarray[tuple[int], np.dtype[np.bool_]]
    ) -> None:
        actors = state.actors
        gone = where & (actors["stage"] == ON_STAGE) & (actors["role"] == int(Role.BACKGROUND))
        gone[EGO] = False
        actors["stage"][gone] = EMPTY

    def _brake_traffic(self, state: WorldState, distance: float, until: int) -> None:
        actors = state.actors
        at = int(np.searchsorted(self.route.s_m, state.ego[ROUTE_S]))
        to = int(np.searchsorted(self.route.s_m, state.ego[ROUTE_S] + distance, side="right"))
        line = self.route.points_world[at : max(to, at + 2)]
        if len(line) < 2:
            return
        near = near_polyline(actors["x"], actors["y"], line, ROUTE_ASIDE_M)
        near &= (actors["stage"] == ON_STAGE) & (actors["role"] == int(Role.BACKGROUND))
        near &= (actors["kind"] < int(ActorKind.BICYCLE)) & (actors["motion"] == int(Motion.TRAFFIC))
        near &= np.cos(actors["heading"] - actors["heading"][EGO]) > 0.3
        near[EGO] = False
        actors["halt_until"][near] = until

    def _keep_in_step(self, state: WorldState) -> None:
        """Serve `SyncArrival`."""
        kept = []
        for row in self.course.following:
            i, actor_s, route_s, most = row
            ego_left = route_s - float(state.ego[ROUTE_S])
            left = actor_s - float(state.actors["done_m"][i] + state.actors["s"][i])
            if ego_left <= 1.0 or left <= 1.0:
                continue
            seconds = ego_left / max(float(state.actors["speed"][EGO]), 0.5)
            state.actors["cruise"][i] = min(most, left / seconds)
            kept.append(row)
        if len(kept) != len(self.course.following):
            self.course = replace(self.course, following=tuple(kept))

    # --- flows ----------------------------------------------------------------------------------

    def _flow_number(self, name: str) -> int:
        return [flow.name for flow in self.scenario.flows].index(name)

    def _set_flow(self, k: int, flow: FlowState) -> None:
        flows = self.course.flows
        self.course = replace(self.course, flows=(*flows[:k], flow, *flows[k + 1 :]))

    def _start_flow(self, state: WorldState, k: int) -> None:
        self._set_flow(k, self.sources[k].start(state, self.ground, self.course.flows[k]))
