"""Plane curves that roads are made of: sampled polylines that carry their exact tangents."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from takevla.scene.trace import tangent_headings

Double = NDArray[np.float64]

FINE_SPACING_M = 0.25  # sampling of curves before they become lanes
RUN_UP_M = 35.0  # straight stretch kept at the ends of a rounded polyline, where junctions lie
TURN_LEAST_RAD = math.radians(20.0)  # sharper: line-arc-line; gentler: one cubic


@dataclass(frozen=True)
class Curve:
    """A directed plane curve of N samples: `xy` (N, 2) m, `heading` (N,) rad unwrapped, `s` (N,) m."""

    xy: Double
    heading: Double
    s: Double

    @property
    def length_m(self) -> float:
        """Arc length."""
        return float(self.s[-1])


def curve_from_points(xy: Double, heading: Double | None = None) -> Curve:
    """A curve through dense smooth samples; the tangent is estimated where it is not given."""
    steps = np.hypot(*np.diff(xy, axis=0).T)
    keep = np.concatenate([[True], steps > 1e-9])
    xy = xy[keep]
    if len(xy) < 2:
        raise ValueError("a curve needs two distinct points")
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xy, axis=0).T))])
    if heading is None:
        heading = tangent_headings(xy, s)
    else:
        heading = heading[keep]
    return Curve(xy, np.unwrap(heading), s)


def resample(curve: Curve, spacing_m: float) -> Curve:
    """The same curve at equal spacing of at most `spacing_m`, ends kept exactly."""
    count = max(1, math.ceil(curve.length_m / spacing_m - 1e-9))
    s = np.linspace(0.0, curve.length_m, count + 1)
    xy = np.column_stack([np.interp(s, curve.s, curve.xy[:, k]) for k in (0, 1)])
    heading = np.interp(s, curve.s, curve.heading)
    return Curve(xy, heading, s)


def part(curve: Curve, start_m: float, end_m: float) -> Curve:
    """The stretch of a curve between two arc lengths (start < end)."""
    inside = curve.s[(curve.s > start_m + 1e-6) & (curve.s < end_m - 1e-6)]
    s = np.concatenate([[start_m], inside, [end_m]])
    xy = np.column_stack([np.interp(s, curve.s, curve.xy[:, k]) for k in (0, 1)])
    return Curve(xy, np.interp(s, curve.s, curve.heading), s - start_m)


def offset(curve: Curve, left_m: float | Double) -> Curve:
    """The curve moved sideways, to the left where positive; a varying offset tilts the tangent."""
    normal = np.column_stack([-np.sin(curve.heading), np.cos(curve.heading)])
    shift = np.broadcast_to(np.asarray(left_m, np.float64), curve.s.shape)
    xy = curve.xy + shift[:, None] * normal
    if np.ndim(left_m) == 0:
        return curve_from_points(xy, curve.heading)
    return curve_from_points(xy, curve.heading + np.arctan(np.gradient(shift, curve.s)))


def reverse(curve: Curve) -> Curve:
    """The curve driven the other way."""
    return Curve(curve.xy[::-1], curve.heading[::-1] + math.pi, curve.length_m - curve.s[::-1])


def join(*curves: Curve) -> Curve:
    """Curves one after the other; each starts where the one before ends."""
    xy = np.concatenate([curve.xy for curve in curves])
    return curve_from_points(xy, np.unwrap(np.concatenate([curve.heading for curve in curves])))


def line(start: Double, end: Double) -> Curve:
    """A straight segment."""
    length = float(np.hypot(*(end - start)))
    count = max(1, math.ceil(length / FINE_SPACING_M))
    t = np.linspace(0.0, 1.0, count + 1)[:, None]
    heading = np.full(count + 1, math.atan2(end[1] - start[1], end[0] - start[0]))
    return Curve(start + t * (end - start), heading, t[:, 0] * length)


def arc(start: Double, heading: float, radius_m: float, angle_rad: float) -> Curve:
    """A circular arc from a pose, to the left where `angle_rad` is positive."""
    count = max(2, math.ceil(abs(angle_rad) * radius_m / FINE_SPACING_M))
    turned = np.linspace(0.0, angle_rad, count + 1)
    sign = math.copysign(1.0, angle_rad)
    centre = start + sign * radius_m * np.array([-math.sin(heading), math.cos(heading)])
    headings = heading + turned
    xy = centre + sign * radius_m * np.column_stack([np.sin(headings), -np.cos(headings)])
    return Curve(xy, headings, np.abs(turned) * radius_m)


def cubic(start: Double, heading0: float, end: Double, heading1: float) -> Curve:
    """A cubic Bezier between two poses, for lane shifts and gentle bends."""
    handle = float(np.hypot(*(end - start))) * 0.4
    first = start + handle * np.array([math.cos(heading0), math.sin(heading0)])
    second = end - handle * np.array([math.cos(heading1), math.sin(heading1)])
    count = max(8, math.ceil(float(np.hypot(*(end - start))) / FINE_SPACING_M))
    t = np.linspace(0.0, 1.0, count + 1)[:, None]
    u = 1.0 - t
    xy = u**3 * start + 3 * u**2 * t * first + 3 * u * t**2 * second + t**3 * end
    slope = u**2 * (first - start) + 2 * u * t * (second - first) + t**2 * (end - second)
    return curve_from_points(xy, np.unwrap(np.arctan2(slope[:, 1], slope[:, 0])))


def connect(start: Double, heading0: float, end: Double, heading1: float) -> Curve:
    """A tangent-continuous path between two poses: line, arc, line where they turn, else a cubic."""
    turn = (heading1 - heading0 + math.pi) % (2 * math.pi) - math.pi
    ahead0 = np.array([math.cos(heading0), math.sin(heading0)])
    ahead1 = np.array([math.cos(heading1), math.sin(heading1)])
    cross = ahead0[0] * ahead1[1] - ahead0[1] * ahead1[0]
    if TURN_LEAST_RAD < abs(turn) < math.radians(160.0):
        gap = end - start
        to_corner = float((gap[0] * ahead1[1] - gap[1] * ahead1[0]) / cross)
        from_corner = float(np.dot(end - (start + to_corner * ahead0), ahead1))
        tangent = min(to_corner, from_corner)
        if tangent > 2.0:
            radius = tangent / math.tan(abs(turn) / 2.0)
            pieces = []
            entry = start + (to_corner - tangent) * ahead0
            if to_corner - tangent > 1e-3:
                pieces.append(line(start, entry))
            bend = arc(entry, heading0, radius, turn)
            pieces.append(bend)
            if from_corner - tangent > 1e-3:
                pieces.append(line(bend.xy[-1], end))
            return join(*pieces)
    return cubic(start, heading0, end, heading1)


def _room(length_m: float, at_end: bool) -> float:
    """How much of a segment a corner's tangent may take."""
    return max(0.45 * length_m, length_m - RUN_UP_M) if at_end else 0.5 * length_m - 1.0


def rounded(vertices: Double, radii: Double) -> Curve:
    """A polyline whose inner corner k is rounded by a circular arc of at most `radii[k]` (radii: (N,))."""
    pieces: list[Curve] = []
    at = vertices[0]
    for k in range(1, len(vertices) - 1):
        before, corner, after = vertices[k - 1], vertices[k], vertices[k + 1]
        into, out = corner - before, after - corner
        heading = math.atan2(into[1], into[0])
        turn = (math.atan2(out[1], out[0]) - heading + math.pi) % (2 * math.pi) - math.pi
        if abs(turn) < 1e-4:
            continue
        # Inner segments are shared by two corners; at the ends a straight run-up stays.
        before_room = _room(float(np.hypot(*into)), k == 1)
        room = min(before_room, _room(float(np.hypot(*out)), k == len(vertices) - 2))
        radius = min(float(radii[k]), room / math.tan(abs(turn) / 2.0))
        tangent = radius * math.tan(abs(turn) / 2.0)
        entry = corner - tangent * into / np.hypot(*into)
        pieces.append(line(at, entry))
        bend = arc(entry, heading, radius, turn)
        pieces.append(bend)
        at = bend.xy[-1]
    pieces.append(line(at, vertices[-1]))
    return join(*pieces)
