"""Lane changes of background vehicles, in the manner of MOBIL (Kesting et al. 2007).

A vehicle changes when that gains acceleration and hurts nobody behind, or because its lane ends.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from takevla.scene.road_map import LaneKind, MarkKind
from takevla.world.motion import is_dead_end, switch_path
from takevla.world.paths import Paths, nearest_on_path
from takevla.world.staging import Motion
from takevla.world.state import EGO, TICK, WorldState, on_stage
from takevla.world.traffic import IDM_STANDSTILL_M, SAME_LEVEL_M, idm

DRIVING = int(LaneKind.DRIVING)
MARK_NONE, BROKEN_WHITE = int(MarkKind.NONE), int(MarkKind.BROKEN_WHITE)
BROKEN_YELLOW = int(MarkKind.BROKEN_YELLOW)
TRAFFIC = int(Motion.TRAFFIC)

CHANGE_S = 3.0
GAIN_MPS2 = 0.5  # least gain in acceleration
SAFE_BRAKING_MPS2 = 1.5  # greatest braking imposed on the one behind
REST_TICKS = 160  # between two changes of a vehicle
LEAST_ROOM_M = 40.0  # to the end of the lane, for changes that are not forced
FORCED_M = 150.0  # before the end of a lane that leads nowhere
CONSIDER_EVERY = 10  # ticks; vehicles take turns
IN_LANE_M = 2.0  # lateral reach of "is in that lane"


@njit(cache=True)
def gain(
    state: WorldState, paths: Paths, active: NDArray[np.int64], i: int, lane: int, wanted: float
) -> tuple[float, bool]:
    """Acceleration vehicle i would have on `lane`, and whether moving over is safe."""
    at, _ = nearest_on_path(paths, lane, state.actors[i].x, state.actors[i].y)
    half = 0.5 * state.actors[i].length
    ahead_gap = np.inf
    ahead_speed = 0.0
    for a in range(active.shape[0]):
        j = active[a]
        dx = state.actors[j].x - state.actors[i].x
        dy = state.actors[j].y - state.actors[i].y
        if j == i or dx * dx + dy * dy > 4900.0 or abs(state.actors[j].z - state.actors[i].z) > SAME_LEVEL_M:
            continue
        s, lateral = nearest_on_path(paths, lane, state.actors[j].x, state.actors[j].y)
        if abs(lateral) > IN_LANE_M:
            continue
        if s <= 0.0 or s >= paths.lanes[lane].length:
            s = at + dx * math.cos(state.actors[i].heading) + dy * math.sin(state.actors[i].heading)
        gap = abs(s - at) - half - 0.5 * state.actors[j].length
        if s >= at:
            if gap < ahead_gap:
                ahead_gap = gap
                ahead_speed = state.actors[j].speed
        else:
            room = 8.0 if j == EGO else 3.0
            speed_j = state.actors[j].speed
            if (
                gap < room
                or idm(speed_j, speed_j + 0.1, gap, state.actors[i].speed, 2.0) < -SAFE_BRAKING_MPS2
            ):
                return 0.0, False
    if ahead_gap < 4.0:
        return 0.0, False
    return idm(state.actors[i].speed, wanted, ahead_gap, ahead_speed, IDM_STANDSTILL_M), True


@njit(cache=True)
def change_lanes(state: WorldState, paths: Paths, given: NDArray[np.int64], seed: int) -> None:
    """Let the vehicles whose turn it is consider the lanes beside them."""
    tick = state.clock[TICK]
    active = on_stage(state)
    for a in range(active.shape[0]):
        i = active[a]
        if (tick + 7 * i) % CONSIDER_EVERY != 0 or i == EGO:
            continue
        if (
            state.actors[i].motion != TRAFFIC
            or state.actors[i].goes_on == 0
            or state.actors[i].lateral_share < 1.0
        ):
            continue
        path = state.queue[i, 0]
        if path < 0 or paths.lanes[path].kind != DRIVING or paths.lanes[path].junction >= 0:
            continue
        if 0 <= state.actors[i].chain_at < state.actors[i].chain_end or state.actors[i].halt_until > tick:
            continue
        room = paths.lanes[path].length - state.actors[i].s
        forced = is_dead_end(paths, path) and room < FORCED_M
        if not forced:
            if (
                tick - state.actors[i].changed_tick < REST_TICKS
                or room < LEAST_ROOM_M
                or state.actors[i].s < 10.0
            ):
                continue
            wanted = paths.lanes[path].limit * state.actors[i].pace
            if state.actors[i].speed > 0.8 * wanted or state.actors[i].acceleration > 0.5:
                continue
        wanted = paths.lanes[path].limit * state.actors[i].pace
        now = idm(state.actors[i].speed, wanted, np.inf, 0.0, IDM_STANDSTILL_M) if forced else 0.0
        if not forced:
            now, _ = gain(state, paths, active, i, path, wanted)
        best = -1
        best_gain = -np.inf if forced else GAIN_MPS2
        for side in range(2):
            lane = paths.lanes[path].left if side == 0 else paths.lanes[path].right
            mark = paths.lanes[path].left_mark if side == 0 else paths.lanes[path].right_mark
            if lane < 0 or paths.lanes[lane].kind != DRIVING or (forced and is_dead_end(paths, lane)):
                continue
            crossable = mark in (MARK_NONE, BROKEN_WHITE, BROKEN_YELLOW)
            if not crossable and not forced:
                continue
            if (
                not forced
                and is_dead_end(paths, lane)
                and paths.lanes[lane].length - state.actors[i].s < FORCED_M
            ):
                continue
            new, safe = gain(state, paths, active, i, lane, wanted)
            if safe and new - now > best_gain:
                best_gain = new - now
                best = lane
        if best >= 0:
            switch_path(state, paths, given, seed, i, best, 0.0, CHANGE_S)
            state.actors[i].changed_tick = tick
