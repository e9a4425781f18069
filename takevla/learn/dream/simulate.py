"""Roll plans out in a dream scene and measure what happens to them.

Plan, controller and ego dynamics are those of the embedded world, at its 20 Hz; the other actors
replay their record.  The kernels take one scene and a batch of G plans; their cost is linear in
plans x steps x near actors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from takevla.driver.controller import STATE_SIZE, control_step
from takevla.learn.dream.scenes import (
    CELL_M,
    DRIVABLE,
    RASTER_BEHIND_M,
    RASTER_SIDE_M,
    STEP_S,
    DreamScene,
)
from takevla.scene.geometry import boxes_overlap, project_on_polyline, segments_cross
from takevla.scene.scene import TICK_US
from takevla.world.dynamics import next_pose, next_speed

Float = NDArray[np.float32]
Points = NDArray[np.floating]

TICKS_PER_STEP = round(STEP_S * 1e6 / TICK_US)
STANDING_MPS = 0.1  # a stop sign asks for less (leaderboard, benchmark facts 1.4)
SIGN_REACH_M = 4.0  # as near to its line (leaderboard, benchmark facts 1.4)
STOPPED_MPS = 0.05  # slower than this the ego is not at fault (NAVSIM, benchmark facts 4)
TTC_OFFSETS = 3  # projections at 0.3, 0.6 and 0.9 s (NAVSIM, benchmark facts 4)
TTC_SPACING_STEPS = 3
LON_ACCELERATION_MPS2 = (-4.05, 2.40)  # nuPlan comfort limits (benchmark facts 1.7)
LAT_ACCELERATION_MPS2 = 4.89
YAW_RATE_RADPS = 0.95
OFF_CENTRE_M = 0.5  # lane keeping (EPDMS, benchmark facts 4)
LOOK_M = 15  # the controller looks up to 10.5 m ahead
EASE_M = 10.0  # behind a plan's end its lateral offset fades over this length
DISCOUNT_PER_STEP = 0.97  # of the distance to the expert's trajectory; half weight after 2.3 s


@dataclass(frozen=True)
class Measures:
    """What happened to G trajectories of one scene.  Times are since the start, inf where it never came."""

    trajectory: Float  # (G, T, 4) x, y, heading, speed at each step, start included
    collision_s: Float  # (G,) first contact with anyone
    collision_actor: NDArray[np.int32]  # (G,) row of that actor, -1 without
    fault_s: Float  # (G,) first contact that is the ego's fault
    fault_static: NDArray[np.bool_]  # (G,) that contact was with a static thing
    offroad_s: Float  # (G,) first corner off the drivable area
    rule_s: Float  # (G,) first crossing of a closed stop line
    ttc_s: Float  # (G,) first step with a contact within 1 s of constant motion
    progress_m: Float  # (G,) along the route
    comfort_share: Float  # (G,) share of steps inside the comfort limits
    off_centre_s: Float  # (G,) longest time beside the expert's route
    expert_distance_m: Float  # (G,) discounted mean distance to the expert's trajectory
    expert_progress_m: float
    safe_progress_m: float  # greatest progress of the trajectories without fault


@njit(cache=True)
def _roll_out(routes, waypoints, speed, steps, ticks_per_step, tick_s, out):  # type: ignore[no-untyped-def]
    """Fill `out` (G, T, 4) with x, y, heading, speed; the start is the origin."""
    state = np.zeros(STATE_SIZE)
    pose = np.zeros(3)
    for g in range(routes.shape[0]):
        state[:] = 0.0
        pose[:] = 0.0
        v = speed
        out[g, 0, 0], out[g, 0, 1], out[g, 0, 2], out[g, 0, 3] = 0.0, 0.0, 0.0, v
        for t in range(1, steps + 1):
            for k in range(ticks_per_step):
                age = ((t - 1) * ticks_per_step + k) * tick_s
                steer, throttle, brake = control_step(state, routes[g], waypoints[g], pose, v, age)
                pose[0], pose[1], pose[2] = next_pose(pose[0], pose[1], pose[2], v, steer)
                v = next_speed(v, throttle, brake)
            out[g, t, 0], out[g, t, 1], out[g, t, 2], out[g, t, 3] = pose[0], pose[1], pose[2], v


@njit(cache=True)
def _prolong(routes, road, out):  # type: ignore[no-untyped-def]
    """Fill `out` (G, R + K, 2): each route (R, 2), then K points along `road`, easing on to it."""
    known = routes.shape[1]
    heading = np.zeros(2)
    for g in range(routes.shape[0]):
        out[g, :known] = routes[g]
        _, lateral, segment = project_on_polyline(road, routes[g, known - 1, 0], routes[g, known - 1, 1])
        for k in range(known, out.shape[1]):
            past = k - known + 1
            i = min(segment + past, road.shape[0] - 1)
            heading[0], heading[1] = road[i, 0] - road[i - 1, 0], road[i, 1] - road[i - 1, 1]
            heading /= max(math.hypot(heading[0], heading[1]), 1e-6)
            beyond = max(segment + past - i, 0) * 1.0  # the road has ended: straight on
            left = lateral * max(0.0, 1.0 - past / EASE_M)
            out[g, k, 0] = road[i, 0] + beyond * heading[0] - left * heading[1]
            out[g, k, 1] = road[i, 1] + beyond * heading[1] + left * heading[0]


def roll_out(scene: DreamScene, routes_ego: Points, waypoints_ego: Points, steps: int) -> Float:
    """Trajectories (G, steps + 1, 4) of plans: routes (G, 20, 2), waypoints (G, 10, 2) in m.

    A dream may outlast its plan: behind the plan's last point the route goes on along the road, and the
    speed stays as the last waypoints ask.
    """
    out = np.empty((len(routes_ego), steps + 1, 4))
    speed_mps = scene.ego_speed_mps
    farthest = np.linalg.norm(waypoints_ego[:, -1] - waypoints_ego[:, -3], axis=-1).max() / 0.5
    reach = math.ceil(max(speed_mps, float(farthest)) * steps * STEP_S) + LOOK_M
    known = np.ascontiguousarray(routes_ego, np.float64)
    routes = np.empty((len(known), max(reach, known.shape[1]), 2))
    _prolong(known, scene.route.astype(np.float64), routes)
    _roll_out(
        routes,
        np.ascontiguousarray(waypoints_ego, np.float64),
        float(speed_mps),
        steps,
        TICKS_PER_STEP,
        TICK_US * 1e-6,
        out,
    )
    return out.astype(np.float32)


@njit(cache=True)
def _measure(  # type: ignore[no-untyped-def]
    trajectory, ego_length, ego_width, pose, extent, static, valid, lines, closed, sign, raster, step_s,
    collision, collision_actor, fault, fault_static, offroad, rule, ttc,
):  # fmt: skip
    plans, instants = trajectory.shape[0], trajectory.shape[1]
    actors = pose.shape[1]
    rows, columns = raster.shape
    reach = 0.5 * math.hypot(ego_length, ego_width)
    touching = np.zeros(actors, np.bool_)
    for a in range(actors):  # whoever touches at the start was not hit by the plan
        touching[a] = valid[0, a] and boxes_overlap(
            0.0, 0.0, 0.0, ego_length, ego_width,
            pose[0, a, 0], pose[0, a, 1], pose[0, a, 2], extent[a, 0], extent[a, 1],
        )  # fmt: skip
    stood = np.zeros(lines.shape[0], np.bool_)
    met = np.zeros(actors, np.bool_)  # a replayed actor drives on after a contact; it counts once
    for g in range(plans):
        stood[:] = False
        met[:] = touching
        for t in range(1, instants):
            x, y, heading, v = (
                trajectory[g, t, 0], trajectory[g, t, 1], trajectory[g, t, 2], trajectory[g, t, 3],
            )  # fmt: skip
            c, s = math.cos(heading), math.sin(heading)
            for a in range(actors):
                if met[a] or not valid[t, a]:
                    continue
                ax, ay = pose[t, a, 0], pose[t, a, 1]
                near = reach + 0.5 * math.hypot(extent[a, 0], extent[a, 1])
                dx, dy = ax - x, ay - y
                away = math.hypot(dx, dy)
                if away <= near and boxes_overlap(
                    x, y, heading, ego_length, ego_width, ax, ay, pose[t, a, 2], extent[a, 0], extent[a, 1]
                ):
                    met[a] = True
                    if math.isinf(collision[g]):
                        collision[g] = t * step_s
                        collision_actor[g] = a
                    from_behind = dx * c + dy * s < -0.25 * ego_length
                    if v > STOPPED_MPS and not from_behind and math.isinf(fault[g]):
                        fault[g] = t * step_s
                        fault_static[g] = static[a]
                if math.isinf(ttc[g]) and v > STOPPED_MPS and away < near + 1.0 * (v + abs(pose[t, a, 3])):
                    for o in range(1, TTC_OFFSETS + 1):
                        k = t + o * TTC_SPACING_STEPS
                        if k >= instants or not valid[k, a]:
                            break
                        lead = o * TTC_SPACING_STEPS * step_s * v
                        fx, fy = x + c * lead, y + s * lead
                        ahead = (pose[k, a, 0] - x) * c + (pose[k, a, 1] - y) * s > 0.0
                        if ahead and boxes_overlap(
                            fx, fy, heading, ego_length, ego_width,
                            pose[k, a, 0], pose[k, a, 1], pose[k, a, 2], extent[a, 0], extent[a, 1],
                        ):  # fmt: skip
                            ttc[g] = t * step_s
                            break
            if math.isinf(offroad[g]):
                for corner in range(4):
                    lx = 0.5 * ego_length * (1.0 if corner < 2 else -1.0)
                    ly = 0.5 * ego_width * (1.0 if corner % 2 == 0 else -1.0)
                    column = int((x + c * lx - s * ly + RASTER_BEHIND_M) / CELL_M)
                    row = int((y + s * lx + c * ly + RASTER_SIDE_M) / CELL_M)
                    if 0 <= row < rows and 0 <= column < columns and raster[row, column] & DRIVABLE == 0:
                        offroad[g] = t * step_s
                        break
            if math.isinf(rule[g]):
                px, py, pc, ps = (
                    trajectory[g, t - 1, 0], trajectory[g, t - 1, 1],
                    math.cos(trajectory[g, t - 1, 2]), math.sin(trajectory[g, t - 1, 2]),
                )  # fmt: skip
                front = 0.5 * ego_length
                for i in range(lines.shape[0]):
                    if sign[i] and v < STANDING_MPS:
                        mx, my = 0.5 * (lines[i, 0] + lines[i, 2]), 0.5 * (lines[i, 1] + lines[i, 3])
                        if math.hypot(x + c * front - mx, y + s * front - my) < SIGN_REACH_M:
                            stood[i] = True
                    if closed[t, i] and not stood[i] and segments_cross(
                        px + pc * front, py + ps * front, x + c * front, y + s * front,
                        lines[i, 0], lines[i, 1], lines[i, 2], lines[i, 3],
                    ):  # fmt: skip
                        rule[g] = t * step_s
                        break


@njit(cache=True)
def _progress(trajectory, route, out):  # type: ignore[no-untyped-def]
    start, _, _ = project_on_polyline(route, 0.0, 0.0)
    for g in range(trajectory.shape[0]):
        end, _, _ = project_on_polyline(route, trajectory[g, -1, 0], trajectory[g, -1, 1])
        out[g] = end - start


@njit(cache=True)
def _off_centre(trajectory, route, step_s, limit_m, out):  # type: ignore[no-untyped-def]
    for g in range(trajectory.shape[0]):
        run = 0.0
        for t in range(1, trajectory.shape[1]):
            _, lateral, _ = project_on_polyline(route, trajectory[g, t, 0], trajectory[g, t, 1])
            run = run + step_s if abs(lateral) > limit_m else 0.0
            out[g] = max(out[g], run)


def measure(scene: DreamScene, trajectory: Float) -> Measures:
    """Everything the reward terms need of trajectories (G, T, 4) in a scene; T - 1 <= `scene.steps`."""
    plans, instants, _ = trajectory.shape
    if instants - 1 > scene.steps:
        raise ValueError(f"dream of {scene.takeover}: {instants - 1} steps asked, {scene.steps} recorded")
    never = [np.full(plans, np.inf) for _ in range(5)]
    collision, fault, offroad, rule, ttc = never
    collision_actor = np.full(plans, -1, np.int32)
    fault_static = np.zeros(plans, np.bool_)
    path = trajectory.astype(np.float64)
    _measure(
        path, float(scene.ego_extent_m[0]), float(scene.ego_extent_m[1]),
        scene.actor_pose, scene.actor_extent_m, scene.actor_static, scene.actor_valid,
        scene.stop_lines, scene.stop_closed, scene.stop_is_sign, scene.raster, STEP_S,
        collision, collision_actor, fault, fault_static, offroad, rule, ttc,
    )  # fmt: skip
    plan = scene.expert_plan
    expert = roll_out(scene, plan.route_ego[None], plan.waypoints_ego[None], instants - 1).astype(np.float64)
    progress = np.zeros(plans + 1)
    route = scene.route.astype(np.float64)
    _progress(np.concatenate([path, expert]), route, progress)
    off_centre = np.zeros(plans)
    centre = np.concatenate([np.zeros((1, 2)), scene.expert_plan.route_ego.astype(np.float64)])
    _off_centre(path, centre, STEP_S, OFF_CENTRE_M, off_centre)
    safe = np.isinf(fault) & np.isinf(offroad) & np.isinf(rule)
    return Measures(
        trajectory=trajectory,
        collision_s=collision.astype(np.float32),
        collision_actor=collision_actor,
        fault_s=fault.astype(np.float32),
        fault_static=fault_static,
        offroad_s=offroad.astype(np.float32),
        rule_s=rule.astype(np.float32),
        ttc_s=ttc.astype(np.float32),
        progress_m=progress[:-1].astype(np.float32),
        comfort_share=_comfort_share(path),
        off_centre_s=off_centre.astype(np.float32),
        expert_distance_m=_expert_distance(path, expert[0]),
        expert_progress_m=float(progress[-1]),
        safe_progress_m=float(progress[:-1][safe].max()) if safe.any() else 0.0,
    )


def _comfort_share(path: NDArray[np.float64]) -> Float:
    speed, heading = path[..., 3], path[..., 2]
    longitudinal = np.diff(speed, axis=1) / STEP_S
    yaw_rate = np.diff(np.unwrap(heading, axis=1), axis=1) / STEP_S
    lateral = 0.5 * (speed[:, 1:] + speed[:, :-1]) * yaw_rate
    low, high = LON_ACCELERATION_MPS2
    fine = (longitudinal > low) & (longitudinal < high)
    fine &= (np.abs(lateral) < LAT_ACCELERATION_MPS2) & (np.abs(yaw_rate) < YAW_RATE_RADPS)
    return fine.mean(axis=1).astype(np.float32)


def _expert_distance(path: NDArray[np.float64], expert: NDArray[np.float64]) -> Float:
    away = np.linalg.norm(path[:, 1:, :2] - expert[None, 1:, :2], axis=-1)
    weight = DISCOUNT_PER_STEP ** np.arange(away.shape[1])
    return ((away * weight).sum(axis=1) / weight.sum()).astype(np.float32)
