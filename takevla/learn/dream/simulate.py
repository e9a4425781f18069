"""Roll plans out in a dream scene and measure what happens to them.

Plan, controller and ego dynamics are those of the embedded world, at its 20 Hz; the other actors
replay their record or react to the ego (`reacting.py`).  One call takes one scene and G plans; its cost
is linear in plans x steps x near actors.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from takevla.learn.dream import checks, kinematics
from takevla.learn.dream.comfort import comfort_share
from takevla.learn.dream.kinematics import LANES, PATH_ROWS, SPACING_M
from takevla.learn.dream.reacting import react
from takevla.learn.dream.scenes import STEP_S, DreamScene
from takevla.scene.scene import TICK_US

Float = NDArray[np.float32]
Points = NDArray[np.floating]

TICKS_PER_STEP = round(STEP_S * 1e6 / TICK_US)
DISCOUNT_PER_STEP = 0.97  # of the distance to the expert's trajectory; half weight after 2.3 s


@dataclass(frozen=True)
class Trajectories:
    """G trajectories in the layout of the kernels (B, T, PATH_ROWS, LANES); the last fills up."""

    path: Float
    plans: int

    @property
    def poses(self) -> Float:
        """(G, T, 4) x, y, heading, speed at each step, start included."""
        lanes = np.moveaxis(self.path[:, :, :4], -1, 1)
        return lanes.reshape(-1, *lanes.shape[2:])[: self.plans]

    @staticmethod
    def of(poses: Points) -> Trajectories:
        """The other way round."""
        turned = np.concatenate([poses, np.cos(poses[..., 2:3]), np.sin(poses[..., 2:3])], axis=-1)
        return Trajectories(side_by_side(turned), len(poses))


def side_by_side(values: Points) -> Float:
    """(G, ...) as (B, ..., LANES) float32."""
    blocks = -(-len(values) // LANES)
    spare = blocks * LANES - len(values)
    if spare:
        values = np.concatenate([values, np.repeat(values[-1:], spare, axis=0)])
    lanes = values.reshape(blocks, LANES, *values.shape[1:])
    return np.ascontiguousarray(np.moveaxis(lanes, 1, -1), np.float32)


@dataclass(frozen=True, eq=False)
class Measures:
    """What happened to G trajectories of one scene.  Times are since the start, inf where it never came."""

    trajectories: Trajectories
    collision_s: Float  # (G,) first contact with anyone
    collision_actor: NDArray[np.int32]  # (G,) row of that actor, -1 without
    fault_s: Float  # (G,) first contact that is the ego's fault
    fault_static: NDArray[np.bool_]  # (G,) all contacts that are the ego's fault were with static things
    offroad_s: Float  # (G,) first corner off the drivable area
    rule_s: Float  # (G,) first crossing of a closed stop line
    ttc_s: Float  # (G,) first step with a contact within 1 s of constant motion, if it can look so far
    progress_m: Float  # (G,) along the route
    off_centre_s: Float  # (G,) longest time beside the expert's route, not on junctions
    wrong_way_m: Float  # (G,) greatest progress in oncoming lanes within 1 s
    comfort_share: Float  # (G,) share of steps inside all comfort limits
    safe_progress_m: float  # greatest progress of the trajectories without fault
    expert: Measures | None  # of the expert's trajectory; None for the expert itself
    words: Float | None = None  # (G,) share of the spoken sentences whose action and cause are the expert's
    memory: dict[object, float] = field(default_factory=dict)  # the expert's own values, by reward term

    @property
    def safe(self) -> NDArray[np.bool_]:
        """(G,) hits nothing by its own fault, stays on the road and keeps the rules."""
        return np.isinf(self.fault_s) & np.isinf(self.offroad_s) & np.isinf(self.rule_s)

    @property
    def expert_progress_m(self) -> float:
        """Progress of the expert's trajectory."""
        return float((self.expert or self).progress_m[0])

    @property
    def expert_distance_m(self) -> Float:
        """(G,) discounted mean distance to the expert's trajectory."""
        expert = (self.expert or self).trajectories.poses[:1, 1:, :2]
        away = np.linalg.norm(self.trajectories.poses[:, 1:, :2] - expert, axis=-1)
        weight = DISCOUNT_PER_STEP ** np.arange(away.shape[1])
        return ((away * weight).sum(axis=1) / weight.sum()).astype(np.float32)


def roll_out(scene: DreamScene, routes_ego: Points, waypoints_ego: Points, steps: int) -> Trajectories:
    """Trajectories of plans: routes (G, 20, 2), waypoints (G, 10, 2) in m.

    A dream may outlast its plan: behind the plan's last point it goes on along `DreamScene.way`, and the
    speed stays as the last waypoints ask.
    """
    routes, waypoints = (np.ascontiguousarray(points, np.float32) for points in (routes_ego, waypoints_ego))
    speed = np.float32(scene.ego_speed_mps)
    reach = kinematics.reach_points(speed, waypoints, steps * STEP_S)
    tables, sharp = kinematics.route_tables(routes, scene.way, reach)
    path = np.empty((len(tables), steps + 1, PATH_ROWS, LANES), np.float32)
    kinematics.roll(tables, sharp, waypoints, speed, TICKS_PER_STEP, path)
    return Trajectories(path, len(routes_ego))


