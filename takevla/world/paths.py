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

from takevla.scene.road_map import POINT_SPACING_M, LaneKind, RoadMap

Float = NDArray[np.float64]
Int = NDArray[np.int64]

CROSSING_WIDTH_M = 2.6  # two connectors conflict where their centre lines are nearer than this
_KEPT_TOWNS = 4  # path pools of so many towns are kept


class Paths(NamedTuple):
    """P points of L paths as flat float64/int64 arrays; see `RoadArrays` for the columns they share."""

    x: Float  # (P,)
    y: Float
    z: Float
    heading: Float  # unwrapped along each path
    start: Int  # (L + 1,) first point of each path
    length: Float  # (L,)
    limit: Float  # (L,) m/s
    kind: Int  # (L,) LaneKind, -1 for free paths
    width: Float  # (L,) mean width
    left: Int
    right: Int
    left_mark: Int
    right_mark: Int
    junction: Int
    turn: Int
    stop_s: Float  # (L,) inf where none
    stop_control: Int
    stop_signal: Int
    next_index: Int  # (L + 1,) compressed rows of successors
    next_items: Int
    conflict_index: Int  # (L + 1,) compressed rows of conflicting connectors
    conflict_items: Int
    conflict_from: Float  # arc length on the row's path at which it enters the shared area
    conflict_to: Float  # and leaves it
    conflict_yield: Int  # 1 where the row's path must yield to the item's


@njit(cache=True)
def _shared_interval(
    xa: Float, ya: Float, xb: Float, yb: Float, length: float, reach: float
) -> tuple[float, float]:
    """First and last arc length of path a within `reach` of path b; (inf, -inf) if none."""
    first = np.inf
    last = -np.inf
    step = length / (xa.shape[0] - 1)
    for i in range(xa.shape[0]):
        for k in range(xb.shape[0]):
            dx = xa[i] - xb[k]
            dy = ya[i] - yb[k]
            if dx * dx + dy * dy < reach * reach:
                first = min(first, i * step)
                last = max(last, i * step)
                break
    return first, last


