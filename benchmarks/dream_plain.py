"""The work of a dream as lean NumPy over a batch, to compare the kernels with.

The roll-out is vectorised over plans with a Python loop over ticks; contacts and time-to-collision are
asked of shapely's vectorised predicates, progress and lane keeping of its linear referencing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from takevla.driver import controller as law
from takevla.learn.dream import comfort as limits
from takevla.learn.dream.checks import TTC_OFFSETS, TTC_SPACING_STEPS
from takevla.learn.dream.kinematics import prolong
from takevla.learn.dream.scenes import CELL_M, DRIVABLE, RASTER_BEHIND_M, RASTER_SIDE_M, STEP_S, DreamScene
from takevla.learn.dream.simulate import TICKS_PER_STEP
from takevla.world import dynamics
from takevla.world.criteria import TAIL_SHARE

Float64 = NDArray[np.float64]
PROLONGED_TO = 60  # points of a route, 1 m apart


def roll_out(scene: DreamScene, routes: Float64, waypoints: Float64, steps: int) -> Float64:
    """(G, steps + 1, 4) x, y, heading, speed."""
    plans = len(routes)
    lines = np.empty((plans, PROLONGED_TO, 2), np.float32)
    for route, line in zip(routes.astype(np.float32), lines, strict=True):
        prolong(route, scene.way, line)
    road = lines.astype(np.float64)
    segment = np.diff(road, axis=1)
    length = np.maximum(np.linalg.norm(segment, axis=-1), 1e-9)
    arc = np.concatenate([np.zeros((plans, 1)), length.cumsum(1)], axis=1)
    x, y, heading = np.zeros((3, plans))
    v = np.full(plans, scene.ego_speed_mps)
    steers: list[Float64] = []
    missed = [np.zeros(plans)] * law.SPEED_WINDOW
    out = np.zeros((plans, steps + 1, 4))
    out[:, 0, 3] = v
    every = np.arange(plans)
    for tick in range(steps * TICKS_PER_STEP):
        away = np.stack([x, y], -1)[:, None] - road[:, :-1]
        share = np.clip((away * segment).sum(-1) / length**2, 0.0, 1.0)
        nearest = (np.square(away - share[..., None] * segment).sum(-1)).argmin(1)
        ahead = law.LOOKAHEAD_PER_KMH_M * v * 3.6 + law.LOOKAHEAD_OFFSET_M
        at = arc[every, nearest] + share[every, nearest] * length[every, nearest]
        at += np.clip(ahead, law.LOOKAHEAD_MIN_M, law.LOOKAHEAD_MAX_M)
        k = np.minimum((arc <= at[:, None]).sum(1) - 1, segment.shape[1] - 1)
        aim = road[every, k] + segment[every, k] * ((at - arc[every, k]) / length[every, k])[:, None]
        error = np.arctan2(aim[:, 1] - y, aim[:, 0] - x) - heading
        error = ((error + np.pi) % (2 * np.pi) - np.pi) / (np.pi / 2)
        steers = [*steers, error][-law.STEER_WINDOW :]
        change = steers[-1] - steers[-2] if len(steers) > 1 else 0.0
        steer = law.STEER_KP * error + law.STEER_KI * np.mean(steers, axis=0) + law.STEER_KD * change
        steer = np.clip(steer, -1.0, 1.0)
        age = min(tick * law.TICK_S / law.WAYPOINT_S, waypoints.shape[1] - 3.0)
        i, part = int(age), age - int(age)
        j = min(i + 3, waypoints.shape[1] - 1)
        a = waypoints[:, i] + part * (waypoints[:, i + 1] - waypoints[:, i])
        b = waypoints[:, i + 2] + part * (waypoints[:, j] - waypoints[:, i + 2])
        wanted = np.linalg.norm(b - a, axis=1) / (2 * law.WAYPOINT_S)
        missing = np.clip(wanted - v, 0.0, law.SPEED_ERROR_CLIP_MPS)
        missed = [*missed[1:], missing]
        throttle = law.SPEED_KP * missing + law.SPEED_KI * np.mean(missed, axis=0)
        throttle = np.clip(throttle + law.SPEED_KD * (missing - missed[-2]), 0.0, 1.0)
        slip = np.arctan(
            dynamics.REAR_WHEELBASE_M
            / (dynamics.FRONT_WHEELBASE_M + dynamics.REAR_WHEELBASE_M)
            * np.tan(dynamics.STEER_GAIN_RAD * steer)
        )
        x = x + v * np.cos(heading + slip) * law.TICK_S
        y = y + v * np.sin(heading + slip) * law.TICK_S
        heading = heading + v / dynamics.REAR_WHEELBASE_M * np.sin(slip) * law.TICK_S
        kmh, t, c = np.minimum(v * 3.6, dynamics.FITTED_KMH), throttle, dynamics.THROTTLE_FIT
        braked = sum(fit * kmh ** (n + 1) for n, fit in enumerate(dynamics.BRAKE_FIT))
        features = [kmh, kmh**2, t, t**2, kmh * t, kmh * t**2, kmh**2 * t, kmh**2 * t**2]
        driven = sum(fit * feature for fit, feature in zip(c, features, strict=True))
        change = np.where(throttle >= dynamics.LEAST_THROTTLE, driven - kmh, 0.0)
        brakes = (wanted < law.BRAKE_SPEED_MPS) | (v > law.BRAKE_RATIO * wanted)
        v = np.maximum(v + np.where(brakes, braked - kmh, change) / 3.6, 0.0)
        if (tick + 1) % TICKS_PER_STEP == 0:
            out[:, (tick + 1) // TICKS_PER_STEP] = np.stack([x, y, heading, v], axis=1)
    return out


def boxes(x: Any, y: Any, heading: Any, length: Any, width: Any) -> Any:
    """Polygons of boxes, any shape that broadcasts."""
    corners = np.array([[0.5, 0.5], [-0.5, 0.5], [-0.5, -0.5], [0.5, -0.5]])
    u, w = np.asarray(length)[..., None] * corners[:, 0], np.asarray(width)[..., None] * corners[:, 1]
    cos, sin = np.cos(heading)[..., None], np.sin(heading)[..., None]
    rings = np.stack([x[..., None] + cos * u - sin * w, y[..., None] + sin * u + cos * w], axis=-1)
    return shapely.polygons(np.concatenate([rings, rings[..., :1, :]], axis=-2))


def measure(scene: DreamScene, path: Float64) -> dict[str, NDArray[Any]]:
    """First contact and time-to-collision alarm, off the road, lines, progress and lane keeping."""
    plans, instants, _ = path.shape
    length, width = (float(value) for value in scene.ego_extent_m)
    pose, extent = scene.actor_pose.astype(np.float64), scene.actor_extent_m.astype(np.float64)
    others = boxes(pose[..., 0], pose[..., 1], pose[..., 2], extent[:, 0], extent[:, 1])
    x, y, heading, v = np.moveaxis(path, -1, 0)
    collision, ttc = np.full((2, plans), np.inf)
    for t in range(instants - 1, 0, -1):
        for offset in range(TTC_OFFSETS):
            k = t + offset * TTC_SPACING_STEPS
            if k >= instants:
                break
            far = offset * TTC_SPACING_STEPS * STEP_S * v[:, t]
            ego = boxes(
                x[:, t] + far * np.cos(heading[:, t]), y[:, t] + far * np.sin(heading[:, t]), heading[:, t],
                length, width,
            )  # fmt: skip
            hit = shapely.intersects(ego[:, None], others[k][None]).any(axis=1)
            ttc[hit] = t * STEP_S
            if offset == 0:
                collision[hit] = t * STEP_S
    rings = shapely.get_coordinates(boxes(x, y, heading, length, width)).reshape(plans, instants, 5, 2)
    column = ((rings[..., 0] + RASTER_BEHIND_M) / CELL_M).astype(int)
    row = ((rings[..., 1] + RASTER_SIDE_M) / CELL_M).astype(int)
    off = (scene.raster[row, column] & DRIVABLE == 0).any(axis=-1)
    behind = 0.5 * TAIL_SHARE * length
    tail = np.stack([x - behind * np.cos(heading), y - behind * np.sin(heading)], axis=-1)
    moves = shapely.linestrings(np.stack([tail[:, :-1], tail[:, 1:]], axis=2))
    lines = shapely.linestrings(scene.stop_lines.reshape(-1, 2, 2).astype(np.float64))
    crossed = shapely.intersects(moves[..., None], lines) & scene.stop_closed[1:instants]
    course = shapely.linestrings(scene.route.astype(np.float64))
    points = shapely.points(x, y)
    beside = shapely.distance(points, course)
    progress = shapely.line_locate_point(course, points[:, -1])
    return {
        "collision_s": collision, "ttc_s": ttc, "off": off, "crossed": crossed, "beside": beside,
        "progress_m": progress,
    }  # fmt: skip


def comfort(path: Float64) -> Float64:
    """(G,) share of steps inside all six comfort limits."""
    samples = path.shape[1] - 1
    smooth = limits.smoothing(samples, limits.ACCELERATION_WINDOW, 0).T
    slope = limits.smoothing(samples, limits.JERK_WINDOW, 1).T
    heading, speed = path[..., 2], path[..., 3]
    rate = np.diff(heading, axis=1) / STEP_S
    along = (np.diff(speed, axis=1) / STEP_S) @ smooth
    across = (0.5 * (speed[:, 1:] + speed[:, :-1]) * rate) @ smooth
    low, high = limits.LON_ACCELERATION_MPS2
    fine = (along > low) & (along < high) & (np.abs(across) < limits.LAT_ACCELERATION_MPS2)
    fine &= np.abs(along @ slope) < limits.LON_JERK_MPS3
    fine &= np.abs(np.hypot(along, across) @ slope) < limits.JERK_MPS3
    fine &= np.abs(rate @ smooth) < limits.YAW_RATE_RADPS
    fine &= np.abs(rate @ slope) < limits.YAW_ACCELERATION_RADPS2
    return np.asarray(fine.mean(axis=1))


def full(scene: DreamScene, routes: Float64, waypoints: Float64, steps: int) -> dict[str, NDArray[Any]]:
    """Roll out and measure."""
    path = roll_out(scene, routes, waypoints, steps)
    found = measure(scene, path)
    found["path"] = path
    found["comfort"] = comfort(path)
    return found
