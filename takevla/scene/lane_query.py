"""Where am I on the map: nearest lane, Frenet projection and interpolation, as numba kernels.

Every kernel takes `RoadArrays` (or bare polyline arrays) and plain numbers, allocates nothing and
can be called from other kernels.  Lateral offsets are positive to the LEFT of the driving direction.
"""

from __future__ import annotations

import math

from numba import njit

from takevla.scene.road_map import GRID_CELL_M, Float, LaneKind, RoadArrays

DRIVING_ONLY = 1 << LaneKind.DRIVING
DRIVING_OR_PARKING = DRIVING_ONLY | (1 << LaneKind.PARKING)
ANY_KIND = 0xFF

HEADING_WEIGHT_M = 2.0  # one radian of disagreement counts like this much distance (overlapping connectors)
SAME_DIRECTION_RAD = math.pi / 2.0  # greater disagreement is another direction


@njit(cache=True)
def wrap_angle(angle: float) -> float:
    """The same angle within [-pi, pi)."""
    return (angle + math.pi) % (2.0 * math.pi) - math.pi


@njit(cache=True)
def project_segment(
    px: Float, py: Float, first: int, last: int, near: int, x: float, y: float
) -> tuple[int, float, float, float]:
    """Project (x, y) on the two segments that touch vertex `near` of a polyline [first, last).

    Returns (segment start vertex, fraction within it, lateral offset (left positive), squared distance).
    Beyond an end the fraction is clamped, and the distance includes the overshoot.
    """
    best_index, best_fraction, best_lateral, best_squared = near, 0.0, 0.0, 1e30
    for i in range(max(first, near - 1), min(last - 1, near + 1)):
        ax, ay = px[i], py[i]
        dx, dy = px[i + 1] - ax, py[i + 1] - ay
        length_squared = dx * dx + dy * dy
        if length_squared < 1e-12:
            continue
        along = ((x - ax) * dx + (y - ay) * dy) / length_squared
        fraction = min(1.0, max(0.0, along))
        ex, ey = x - (ax + fraction * dx), y - (ay + fraction * dy)
        squared = ex * ex + ey * ey
        if squared < best_squared:
            lateral = (dx * (y - ay) - dy * (x - ax)) / math.sqrt(length_squared)
            best_index, best_fraction, best_lateral, best_squared = i, fraction, lateral, squared
    return best_index, best_fraction, best_lateral, best_squared


@njit(cache=True)
def _project_range(
    px: Float, py: Float, ps: Float, first: int, last: int, x: float, y: float
) -> tuple[float, float, int]:
    near, best = first, 1e30
    for i in range(first, last):
        squared = (px[i] - x) ** 2 + (py[i] - y) ** 2
        if squared < best:
            near, best = i, squared
    index, fraction, lateral, _ = project_segment(px, py, first, last, near, x, y)
    following = min(index + 1, last - 1)
    return ps[index] + fraction * (ps[following] - ps[index]), lateral, index


@njit(cache=True)
def project_lane(arrays: RoadArrays, lane: int, x: float, y: float) -> tuple[float, float]:
    """Frenet coordinates (s, lateral) of (x, y) on one lane; s is clamped to the lane."""
    s, lateral, _ = _project_range(
        arrays.point_x,
        arrays.point_y,
        arrays.point_s,
        arrays.lane_start[lane],
        arrays.lane_start[lane + 1],
        x,
        y,
    )
    return s, lateral


@njit(cache=True)
def lane_pose(arrays: RoadArrays, lane: int, s: float) -> tuple[float, float, float, float, float]:
    """(x, y, z, heading, width) on the centre line of `lane` at arc length `s`, clamped to the lane."""
    first, last = arrays.lane_start[lane], arrays.lane_start[lane + 1] - 1
    length = arrays.point_s[last]
    s = min(max(s, 0.0), length)
    # Points are equally spaced, so the segment follows from s alone.
    position = s / length * (last - first)
    i = first + min(int(position), last - first - 1)
    step = arrays.point_s[i + 1] - arrays.point_s[i]
    fraction = min(1.0, max(0.0, (s - arrays.point_s[i]) / step)) if step > 0.0 else 0.0
    heading = arrays.point_heading[i] + fraction * wrap_angle(
        arrays.point_heading[i + 1] - arrays.point_heading[i]
    )
    return (
        arrays.point_x[i] + fraction * (arrays.point_x[i + 1] - arrays.point_x[i]),
        arrays.point_y[i] + fraction * (arrays.point_y[i + 1] - arrays.point_y[i]),
        arrays.point_z[i] + fraction * (arrays.point_z[i + 1] - arrays.point_z[i]),
        wrap_angle(heading),
        arrays.point_width[i] + fraction * (arrays.point_width[i + 1] - arrays.point_width[i]),
    )


@njit(cache=True)
def nearest_lane(
    arrays: RoadArrays,
    x: float,
    y: float,
    heading: float,
    max_distance: float,
    same_direction: bool,
    kinds: int = DRIVING_ONLY,
) -> tuple[int, float, float]:
    """The lane whose centre line is nearest to (x, y): (lane, s, lateral offset, left positive).

    `kinds` is a mask of `1 << LaneKind`.  With `same_direction`, lanes whose tangent differs from
    `heading` by more than 90 degrees are left out, and of overlapping connectors the one that
    points most like `heading` is taken; otherwise `heading` plays no part.
    Returns lane -1 where no centre line lies within `max_distance` metres.
    """
    best_lane, best_s, best_lateral, best_score = -1, 0.0, 0.0, 1e30
    reach = max_distance + 1.0  # points may lie up to half a spacing from the foot of the perpendicular
    columns, rows = arrays.grid_shape[0], arrays.grid_shape[1]
    column_low = math.floor((x - reach - arrays.grid_origin[0]) / GRID_CELL_M)
    column_high = math.floor((x + reach - arrays.grid_origin[0]) / GRID_CELL_M)
    row_low = math.floor((y - reach - arrays.grid_origin[1]) / GRID_CELL_M)
    row_high = math.floor((y + reach - arrays.grid_origin[1]) / GRID_CELL_M)
    for row in range(max(0, row_low), min(rows - 1, row_high) + 1):
        for column in range(max(0, column_low), min(columns - 1, column_high) + 1):
            cell = row * columns + column
            for k in range(arrays.grid_index[cell], arrays.grid_index[cell + 1]):
                i = arrays.grid_items[k]
                lane = arrays.point_lane[i]
                if not (kinds >> arrays.lane_kind[lane]) & 1:
                    continue
                rough = (arrays.point_x[i] - x) ** 2 + (arrays.point_y[i] - y) ** 2
                if rough > reach * reach:
                    continue
                turn = 0.0
                if same_direction:
                    turn = abs(wrap_angle(arrays.point_heading[i] - heading))
                    if turn > SAME_DIRECTION_RAD:
                        continue
                first, last = arrays.lane_start[lane], arrays.lane_start[lane + 1]
                index, fraction, lateral, squared = project_segment(
                    arrays.point_x, arrays.point_y, first, last, i, x, y
                )
                score = squared + (HEADING_WEIGHT_M * turn) ** 2
                if squared <= max_distance * max_distance and score < best_score:
                    step = arrays.point_s[index + 1] - arrays.point_s[index]
                    best_lane, best_s = lane, arrays.point_s[index] + fraction * step
                    best_lateral, best_score = lateral, score
    return best_lane, best_s, best_lateral
