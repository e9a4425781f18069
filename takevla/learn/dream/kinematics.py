"""The ego of a dream: plan, controller and bicycle for lanes of plans side by side, in float32.

`LANES` plans lie next to each other in memory, so that the compiler fills vector registers; every row of
lanes is an affine slice of one flat work array with constant distances, so that it needs no checks for
overlap.  Look-ups by index are short scalar loops of their own for the same reason.

The law is that of `driver.controller` and `world.dynamics`, rewritten without calls into libm: the route
is resampled to equal steps, and sine, cosine and arc tangent are polynomials of float32 accuracy.  The
tests hold it against the originals tick by tick.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from takevla.driver.controller import (
    BRAKE_RATIO,
    BRAKE_SPEED_MPS,
    LOOKAHEAD_MAX_M,
    LOOKAHEAD_MIN_M,
    LOOKAHEAD_OFFSET_M,
    LOOKAHEAD_PER_KMH_M,
    SPEED_ERROR_CLIP_MPS,
    SPEED_KD,
    SPEED_KI,
    SPEED_KP,
    SPEED_WINDOW,
    STEER_KD,
    STEER_KI,
    STEER_KP,
    STEER_WINDOW,
    WAYPOINT_S,
)
from takevla.world.dynamics import (
    BRAKE_FIT,
    FITTED_KMH,
    FRONT_WHEELBASE_M,
    LEAST_THROTTLE,
    REAR_WHEELBASE_M,
    STEER_GAIN_RAD,
    THROTTLE_FIT,
    TICK_S,
)

LANES = 16  # plans side by side: one vector of AVX-512, two of AVX2
PATH_X, PATH_Y, PATH_HEADING, PATH_SPEED, PATH_COS, PATH_SIN, PATH_ROWS = range(7)
SPACING_M = 0.5  # of the resampled route
EASE_M = 10.0  # behind a plan's end its lateral offset fades over this length
SURE_M = 1.0  # this near its route the ego's foot on it moves on from tick to tick; farther off it may jump
SHARP_COS = math.cos(0.25)  # as it may about a place where the route turns by more within one step
AROUND_M = (
    4.0  # so far about such a place, and as much more as a foot `SURE_M` aside is from it when it jumps
)
STEP_LEAST_M = 0.01  # a shorter step, as where a plan's end is joined, has no direction of its own
LOOK_M = 15  # the controller looks up to 10.5 m ahead

# Rows of the work array.
_X, _Y, _H, _V, _C, _S, _U, _WANTED, _LAST, _SPEED_SUM, _ERROR, _AX, _AY, _BX, _BY = range(15)
_SEGMENT, _LOST = range(15, 17)
_STEERS = 17
_ROWS = _STEERS + STEER_WINDOW

f: Any = np.float32
_K = tuple(f(value) for value in THROTTLE_FIT)
_B = tuple(f(value) for value in BRAKE_FIT)
_PI, _HALF_PI, _PER_HALF_PI = f(math.pi), f(math.pi / 2), f(2 / math.pi)
_SLIP = f(REAR_WHEELBASE_M / (FRONT_WHEELBASE_M + REAR_WHEELBASE_M))
_TURN = f(TICK_S / REAR_WHEELBASE_M)
_TICK = f(TICK_S)
_SPACING, _PER_SPACING = f(SPACING_M), f(1 / SPACING_M)


@njit(inline="always")
def arc_tangent(y, x):  # type: ignore[no-untyped-def]
    """atan2 in float32 without branches; within 2e-6 rad.  Zero at the origin."""
    ax, ay = abs(x), abs(y)
    big, small = max(ax, ay), min(ax, ay)
    q = small / max(big, f(1e-20))
    z = q * q
    a = (
        ((((((f(-0.0040540580) * z + f(0.0218612288)) * z - f(0.0559098861)) * z + f(0.0964200441)) * z
        - f(0.1390853351)) * z + f(0.1994653599)) * z - f(0.3332985605)) * z + f(0.9999993329)
    ) * q  # fmt: skip
    a = _HALF_PI - a if ay > ax else a
    a = _PI - a if x < f(0.0) else a
    return -a if y < f(0.0) else a


@njit(cache=True, fastmath=True, error_model="numpy")
def reach_points(speed_mps, waypoints, seconds):  # type: ignore[no-untyped-def]
    """Points 1 m apart that routes need for a dream of `seconds`; `waypoints` (G, K, 2), all float32."""
    last, farthest = waypoints.shape[1] - 1, f(0.0)
    for row in range(waypoints.shape[0]):
        dx = waypoints[row, last, 0] - waypoints[row, last - 2, 0]
        dy = waypoints[row, last, 1] - waypoints[row, last - 2, 1]
        farthest = max(farthest, dx * dx + dy * dy)
    return math.ceil(max(speed_mps, math.sqrt(farthest) * f(0.5 / WAYPOINT_S)) * seconds) + LOOK_M


@njit(cache=True, fastmath=True, error_model="numpy")
def prolong(route, road, out):  # type: ignore[no-untyped-def]
    """Fill `out` (K, 2): one step before `route` (R, 2), the route, then along `road`, easing on to it.

    Behind the road's end: straight on.  Returns nothing; all float32.
    """
    steps = _steps(road)
    _prolong(route, road, steps, np.empty(steps.shape[1], np.float32), out)


@njit(inline="always")
def _steps(road):  # type: ignore[no-untyped-def]
    """(3, N - 1) direction x, y and length of the road's steps."""
    steps = np.empty((3, road.shape[0] - 1), np.float32)
    for i in range(road.shape[0] - 1):
        dx, dy = road[i + 1, 0] - road[i, 0], road[i + 1, 1] - road[i, 1]
        length = max(math.sqrt(dx * dx + dy * dy), f(1e-6))
        steps[0, i], steps[1, i], steps[2, i] = dx / length, dy / length, length
    return steps


