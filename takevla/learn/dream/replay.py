"""Drive a record again, exactly as the world does: applied controls, or recorded plans one after another.

These run in float64 on the world's own functions, tick by tick; they are what dreams are held against.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from takevla.driver.controller import STATE_SIZE, control_step
from takevla.world.dynamics import next_pose, next_speed

Float64 = NDArray[np.float64]


@njit(cache=True)
def drive_controls(pose, speed, controls, out):  # type: ignore[no-untyped-def]
    """Fill `out` (N + 1, 4) x, y, heading, speed under `controls` (N, 3) of N ticks, from `pose` (3,)."""
    x, y, heading, v = pose[0], pose[1], pose[2], speed
    out[0, 0], out[0, 1], out[0, 2], out[0, 3] = x, y, heading, v
    for tick in range(controls.shape[0]):
        x, y, heading = next_pose(x, y, heading, v, controls[tick, 0])
        v = next_speed(v, controls[tick, 1], controls[tick, 2])
        out[tick + 1, 0], out[tick + 1, 1], out[tick + 1, 2], out[tick + 1, 3] = x, y, heading, v


@njit(cache=True)
def drive_plans(routes, waypoints, frames, begins, speed, ticks_per_step, tick_s, out):  # type: ignore[no-untyped-def]
    """Fill `out` (T, 4) from the origin at `speed`, following P recorded plans one after another.

    Plan p (routes (P, 20, 2), waypoints (P, 10, 2)) was made at pose `frames` (P, 3) and is followed from
    tick `begins` (P,) on, the first from tick 0.
    """
    state = np.zeros(STATE_SIZE)
    moved = np.zeros(3)
    x, y, heading, v = 0.0, 0.0, 0.0, speed
    out[0, 0], out[0, 1], out[0, 2], out[0, 3] = x, y, heading, v
    p = 0
    for tick in range((out.shape[0] - 1) * ticks_per_step):
        while p + 1 < begins.shape[0] and begins[p + 1] <= tick:
            p += 1
        dx, dy = x - frames[p, 0], y - frames[p, 1]
        c, s = math.cos(frames[p, 2]), math.sin(frames[p, 2])
        moved[0], moved[1], moved[2] = c * dx + s * dy, c * dy - s * dx, heading - frames[p, 2]
        age = (tick - begins[p]) * tick_s
        steer, throttle, brake = control_step(state, routes[p], waypoints[p], moved, v, age)
        x, y, heading = next_pose(x, y, heading, v, steer)
        v = next_speed(v, throttle, brake)
        if (tick + 1) % ticks_per_step == 0:
            t = (tick + 1) // ticks_per_step
            out[t, 0], out[t, 1], out[t, 2], out[t, 3] = x, y, heading, v


@njit(cache=True)
def follow_plan(state, route, waypoints, pose, ticks_per_step, tick_s, out):  # type: ignore[no-untyped-def]
    """Fill `out` (T, 4) with the steps after `pose` (4,) x, y, heading, speed under a plan made there.

    `state` (STATE_SIZE,) is the controller's memory and is carried on.
    """
    moved = np.zeros(3)
    x, y, heading, v = pose[0], pose[1], pose[2], pose[3]
    c, s = math.cos(heading), math.sin(heading)
    for tick in range(out.shape[0] * ticks_per_step):
        dx, dy = x - pose[0], y - pose[1]
        moved[0], moved[1], moved[2] = c * dx + s * dy, c * dy - s * dx, heading - pose[2]
        steer, throttle, brake = control_step(state, route, waypoints, moved, v, tick * tick_s)
        x, y, heading = next_pose(x, y, heading, v, steer)
        v = next_speed(v, throttle, brake)
        if (tick + 1) % ticks_per_step == 0:
            t = (tick + 1) // ticks_per_step - 1
            out[t, 0], out[t, 1], out[t, 2], out[t, 3] = x, y, heading, v


def replay_error(
    pose: Float64, speed_mps: float, controls: Float64, recorded: Float64
) -> tuple[float, float]:
    """Greatest distance (m) and heading difference (deg) between a record (N + 1, 3) and its replay.

    Rows of the record that are not a number were not recorded.
    """
    out = np.empty((len(controls) + 1, 4))
    drive_controls(pose, speed_mps, controls, out)
    away = np.hypot(out[:, 0] - recorded[:, 0], out[:, 1] - recorded[:, 1])
    turned = np.abs((out[:, 2] - recorded[:, 2] + np.pi) % (2 * np.pi) - np.pi)
    return float(np.nanmax(away)), float(np.degrees(np.nanmax(turned)))
