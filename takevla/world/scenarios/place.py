"""The ground under a scenario: questions that builders ask of a site's route, lanes and parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from takevla.scene.road_map import NO_LANE, Lane, LaneKind, RoadMap
from takevla.scene.route import Route
from takevla.scene.trace import trace_route
from takevla.world.maps.route_xml import point_world
from takevla.world.staging import CannotStart, Site

Points = NDArray[np.float32]  # (N, 3) m, world frame

KMH = 1.0 / 3.6
LARGEST_PARAMETER = 1e4  # m, m/s, km/h or degrees: more is a mistake of the route file
CRUISE_SHARE = 0.72  # of the speed limit: what the reference expert drives (benchmark facts 3)
BEND_MPS2 = 2.5  # lateral acceleration that a careful driver accepts
SLOWING_MPS2 = 2.5
LEFT, RIGHT = 1.0, -1.0


class Pose(NamedTuple):
    """A place on the route, world frame."""

    x: float
    y: float
    z: float
    heading: float

    def aside(self, lateral_m: float, ahead_m: float = 0.0) -> Pose:
        """The pose `lateral_m` to the left and `ahead_m` forward of this one, same heading."""
        cos, sin = math.cos(self.heading), math.sin(self.heading)
        x = self.x + ahead_m * cos - lateral_m * sin
        y = self.y + ahead_m * sin + lateral_m * cos
        return Pose(x, y, self.z, self.heading)

    @property
    def point(self) -> tuple[float, float, float]:
        """Position alone."""
        return self.x, self.y, self.z


class Crossing(NamedTuple):
    """The route's way through one junction."""

    junction: int
    enter_s_m: float
    exit_s_m: float
    approach: int  # lane before the junction
    connectors: tuple[int, ...]  # lanes inside it, in driving order
    leaving: int  # lane behind it


