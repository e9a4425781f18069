"""Where the others will be: forecasts in the ego's path coordinates, and when they meet the ego.

Each vehicle gets one forecast from its present motion (bicycle model, constant control) and up to
`LANE_PATHS` that follow the lanes, as its indicators tell.  Pedestrians walk on straight.  Boxes are
compared in path coordinates, where the ego's swept corridor is straight.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from takevla.driver.expert.path import COARSE
from takevla.driver.expert.right_of_way import (
    EGO_FIRST,
    EGO_LAST,
    LANE_DEPTH,
    LANE_PATHS,
    RUNNER,
    lane_point,
    lane_sequences,
    overlapping_connectors,
    priority,
    room_ahead,
)
from takevla.scene.lane_query import project_lane
from takevla.scene.road_map import RoadArrays, Turn

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]

STEP_S = 0.1
STEPS = 60  # 6 s; how far ahead cross traffic is watched when the ego must give way
MOTION_STEPS = 20  # 2 s of constant control (PDM-Lite's horizon)
WALK_STEPS = 45
KEEP_M = 1.0  # others keep so far from who stands before them
PULL_STEPS = 15  # how long one with right of way is expected to go on picking up speed
NEAR_M = 75.0  # others farther away than this are not forecast
SLOW_MPS = 0.3  # below this a vehicle stands
WALK_MPS = 1.5  # speed expected of a pedestrian who is about to cross
WALK_LEAST_MPS = 0.5  # (PDM-Lite)

# Columns of a survey row.
S, LATERAL, TURNED, HALF_S, HALF_LATERAL, SPEED_S, SPEED_LATERAL = range(7)
# What a forecast is made of.
MOTION, LANES, WALK = 0, 1, 2

_KIND_MOTOR_BELOW = 10
_KIND_PEDESTRIAN = 11
_CUE_LEFT, _CUE_RIGHT, _CUE_CROSSING = 2, 4, 128
_LEFT = int(Turn.LEFT)
_RIGHT = int(Turn.RIGHT)


@njit(cache=True)
def _project_near(
    px: F64, py: F64, ps: F64, x: float, y: float, hint: int
) -> tuple[float, float, float, int]:
    """(s, lateral, path heading, index) of a point; `hint` < 0 searches the whole path."""
    n = px.shape[0]
    best = 1e18
    at = hint
    if hint < 0:
        for i in range(0, n, COARSE):
            d2 = (px[i] - x) ** 2 + (py[i] - y) ** 2
            if d2 < best:
                best, at = d2, i
    low = max(at - COARSE, 0)
    high = min(at + COARSE, n - 1)
    best = 1e18
    for i in range(low, high + 1):
        d2 = (px[i] - x) ** 2 + (py[i] - y) ** 2
        if d2 < best:
            best, at = d2, i
    i = min(at, n - 2)
    if i > 0 and (x - px[i]) * (px[i + 1] - px[i]) + (y - py[i]) * (py[i + 1] - py[i]) < 0.0:
        i -= 1
    dx, dy = px[i + 1] - px[i], py[i + 1] - py[i]
    length = max(math.hypot(dx, dy), 1e-6)
    t = ((x - px[i]) * dx + (y - py[i]) * dy) / length
    lateral = ((y - py[i]) * dx - (x - px[i]) * dy) / length
    return ps[i] + t, lateral, math.atan2(dy, dx), at


@njit(cache=True)
def survey(
    px: F64,
    py: F64,
    ps: F64,
    position: NDArray[np.float32],
    heading: NDArray[np.float32],
    speed: NDArray[np.float32],
    extent: NDArray[np.float32],
    valid: NDArray[np.bool_],
    out: F64,
) -> None:
    """Fill (A, 7) rows: s, lateral, heading against the path, half sizes along and across, speeds."""
    for a in range(position.shape[0]):
        if not valid[a]:
            out[a, S] = 1e6
            out[a, LATERAL] = 1e6
            continue
        s, lateral, along, _ = _project_near(px, py, ps, position[a, 0], position[a, 1], -1)
        turned = (heading[a] - along + math.pi) % (2.0 * math.pi) - math.pi
        c, d = abs(math.cos(turned)), abs(math.sin(turned))
        out[a, S] = s
        out[a, LATERAL] = lateral
        out[a, TURNED] = turned
        out[a, HALF_S] = 0.5 * (extent[a, 0] * c + extent[a, 1] * d)
        out[a, HALF_LATERAL] = 0.5 * (extent[a, 0] * d + extent[a, 1] * c)
        out[a, SPEED_S] = speed[a] * math.cos(turned)
        out[a, SPEED_LATERAL] = speed[a] * math.sin(turned)


@njit(cache=True)
def follow_lanes(
    arrays: RoadArrays,
    chain: I32,
    s: float,
    side: float,
    speed: float,
    pull: float,
    first: int,
    limit: float,
    room: float,
    other_speed: float,
    half_l: float,
    half_w: float,
    px: F64,
    py: F64,
    ps: F64,
    out: NDArray[np.float32],
) -> int:
    """Fill `out` (STEPS + 1, 4) with the way of a vehicle along a chain of lanes; returns the valid steps.

    It is at `s` of the first lane, `side` to the left of its line, half as long as `half_l`, half as wide as
    `half_w`; it keeps its acceleration `pull` for a while, but no faster than `limit`, behind what drives
    `room` ahead of it at `other_speed`.
    """
    hint = -1
    at = 0
    base = -s
    q = 0.0
    v = speed
    steps = 0
    for k in range(STEPS + 1):
        while at + 1 < LANE_DEPTH and chain[at + 1] >= 0:
            length = arrays.lane_length[chain[at]]
            if q - base <= length:
                break
            base += length
            at += 1
        local = q - base
        if local > arrays.lane_length[chain[at]] + 1.0:
            break
        x, y, heading = lane_point(arrays, chain[at], local)
        x -= side * math.sin(heading)
        y += side * math.cos(heading)
        s_path, lateral, along, hint = _project_near(px, py, ps, x, y, hint)
        c, d = abs(math.cos(heading - along)), abs(math.sin(heading - along))
        out[k, 0], out[k, 1] = s_path, lateral
        out[k, 2] = half_l * c + half_w * d
        out[k, 3] = half_l * d + half_w * c
        steps = k + 1
        # Who brakes for the ego lets it go, but nobody counts on one without right of way.
        if k < 10 and first != RUNNER:
            v = max(v + min(pull, 0.0) * STEP_S, 0.0)
        # One with right of way who picks up speed goes on so.
        if k < PULL_STEPS and first != EGO_FIRST:
            v = min(v + max(pull, 0.0) * STEP_S, limit)
        q = max(q, min(q + v * STEP_S, room + other_speed * (k + 1) * STEP_S - KEEP_M))
    return steps


@njit(cache=True)
def forecast(
    arrays: RoadArrays,
    lights: NDArray[np.int8],
    px: F64,
    py: F64,
    ps: F64,
    ego_x: float,
    ego_y: float,
    own: I32,
    kind: NDArray[np.int8],
    cue: NDArray[np.int16],
    position: NDArray[np.float32],
    heading: NDArray[np.float32],
    speed: NDArray[np.float32],
    acceleration: NDArray[np.float32],
    yaw_rate: NDArray[np.float32],
    extent: NDArray[np.float32],
    lane: I32,
    watched: NDArray[np.bool_],
    path: NDArray[np.float32],
    who: I32,
) -> int:
    """Forecast everyone who is `watched` (A,) and near; returns the number H of forecasts.

    `px`, `py`, `ps` (n,) are the window of the ego's path, `own` the connectors that the ego is about
    to drive, ended by -1; `kind` to `lane` are the scene's actors.  Filled are `path` (Hmax, STEPS + 1,
    4) with s, lateral, half sizes along and across, and `who` (Hmax, 4) with the actor's row, the sort
    (MOTION, LANES, WALK), who goes first, and how many steps are valid.
    """
    count = 0
    most = path.shape[0]
    sequences = np.empty((LANE_PATHS, LANE_DEPTH), np.int32)
    start_lanes = np.empty(LANE_PATHS, np.int32)
    lane_s = np.zeros(kind.shape[0])
    for a in range(kind.shape[0]):
        if lane[a] >= 0 and kind[a] < _KIND_MOTOR_BELOW:
            lane_s[a], _ = project_lane(arrays, lane[a], position[a, 0], position[a, 1])
    for a in range(kind.shape[0]):
        if not watched[a] or count >= most:
            continue
        x, y = float(position[a, 0]), float(position[a, 1])
        if (x - ego_x) ** 2 + (y - ego_y) ** 2 > NEAR_M * NEAR_M:
            continue
        v = float(speed[a])
        h = float(heading[a])
        half_l, half_w = 0.5 * extent[a, 0], 0.5 * extent[a, 1]
        if kind[a] == _KIND_PEDESTRIAN:
            crossing = (cue[a] & _CUE_CROSSING) != 0
            if abs(v) < WALK_LEAST_MPS:
                if not crossing:
                    continue
                v = WALK_MPS
            hint = -1
            half_l = half_w = max(half_l, half_w)
            for k in range(WALK_STEPS + 1):
                t = k * STEP_S
                qx, qy = x + v * t * math.cos(h), y + v * t * math.sin(h)
                s, lateral, _, hint = _project_near(px, py, ps, qx, qy, hint)
                path[count, k, 0], path[count, k, 1] = s, lateral
                path[count, k, 2], path[count, k, 3] = half_l, half_w
            who[count, 0], who[count, 1], who[count, 2], who[count, 3] = a, WALK, EGO_LAST, WALK_STEPS + 1
            count += 1
            continue
        if kind[a] > _KIND_PEDESTRIAN or abs(v) < SLOW_MPS:
            continue
        # Present motion: constant yaw rate, acceleration kept for a second at most.
        hint = -1
        qx, qy, qh, qv = x, y, h, v
        rate = float(yaw_rate[a])
        pull = min(max(float(acceleration[a]), -6.0), 2.0)
        for k in range(MOTION_STEPS + 1):
            s, lateral, along, hint = _project_near(px, py, ps, qx, qy, hint)
            c, d = abs(math.cos(qh - along)), abs(math.sin(qh - along))
            path[count, k, 0], path[count, k, 1] = s, lateral
            path[count, k, 2] = half_l * c + half_w * d
            path[count, k, 3] = half_l * d + half_w * c
            qx += qv * math.cos(qh) * STEP_S
            qy += qv * math.sin(qh) * STEP_S
            qh += rate * STEP_S
            if k < 10 and v > 0.0:
                qv = max(qv + pull * STEP_S, 0.0)
        who[count, 0], who[count, 1], who[count, 2], who[count, 3] = a, MOTION, EGO_FIRST, MOTION_STEPS + 1
        motion_row = count
        count += 1
        own_lane = lane[a]
        if own_lane < 0 or v <= 0.0:
            continue
        s_lane, side = project_lane(arrays, own_lane, x, y)
        _, _, along = lane_point(arrays, own_lane, s_lane)
        if abs((h - along + math.pi) % (2.0 * math.pi) - math.pi) > 0.7:
            continue
        hint_turn = 0
        if cue[a] & _CUE_LEFT and not cue[a] & _CUE_RIGHT:
            hint_turn = _LEFT
        elif cue[a] & _CUE_RIGHT and not cue[a] & _CUE_LEFT:
            hint_turn = _RIGHT
        need = v * STEPS * STEP_S + 10.0
        starts = overlapping_connectors(arrays, own_lane, x, y, h, start_lanes)
        found = 0
        all_stop = True
        for b in range(starts):
            first_lane = start_lanes[b]
            if b > 0:
                s_lane, side = project_lane(arrays, first_lane, x, y)
            chains = lane_sequences(
                arrays, first_lane, arrays.lane_length[first_lane] - s_lane, need, hint_turn, sequences
            )
            found += chains
            for f in range(chains):
                if count >= most:
                    break
                first = priority(arrays, lights, sequences[f], s_lane, v, pull, own)
                if first < 0:
                    continue
                all_stop = False
                room, other_speed = room_ahead(
                    arrays, sequences[f], a, s_lane, lane, lane_s, kind, speed, extent
                )
                limit = max(v, arrays.lane_speed_limit[own_lane])
                steps = follow_lanes(
                    arrays, sequences[f], s_lane, side, v, pull, first, limit, room, other_speed,
                    half_l, half_w, px, py, ps, path[count],
                )  # fmt: skip
                who[count, 0], who[count, 1], who[count, 2], who[count, 3] = a, LANES, first, steps
                count += 1
                if first in (RUNNER, EGO_LAST):
                    who[motion_row, 2] = first
        if all_stop and found > 0 and abs(rate) < 0.05:
            # It will stop at its line: its present motion says nothing beyond that.
            who[motion_row, 3] = 8
    return count


@njit(cache=True)
def meeting(
    path: NDArray[np.float32],
    steps: int,
    shift: F64,
    ps: F64,
    ego_s: float,
    half_length: float,
    half_width: float,
    travelled: F64,
    margin_lateral: float,
    behind_steps: int,
    before_steps: int,
    horizon: int,
    give_way: bool,
    courtesy_mps2: float,
    assert_steps: int,
) -> tuple[int, float, float, float]:
    """When a forecast meets the ego: (step or -1, s to stop before, its speed along, metres ahead of it).

    `path` (T, 4) is one forecast with `steps` valid steps; `shift` (n,) the ego's sideways shift at `ps`;
    `ego_s`, `half_length`, `half_width` its box; `travelled` its rollout at `STEP_S`.  The ego may arrive
    no sooner than `behind_steps` after the other has left, and must be gone `before_steps` before the
    other arrives; one that comes up from behind is expected to brake by `courtesy_mps2`.  With `give_way`
    it does not count on the other's braking hard for it, unless it is in the other's way at least
    `assert_steps` before the other comes, so that this one sees it and can stop.
    """
    n = min(steps, horizon + 1)
    last = travelled.shape[0] - 1
    entry = -1
    stop_s = 1e9
    met = -1
    entered = -1
    spacing = (ps[ps.shape[0] - 1] - ps[0]) / (ps.shape[0] - 1)
    for k in range(n):
        s = float(path[k, 0])
        # One that comes from behind on the ego's own lane brakes for it, more or less.
        if entered >= 0:
            t = (k - entered) * STEP_S
            s -= 0.5 * courtesy_mps2 * t * t
        i = int((s - ps[0]) / spacing)
        side = shift[min(max(i, 0), shift.shape[0] - 1)]
        overlap = abs(path[k, 1] - side) < path[k, 3] + half_width + margin_lateral
        if not overlap:
            if met >= 0:
                break
            entry = -1
            stop_s = 1e9
            continue
        if entry < 0:
            entry = k
            if path[k, 0] + path[k, 2] < ego_s + travelled[min(k, last)] - half_length:
                if not give_way:
                    return -1, 0.0, 0.0, 0.0
                along = path[min(k + 1, steps - 1), 0] - path[k, 0]
                if along > 0.05 and entered < 0:
                    entered = k
        near = s - path[k, 2]
        if near < stop_s:
            stop_s = near
        if entry == k and k >= assert_steps:
            there = ego_s + travelled[min(k - assert_steps, last)] + half_length
            if there > stop_s + 0.5 and path[k, 0] > ego_s:
                return -1, 0.0, 0.0, 0.0
        front = ego_s + travelled[min(k + behind_steps, last)] + half_length + 0.3
        rear = ego_s + travelled[min(max(k - before_steps, 0), last)] - half_length - 0.3
        if met < 0 and near < front and s + path[k, 2] > rear:
            met = k
    if met < 0:
        return -1, 0.0, 0.0, 0.0
    k = min(max(met, 1), steps - 1)
    speed_s = (path[k, 0] - path[k - 1, 0]) / STEP_S
    ahead = float(path[met, 0]) - ego_s - travelled[min(met, last)]
    return met, stop_s, speed_s, ahead