@njit(inline="always")
def _prolong(route, road, steps, away, out):  # type: ignore[no-untyped-def]
    known = route.shape[0]
    out[0, 0] = f(2.0) * route[0, 0] - route[1, 0]
    out[0, 1] = f(2.0) * route[0, 1] - route[1, 1]
    for i in range(known):
        out[i + 1, 0], out[i + 1, 1] = route[i, 0], route[i, 1]
    x, y = route[known - 1, 0], route[known - 1, 1]
    for i in range(steps.shape[1]):
        ex, ey = x - road[i, 0], y - road[i, 1]
        along = min(max(ex * steps[0, i] + ey * steps[1, i], f(0.0)), steps[2, i])
        ex, ey = ex - along * steps[0, i], ey - along * steps[1, i]
        away[i] = ex * ex + ey * ey
    at, best = 0, away[0]
    for i in range(1, steps.shape[1]):
        if away[i] < best:
            at, best = i, away[i]
    ex, ey = x - road[at, 0], y - road[at, 1]
    share = min(max(ex * steps[0, at] + ey * steps[1, at], f(0.0)), steps[2, at]) / steps[2, at]
    lateral = steps[0, at] * ey - steps[1, at] * ex
    last = road.shape[0] - 1
    for k in range(known + 1, out.shape[0]):
        past = k - known
        i = min(at + past, last)
        dx, dy, beyond = steps[0, i - 1], steps[1, i - 1], f(at + past - i)
        left = lateral * max(f(0.0), f(1.0) - (f(past) - share) * f(1 / EASE_M))
        out[k, 0] = road[i, 0] + beyond * dx - left * dy
        out[k, 1] = road[i, 1] + beyond * dy + left * dx


