"""Where others may drive, as the lanes lead them, and who goes first where the ego's way is crossed."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from takevla.scene.lane_query import project_lane
from takevla.scene.road_map import Control, LightState, RoadArrays, Turn

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]

LANE_PATHS = 3  # chains of lanes that one vehicle may be about to drive
LANE_DEPTH = 6  # lanes in a chain
OVERLAP_M, OVERLAP_RAD = 1.2, 0.35  # so near to a connector's line, and so parallel, may be on it
STOP_BRAKING_MPS2 = 6.0  # someone who needs more than this to stop at his line will not stop
LATE_BRAKING_MPS2 = 3.5  # who needs more than this for a red light brakes already, or runs it

# Who goes first, as far as the ego can tell.
EGO_FIRST, EGO_LAST, RUNNER = 0, 1, 2

_MOTOR_BELOW = 10  # ActorKind
_SIGNAL = int(Control.SIGNAL)
_STOP_SIGN = int(Control.STOP_SIGN)
_GREEN = int(LightState.GREEN)
_YELLOW = int(LightState.YELLOW)
_OFF = int(LightState.OFF)
_STRAIGHT = int(Turn.STRAIGHT)


@njit(cache=True)
def lane_sequences(arrays: RoadArrays, lane: int, rest: float, need: float, hint: int, out: I32) -> int:
    """Up to LANE_PATHS chains of lanes from `lane` on, `need` metres long; returns their number."""
    out[:, :] = -1
    length = np.zeros(LANE_PATHS)
    depth = np.ones(LANE_PATHS, np.int32)
    out[0, 0] = lane
    length[0] = rest
    count = 1
    h = 0
    while h < count:
        while length[h] < need and depth[h] < LANE_DEPTH:
            last = out[h, depth[h] - 1]
            a, b = arrays.successor_index[last], arrays.successor_index[last + 1]
            if b <= a:
                break
            wanted = -1
            if b - a > 1:
                for i in range(a, b):
                    turn = arrays.lane_turn[arrays.successor_items[i]]
                    if hint != 0 and turn == hint:
                        wanted = hint
                    elif hint == 0 and turn == _STRAIGHT:
                        wanted = _STRAIGHT
            first = True
            base = depth[h]
            base_length = length[h]
            for i in range(a, b):
                following = arrays.successor_items[i]
                if wanted >= 0 and arrays.lane_turn[following] != wanted:
                    continue
                if first:
                    out[h, base] = following
                    depth[h] = base + 1
                    length[h] = base_length + arrays.lane_length[following]
                    first = False
                elif count < LANE_PATHS:
                    for k in range(base):
                        out[count, k] = out[h, k]
                    out[count, base] = following
                    depth[count] = base + 1
                    length[count] = base_length + arrays.lane_length[following]
                    count += 1
            if first:
                break
        h += 1
    return count


@njit(cache=True)
def overlapping_connectors(
    arrays: RoadArrays, lane: int, x: float, y: float, heading: float, out: I32
) -> int:
    """Fill `out` with `lane` and the connectors of the same approach that one at this pose may be on as well.

    Connectors lie on top of each other where they begin; returns how many there are.
    """
    out[0] = lane
    count = 1
    if arrays.lane_junction[lane] < 0:
        return count
    for i in range(arrays.predecessor_index[lane], arrays.predecessor_index[lane + 1]):
        before = arrays.predecessor_items[i]
        for k in range(arrays.successor_index[before], arrays.successor_index[before + 1]):
            other = arrays.successor_items[k]
            if other == lane or count >= out.shape[0]:
                continue
            s, side = project_lane(arrays, other, x, y)
            if abs(side) > OVERLAP_M or s >= arrays.lane_length[other] - 0.1:
                continue
            _, _, along = lane_point(arrays, other, s)
            if abs((heading - along + math.pi) % (2.0 * math.pi) - math.pi) < OVERLAP_RAD:
                out[count] = other
                count += 1
    return count


@njit(cache=True)
def lane_point(arrays: RoadArrays, lane: int, s: float) -> tuple[float, float, float]:
    """(x, y, heading) on a lane's centre line."""
    start, stop = arrays.lane_start[lane], arrays.lane_start[lane + 1]
    n = stop - start
    length = arrays.lane_length[lane]
    t = min(max(s / max(length, 1e-6), 0.0), 1.0) * (n - 1)
    i = min(int(t), n - 2)
    part = t - i
    a, b = start + i, start + i + 1
    dx, dy = arrays.point_x[b] - arrays.point_x[a], arrays.point_y[b] - arrays.point_y[a]
    return arrays.point_x[a] + part * dx, arrays.point_y[a] + part * dy, math.atan2(dy, dx)


