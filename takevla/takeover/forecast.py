"""What will happen if a plan is driven on.

The ego moves by plan, controller and dynamics, the others by constant control.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from takevla.driver.controller import POSE_SIZE, STATE_SIZE, control_step
from takevla.scene.actors import ActorKind
from takevla.scene.geometry import boxes_overlap, wrap_angle
from takevla.scene.plan import Plan
from takevla.scene.scene import Scene
from takevla.world.dynamics import TICK_S, next_pose, next_speed

F64 = NDArray[np.float64]

NEAR_M: Final = 60.0  # actors farther away than this cannot be met within a forecast
FOLLOWER_HEADING_RAD: Final = math.radians(45.0)  # an actor behind with this heading error follows the ego
STANDING_MPS: Final = 0.5  # an ego this slow at the contact does not cause it


@dataclass(frozen=True, slots=True)
class Contact:
    """The first overlap of a forecast."""

    actor: int  # row of the scene's actors
    time_s: float
    speed_mps: float  # the ego's speed then


@njit(cache=True)
def ego_forecast(route: F64, waypoints: F64, speed_mps: float, ticks: int) -> F64:
    """Poses of the ego under a plan, in the frame of the plan: (ticks, 5) x, y, heading, speed, steer.

    The controller starts without memory, as for the first plan of a route.
    """
    state = np.zeros(STATE_SIZE)
    moved = np.zeros(POSE_SIZE)
    out = np.empty((ticks, 5))
    for tick in range(ticks):
        steer, throttle, brake = control_step(state, route, waypoints, moved, speed_mps, tick * TICK_S)
        speed_mps = next_speed(speed_mps, throttle, brake)
        moved[0], moved[1], moved[2] = next_pose(moved[0], moved[1], moved[2], speed_mps, steer)
        out[tick, 0], out[tick, 1], out[tick, 2] = moved[0], moved[1], moved[2]
        out[tick, 3], out[tick, 4] = speed_mps, steer
    return out


@njit(cache=True)
def first_overlap(forecast: F64, length_m: float, width_m: float, others: F64, followers: Any) -> Any:
    """First tick and actor whose boxes overlap: (tick, actor), (-1, -1) for none.

    Args:
        forecast: (T, 5) of `ego_forecast`.
        length_m: of the ego.
        width_m: of the ego.
        others: (A, 8) x, y, heading, speed, acceleration, yaw rate, length, width in the same frame.
        followers: (A,) bool, actors that are left out.
    """
    state = others.copy()
    for tick in range(forecast.shape[0]):
        for actor in range(state.shape[0]):
            row = state[actor]
            speed = row[3]
            if speed != 0.0:
                row[0] += speed * math.cos(row[2]) * TICK_S
                row[1] += speed * math.sin(row[2]) * TICK_S
                row[2] += row[5] * TICK_S
            if speed > 0.0 or (speed == 0.0 and row[4] > 0.0):
                row[3] = max(0.0, speed + row[4] * TICK_S)
            if followers[actor] or forecast[tick, 3] < STANDING_MPS:
                continue
            if boxes_overlap(
                forecast[tick, 0], forecast[tick, 1], forecast[tick, 2], length_m, width_m,
                row[0], row[1], row[2], row[6], row[7],
            ):  # fmt: skip
                return tick, actor
    return -1, -1


def plan_forecast(plan: Plan, speed_mps: float, horizon_s: float) -> F64:
    """`ego_forecast` of a plan over `horizon_s`: (T, 5)."""
    route = np.asarray(plan.route_ego, np.float64)
    waypoints = np.asarray(plan.waypoints_ego, np.float64)
    return ego_forecast(route, waypoints, speed_mps, round(horizon_s / TICK_S))


def actors_ego(scene: Scene) -> tuple[F64, NDArray[np.intp]]:
    """Actors near the ego in its frame: (A, 8) as `first_overlap` takes them, and their rows in the scene."""
    actors, ego = scene.actors, scene.ego
    offset = actors.position_world[:, :2].astype(np.float64) - ego.position_world[:2]
    rows = np.flatnonzero(actors.valid & (np.abs(offset).max(axis=1, initial=0.0) < NEAR_M))
    dx, dy = offset[rows, 0], offset[rows, 1]
    cos, sin = math.cos(ego.heading_rad), math.sin(ego.heading_rad)
    walker = actors.kind[rows] == ActorKind.PEDESTRIAN
    columns = [
        cos * dx + sin * dy,
        cos * dy - sin * dx,
        wrap_angle(actors.heading_rad[rows].astype(np.float64) - ego.heading_rad),  # type: ignore[no-untyped-call]
        actors.speed_mps[rows],
        np.where(walker, 0.0, actors.acceleration_mps2[rows]),
        np.where(walker, 0.0, actors.yaw_rate_radps[rows]),
        actors.extent_m[rows, 0],
        actors.extent_m[rows, 1],
    ]
    return np.ascontiguousarray(np.stack(columns, axis=1).astype(np.float64)), rows


def first_contact(forecast: F64, scene: Scene) -> Contact | None:
    """The first contact of a forecast with an actor, None if there is none.

    Actors behind that drive the same way are left out (they see the ego and brake), and so is a
    contact at which the ego stands.
    """
    others, rows = actors_ego(scene)
    if len(rows) == 0:
        return None
    length, width = float(scene.ego.extent_m[0]), float(scene.ego.extent_m[1])
    behind = others[:, 0] + 0.5 * others[:, 6] < 0.5 * length - 1.0
    followers = behind & (np.abs(others[:, 2]) < FOLLOWER_HEADING_RAD)
    tick, actor = first_overlap(forecast, length, width, others, followers)
    if tick < 0:
        return None
    return Contact(int(rows[actor]), (tick + 1) * TICK_S, float(forecast[tick, 3]))
