"""What actors move along: the lanes of a town, and the free paths of a scenario beside them.

Kernels see one pool of polylines.  Indices below the number of lanes are lanes of the road map;
free paths follow them, so that a vehicle on a scenario's path and one on a lane are the same thing.
Points of a polyline are equally spaced, therefore looking up arc length s costs one division.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from takevla.scene.road_map import POINT_SPACING_M, RoadMap

Float = NDArray[np.float64]
Int = NDArray[np.int64]

CROSSING_WIDTH_M = 2.6  # two connectors conflict where their centre lines are nearer than this
NO_LIMIT_MPS = 1e3  # of free paths: what drives there has its own cruise speed
FREE_PATH_WIDTH_M = 3.5
_KEPT_TOWNS = 4  # path pools of so many towns are kept


POINT = np.dtype([("x", "f8"), ("y", "f8"), ("z", "f8"), ("heading", "f8")])
LANE = np.dtype(
    [
        ("first", "i8"),  # its points are [first, end)
        ("end", "i8"),
        ("length", "f8"),
        ("limit", "f8"),  # m/s
        ("kind", "i8"),  # LaneKind, -1 for free paths
        ("width", "f8"),  # mean
        ("left", "i8"),
        ("right", "i8"),
        ("left_mark", "i8"),
        ("right_mark", "i8"),
        ("junction", "i8"),
        ("turn", "i8"),
        ("stop_s", "f8"),  # inf where none
        ("stop_control", "i8"),
        ("stop_signal", "i8"),
        ("next_first", "i8"),  # its successors are next_items[next_first:next_end]
        ("next_end", "i8"),
        ("conflict_first", "i8"),  # its conflicts are conflicts[conflict_first:conflict_end]
        ("conflict_end", "i8"),
    ]
)
CONFLICT = np.dtype(
    [
        ("other", "i8"),  # the connector it conflicts with
        ("enter", "f8"),  # arc length on the own path at which the shared area begins
        ("leave", "f8"),  # and ends; less than `enter` where the paths do not come near
        ("yields", "i8"),  # 1 where the own path must yield to the other
    ]
)


class Paths(NamedTuple):
    """P points of L paths as record arrays (few arrays keep kernels quick to compile)."""

    points: NDArray[np.void]  # (P,) POINT; headings are unwrapped along each path
    lanes: NDArray[np.void]  # (L,) LANE
    next_items: Int
    conflicts: NDArray[np.void]  # CONFLICT


@njit(cache=True)
def _measure_conflicts(paths: Paths) -> None:
    """Find for every pair of conflicting connectors where their paths come near each other."""
    for own in range(paths.lanes.shape[0]):
        a = paths.lanes[own]
        step = a.length / (a.end - a.first - 1)
        for row in range(a.conflict_first, a.conflict_end):
            b = paths.lanes[paths.conflicts[row].other]
            enter = np.inf
            leave = -np.inf
            for i in range(a.first, a.end):
                for k in range(b.first, b.end):
                    dx = paths.points[i].x - paths.points[k].x
                    dy = paths.points[i].y - paths.points[k].y
                    if dx * dx + dy * dy < CROSSING_WIDTH_M * CROSSING_WIDTH_M:
                        enter = min(enter, (i - a.first) * step)
                        leave = max(leave, (i - a.first) * step)
                        break
            paths.conflicts[row].enter = enter if enter < np.inf else 0.0
            paths.conflicts[row].leave = leave if enter < np.inf else -1.0


def build_paths(road_map: RoadMap) -> Paths:
    """The pool of a town's lanes, without any free path."""
    arrays = road_map.arrays
    points = np.zeros(len(arrays.point_x), POINT)
    points["x"] = arrays.point_x
    points["y"] = arrays.point_y
    points["z"] = arrays.point_z
    points["heading"] = arrays.point_heading
    lanes = np.zeros(len(arrays.lane_length), LANE)
    lanes["first"], lanes["end"] = arrays.lane_start[:-1], arrays.lane_start[1:]
    lanes["length"] = arrays.lane_length
    lanes["limit"] = arrays.lane_speed_limit
    for name in ("kind", "left", "right", "left_mark", "right_mark", "junction", "turn"):
        lanes[name] = getattr(arrays, f"lane_{name}")
    for name in ("stop_s", "stop_control", "stop_signal"):
        lanes[name] = getattr(arrays, f"lane_{name}")
    lanes["next_first"], lanes["next_end"] = arrays.successor_index[:-1], arrays.successor_index[1:]
    lanes["conflict_first"], lanes["conflict_end"] = arrays.conflict_index[:-1], arrays.conflict_index[1:]
    for k, lane in enumerate(lanes):
        part = slice(lane["first"], lane["end"])
        points["heading"][part] = np.unwrap(points["heading"][part])
        lanes["width"][k] = arrays.point_width[part].mean()
    conflicts = np.zeros(len(arrays.conflict_items), CONFLICT)
    conflicts["other"] = arrays.conflict_items
    for k, lane in enumerate(lanes):
        above = arrays.yield_items[arrays.yield_index[k] : arrays.yield_index[k + 1]]
        rows = slice(lane["conflict_first"], lane["conflict_end"])
        conflicts["yields"][rows] = np.isin(conflicts["other"][rows], above)
    paths = Paths(points, lanes, arrays.successor_items.astype(np.int64), conflicts)
    _measure_conflicts(paths)
    return paths


