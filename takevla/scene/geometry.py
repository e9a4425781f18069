"""Plane geometry: angles, frames, oriented boxes, segments and polylines.

Small pure functions.  Those marked `register_jitable` run as plain NumPy and can also be called from a numba
kernel; those marked `njit` take scalars and are meant for kernels (calling them from Python works).
A box is given by its centre, heading and *full* length and width.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numba.extending import register_jitable
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]

TWO_PI = 2.0 * math.pi


@register_jitable
def wrap_angle(angle_rad):  # type: ignore[no-untyped-def]
    """The same angle (scalar or array) in [-pi, pi)."""
    return (angle_rad + math.pi) % TWO_PI - math.pi


def to_ego(points_world: ArrayLike, position_world: ArrayLike, heading_rad: float) -> Float64:
    """World points (..., 2 or more) as (..., 2) x forward, y left of a pose."""
    points = np.asarray(points_world, np.float64)[..., :2] - np.asarray(position_world, np.float64)[:2]
    cos, sin = math.cos(heading_rad), math.sin(heading_rad)
    return np.stack(
        [cos * points[..., 0] + sin * points[..., 1], cos * points[..., 1] - sin * points[..., 0]], axis=-1
    )


def to_world(points_ego: ArrayLike, position_world: ArrayLike, heading_rad: float) -> Float64:
    """Inverse of `to_ego`: points (..., 2) of a pose's frame as (..., 2) world points."""
    points = np.asarray(points_ego, np.float64)
    origin = np.asarray(position_world, np.float64)
    cos, sin = math.cos(heading_rad), math.sin(heading_rad)
    return np.stack(
        [
            origin[0] + cos * points[..., 0] - sin * points[..., 1],
            origin[1] + sin * points[..., 0] + cos * points[..., 1],
        ],
        axis=-1,
    )


def box_corners(x: float, y: float, heading_rad: float, length_m: float, width_m: float) -> Float64:
    """Corners (4, 2) of a box, counter-clockwise from the front left."""
    half = np.array([[0.5, 0.5], [-0.5, 0.5], [-0.5, -0.5], [0.5, -0.5]]) * (length_m, width_m)
    return to_world(half, (x, y), heading_rad)


@njit(cache=True)
def boxes_overlap(  # type: ignore[no-untyped-def]
    ax, ay, a_heading, a_length, a_width, bx, by, b_heading, b_length, b_width
) -> bool:
    """Whether two boxes share a point (touching counts): separating-axis test on the four face normals."""
    dx, dy = bx - ax, by - ay
    reach = 0.5 * (math.hypot(a_length, a_width) + math.hypot(b_length, b_width))
    if dx * dx + dy * dy > reach * reach:
        return False
    ca, sa = math.cos(a_heading), math.sin(a_heading)
    cb, sb = math.cos(b_heading), math.sin(b_heading)
    cos, sin = abs(ca * cb + sa * sb), abs(ca * sb - sa * cb)
    al, aw, bl, bw = 0.5 * a_length, 0.5 * a_width, 0.5 * b_length, 0.5 * b_width
    return bool(
        abs(dx * ca + dy * sa) <= al + bl * cos + bw * sin
        and abs(dy * ca - dx * sa) <= aw + bl * sin + bw * cos
        and abs(dx * cb + dy * sb) <= bl + al * cos + aw * sin
        and abs(dy * cb - dx * sb) <= bw + al * sin + aw * cos
    )


@njit(cache=True)
def point_box_distance(px, py, bx, by, b_heading, b_length, b_width) -> float:  # type: ignore[no-untyped-def]
    """Distance from a point to a box, 0 inside."""
    c, s = math.cos(b_heading), math.sin(b_heading)
    dx, dy = px - bx, py - by
    out_x = max(abs(dx * c + dy * s) - 0.5 * b_length, 0.0)
    out_y = max(abs(dy * c - dx * s) - 0.5 * b_width, 0.0)
    return math.hypot(out_x, out_y)


