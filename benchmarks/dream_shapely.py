"""The work of a dream in the form of NAVSIM's scorer, to compare the kernels with.

As there (`pdm_scorer.py`): proposals are simulated side by side in NumPy; the map is polygons, each asked in
turn which corners it contains; actors are polygons in one STRtree per instant, which the polygons of all
proposals query, now and for each look ahead; a Python loop settles every pair that touches; progress
is projected proposal by proposal.  What NAVSIM reads from its metric cache, map and trees, is made
beforehand (`Surroundings`).  The measures are those of `takevla.learn.dream.checks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dream_plain
import numpy as np
import shapely
from numpy.typing import NDArray

from takevla.learn.dream import checks
from takevla.learn.dream.scenes import (
    CELL_M,
    DRIVABLE,
    JUNCTION,
    LANE_SHIFT,
    ONCOMING,
    RASTER_BEHIND_M,
    RASTER_SIDE_M,
    STEP_S,
    DreamScene,
)
from takevla.learn.dream.simulate import Measures, Trajectories, measure, roll_out
from takevla.world.criteria import TAIL_SHARE

Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Surroundings:
    """A scene as polygons: the map's areas, and per instant the actors and a tree of them."""

    scene: DreamScene
    areas: tuple[Any, ...]  # one polygon, perhaps of parts, for each kind of cell
    kinds: NDArray[np.int64]  # (P,) its bits
    bounds: tuple[float, float, float, float]  # of the map
    actors: tuple[Any, ...]  # per instant (A,) polygons
    trees: tuple[Any, ...]  # per instant, of those that are there
    present: tuple[NDArray[np.int64], ...]  # their rows
    road: Any
    course: Any
    expert: Measures  # of the expert's trajectory

    @classmethod
    def of(cls, scene: DreamScene, steps: int) -> Surroundings:
        """What is made once per scene."""
        rows, columns = scene.raster.shape
        kinds = np.unique(scene.raster).astype(np.int64)
        areas = []
        for kind in kinds:
            row, column = np.nonzero(scene.raster == kind)
            x, y = column * CELL_M - RASTER_BEHIND_M, row * CELL_M - RASTER_SIDE_M
            areas.append(shapely.union_all(shapely.box(x, y, x + CELL_M, y + CELL_M)))
        shapely.prepare(areas)
        pose, extent = scene.actor_pose.astype(np.float64), scene.actor_extent_m.astype(np.float64)
        actors = dream_plain.boxes(pose[..., 0], pose[..., 1], pose[..., 2], extent[:, 0], extent[:, 1])
        present = tuple(np.flatnonzero(valid) for valid in scene.actor_valid)
        plan = scene.expert_plan
        rolled = roll_out(scene, plan.route_ego[None], plan.waypoints_ego[None], steps)
        expert = measure(scene, rolled).expert
        if expert is None:
            raise ValueError("the expert's trajectory was not measured")
        return cls(
            scene=scene,
            areas=tuple(areas),
            kinds=kinds,
            bounds=(
                -RASTER_BEHIND_M, -RASTER_SIDE_M,
                columns * CELL_M - RASTER_BEHIND_M, rows * CELL_M - RASTER_SIDE_M,
            ),
            actors=tuple(actors),
            trees=tuple(shapely.STRtree(here[who]) for here, who in zip(actors, present, strict=True)),
            present=present,
            road=shapely.linestrings(scene.route.astype(np.float64)),
            course=shapely.linestrings(scene.memory["course"].astype(np.float64)),
            expert=expert,
        )  # fmt: skip


@dataclass(frozen=True)
class _Proposals:
    """G trajectories over T instants: state, corners and polygons."""

    x: Float64  # (G, T)
    y: Float64
    cos: Float64
    sin: Float64
    speed: Float64
    corners: Float64  # (G, T, 5, 2) the ring: front left, rear left, rear right, front right, front left
    polygons: NDArray[np.object_]  # (G, T)
    off: Mask  # (G, T) a corner off the road
    several: Mask  # (G, T) in more than one lane
    crossing: Mask  # (G, T) on a junction
    against: Mask  # (G, T) in an oncoming lane