@dataclass(frozen=True)
class Place:
    """A site with the questions that builders ask of it.  All raise `CannotStart` where the answer is no."""

    site: Site

    @property
    def road_map(self) -> RoadMap:
        """The town."""
        return self.site.road_map

    @property
    def route(self) -> Route:
        """The ego's dense route."""
        return self.site.route

    @property
    def trigger_s_m(self) -> float:
        """Route s of the trigger."""
        return self.site.trigger_s_m

    @property
    def end_s_m(self) -> float:
        """The last route s that a scenario may wait for: the ego surely passes it."""
        return self.route.length_m - 3.0

    @cached_property
    def rng(self) -> np.random.Generator:
        """Makes every choice that the parameters leave open."""
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.site.seed, 0x5CE])))

    # --- parameters -----------------------------------------------------------------------------

    def number(self, name: str, default: float) -> float:
        """The `value` of a parameter."""
        raw = self.site.parameters.get(name, {}).get("value")
        if raw is None:
            return default
        try:
            value = float(raw)
        except ValueError:
            value = math.nan
        if not abs(value) <= LARGEST_PARAMETER:
            raise CannotStart(f"parameter {name} is no number up to {LARGEST_PARAMETER:g}: {raw[:40]!r}")
        return value

    def interval(self, name: str, low: float, high: float) -> tuple[float, float]:
        """The `from` and `to` of a parameter."""
        raw = self.site.parameters.get(name, {})
        try:
            first, last = float(raw.get("from", low)), float(raw.get("to", high))
        except ValueError:
            first, last = math.nan, math.nan
        if not 0.0 <= first <= last <= LARGEST_PARAMETER:
            raise CannotStart(
                f"parameter {name} is no interval up to {LARGEST_PARAMETER:g}: {str(dict(raw))[:80]}"
            )
        return first, last

    def word(self, name: str, default: str) -> str:
        """The `value` of a parameter as text."""
        return self.site.parameters.get(name, {}).get("value", default)

    def side(self, default: float = RIGHT) -> float:
        """`LEFT` or `RIGHT` from the parameter `direction`."""
        raw = self.word("direction", "")
        return LEFT if raw == "left" else RIGHT if raw == "right" else default

    def point(self, name: str) -> tuple[float, float, float] | None:
        """A location parameter in the world frame, None where the route file has none."""
        raw = self.site.parameters.get(name)
        if raw is None:
            return None
        try:
            return point_world(raw)[:3]
        except ValueError as reason:
            raise CannotStart(f"parameter {name}: {reason}") from reason

    # --- the route ------------------------------------------------------------------------------

    def index(self, s_m: float) -> int:
        """Index of the last route point at or before `s_m`."""
        return int(np.clip(np.searchsorted(self.route.s_m, s_m, side="right") - 1, 0, len(self.route) - 1))

    def pose(self, s_m: float) -> Pose:
        """The route's pose at `s_m`."""
        route = self.route
        if not -1e-3 <= s_m <= route.length_m + 1e-3:
            raise CannotStart(f"the route is {route.length_m:.0f} m long, the scenario needs {s_m:.0f} m")
        i = min(self.index(s_m), len(route) - 2)
        share = (s_m - float(route.s_m[i])) / max(float(route.s_m[i + 1] - route.s_m[i]), 1e-6)
        x, y, z = (
            route.points_world[i] + share * (route.points_world[i + 1] - route.points_world[i])
        ).tolist()
        turn = math.remainder(float(route.heading_rad[i + 1]) - float(route.heading_rad[i]), math.tau)
        return Pose(x, y, z, float(route.heading_rad[i]) + share * turn)

    def path(self, from_s_m: float, to_s_m: float) -> Points:
        """The route between two arc lengths, cut at its ends."""
        first, last = max(from_s_m, 0.0), min(to_s_m, self.route.length_m)
        if last - first < 1.0:
            raise CannotStart("the route is too short for the scenario")
        samples = np.linspace(first, last, max(2, int(last - first) + 1))
        return np.array([self.pose(float(s)).point for s in samples], np.float32)

    def lane(self, s_m: float) -> Lane:
        """The lane under the route at `s_m`."""
        self.pose(s_m)
        return self.road_map.lanes[int(self.route.lane[self.index(s_m)])]

    def lane_s(self, s_m: float) -> float:
        """Arc length along `lane(s_m)` at route s `s_m`."""
        return project(self.lane(s_m).points_world, self.pose(s_m).point)

    def width_m(self, s_m: float) -> float:
        """Width of the lane under the route at `s_m`."""
        return width_at(self.lane(s_m), self.lane_s(s_m))

    def limit_mps(self, s_m: float) -> float:
        """Speed limit at `s_m`."""
        return float(self.route.speed_limit_mps[self.index(s_m)])

    def cruise_mps(self, s_m: float) -> float:
        """The speed a careful driver keeps at `s_m`."""
        return CRUISE_SHARE * self.limit_mps(s_m)

    @cached_property
    def _careful_clock(self) -> NDArray[np.float64]:
        """Time at which a careful driver with a free way passes every route point, (N,)."""
        route = self.route
        bend = np.abs(np.diff(np.unwrap(route.heading_rad.astype(np.float64))))
        step = np.maximum(np.diff(route.s_m.astype(np.float64)), 1e-3)
        curvature = np.concatenate([bend / step, [0.0]])
        smooth = np.convolve(curvature, np.ones(5) / 5.0, mode="same")
        speed = np.minimum(
            CRUISE_SHARE * route.speed_limit_mps, np.sqrt(BEND_MPS2 / np.maximum(smooth, 1e-4))
        )
        for i in range(len(speed) - 2, -1, -1):
            speed[i] = min(speed[i], math.sqrt(speed[i + 1] ** 2 + 2.0 * SLOWING_MPS2 * step[i]))
        return np.concatenate([[0.0], np.cumsum(step / np.maximum(speed[:-1], 1.0))])

    def before(self, s_m: float, seconds: float) -> float:
        """Route s at which a careful driver with a free way is so many seconds short of `s_m`.

        A driver about to slow down for a bend takes longer than distance over present speed says.
        """
        clock = self._careful_clock
        at = float(np.interp(s_m, self.route.s_m, clock))
        return float(np.interp(max(at - seconds, 0.0), clock, self.route.s_m))

    def crossing(self, within_m: float = 150.0) -> Crossing:
        """The first junction that the route goes through beyond the trigger."""
        lanes, route = self.road_map.lanes, self.route
        for i in range(self.index(self.trigger_s_m), len(route)):
            junction = lanes[int(route.lane[i])].junction
            if route.s_m[i] > self.trigger_s_m + within_m:
                break
            if junction < 0:
                continue
            start, end = i, i
            while start > 0 and lanes[int(route.lane[start - 1])].junction == junction:
                start -= 1
            while end + 1 < len(route) and lanes[int(route.lane[end + 1])].junction == junction:
                end += 1
            if start == 0:
                continue  # the route starts inside this one
            inside = tuple(dict.fromkeys(int(lane) for lane in route.lane[start : end + 1]))
            approach = int(route.lane[start - 1])
            onward = lanes[inside[-1]].successors or (inside[-1],)
            leaving = int(route.lane[end + 1]) if end + 1 < len(route) else onward[0]
            enter, leave = float(route.s_m[start]), float(route.s_m[end])
            return Crossing(junction, enter, leave, approach, inside, leaving)
        raise CannotStart(f"no junction within {within_m:.0f} m of the trigger")

    def plain_road(self, from_s_m: float, to_s_m: float) -> None:
        """Nothing where the route runs outside junctions between the two."""
        self.pose(to_s_m)
        first, last = self.index(from_s_m), self.index(to_s_m)
        for lane in set(self.route.lane[first : last + 1].tolist()):
            if self.road_map.lanes[lane].junction >= 0:
                raise CannotStart("a junction lies where the scenario needs plain road")

    def clear_before(self, s_m: float, most_m: float) -> float:
        """Metres of route outside junctions just before `s_m`, at most `most_m`, at least 5."""
        lanes = self.road_map.lanes
        for i in range(self.index(s_m), -1, -1):
            back = s_m - float(self.route.s_m[i])
            if back >= most_m or lanes[int(self.route.lane[i])].junction >= 0:
                return float(np.clip(back, 5.0, most_m))
        return most_m

    # --- beside the route -----------------------------------------------------------------------

    def beside(self, s_m: float, side: float, kinds: tuple[LaneKind, ...] = (LaneKind.DRIVING,)) -> Lane:
        """The neighbour lane at `s_m` that runs the same way and is of one of `kinds`."""
        lane = self.lane(s_m)
        index = lane.left if side > 0 else lane.right
        if index == NO_LANE or self.road_map.lanes[index].kind not in kinds:
            names = " or ".join(kind.name.lower() for kind in kinds)
            raise CannotStart(f"no {names} lane on the {'left' if side > 0 else 'right'}")
        return self.road_map.lanes[index]

    def opposite(self, s_m: float) -> Lane:
        """The nearest lane of oncoming traffic at `s_m`."""
        lane = self.lane(s_m)
        while lane.opposite == NO_LANE and lane.left != NO_LANE:
            lane = self.road_map.lanes[lane.left]
        if lane.opposite == NO_LANE:
            raise CannotStart("no lane of oncoming traffic")
        return self.road_map.lanes[lane.opposite]

    def oncoming_path(self, near_s_m: float, ahead_m: float, behind_m: float) -> Points:
        """Oncoming traffic's way past route s `near_s_m`, from `ahead_m` beyond to `behind_m` before it."""
        lane = self.opposite(near_s_m)
        s = project(lane.points_world, self.pose(near_s_m).point)
        return walk(self.road_map, lane.index, s, behind_m=ahead_m, ahead_m=behind_m)

    def oncoming_clear(self, near_s_m: float, most_m: float) -> float:
        """Metres of the oncoming lane beyond route s `near_s_m` up to the next junction, at most `most_m`."""
        lane = self.opposite(near_s_m)
        found = project(lane.points_world, self.pose(near_s_m).point)
        while found < most_m:
            before = _straightest(self.road_map, lane.index, forward=False)
            if before == NO_LANE or self.road_map.lanes[before].junction >= 0:
                return found
            lane = self.road_map.lanes[before]
            found += lane.length_m
        return most_m

    def kerb_m(self, s_m: float, side: float) -> float:
        """Distance from the route to the outer edge of the roadway on one side (parking included)."""
        lane = self.lane(s_m)
        point = self.pose(s_m).point
        reach = width_at(lane, project(lane.points_world, point)) / 2.0
        walked = {lane.index}
        same_way = True
        while True:
            if same_way:
                index = lane.left if side > 0 else lane.right
                if index == NO_LANE and side > 0 and lane.opposite != NO_LANE:
                    index, same_way = lane.opposite, False
            else:
                index = lane.right
            if index == NO_LANE or index in walked:
                return reach
            lane = self.road_map.lanes[index]
            if lane.kind in (LaneKind.SIDEWALK, LaneKind.SHOULDER):
                return reach
            walked.add(index)
            reach += width_at(lane, project(lane.points_world, point))

    def traced(self, start: tuple[float, float, float], end: tuple[float, float, float]) -> Points:
        """The lane path between two points that a route file gives."""
        try:
            return trace_route(self.road_map, np.array([start, end], np.float32)).points_world
        except ValueError as reason:
            raise CannotStart(f"the flow has no way: {reason}") from reason


