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
TTC_REACH_STEPS = (TTC_OFFSETS - 1) * TTC_SPACING_STEPS  # later instants are not judged (NAVSIM)
AHEAD_COS, BEHIND_COS = math.cos(math.radians(30)), math.cos(math.radians(150))  # nuPlan: 30 and 150 deg
DIRECTION_STEPS = round(1.0 / STEP_S)  # window of the driving direction (NAVSIM, benchmark facts 4)
OFF_CENTRE_M = 0.5  # lane keeping (EPDMS, benchmark facts 4)

# Rows of the result, (RESULT_ROWS, B, LANES); times in s, infinite where it never came.
COLLISION, COLLIDER, FAULT, FAULT_STATIC, OFFROAD, RULE, TTC, WRONG_WAY, OFF_CENTRE, PROGRESS, COMFORT = (
    range(11)
)
RESULT_ROWS = 11

# Rows of the work array.
_X, _Y, _C, _S, _V, _VX, _VY, _TAIL_X, _TAIL_Y, _WAS_X, _WAS_Y = range(11)  # ego now, tail now and before
_HIT, _RUN, _RIGHT, _ARC, _AT, _SEGMENT, _CX, _CY, _DX, _DY = range(11, 21)
_OFF_CENTRE, _WRONG_WAY = 21, 22
_CELLS, _POINTS = 23, 5  # numbers of the raster cells under the corners and the centre, -1: outside
_ROWS = _CELLS + _POINTS
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
def _cells(w, shape, length, width):  # type: ignore[no-untyped-def]
    """Fill the rows of raster cells: four corners, then the centre."""
    rows, columns = f(shape[0]), f(shape[1])
    for point in range(_POINTS):
        along = f(0.0) if point == 4 else length if point < 2 else -length
        left = f(0.0) if point == 4 else width if point % 2 == 0 else -width
        for g in range(LANES):
            c, s = w[_C * LANES + g], w[_S * LANES + g]
            column = np.floor((w[_X * LANES + g] + c * along - s * left + f(RASTER_BEHIND_M)) * f(1 / CELL_M))
            row = np.floor((w[_Y * LANES + g] + s * along + c * left + f(RASTER_SIDE_M)) * f(1 / CELL_M))
            inside = (row >= f(0.0)) & (row < rows) & (column >= f(0.0)) & (column < columns)
            w[(_CELLS + point) * LANES + g] = row * columns + column if inside else f(-1.0)


@njit(inline="always")
def _zone(w, g, cells):  # type: ignore[no-untyped-def]
    """Bits of `_OFF`, `_MULTIPLE`, `_CROSSING` under the four corners; outside the raster: none."""
    some, every, seen = 0, 255, False
    for corner in range(4):
        number = int(w[(_CELLS + corner) * LANES + g])
        if number >= 0:
            cell = cells[number]
            some, every, seen = some | cell, every & cell, True
    if not seen:
        return 0
    bits = 0 if every & DRIVABLE else _OFF
    if some & JUNCTION:
        return bits | _CROSSING
    return bits | _MULTIPLE if (some ^ every) >> LANE_SHIFT else bits


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
    moved = (ax != bx) | (ay != by)
    return moved & (ab_c * ab_d <= f(0.0)) & (cd_a * cd_b <= f(0.0))