def _proposals(around: Surroundings, path: Float64) -> _Proposals:
    length, width = (float(value) for value in around.scene.ego_extent_m)
    x, y, heading, speed = np.moveaxis(path, -1, 0)
    polygons = dream_plain.boxes(x, y, heading, length, width)
    corners = shapely.get_coordinates(polygons).reshape(*x.shape, 5, 2)
    points = np.concatenate([corners[:, :, :4], np.stack([x, y], axis=-1)[:, :, None]], axis=2)
    flat = points.reshape(-1, 2)
    contained = np.stack([shapely.contains_xy(area, flat[:, 0], flat[:, 1]) for area in around.areas])
    contained = contained.reshape(len(around.areas), *points.shape[:3])
    on_map = contained.any(axis=0)
    drivable, junction, oncoming = (around.kinds & bit != 0 for bit in (DRIVABLE, JUNCTION, ONCOMING))
    off = (on_map & ~contained[drivable].any(axis=0))[:, :, :4].any(axis=-1)
    crossing = contained[junction][..., :4].any(axis=(0, 3))
    lanes = around.kinds >> LANE_SHIFT
    touched = np.stack([contained[lanes == lane][..., :4].any(axis=(0, 3)) for lane in np.unique(lanes)])
    against = contained[oncoming & ~junction][..., 4].any(axis=0)
    several = (touched.sum(axis=0) > 1) & ~crossing
    return _Proposals(
        x, y, np.cos(heading), np.sin(heading), speed, corners, polygons, off, several, crossing, against
    )


def _forward_share(ego: _Proposals, g: int, t: int, centre: Any) -> float:
    """Cosine of the angle between an ego's heading and the way to a point."""
    dx, dy = centre.x - ego.x[g, t], centre.y - ego.y[g, t]
    return float((dx * ego.cos[g, t] + dy * ego.sin[g, t]) / max(np.hypot(dx, dy), 1e-6))


def _is_fault(around: Surroundings, ego: _Proposals, g: int, t: int, a: int) -> bool:
    """NAVSIM's at-fault collision of proposal `g` with actor `a` at instant `t`."""
    if ego.speed[g, t] <= checks.STOPPED_MPS:
        return False
    if around.scene.actor_pose[t, a, 3] <= checks.STOPPED_MPS:
        return True
    other = around.actors[t][a]
    if _forward_share(ego, g, t, other.centroid) < checks.BEHIND_COS:
        return False
    front = shapely.LineString([ego.corners[g, t, 0], ego.corners[g, t, 3]])
    return bool(front.intersects(other) or ego.off[g, t] or ego.several[g, t])


@dataclass
class _Contacts:
    collision_s: Float64
    collider: NDArray[np.int32]
    fault_s: Float64
    fault_static: Mask
    met: NDArray[np.int64]  # (G, A) instant of the first contact, past the end: never


def _contacts(around: Surroundings, ego: _Proposals) -> _Contacts:
    """First contacts, one query of an instant's tree by all proposals."""
    plans, instants = ego.x.shape
    found = _Contacts(
        np.full(plans, np.inf), np.full(plans, -1, np.int32), np.full(plans, np.inf),
        np.zeros(plans, np.bool_), np.full((plans, around.scene.actor_pose.shape[1]), instants),
    )  # fmt: skip
    for t in range(instants):
        pairs = around.trees[t].query(ego.polygons[:, t], predicate="intersects")
        for g, row in sorted(zip(*pairs, strict=True)):
            a = around.present[t][row]
            if found.met[g, a] < instants:
                continue
            found.met[g, a] = t
            if t == 0:  # whoever touches at the start was not hit by the plan
                continue
            if np.isinf(found.collision_s[g]):
                found.collision_s[g], found.collider[g] = t * STEP_S, a
            if _is_fault(around, ego, g, t, a):
                if np.isinf(found.fault_s[g]):
                    found.fault_s[g], found.fault_static[g] = t * STEP_S, True
                found.fault_static[g] &= around.scene.actor_static[a]
    return found


def _time_to_collision(around: Surroundings, ego: _Proposals, met: NDArray[np.int64]) -> Float64:
    """First instant with a contact within 1 s of constant motion, a query per instant and look ahead."""
    plans, instants = ego.x.shape
    ttc = np.full(plans, np.inf)
    looks = checks.TTC_SPACING_STEPS * np.arange(checks.TTC_OFFSETS)
    motion = np.stack([ego.cos, ego.sin], axis=-1) * ego.speed[..., None] * STEP_S
    polygons = shapely.polygons(
        ego.corners[:, :, None] + motion[:, :, None, None] * looks[None, None, :, None, None]
    )
    valid = around.scene.actor_valid
    for t in range(1, instants - checks.TTC_REACH_STEPS):
        for o, look in enumerate(looks):
            k = t + look
            pairs = around.trees[k].query(polygons[:, t, o], predicate="intersects")
            for g, row in zip(*pairs, strict=True):
                a = around.present[k][row]
                if (
                    ego.speed[g, t] < checks.MOVING_MPS or met[g, a] < t or (met[g, a] == t and o > 0)
                    or np.isfinite(ttc[g]) or not valid[t : k + 1 : checks.TTC_SPACING_STEPS, a].all()
                ):  # fmt: skip
                    continue
                share = _forward_share(ego, g, t, around.actors[k][a].centroid)
                astray = ego.off[g, t] or ego.several[g, t] or ego.crossing[g, t]
                if share > checks.AHEAD_COS or (astray and share >= checks.BEHIND_COS):
                    ttc[g] = t * STEP_S
    return ttc


