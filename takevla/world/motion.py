"""Moving along paths: look-ahead queues, lateral blends and the step of one tick.

Vehicles are kinematic: arc length along the path is integrated from the acceleration, the lateral
offset follows a smooth blend, and pose and yaw rate follow from both.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from takevla.scene.actors import ActorKind
from takevla.scene.road_map import LaneKind
from takevla.world.dynamics import TICK_S
from takevla.world.paths import Paths, nearest_on_path, point_at
from takevla.world.state import EMPTY, QUEUE, WorldState, draw

PEDESTRIAN = int(ActorKind.PEDESTRIAN)
DRIVING = int(LaneKind.DRIVING)
FULL_SHIFT_MPS = 2.0  # slower vehicles move sideways in proportion to their speed
LOOK_AHEAD_M = 120.0  # the queue is filled to this length where the map allows


@njit(cache=True)
def fill_queue(state: WorldState, paths: Paths, given: NDArray[np.int64], seed: int, i: int) -> None:
    """Append paths to the queue: given ones first, then successors of the same kind at random."""
    n = 0
    ahead = -state.actors[i].s
    while n < QUEUE and state.queue[i, n] >= 0:
        ahead += paths.lanes[state.queue[i, n]].length
        n += 1
    while 0 < n < QUEUE and ahead < LOOK_AHEAD_M:
        last = state.queue[i, n - 1]
        new = -1
        if 0 <= state.actors[i].chain_at < state.actors[i].chain_end:
            new = given[state.actors[i].chain_at]
            state.actors[i].chain_at += 1
        elif state.actors[i].goes_on:
            first = paths.lanes[last].next_first
            count = 0
            for k in range(first, paths.lanes[last].next_end):
                if paths.lanes[paths.next_items[k]].kind == paths.lanes[last].kind:
                    count += 1
            if count > 0:
                pick = int(draw(seed, state.actors[i].id, state.actors[i].draws) * count)
                state.actors[i].draws += 1
                for k in range(first, paths.lanes[last].next_end):
                    if paths.lanes[paths.next_items[k]].kind == paths.lanes[last].kind:
                        if pick == 0:
                            new = paths.next_items[k]
                        pick -= 1
        if new < 0:
            return
        state.queue[i, n] = new
        ahead += paths.lanes[new].length
        n += 1


@njit(cache=True)
def is_dead_end(paths: Paths, path: int) -> bool:
    """Whether no path follows."""
    return paths.lanes[path].next_first == paths.lanes[path].next_end


@njit(cache=True)
def room_to_dead_end(state: WorldState, paths: Paths, i: int) -> float:
    """Distance from the front to where vehicle i's lane ends beside one that goes on; inf elsewhere."""
    path = state.queue[i, 0]
    if state.queue[i, 1] >= 0 or state.actors[i].goes_on == 0 or paths.lanes[path].kind != DRIVING:
        return np.inf
    if not is_dead_end(paths, path):
        return np.inf
    for side in range(2):
        lane = paths.lanes[path].left if side == 0 else paths.lanes[path].right
        if lane >= 0 and paths.lanes[lane].kind == DRIVING and not is_dead_end(paths, lane):
            return paths.lanes[path].length - state.actors[i].s - 0.5 * state.actors[i].length
    return np.inf


@njit(cache=True)
def put_on_path(state: WorldState, paths: Paths, i: int) -> None:
    """Set the pose from path, arc length and lateral offset."""
    path = state.queue[i, 0]
    x, y, z, heading = point_at(paths, path, state.actors[i].s)
    state.actors[i].x = x - state.actors[i].lateral * math.sin(heading)
    state.actors[i].y = y + state.actors[i].lateral * math.cos(heading)
    state.actors[i].z = z
    if state.actors[i].direction < 0:
        heading += math.pi
    heading += state.actors[i].turned
    state.actors[i].heading = (heading + math.pi) % (2.0 * math.pi) - math.pi


@njit(cache=True)
def blend_lateral(state: WorldState, i: int, to: float, seconds: float) -> None:
    """Begin to move sideways to offset `to`."""
    state.actors[i].lateral_from = state.actors[i].lateral
    state.actors[i].lateral_to = to
    state.actors[i].lateral_share = 0.0
    state.actors[i].lateral_seconds = max(seconds, TICK_S)


