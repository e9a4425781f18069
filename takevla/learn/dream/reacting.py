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


@njit(cache=True, fastmath={"nsz", "arcp", "contract", "afn", "reassoc"}, error_model="numpy")
def react(path, ego, extent, course, logged, late, actors, slot, moved):  # type: ignore[no-untyped-def]
    """Fill `moved` (B, R, T, 5, LANES) x, y, cos, sin, speed of the R actors that react to each lane's ego.

    `course` (R, N, 4), `logged` (R, T, 2) and `late` (R,) as in `scenes.SceneArrays`.
    """
    for a in range(slot.shape[0]):
        r = slot[a]
        if r < 0:
            continue
        wanted = f(0.0)
        for t in range(logged.shape[1]):
            wanted = max(wanted, logged[r, t, 1])
        for b in range(path.shape[0]):
            _react(path, b, ego, extent[a], course, logged, late[r], actors, a, r, wanted, moved)


@njit(inline="always")
def _react(path, b, ego, extent, course, logged, late, actors, a, r, wanted, moved):  # type: ignore[no-untyped-def]
    arc = np.empty(LANES, np.float32)
    speed = np.empty(LANES, np.float32)
    last = course.shape[1] - 1
    bumpers = ego[0] + extent[0]
    side = ego[1] + extent[1] + f(SIDE_ROOM_M)
    for g in range(LANES):
        arc[g], speed[g] = logged[r, 0, 0], logged[r, 0, 1]
    for t in range(path.shape[1]):
        for row in range(5):
            value = actors[t, a, row]
            for g in range(LANES):
                moved[b, r, t, row, g] = value
        for g in range(LANES):
            behind = logged[r, t, 0] - arc[g]
            x, y, c, s = actors[t, a, 0], actors[t, a, 1], actors[t, a, 2], actors[t, a, 3]
            if behind > f(ON_LOG_M):
                k = min(int(arc[g] * _PER_SPACING), last)
                part = arc[g] - f(k) * f(COURSE_SPACING_M)
                c, s = course[r, k, 2], course[r, k, 3]
                x, y = course[r, k, 0] + part * c, course[r, k, 1] + part * s
                moved[b, r, t, 0, g], moved[b, r, t, 1, g] = x, y
                moved[b, r, t, 2, g], moved[b, r, t, 3, g] = c, s
                moved[b, r, t, 4, g] = speed[g]
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
