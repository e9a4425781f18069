"""How a simulator's cameras project: OpenCV's pinhole and fisheye models and the f-theta polynomial.

Each function takes points (N, 3) in a camera's optical frame (x right, y down, z forward) and gives pixels
(N, 2) as (column, row) with the picture's corner at 0, and which of them lie in the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Pixels = tuple[Floats, NDArray[np.bool_]]
WIDEST_TAN = 4.0  # of a pinhole camera's rays; beyond it the distortion's polynomials mean nothing


@dataclass(frozen=True)
class Picture:
    """Size and principal point of a camera's picture, px."""

    width: int
    height: int
    column: float
    row: float

    def holds(self, pixels: Floats) -> NDArray[np.bool_]:
        """Which pixels lie in it."""
        inside = (pixels >= 0.0) & (pixels < (self.width, self.height))
        return np.asarray(inside.all(axis=1))


@dataclass(frozen=True)
class Pinhole:
    """OpenCV's pinhole camera: k1, k2, k3, k4, k5, k6 radial, p1, p2 tangential, s1 to s4 thin prism."""

    picture: Picture
    focal_px: tuple[float, float]
    radial: tuple[float, ...] = ()
    tangential: tuple[float, ...] = ()
    prism: tuple[float, ...] = ()

    def project(self, points: Floats) -> Pixels:
        """Pixels and which are seen."""
        depth = np.where(points[:, 2] > 1e-6, points[:, 2], np.inf)
        x, y = points[:, 0] / depth, points[:, 1] / depth
        ahead = (points[:, 2] > 1e-6) & (np.hypot(x, y) < WIDEST_TAN)
        k, p, s = _filled(self.radial, 6), _filled(self.tangential, 2), _filled(self.prism, 4)
        r2 = x * x + y * y
        scale = (1 + r2 * (k[0] + r2 * (k[1] + r2 * k[2]))) / (1 + r2 * (k[3] + r2 * (k[4] + r2 * k[5])))
        xd = x * scale + 2 * p[0] * x * y + p[1] * (r2 + 2 * x * x) + s[0] * r2 + s[1] * r2 * r2
        yd = y * scale + p[0] * (r2 + 2 * y * y) + 2 * p[1] * x * y + s[2] * r2 + s[3] * r2 * r2
        pixels = np.column_stack([xd, yd]) * self.focal_px + (self.picture.column, self.picture.row)
        return pixels, ahead & self.picture.holds(pixels)


@dataclass(frozen=True)
class Radial:
    """A camera whose distance from the principal point is a polynomial of the angle from its axis.

    Covers f-theta (`polynomial` in px, rising powers of the angle in rad from 0) and OpenCV's fisheye
    (focal length times angle + k1 angle^3 + ..., as `fisheye` makes it).  `stretch` scales (x, y).
    """

    picture: Picture
    polynomial: tuple[float, ...]
    max_angle_rad: float
    stretch: tuple[float, float] = (1.0, 1.0)

    def project(self, points: Floats) -> Pixels:
        """Pixels and which are seen."""
        across = np.hypot(points[:, 0], points[:, 1])
        angle = np.arctan2(across, points[:, 2])
        reach = np.polynomial.polynomial.polyval(angle, np.array(self.polynomial))
        direction = points[:, :2] / np.maximum(across, 1e-12)[:, None]
        pixels = reach[:, None] * direction * self.stretch + (self.picture.column, self.picture.row)
        return pixels, (angle <= self.max_angle_rad) & self.picture.holds(pixels)


def fisheye(
    picture: Picture, focal_px: tuple[float, float], radial: tuple[float, ...], most: float
) -> Radial:
    """OpenCV's fisheye camera with k1 to k4; `most` is the largest angle in rad."""
    polynomial = [0.0, 1.0]
    for k in radial:
        polynomial += [0.0, k]
    return Radial(picture, tuple(polynomial), most, focal_px)


def _filled(values: tuple[float, ...], length: int) -> tuple[float, ...]:
    return (*values, *[0.0] * (length - len(values)))