def build_paths(road_map: RoadMap) -> Paths:
    """The pool of a town's lanes, without any free path."""
    arrays = road_map.arrays
    start = arrays.lane_start.astype(np.int64)
    x = arrays.point_x.astype(np.float64)
    y = arrays.point_y.astype(np.float64)
    heading = arrays.point_heading.astype(np.float64)
    length = arrays.lane_length.astype(np.float64)
    width = np.empty(len(length))
    for lane in range(len(length)):
        part = slice(start[lane], start[lane + 1])
        heading[part] = np.unwrap(heading[part])
        width[lane] = arrays.point_width[part].mean()
    conflict_index = arrays.conflict_index.astype(np.int64)
    conflict_items = arrays.conflict_items.astype(np.int64)
    enter = np.zeros(len(conflict_items))
    leave = np.zeros(len(conflict_items))
    must_yield = np.zeros(len(conflict_items), np.int64)
    for lane in range(len(length)):
        a = slice(start[lane], start[lane + 1])
        above = arrays.yield_items[arrays.yield_index[lane] : arrays.yield_index[lane + 1]]
        for item in range(conflict_index[lane], conflict_index[lane + 1]):
            other = conflict_items[item]
            b = slice(start[other], start[other + 1])
            enter[item], leave[item] = _shared_interval(
                x[a], y[a], x[b], y[b], length[lane], CROSSING_WIDTH_M
            )
            must_yield[item] = int(other in above)
    never = ~np.isfinite(enter)
    enter[never] = 0.0
    leave[never] = -1.0
    return Paths(
        x=x,
        y=y,
        z=arrays.point_z.astype(np.float64),
        heading=heading,
        start=start,
        length=length,
        limit=arrays.lane_speed_limit.astype(np.float64),
        kind=arrays.lane_kind.astype(np.int64),
        width=width,
        left=arrays.lane_left.astype(np.int64),
        right=arrays.lane_right.astype(np.int64),
        left_mark=arrays.lane_left_mark.astype(np.int64),
        right_mark=arrays.lane_right_mark.astype(np.int64),
        junction=arrays.lane_junction.astype(np.int64),
        turn=arrays.lane_turn.astype(np.int64),
        stop_s=arrays.lane_stop_s.astype(np.float64),
        stop_control=arrays.lane_stop_control.astype(np.int64),
        stop_signal=arrays.lane_stop_signal.astype(np.int64),
        next_index=arrays.successor_index.astype(np.int64),
        next_items=arrays.successor_items.astype(np.int64),
        conflict_index=conflict_index,
        conflict_items=conflict_items,
        conflict_from=enter,
        conflict_to=leave,
        conflict_yield=must_yield,
    )


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
    """The pool with free paths added; path k gets index `len(paths.length) + k`.

    Points without a z column lie at height 0.
    """
    if not polylines:
        return paths
    sampled = [resample(line) for line in polylines]
    points = np.concatenate(sampled)
    headings = []
    lengths = []
    for line in sampled:
        steps = np.diff(line[:, :2], axis=0)
        angle = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
        inner = 0.5 * (angle[1:] + angle[:-1])
        headings.append(np.concatenate([angle[:1], inner, angle[-1:]]))
        lengths.append(np.linalg.norm(steps, axis=1).sum())
    count = len(sampled)
    none = np.full(count, -1, np.int64)
    zero = np.zeros(count, np.int64)
    start = paths.start[-1] + np.cumsum([len(line) for line in sampled])

    def grown(column: NDArray[np.generic], more: NDArray[np.generic]) -> NDArray[np.generic]:
        return np.concatenate([column, more.astype(column.dtype)])

    return paths._replace(
        x=np.concatenate([paths.x, points[:, 0]]),
        y=np.concatenate([paths.y, points[:, 1]]),
        z=np.concatenate([paths.z, points[:, 2]]),
        heading=np.concatenate([paths.heading, *headings]),
        start=np.concatenate([paths.start, start.astype(np.int64)]),
        length=np.concatenate([paths.length, lengths]),
        limit=np.concatenate([paths.limit, np.full(count, 1e3)]),
        kind=np.concatenate([paths.kind, none]),
        width=np.concatenate([paths.width, np.full(count, 3.5)]),
        left=np.concatenate([paths.left, none]),
        right=np.concatenate([paths.right, none]),
        left_mark=np.concatenate([paths.left_mark, zero]),
        right_mark=np.concatenate([paths.right_mark, zero]),
        junction=np.concatenate([paths.junction, none]),
        turn=np.concatenate([paths.turn, zero]),
        stop_s=np.concatenate([paths.stop_s, np.full(count, np.inf)]),
        stop_control=np.concatenate([paths.stop_control, none]),
        stop_signal=np.concatenate([paths.stop_signal, none]),
        next_index=np.concatenate([paths.next_index, np.full(count, paths.next_index[-1])]),
        conflict_index=np.concatenate([paths.conflict_index, np.full(count, paths.conflict_index[-1])]),
    )


@njit(cache=True)
def point_at(paths: Paths, path: int, s: float) -> tuple[float, float, float, float]:
    """x, y, z, heading at arc length s of a path; beyond its ends it goes on straight."""
    first = paths.start[path]
    pieces = paths.start[path + 1] - first - 1
    step = paths.length[path] / pieces
    k = min(max(int(s / step), 0), pieces - 1)
    a = first + k
    u = s / step - k
    inner = min(max(u, 0.0), 1.0)
    x = paths.x[a] + u * (paths.x[a + 1] - paths.x[a])
    y = paths.y[a] + u * (paths.y[a + 1] - paths.y[a])
    z = paths.z[a] + inner * (paths.z[a + 1] - paths.z[a])
    heading = paths.heading[a] + inner * (paths.heading[a + 1] - paths.heading[a])
    return x, y, z, heading


@njit(cache=True)
def nearest_on_path(paths: Paths, path: int, x: float, y: float) -> tuple[float, float]:
    """Arc length and left-positive lateral offset of the point of a path nearest to (x, y)."""
    first = paths.start[path]
    end = paths.start[path + 1]
    best = np.inf
    at = first
    for k in range(first, end):
        dx = paths.x[k] - x
        dy = paths.y[k] - y
        d = dx * dx + dy * dy
        if d < best:
            best = d
            at = k
    step = paths.length[path] / (end - first - 1)
    best = np.inf
    best_s = 0.0
    best_lateral = 0.0
    for a in range(max(at - 1, first), min(at, end - 2) + 1):
        ux = (paths.x[a + 1] - paths.x[a]) / step
        uy = (paths.y[a + 1] - paths.y[a]) / step
        dx = x - paths.x[a]
        dy = y - paths.y[a]
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


def driving_paths(paths: Paths, *kinds: LaneKind) -> Int:
    """Indices of the lanes of these kinds."""
    return np.flatnonzero(np.isin(paths.kind, [int(kind) for kind in kinds])).astype(np.int64)