def width_at(lane: Lane, s_m: float) -> float:
    """Lane width at arc length `s_m`."""
    places = np.linspace(0.0, lane.length_m, len(lane.width_m))
    return float(np.interp(s_m, places, lane.width_m))


def arc_lengths(points: Points) -> NDArray[np.float64]:
    """Arc length at every point of a polyline, (N,)."""
    steps = np.linalg.norm(np.diff(points[:, :2].astype(np.float64), axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)])


def project(points: Points, point: tuple[float, ...]) -> float:
    """Arc length of the place on a polyline nearest to `point`."""
    return nearest(points, point)[0]


def nearest(points: Points, point: tuple[float, ...]) -> tuple[float, float]:
    """Arc length of the place on a polyline nearest to `point`, and how far that is."""
    xy = points[:, :2].astype(np.float64)
    here = np.array(point[:2], np.float64)
    step = np.diff(xy, axis=0)
    length = np.maximum(np.linalg.norm(step, axis=1), 1e-9)
    share = np.clip(((here - xy[:-1]) * step).sum(axis=1) / length**2, 0.0, 1.0)
    distance = np.linalg.norm(xy[:-1] + share[:, None] * step - here, axis=1)
    best = int(np.argmin(distance))
    return float(length[:best].sum() + share[best] * length[best]), float(distance[best])


