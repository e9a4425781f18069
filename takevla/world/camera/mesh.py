"""Models as lists of flat-coloured quads, built from a few solids."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Rgb = tuple[int, int, int]
Point = tuple[float, float, float]

BLACK: Rgb = (22, 22, 24)
TYRE: Rgb = (28, 28, 30)
GLASS: Rgb = (38, 50, 64)
STEEL: Rgb = (120, 124, 128)
WHITE: Rgb = (238, 238, 236)
AMBER: Rgb = (255, 160, 0)
RED_LAMP: Rgb = (255, 16, 10)
BLUE_LAMP: Rgb = (30, 90, 255)
HEAD_LAMP: Rgb = (255, 250, 225)


class Coat(IntEnum):
    """How a quad takes its colour and the light."""

    FIXED = 0  # its own colour
    PAINT = 1  # the instance's colour, shaded
    LAMP = 2  # shines by itself
    RETRO = 3  # its own colour, and throws head lights back at night
    SHADOW = 4  # lies on the ground like paint
    RETRO_PAINT = 5  # the instance's colour, and throws head lights back


def shade(normal: NDArray[np.float64]) -> float:
    """Brightness of a face by its normal in the model's frame: a fixed sun from above, behind and left."""
    return float(0.76 + 0.24 * normal[2] - 0.06 * normal[0] + 0.07 * normal[1])


@dataclass
class Mesh:
    """A model under construction.  Corners run counter-clockwise seen from outside."""

    corners: list[list[Point]] = field(default_factory=list)
    colours: list[Rgb] = field(default_factory=list)
    coats: list[int] = field(default_factory=list)
    need: list[int] = field(default_factory=list)
    ban: list[int] = field(default_factory=list)

    def quad(
        self, corners: Sequence[Point], rgb: Rgb = WHITE, coat: Coat = Coat.FIXED, need: int = 0, ban: int = 0
    ) -> None:
        """Add a quad or triangle, drawn when any bit of `need` (if given) and none of `ban` is set."""
        points = list(corners)
        if len(points) == 3:
            points.append(points[2])
        diagonals = np.array(points, np.float64)
        normal = np.cross(diagonals[2] - diagonals[0], diagonals[3] - diagonals[1])
        length = float(np.linalg.norm(normal))
        if coat in (Coat.FIXED, Coat.PAINT, Coat.RETRO, Coat.RETRO_PAINT) and length > 0.0:
            light = shade(normal / length)
            rgb = (int(rgb[0] * light), int(rgb[1] * light), int(rgb[2] * light))
        self.corners.append(points)
        self.colours.append(rgb)
        self.coats.append(int(coat))
        self.need.append(need)
        self.ban.append(ban)

    def frustum(
        self,
        low: tuple[float, float, float, float],
        high: tuple[float, float, float, float],
        z: tuple[float, float],
        rgb: Rgb = WHITE,
        coat: Coat = Coat.FIXED,
        *,
        roof: tuple[Rgb, Coat] | None = None,
        need: int = 0,
        ban: int = 0,
    ) -> None:
        """A block whose rectangle (x0, x1, y0, y1) grows from `low` at z[0] to `high` at z[1]; no floor."""
        (a0, a1, b0, b1), (c0, c1, d0, d1) = low, high
        bottom = [(a1, b0, z[0]), (a1, b1, z[0]), (a0, b1, z[0]), (a0, b0, z[0])]
        top = [(c1, d0, z[1]), (c1, d1, z[1]), (c0, d1, z[1]), (c0, d0, z[1])]
        for i in range(4):
            j = (i + 1) % 4
            self.quad([bottom[i], bottom[j], top[j], top[i]], rgb, coat, need, ban)
        top_rgb, top_coat = roof or (rgb, coat)
        self.quad(top, top_rgb, top_coat, need, ban)

    def box(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        z: tuple[float, float],
        rgb: Rgb = WHITE,
        coat: Coat = Coat.FIXED,
        *,
        roof: tuple[Rgb, Coat] | None = None,
        need: int = 0,
        ban: int = 0,
    ) -> None:
        """An upright block without a floor."""
        rectangle = (x[0], x[1], y[0], y[1])
        self.frustum(rectangle, rectangle, z, rgb, coat, roof=roof, need=need, ban=ban)

    def prism(
        self,
        centre: tuple[float, float],
        radii: tuple[float, float],
        z: tuple[float, float],
        sides: int,
        rgb: Rgb = WHITE,
        coat: Coat = Coat.FIXED,
        *,
        need: int = 0,
        ban: int = 0,
    ) -> None:
        """An upright cone stump of `sides` faces with radii below and above; capped when it ends flat."""
        turn = [2.0 * math.pi * (i + 0.5) / sides for i in range(sides)]
        ring = [
            [(centre[0] + r * math.cos(a), centre[1] + r * math.sin(a), height) for a in turn]
            for r, height in zip(radii, z, strict=True)
        ]
        for i in range(sides):
            j = (i + 1) % sides
            self.quad([ring[0][i], ring[0][j], ring[1][j], ring[1][i]], rgb, coat, need, ban)
        if radii[1] > 0.0:
            self.polygon(ring[1], rgb, coat, need=need, ban=ban)

    def polygon(
        self, points: Sequence[Point], rgb: Rgb, coat: Coat = Coat.FIXED, *, need: int = 0, ban: int = 0
    ) -> None:
        """A convex polygon, counter-clockwise seen from outside, as a fan of quads."""
        last = len(points) - 1
        for i in range(1, last, 2):
            self.quad([points[0], points[i], points[i + 1], points[min(i + 2, last)]], rgb, coat, need, ban)

    def plate(
        self,
        x: float,
        y: tuple[float, float],
        z: tuple[float, float],
        rgb: Rgb,
        coat: Coat = Coat.FIXED,
        *,
        facing: int = 1,
        need: int = 0,
        ban: int = 0,
    ) -> None:
        """An upright rectangle across the x axis that faces forward (+1) or backward (-1)."""
        points: list[Point] = [(x, y[0], z[0]), (x, y[1], z[0]), (x, y[1], z[1]), (x, y[0], z[1])]
        self.quad(points if facing > 0 else points[::-1], rgb, coat, need, ban)

    def side(
        self,
        y: float,
        x: tuple[float, float],
        z: tuple[float, float],
        rgb: Rgb,
        coat: Coat = Coat.FIXED,
        *,
        need: int = 0,
        ban: int = 0,
    ) -> None:
        """An upright rectangle along the x axis that faces left where y > 0, else right."""
        points: list[Point] = [(x[0], y, z[0]), (x[1], y, z[0]), (x[1], y, z[1]), (x[0], y, z[1])]
        self.quad(points[::-1] if y > 0 else points, rgb, coat, need, ban)

    def disc(
        self,
        x: float,
        centre: tuple[float, float],
        radius: float,
        rgb: Rgb,
        coat: Coat = Coat.FIXED,
        *,
        facing: int = 1,
        need: int = 0,
        ban: int = 0,
    ) -> None:
        """An upright octagon across the x axis about (y, z) = `centre`, flat side down."""
        turn = [math.pi / 8 + math.pi / 4 * i for i in range(8)]
        points = [(x, centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in turn]
        self.polygon(points if facing > 0 else points[::-1], rgb, coat, need=need, ban=ban)

    def shadow(self, x: float, y: float) -> None:
        """A dark patch under the model, half lengths `x` and `y`."""
        z = 0.035
        self.quad([(-x, -y, z), (x, -y, z), (x, y, z), (-x, y, z)], (34, 34, 37), Coat.SHADOW)
