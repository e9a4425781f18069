"""Turns a plan into steer, throttle and brake, tick by tick, while the plan ages.

The law is SimLingo's (benchmark facts 2.8) with steering positive to the left:

- speed: the displacement over half a second of the waypoints is the desired speed; a proportional,
  integral and derivative law on the missing speed gives throttle, full brake when far too fast;
- steer: the heading error towards a point of the route some metres ahead, growing with speed.

A plan is made for the pose at which it was asked for and is then executed for several ticks.
Between plans the controller takes the world's own ego pose (`World.ego`), projects it on the
route and measures the look-ahead from there, and slides the window over the waypoints by the
plan's age, so that a plan at 4 Hz steers as one at 20 Hz does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from takevla.scene.plan import ROUTE_POINTS, SPEED_WAYPOINTS, WAYPOINT_PERIOD_US, Plan
from takevla.scene.scene import TICK_US, Controls, Ego

F64 = NDArray[np.float64]

# Longitudinal law (benchmark facts 2.8).
BRAKE_SPEED_MPS = 0.4  # a desired speed below this means: stand
BRAKE_RATIO = 1.1  # speed over desired speed above which the brake is pressed
SPEED_ERROR_CLIP_MPS = 1.0
SPEED_KP, SPEED_KI, SPEED_KD = 1.75, 1.0, 2.0
SPEED_WINDOW = 20  # ticks over which the integral averages
# Lateral law (benchmark facts 2.8).
STEER_KP, STEER_KI, STEER_KD = 3.1184, 0.6406, 1.3783
STEER_WINDOW = 6
LOOKAHEAD_PER_KMH_M = 0.09755
LOOKAHEAD_OFFSET_M = 0.19153
LOOKAHEAD_MIN_M, LOOKAHEAD_MAX_M = 2.4, 10.5

TICK_S = TICK_US * 1e-6
WAYPOINT_S = WAYPOINT_PERIOD_US * 1e-6
_STEER_AT = 0  # layout of the state vector: steer errors, their count, speed errors, last speed error
_COUNT_AT = STEER_WINDOW
_SPEED_AT = STEER_WINDOW + 1
STATE_SIZE = _SPEED_AT + SPEED_WINDOW
POSE_SIZE = 3  # x, y, heading


@njit(cache=True)
def desired_speed(waypoints: F64, age_s: float) -> float:
    """The speed (m/s) that (K, 2) waypoints ask for when the plan is `age_s` old.

    At age 0 it is the displacement between waypoints 0 and 2, times two; later the window of half
    a second slides along the polyline of waypoints, and rests at its end.
    """
    last = waypoints.shape[0] - 1
    start = min(age_s / WAYPOINT_S, last - 2.0)
    i = int(start)
    part = start - i
    ax = waypoints[i, 0] + part * (waypoints[i + 1, 0] - waypoints[i, 0])
    ay = waypoints[i, 1] + part * (waypoints[i + 1, 1] - waypoints[i, 1])
    j = min(i + 3, last)
    bx = waypoints[i + 2, 0] + part * (waypoints[j, 0] - waypoints[i + 2, 0])
    by = waypoints[i + 2, 1] + part * (waypoints[j, 1] - waypoints[i + 2, 1])
    return math.hypot(bx - ax, by - ay) / (2.0 * WAYPOINT_S)


@njit(cache=True)
def aim_point(route: F64, x: float, y: float, ahead_m: float) -> tuple[float, float]:
    """The point `ahead_m` along the (R, 2) route from the projection of (x, y) on it.

    The route is prolonged straight by one step before its first point and without end after its last.
    """
    n = route.shape[0]
    best = 1e18
    best_i = -1
    best_t = 0.0
    px = 2.0 * route[0, 0] - route[1, 0]
    py = 2.0 * route[0, 1] - route[1, 1]
    for i in range(n):
        qx, qy = route[i, 0], route[i, 1]
        dx, dy = qx - px, qy - py
        length2 = dx * dx + dy * dy
        if length2 > 1e-9:
            t = ((x - px) * dx + (y - py) * dy) / length2
            t = min(max(t, 0.0), 1.0)
            d2 = (px + t * dx - x) ** 2 + (py + t * dy - y) ** 2
            if d2 < best:
                best, best_i, best_t = d2, i, t
        px, py = qx, qy
    if best_i < 0:  # a route without length: aim straight on from where it lies
        return route[n - 1, 0] + ahead_m, route[n - 1, 1]
    left = ahead_m
    for i in range(best_i, n):
        if i == 0:
            px, py = 2.0 * route[0, 0] - route[1, 0], 2.0 * route[0, 1] - route[1, 1]
        else:
            px, py = route[i - 1, 0], route[i - 1, 1]
        dx, dy = route[i, 0] - px, route[i, 1] - py
        length = math.hypot(dx, dy)
        if i == best_i:
            px, py = px + best_t * dx, py + best_t * dy
            dx, dy = route[i, 0] - px, route[i, 1] - py
            length = math.hypot(dx, dy)
        if length >= left and length > 1e-9:
            return px + dx * left / length, py + dy * left / length
        left -= length
    dx, dy = route[n - 1, 0] - route[n - 3, 0], route[n - 1, 1] - route[n - 3, 1]
    length = math.hypot(dx, dy)
    if length < 1e-6:
        return route[n - 1, 0], route[n - 1, 1]
    return route[n - 1, 0] + dx / length * left, route[n - 1, 1] + dy / length * left


@njit(cache=True)
def control_step(
    state: F64, route: F64, waypoints: F64, moved: F64, speed_mps: float, age_s: float
) -> tuple[float, float, float]:
    """One tick of the law: (steer, throttle, brake).  Kernels of dreams call it as it is.

    Args:
        state: (STATE_SIZE,) error histories, all zero at the start of a route; updated in place.
        route: (R, 2) route points in the frame of the plan, m.
        waypoints: (K, 2) speed waypoints in the frame of the plan, m.
        moved: (3,) the ego's pose in the frame of the plan: x, y in m, heading in rad.
        speed_mps: the ego's speed.
        age_s: time since the plan's observation.
    """
    ahead = LOOKAHEAD_PER_KMH_M * speed_mps * 3.6 + LOOKAHEAD_OFFSET_M
    ahead = min(max(ahead, LOOKAHEAD_MIN_M), LOOKAHEAD_MAX_M)
    px, py = aim_point(route, moved[0], moved[1], ahead)
    error = math.atan2(py - moved[1], px - moved[0]) - moved[2]
    error = (error + math.pi) % (2.0 * math.pi) - math.pi
    error /= math.pi / 2.0
    count = int(state[_COUNT_AT])
    if count == STEER_WINDOW:
        for k in range(STEER_WINDOW - 1):
            state[_STEER_AT + k] = state[_STEER_AT + k + 1]
        count -= 1
    state[_STEER_AT + count] = error
    count += 1
    state[_COUNT_AT] = count
    mean = 0.0
    for k in range(count):
        mean += state[_STEER_AT + k]
    mean /= count
    change = state[_STEER_AT + count - 1] - state[_STEER_AT + count - 2] if count > 1 else 0.0
    steer = STEER_KP * error + STEER_KI * mean + STEER_KD * change
    steer = min(max(steer, -1.0), 1.0)

    wanted = desired_speed(waypoints, age_s)
    missing = min(max(wanted - speed_mps, 0.0), SPEED_ERROR_CLIP_MPS)
    mean = 0.0
    for k in range(SPEED_WINDOW - 1):
        state[_SPEED_AT + k] = state[_SPEED_AT + k + 1]
        mean += state[_SPEED_AT + k]
    last = state[_SPEED_AT + SPEED_WINDOW - 1]
    state[_SPEED_AT + SPEED_WINDOW - 1] = missing
    mean = (mean + missing) / SPEED_WINDOW
    if wanted < BRAKE_SPEED_MPS or speed_mps > BRAKE_RATIO * wanted:
        return steer, 0.0, 1.0
    throttle = SPEED_KP * missing + SPEED_KI * mean + SPEED_KD * (missing - last)
    return steer, min(max(throttle, 0.0), 1.0), 0.0


@njit(cache=True)
def _relative(pose: F64, x: float, y: float, heading: float, out: F64) -> None:
    dx, dy = x - pose[0], y - pose[1]
    c, s = math.cos(pose[2]), math.sin(pose[2])
    out[0] = c * dx + s * dy
    out[1] = -s * dx + c * dy
    out[2] = heading - pose[2]


@dataclass(frozen=True)
class ControllerState:
    """A copy of everything a controller remembers; `Controller.restore` of it continues bit-identically."""

    memory: F64  # (STATE_SIZE,)
    route: F64  # (20, 2)
    waypoints: F64  # (10, 2)
    pose: F64  # (3,) where the plan was made, world
    age_ticks: int
    has_plan: bool


class Controller:
    """Follows the latest plan of one seat.  Brakes as long as there is none."""

    def __init__(self) -> None:
        self._memory = np.zeros(STATE_SIZE)
        self._route = np.zeros((ROUTE_POINTS, 2))
        self._waypoints = np.zeros((SPEED_WAYPOINTS, 2))
        self._pose = np.zeros(POSE_SIZE)
        self._moved = np.zeros(POSE_SIZE)
        self._age_ticks = 0
        self._has_plan = False

    def reset(self) -> None:
        """Forget the plan and all errors: a new route starts."""
        self._memory[:] = 0.0
        self._age_ticks = 0
        self._has_plan = False

    def follow(self, plan: Plan, ego: Ego) -> None:
        """Execute `plan` from now on; `ego` is the ego as it was observed for this plan.

        Raises:
            ValueError: the plan holds a number that is not finite, or has another shape.
        """
        if plan.route_ego.shape != self._route.shape or plan.waypoints_ego.shape != self._waypoints.shape:
            raise ValueError(
                f"plan has route {plan.route_ego.shape} and waypoints {plan.waypoints_ego.shape}; "
                f"the controller needs {self._route.shape} and {self._waypoints.shape}"
            )
        self._route[:] = plan.route_ego
        self._waypoints[:] = plan.waypoints_ego
        if not (np.isfinite(self._route).all() and np.isfinite(self._waypoints).all()):
            raise ValueError("plan holds numbers that are not finite; the driver that made it is broken")
        self._pose[0] = ego.position_world[0]
        self._pose[1] = ego.position_world[1]
        self._pose[2] = ego.heading_rad
        self._age_ticks = 0
        self._has_plan = True

    def control(self, ego: Ego) -> Controls:
        """Pedals and wheel for the tick that starts with `ego`."""
        if not self._has_plan:
            return Controls(brake=1.0)
        position: Any = ego.position_world
        _relative(self._pose, float(position[0]), float(position[1]), ego.heading_rad, self._moved)
        steer, throttle, brake = control_step(
            self._memory,
            self._route,
            self._waypoints,
            self._moved,
            ego.speed_mps,
            self._age_ticks * TICK_S,
        )
        self._age_ticks += 1
        return Controls(steer, throttle, brake)

    def snapshot(self) -> ControllerState:
        """A copy of the whole state."""
        return ControllerState(
            self._memory.copy(),
            self._route.copy(),
            self._waypoints.copy(),
            self._pose.copy(),
            self._age_ticks,
            self._has_plan,
        )

    def restore(self, state: ControllerState) -> None:
        """Go back to `state`."""
        self._memory[:] = state.memory
        self._route[:] = state.route
        self._waypoints[:] = state.waypoints
        self._pose[:] = state.pose
        self._age_ticks = state.age_ticks
        self._has_plan = state.has_plan