@njit(cache=True)
def box_distance(  # type: ignore[no-untyped-def]
    ax, ay, a_heading, a_length, a_width, bx, by, b_heading, b_length, b_width
) -> float:
    """Least distance between two boxes, 0 when they overlap.

    Of two disjoint convex polygons the nearest pair always includes a corner of one of them.
    """
    if boxes_overlap(ax, ay, a_heading, a_length, a_width, bx, by, b_heading, b_length, b_width):
        return 0.0
    ca, sa = math.cos(a_heading), math.sin(a_heading)
    cb, sb = math.cos(b_heading), math.sin(b_heading)
    least = math.inf
    for i in range(4):
        front = 0.5 if i < 2 else -0.5
        side = 0.5 if i % 2 == 0 else -0.5
        u, v = front * a_length, side * a_width
        least = min(
            least,
            point_box_distance(
                ax + ca * u - sa * v, ay + sa * u + ca * v, bx, by, b_heading, b_length, b_width
            ),
        )
        u, v = front * b_length, side * b_width
        least = min(
            least,
            point_box_distance(
                bx + cb * u - sb * v, by + sb * u + cb * v, ax, ay, a_heading, a_length, a_width
            ),
        )
    return least


@njit(cache=True)
def segments_cross(ax, ay, bx, by, cx, cy, dx, dy) -> bool:  # type: ignore[no-untyped-def]
    """Whether segment a-b and segment c-d share a point (touching and overlapping count)."""
    ab_c = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    ab_d = (bx - ax) * (dy - ay) - (by - ay) * (dx - ax)
    cd_a = (dx - cx) * (ay - cy) - (dy - cy) * (ax - cx)
    cd_b = (dx - cx) * (by - cy) - (dy - cy) * (bx - cx)
    boxes_apart = (
        max(ax, bx) < min(cx, dx)
        or max(cx, dx) < min(ax, bx)
        or max(ay, by) < min(cy, dy)
        or max(cy, dy) < min(ay, by)
    )
    return bool(not boxes_apart and ab_c * ab_d <= 0.0 and cd_a * cd_b <= 0.0)


def arc_length(points: ArrayLike) -> Float64:
    """Arc length (N,) at each point of a polyline (N, D), starting at 0."""
    steps = np.linalg.norm(np.diff(np.asarray(points, np.float64), axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)])


def points_at(points: ArrayLike, s_m: ArrayLike) -> Float64:
    """Points (..., D) at arc lengths `s_m` of a polyline (N, D); beyond its ends, straight on."""
    line = np.asarray(points, np.float64)
    arc = arc_length(line)
    keep = np.concatenate([[True], np.diff(arc) > 0.0])
    line, arc = line[keep], arc[keep]
    if len(line) < 2:
        raise ValueError("a polyline needs at least two distinct points")
    wanted = np.asarray(s_m, np.float64)
    segment = np.clip(np.searchsorted(arc, wanted, side="right") - 1, 0, len(arc) - 2)
    share = (wanted - arc[segment]) / (arc[segment + 1] - arc[segment])
    return line[segment] + share[..., None] * (line[segment + 1] - line[segment])


def resample(points: ArrayLike, spacing_m: float) -> Float64:
    """The polyline with equal steps of at most `spacing_m` along it, both ends kept: (M, D), M >= 2."""
    length = float(arc_length(points)[-1])
    count = max(math.ceil(length / spacing_m - 1e-9), 1)
    return points_at(points, np.linspace(0.0, length, count + 1))


@njit(cache=True)
def project_on_polyline(points, px, py):  # type: ignore[no-untyped-def]
    """Foot of a point on a polyline (N, 2 or more): (arc length, lateral offset, segment index).

    Lateral is positive to the left.  Arc length is clamped to the polyline; among equal distances the
    earliest wins.
    """
    best, best_s, best_lateral, best_segment = math.inf, 0.0, 0.0, 0
    s = 0.0
    for i in range(len(points) - 1):
        ax, ay = points[i, 0], points[i, 1]
        ux, uy = points[i + 1, 0] - ax, points[i + 1, 1] - ay
        length = math.hypot(ux, uy)
        if length == 0.0:
            continue
        ux, uy = ux / length, uy / length
        along = min(max((px - ax) * ux + (py - ay) * uy, 0.0), length)
        away = math.hypot(px - ax - along * ux, py - ay - along * uy)
        if away < best:
            side = ux * (py - ay) - uy * (px - ax)
            best, best_s, best_segment = away, s + along, i
            best_lateral = away if side >= 0.0 else -away
        s += length
    return best_s, best_lateral, best_segment