def lateral_of(points: Points, point: tuple[float, ...]) -> float:
    """Signed distance of `point` from a polyline, positive to its left."""
    s, distance = nearest(points, point)
    lengths = arc_lengths(points)
    i = int(np.clip(np.searchsorted(lengths, s, side="right") - 1, 0, len(points) - 2))
    dx, dy = (points[i + 1, :2] - points[i, :2]).astype(float)
    side = dx * (point[1] - float(points[i, 1])) - dy * (point[0] - float(points[i, 0]))
    return math.copysign(distance, side)


def cut(points: Points, from_s_m: float, to_s_m: float) -> Points:
    """The part of a polyline between two arc lengths."""
    s = arc_lengths(points)
    first, last = max(from_s_m, 0.0), min(to_s_m, float(s[-1]))
    if last - first < 1.0:
        raise CannotStart("a path is too short for the scenario")
    samples = np.linspace(first, last, max(2, int(last - first) + 1))
    columns = [np.interp(samples, s, points[:, axis]) for axis in range(3)]
    return np.stack(columns, axis=1).astype(np.float32)


def _straightest(road_map: RoadMap, lane: int, forward: bool) -> int:
    """The neighbour in the lane graph that bends least, NO_LANE at an end."""
    here = road_map.lanes[lane]

    def bend(index: int) -> tuple[float, int]:
        other = road_map.lanes[index]
        turn = float(other.heading_rad[-1] - other.heading_rad[0])
        joint = float(
            other.heading_rad[0] - here.heading_rad[-1]
            if forward
            else here.heading_rad[0] - other.heading_rad[-1]
        )
        return abs(math.remainder(turn, math.tau)) + abs(math.remainder(joint, math.tau)), index

    options = [i for i in (here.successors if forward else here.predecessors) if i != lane]
    return min(options, key=bend) if options else NO_LANE


def walk(road_map: RoadMap, lane: int, s_m: float, behind_m: float, ahead_m: float) -> Points:
    """The path along a lane and its straightest continuations, `behind_m` before to `ahead_m` after `s_m`.

    It is shorter where the road ends.
    """
    chain = [lane]
    behind, ahead = s_m, road_map.lanes[lane].length_m - s_m
    while behind < behind_m and len(chain) < 40:
        before = _straightest(road_map, chain[0], forward=False)
        if before == NO_LANE or before in chain:
            break
        chain.insert(0, before)
        behind += road_map.lanes[before].length_m
    while ahead < ahead_m and len(chain) < 80:
        after = _straightest(road_map, chain[-1], forward=True)
        if after == NO_LANE or after in chain:
            break
        chain.append(after)
        ahead += road_map.lanes[after].length_m
    points = join(road_map, tuple(chain))
    return cut(points, behind - behind_m, behind + ahead_m)


def join(road_map: RoadMap, chain: tuple[int, ...]) -> Points:
    """The centre lines of a chain of lanes as one polyline without doubled points."""
    points = np.concatenate([road_map.lanes[index].points_world for index in chain])
    keep = np.ones(len(points), bool)
    keep[1:] = np.linalg.norm(np.diff(points[:, :2], axis=0), axis=1) > 0.05
    return points[keep].astype(np.float32)


def moved_aside(points: Points, offset_m: NDArray[np.float64]) -> Points:
    """A polyline with every point moved to the left by its own offset, (N,)."""
    along = np.gradient(points[:, :2].astype(np.float64), axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    moved = points.astype(np.float64)
    moved[:, 0] -= offset_m * along[:, 1]
    moved[:, 1] += offset_m * along[:, 0]
    return moved.astype(np.float32)


def meeting(first: Points, second: Points, within_m: float = 1.5) -> tuple[float, float] | None:
    """Arc lengths on both polylines of the first place on `first` where they come within `within_m`."""
    gap = np.linalg.norm(first[:, None, :2] - second[None, :, :2], axis=2)
    close = np.flatnonzero(gap.min(axis=1) < within_m)
    if len(close) == 0:
        return None
    i = int(close[0])
    return float(arc_lengths(first)[i]), float(arc_lengths(second)[int(np.argmin(gap[i]))])
