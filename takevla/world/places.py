"""Where background actors can be put: spots along the lanes of a town, and what rules them out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from takevla.scene.road_map import LaneKind, RoadMap
from takevla.scene.route import Route
from takevla.world.staging import KeepClear

VEHICLE, PARKED, WALKER, CYCLIST = range(4)  # uses of a place
USE_OF_LANE = {
    int(LaneKind.DRIVING): VEHICLE,
    int(LaneKind.PARKING): PARKED,
    int(LaneKind.SIDEWALK): WALKER,
    int(LaneKind.BIKE): CYCLIST,
}
SPACING_M = (8.0, 7.0, 10.0, 12.0)  # between places of each use
END_MARGIN_M = (6.0, 6.0, 1.0, 6.0)  # none nearer to a lane's end
AROUND_ROUTE_M = 160.0  # places further from the route are never reached
ON_ROUTE_M = 2.2  # no parked car stands this near to the ego's route
_KEPT_TOWNS = 4


class Places(NamedTuple):
    """Q places where background actors can be put."""

    path: NDArray[np.int64]
    s: NDArray[np.float64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    use: NDArray[np.int64]


def chosen(places: Places, keep: NDArray[np.bool_]) -> Places:
    """The places where `keep` is True."""
    return Places(**{name: column[keep] for name, column in places._asdict().items()})


def near_polyline(
    x: NDArray[np.float64], y: NDArray[np.float64], line: NDArray[np.floating], radius: float
) -> NDArray[np.bool_]:
    """Which points lie within `radius` of a polyline (M, 2|3)."""
    points = np.asarray(line, np.float64)[:, :2]
    first, step = points[:-1], np.diff(points, axis=0)
    squared = np.maximum((step**2).sum(axis=1), 1e-9)
    dx, dy = x[:, None] - first[:, 0], y[:, None] - first[:, 1]
    share = np.clip((dx * step[:, 0] + dy * step[:, 1]) / squared, 0.0, 1.0)
    away = (dx - share * step[:, 0]) ** 2 + (dy - share * step[:, 1]) ** 2
    near: NDArray[np.bool_] = away.min(axis=1, initial=np.inf) < radius * radius
    return near


def find_places(road_map: RoadMap) -> Places:
    """All places of a town, none inside junctions."""
    rows: list[NDArray[np.float64]] = []
    for lane in road_map.lanes:
        use = USE_OF_LANE.get(int(lane.kind))
        if use is None or lane.junction >= 0:
            continue
        margin = END_MARGIN_M[use]
        length = lane.length_m
        s = np.arange(margin, length - margin, SPACING_M[use])
        if not len(s):
            continue
        at = np.linspace(0.0, length, len(lane.points_world))
        x = np.interp(s, at, lane.points_world[:, 0])
        y = np.interp(s, at, lane.points_world[:, 1])
        rows.append(np.column_stack([np.full(len(s), lane.index), s, x, y, np.full(len(s), use)]))
    table = np.concatenate(rows) if rows else np.zeros((0, 5))
    return Places(
        path=table[:, 0].astype(np.int64),
        s=np.ascontiguousarray(table[:, 1]),
        x=np.ascontiguousarray(table[:, 2]),
        y=np.ascontiguousarray(table[:, 3]),
        use=table[:, 4].astype(np.int64),
    )


_found: OrderedDict[int, tuple[RoadMap, Places]] = OrderedDict()


def town_places(road_map: RoadMap) -> Places:
    """`find_places`, kept for the towns used last (a road map never changes)."""
    key = id(road_map)
    if key not in _found:
        _found[key] = (road_map, find_places(road_map))
        while len(_found) > _KEPT_TOWNS:
            _found.popitem(last=False)
    _found.move_to_end(key)
    return _found[key][1]


def places_for(road_map: RoadMap, route: Route, keep_clear: Sequence[KeepClear]) -> Places:
    """The places around a route, without those kept clear and without parked cars in the ego's way."""
    places = town_places(road_map)
    line = route.points_world
    low, high = line[:, :2].min(axis=0) - AROUND_ROUTE_M, line[:, :2].max(axis=0) + AROUND_ROUTE_M
    around = (places.x > low[0]) & (places.x < high[0]) & (places.y > low[1]) & (places.y < high[1])
    places = chosen(places, around)
    blocked = (places.use == PARKED) & near_polyline(places.x, places.y, line, ON_ROUTE_M)
    for area in keep_clear:
        blocked |= near_polyline(places.x, places.y, area.path_world, area.radius_m)
    return chosen(places, ~blocked)
