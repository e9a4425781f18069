"""From a few keypoints to the dense route: shortest paths over the lane graph, lane changes included."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from takevla.scene.lane_query import lane_pose, project_lane
from takevla.scene.road_map import GRID_CELL_M, NO_LANE, LaneKind, MarkKind, RoadMap, Turn
from takevla.scene.route import ROUTE_SPACING_M, Route, RouteOption

SNAP_M = 4.0  # a keypoint farther than this from every driving lane is off the map
SNAP_SLACK_M = 1.2  # lanes this much farther than the nearest stay candidates (overlapping connectors)
SNAP_COST = 12.0  # metres of path that one metre of lateral error is worth
LEVEL_M = 3.0  # lanes farther above or below a keypoint belong to another level
DETOUR_M = 150.0  # candidates this much dearer than three times the cheapest are not waited for
BACKWARD_SLACK_M = 3.0  # a keypoint may lie this far behind the one before it on the same lane
LANE_CHANGE_COST_M = 30.0  # a lane change must save this much to be worth it
SOLID_MARK_COST_M = 300.0  # crossing a solid mark is for maps that leave no other way
LANE_CHANGE_LEAST_M = 5.0  # shortest stretch that a lane change needs (CARLA's planner uses 5 hops)
LANE_CHANGE_S = 2.5  # planned duration at the speed limit
LANE_CHANGE_MOST_M = 40.0
TARGET_SPACING_M = 50.0  # Bench2Drive's down-sampling of the plan (benchmark facts 1.8)

# Columns of path rows, of which a route is made.
X, Y, Z, HEADING, LANE, OPTION, LIMIT = range(7)
COLUMNS = 7

_CROSSABLE = (MarkKind.NONE, MarkKind.BROKEN_WHITE, MarkKind.BROKEN_YELLOW)
_OPTION_OF_TURN = {
    Turn.LEFT: RouteOption.LEFT,
    Turn.STRAIGHT: RouteOption.STRAIGHT,
    Turn.RIGHT: RouteOption.RIGHT,
    Turn.NONE: RouteOption.LANE_FOLLOW,
}


@dataclass(frozen=True, slots=True)
class Stretch:
    """Part of a planned path: `lane` from `start_m` to `end_m`; `by_change` if entered sideways."""

    lane: int
    start_m: float
    end_m: float
    by_change: bool = False


@dataclass(frozen=True, slots=True)
class _Snap:
    lane: int
    s_m: float
    lateral_m: float
    height_m: float


def trace_route(road_map: RoadMap, keypoints_world: NDArray[np.float32]) -> Route:
    """The dense route through keypoints (K, 2 or 3), K >= 2, by the shortest legal path.

    Raises:
        ValueError: naming the keypoint that is off the lanes or cannot be reached.
    """
    keypoints = np.asarray(keypoints_world, np.float64)
    if keypoints.ndim != 2 or len(keypoints) < 2 or keypoints.shape[1] not in (2, 3):
        raise ValueError(f"a route needs at least two keypoints (x, y[, z]), got shape {keypoints.shape}")
    if not np.isfinite(keypoints).all():
        raise ValueError("route keypoints must be finite numbers")
    return route_along(road_map, plan_stretches(road_map, keypoints))


def plan_stretches(road_map: RoadMap, keypoints: NDArray[np.float64]) -> list[Stretch]:
    """The lane stretches of the cheapest path that visits all keypoints in order."""
    snaps = _snap_candidates(road_map, keypoints)
    costs = [SNAP_COST * abs(snap.lateral_m) for snap in snaps[0]]
    paths: list[list[Stretch]] = [[] for _ in snaps[0]]
    for k in range(1, len(keypoints)):
        best_costs = [math.inf] * len(snaps[k])
        best_paths: list[list[Stretch]] = [[] for _ in snaps[k]]
        for i, origin in enumerate(snaps[k - 1]):
            if math.isinf(costs[i]):
                continue
            found = _shortest_paths(road_map, origin, snaps[k])
            for j, result in enumerate(found):
                if result is None:
                    continue
                cost = costs[i] + result[0] + SNAP_COST * abs(snaps[k][j].lateral_m)
                if cost < best_costs[j]:
                    best_costs[j], best_paths[j] = cost, paths[i] + result[1]
        if all(math.isinf(cost) for cost in best_costs):
            x, y = keypoints[k, :2]
            raise ValueError(
                f"no legal path on {road_map.name} to keypoint {k} at ({x:.1f}, {y:.1f}); "
                "check that the keypoints run in driving direction"
            )
        costs, paths = best_costs, best_paths
    return _merge(paths[int(np.argmin(costs))])


def _snap_candidates(road_map: RoadMap, keypoints: NDArray[np.float64]) -> list[list[_Snap]]:
    arrays = road_map.arrays
    uneven = bool(np.ptp(arrays.point_z) > LEVEL_M)
    result = []
    for k, keypoint in enumerate(keypoints):
        snaps = []
        for lane in _lanes_near(road_map, keypoint[0], keypoint[1]):
            s = project_lane(arrays, lane, keypoint[0], keypoint[1])[0]
            x, y, z, *_ = lane_pose(arrays, lane, s)
            away = math.hypot(x - keypoint[0], y - keypoint[1])
            if away <= SNAP_M:
                snaps.append(_Snap(lane, float(s), away, abs(z - keypoint[-1])))
        if uneven and keypoints.shape[1] == 3:
            # Bridges: lanes far above or below the keypoint are not meant, unless nothing else is near.
            snaps = [snap for snap in snaps if snap.height_m < LEVEL_M] or snaps
        if not snaps:
            raise ValueError(
                f"keypoint {k} at ({keypoint[0]:.1f}, {keypoint[1]:.1f}) is off the map: "
                f"no driving lane of {road_map.name} within {SNAP_M:g} m; check the town and the coordinates"
            )
        nearest = min(snap.lateral_m for snap in snaps)
        result.append([snap for snap in snaps if snap.lateral_m <= nearest + SNAP_SLACK_M])
    return result


def _lanes_near(road_map: RoadMap, x: float, y: float) -> list[int]:
    """Driving lanes with a point in the grid cells that lie within reach of (x, y)."""
    arrays = road_map.arrays
    low = np.floor((np.array([x, y]) - SNAP_M - 1.0 - arrays.grid_origin) / GRID_CELL_M)
    high = np.floor((np.array([x, y]) + SNAP_M + 1.0 - arrays.grid_origin) / GRID_CELL_M)
    columns, rows = (int(count) for count in arrays.grid_shape)
    found: set[int] = set()
    for row in range(int(max(0, low[1])), int(min(rows - 1, high[1])) + 1):
        for column in range(int(max(0, low[0])), int(min(columns - 1, high[0])) + 1):
            cell = row * columns + column
            items = arrays.grid_items[arrays.grid_index[cell] : arrays.grid_index[cell + 1]]
            found.update(np.unique(arrays.point_lane[items]).tolist())
    return [lane for lane in sorted(found) if road_map.lanes[lane].kind == LaneKind.DRIVING]


def _sideways(road_map: RoadMap, lane: int) -> list[tuple[int, float]]:
    """Lanes that may be changed into from `lane`, each with the price of doing so."""
    own = road_map.lanes[lane]
    result = []
    for other, mark in ((own.left, own.left_mark), (own.right, own.right_mark)):
        if other != NO_LANE and road_map.lanes[other].kind == LaneKind.DRIVING:
            solid = 0.0 if mark in _CROSSABLE else SOLID_MARK_COST_M
            result.append((other, LANE_CHANGE_LEAST_M + LANE_CHANGE_COST_M + solid))
    return result


def _shortest_paths(
    road_map: RoadMap, origin: _Snap, targets: list[_Snap]
) -> list[tuple[float, list[Stretch]] | None]:
    """Dijkstra over (lane, arc length of entry) from one snap to several."""
    lengths = road_map.arrays.lane_length
    lanes = road_map.lanes
    found: list[tuple[float, list[Stretch]] | None] = [None] * len(targets)
    wanted = {target.lane for target in targets}
    # Entries: cost, order, lane, whether beyond the origin's section, entry arc length, key of the
    # parent, where that was left, whether by a lane change.
    parents: dict[tuple[int, bool], tuple[tuple[int, bool] | None, float, float, bool]] = {}
    heap: list[tuple[float, int, int, bool, float, tuple[int, bool] | None, float, bool]] = []
    heap.append((0.0, 0, origin.lane, False, origin.s_m, None, 0.0, False))
    order = 1
    while heap:
        cost, _, lane, away, entry, parent, left_at, by_change = heapq.heappop(heap)
        # The origin's section may be visited once more, from its start, when the target lies behind.
        key = (lane, away)
        if key in parents:
            continue
        best = min((item[0] for item in found if item is not None), default=math.inf)
        if cost > 3.0 * best + DETOUR_M or all(item is not None and item[0] <= cost for item in found):
            break
        parents[key] = (parent, left_at, entry, by_change)
        length = float(lengths[lane])
        if lane in wanted:
            for j, target in enumerate(targets):
                slack = BACKWARD_SLACK_M + (LANE_CHANGE_LEAST_M if by_change else 0.0)
                if target.lane != lane or target.s_m < entry - slack:
                    continue
                total = cost + max(0.0, target.s_m - entry)
                known = found[j]
                if known is None or total < known[0]:
                    found[j] = (total, _walk_back(parents, key, max(entry, target.s_m)))
        for following in lanes[lane].successors:
            if lanes[following].kind == LaneKind.DRIVING:
                heapq.heappush(heap, (cost + length - entry, order, following, True, 0.0, key, length, False))
                order += 1
        for beside, price in _sideways(road_map, lane):
            scaled = entry * float(lengths[beside]) / length
            arrival = scaled + LANE_CHANGE_LEAST_M
            if arrival < float(lengths[beside]):
                heapq.heappush(heap, (cost + price, order, beside, away, arrival, key, entry, True))
                order += 1
    return found


def _walk_back(
    parents: dict[tuple[int, bool], tuple[tuple[int, bool] | None, float, float, bool]],
    key: tuple[int, bool],
    end_m: float,
) -> list[Stretch]:
    stretches: list[Stretch] = []
    at: tuple[int, bool] | None = key
    while at is not None:
        parent, left_at, entry, by_change = parents[at]
        stretches.append(Stretch(at[0], entry, end_m, by_change))
        at, end_m = parent, left_at
    return stretches[::-1]


def _merge(stretches: list[Stretch]) -> list[Stretch]:
    """Join what continues on the same lane; each keypoint starts a new list in the search."""
    merged: list[Stretch] = []
    for stretch in stretches:
        if merged and merged[-1].lane == stretch.lane and not stretch.by_change:
            last = merged[-1]
            slack = BACKWARD_SLACK_M + (LANE_CHANGE_LEAST_M if last.by_change else 0.0)
            if stretch.start_m >= last.start_m - slack:
                end = max(last.end_m, stretch.end_m)
                merged[-1] = Stretch(last.lane, last.start_m, end, last.by_change)
                continue
        merged.append(stretch)
    return merged


@dataclass(frozen=True, slots=True)
class _Jump:
    """A lane change in a list of path rows: row `at` is the first on the new lane."""

    at: int
    lanes: int  # how many lanes are crossed, positive to the left


def route_along(road_map: RoadMap, stretches: list[Stretch]) -> Route:
    """The dense route along planned stretches; sideways entries become smooth lane changes.

    A lane change takes `LANE_CHANGE_S` at the speed limit where the road leaves room for it.
    """
    pieces: list[NDArray[np.float64]] = []
    jumps: list[_Jump] = []
    crossed = 0
    for k, stretch in enumerate(stretches):
        start = stretch.start_m
        if stretch.by_change and k:
            crossed += 1 if road_map.lanes[stretches[k - 1].lane].left == stretch.lane else -1
            passing = k + 1 < len(stretches) and stretches[k + 1].by_change
            if passing and stretch.end_m - stretch.start_m < 1.0:
                continue  # crossed on the way to the lane beyond
            # Straight across from where the other lane is left.
            x, y = pieces[-1][-1, :2]
            start = project_lane(road_map.arrays, stretch.lane, x, y)[0]
            jumps.append(_Jump(sum(len(piece) for piece in pieces), crossed))
            crossed = 0
        pieces.append(_rows(road_map, stretch.lane, start, max(start, stretch.end_m)))
    rows = np.concatenate(pieces)
    for k, jump in enumerate(jumps):
        first = jumps[k - 1].at if k else 0
        last = jumps[k + 1].at if k + 1 < len(jumps) else len(rows)
        _blend(road_map, rows, jump, first, last)
    return _equidistant(rows)


def _blend(road_map: RoadMap, rows: NDArray[np.float64], jump: _Jump, first: int, last: int) -> None:
    """Turn a jump sideways into a smooth shift, within rows [first, last)."""
    at = jump.at
    junction = np.array([road_map.lanes[int(lane)].junction >= 0 for lane in rows[first:last, LANE]])
    after = np.flatnonzero(junction[at - first :])
    before = np.flatnonzero(junction[: at - first])
    end = at + int(after[0]) if len(after) and after[0] > 0 else last
    begin = first + int(before[-1]) + 1 if len(before) else first
    wanted = max(LANE_CHANGE_LEAST_M, min(LANE_CHANGE_MOST_M, rows[at, LIMIT] * LANE_CHANGE_S)) * abs(
        jump.lanes
    )
    # Begin at the jump where there is room behind it, else as far before it as need be.
    ahead = min(int(wanted / ROUTE_SPACING_M), end - at - 1)
    back = min(max(0, int(wanted / ROUTE_SPACING_M) - ahead), at - begin)
    window = np.arange(at - back, at + ahead + 1)
    t = (np.arange(len(window)) + 0.5) / len(window)
    share = t * t * t * (10.0 - 15.0 * t + 6.0 * t * t)  # no jerk at either end
    left = np.column_stack([-np.sin(rows[window, HEADING]), np.cos(rows[window, HEADING])])
    gap = rows[at - 1, :2] - rows[at, :2]
    aside = float(gap @ left[back])
    moved = np.where(window < at, -share * aside, (1.0 - share) * aside)
    rows[window, :2] += moved[:, None] * left
    option = RouteOption.CHANGE_LANE_LEFT if jump.lanes > 0 else RouteOption.CHANGE_LANE_RIGHT
    rows[window, OPTION] = option
    for row, done in zip(window, share):
        steps = round(abs(jump.lanes) * (float(done) if row < at else 1.0 - float(done)))
        forward = (jump.lanes > 0) == (row < at)
        lane = int(rows[row, LANE])
        for _ in range(steps):
            beside = road_map.lanes[lane].left if forward else road_map.lanes[lane].right
            lane = beside if beside != NO_LANE else lane
        rows[row, LANE] = lane


def _option_on(road_map: RoadMap, lane: int) -> RouteOption:
    own = road_map.lanes[lane]
    if own.junction >= 0:
        return _OPTION_OF_TURN[own.turn]
    for before in own.predecessors:
        for other in road_map.lanes[before].successors:
            # Where a lane forks outside junctions, the main lane keeps the neighbours it had.
            beside = road_map.lanes[other].left
            if other == lane or beside == NO_LANE or own.left != NO_LANE:
                continue
            if road_map.lanes[before].left in road_map.lanes[beside].predecessors:
                x, y = own.points_world[-1, :2]
                _, lateral = project_lane(road_map.arrays, other, float(x), float(y))
                return RouteOption.CHANGE_LANE_LEFT if lateral > 0.0 else RouteOption.CHANGE_LANE_RIGHT
    return RouteOption.LANE_FOLLOW


def _rows(road_map: RoadMap, lane: int, start_m: float, end_m: float) -> NDArray[np.float64]:
    """Path rows about `ROUTE_SPACING_M` apart on one lane."""
    arrays, own = road_map.arrays, road_map.lanes[lane]
    window = slice(int(arrays.lane_start[lane]), int(arrays.lane_start[lane + 1]))
    known = arrays.point_s[window].astype(np.float64)
    s = np.linspace(start_m, end_m, max(1, math.ceil((end_m - start_m) / ROUTE_SPACING_M)) + 1)
    rows = np.empty((len(s), COLUMNS))
    for column in (X, Y, Z):
        rows[:, column] = np.interp(s, known, own.points_world[:, column].astype(np.float64))
    rows[:, HEADING] = np.interp(s, known, np.unwrap(own.heading_rad.astype(np.float64)))
    rows[:, LANE], rows[:, OPTION], rows[:, LIMIT] = lane, _option_on(road_map, lane), own.speed_limit_mps
    return rows


def _equidistant(rows: NDArray[np.float64]) -> Route:
    """Rows resampled to about `ROUTE_SPACING_M`, with headings."""
    steps = np.linalg.norm(np.diff(rows[:, :3], axis=0), axis=1)
    rows = rows[np.concatenate([[True], steps > 1e-4])]
    if len(rows) < 2:
        raise ValueError("the route has no length; its keypoints coincide")
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(rows[:, :3], axis=0), axis=1))])
    count = max(1, round(float(arc[-1]) / ROUTE_SPACING_M))
    s = np.linspace(0.0, float(arc[-1]), count + 1)
    xyz = np.column_stack([np.interp(s, arc, rows[:, k]) for k in range(3)])
    # A label holds from its row on to the next.
    label = np.clip(np.searchsorted(arc, s + 1e-6, side="right") - 1, 0, len(rows) - 1)
    return Route(
        points_world=xyz.astype(np.float32),
        heading_rad=tangent_headings(xyz, s).astype(np.float32),
        s_m=s.astype(np.float32),
        lane=rows[label, LANE].astype(np.int32),
        option=rows[label, OPTION].astype(np.int8),
        speed_limit_mps=rows[label, LIMIT].astype(np.float32),
    )


def tangent_headings(points: NDArray[np.float64], s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Heading (N,) of a sampled curve (N, 2 or 3) with arc lengths `s`, by second-order differences."""
    if len(s) == 2:
        dx, dy = points[1, 0] - points[0, 0], points[1, 1] - points[0, 1]
        return np.full(2, math.atan2(dy, dx))
    return np.arctan2(np.gradient(points[:, 1], s, edge_order=2), np.gradient(points[:, 0], s, edge_order=2))


def target_points(route: Route, spacing_m: float = TARGET_SPACING_M) -> NDArray[np.int32]:
    """Indices of the route points that a driver is shown, as the leaderboard down-samples its plan.

    The first point, every point where the option changes, both ends of a lane change, at most
    `spacing_m` in between, and the last point.
    """
    chosen = [0]
    for i in range(1, len(route)):
        if route.s_m[i] - route.s_m[chosen[-1]] > spacing_m:
            chosen.append(i - 1)
        if route.option[i] != route.option[i - 1] or i == len(route) - 1:
            chosen.append(i)
    return np.unique(np.array(chosen, np.int32))
