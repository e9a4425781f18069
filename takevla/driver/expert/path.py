"""The expert's road ahead: the route as a path, its stop lines, junctions and lane changes.

Everything the expert reasons about lies in *path coordinates*: `s` along the path (m, growing
forwards) and `lateral` across it (m, positive left).  The path is the route; an
intended sideways shift is a function of s on top of it (`takevla.driver.expert.shift`).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from takevla.scene.lane_query import project_lane
from takevla.scene.road_map import NO_LANE, Control, LaneKind, RoadArrays, RoadMap, Turn
from takevla.scene.route import Route, RouteOption

F64 = NDArray[np.float64]

BEHIND = 60  # path points (m) behind the ego that a window holds
AHEAD = 130  # path points (m) ahead of the ego
JUNCTION_ROOM_M = 2.5  # a junction is open to both sides of a connector
COARSE = 4  # stride of the first pass of a projection


@dataclass(frozen=True, slots=True)
class StopPoint:
    """A stop line on the path."""

    s_m: float
    control: Control
    signal: int
    lane: int


@dataclass(frozen=True, slots=True)
class JunctionSpan:
    """A stretch of the path on connectors of one junction."""

    start_m: float
    end_m: float
    lanes: tuple[int, ...]
    turns: bool  # any connector of it turns


@dataclass(frozen=True, slots=True)
class LaneChange:
    """A place where the route moves over to a neighbouring lane."""

    s_m: float  # its middle
    start_m: float  # where the route begins to lean over
    end_m: float
    jump_m: float  # sideways, positive left
    latest_m: float  # s at which the lane it leaves ends, or a junction begins


@njit(cache=True)
def project(px: F64, py: F64, ps: F64, x: float, y: float) -> tuple[float, float, float]:
    """(s, lateral, path heading) of a point on a polyline of about equal spacing; ends are prolonged."""
    n = px.shape[0]
    best = 1e18
    at = 0
    for i in range(0, n, COARSE):
        d2 = (px[i] - x) ** 2 + (py[i] - y) ** 2
        if d2 < best:
            best, at = d2, i
    low = max(at - COARSE, 0)
    high = min(at + COARSE, n - 1)
    for i in range(low, high + 1):
        d2 = (px[i] - x) ** 2 + (py[i] - y) ** 2
        if d2 < best:
            best, at = d2, i
    i = max(min(at, n - 2), 0)
    if i > 0:
        dx, dy = px[i + 1] - px[i], py[i + 1] - py[i]
        if (x - px[i]) * dx + (y - py[i]) * dy < 0.0:
            i -= 1
    dx, dy = px[i + 1] - px[i], py[i + 1] - py[i]
    length = math.hypot(dx, dy)
    if length < 1e-6:
        return ps[i], 0.0, 0.0
    t = ((x - px[i]) * dx + (y - py[i]) * dy) / length
    lateral = ((y - py[i]) * dx - (x - px[i]) * dy) / length
    return ps[i] + t, lateral, math.atan2(dy, dx)


@njit(cache=True)
def point_at(px: F64, py: F64, ps: F64, shift: F64, s: float) -> tuple[float, float]:
    """The point of the shifted path at s."""
    n = ps.shape[0]
    low, high = 0, n - 1
    while high - low > 1:
        middle = (low + high) // 2
        if ps[middle] <= s:
            low = middle
        else:
            high = middle
    dx, dy = px[high] - px[low], py[high] - py[low]
    length = max(math.hypot(dx, dy), 1e-6)
    t = (s - ps[low]) / max(ps[high] - ps[low], 1e-6)
    part = min(max(t, 0.0), 1.0)
    side = shift[low] + part * (shift[high] - shift[low])
    return px[low] + t * dx - dy / length * side, py[low] + t * dy + dx / length * side


class RoutePath:
    """A route as the expert sees it; built once for a route.

    Arrays are padded straight by `BEHIND` points before and `AHEAD` after, so that a window around
    any route point is a plain slice.  `s` of the first route point is 0.
    """

    def __init__(self, road_map: RoadMap, route: Route) -> None:
        self.route = route
        arrays = road_map.arrays
        points = route.points_world[:, :2].astype(np.float64)
        self.changes_at = _change_indices(route.lane, arrays)
        heading = route.heading_rad
        first = points[0] - points[1] if len(points) > 1 else -_unit(heading[0])
        first /= max(np.hypot(*first), 1e-6)
        last = points[-1] - points[-2] if len(points) > 1 else _unit(heading[-1])
        last /= max(np.hypot(*last), 1e-6)
        before = points[0] + first * np.arange(BEHIND, 0, -1.0)[:, None]
        after = points[-1] + last * np.arange(1.0, AHEAD + 1)[:, None]
        padded = np.concatenate([before, points, after])
        self.x = np.ascontiguousarray(padded[:, 0])
        self.y = np.ascontiguousarray(padded[:, 1])
        steps = np.hypot(np.diff(self.x), np.diff(self.y))
        s = np.concatenate([[0.0], np.cumsum(np.maximum(steps, 1e-3))])
        self.s = s - s[BEHIND]
        self.shift = np.zeros(len(self.s))
        self.lane = np.concatenate(
            [np.full(BEHIND, route.lane[0]), route.lane, np.full(AHEAD, route.lane[-1])]
        ).astype(np.int32)
        self.limit = np.concatenate(
            [
                np.full(BEHIND, route.speed_limit_mps[0]),
                route.speed_limit_mps,
                np.full(AHEAD, route.speed_limit_mps[-1]),
            ]
        ).astype(np.float64)
        junction = np.where(self.lane >= 0, arrays.lane_junction[np.maximum(self.lane, 0)], -1)
        junction[:BEHIND] = -1
        junction[BEHIND + len(route) :] = -1
        turns = np.isin(arrays.lane_turn, (int(Turn.LEFT), int(Turn.RIGHT)))
        self.in_junction = junction >= 0
        self.turning = (junction >= 0) & turns[np.maximum(self.lane, 0)]
        self.curvature = _curvature(self.x, self.y)
        self.junctions = self._junction_spans(junction, arrays)
        self.stop_points = self._stop_points(arrays)
        self.changes = self._lane_changes(arrays)
        self.left_m, self.right_m, self.half_width, self.left_oncoming = self._room(road_map)

    def window(self, index: int) -> slice:
        """The slice of the padded arrays around route point `index`."""
        return slice(index, index + BEHIND + AHEAD)

    def window_of(self, window: slice) -> tuple[F64, F64, F64]:
        """(x, y, s) of a window."""
        return self.x[window], self.y[window], self.s[window]

    def _junction_spans(self, junction: NDArray[np.int32], arrays: RoadArrays) -> tuple[JunctionSpan, ...]:
        spans = []
        edges = np.flatnonzero(np.diff(junction, prepend=-1, append=-1))
        for a, b in itertools.pairwise(edges):
            if junction[a] < 0:
                continue
            lanes = tuple(dict.fromkeys(int(lane) for lane in self.lane[a:b]))
            turns = any(int(arrays.lane_turn[lane]) in (Turn.LEFT, Turn.RIGHT) for lane in lanes)
            end = float(self.s[min(b, len(self.s) - 1)])
            spans.append(JunctionSpan(float(self.s[a]), end, lanes, turns))
        return tuple(spans)

    def _stop_points(self, arrays: RoadArrays) -> tuple[StopPoint, ...]:
        found = []
        lanes = self.route.lane
        edges = np.flatnonzero(np.diff(lanes, prepend=-2, append=-2))
        for a, b in itertools.pairwise(edges):
            lane = int(lanes[a])
            if lane < 0 or not math.isfinite(arrays.lane_stop_s[lane]):
                continue
            k = b - 1  # the last point on the lane is the nearest to its line, as a rule
            x, y = self.x[BEHIND + k], self.y[BEHIND + k]
            at, _ = project_lane(arrays, lane, float(x), float(y))
            s_line = float(self.s[BEHIND + k] + arrays.lane_stop_s[lane] - at)
            if b < len(lanes) and s_line > self.s[BEHIND + k] + 4.0:
                continue  # the route leaves the lane before its line
            found.append(
                StopPoint(
                    s_line,
                    Control(int(arrays.lane_stop_control[lane])),
                    int(arrays.lane_stop_signal[lane]),
                    lane,
                )
            )
        return tuple(found)

    def _lane_changes(self, arrays: RoadArrays) -> tuple[LaneChange, ...]:
        found = []
        for k in self.changes_at:
            old, new = int(self.route.lane[k]), int(self.route.lane[k + 1])
            left = int(arrays.lane_left[old]) == new
            width = 0.5 * float(
                arrays.point_width[arrays.lane_start[old]] + arrays.point_width[arrays.lane_start[new]]
            )
            x, y = self.route.points_world[k, :2]
            at, _ = project_lane(arrays, old, float(x), float(y))
            s = float(self.s[BEHIND + k])
            end = s + float(arrays.lane_length[old]) - at
            option = self.route.option
            low = high = k + 1
            changing = (int(RouteOption.CHANGE_LANE_LEFT), int(RouteOption.CHANGE_LANE_RIGHT))
            while low > 0 and int(option[low - 1]) in changing:
                low -= 1
            while high + 1 < len(option) and int(option[high + 1]) in changing:
                high += 1
            begin = min(float(self.s[BEHIND + low]), s - 2.5)
            done = max(float(self.s[BEHIND + high]), s + 2.5)
            found.append(LaneChange(s, begin, done, width if left else -width, end))
        return tuple(found)

    def _room(self, road_map: RoadMap) -> tuple[F64, F64, F64, NDArray[np.bool_]]:
        """Per padded point: how far the ego's centre may move left and right on lanes to drive on.

        Left room reaches over all lanes of the same direction or, where there is none, over one lane
        of the other direction (`left_oncoming`).  Right room counts same-direction lanes only.  The
        third array is half the width of the lane itself.
        """
        known = [_lane_room(road_map, int(lane)) for lane in np.unique(self.lane)]
        rows = np.searchsorted(np.unique(self.lane), self.lane)
        table = np.array(known)
        return table[rows, 0], table[rows, 1], table[rows, 2], table[rows, 3] > 0.5


def _lane_room(road_map: RoadMap, index: int) -> tuple[float, float, float, float]:
    """(left, right, half width, 1 if left is the other direction) of one lane."""
    if index < 0:
        return 0.0, 0.0, 1.75, 0.0
    lane = road_map.lanes[index]
    half = float(lane.width_m[0]) / 2
    left = 0.0
    at = lane
    while at.left != NO_LANE and road_map.lanes[at.left].kind == LaneKind.DRIVING:
        neighbour = road_map.lanes[at.left]
        left += (float(at.width_m[0]) + float(neighbour.width_m[0])) / 2
        at = neighbour
    oncoming = left == 0.0 and lane.opposite != NO_LANE
    if oncoming:
        left = half + float(road_map.lanes[lane.opposite].width_m[0]) / 2
    right = 0.0
    at = lane
    while at.right != NO_LANE and road_map.lanes[at.right].kind == LaneKind.DRIVING:
        neighbour = road_map.lanes[at.right]
        right += (float(at.width_m[0]) + float(neighbour.width_m[0])) / 2
        at = neighbour
    if lane.junction >= 0:
        left, right, oncoming = max(left, JUNCTION_ROOM_M), max(right, JUNCTION_ROOM_M), False
    return left, right, half, float(oncoming)


def _unit(heading: float) -> F64:
    return np.array([math.cos(heading), math.sin(heading)])


def _change_indices(lanes: NDArray[np.int32], arrays: RoadArrays) -> tuple[int, ...]:
    """Indices k where the route moves from lane[k] to its left or right neighbour at k + 1."""
    found = []
    for k in np.flatnonzero(np.diff(lanes)):
        old, new = int(lanes[k]), int(lanes[k + 1])
        if old >= 0 and new >= 0 and new in (int(arrays.lane_left[old]), int(arrays.lane_right[old])):
            found.append(int(k))
    return tuple(found)


@njit(cache=True)
def _curvature(x: F64, y: F64) -> F64:
    """Absolute curvature (1/m) over a base of +-3 points."""
    n = x.shape[0]
    out = np.zeros(n)
    for i in range(3, n - 3):
        ax, ay = x[i] - x[i - 3], y[i] - y[i - 3]
        bx, by = x[i + 3] - x[i], y[i + 3] - y[i]
        turn = math.atan2(ax * by - ay * bx, ax * bx + ay * by)
        length = 0.5 * (math.hypot(ax, ay) + math.hypot(bx, by))
        out[i] = abs(turn) / max(length, 1e-3)
    return out