def measure(scene: DreamScene, trajectories: Trajectories) -> Measures:
    """Everything the reward terms need of trajectories in a scene that is as long as they are, or longer."""
    path = trajectories.path
    if path.shape[1] - 1 > scene.steps:
        raise ValueError(
            f"dream of {scene.takeover}: {path.shape[1] - 1} steps asked, {scene.steps} recorded"
        )
    key = ("expert", path.shape[1])
    if key not in scene.memory:
        scene.memory[key] = _measure(scene, expert_trajectory(scene, path.shape[1] - 1), None)
    return _measure(scene, trajectories, scene.memory[key])


def expert_trajectory(scene: DreamScene, steps: int) -> Trajectories:
    """The expert's recorded plans one after another, or where the scene holds none, its first alone."""
    if len(scene.expert_trajectory):
        return Trajectories.of(scene.expert_trajectory[None, : steps + 1])
    plan = scene.expert_plan
    return roll_out(scene, plan.route_ego[None], plan.waypoints_ego[None], steps)


def reactions(scene: DreamScene, trajectories: Trajectories) -> Float:
    """(B, R, T, 5, LANES) x, y, cos, sin, speed of the R actors that react, beside each trajectory."""
    moved, apart = _reactions(scene, trajectories)
    arrays = scene.arrays
    record = np.moveaxis(arrays.actors[: moved.shape[2], arrays.slot >= 0], 0, 1)
    return np.where(apart[..., None, None], moved, record[..., None])


def reactions_apart(scene: DreamScene, trajectories: Trajectories) -> NDArray[np.bool_]:
    """(B, R, T) where an actor that can react is off its record beside any trajectory of a block."""
    return _reactions(scene, trajectories)[1]


def _reactions(scene: DreamScene, trajectories: Trajectories) -> tuple[Float, NDArray[np.bool_]]:
    """The same where any trajectory of a block differs from the record; and (B, R, T) where one does."""
    arrays, path = scene.arrays, trajectories.path
    rows = (len(path), len(arrays.course), path.shape[1])
    moved, apart = np.empty((*rows, 5, LANES), np.float32), np.empty(rows, np.bool_)
    if moved.size:
        react(
            path, arrays.ego, arrays.extent, arrays.course, arrays.logged, arrays.late, arrays.actors,
            arrays.slot, moved, apart,
        )  # fmt: skip
    return moved, apart


def _measure(scene: DreamScene, trajectories: Trajectories, expert: Measures | None) -> Measures:
    arrays, path, plans = scene.arrays, trajectories.path, trajectories.plans
    moved, apart = _reactions(scene, trajectories)
    if "course" not in scene.memory:
        scene.memory["course"] = _expert_course(scene)
    result = np.empty((checks.RESULT_ROWS, len(path), LANES), np.float32)
    checks.check(
        path, arrays.ego, arrays.actors, arrays.valid, arrays.extent, arrays.static, arrays.slot, moved,
        apart, scene.stop_lines, scene.stop_closed, scene.stop_is_sign, scene.raster, scene.route,
        scene.memory["course"], np.float32(SPACING_M), result,
    )  # fmt: skip
    comfort_share(path, result[checks.COMFORT])
    rows = result.reshape(checks.RESULT_ROWS, -1)[:, :plans]
    progress = rows[checks.PROGRESS]
    return Measures(
        trajectories=trajectories,
        collision_s=rows[checks.COLLISION],
        collision_actor=rows[checks.COLLIDER].astype(np.int32),
        fault_s=rows[checks.FAULT],
        fault_static=rows[checks.FAULT_STATIC] > 0.0,
        offroad_s=rows[checks.OFFROAD],
        rule_s=rows[checks.RULE],
        ttc_s=rows[checks.TTC],
        progress_m=progress,
        off_centre_s=rows[checks.OFF_CENTRE],
        wrong_way_m=rows[checks.WRONG_WAY],
        comfort_share=rows[checks.COMFORT],
        safe_progress_m=float(np.where(_safe(rows), progress, 0.0).max(initial=0.0)),
        expert=expert,
    )


def _safe(rows: Float) -> NDArray[np.bool_]:
    return np.isinf(np.minimum(np.minimum(rows[checks.FAULT], rows[checks.OFFROAD]), rows[checks.RULE]))


def _expert_course(scene: DreamScene) -> Float:
    """The expert's route (N, 2) every `SPACING_M`, prolonged along his way."""
    length = len(scene.expert_plan.route_ego) + len(scene.way)
    route = np.ascontiguousarray(scene.expert_plan.route_ego[None], np.float32)
    tables, _ = kinematics.route_tables(route, scene.way, length)
    return np.ascontiguousarray(tables[0, :, :, 0])
