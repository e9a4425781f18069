"""Who may enter a junction: signals, stop signs, priority and accepted gaps.

A vehicle that may not enter holds at its stop line.  One that may, and is near, *commits* to its
connector; others then count it as being inside.  Vehicles are judged in slot order, so that of two
equals exactly one goes first.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from takevla.scene.actors import ActorKind
from takevla.scene.road_map import Control, LightState, Turn
from takevla.world.paths import Paths
from takevla.world.staging import Motion
from takevla.world.state import EGO, QUEUE, WorldState

SIGNAL, STOP_SIGN, YIELD = int(Control.SIGNAL), int(Control.STOP_SIGN), int(Control.YIELD)
GREEN, YELLOW, RED, OFF = (
    int(LightState.GREEN),
    int(LightState.YELLOW),
    int(LightState.RED),
    int(LightState.OFF),
)
STRAIGHT = int(Turn.STRAIGHT)
TRAFFIC = int(Motion.TRAFFIC)
BICYCLE = int(ActorKind.BICYCLE)

LOOK_M = 70.0  # how far ahead a junction matters
TURN_MPS = 5.5  # assumed speed through a turn
START_MPS2 = 1.6  # assumed acceleration of those who enter
GAP_S = 1.0  # least time between two vehicles in the shared area
MERGE_GAP_S = 2.0  # more where both leave by the same lane
PATIENCE_TICKS = 160  # after 8 s at the line the gap asked for shrinks
HELD_UP_TICKS = 60  # one that stands for 3 s is not about to go
STOP_TICKS = 24  # 1.2 s at a stop sign
COMFORT_MPS2 = 3.0


@njit(cache=True)
def travel_time(distance: float, speed: float, acceleration: float, most: float) -> float:
    """Time to cover a distance, accelerating up to `most`."""
    if distance <= 0.0:
        return 0.0
    if speed >= most:
        return distance / speed
    end = speed * speed + 2.0 * acceleration * distance
    if end <= most * most:
        return (math.sqrt(end) - speed) / acceleration
    until = (most - speed) / acceleration
    covered = 0.5 * (most + speed) * until
    return until + (distance - covered) / most


@njit(cache=True)
def look_for_junctions(
    state: WorldState,
    paths: Paths,
    active: NDArray[np.int64],
    connector: NDArray[np.int64],
    entry: NDArray[np.float64],
    line: NDArray[np.float64],
    line_path: NDArray[np.int64],
) -> None:
    """For each active vehicle its present or next connector and the distances from its front.

    `entry` is to the connector's start (negative: the front is inside), `line` to the next stop line
    (inf if none, negative once just over it), `line_path` the path that has the line, or -1.
    """
    for a in range(active.shape[0]):
        i = active[a]
        connector[i] = -1
        entry[i] = np.inf
        line[i] = np.inf
        line_path[i] = -1
        if state.actors[i].kind > BICYCLE or state.queue[i, 0] < 0:
            continue
        half = 0.5 * state.actors[i].length
        base = -state.actors[i].s - half
        for k in range(QUEUE):
            path = state.queue[i, k]
            if path < 0 or base > LOOK_M:
                break
            if paths.lanes[path].junction >= 0:
                connector[i] = path
                entry[i] = base
                break
            if line_path[i] < 0 and paths.lanes[path].stop_s < np.inf:
                to_line = base + paths.lanes[path].stop_s
                if to_line > -2.0 * half:
                    line[i] = to_line
                    line_path[i] = path
            base += paths.lanes[path].length


@njit(cache=True)
def signal_shows(state: WorldState, paths: Paths, path: int) -> int:
    """State of the light that rules the stop line of `path`; OFF where no light does."""
    signal = paths.lanes[path].stop_signal
    if paths.lanes[path].stop_control != SIGNAL or signal < 0:
        return OFF
    return state.light[signal]


@njit(cache=True)
def will_stop(state: WorldState, paths: Paths, j: int, line: float, line_path: int) -> bool:
    """Whether vehicle j is about to stop at its line for a light or a stop sign."""
    if line_path < 0 or line < -1.0 or (j != EGO and state.actors[j].motion != TRAFFIC):
        return False
    if state.actors[j].speed * state.actors[j].speed > 2.0 * 6.0 * (line + 1.0):
        return False
    control = paths.lanes[line_path].stop_control
    if control == SIGNAL:
        shows = signal_shows(state, paths, line_path)
        return shows in (RED, YELLOW)
    return control == STOP_SIGN and state.actors[j].served != line_path


@njit(cache=True)
def conflict_of(paths: Paths, own: int, other: int) -> int:
    """Row of `conflict_*` for this pair, or -1."""
    for k in range(paths.lanes[own].conflict_first, paths.lanes[own].conflict_end):
        if paths.conflicts[k].other == other:
            return k
    return -1


@njit(cache=True)
def way_is_free(
    state: WorldState,
    paths: Paths,
    active: NDArray[np.int64],
    connector: NDArray[np.int64],
    entry: NDArray[np.float64],
    line: NDArray[np.float64],
    line_path: NDArray[np.int64],
    i: int,
) -> bool:
    """Whether vehicle i can pass the conflict areas of its connector before or after all who go first."""
    own = connector[i]
    impatience = 1.0 if state.actors[i].wait_ticks < PATIENCE_TICKS else 0.3
    most = (
        paths.lanes[own].limit if paths.lanes[own].turn == STRAIGHT else min(TURN_MPS, paths.lanes[own].limit)
    )
    for a in range(active.shape[0]):
        j = active[a]
        theirs = connector[j]
        if j == i or theirs < 0 or theirs == own or paths.lanes[theirs].junction != paths.lanes[own].junction:
            continue
        k = conflict_of(paths, own, theirs)
        if k < 0:
            continue
        back = conflict_of(paths, theirs, own)
        if back < 0:
            continue
        front_j = -entry[j]
        to_j = paths.conflicts[back].leave
        from_j = paths.conflicts[back].enter
        from_i = paths.conflicts[k].enter
        to_i = paths.conflicts[k].leave
        if to_i < from_i or front_j - state.actors[j].length > to_j:
            continue
        start = max(entry[i], 0.0)
        in_i = travel_time(start + from_i - 1.0, state.actors[i].speed, START_MPS2, most)
        out_i = travel_time(start + to_i + state.actors[i].length, state.actors[i].speed, START_MPS2, most)
        most_j = max(paths.lanes[theirs].limit, state.actors[j].speed)
        in_j = travel_time(from_j - front_j, state.actors[j].speed, START_MPS2, most_j)
        out_j = (to_j + state.actors[j].length - front_j) / max(state.actors[j].speed, 2.0)
        i_yields = paths.conflicts[k].yields == 1
        j_yields = paths.conflicts[back].yields == 1
        if i_yields and j_yields:
            i_yields = False
            j_yields = False
        inside = entry[j] <= 0.0 or state.actors[j].committed == theirs
        if inside:
            waits = state.actors[j].speed < 0.3 and front_j < from_j - 0.3
            # Who stands inside before the shared area lets those with priority pass, or is held up.
            if waits and not i_yields and (j_yields or state.actors[j].stand_ticks > HELD_UP_TICKS):
                continue
            if in_i < out_j + 0.5 and in_j < out_i + GAP_S:
                return False
            continue
        if will_stop(state, paths, j, line[j], line_path[j]):
            continue
        stands = state.actors[j].speed < 0.3
        if not i_yields:
            if j_yields:
                continue
            # Equals: the one that has waited longer goes first, for a while.
            if (
                stands
                and state.actors[j].wait_ticks > state.actors[i].wait_ticks
                and state.actors[i].wait_ticks < PATIENCE_TICKS
            ):
                return False
            continue
        if stands and (state.actors[j].stand_ticks > HELD_UP_TICKS or entry[j] > 12.0):
            continue
        gap = (MERGE_GAP_S if to_i > paths.lanes[own].length - 2.0 else GAP_S) * impatience
        if in_j < out_i + gap and in_i < out_j + 0.5:
            return False
    return True


@njit(cache=True)
def hold_distance(
    state: WorldState,
    paths: Paths,
    active: NDArray[np.int64],
    connector: NDArray[np.int64],
    entry: NDArray[np.float64],
    line: NDArray[np.float64],
    line_path: NDArray[np.int64],
    i: int,
    leader_gap: float,
    leader_speed: float,
) -> float:
    """Free distance up to where TRAFFIC vehicle i must hold, inf if it may go on.  Commits it if so."""
    path = line_path[i]
    own = connector[i]
    if path < 0 and own < 0:
        return np.inf
    if own >= 0 and (entry[i] <= -1.0 or state.actors[i].committed == own):
        state.actors[i].committed = own
        state.actors[i].wait_ticks = 0
        return np.inf
    if own < 0 and line[i] < -0.5:
        return np.inf
    hold = line[i] if path >= 0 and line[i] > -0.5 else entry[i] - 0.5
    braking = state.actors[i].speed * state.actors[i].speed / (2.0 * COMFORT_MPS2)
    if hold > braking + 25.0:
        return np.inf
    if state.actors[i].speed < 0.2 and hold < 4.0:
        state.actors[i].wait_ticks += 1
    if path >= 0 and line[i] > -0.5:
        shows = signal_shows(state, paths, path)
        if shows == RED or (shows == YELLOW and braking < hold):
            return hold
        if paths.lanes[path].stop_control == STOP_SIGN and state.actors[i].served != path:
            if state.actors[i].wait_ticks < STOP_TICKS:
                return hold
            state.actors[i].served = path
    if own < 0:
        return np.inf
    exit_gap = entry[i] + paths.lanes[own].length + state.actors[i].length + 1.5
    if leader_speed < 1.5 and entry[i] - 0.5 < leader_gap < exit_gap:
        return hold
    if not way_is_free(state, paths, active, connector, entry, line, line_path, i):
        return hold
    if hold < braking + 3.0:
        state.actors[i].committed = own
        state.actors[i].wait_ticks = 0
    return np.inf
