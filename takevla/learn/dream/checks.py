"""What happens to lanes of dreamed trajectories: contacts, time-to-collision, road, lines, lane keeping.

Same layout as `kinematics`: `LANES` trajectories side by side.  Whole actors are passed over while
the box around all lanes stays clear of them, so that the cost is linear in plans x steps x near actors.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from takevla.learn.dream.kinematics import (
    LANES,
    PATH_COS,
    PATH_SIN,
    PATH_SPEED,
    PATH_X,
    PATH_Y,
)
from takevla.learn.dream.scenes import (
    CELL_M,
    DRIVABLE,
    JUNCTION,
    LANE_SHIFT,
    ONCOMING,
    RASTER_BEHIND_M,
    RASTER_SIDE_M,
    STEP_S,
)
from takevla.world.criteria import TAIL_SHARE

STANDING_MPS = 0.1  # a stop sign asks for less (leaderboard, benchmark facts 1.4)
SIGN_REACH_M = 4.0  # as near to its line (leaderboard, benchmark facts 1.4)
STOPPED_MPS = 0.05  # an ego or track slower than this stands (NAVSIM, benchmark facts 4)
MOVING_MPS = 5e-3  # below it the time to collision is not judged (NAVSIM, benchmark facts 4)
TTC_OFFSETS = 4  # looks 0, 0.3, 0.6 and 0.9 s ahead (NAVSIM, benchmark facts 4)
TTC_SPACING_STEPS = 3
AHEAD_COS, BEHIND_COS = math.cos(math.radians(30)), math.cos(math.radians(150))  # nuPlan: 30 and 150 deg
DIRECTION_STEPS = round(1.0 / STEP_S)  # window of the driving direction (NAVSIM, benchmark facts 4)
OFF_CENTRE_M = 0.5  # lane keeping (EPDMS, benchmark facts 4)

# Rows of the result, (B, RESULT_ROWS, LANES); times in s, infinite where it never came.
COLLISION, COLLIDER, FAULT, FAULT_STATIC, OFFROAD, RULE, TTC, WRONG_WAY, OFF_CENTRE, PROGRESS = range(10)
RESULT_ROWS = 10

_HIT, _RUN, _RIGHT, _ARC, _AT = range(5)
_PX, _PY = 5, 5 + TTC_OFFSETS
_ROWS = 5 + 2 * TTC_OFFSETS
_OFF, _MULTIPLE, _CROSSING = 1, 2, 4  # where the ego stands

f: Any = np.float32
_STEP = f(STEP_S)
_INF = f(np.inf)


@njit(inline="always")
def _clearance(dx, dy, c, s, length, width, ac, as_, a_length, a_width):  # type: ignore[no-untyped-def]
    """Greatest separation (m) of two boxes over their four axes; half extents; positive: apart.

    (dx, dy) leads from the first centre to the second; (c, s) and (ac, as_) are their headings.
    """
    rc, rs = abs(c * ac + s * as_), abs(c * as_ - s * ac)
    first = abs(dx * c + dy * s) - (length + a_length * rc + a_width * rs)
    second = abs(dy * c - dx * s) - (width + a_length * rs + a_width * rc)
    third = abs(dx * ac + dy * as_) - (a_length + length * rc + width * rs)
    fourth = abs(dy * ac - dx * as_) - (a_width + length * rs + width * rc)
    return max(max(first, second), max(third, fourth))


@njit(inline="always")
def _zone(raster, x, y, c, s, length, width):  # type: ignore[no-untyped-def]
    """Bits of `_OFF`, `_MULTIPLE`, `_CROSSING` under the four corners; outside the raster: none."""
    rows, columns = raster.shape
    bits, lane, seen = 0, 0, 0
    for corner in range(4):
        u = length if corner < 2 else -length
        w = width if corner % 2 == 0 else -width
        column = int((x + c * u - s * w + f(RASTER_BEHIND_M)) * f(1 / CELL_M))
        row = int((y + s * u + c * w + f(RASTER_SIDE_M)) * f(1 / CELL_M))
        if row < 0 or row >= rows or column < 0 or column >= columns:
            continue
        cell = raster[row, column]
        if cell & DRIVABLE == 0:
            bits |= _OFF
        if cell & JUNCTION:
            bits |= _CROSSING
        here = cell >> LANE_SHIFT
        if seen and here != lane:
            bits |= _MULTIPLE
        lane, seen = here, 1
    return bits if bits & _CROSSING == 0 else bits & ~_MULTIPLE


@njit(inline="always")
def _is_fault(zone, dx, dy, c, s, v, length, width, ac, as_, av, al, aw):  # type: ignore[no-untyped-def]
    """NAVSIM's at-fault collision: not when the ego stands or is hit from behind; when the other stands,
    when the ego's front meets it; sideways only off the road or in several lanes.
    """
    if v <= f(STOPPED_MPS):
        return False
    if av <= f(STOPPED_MPS):
        return True
    away = max(math.sqrt(dx * dx + dy * dy), f(1e-6))
    if (dx * c + dy * s) < f(BEHIND_COS) * away:
        return False
    front = _clearance(dx - c * length, dy - s * length, c, s, f(0.0), width, ac, as_, al, aw)
    return front <= f(0.0) or zone & (_OFF | _MULTIPLE) != 0


@njit(inline="always")
def _crosses(ax, ay, bx, by, cx, cy, dx, dy):  # type: ignore[no-untyped-def]
    """Whether the segments a-b and c-d cross; standing still crosses nothing."""
    ab_c = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    ab_d = (bx - ax) * (dy - ay) - (by - ay) * (dx - ax)
    cd_a = (dx - cx) * (ay - cy) - (dy - cy) * (ax - cx)
    cd_b = (dx - cx) * (by - cy) - (dy - cy) * (bx - cx)
    moved = ax != bx or ay != by
    return moved and ab_c * ab_d <= f(0.0) and cd_a * cd_b <= f(0.0)


@njit(cache=True, fastmath={"nnan", "nsz", "arcp", "contract", "afn", "reassoc"}, error_model="numpy")
def check(  # type: ignore[no-untyped-def]
    path, ego, actors, valid, extent, static, slot, moved, lines, closed, sign, raster, road, centre,
    spacing, result,
):  # fmt: skip
    """Fill `result` (B, RESULT_ROWS, LANES) for trajectories `path` (B, T, PATH_ROWS, LANES).

    `ego` (2,) and `extent` (A, 2) are half lengths and widths; `actors` (T, A, 5) x, y, cos, sin, speed;
    `slot` (A,) the row of an actor in `moved` (B, R, T, 5, LANES), which holds those that differ by lane,
    or -1; `road` (N, 2) the route, `centre` (M, 2) the course to keep to, every `spacing` m.
    """
    w = np.empty(_ROWS * LANES, np.float32)
    zone = np.zeros(LANES, np.int64)
    instants, count = path.shape[1], actors.shape[1]
    length, width = ego[0], ego[1]
    reach = math.sqrt(length * length + width * width)
    met = np.zeros((count, LANES), np.bool_)
    stood = np.zeros((lines.shape[0], LANES), np.bool_)
    wrong = np.zeros((instants, LANES), np.float32)
    low, high = np.zeros((2, TTC_OFFSETS), np.float32), np.zeros((2, TTC_OFFSETS), np.float32)
    lasting = centre.shape[0] - 2
    for b in range(path.shape[0]):
        for row in range(RESULT_ROWS):
            for g in range(LANES):
                result[b, row, g] = f(0.0)
        for g in range(LANES):
            result[b, COLLISION, g], result[b, FAULT, g], result[b, TTC, g] = _INF, _INF, _INF
            result[b, OFFROAD, g], result[b, RULE, g] = _INF, _INF
            result[b, COLLIDER, g] = f(-1.0)
        w[:] = f(0.0)
        stood[:] = False
        for a in range(count):  # whoever touches at the start was not hit by the plan
            touching = valid[0, a] and (
                _clearance(
                    actors[0, a, 0], actors[0, a, 1], f(1.0), f(0.0), length, width,
                    actors[0, a, 2], actors[0, a, 3], extent[a, 0], extent[a, 1],
                ) <= f(0.0)
            )  # fmt: skip
            met[a, :] = touching
        _stand(path, b, 0, length, lines, sign, stood)
        for t in range(1, instants):
            now = f(t) * _STEP
            for g in range(LANES):
                x, y = path[b, t, PATH_X, g], path[b, t, PATH_Y, g]
                c, s = path[b, t, PATH_COS, g], path[b, t, PATH_SIN, g]
                zone[g] = _zone(raster, x, y, c, s, length, width)
                if zone[g] & _OFF and result[b, OFFROAD, g] == _INF:
                    result[b, OFFROAD, g] = now
                column = int((x + f(RASTER_BEHIND_M)) * f(1 / CELL_M))
                row = int((y + f(RASTER_SIDE_M)) * f(1 / CELL_M))
                inside = 0 <= row < raster.shape[0] and 0 <= column < raster.shape[1]
                against = inside and raster[row, column] & (ONCOMING | JUNCTION) == ONCOMING
                wrong[t, g] = path[b, t, PATH_SPEED, g] * _STEP if against else f(0.0)
            _keep_lane(w, path, b, t, centre, spacing, lasting, wrong, result)
            for o in range(TTC_OFFSETS):
                lead = f(o * TTC_SPACING_STEPS) * _STEP
                x0, x1, y0, y1 = _INF, -_INF, _INF, -_INF
                for g in range(LANES):
                    far = lead * path[b, t, PATH_SPEED, g]
                    px = path[b, t, PATH_X, g] + far * path[b, t, PATH_COS, g]
                    py = path[b, t, PATH_Y, g] + far * path[b, t, PATH_SIN, g]
                    w[(_PX + o) * LANES + g] = px
                    w[(_PY + o) * LANES + g] = py
                    x0, x1, y0, y1 = min(x0, px), max(x1, px), min(y0, py), max(y1, py)
                low[0, o], high[0, o], low[1, o], high[1, o] = x0, x1, y0, y1
            for a in range(count):
                al, aw = extent[a, 0], extent[a, 1]
                near = reach + math.sqrt(al * al + aw * aw)
                for o in range(TTC_OFFSETS):
                    k = t + o * TTC_SPACING_STEPS
                    if k >= instants or not valid[k, a]:
                        break
                    r = slot[a]
                    any_hit = f(0.0)
                    if r < 0:
                        ax, ay, ac, as_ = actors[k, a, 0], actors[k, a, 1], actors[k, a, 2], actors[k, a, 3]
                        if (
                            ax < low[0, o] - near or ax > high[0, o] + near
                            or ay < low[1, o] - near or ay > high[1, o] + near
                        ):  # fmt: skip
                            continue
                        for g in range(LANES):
                            apart = _clearance(
                                ax - w[(_PX + o) * LANES + g], ay - w[(_PY + o) * LANES + g],
                                path[b, t, PATH_COS, g], path[b, t, PATH_SIN, g], length, width,
                                ac, as_, al, aw,
                            )  # fmt: skip
                            hit = f(1.0) if apart <= f(0.0) else f(0.0)
                            w[_HIT * LANES + g] = hit
                            any_hit = max(any_hit, hit)
                    else:
                        for g in range(LANES):
                            apart = _clearance(
                                moved[b, r, k, 0, g] - w[(_PX + o) * LANES + g],
                                moved[b, r, k, 1, g] - w[(_PY + o) * LANES + g],
                                path[b, t, PATH_COS, g], path[b, t, PATH_SIN, g], length, width,
                                moved[b, r, k, 2, g], moved[b, r, k, 3, g], al, aw,
                            )  # fmt: skip
                            hit = f(1.0) if apart <= f(0.0) else f(0.0)
                            w[_HIT * LANES + g] = hit
                            any_hit = max(any_hit, hit)
                    if any_hit > f(0.0):
                        _judge(
                            w, path, b, t, k, o, a, r, actors, moved, extent, static, ego, zone, met, result
                        )
            _judge_lines(path, b, t, length, lines, closed, sign, stood, result)
        _progress(w, path, b, road, result)


@njit(inline="always")
def _judge(  # type: ignore[no-untyped-def]
    w, path, b, t, k, o, a, r, actors, moved, extent, static, ego, zone, met, result
):
    """Settle what the overlaps in row `_HIT` with actor `a` at instant `k` mean."""
    now = f(t) * _STEP
    for g in range(LANES):
        if w[_HIT * LANES + g] == f(0.0) or met[a, g]:
            continue
        if r < 0:
            ax, ay, ac, as_, av = (
                actors[k, a, 0], actors[k, a, 1], actors[k, a, 2], actors[k, a, 3], actors[k, a, 4],
            )  # fmt: skip
        else:
            ax, ay, ac, as_, av = (
                moved[b, r, k, 0, g], moved[b, r, k, 1, g], moved[b, r, k, 2, g], moved[b, r, k, 3, g],
                moved[b, r, k, 4, g],
            )  # fmt: skip
        c, s, v = path[b, t, PATH_COS, g], path[b, t, PATH_SIN, g], path[b, t, PATH_SPEED, g]
        dx, dy = ax - path[b, t, PATH_X, g], ay - path[b, t, PATH_Y, g]
        away = max(math.sqrt(dx * dx + dy * dy), f(1e-6))
        forward = dx * c + dy * s
        if result[b, TTC, g] == _INF and v >= f(MOVING_MPS):
            ahead = forward > f(AHEAD_COS) * away
            if ahead or (zone[g] != 0 and forward >= f(BEHIND_COS) * away):
                result[b, TTC, g] = now
        if o > 0:
            continue
        met[a, g] = True  # a replayed actor drives on after a contact; it counts once
        if result[b, COLLISION, g] == _INF:
            result[b, COLLISION, g] = now
            result[b, COLLIDER, g] = f(a)
        if result[b, FAULT, g] == _INF and _is_fault(
            zone[g], dx, dy, c, s, v, ego[0], ego[1], ac, as_, av, extent[a, 0], extent[a, 1]
        ):
            result[b, FAULT, g] = now
            result[b, FAULT_STATIC, g] = f(1.0) if static[a] else f(0.0)


@njit(inline="always")
def _judge_lines(path, b, t, length, lines, closed, sign, stood, result):  # type: ignore[no-untyped-def]
    """First crossing of a closed line by the tail: what the world charges (`check_red_lights`).

    A front that rests beyond the paint has broken nothing yet.
    """
    behind = f(TAIL_SHARE) * length
    _stand(path, b, t, length, lines, sign, stood)
    for i in range(lines.shape[0]):
        for g in range(LANES):
            if not closed[t, i] or stood[i, g] or result[b, RULE, g] < _INF:
                continue
            x = path[b, t, PATH_X, g] - path[b, t, PATH_COS, g] * behind
            y = path[b, t, PATH_Y, g] - path[b, t, PATH_SIN, g] * behind
            px = path[b, t - 1, PATH_X, g] - path[b, t - 1, PATH_COS, g] * behind
            py = path[b, t - 1, PATH_Y, g] - path[b, t - 1, PATH_SIN, g] * behind
            if _crosses(px, py, x, y, lines[i, 0], lines[i, 1], lines[i, 2], lines[i, 3]):
                result[b, RULE, g] = f(t) * _STEP


@njit(inline="always")
def _stand(path, b, t, length, lines, sign, stood):  # type: ignore[no-untyped-def]
    """Note the stop signs before which the ego stands at this instant."""
    for i in range(lines.shape[0]):
        if not sign[i]:
            continue
        mx, my = f(0.5) * (lines[i, 0] + lines[i, 2]), f(0.5) * (lines[i, 1] + lines[i, 3])
        for g in range(LANES):
            x = path[b, t, PATH_X, g] + path[b, t, PATH_COS, g] * length
            y = path[b, t, PATH_Y, g] + path[b, t, PATH_SIN, g] * length
            near = (x - mx) ** 2 + (y - my) ** 2 < f(SIGN_REACH_M**2)
            if near and path[b, t, PATH_SPEED, g] < f(STANDING_MPS):
                stood[i, g] = True


@njit(inline="always")
def _keep_lane(w, path, b, t, centre, spacing, lasting, wrong, result):  # type: ignore[no-untyped-def]
    """Longest run beside the course, and greatest progress against the traffic within one second."""
    for g in range(LANES):
        k = min(max(int(w[_ARC * LANES + g] / spacing), 0), lasting)
        dx, dy = centre[k + 1, 0] - centre[k, 0], centre[k + 1, 1] - centre[k, 1]
        ex, ey = path[b, t, PATH_X, g] - centre[k, 0], path[b, t, PATH_Y, g] - centre[k, 1]
        w[_ARC * LANES + g] = max((f(k) + (ex * dx + ey * dy) / (spacing * spacing)) * spacing, f(0.0))
        w[_AT * LANES + g] = abs(dx * ey - dy * ex) / spacing
    for g in range(LANES):
        run = w[_RUN * LANES + g] + _STEP if w[_AT * LANES + g] > f(OFF_CENTRE_M) else f(0.0)
        w[_RUN * LANES + g] = run
        result[b, OFF_CENTRE, g] = max(result[b, OFF_CENTRE, g], run)
    oldest = max(t - DIRECTION_STEPS, 0)
    for g in range(LANES):
        against = w[_RIGHT * LANES + g] + wrong[t, g] - wrong[oldest, g]
        w[_RIGHT * LANES + g] = against
        result[b, WRONG_WAY, g] = max(result[b, WRONG_WAY, g], against)


@njit(inline="always")
def _progress(w, path, b, road, result):  # type: ignore[no-untyped-def]
    """Arc length along the road of the last pose minus that of the first."""
    last = path.shape[1] - 1
    for end in range(2):
        t = end * last
        for g in range(LANES):
            w[_AT * LANES + g] = f(1e18)
        s = f(0.0)
        for i in range(road.shape[0] - 1):
            dx, dy = road[i + 1, 0] - road[i, 0], road[i + 1, 1] - road[i, 1]
            length = math.sqrt(dx * dx + dy * dy)
            scale = f(1.0) / max(length * length, f(1e-12))
            for g in range(LANES):
                ex, ey = path[b, t, PATH_X, g] - road[i, 0], path[b, t, PATH_Y, g] - road[i, 1]
                share = min(max((ex * dx + ey * dy) * scale, f(0.0)), f(1.0))
                ex, ey = ex - share * dx, ey - share * dy
                away = ex * ex + ey * ey
                better = away < w[_AT * LANES + g]
                w[_AT * LANES + g] = away if better else w[_AT * LANES + g]
                w[_HIT * LANES + g] = s + share * length if better else w[_HIT * LANES + g]
            s += length
        for g in range(LANES):
            result[b, PROGRESS, g] = w[_HIT * LANES + g] - result[b, PROGRESS, g]