@njit(cache=True, fastmath=True, error_model="numpy")
def route_tables(routes, road, reach):  # type: ignore[no-untyped-def]
    """Each of the G routes (G, R, 2), prolonged to `reach` points, every `SPACING_M`: (B, N, 2, LANES).

    Also (B, 2, LANES), the arc lengths between which lie all sharp turns of a route and what is about
    them, upside down without any.  N covers the longest.  Spare lanes repeat the last plan.
    """
    plans, points = routes.shape[0], max(reach, routes.shape[1]) + 1
    lines = np.empty((plans, points, 2), np.float32)
    lengths = np.empty((plans, points - 1), np.float32)
    steps = _steps(road)
    away = np.empty(steps.shape[1], np.float32)
    longest = f(0.0)
    for row in range(plans):
        _prolong(routes[row], road, steps, away, lines[row])
        length = f(0.0)
        for i in range(points - 1):
            ex, ey = lines[row, i + 1, 0] - lines[row, i, 0], lines[row, i + 1, 1] - lines[row, i, 1]
            lengths[row, i] = math.sqrt(ex * ex + ey * ey)
            length += lengths[row, i]
        longest = max(longest, length)
    blocks, count = (plans + LANES - 1) // LANES, math.ceil(longest * _PER_SPACING) + 2
    out = np.empty((blocks, count, 2, LANES), np.float32)
    sharp = np.empty((blocks, 2, LANES), np.float32)
    for row in range(blocks * LANES):
        _resample(lines, lengths, min(row, plans - 1), row // LANES, row % LANES, out, sharp)
    return out, sharp


@njit(inline="always")
def _resample(lines, lengths, row, b, g, out, sharp):  # type: ignore[no-untyped-def]
    """Fill one lane of `out` and `sharp`."""
    last, count = lengths.shape[1] - 1, out.shape[1]
    low, high = f(1e9), f(-1e9)
    dx, dy, end, n = f(1.0), f(0.0), f(0.0), 0
    for i in range(last + 1):
        start, length = end, lengths[row, i]
        end += length
        x, y = lines[row, i, 0], lines[row, i, 1]
        if length > f(STEP_LEAST_M):
            ex, ey = (lines[row, i + 1, 0] - x) / length, (lines[row, i + 1, 1] - y) / length
            turn = ex * dx + ey * dy
            if i > 0 and turn < f(SHARP_COS):
                about = f(AROUND_M) + f(SURE_M) * math.sqrt((f(1.0) - turn) / max(f(1.0) + turn, f(1e-6)))
                low, high = min(low, start - about), max(high, start + about)
            dx, dy = ex, ey
        until = count if i == last else min(math.ceil(end * _PER_SPACING), count)
        for k in range(n, until):
            past = f(k) * _SPACING - start
            out[b, k, 0, g], out[b, k, 1, g] = x + dx * past, y + dy * past
        n = max(n, until)
    sharp[b, 0, g], sharp[b, 1, g] = low, high


@njit(inline="always")
def _look_up(w, tables, b, ahead):  # type: ignore[no-untyped-def]
    """Rows A and B become the ends of the route's segment at arc length `_U` (+ `_ERROR` when ahead)."""
    last = tables.shape[1] - 2
    for g in range(LANES):
        u = w[_U * LANES + g]
        if ahead:
            u += w[_ERROR * LANES + g]
        k = min(int(u * _PER_SPACING), last)
        w[_SEGMENT * LANES + g] = f(k)
        w[_AX * LANES + g] = tables[b, k, 0, g]
        w[_AY * LANES + g] = tables[b, k, 1, g]
        w[_BX * LANES + g] = tables[b, k + 1, 0, g]
        w[_BY * LANES + g] = tables[b, k + 1, 1, g]


@njit(inline="always")
def _project(w, sharp, b):  # type: ignore[no-untyped-def]
    """One Newton step of the arc length `_U` towards the ego's foot on its route; how many are lost.

    Near a smooth stretch the foot moves as far as the ego does, and a step a tick keeps it.  About a sharp
    turn, or far aside, another part of the route may be the nearer one: such lanes are noted in `_LOST`.
    """
    any_lost = f(0.0)
    for g in range(LANES):
        dx = (w[_BX * LANES + g] - w[_AX * LANES + g]) * _PER_SPACING
        dy = (w[_BY * LANES + g] - w[_AY * LANES + g]) * _PER_SPACING
        ex, ey = w[_X * LANES + g] - w[_AX * LANES + g], w[_Y * LANES + g] - w[_AY * LANES + g]
        length2 = max(dx * dx + dy * dy, f(1e-6))
        u = max(w[_SEGMENT * LANES + g] * _SPACING + (ex * dx + ey * dy) / length2, f(0.0))
        w[_U * LANES + g] = u
        aside = dx * ey - dy * ex
        far = (aside * aside > f(SURE_M**2) * length2) | ((u > sharp[b, 0, g]) & (u < sharp[b, 1, g]))
        lost = f(1.0) if far else f(0.0)
        w[_LOST * LANES + g] = lost
        any_lost += lost
    return any_lost


@njit(inline="always")
def _find(w, tables, b):  # type: ignore[no-untyped-def]
    """The arc length `_U` of the lost lanes: the foot on whichever part of the route is nearest.

    Points of the route follow one another by `SPACING_M` at most, so that from one that is farther than the
    nearest so far as many can be left out as that is farther.
    """
    last = tables.shape[1] - 1
    for g in range(LANES):
        if w[_LOST * LANES + g] == f(0.0):
            continue
        x, y = w[_X * LANES + g], w[_Y * LANES + g]
        nearest = min(int(w[_U * LANES + g] * _PER_SPACING), last)
        ex, ey = x - tables[b, nearest, 0, g], y - tables[b, nearest, 1, g]
        best, n = math.sqrt(ex * ex + ey * ey), 0
        while n <= last:
            ex, ey = x - tables[b, n, 0, g], y - tables[b, n, 1, g]
            away = math.sqrt(ex * ex + ey * ey)
            if away < best:
                best, nearest = away, n
            n += 1 + int((away - best) * _PER_SPACING)
        best = f(1e18)
        for k in range(max(nearest - 1, 0), min(nearest + 1, last)):
            dx, dy = tables[b, k + 1, 0, g] - tables[b, k, 0, g], tables[b, k + 1, 1, g] - tables[b, k, 1, g]
            ex, ey = x - tables[b, k, 0, g], y - tables[b, k, 1, g]
            share = min(max((ex * dx + ey * dy) / max(dx * dx + dy * dy, f(1e-6)), f(0.0)), f(1.0))
            away = (ex - share * dx) ** 2 + (ey - share * dy) ** 2
            if away < best:
                best = away
                w[_U * LANES + g] = (f(k) + share) * _SPACING


@njit(cache=True, fastmath=True, error_model="numpy")
def roll(tables, sharp, waypoints, speed, ticks_per_step, path):  # type: ignore[no-untyped-def]
    """Fill `path` (B, T, PATH_ROWS, LANES) from the origin at `speed` (m/s).

    `tables` and `sharp` are those of `route_tables`; `waypoints` is (G, K, 2).  All float32.
    """
    w = np.empty(_ROWS * LANES, np.float32)
    missed = np.empty((SPEED_WINDOW, LANES), np.float32)
    steps = path.shape[1] - 1
    plans, last = waypoints.shape[0], waypoints.shape[1] - 1
    asked = np.empty((last + 1, 2, LANES), np.float32)
    for b in range(path.shape[0]):
        w[:] = f(0.0)
        missed[:] = f(0.0)
        for g in range(LANES):
            row = min(b * LANES + g, plans - 1)
            for k in range(last + 1):
                asked[k, 0, g], asked[k, 1, g] = waypoints[row, k, 0], waypoints[row, k, 1]
        for g in range(LANES):
            w[_V * LANES + g] = f(speed)
            w[_C * LANES + g] = f(1.0)
            w[_LOST * LANES + g] = f(1.0)
        _find(w, tables, b)
        for row in range(PATH_ROWS):
            for g in range(LANES):
                path[b, 0, row, g] = w[row * LANES + g]
        for tick in range(steps * ticks_per_step):
            start = min(tick * TICK_S / WAYPOINT_S, last - 2.0)
            i = int(start)
            part = f(start - i)
            j = min(i + 3, last)
            for g in range(LANES):
                ax = asked[i, 0, g] + part * (asked[i + 1, 0, g] - asked[i, 0, g])
                ay = asked[i, 1, g] + part * (asked[i + 1, 1, g] - asked[i, 1, g])
                bx = asked[i + 2, 0, g] + part * (asked[j, 0, g] - asked[i + 2, 0, g])
                by = asked[i + 2, 1, g] + part * (asked[j, 1, g] - asked[i + 2, 1, g])
                dx, dy = bx - ax, by - ay
                w[_WANTED * LANES + g] = math.sqrt(dx * dx + dy * dy) * f(0.5 / WAYPOINT_S)
            _look_up(w, tables, b, False)
            if _project(w, sharp, b) > f(0.0):
                _find(w, tables, b)
            for g in range(LANES):
                ahead = f(LOOKAHEAD_PER_KMH_M * 3.6) * w[_V * LANES + g] + f(LOOKAHEAD_OFFSET_M)
                w[_ERROR * LANES + g] = min(max(ahead, f(LOOKAHEAD_MIN_M)), f(LOOKAHEAD_MAX_M))
            _look_up(w, tables, b, True)
            known = f(1.0) / f(min(tick + 1, STEER_WINDOW))
            changed = f(STEER_KD) if tick > 0 else f(0.0)
            speed_slot = tick % SPEED_WINDOW
            for g in range(LANES):
                x, y, v = w[_X * LANES + g], w[_Y * LANES + g], w[_V * LANES + g]
                c, s = w[_C * LANES + g], w[_S * LANES + g]
                at = w[_U * LANES + g] + w[_ERROR * LANES + g]
                part = at * _PER_SPACING - w[_SEGMENT * LANES + g]
                dx = w[_AX * LANES + g] + part * (w[_BX * LANES + g] - w[_AX * LANES + g]) - x
                dy = w[_AY * LANES + g] + part * (w[_BY * LANES + g] - w[_AY * LANES + g]) - y
                error = arc_tangent(c * dy - s * dx, c * dx + s * dy) * _PER_HALF_PI
                change = error - w[(_STEERS + STEER_WINDOW - 1) * LANES + g]
                mean = error
                for k in range(STEER_WINDOW - 1):
                    later = w[(_STEERS + k + 1) * LANES + g]
                    w[(_STEERS + k) * LANES + g] = later
                    mean += later
                w[(_STEERS + STEER_WINDOW - 1) * LANES + g] = error
                steer = f(STEER_KP) * error + f(STEER_KI) * (mean * known) + changed * change
                steer = min(max(steer, f(-1.0)), f(1.0))
                wheel = f(STEER_GAIN_RAD) * steer
                z = wheel * wheel
                tangent = wheel * (
                    f(1.0) + z * (f(1 / 3) + z * (f(2 / 15) + z * (f(17 / 315) + z * f(62 / 2835))))
                )
                q = _SLIP * tangent
                slip_cos = f(1.0) / math.sqrt(f(1.0) + q * q)
                slip_sin = q * slip_cos
                move = v * _TICK
                turn = v * _TURN * slip_sin
                z = turn * turn
                turn_cos = f(1.0) - z * (f(0.5) - z * (f(1 / 24) - z * f(1 / 720)))
                turn_sin = turn * (f(1.0) - z * (f(1 / 6) - z * (f(1 / 120) - z * f(1 / 5040))))
                w[_X * LANES + g] = x + move * (c * slip_cos - s * slip_sin)
                w[_Y * LANES + g] = y + move * (s * slip_cos + c * slip_sin)
                w[_C * LANES + g] = c * turn_cos - s * turn_sin
                w[_S * LANES + g] = s * turn_cos + c * turn_sin
                w[_H * LANES + g] = w[_H * LANES + g] + turn
            for g in range(LANES):
                v, wanted = w[_V * LANES + g], w[_WANTED * LANES + g]
                missing = min(max(wanted - v, f(0.0)), f(SPEED_ERROR_CLIP_MPS))
                total = w[_SPEED_SUM * LANES + g] + (missing - missed[speed_slot, g])
                w[_SPEED_SUM * LANES + g] = total
                missed[speed_slot, g] = missing
                throttle = (
                    f(SPEED_KP) * missing
                    + f(SPEED_KI / SPEED_WINDOW) * total
                    + f(SPEED_KD) * (missing - w[_LAST * LANES + g])
                )
                w[_LAST * LANES + g] = missing
                throttle = min(max(throttle, f(0.0)), f(1.0))
                kmh = min(v * f(3.6), f(FITTED_KMH))
                braked = f(0.0)
                for k in range(6, -1, -1):
                    braked = (braked + _B[k]) * kmh
                t = throttle
                driven = (
                    kmh * (_K[0] + kmh * _K[1] + t * (_K[4] + t * _K[5]) + kmh * t * (_K[6] + t * _K[7]))
                    + t * (_K[2] + t * _K[3])
                )  # fmt: skip
                change = driven - kmh if throttle >= f(LEAST_THROTTLE) else f(0.0)
                braking = (wanted < f(BRAKE_SPEED_MPS)) | (v > f(BRAKE_RATIO) * wanted)
                change = braked - kmh if braking else change
                w[_V * LANES + g] = max(f(0.0), v + change * f(1 / 3.6))
            if (tick + 1) % ticks_per_step == 0:
                step = (tick + 1) // ticks_per_step
                for row in range(PATH_ROWS):
                    for g in range(LANES):
                        path[b, step, row, g] = w[row * LANES + g]