@njit(cache=True, fastmath={"nnan", "nsz", "arcp", "contract", "afn", "reassoc"}, error_model="numpy")
def check(  # type: ignore[no-untyped-def]
    path, ego, actors, valid, extent, static, slot, moved, apart, lines, closed, sign, raster, road, centre,
    spacing, result,
):  # fmt: skip
    """Fill `result` (RESULT_ROWS, B, LANES) but for `COMFORT`; `path` is (B, T, PATH_ROWS, LANES).

    `ego` (2,) and `extent` (A, 2) are half lengths and widths; `actors` (T, A, 5) x, y, cos, sin, speed;
    `slot` (A,) the row of an actor in `moved` (B, R, T, 5, LANES), of those that may differ by lane, or -1;
    `apart` (B, R, T) where they do; `road` (N, 2) the route, `centre` (M, 2) the course to keep to, every
    `spacing` m.
    """
    w = np.empty(_ROWS * LANES, np.float32)
    zone = np.zeros(LANES, np.int64)
    cells = raster.ravel()
    instants, count = path.shape[1], actors.shape[1]
    length, width = ego[0], ego[1]
    behind = f(TAIL_SHARE) * length
    near = np.sqrt(extent[:, 0] ** 2 + extent[:, 1] ** 2) + math.sqrt(length * length + width * width)
    met = np.zeros((count, LANES), np.bool_)
    stood = np.zeros((lines.shape[0], LANES), np.bool_)
    wrong = np.zeros((instants, LANES), np.float32)
    xs, ys = actors[:, :, 0].copy(), actors[:, :, 1].copy()
    there = np.where(valid, f(1.0), f(0.0))
    rows = np.flatnonzero(slot >= 0)
    alive, close = np.zeros(count, np.float32), np.zeros(count, np.float32)
    for b in range(path.shape[0]):
        for g in range(LANES):
            result[COLLISION, b, g], result[FAULT, b, g], result[TTC, b, g] = _INF, _INF, _INF
            result[OFFROAD, b, g], result[RULE, b, g] = _INF, _INF
            result[COLLIDER, b, g], result[FAULT_STATIC, b, g], result[PROGRESS, b, g] = (
                f(-1.0),
                f(0.0),
                f(0.0),
            )
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
        _place(w, path, b, 0, behind)
        for t in range(1, instants):
            _place(w, path, b, t, behind)
            _cells(w, raster.shape, length, width)
            for g in range(LANES):
                zone[g] = _zone(w, g, cells)
                if zone[g] & _OFF and result[OFFROAD, b, g] == _INF:
                    result[OFFROAD, b, g] = f(t) * _STEP
                number = int(w[(_CELLS + 4) * LANES + g])
                against = number >= 0 and cells[number] & (ONCOMING | JUNCTION) == ONCOMING
                wrong[t, g] = w[_V * LANES + g] * _STEP if against else f(0.0)
            _keep_lane(w, t, centre, spacing, zone, wrong)
            alive[:] = f(1.0)
            whole = t + TTC_REACH_STEPS < instants
            for o in range(TTC_OFFSETS if whole else 1):
                k = t + o * TTC_SPACING_STEPS
                _choose(w, b, k, o, xs, ys, there, near, rows, apart, alive, close)
                for a in range(count):
                    if close[a] == f(0.0):
                        continue
                    r = slot[a]
                    if r >= 0 and not apart[b, r, k]:
                        r = -1  # it is on its record, and `moved` was not filled
                    if r < 0:
                        hits = _overlaps_one(w, o, actors, k, a, extent, length, width)
                    else:
                        hits = _overlaps_each(w, o, moved, b, r, k, a, extent, length, width)
                    if hits > f(0.0):
                        _judge(
                            w, b, t, k, o, a, r, whole, actors, moved, extent, static, ego, zone, met, result
                        )  # fmt: skip
            _judge_lines(w, path, b, t, length, lines, closed, sign, stood, result)
        for g in range(LANES):
            result[OFF_CENTRE, b, g] = w[_OFF_CENTRE * LANES + g]
            result[WRONG_WAY, b, g] = w[_WRONG_WAY * LANES + g]
        _progress(w, path, b, road, result)


@njit(inline="always")
def _place(w, path, b, t, behind):  # type: ignore[no-untyped-def]
    """The rows of the ego at instant `t`; the tail, `behind` m back, moves on."""
    for g in range(LANES):
        x, y, v = path[b, t, PATH_X, g], path[b, t, PATH_Y, g], path[b, t, PATH_SPEED, g]
        c, s = path[b, t, PATH_COS, g], path[b, t, PATH_SIN, g]
        w[_X * LANES + g], w[_Y * LANES + g], w[_V * LANES + g] = x, y, v
        w[_C * LANES + g], w[_S * LANES + g] = c, s
        w[_VX * LANES + g], w[_VY * LANES + g] = v * c, v * s
    for g in range(LANES):
        w[_WAS_X * LANES + g], w[_WAS_Y * LANES + g] = w[_TAIL_X * LANES + g], w[_TAIL_Y * LANES + g]
        w[_TAIL_X * LANES + g] = w[_X * LANES + g] - w[_C * LANES + g] * behind
        w[_TAIL_Y * LANES + g] = w[_Y * LANES + g] - w[_S * LANES + g] * behind


