"""Reference lines and cubic profiles of OpenDRIVE roads, evaluated for many arc lengths at once."""

from __future__ import annotations

import numpy as np

from takevla.world.maps.opendrive_file import Double, Geometry, RoadRecord

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)  # exact enough for spirals of several turns


def reference_pose(road: RoadRecord, s: Double) -> tuple[Double, Double]:
    """Points (N, 2) and headings (N,) of a road's reference line at arc lengths `s`."""
    starts = np.array([geometry.s for geometry in road.geometries])
    piece = np.clip(np.searchsorted(starts, s, side="right") - 1, 0, len(starts) - 1)
    xy = np.empty((len(s), 2))
    heading = np.empty(len(s))
    for k in np.unique(piece):
        chosen = piece == k
        geometry = road.geometries[k]
        u, v, turned = _local(geometry, s[chosen] - geometry.s)
        cosine, sine = np.cos(geometry.heading), np.sin(geometry.heading)
        xy[chosen, 0] = geometry.x + u * cosine - v * sine
        xy[chosen, 1] = geometry.y + u * sine + v * cosine
        heading[chosen] = geometry.heading + turned
    return xy, heading


def _local(geometry: Geometry, s: Double) -> tuple[Double, Double, Double]:
    """Position (u along, v left) and turned angle in the frame of a geometry's start."""
    if geometry.shape == "line":
        return s, np.zeros_like(s), np.zeros_like(s)
    if geometry.shape == "arc":
        curvature = geometry.values[0]
        if abs(curvature) < 1e-12:
            return s, np.zeros_like(s), np.zeros_like(s)
        turned = curvature * s
        return np.sin(turned) / curvature, (1.0 - np.cos(turned)) / curvature, turned
    if geometry.shape == "spiral":
        first, last = geometry.values
        rate = (last - first) / max(geometry.length, 1e-9)
        at = 0.5 * s[:, None] * (_NODES + 1.0)
        angle = first * at + 0.5 * rate * at**2
        half = 0.5 * s
        return (
            half * (np.cos(angle) @ _WEIGHTS),
            half * (np.sin(angle) @ _WEIGHTS),
            first * s + 0.5 * rate * s**2,
        )
    if geometry.shape == "poly3":
        a, b, c, d = geometry.values
        grid = np.linspace(0.0, max(geometry.length, 1e-9), 200)
        step = np.hypot(np.diff(grid), np.diff(a + grid * (b + grid * (c + grid * d))))
        u = np.interp(s, np.concatenate([[0.0], np.cumsum(step)]), grid)
        return u, a + u * (b + u * (c + u * d)), np.arctan(b + u * (2 * c + u * 3 * d))
    p = s / max(geometry.length, 1e-9) if geometry.normalised else s
    au, bu, cu, du, av, bv, cv, dv = geometry.values
    u, v = au + p * (bu + p * (cu + p * du)), av + p * (bv + p * (cv + p * dv))
    slope_u, slope_v = bu + p * (2 * cu + p * 3 * du), bv + p * (2 * cv + p * 3 * dv)
    return u, v, np.arctan2(slope_v, slope_u)


def cubic_profile(rows: Double, s: Double) -> Double:
    """Values (N,) of piecewise cubics (K, 5: start, a, b, c, d); zero where there are none."""
    if not len(rows):
        return np.zeros_like(s)
    piece = np.clip(np.searchsorted(rows[:, 0], s + 1e-9, side="right") - 1, 0, len(rows) - 1)
    t = s - rows[piece, 0]
    a, b, c, d = rows[piece, 1:].T
    result: Double = a + t * (b + t * (c + t * d))
    return result
