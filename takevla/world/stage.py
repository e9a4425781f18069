"""Executes a `Scenario` on the world state: puts its actors on stage, waits for conditions, runs commands.

What belongs to the scenario's course (which stage is awaited, since when, which flows run) is a
small frozen record, `Course`; a snapshot of the world holds it beside the arrays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from takevla.scene.actors import ActorKind, Role
from takevla.scene.road_map import RoadMap
from takevla.scene.route import Route
from takevla.scene.scene import TICK_US
from takevla.world import staging
from takevla.world.motion import blend_lateral, fill_queue, put_on_path, switch_path
from takevla.world.paths import Paths, nearest_on_path
from takevla.world.population import clear_slot, extent_table, near_polyline
from takevla.world.staging import ActorSpec, Condition, Flow, Motion, Scenario
from takevla.world.state import (
    EGO,
    EMPTY,
    HIDDEN,
    NEXT_ID,
    NOISE_HOLD_TICKS,
    NOISE_STEER,
    NOISE_STEER_STD,
    NOISE_THROTTLE,
    NOISE_THROTTLE_STD,
    ON_STAGE,
    ROUTE_S,
    TICK,
    WorldState,
    draw,
)

TRIGGER_M = 2.0  # a scenario fires when its trigger point is this near (benchmark facts 1.2)
STANDS_MPS = 0.1
SOURCE_ROOM_M = 9.0  # nothing may be nearer to a flow's source than this when a vehicle is put there
EGO_ROOM_M = 18.0  # nor the ego than this
FOREVER = 1 << 40
WAITING, RUNNING, ENDED, TIMED_OUT = range(4)  # phases of a course


def ticks(seconds: float) -> int:
    """Seconds as a whole number of ticks."""
    return round(seconds * 1e6 / TICK_US)


@dataclass(frozen=True)
class Course:
    """How far a scenario has come."""

    phase: int = WAITING
    started_tick: int = -1
    stage: int = 0
    stage_tick: int = -1  # when the stage before ran
    ended_tick: int = -1
    flows_on: tuple[bool, ...] = ()
    flow_last: tuple[int, ...] = ()  # slot of the vehicle put last, -1
    flow_last_id: tuple[int, ...] = ()
    flow_count: tuple[int, ...] = ()
    following: tuple[tuple[int, float, float, float], ...] = ()  # slot, actor s, route s, most speed
    forced: tuple[int, ...] = ()  # signals held until the end


@dataclass(frozen=True)
class Track:
    """A path as the state knows it: a chain of the `given` pool, or one free path."""

    path: int  # first path
    first: int  # next entry of `given` after the first path, -1 for free paths
    end: int


class Stage:
    """One scenario on one world.  `course` is all that changes besides the world's arrays."""

    def __init__(
        self,
        scenario: Scenario,
        route: Route,
        first_slot: int,
        tracks: Mapping[int, Track],
        seed: int,
    ) -> None:
        """`first_slot` is the slot of its first actor; `tracks` maps id(record) to where its path lies."""
        self.scenario = scenario
        self.route = route
        self.seed = seed
        self.tracks = tracks
        self.slots = {actor.name: first_slot + k for k, actor in enumerate(scenario.actors)}
        self.flow_slots: list[range] = []
        at = first_slot + len(scenario.actors)
        for flow in scenario.flows:
            self.flow_slots.append(range(at, at + flow.most))
            at += flow.most
        self.end_slot = at
        count = len(scenario.flows)
        self.extents = extent_table()
        self.course = Course(
            flows_on=(False,) * count,
            flow_last=(-1,) * count,
            flow_last_id=(-1,) * count,
            flow_count=(0,) * count,
        )

    @staticmethod
    def slots_needed(scenario: Scenario) -> int:
        """Actors plus the most that its flows have on stage."""
        return len(scenario.actors) + sum(flow.most for flow in scenario.flows)

    # --- set-up ---------------------------------------------------------------------------------

    def set_up(self, state: WorldState, paths: Paths, given: NDArray[np.int64]) -> None:
        """Put actors and flows that are there from the start into the world."""
        for actor in self.scenario.actors:
            self._put_actor(state, paths, given, actor)
        for k, flow in enumerate(self.scenario.flows):
            if flow.from_start:
                self._start_flow(state, paths, given, k)

    def _put_actor(self, state: WorldState, paths: Paths, given: NDArray[np.int64], actor: ActorSpec) -> None:
        i = self.slots[actor.name]
        extent = actor.extent_m or staging.EXTENT_M[actor.kind]
        self._put(
            state,
            paths,
            given,
            i,
            i,
            self.tracks[id(actor)],
            actor.kind,
            actor.motion,
            actor.start_s_m,
            extent,
        )
        state.actors["stage"][i] = HIDDEN if actor.hidden else ON_STAGE
        state.actors["lateral"][i] = state.actors["lateral_from"][i] = state.actors["lateral_to"][i] = (
            actor.lateral_m
        )
        state.actors["turned"][i] = actor.turned_rad
        state.actors["speed"][i] = actor.speed_mps
        state.actors["cruise"][i] = actor.cruise_mps
        state.actors["bound"][i] = actor.acceleration_mps2
        state.actors["own_cue"][i] = state.actors["cue"][i] = int(actor.cue)
        state.actors["gone_at_path_end"][i] = int(actor.gone_at_path_end)
        put_on_path(state, paths, i)

    def _put(
        self,
        state: WorldState,
        paths: Paths,
        given: NDArray[np.int64],
        i: int,
        number: int,
        track: Track,
        kind: ActorKind,
        motion: Motion,
        s: float,
        extent: tuple[float, float, float],
    ) -> None:
        clear_slot(state, i)
        state.actors["stage"][i] = ON_STAGE
        state.actors["id"][i] = number
        state.actors["kind"][i] = int(kind)
        state.actors["role"][i] = int(Role.SCENARIO)
        state.actors["motion"][i] = int(motion)
        state.actors["length"][i], state.actors["width"][i], state.actors["height"][i] = extent
        self._place(state, paths, given, i, track, s)
        state.actors["goes_on"][i] = int(track.first >= 0 and motion == Motion.TRAFFIC)
        fill_queue(state, paths, given, self.seed, i)

    @staticmethod
    def _place(
        state: WorldState, paths: Paths, given: NDArray[np.int64], i: int, track: Track, s: float
    ) -> None:
        """Set path, queue and arc length; `s` counts along the joined chain."""
        path, entry, done = track.path, track.first, 0.0
        while 0 <= entry < track.end and s > paths.lanes["length"][path]:
            s -= float(paths.lanes["length"][path])
            done += float(paths.lanes["length"][path])
            path = int(given[entry])
            entry += 1
        state.queue[i, :] = -1
        state.queue[i, 0] = path
        state.actors["s"][i] = s
        state.actors["done_m"][i] = done
        state.actors["chain_at"][i] = entry
        state.actors["chain_end"][i] = track.end

    # --- one tick -------------------------------------------------------------------------------

    def run(self, state: WorldState, paths: Paths, given: NDArray[np.int64]) -> None:
        """Advance the course by one tick; called before the world moves."""
        course = self.course
        tick = int(state.clock[TICK])
        if course.phase == WAITING:
            if state.ego[ROUTE_S] < self.scenario.trigger_s_m - TRIGGER_M:
                self._feed_flows(state, paths, given)
                return
            self.course = course = replace(course, phase=RUNNING, started_tick=tick, stage_tick=tick)
        if course.phase == RUNNING:
            limit = self.scenario.timeout_s
            if limit is not None and tick - course.started_tick > ticks(limit):
                self._end(state, TIMED_OUT)
                return
            stages = self.scenario.stages
            if course.stage < len(stages):
                stage = stages[course.stage]
                if self._holds(state, stage.when):
                    for command in stage.do:
                        self._command(state, paths, given, command)
                    self.course = replace(self.course, stage=course.stage + 1, stage_tick=tick)
            if self.course.stage >= len(stages):
                self._end(state, ENDED)
                return
            self._keep_in_step(state)
        self._feed_flows(state, paths, given)

    def _end(self, state: WorldState, phase: int) -> None:
        count = len(self.scenario.flows)
        for signal in self.course.forced:
            state.forced[signal] = -1
        state.ego[NOISE_STEER : NOISE_HOLD_TICKS + 1] = 0.0
        for actor in self.scenario.actors:
            if actor.gone_at_end:
                state.actors["stage"][self.slots[actor.name]] = EMPTY
        self.course = replace(
            self.course,
            phase=phase,
            ended_tick=int(state.clock[TICK]),
            flows_on=(False,) * count,
            following=(),
            forced=(),
        )

    # --- conditions -----------------------------------------------------------------------------

    def _actor_s(self, state: WorldState, name: str) -> float:
        i = self.slots[name]
        return float(state.actors["done_m"][i] + state.actors["s"][i])

    def _holds(self, state: WorldState, when: Condition) -> bool:
        route_s = float(state.ego[ROUTE_S])
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
                    point = (float(state.actors["x"][i]), float(state.actors["y"][i]))
                if point is None:
                    raise ValueError("EgoWithin needs a point or an actor")
                return math.dist((state.actors["x"][EGO], state.actors["y"][EGO]), point[:2]) <= distance
            case staging.EgoArrives(at, seconds, least):
                left = at - route_s
                return left <= max(least, seconds * float(state.actors["speed"][EGO]))
            case staging.EgoStopped(seconds):
                return state.actors["speed"][EGO] < STANDS_MPS and state.actors["stand_ticks"][EGO] >= ticks(
                    seconds
                )
            case staging.ActorAt(actor, s):
                i = self.slots[actor]
                return bool(state.actors["stage"][i] == ON_STAGE) and self._actor_s(state, actor) >= s
            case staging.ActorAhead(actor, by):
                i = self.slots[actor]
                dx, dy = (
                    state.actors["x"][i] - state.actors["x"][EGO],
                    state.actors["y"][i] - state.actors["y"][EGO],
                )
                heading = state.actors["heading"][EGO]
                ahead = dx * math.cos(heading) + dy * math.sin(heading) >= by
                return bool(state.actors["stage"][i] == ON_STAGE and ahead)
            case staging.ActorGone(actor):
                return bool(state.actors["stage"][self.slots[actor]] == EMPTY)
            case staging.AnyOf(conditions):
                return any(self._holds(state, c) for c in conditions)
            case staging.AllOf(conditions):
                return all(self._holds(state, c) for c in conditions)

    # --- commands -------------------------------------------------------------------------------

    def _command(
        self, state: WorldState, paths: Paths, given: NDArray[np.int64], command: staging.Command
    ) -> None:
        tick = int(state.clock[TICK])
        match command:
            case staging.SetMotion(actor, motion):
                i = self.slots[actor]
                state.actors["motion"][i] = int(motion)
                if motion == Motion.TRAFFIC and state.actors["chain_at"][i] >= 0:
                    state.actors["goes_on"][i] = 1
                    fill_queue(state, paths, given, self.seed, i)
            case staging.SetCruise(actor, cruise, bound, of_ego):
                i = self.slots[actor]
                state.actors["cruise"][i] = cruise
                state.actors["cruise_of_ego"][i] = of_ego
                if bound is not None:
                    state.actors["bound"][i] = bound
                following = tuple(row for row in self.course.following if row[0] != i)
                self.course = replace(self.course, following=following)
            case staging.SetSpeed(actor, speed):
                state.actors["speed"][self.slots[actor]] = speed
            case staging.SyncArrival(actor, actor_s, route_s, most):
                row = (self.slots[actor], actor_s, route_s, most)
                self.course = replace(self.course, following=(*self.course.following, row))
            case staging.SetCue(actor, cue):
                i = self.slots[actor]
                state.actors["own_cue"][i] = state.actors["cue"][i] = int(cue)
            case staging.SwitchPath(actor, _, _, seconds, lateral, gone):
                i = self.slots[actor]
                track = self.tracks[id(command)]
                self._nearest_of(state, paths, given, i, track, state.actors["x"][i], state.actors["y"][i])
                switch_path(state, paths, given, self.seed, i, int(state.queue[i, 0]), lateral, seconds)
                state.actors["gone_at_path_end"][i] = int(gone)
            case staging.Shift(actor, lateral, seconds):
                blend_lateral(state, self.slots[actor], lateral, seconds)
            case staging.Show(actor, from_ego):
                self._show(state, paths, given, actor, from_ego)
            case staging.Remove(actor):
                state.actors["stage"][self.slots[actor]] = EMPTY
            case staging.ForceSignals(signals, light, seconds):
                for signal in signals:
                    state.forced[signal] = int(light)
                    state.forced_until[signal] = FOREVER if seconds is None else tick + ticks(seconds)
                if seconds is None:
                    self.course = replace(self.course, forced=(*self.course.forced, *signals))
            case staging.StartFlow(flow):
                self._start_flow(state, paths, given, self._flow_index(flow))
            case staging.StopFlow(flow, clear):
                k = self._flow_index(flow)
                on = tuple(on and n != k for n, on in enumerate(self.course.flows_on))
                self.course = replace(self.course, flows_on=on)
                if clear:
                    state.actors["stage"][list(self.flow_slots[k])] = EMPTY
            case staging.BrakeTraffic(distance, seconds):
                self._brake_traffic(state, distance, tick + ticks(seconds))
            case staging.EgoNoise(steer, steer_std, throttle, throttle_std, hold):
                state.ego[NOISE_STEER] = steer
                state.ego[NOISE_STEER_STD] = steer_std
                state.ego[NOISE_THROTTLE] = throttle
                state.ego[NOISE_THROTTLE_STD] = throttle_std
                state.ego[NOISE_HOLD_TICKS] = max(1, ticks(hold))
            case staging.ClearTraffic(line, radius):
                near = near_polyline(state.actors["x"], state.actors["y"], line, radius)
                near &= (state.actors["stage"] == ON_STAGE) & (state.actors["role"] == int(Role.BACKGROUND))
                near[: self.end_slot] = False
                state.actors["stage"][near] = EMPTY

    def _flow_index(self, name: str) -> int:
        return [flow.name for flow in self.scenario.flows].index(name)

    def _nearest_of(
        self,
        state: WorldState,
        paths: Paths,
        given: NDArray[np.int64],
        i: int,
        track: Track,
        x: float,
        y: float,
    ) -> tuple[float, float]:
        """Put actor i at the point of a chain nearest to (x, y); returns chain s and lateral offset."""
        chain = [track.path]
        if track.first >= 0:
            chain += [int(path) for path in given[track.first : track.end]]
        best = (math.inf, 0.0, 0.0)
        done = 0.0
        for path in chain:
            s, lateral = nearest_on_path(paths, path, x, y)
            first, last = paths.lanes["first"][path], paths.lanes["end"][path] - 1
            overshoot = 0.0
            if s <= 0.0:
                overshoot = math.hypot(x - paths.points["x"][first], y - paths.points["y"][first]) - abs(
                    lateral
                )
            elif s >= paths.lanes["length"][path]:
                overshoot = math.hypot(x - paths.points["x"][last], y - paths.points["y"][last]) - abs(
                    lateral
                )
            if abs(lateral) + overshoot < best[0] - 1e-6:
                best = (abs(lateral) + overshoot, done + s, lateral)
            done += float(paths.lanes["length"][path])
        self._place(state, paths, given, i, track, best[1])
        return best[1], best[2]

    def _show(
        self,
        state: WorldState,
        paths: Paths,
        given: NDArray[np.int64],
        actor: str,
        from_ego: float | None,
    ) -> None:
        i = self.slots[actor]
        if from_ego is not None:
            spec = next(a for a in self.scenario.actors if a.name == actor)
            track = self.tracks[id(spec)]
            s, _ = self._nearest_of(
                state, paths, given, i, track, state.actors["x"][EGO], state.actors["y"][EGO]
            )
            self._place(state, paths, given, i, track, max(0.0, s + from_ego))
            fill_queue(state, paths, given, self.seed, i)
        state.actors["stage"][i] = ON_STAGE
        put_on_path(state, paths, i)
        self._make_room(state, i)

    def _make_room(self, state: WorldState, i: int) -> None:
        """Background that stands where an actor appears leaves."""
        reach = 0.5 * (state.actors["length"][i] + state.actors["length"]) + 1.0
        near = (
            np.hypot(state.actors["x"] - state.actors["x"][i], state.actors["y"] - state.actors["y"][i])
            < reach
        )
        near &= (state.actors["stage"] == ON_STAGE) & (state.actors["role"] == int(Role.BACKGROUND))
        near[: self.end_slot] = False
        state.actors["stage"][near] = EMPTY

    def _brake_traffic(self, state: WorldState, distance: float, until: int) -> None:
        at = int(np.searchsorted(self.route.s_m, state.ego[ROUTE_S]))
        to = int(np.searchsorted(self.route.s_m, state.ego[ROUTE_S] + distance, side="right"))
        line = self.route.points_world[at : max(to, at + 2)]
        if len(line) < 2:
            return
        near = near_polyline(state.actors["x"], state.actors["y"], line, 1.8)
        near &= (state.actors["stage"] == ON_STAGE) & (state.actors["role"] == int(Role.BACKGROUND))
        near &= (state.actors["kind"] < int(ActorKind.BICYCLE)) & (
            state.actors["motion"] == int(Motion.TRAFFIC)
        )
        near &= np.cos(state.actors["heading"] - state.actors["heading"][EGO]) > 0.3
        near[EGO] = False
        state.actors["halt_until"][near] = until

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

    def _start_flow(self, state: WorldState, paths: Paths, given: NDArray[np.int64], k: int) -> None:
        flow = self.scenario.flows[k]
        if flow.prefilled:
            self._prefill(state, paths, given, k)
        on = tuple(on or n == k for n, on in enumerate(self.course.flows_on))
        self.course = replace(self.course, flows_on=on)

    def _path_length(self, paths: Paths, given: NDArray[np.int64], track: Track) -> float:
        length = float(paths.lanes["length"][track.path])
        if track.first >= 0:
            length += float(paths.lanes["length"][given[track.first : track.end]].sum())
        return length

    def _gap(self, k: int, number: int) -> float:
        low, high = self.scenario.flows[k].gap_m
        return low + (high - low) * draw(self.seed, 7000 + k, number)

    def _prefill(self, state: WorldState, paths: Paths, given: NDArray[np.int64], k: int) -> None:
        flow = self.scenario.flows[k]
        s = self._path_length(paths, given, self.tracks[id(flow)]) - 10.0
        while s > 5.0:
            if not self._emit(state, paths, given, k, s):
                s -= 5.0
                if not (state.actors["stage"][list(self.flow_slots[k])] == EMPTY).any():
                    return
                continue
            slot = self.course.flow_last[k]
            s -= float(state.actors["length"][slot]) + self._gap(k, self.course.flow_count[k])

    def _feed_flows(self, state: WorldState, paths: Paths, given: NDArray[np.int64]) -> None:
        for k, on in enumerate(self.course.flows_on):
            if not on:
                continue
            last = self.course.flow_last[k]
            flow = self.scenario.flows[k]
            if (
                last >= 0
                and state.actors["stage"][last] == ON_STAGE
                and state.actors["id"][last] == self.course.flow_last_id[k]
            ):
                behind = float(state.actors["done_m"][last] + state.actors["s"][last]) - 0.5 * float(
                    state.actors["length"][last]
                )
                if behind < self._gap(k, self.course.flow_count[k]):
                    continue
            length = staging.EXTENT_M[self._kind(flow, self.course.flow_count[k])][0]
            self._emit(state, paths, given, k, 0.5 * length)

    def _kind(self, flow: Flow, number: int) -> ActorKind:
        return flow.kinds[int(draw(self.seed, 8000, number) * len(flow.kinds))]

    def _emit(self, state: WorldState, paths: Paths, given: NDArray[np.int64], k: int, s: float) -> bool:
        """Put one vehicle of flow k at arc length s if there is room; returns whether it was."""
        slots = self.flow_slots[k]
        i = next((slot for slot in slots if state.actors["stage"][slot] == EMPTY), -1)
        if i < 0:
            return False
        flow = self.scenario.flows[k]
        kind = self._kind(flow, self.course.flow_count[k])
        extent = staging.EXTENT_M[kind]
        number = int(state.clock[NEXT_ID])
        track = self.tracks[id(flow)]
        self._put(state, paths, given, i, number, track, kind, flow.motion, s, extent)
        state.actors["goes_on"][i] = 0
        state.actors["lateral"][i] = state.actors["lateral_from"][i] = state.actors["lateral_to"][i] = (
            flow.lateral_m
        )
        put_on_path(state, paths, i)
        others = np.flatnonzero(state.actors["stage"] == ON_STAGE)
        others = others[others != i]
        away = np.hypot(
            state.actors["x"][others] - state.actors["x"][i], state.actors["y"][others] - state.actors["y"][i]
        )
        room = np.where(others == EGO, EGO_ROOM_M, SOURCE_ROOM_M)
        pavement = state.actors["kind"][others] == int(ActorKind.PEDESTRIAN)
        parked = (state.actors["motion"][others] == int(Motion.STATIC)) & (away > 2.6) & (others != EGO)
        if (away < room)[~pavement & ~parked].any():
            state.actors["stage"][i] = EMPTY
            return False
        state.clock[NEXT_ID] += 1
        state.actors["speed"][i] = state.actors["cruise"][i] = flow.speed_mps
        state.actors["own_cue"][i] = state.actors["cue"][i] = int(flow.cue)
        row = self.course

        def at_k(values: tuple[int, ...], value: int) -> tuple[int, ...]:
            return (*values[:k], value, *values[k + 1 :])

        self.course = replace(
            row,
            flow_last=at_k(row.flow_last, i),
            flow_last_id=at_k(row.flow_last_id, number),
            flow_count=at_k(row.flow_count, row.flow_count[k] + 1),
        )
        return True


def check_paths(road_map: RoadMap, scenario: Scenario) -> None:
    """Refuse a scenario whose actors, flows or commands name paths or actors that do not exist."""
    names = [actor.name for actor in scenario.actors]
    if len(set(names)) != len(names):
        raise ValueError(f"scenario {scenario.type}: two actors of one name")
    records: list[tuple[str, tuple[int, ...], NDArray[np.float32] | None]] = [
        (actor.name, actor.lanes, actor.path_world) for actor in scenario.actors
    ]
    records += [(flow.name, flow.lanes, flow.path_world) for flow in scenario.flows]
    for name, lanes, line in records:
        if bool(lanes) == (line is not None):
            raise ValueError(f"scenario {scenario.type}: {name} needs either lanes or a path")
        if any(not 0 <= lane < len(road_map.lanes) for lane in lanes):
            raise ValueError(f"scenario {scenario.type}: {name} names a lane that {road_map.name} lacks")
