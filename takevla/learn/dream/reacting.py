"""Actors that react: they keep to their recorded course and time unless the ego is in their way.

An actor whose course ahead is taken by the ego (going its way, or standing) follows it by the
intelligent driver model of the world's traffic; freed, it catches up with its record and never
overtakes it.  Where no ego interferes it is its record, to the bit.  One that reacts late leaves its record
only where that would drive through the ego within `FORESIGHT_S`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from takevla.learn.dream.kinematics import LANES, PATH_COS, PATH_SIN, PATH_SPEED, PATH_X, PATH_Y
from takevla.learn.dream.scenes import COURSE_SPACING_M, STEP_S
from takevla.world.traffic import IDM_STANDSTILL_M, SIDE_ROOM_M, idm

VIEW_M = 60.0  # how far along its course an actor looks
SAME_WAY_COS = 0.5  # an ego within 60 deg of the course goes the same way
STANDING_MPS = 0.5  # an ego slower than this blocks the course however it is turned
FORESIGHT_S = 2.0  # a vehicle at 12 m/s stops in it at 6 m/s2
ON_LOG_M = 1e-3  # behind its record by less, an actor is on it

f: Any = np.float32
_FORESIGHT = round(FORESIGHT_S / STEP_S)
_STEP, _PER_SPACING = f(STEP_S), f(1 / COURSE_SPACING_M)


# Rows of the work array: where the course lies at the ego's side, and whether the ego takes it.
_KX, _KY, _KC, _KS, _AHEAD, _ROWS = range(6)


@njit(cache=True, fastmath={"nsz", "arcp", "contract", "afn", "reassoc"}, error_model="numpy")
def react(path, ego, extent, course, logged, late, actors, slot, moved, apart):  # type: ignore[no-untyped-def]
    """Fill `moved` (B, R, T, 5, LANES) x, y, cos, sin, speed of the R actors that react to each lane's ego.

    `course` (R, N, 4), `logged` (R, T, 2) and `late` (R,) as in `scenes.SceneArrays`.  `apart` (B, R, T)
    becomes true where any lane may differ from the record; elsewhere `moved` is left as it is.
    """
    w = np.empty(_ROWS * LANES, np.float32)
    arc, speed = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    for a in range(slot.shape[0]):
        r = slot[a]
        if r < 0:
            continue
        wanted = f(0.0)
        for t in range(logged.shape[1]):
            wanted = max(wanted, logged[r, t, 1])
        bumpers = ego[0] + extent[a, 0]
        side = ego[1] + extent[a, 1] + f(SIDE_ROOM_M)
        for b in range(path.shape[0]):
            on_log = True
            for t in range(path.shape[1]):
                apart[b, r, t] = not on_log
                if on_log:
                    if t + 1 == path.shape[1] or _ahead(w, path, b, t, actors, a) == f(0.0):
                        continue
                    if _hindered(w, path, b, t, course, logged, r, side) == f(0.0):
                        continue
                    for g in range(LANES):
                        arc[g], speed[g] = logged[r, t, 0], logged[r, t, 1]
                _react(
                    path,
                    b,
                    t,
                    course,
                    logged,
                    late[r],
                    actors,
                    a,
                    r,
                    bumpers,
                    side,
                    wanted,
                    arc,
                    speed,
                    moved,
                )
                if t + 1 == path.shape[1]:
                    continue
                on_log = True
                for g in range(LANES):
                    on_log &= arc[g] == logged[r, t + 1, 0] and speed[g] == logged[r, t + 1, 1]


@njit(inline="always")
def _ahead(w, path, b, t, actors, a):  # type: ignore[no-untyped-def]
    """Row `_AHEAD` becomes how far (m) each lane's ego is ahead of an actor's record; how many it sees."""
    x, y, c, s = actors[t, a, 0], actors[t, a, 1], actors[t, a, 2], actors[t, a, 3]
    seen = f(0.0)
    for g in range(LANES):
        ahead = (path[b, t, PATH_X, g] - x) * c + (path[b, t, PATH_Y, g] - y) * s
        w[_AHEAD * LANES + g] = ahead
        seen += f(1.0) if (ahead > f(0.0)) & (ahead < f(VIEW_M)) else f(0.0)
    return seen


@njit(inline="always")
def _hindered(w, path, b, t, course, logged, r, side):  # type: ignore[no-untyped-def]
    """In how many lanes the ego takes the course ahead of an actor that is on its record in all."""
    arc, last = logged[r, t, 0], course.shape[1] - 1
    for g in range(LANES):
        k = max(min(int((arc + w[_AHEAD * LANES + g]) * _PER_SPACING + f(0.5)), last), 0)
        w[_KX * LANES + g], w[_KY * LANES + g] = course[r, k, 0], course[r, k, 1]
        w[_KC * LANES + g], w[_KS * LANES + g] = course[r, k, 2], course[r, k, 3]
    hindered = f(0.0)
    for g in range(LANES):
        kc, ks, ahead = w[_KC * LANES + g], w[_KS * LANES + g], w[_AHEAD * LANES + g]
        ex = path[b, t, PATH_X, g] - w[_KX * LANES + g]
        ey = path[b, t, PATH_Y, g] - w[_KY * LANES + g]
        same = path[b, t, PATH_COS, g] * kc + path[b, t, PATH_SIN, g] * ks
        takes = (abs(ey * kc - ex * ks) < side) & (ahead > f(0.0)) & (ahead < f(VIEW_M))
        takes &= (same > f(SAME_WAY_COS)) | (path[b, t, PATH_SPEED, g] < f(STANDING_MPS))
        hindered += f(1.0) if takes else f(0.0)
    return hindered


@njit(inline="always")
def _react(  # type: ignore[no-untyped-def]
    path, b, t, course, logged, late, actors, a, r, bumpers, side, wanted, arc, speed, moved
):
    """Put an actor where `arc` says at instant `t`, lane by lane; move `arc` and `speed` on to the next."""
    last = course.shape[1] - 1
    for g in range(LANES):
        behind = logged[r, t, 0] - arc[g]
        x, y, c, s, v = actors[t, a, 0], actors[t, a, 1], actors[t, a, 2], actors[t, a, 3], actors[t, a, 4]
        if behind > f(ON_LOG_M):
            k = min(int(arc[g] * _PER_SPACING), last)
            part = arc[g] - f(k) * f(COURSE_SPACING_M)
            c, s, v = course[r, k, 2], course[r, k, 3], speed[g]
            x, y = course[r, k, 0] + part * c, course[r, k, 1] + part * s
        moved[b, r, t, 0, g], moved[b, r, t, 1, g] = x, y
        moved[b, r, t, 2, g], moved[b, r, t, 3, g], moved[b, r, t, 4, g] = c, s, v
        if t + 1 == path.shape[1]:
            continue
        dx, dy = path[b, t, PATH_X, g] - x, path[b, t, PATH_Y, g] - y
        ahead = dx * c + dy * s
        gap, leader = f(math.inf), f(0.0)
        if ahead > f(0.0) and ahead < f(VIEW_M):
            k = min(int((arc[g] + ahead) * _PER_SPACING + f(0.5)), last)
            kc, ks = course[r, k, 2], course[r, k, 3]
            ex, ey = path[b, t, PATH_X, g] - course[r, k, 0], path[b, t, PATH_Y, g] - course[r, k, 1]
            same = path[b, t, PATH_COS, g] * kc + path[b, t, PATH_SIN, g] * ks
            v = path[b, t, PATH_SPEED, g]
            if abs(ey * kc - ex * ks) < side and (same > f(SAME_WAY_COS) or v < f(STANDING_MPS)):
                gap, leader = ahead - bumpers, v * max(same, f(0.0))
        if late and behind <= f(ON_LOG_M):
            then = min(t + _FORESIGHT, logged.shape[1] - 1)
            reach = leader * f(then - t) * _STEP
            if logged[r, then, 0] - arc[g] < gap + reach:
                gap = f(math.inf)
        if gap == f(math.inf) and behind <= f(ON_LOG_M):
            arc[g], speed[g] = logged[r, t + 1, 0], logged[r, t + 1, 1]
            continue
        change = f(idm(speed[g], wanted, gap, leader, IDM_STANDSTILL_M)) * _STEP
        before = arc[g]
        arc[g] = min(before + max(speed[g] + change, f(0.0)) * _STEP, logged[r, t + 1, 0])
        speed[g] = (arc[g] - before) / _STEP