@njit(inline="always")
def _choose(w, b, k, o, xs, ys, there, near, rows, apart, alive, close):  # type: ignore[no-untyped-def]
    """Set `close` (A,) to 1 for the actors that may touch any lane `o` looks ahead, at instant `k`.

    Those that replay are held against the box around all lanes.  `alive` goes to 0 with the first look that
    an actor misses.  The box is of whole centimetres: least and greatest of integers fill vector lanes.
    """
    lead = f(o * TTC_SPACING_STEPS) * _STEP
    x0, x1, y0, y1 = 1 << 40, -(1 << 40), 1 << 40, -(1 << 40)
    for g in range(LANES):
        x = int((w[_X * LANES + g] + lead * w[_VX * LANES + g]) * f(100.0))
        y = int((w[_Y * LANES + g] + lead * w[_VY * LANES + g]) * f(100.0))
        x0, x1, y0, y1 = min(x0, x), max(x1, x), min(y0, y), max(y1, y)
    left, right = f(x0 - 1) * f(0.01), f(x1 + 1) * f(0.01)
    low, high = f(y0 - 1) * f(0.01), f(y1 + 1) * f(0.01)
    for a in range(near.shape[0]):
        x, y, reach = xs[k, a], ys[k, a], near[a]
        inside = (x > left - reach) & (x < right + reach) & (y > low - reach) & (y < high + reach)
        alive[a] *= there[k, a]
        close[a] = alive[a] if inside else f(0.0)
    for r in range(rows.shape[0]):
        if apart[b, r, k]:
            close[rows[r]] = alive[rows[r]]


# Inlined helpers use each array on every way through them: else reference counts stay in the inner loops.
@njit(inline="always")
def _overlaps_one(w, o, actors, k, a, extent, length, width):  # type: ignore[no-untyped-def]
    """Row `_HIT` becomes 1 where the ego, `o` looks ahead, overlaps actor `a` at instant `k`; how many do."""
    lead, al, aw = f(o * TTC_SPACING_STEPS) * _STEP, extent[a, 0], extent[a, 1]
    x, y, c, s = actors[k, a, 0], actors[k, a, 1], actors[k, a, 2], actors[k, a, 3]
    hits = f(0.0)
    for g in range(LANES):
        away = _clearance(
            x - (w[_X * LANES + g] + lead * w[_VX * LANES + g]),
            y - (w[_Y * LANES + g] + lead * w[_VY * LANES + g]),
            w[_C * LANES + g], w[_S * LANES + g], length, width, c, s, al, aw,
        )  # fmt: skip
        hit = f(1.0) if away <= f(0.0) else f(0.0)
        w[_HIT * LANES + g] = hit
        hits += hit
    return hits


@njit(inline="always")
def _overlaps_each(w, o, moved, b, r, k, a, extent, length, width):  # type: ignore[no-untyped-def]
    """The same for an actor that differs by lane, row `r` of `moved`."""
    lead, al, aw = f(o * TTC_SPACING_STEPS) * _STEP, extent[a, 0], extent[a, 1]
    hits = f(0.0)
    for g in range(LANES):
        away = _clearance(
            moved[b, r, k, 0, g] - (w[_X * LANES + g] + lead * w[_VX * LANES + g]),
            moved[b, r, k, 1, g] - (w[_Y * LANES + g] + lead * w[_VY * LANES + g]),
            w[_C * LANES + g], w[_S * LANES + g], length, width,
            moved[b, r, k, 2, g], moved[b, r, k, 3, g], al, aw,
        )  # fmt: skip
        hit = f(1.0) if away <= f(0.0) else f(0.0)
        w[_HIT * LANES + g] = hit
        hits += hit
    return hits


