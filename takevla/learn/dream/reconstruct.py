"""Rebuild dream scenes from a dataset of takeovers, without a live world.

The record of a takeover holds the other actors every `STEP_S`; the town comes from its name.
A start frame is one of the policy's own frames shortly before the expert took over, so that the
danger lies within the dream's horizon.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from takevla.dataset.reader import Dataset, numpy_column
from takevla.learn.dream.scenes import (
    CELL_M,
    DRIVABLE,
    RASTER_AHEAD_M,
    RASTER_BEHIND_M,
    RASTER_SIDE_M,
    STEP_S,
    DreamScene,
)
from takevla.scene.actors import ActorKind
from takevla.scene.geometry import to_ego
from takevla.scene.plan import Plan
from takevla.scene.road_map import Control, LaneKind, LightState, RoadMap
from takevla.scene.route import Route
from takevla.scene.scene import Scene
from takevla.scene.trace import trace_route
from takevla.world.maps.atlas import load_town

NEAR_M = 80.0  # actors further than this from the start cannot be met within 4 s
STEP_US = round(STEP_S * 1e6)
ROUTE_BEHIND_M, ROUTE_AHEAD_M = 5, 120  # points of the route kept around the ego


@dataclass
class Rebuilt:
    """Scenes, and why the others were left out."""

    scenes: list[DreamScene] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def rebuild(
    dataset: Dataset, *, starts_s: Sequence[float], horizon_s: float, maps_dir: Path | None = None
) -> Rebuilt:
    """Every takeover of `dataset` as dream scenes, one for each entry of `starts_s`.

    `starts_s` are times before the takeover (s); the policy's frame nearest to each is the start.
    A start without a policy plan or whose record is shorter than `horizon_s` is left out and counted.
    """
    result = Rebuilt()
    steps = round(horizon_s / STEP_S)
    frames = _FrameIndex(dataset)
    keypoints = dict(
        zip(
            dataset.episodes.column("episode").to_pylist(),
            dataset.episodes.column("keypoints_world").to_pylist(),
            strict=True,
        )
    )
    for takeover in dataset.takeovers.to_pylist():
        road_map = load_town(takeover["town"], maps_dir)
        route = _route(takeover["town"], tuple(keypoints[takeover["episode"]]), maps_dir)
        rows = frames.starts(takeover["episode"], takeover["start_us"], starts_s)
        if not rows:
            result.left_out["no policy frame before the takeover"] += 1
            continue
        first = int(frames.time_us[rows[0]])
        last = int(frames.time_us[rows[-1]]) + steps * STEP_US
        record = dataset.scenes(takeover["episode"], first, last)
        times = np.array([scene.time_us for scene in record], np.int64)
        for row in rows:
            begin = int(frames.time_us[row])
            wanted = begin + STEP_US * np.arange(steps + 1)
            at = np.searchsorted(times, wanted)
            if len(times) == 0 or at[-1] >= len(times) or not np.array_equal(times[at], wanted):
                result.left_out["record shorter than the horizon"] += 1
                continue
            result.scenes.append(
                _dream_scene(
                    takeover["takeover"],
                    takeover["trigger"],
                    int(row),
                    [record[i] for i in at],
                    road_map,
                    route,
                    frames,
                )
            )
    return result


class _FrameIndex:
    """Columns of the frames table that dreams start from."""

    def __init__(self, dataset: Dataset) -> None:
        self.episode = numpy_column(dataset.frames, "episode")
        self.time_us = numpy_column(dataset.frames, "time_us")
        self._plans = {
            who: (dataset.column(f"{who}_route_ego"), dataset.column(f"{who}_waypoints_ego"))
            for who in ("policy", "expert")
        }
        self._rows: dict[str, NDArray[np.int64]] = {}
        order = np.argsort(self.episode, kind="stable")
        for rows in np.split(
            order, np.flatnonzero(np.diff(np.unique(self.episode, return_inverse=True)[1][order])) + 1
        ):
            if len(rows):
                self._rows[str(self.episode[rows[0]])] = rows

    def plan(self, who: str, row: int) -> Plan:
        """The recorded plan of "policy" or "expert"."""
        route, waypoints = self._plans[who]
        return Plan(route[row].reshape(-1, 2), waypoints[row].reshape(-1, 2))

    def starts(self, episode: str, takeover_us: int, starts_s: Sequence[float]) -> list[int]:
        """Rows (ascending, unique) of frames with a policy plan nearest to each time before the takeover."""
        rows = self._rows.get(episode, np.zeros(0, np.int64))
        planned = np.isfinite(self._plans["policy"][0][rows, 0])
        rows = rows[planned & (self.time_us[rows] <= takeover_us)]
        if len(rows) == 0:
            return []
        chosen = {
            int(rows[np.abs(self.time_us[rows] - (takeover_us - round(start * 1e6))).argmin()])
            for start in starts_s
        }
        return sorted(chosen)


@lru_cache(maxsize=256)
def _route(town: str, keypoints: tuple[float, ...], maps_dir: Path | None) -> Route:
    return trace_route(load_town(town, maps_dir), np.array(keypoints, np.float32).reshape(-1, 3))


def _dream_scene(
    takeover: str,
    trigger: str,
    row: int,
    record: list[Scene],
    road_map: RoadMap,
    route: Route,
    frames: _FrameIndex,
) -> DreamScene:
    ego = record[0].ego
    origin, heading = ego.position_world[:2].astype(np.float64), float(ego.heading_rad)
    near = route.points_world[:, :2] - origin
    at = int(np.hypot(near[:, 0], near[:, 1]).argmin())
    kept = slice(max(at - ROUTE_BEHIND_M, 0), at + ROUTE_AHEAD_M)
    pose, extent, static, valid = _actors(record, origin, heading)
    lines, closed, sign = _stop_lines(road_map, set(route.lane[kept].tolist()), record, origin, heading)
    return DreamScene(
        takeover=takeover,
        trigger=trigger,
        frame_row=row,
        ego_speed_mps=float(ego.speed_mps),
        ego_steer=float(ego.controls.steer),
        ego_extent_m=ego.extent_m[:2],
        actor_pose=pose,
        actor_extent_m=extent,
        actor_static=static,
        actor_valid=valid,
        route=to_ego(route.points_world[kept, :2], origin, heading).astype(np.float32),
        stop_lines=lines,
        stop_closed=closed,
        stop_is_sign=sign,
        raster=drivable_raster(road_map, origin, heading),
        policy_plan=frames.plan("policy", row),
        expert_plan=frames.plan("expert", row),
    )


def _actors(
    record: list[Scene], origin: NDArray[np.float64], heading: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Poses (T, A, 4), extents (A, 2), static (A,) and validity (T, A) of actors that come near."""
    ids: dict[int, int] = {}
    for scene in record:
        away = np.linalg.norm(scene.actors.position_world[:, :2] - origin, axis=1)
        for actor in scene.actors.id[scene.actors.valid & (away < NEAR_M)].tolist():
            ids.setdefault(actor, len(ids))
    pose = np.zeros((len(record), len(ids), 4), np.float32)
    extent = np.zeros((len(ids), 2), np.float32)
    static = np.zeros(len(ids), np.bool_)
    valid = np.zeros((len(record), len(ids)), np.bool_)
    for t, scene in enumerate(record):
        actors = scene.actors
        rows = [i for i, actor in enumerate(actors.id.tolist()) if actors.valid[i] and actor in ids]
        slots = [ids[actor] for actor in actors.id[rows].tolist()]
        pose[t, slots, :2] = to_ego(actors.position_world[rows, :2], origin, heading)
        pose[t, slots, 2] = actors.heading_rad[rows] - heading
        pose[t, slots, 3] = actors.speed_mps[rows]
        extent[slots] = actors.extent_m[rows, :2]
        static[slots] = actors.kind[rows] >= ActorKind.CONE
        valid[t, slots] = True
    return pose, extent, static, valid


