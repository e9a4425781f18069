"""Rebuild dream scenes from a dataset of takeovers, without a live world.

The record of a takeover holds the other actors every `STEP_S`; the town comes from its name.
A start frame is one of the policy's own frames shortly before the expert took over, so that the
danger lies within the dream's horizon.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from takevla.dataset.reader import Dataset, numpy_column
from takevla.learn.dream.freed import freed, lanes_of
from takevla.learn.dream.replay import drive_plans, replay_error
from takevla.learn.dream.scenes import (
    CALM,
    CELL_M,
    DRIVABLE,
    JUNCTION,
    LANE_SHIFT,
    ONCOMING,
    RASTER_AHEAD_M,
    RASTER_BEHIND_M,
    RASTER_SIDE_M,
    STEP_S,
    DreamScene,
)
from takevla.scene.actors import ActorKind
from takevla.scene.geometry import to_ego
from takevla.scene.plan import Plan
from takevla.scene.road_map import Control, Lane, LaneKind, LightState, RoadMap
from takevla.scene.route import Route
from takevla.scene.scene import TICK_US, Ego, Scene
from takevla.scene.trace import trace_route
from takevla.world.maps.atlas import load_town

NEAR_M, NEAR_MPS = (
    80.0,
    20.0,
)  # actors further from the start than this, or this times the length, are not met
STEP_US = round(STEP_S * 1e6)
OPPOSED_COS = -0.5  # a lane that runs against the route by more than 120 deg is oncoming
BESIDE_M = 4.5  # from the route to the middle of the next lane, at most
SAME_WAY_COS = 0.5
LINE_SHARE = 1.2  # a stop line is so many lane widths long (leaderboard, benchmark facts 1.4)
MOVES_M = 1.0  # a vehicle that gets further than this within the record can be one that reacts
WAY_AHEAD_M = 40  # points of the route that others take for the ego's way
ROUTE_BEHIND_M, ROUTE_AHEAD_M = 5, 120  # points of the route kept around the ego


@dataclass
class Rebuilt:
    """Scenes, and why the others were left out."""

    scenes: list[DreamScene] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def rebuild(
    dataset: Dataset,
    *,
    starts_s: Sequence[float],
    horizon_s: float,
    reacting: float = 1.0,
    seed: int = 0,
    maps_dir: Path | None = None,
) -> Rebuilt:
    """Every takeover of `dataset` as dream scenes, one for each entry of `starts_s`.

    A seeded share `reacting` of the moving vehicles brakes for the ego; the others replay their record, but
    where it would drive through the ego.

    `starts_s` are times before the takeover (s); the policy's frame nearest to each is the start.
    A start without a policy plan or whose record is shorter than `horizon_s` is left out and counted.
    """
    result = Rebuilt()
    steps = round(horizon_s / STEP_S)
    frames = FrameIndex(dataset)
    keypoints = dict(
        zip(
            dataset.episodes.column("episode").to_pylist(),
            dataset.episodes.column("keypoints_world").to_pylist(),
            strict=True,
        )
    )
    chance = np.random.default_rng([seed, 0xD])
    for takeover in dataset.takeovers.to_pylist():
        road_map = load_town(takeover["town"], maps_dir)
        route = traced_route(takeover["town"], tuple(keypoints[takeover["episode"]]), maps_dir)
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
                dream_scene(
                    takeover,
                    int(row),
                    [record[i] for i in at],
                    road_map,
                    route,
                    frames,
                    reacting,
                    chance,
                )
            )
    return result


class FrameIndex:
    """Columns of the frames table that dreams start from."""

    def __init__(self, dataset: Dataset) -> None:
        self.episode = numpy_column(dataset.frames, "episode")
        self.time_us = numpy_column(dataset.frames, "time_us")
        self._position = dataset.column("position_world").reshape(-1, 3)
        self._heading = numpy_column(dataset.frames, "heading_rad")
        self._driver = numpy_column(dataset.frames, "driver")
        self._controls = dataset.frames.column("applied_controls")
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

    def driven_plan(self, row: int) -> Plan:
        """The recorded plan of who drove."""
        return self.plan(str(self._driver[row]), row)

    def expert_trajectory(self, row: int, ego: Ego, instants: int) -> NDArray[np.float32]:
        """(T, 4) from frame `row` under the expert's plans, each followed from when it was made."""
        end_us = self.time_us[row] + (instants - 1) * STEP_US
        rows = self._rows[str(self.episode[row])]
        rows = rows[(rows >= row) & (self.time_us[rows] < end_us)]
        route, waypoints = self._plans["expert"]
        origin, heading = ego.position_world[:2].astype(np.float64), float(ego.heading_rad)
        frames = np.empty((len(rows), 3))
        frames[:, :2] = to_ego(self._position[rows], origin, heading)
        frames[:, 2] = self._heading[rows] - heading
        out = np.empty((instants, 4))
        drive_plans(
            route[rows].reshape(len(rows), -1, 2).astype(np.float64),
            waypoints[rows].reshape(len(rows), -1, 2).astype(np.float64),
            frames,
            (self.time_us[rows] - self.time_us[row]) // TICK_US,
            float(ego.speed_mps),
            STEP_US // TICK_US,
            TICK_US * 1e-6,
            out,
        )
        return out.astype(np.float32)

    def replay_error(self, row: int, record: list[Scene]) -> tuple[float, float]:
        """How far (m, deg) the applied controls from frame `row` on lead away from the record."""
        rows = self._rows[str(self.episode[row])]
        rows = rows[(rows >= row) & (self.time_us[rows] < record[-1].time_us)]
        controls = np.concatenate([np.array(self._controls[int(i)].as_py()) for i in rows]).reshape(-1, 3)
        ticks = min(len(controls), (len(record) - 1) * STEP_US // TICK_US)
        ticks -= ticks % (STEP_US // TICK_US)
        poses = np.array(
            [[*scene.ego.position_world[:2], scene.ego.heading_rad] for scene in record], np.float64
        )
        spread = np.full((ticks + 1, 3), np.nan)
        spread[:: STEP_US // TICK_US] = poses[: ticks // (STEP_US // TICK_US) + 1]
        return replay_error(poses[0], float(record[0].ego.speed_mps), controls[:ticks], spread)

    def current(self, times_us: Sequence[int], episode: str) -> NDArray[np.int64]:
        """(T,) rows of the frames of an episode that were current at these times."""
        rows = self._rows[episode]
        at = np.searchsorted(self.time_us[rows], times_us, side="right") - 1
        return rows[np.maximum(at, 0)]

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
def traced_route(town: str, keypoints: tuple[float, ...], maps_dir: Path | None) -> Route:
    """The route through these keypoints (x, y, z after one another)."""
    return trace_route(load_town(town, maps_dir), np.array(keypoints, np.float32).reshape(-1, 3))


def dream_scene(
    takeover: Mapping[str, Any],
    row: int,
    record: list[Scene],
    road_map: RoadMap,
    route: Route,
    frames: FrameIndex,
    reacting: float | None,
    chance: np.random.Generator,
) -> DreamScene:
    """The dream that starts at frame `row` and lasts as long as `record`, one scene every `STEP_S`.

    Where the trigger is `CALM`, what was driven stands for what the policy and the expert would do.  With
    `reacting` None every actor is where the record has it, whatever the ego does: a record looked at, and
    not dreamed.
    """
    ego, calm = record[0].ego, takeover["trigger"] == CALM
    origin, heading = ego.position_world[:2].astype(np.float64), float(ego.heading_rad)
    near = route.points_world[:, :2] - origin
    at = int(np.hypot(near[:, 0], near[:, 1]).argmin())
    kept = slice(max(at - ROUTE_BEHIND_M, 0), at + ROUTE_AHEAD_M)
    ids, pose, extent, static, valid, vehicle = _actors(record, origin, heading)
    travelled = np.linalg.norm(np.diff(pose[..., :2], axis=0), axis=-1).sum(0)
    moving = vehicle & valid.all(axis=0) & (travelled > MOVES_M) & (reacting is not None)
    ego_route = to_ego(route.points_world[kept, :2], origin, heading).astype(np.float32)
    error_m, error_deg = frames.replay_error(row, record)
    lived = _ego_poses(record)
    expert = lived if calm else frames.expert_trajectory(row, ego, len(record))
    free_to_go, acceleration, limit = lanes_of(record, road_map, ids)
    pose = freed(
        pose, extent, valid, moving, free_to_go, acceleration, limit, (lived, expert),
        to_ego(route.points_world[at : at + WAY_AHEAD_M, :2], origin, heading).astype(np.float32),
        ego.extent_m[:2],
    )  # fmt: skip
    reacts = moving & (chance.random(len(moving)) < (reacting or 0.0))
    lines, closed, sign = _stop_lines(
        road_map, set(route.lane[kept].tolist()), ego_route, record, origin, heading
    )
    return DreamScene(
        takeover=takeover["takeover"],
        trigger=takeover["trigger"],
        detail=takeover["detail"],
        frame_row=row,
        ego_speed_mps=float(ego.speed_mps),
        ego_extent_m=ego.extent_m[:2],
        actor_pose=pose,
        actor_id=ids,
        actor_extent_m=extent,
        actor_static=static,
        actor_valid=valid,
        route=ego_route,
        stop_lines=lines,
        stop_closed=closed,
        stop_is_sign=sign,
        raster=drivable_raster(road_map, origin, heading, ego_route),
        policy_plan=frames.driven_plan(row) if calm else frames.plan("policy", row),
        expert_plan=frames.plan("expert", row),
        expert_trajectory=expert,
        actor_reacts=reacts,
        actor_yields=moving & ~reacts,
        replay_error_m=error_m,
        replay_error_deg=error_deg,
    )


def _ego_poses(record: list[Scene]) -> NDArray[np.float32]:
    """(T, 4) x, y, heading, speed of the recorded ego in the frame of the first."""
    start = record[0].ego
    place = np.array([scene.ego.position_world[:2] for scene in record], np.float64)
    out = np.empty((len(record), 4), np.float32)
    out[:, :2] = to_ego(place, start.position_world[:2].astype(np.float64), float(start.heading_rad))
    out[:, 2] = [scene.ego.heading_rad - start.heading_rad for scene in record]
    out[:, 3] = [scene.ego.speed_mps for scene in record]
    return out


def _actors(
    record: list[Scene], origin: NDArray[np.float64], heading: float
) -> tuple[
    NDArray[np.int32],
    NDArray[np.float32],
    NDArray[np.float32],
    NDArray[np.bool_],
    NDArray[np.bool_],
    NDArray[np.bool_],
]:
    """Ids (A,), poses (T, A, 4), extents (A, 2), static (A,), validity (T, A), vehicle (A,) of those near."""
    ids: dict[int, int] = {}
    near_m = max(NEAR_M, NEAR_MPS * STEP_S * (len(record) - 1))
    for scene in record:
        away = np.linalg.norm(scene.actors.position_world[:, :2] - origin, axis=1)
        for actor in scene.actors.id[scene.actors.valid & (away < near_m)].tolist():
            ids.setdefault(actor, len(ids))
    pose = np.zeros((len(record), len(ids), 4), np.float32)
    extent = np.zeros((len(ids), 2), np.float32)
    static = np.zeros(len(ids), np.bool_)
    vehicle = np.zeros(len(ids), np.bool_)
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
        vehicle[slots] = actors.kind[rows] <= ActorKind.BICYCLE
        valid[t, slots] = True
    return np.array(list(ids), np.int32), pose, extent, static, valid, vehicle


def _stop_lines(
    road_map: RoadMap,
    lanes: set[int],
    ego_route: NDArray[np.float32],
    record: list[Scene],
    origin: NDArray[np.float64],
    heading: float,
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Lines (L, 4), closed (T, L) and is-a-sign (L,) of the stop lines that the ego may come to.

    They are those on `lanes` and those of lanes beside the route that lead the same way.
    """
    ends, closed, sign = [], [], []
    for line in road_map.stop_lines:
        if line.control == Control.YIELD:
            continue
        lane = road_map.lanes[line.lane]
        share = line.s_m / max(lane.length_m, 1e-6) * (len(lane.points_world) - 1)
        at = int(np.clip(round(share), 0, len(lane.points_world) - 1))
        centre, yaw, half = (
            lane.points_world[at, :2],
            float(lane.heading_rad[at]),
            0.5 * LINE_SHARE * float(lane.width_m[at]),
        )
        if line.lane not in lanes and not _leads_along(
            ego_route, to_ego(centre, origin, heading), yaw - heading
        ):
            continue
        side = half * np.array([-np.sin(yaw), np.cos(yaw)])
        ends.append(to_ego(np.stack([centre + side, centre - side]), origin, heading).ravel())
        is_sign = line.control == Control.STOP_SIGN
        sign.append(is_sign)
        closed.append([is_sign or scene.lights[line.signal] == LightState.RED for scene in record])
    if not ends:
        return np.zeros((0, 4), np.float32), np.zeros((len(record), 0), np.bool_), np.zeros(0, np.bool_)
    return np.array(ends, np.float32), np.array(closed, np.bool_).T.copy(), np.array(sign, np.bool_)


def _leads_along(route: NDArray[np.float32], place: NDArray[np.float64], yaw: float) -> bool:
    """Whether a lane at `place` with this heading runs beside the route (R, 2), its way."""
    away = np.hypot(*(route - place).T)
    at = min(int(away.argmin()), len(route) - 2)
    way = route[at + 1] - route[at]
    along = (way[0] * np.cos(yaw) + way[1] * np.sin(yaw)) / max(float(np.hypot(*way)), 1e-6)
    return bool(away.min() < BESIDE_M and along > SAME_WAY_COS)


def drivable_raster(
    road_map: RoadMap, origin: NDArray[np.float64], heading: float, route: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """The road around a pose in `CELL_M` cells: rows along y, columns along x.

    Bits: DRIVABLE; JUNCTION; ONCOMING where a lane outside junctions runs against the nearest part of the
    `route` (R, 2, ego frame) and none with it; from `LANE_SHIFT` on a number that tells neighbours apart.
    """
    size = (round((RASTER_BEHIND_M + RASTER_AHEAD_M) / CELL_M), round(2 * RASTER_SIDE_M / CELL_M))
    layers = {bit: Image.new("L", size) for bit in (DRIVABLE, ONCOMING, JUNCTION)}
    lanes, with_us = Image.new("L", size), Image.new("L", size)
    draws = {bit: ImageDraw.Draw(layer) for bit, layer in layers.items()}
    number, along = ImageDraw.Draw(lanes), ImageDraw.Draw(with_us)
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
        pixels = (to_ego(outline, origin, heading) + np.array([RASTER_BEHIND_M, RASTER_SIDE_M])) / CELL_M
        corners = [(float(x), float(y)) for x, y in pixels]
        draws[DRIVABLE].polygon(corners, fill=1, outline=1)
        number.polygon(corners, fill=lane.index % (256 >> LANE_SHIFT), outline=None)
        if lane.junction >= 0:
            draws[JUNCTION].polygon(corners, fill=1, outline=1)
        elif lane.kind == LaneKind.DRIVING:
            middle = len(points) // 2
            opposed = _runs_against(route, to_ego(points[middle, :2], origin, heading), lane, middle, heading)
            (draws[ONCOMING] if opposed else along).polygon(corners, fill=1, outline=None)
    bits = sum(bit * np.array(layer, np.uint8) for bit, layer in layers.items() if bit != ONCOMING)
    oncoming = np.array(layers[ONCOMING], np.bool_) & ~np.array(with_us, np.bool_)
    return (bits + ONCOMING * oncoming + (np.array(lanes, np.uint8) << LANE_SHIFT)).astype(np.uint8)


def _runs_against(
    route: NDArray[np.float32], middle_ego: NDArray[np.float64], lane: Lane, at: int, heading: float
) -> bool:
    nearest = int(np.hypot(*(route - middle_ego).T).argmin())
    start = min(nearest, len(route) - 2)
    step = route[start + 1] - route[start]
    turn = float(lane.heading_rad[at]) - heading
    cos = (step[0] * np.cos(turn) + step[1] * np.sin(turn)) / max(float(np.hypot(*step)), 1e-6)
    return bool(cos < OPPOSED_COS)
