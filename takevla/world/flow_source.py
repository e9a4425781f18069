"""Streams of vehicles: a source at the start of a path, a sink at its end."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from takevla.scene.actors import ActorKind
from takevla.world.motion import put_on_path
from takevla.world.staging import EXTENT_M, Flow
from takevla.world.state import EGO, EMPTY, NEXT_ID, ON_STAGE, WorldState, draw
from takevla.world.tracks import Ground, put

SOURCE_ROOM_M = 9.0  # nothing may be nearer to the source than this when a vehicle is put there
EGO_ROOM_M = 18.0  # nor the ego than this
ASIDE_M = 2.6  # both count only this near to the source's line
PREFILL_STEP_M = 5.0  # where there is no room, the next place tried is so much further back
SINK_MARGIN_M = 10.0
GAP_DRAWS, KIND_DRAWS = 7000, 8000  # actor numbers that the draws of gaps and kinds go by


@dataclass(frozen=True)
class FlowState:
    """What changes about a flow besides its vehicles."""

    on: bool = False
    last: int = -1  # slot of the vehicle put last
    last_id: int = -1
    count: int = 0  # vehicles put so far


@dataclass(frozen=True)
class FlowSource:
    """One flow of a scenario with the slots that its vehicles may use."""

    flow: Flow
    number: int  # of the flow in its scenario
    slots: range

    def start(self, world: WorldState, ground: Ground, state: FlowState) -> FlowState:
        """Begin to emit; a prefilled flow is there at once."""
        state = replace(state, on=True)
        if self.flow.prefilled:
            state = self._prefill(world, ground, state)
        return state

    def feed(self, world: WorldState, ground: Ground, state: FlowState) -> FlowState:
        """Put a vehicle at the source if the one before is far enough."""
        if not state.on:
            return state
        last, actors = state.last, world.actors
        if last >= 0 and actors["stage"][last] == ON_STAGE and actors["id"][last] == state.last_id:
            tail = float(actors["done_m"][last] + actors["s"][last] - 0.5 * actors["length"][last])
            if tail < self._gap(ground, state.count):
                return state
        length = EXTENT_M[self._kind(ground, state.count)][0]
        return self._emit(world, ground, state, 0.5 * length) or state

    def clear(self, world: WorldState) -> None:
        """Take all its vehicles off the stage."""
        world.actors["stage"][list(self.slots)] = EMPTY

    def _gap(self, ground: Ground, count: int) -> float:
        low, high = self.flow.gap_m
        return low + (high - low) * draw(ground.seed, GAP_DRAWS + self.number, count)

    def _kind(self, ground: Ground, count: int) -> ActorKind:
        kinds = self.flow.kinds
        return kinds[int(draw(ground.seed, KIND_DRAWS + self.number, count) * len(kinds))]

    def _prefill(self, world: WorldState, ground: Ground, state: FlowState) -> FlowState:
        s = ground.length(ground.track(self.flow)) - SINK_MARGIN_M
        while s > 0.5 * SINK_MARGIN_M and (world.actors["stage"][list(self.slots)] == EMPTY).any():
            after = self._emit(world, ground, state, s)
            if after is None:
                s -= PREFILL_STEP_M
                continue
            state = after
            s -= float(world.actors["length"][state.last]) + self._gap(ground, state.count)
        return state

    def _emit(self, world: WorldState, ground: Ground, state: FlowState, s: float) -> FlowState | None:
        """Put one vehicle at arc length s; None where there is no room or no slot."""
        actors = world.actors
        i = next((slot for slot in self.slots if actors["stage"][slot] == EMPTY), -1)
        if i < 0:
            return None
        flow = self.flow
        kind = self._kind(ground, state.count)
        number = int(world.clock[NEXT_ID])
        put(world, ground, i, number, ground.track(flow), kind, flow.motion, s, EXTENT_M[kind])
        actors["goes_on"][i] = 0
        for column in ("lateral", "lateral_from", "lateral_to"):
            actors[column][i] = flow.lateral_m
        put_on_path(world, ground.paths, i)
        if not self._has_room(world, i):
            actors["stage"][i] = EMPTY
            return None
        world.clock[NEXT_ID] += 1
        actors["speed"][i] = actors["cruise"][i] = flow.speed_mps
        actors["own_cue"][i] = actors["cue"][i] = int(flow.cue)
        return FlowState(on=state.on, last=i, last_id=number, count=state.count + 1)

    @staticmethod
    def _has_room(world: WorldState, i: int) -> bool:
        actors = world.actors
        others = np.flatnonzero(actors["stage"] == ON_STAGE)
        others = others[others != i]
        dx, dy = actors["x"][others] - actors["x"][i], actors["y"][others] - actors["y"][i]
        cos, sin = math.cos(actors["heading"][i]), math.sin(actors["heading"][i])
        room = np.where(others == EGO, EGO_ROOM_M, SOURCE_ROOM_M)
        in_way = (np.abs(cos * dx + sin * dy) < room) & (np.abs(cos * dy - sin * dx) < ASIDE_M)
        return not in_way.any()