@njit(inline="always")
def _judge(  # type: ignore[no-untyped-def]
    w, b, t, k, o, a, r, whole, actors, moved, extent, static, ego, zone, met, result
):
    """Settle what the overlaps in row `_HIT` with actor `a` at instant `k` mean.

    `r` is -1 where the actor is on its record; time-to-collision is judged at instants that can look ahead
    the `whole` second.
    """
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
        c, s, v = w[_C * LANES + g], w[_S * LANES + g], w[_V * LANES + g]
        dx, dy = ax - w[_X * LANES + g], ay - w[_Y * LANES + g]
        away = max(math.sqrt(dx * dx + dy * dy), f(1e-6))
        forward = dx * c + dy * s
        if whole and result[TTC, b, g] == _INF and v >= f(MOVING_MPS):
            ahead = forward > f(AHEAD_COS) * away
            if ahead or (zone[g] != 0 and forward >= f(BEHIND_COS) * away):
                result[TTC, b, g] = now
        if o > 0:
            continue
        met[a, g] = True  # a replayed actor drives on after a contact; it counts once
        if result[COLLISION, b, g] == _INF:
            result[COLLISION, b, g] = now
            result[COLLIDER, b, g] = f(a)
        if _is_fault(zone[g], dx, dy, c, s, v, ego[0], ego[1], ac, as_, av, extent[a, 0], extent[a, 1]):
            if result[FAULT, b, g] == _INF:
                result[FAULT, b, g], result[FAULT_STATIC, b, g] = now, f(1.0)
            if not static[a]:
                result[FAULT_STATIC, b, g] = f(0.0)


@njit(inline="always")
def _judge_lines(w, path, b, t, length, lines, closed, sign, stood, result):  # type: ignore[no-untyped-def]
    """First crossing of a closed line by the tail: what the world charges (`check_red_lights`).

    A front that rests beyond the paint has broken nothing yet.
    """
    _stand(path, b, t, length, lines, sign, stood)
    for i in range(lines.shape[0]):
        if not closed[t, i]:
            continue
        x0, y0, x1, y1 = lines[i, 0], lines[i, 1], lines[i, 2], lines[i, 3]
        any_hit = f(0.0)
        for g in range(LANES):
            crossed = _crosses(
                w[_WAS_X * LANES + g], w[_WAS_Y * LANES + g], w[_TAIL_X * LANES + g], w[_TAIL_Y * LANES + g],
                x0, y0, x1, y1,
            )  # fmt: skip
            hit = f(1.0) if crossed else f(0.0)
            w[_HIT * LANES + g] = hit
            any_hit += hit
        if any_hit == f(0.0):
            continue
        for g in range(LANES):
            if w[_HIT * LANES + g] > f(0.0) and not stood[i, g] and result[RULE, b, g] == _INF:
                result[RULE, b, g] = f(t) * _STEP


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
def _keep_lane(w, t, centre, spacing, zone, wrong):  # type: ignore[no-untyped-def]
    """Longest run beside the course, not on junctions; greatest progress against traffic within a second."""
    per_spacing, lasting = f(1.0) / spacing, f(centre.shape[0] - 2)
    for g in range(LANES):
        w[_SEGMENT * LANES + g] = np.floor(min(w[_ARC * LANES + g] * per_spacing, lasting))
    for g in range(LANES):
        k = int(w[_SEGMENT * LANES + g])
        w[_CX * LANES + g], w[_CY * LANES + g] = centre[k, 0], centre[k, 1]
        w[_DX * LANES + g], w[_DY * LANES + g] = centre[k + 1, 0], centre[k + 1, 1]
    for g in range(LANES):
        cx, cy = w[_CX * LANES + g], w[_CY * LANES + g]
        dx, dy = (w[_DX * LANES + g] - cx) * per_spacing, (w[_DY * LANES + g] - cy) * per_spacing
        ex, ey = w[_X * LANES + g] - cx, w[_Y * LANES + g] - cy
        w[_ARC * LANES + g] = max(w[_SEGMENT * LANES + g] * spacing + ex * dx + ey * dy, f(0.0))
        beside = (abs(dx * ey - dy * ex) > f(OFF_CENTRE_M)) & (zone[g] & _CROSSING == 0)
        run = w[_RUN * LANES + g] + _STEP if beside else f(0.0)
        w[_RUN * LANES + g] = run
        w[_OFF_CENTRE * LANES + g] = max(w[_OFF_CENTRE * LANES + g], run)
    oldest = max(t - DIRECTION_STEPS, 0)
    for g in range(LANES):
        against = w[_RIGHT * LANES + g] + wrong[t, g] - wrong[oldest, g]
        w[_RIGHT * LANES + g] = against
        w[_WRONG_WAY * LANES + g] = max(w[_WRONG_WAY * LANES + g], against)


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
            result[PROGRESS, b, g] = w[_HIT * LANES + g] - result[PROGRESS, b, g]
