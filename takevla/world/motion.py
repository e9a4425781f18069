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
    ahead = -state.s[i]
    while n < QUEUE and state.queue[i, n] >= 0:
        ahead += paths.length[state.queue[i, n]]
        n += 1
    while 0 < n < QUEUE and ahead < LOOK_AHEAD_M:
        last = state.queue[i, n - 1]
        new = -1
        if 0 <= state.chain_at[i] < state.chain_end[i]:
            new = given[state.chain_at[i]]
            state.chain_at[i] += 1
        elif state.goes_on[i]:
            first = paths.next_index[last]
            count = 0
            for k in range(first, paths.next_index[last + 1]):
                if paths.kind[paths.next_items[k]] == paths.kind[last]:
                    count += 1
            if count > 0:
                pick = int(draw(seed, state.id[i], state.draws[i]) * count)
                state.draws[i] += 1
                for k in range(first, paths.next_index[last + 1]):
                    if paths.kind[paths.next_items[k]] == paths.kind[last]:
                        if pick == 0:
                            new = paths.next_items[k]
                        pick -= 1
        if new < 0:
            return
        state.queue[i, n] = new
        ahead += paths.length[new]
        n += 1


@njit(cache=True)
def is_dead_end(paths: Paths, path: int) -> bool:
    """Whether no path follows."""
    return paths.next_index[path] == paths.next_index[path + 1]


@njit(cache=True)
def room_to_dead_end(state: WorldState, paths: Paths, i: int) -> float:
    """Distance from the front to where vehicle i's lane ends beside one that goes on; inf elsewhere."""
    path = state.queue[i, 0]
    if state.queue[i, 1] >= 0 or state.goes_on[i] == 0 or paths.kind[path] != DRIVING:
        return np.inf
    if not is_dead_end(paths, path):
        return np.inf
    for side in range(2):
        lane = paths.left[path] if side == 0 else paths.right[path]
        if lane >= 0 and paths.kind[lane] == DRIVING and not is_dead_end(paths, lane):
            return paths.length[path] - state.s[i] - 0.5 * state.length[i]
    return np.inf


@njit(cache=True)
def put_on_path(state: WorldState, paths: Paths, i: int) -> None:
    """Set the pose from path, arc length and lateral offset."""
    path = state.queue[i, 0]
    x, y, z, heading = point_at(paths, path, state.s[i])
    state.x[i] = x - state.lateral[i] * math.sin(heading)
    state.y[i] = y + state.lateral[i] * math.cos(heading)
    state.z[i] = z
    if state.direction[i] < 0:
        heading += math.pi
    heading += state.turned[i]
    state.heading[i] = (heading + math.pi) % (2.0 * math.pi) - math.pi


@njit(cache=True)
def blend_lateral(state: WorldState, i: int, to: float, seconds: float) -> None:
    """Begin to move sideways to offset `to`."""
    state.lateral_from[i] = state.lateral[i]
    state.lateral_to[i] = to
    state.lateral_share[i] = 0.0
    state.lateral_seconds[i] = max(seconds, TICK_S)


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
    """Go on along `path` from its point nearest to the actor, reaching offset `to` in `seconds` of driving."""
    s, lateral = nearest_on_path(paths, path, state.x[i], state.y[i])
    state.done_m[i] = 0.0
    state.s[i] = s
    state.queue[i, :] = -1
    state.queue[i, 0] = path
    state.lateral[i] = lateral
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
    before = state.speed[i]
    after = max(0.0, before + acceleration * TICK_S)
    step = 0.5 * (before + after) * TICK_S
    old_heading = state.heading[i]
    state.speed[i] = after
    state.acceleration[i] = (after - before) / TICK_S
    if after < 0.1:
        state.stand_ticks[i] += 1
    else:
        state.stand_ticks[i] = 0
    if step == 0.0:
        state.yaw_rate[i] = 0.0
        return
    state.s[i] += step * state.direction[i]
    sideways = 0.0
    if state.lateral_share[i] < 1.0:
        pace = 1.0 if state.kind[i] == PEDESTRIAN else min(1.0, after / FULL_SHIFT_MPS)
        old = state.lateral[i]
        state.lateral_share[i] = min(1.0, state.lateral_share[i] + pace * TICK_S / state.lateral_seconds[i])
        change = state.lateral_to[i] - state.lateral_from[i]
        state.lateral[i] = state.lateral_from[i] + change * smooth(state.lateral_share[i])
        sideways = (state.lateral[i] - old) / step
    path = state.queue[i, 0]
    while state.s[i] > paths.length[path] and state.queue[i, 1] >= 0:
        state.s[i] -= paths.length[path]
        state.done_m[i] += paths.length[path]
        for k in range(QUEUE - 1):
            state.queue[i, k] = state.queue[i, k + 1]
        state.queue[i, QUEUE - 1] = -1
        fill_queue(state, paths, given, seed, i)
        path = state.queue[i, 0]
    if state.s[i] >= paths.length[path] and state.queue[i, 1] < 0:
        if state.gone_at_path_end[i]:
            state.stage[i] = EMPTY
            return
        state.s[i] = paths.length[path]
        if state.kind[i] == PEDESTRIAN and state.goes_on[i]:
            state.direction[i] = -1
        else:
            state.speed[i] = 0.0
            state.cruise[i] = 0.0
    elif state.s[i] < 0.0 and state.direction[i] < 0:
        state.s[i] = 0.0
        state.direction[i] = 1
    put_on_path(state, paths, i)
    if sideways != 0.0:
        heading = state.heading[i] + state.direction[i] * math.atan(sideways)
        state.heading[i] = (heading + math.pi) % (2.0 * math.pi) - math.pi
    turn = (state.heading[i] - old_heading + math.pi) % (2.0 * math.pi) - math.pi
    state.yaw_rate[i] = turn / TICK_S
