"""How far the ego has come: the route and the stop lines as kernels see them, and progress along it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from takevla.scene.lane_query import lane_pose
from takevla.scene.road_map import RoadMap
from takevla.scene.route import Route
from takevla.world.state import EGO, ROUTE_INDEX, ROUTE_S, WorldState

WINDOW_POINTS = 2  # the route index advances by at most so many points a tick (benchmark facts 1.4)
AWAY_WINDOW_BACK, AWAY_WINDOW_AHEAD = 10, 50  # points around the route index that the distance looks at
BEYOND_POINT_M = 1.5  # the ego counts as at most so far beyond the last point passed


class RouteArrays(NamedTuple):
    """The route for kernels, N points, and the stop lines of the town, K rows."""

    x: NDArray[np.float64]  # (N,)
    y: NDArray[np.float64]
    heading: NDArray[np.float64]
    s: NDArray[np.float64]
    lane: NDArray[np.int64]
    limit: NDArray[np.float64]
    line: NDArray[np.float64]  # (K, 4) x, y, heading, lane width
    line_control: NDArray[np.int64]  # (K,)
    line_signal: NDArray[np.int64]  # (K,)


def route_arrays(road_map: RoadMap, route: Route) -> RouteArrays:
    """Flatten a route and the stop lines for the kernels."""
    lines = np.zeros((len(road_map.stop_lines), 4))
    for k, line in enumerate(road_map.stop_lines):
        x, y, _, heading, width = lane_pose(road_map.arrays, line.lane, float(line.s_m))
        lines[k] = x, y, heading, width
    return RouteArrays(
        x=route.points_world[:, 0].astype(np.float64),
        y=route.points_world[:, 1].astype(np.float64),
        heading=route.heading_rad.astype(np.float64),
        s=route.s_m.astype(np.float64),
        lane=route.lane.astype(np.int64),
        limit=route.speed_limit_mps.astype(np.float64),
        line=lines,
        line_control=np.array([int(line.control) for line in road_map.stop_lines], np.int64),
        line_signal=np.array([line.signal for line in road_map.stop_lines], np.int64),
    )


@njit(cache=True)
def follow_route(state: WorldState, route: RouteArrays) -> float:
    """Advance the route index as the leaderboard does; returns the metres newly completed."""
    x, y = state.actors[EGO].x, state.actors[EGO].y
    at = state.clock[ROUTE_INDEX]
    new = at
    for k in range(at, min(at + WINDOW_POINTS + 1, route.x.shape[0])):
        along = (x - route.x[k]) * math.cos(route.heading[k]) + (y - route.y[k]) * math.sin(route.heading[k])
        if along > 0.0:
            new = k
    state.clock[ROUTE_INDEX] = new
    along = (x - route.x[new]) * math.cos(route.heading[new]) + (y - route.y[new]) * math.sin(
        route.heading[new]
    )
    state.ego[ROUTE_S] = route.s[new] + min(max(along, 0.0), BEYOND_POINT_M)
    return route.s[new] - route.s[at]


@njit(cache=True)
def distance_to_route(state: WorldState, route: RouteArrays) -> float:
    """Distance of the ego's centre from the nearest route point around its route index."""
    at = state.clock[ROUTE_INDEX]
    best = np.inf
    for k in range(max(0, at - AWAY_WINDOW_BACK), min(route.x.shape[0], at + AWAY_WINDOW_AHEAD)):
        d = (state.actors[EGO].x - route.x[k]) ** 2 + (state.actors[EGO].y - route.y[k]) ** 2
        best = min(best, d)
    return math.sqrt(best)