@njit(cache=True)
def switch_path(
    state: WorldState,
    paths: Paths,
    given: NDArray[np.int64],
    seed: int,
    i: int,
    path: int,
    to: float,
    seconds: float,
) -> None:
    """Go on along `path` from its nearest point, reaching offset `to` within `seconds` of driving."""
    s, lateral = nearest_on_path(paths, path, state.actors[i].x, state.actors[i].y)
    state.actors[i].done_m = 0.0
    state.actors[i].s = s
    state.queue[i, :] = -1
    state.queue[i, 0] = path
    state.actors[i].lateral = lateral
    blend_lateral(state, i, to, seconds)
    fill_queue(state, paths, given, seed, i)


@njit(cache=True)
def smooth(share: float) -> float:
    """Quintic blend from 0 to 1 with zero slope and curvature at both ends."""
    return share * share * share * (10.0 + share * (6.0 * share - 15.0))


@njit(cache=True)
def advance(
    state: WorldState,
    paths: Paths,
    given: NDArray[np.int64],
    seed: int,
    i: int,
    acceleration: float,
) -> None:
    """One tick of actor i with this acceleration along its path."""
    before = state.actors[i].speed
    after = max(0.0, before + acceleration * TICK_S)
    step = 0.5 * (before + after) * TICK_S
    old_heading = state.actors[i].heading
    state.actors[i].speed = after
    state.actors[i].acceleration = (after - before) / TICK_S
    if after < 0.1:
        state.actors[i].stand_ticks += 1
    else:
        state.actors[i].stand_ticks = 0
    if step == 0.0:
        state.actors[i].yaw_rate = 0.0
        return
    state.actors[i].s += step * state.actors[i].direction
    sideways = 0.0
    if state.actors[i].lateral_share < 1.0:
        pace = 1.0 if state.actors[i].kind == PEDESTRIAN else min(1.0, after / FULL_SHIFT_MPS)
        old = state.actors[i].lateral
        state.actors[i].lateral_share = min(
            1.0, state.actors[i].lateral_share + pace * TICK_S / state.actors[i].lateral_seconds
        )
        change = state.actors[i].lateral_to - state.actors[i].lateral_from
        state.actors[i].lateral = state.actors[i].lateral_from + change * smooth(
            state.actors[i].lateral_share
        )
        sideways = (state.actors[i].lateral - old) / step
    path = state.queue[i, 0]
    while state.actors[i].s > paths.lanes[path].length and state.queue[i, 1] >= 0:
        state.actors[i].s -= paths.lanes[path].length
        state.actors[i].done_m += paths.lanes[path].length
        for k in range(QUEUE - 1):
            state.queue[i, k] = state.queue[i, k + 1]
        state.queue[i, QUEUE - 1] = -1
        fill_queue(state, paths, given, seed, i)
        path = state.queue[i, 0]
    if state.actors[i].s >= paths.lanes[path].length and state.queue[i, 1] < 0:
        if state.actors[i].gone_at_path_end:
            state.actors[i].stage = EMPTY
            return
        state.actors[i].s = paths.lanes[path].length
        if state.actors[i].kind == PEDESTRIAN and state.actors[i].goes_on:
            state.actors[i].direction = -1
            blend_lateral(state, i, -state.actors[i].lateral, 2.0)
        else:
            state.actors[i].speed = 0.0
            state.actors[i].cruise = 0.0
    elif state.actors[i].s < 0.0 and state.actors[i].direction < 0:
        state.actors[i].s = 0.0
        state.actors[i].direction = 1
        blend_lateral(state, i, -state.actors[i].lateral, 2.0)
    put_on_path(state, paths, i)
    if sideways != 0.0:
        heading = state.actors[i].heading + state.actors[i].direction * math.atan(sideways)
        state.actors[i].heading = (heading + math.pi) % (2.0 * math.pi) - math.pi
    turn = (state.actors[i].heading - old_heading + math.pi) % (2.0 * math.pi) - math.pi
    state.actors[i].yaw_rate = turn / TICK_S