def _stop_lines(
    road_map: RoadMap, lanes: set[int], record: list[Scene], origin: NDArray[np.float64], heading: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Lines (L, 4), closed (T, L) and is-a-sign (L,) of the stop lines on `lanes`."""
    ends, closed, sign = [], [], []
    for line in road_map.stop_lines:
        if line.lane not in lanes or line.control == Control.YIELD:
            continue
        lane = road_map.lanes[line.lane]
        share = line.s_m / max(lane.length_m, 1e-6) * (len(lane.points_world) - 1)
        at = int(np.clip(round(share), 0, len(lane.points_world) - 1))
        centre, yaw, half = (
            lane.points_world[at, :2],
            float(lane.heading_rad[at]),
            0.5 * float(lane.width_m[at]),
        )
        side = half * np.array([-np.sin(yaw), np.cos(yaw)])
        ends.append(to_ego(np.stack([centre + side, centre - side]), origin, heading).ravel())
        is_sign = line.control == Control.STOP_SIGN
        sign.append(is_sign)
        closed.append([is_sign or scene.lights[line.signal] == LightState.RED for scene in record])
    if not ends:
        return np.zeros((0, 4), np.float32), np.zeros((len(record), 0), np.bool_), np.zeros(0, np.bool_)
    return np.array(ends, np.float32), np.array(closed, np.bool_).T.copy(), np.array(sign, np.bool_)


def drivable_raster(road_map: RoadMap, origin: NDArray[np.float64], heading: float) -> NDArray[np.uint8]:
    """The drivable area around a pose in `CELL_M` cells: rows along y, columns along x."""
    columns = round((RASTER_BEHIND_M + RASTER_AHEAD_M) / CELL_M)
    rows = round(2 * RASTER_SIDE_M / CELL_M)
    picture = Image.new("L", (columns, rows))
    draw = ImageDraw.Draw(picture)
    reach = RASTER_AHEAD_M + RASTER_SIDE_M
    for lane in road_map.lanes:
        if lane.kind == LaneKind.SIDEWALK:
            continue
        points = lane.points_world
        away = np.hypot(points[:, 0] - origin[0], points[:, 1] - origin[1])
        if away.min() > reach:
            continue
        side = (
            0.5
            * lane.width_m[:, None]
            * np.stack([-np.sin(lane.heading_rad), np.cos(lane.heading_rad)], axis=1)
        )
        outline = np.concatenate([points[:, :2] + side, (points[:, :2] - side)[::-1]])
        local = to_ego(outline, origin, heading)
        pixels = (local + np.array([RASTER_BEHIND_M, RASTER_SIDE_M])) / CELL_M
        draw.polygon([(float(x), float(y)) for x, y in pixels], fill=DRIVABLE, outline=DRIVABLE)
    return np.array(picture, np.uint8)