_built: OrderedDict[int, tuple[RoadMap, Paths]] = OrderedDict()


def town_paths(road_map: RoadMap) -> Paths:
    """`build_paths`, kept for the towns used last (a road map never changes)."""
    key = id(road_map)
    if key not in _built:
        _built[key] = (road_map, build_paths(road_map))
        while len(_built) > _KEPT_TOWNS:
            _built.popitem(last=False)
    _built.move_to_end(key)
    return _built[key][1]


def resample(points: NDArray[np.floating], spacing: float = POINT_SPACING_M) -> Float:
    """A polyline (M, 2|3) at equal steps of at most `spacing`: (N, 3), N >= 2, z 0 where not given.

    Raises ValueError for fewer than two distinct points.
    """
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or len(points) < 2 or points.shape[1] not in (2, 3):
        raise ValueError(f"a path needs at least two points of two or three columns, not {points.shape}")
    if points.shape[1] == 2:
        points = np.column_stack([points, np.zeros(len(points))])
    steps = np.linalg.norm(np.diff(points[:, :2], axis=0), axis=1)
    keep = np.concatenate([[True], steps > 1e-6])
    points = points[keep]
    arc = np.concatenate([[0.0], np.cumsum(steps[keep[1:]])])
    if len(points) < 2 or not np.isfinite(arc).all():
        raise ValueError("a path needs at least two distinct finite points")
    count = max(2, int(np.ceil(arc[-1] / spacing)) + 1)
    at = np.linspace(0.0, arc[-1], count)
    return np.column_stack([np.interp(at, arc, points[:, axis]) for axis in range(3)])


def with_free_paths(paths: Paths, polylines: Sequence[NDArray[np.floating]]) -> Paths:
    """The pool with free paths added; path k gets index `len(paths.lanes) + k`.

    Points without a z column lie at height 0.
    """
    if not polylines:
        return paths
    points = [paths.points]
    lanes = np.zeros(len(polylines), LANE)
    first = len(paths.points)
    for k, polyline in enumerate(polylines):
        line = resample(polyline)
        steps = np.diff(line[:, :2], axis=0)
        angle = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
        rows = np.zeros(len(line), POINT)
        rows["x"], rows["y"], rows["z"] = line.T
        rows["heading"] = np.concatenate([angle[:1], 0.5 * (angle[1:] + angle[:-1]), angle[-1:]])
        points.append(rows)
        lanes["first"][k], lanes["end"][k] = first, first + len(line)
        lanes["length"][k] = np.linalg.norm(steps, axis=1).sum()
        first += len(line)
    lanes["limit"] = NO_LIMIT_MPS
    lanes["width"] = FREE_PATH_WIDTH_M
    lanes["stop_s"] = np.inf
    for name in ("kind", "left", "right", "junction", "stop_control", "stop_signal"):
        lanes[name] = -1
    return paths._replace(points=np.concatenate(points), lanes=np.concatenate([paths.lanes, lanes]))


@njit(cache=True)
def point_at(paths: Paths, path: int, s: float) -> tuple[float, float, float, float]:
    """x, y, z, heading at arc length s of a path; beyond its ends it goes on straight."""
    first = paths.lanes[path].first
    pieces = paths.lanes[path].end - first - 1
    step = paths.lanes[path].length / pieces
    k = min(max(int(s / step), 0), pieces - 1)
    a = first + k
    u = s / step - k
    inner = min(max(u, 0.0), 1.0)
    x = paths.points[a].x + u * (paths.points[a + 1].x - paths.points[a].x)
    y = paths.points[a].y + u * (paths.points[a + 1].y - paths.points[a].y)
    z = paths.points[a].z + inner * (paths.points[a + 1].z - paths.points[a].z)
    heading = paths.points[a].heading + inner * (paths.points[a + 1].heading - paths.points[a].heading)
    return x, y, z, heading


@njit(cache=True)
def nearest_on_path(paths: Paths, path: int, x: float, y: float) -> tuple[float, float]:
    """Arc length and left-positive lateral offset of the point of a path nearest to (x, y)."""
    first = paths.lanes[path].first
    end = paths.lanes[path].end
    best = np.inf
    at = first
    for k in range(first, end):
        dx = paths.points[k].x - x
        dy = paths.points[k].y - y
        d = dx * dx + dy * dy
        if d < best:
            best = d
            at = k
    step = paths.lanes[path].length / (end - first - 1)
    best = np.inf
    best_s = 0.0
    best_lateral = 0.0
    for a in range(max(at - 1, first), min(at, end - 2) + 1):
        ux = (paths.points[a + 1].x - paths.points[a].x) / step
        uy = (paths.points[a + 1].y - paths.points[a].y) / step
        dx = x - paths.points[a].x
        dy = y - paths.points[a].y
        along = dx * ux + dy * uy
        inner = min(max(along, 0.0), step)
        ex = dx - inner * ux
        ey = dy - inner * uy
        d = ex * ex + ey * ey
        if d < best:
            best = d
            best_s = (a - first) * step + inner
            best_lateral = ux * dy - uy * dx
    return best_s, best_lateral