@njit(cache=True)
def room_ahead(
    arrays: RoadArrays,
    sequence: I32,
    a: int,
    s: float,
    lane: I32,
    lane_s: F64,
    kind: NDArray[np.int8],
    speed: NDArray[np.float32],
    extent: NDArray[np.float32],
) -> tuple[float, float]:
    """(free metres, speed) to whoever drives ahead of actor `a` on its chain of lanes."""
    free = 1e9
    other_speed = 0.0
    base = -s
    for k in range(sequence.shape[0]):
        if sequence[k] < 0:
            break
        for b in range(lane.shape[0]):
            if b == a or lane[b] != sequence[k] or kind[b] >= _MOTOR_BELOW:
                continue
            distance = base + lane_s[b] - 0.5 * (extent[a, 0] + extent[b, 0])
            if base + lane_s[b] > 0.5 and distance < free:
                free = distance
                other_speed = max(float(speed[b]), 0.0)
        base += arrays.lane_length[sequence[k]]
    return max(free, 0.0), other_speed


@njit(cache=True)
def priority(
    arrays: RoadArrays, lights: NDArray[np.int8], sequence: I32, s: float, speed: float, pull: float, own: I32
) -> int:
    """Who goes first between the ego, about to drive the connectors `own`, and a chain of lanes.

    Returns EGO_FIRST, EGO_LAST, RUNNER (has no right of way but cannot or will not stop), or -1:
    no conflict to fear, because it will stop at its line.
    """
    ahead = -s
    over_line = False
    for k in range(sequence.shape[0]):
        lane = sequence[k]
        if lane < 0:
            break
        stop = arrays.lane_stop_s[lane]
        if stop < 1e9:
            distance = ahead + stop
            if distance > 0.5:
                can_stop = speed * speed / (2.0 * STOP_BRAKING_MPS2) < distance
                control = arrays.lane_stop_control[lane]
                if control == _SIGNAL:
                    state = lights[arrays.lane_stop_signal[lane]]
                    if state == _YELLOW:
                        # Who does not brake for a yellow is expected to go through.
                        if can_stop and pull < -0.5:
                            return -1
                    elif state != _GREEN and state != _OFF:
                        needed = speed * speed / (2.0 * distance)
                        if can_stop and (needed < LATE_BRAKING_MPS2 or pull < -0.7 * needed):
                            return -1
                        return RUNNER
                elif control == _STOP_SIGN and can_stop:
                    return -1
            elif k == 0:
                over_line = True
        if arrays.lane_junction[lane] >= 0:
            conflict = False
            for c in own:
                if c < 0:
                    break
                if c == lane:
                    return EGO_FIRST
                for i in range(arrays.yield_index[c], arrays.yield_index[c + 1]):
                    if arrays.yield_items[i] == lane:
                        return EGO_LAST
                for i in range(arrays.conflict_index[c], arrays.conflict_index[c + 1]):
                    conflict = conflict or arrays.conflict_items[i] == lane
            if conflict:
                # Lines beyond this junction say nothing about it.
                return RUNNER if k == 0 or over_line else EGO_FIRST
        ahead += arrays.lane_length[lane]
    return EGO_FIRST