def _first(mask: Mask) -> Float64:
    """(G,) time of the first true instant of (G, T) behind the start."""
    return np.where(mask[:, 1:].any(axis=1), (mask[:, 1:].argmax(axis=1) + 1) * STEP_S, np.inf)


def _rule(around: Surroundings, ego: _Proposals) -> Float64:
    """First crossing of a closed line by the tail."""
    scene, (plans, instants) = around.scene, ego.x.shape
    length = float(scene.ego_extent_m[0])
    behind = 0.5 * TAIL_SHARE * length
    tail = np.stack([ego.x - behind * ego.cos, ego.y - behind * ego.sin], axis=-1)
    moved = (tail[:, 1:] != tail[:, :-1]).any(axis=-1)
    ways = shapely.linestrings(np.stack([tail[:, :-1], tail[:, 1:]], axis=2))
    front = np.stack([ego.x + 0.5 * length * ego.cos, ego.y + 0.5 * length * ego.sin], axis=-1)
    broken = np.zeros((plans, instants), np.bool_)
    for i, line in enumerate(scene.stop_lines.astype(np.float64).reshape(-1, 2, 2)):
        near = np.square(front - line.mean(axis=0)).sum(-1) < checks.SIGN_REACH_M**2
        stood = near & (ego.speed < checks.STANDING_MPS) & bool(scene.stop_is_sign[i])
        open_ = np.logical_or.accumulate(stood, axis=1)[:, 1:]
        crossed = shapely.intersects(ways, shapely.linestrings(line)) & moved
        broken[:, 1:] |= crossed & scene.stop_closed[1:instants, i] & ~open_
    return _first(broken)


def _off_centre(around: Surroundings, ego: _Proposals) -> Float64:
    """Longest time beside the course."""
    beside = shapely.distance(shapely.points(ego.x, ego.y), around.course) > checks.OFF_CENTRE_M
    beside &= ~ego.crossing
    longest = np.zeros(len(ego.x))
    for g, row in enumerate(beside[:, 1:]):
        run = 0
        for is_beside in row:
            run = run + 1 if is_beside else 0
            longest[g] = max(longest[g], run * STEP_S)
    return longest


def _wrong_way(ego: _Proposals) -> Float64:
    """Greatest progress in oncoming lanes within one second."""
    wrong = np.where(ego.against, ego.speed * STEP_S, 0.0)
    wrong[:, 0] = 0.0
    window = [
        wrong[:, max(t - checks.DIRECTION_STEPS, 0) + 1 : t + 1].sum(axis=1) for t in range(1, wrong.shape[1])
    ]
    return np.max(window, axis=0)


def _progress(around: Surroundings, ego: _Proposals) -> Float64:
    """Along the road, proposal by proposal."""
    progress = np.zeros(len(ego.x))
    for g in range(len(progress)):
        start, end = (shapely.Point(ego.x[g, t], ego.y[g, t]) for t in (0, -1))
        progress[g] = around.road.project(end) - around.road.project(start)
    return progress


def full(around: Surroundings, routes: Float64, waypoints: Float64, steps: int) -> Measures:
    """Roll out and measure."""
    path = dream_plain.roll_out(around.scene, routes, waypoints, steps)
    ego = _proposals(around, path)
    contacts = _contacts(around, ego)
    offroad, rule, progress = _first(ego.off), _rule(around, ego), _progress(around, ego)
    safe = np.isinf(contacts.fault_s) & np.isinf(offroad) & np.isinf(rule)
    narrow = np.float32
    return Measures(
        trajectories=Trajectories.of(path),
        collision_s=contacts.collision_s.astype(narrow),
        collision_actor=contacts.collider,
        fault_s=contacts.fault_s.astype(narrow),
        fault_static=contacts.fault_static,
        offroad_s=offroad.astype(narrow),
        rule_s=rule.astype(narrow),
        ttc_s=_time_to_collision(around, ego, contacts.met).astype(narrow),
        progress_m=progress.astype(narrow),
        off_centre_s=_off_centre(around, ego).astype(narrow),
        wrong_way_m=_wrong_way(ego).astype(narrow),
        comfort_share=dream_plain.comfort(path).astype(narrow),
        safe_progress_m=float(progress[safe].max(initial=0.0)),
        expert=around.expert,
    )
