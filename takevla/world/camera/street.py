"""Models of obstacles, signs, signals, and what stands beside the road.

Obstacles and props are in units of their extents (x, y in [-0.5, 0.5], z in [0, 1]); signals and
signs in metres about the pose that the road map gives.
"""

from __future__ import annotations

import math
from itertools import pairwise

from takevla.scene.actors import Cue
from takevla.world.camera.mesh import AMBER, BLACK, STEEL, WHITE, Coat, Mesh, Rgb
from takevla.world.camera.vehicles import NIGHT

ORANGE: Rgb = (255, 96, 10)
SIGN_RED: Rgb = (214, 16, 24)

# Bits of a signal head, beside nothing else.
GREEN_LIT = 1
YELLOW_LIT = 2
RED_LIT = 4

HEAD_WIDTH_M = 1.3  # readable at 30 m in 256 pixels (feasibility: about 1.3 x 3.1 m)
HEAD_HEIGHT_M = 3.1
LAMP_RADIUS_M = 0.56


def signal_head() -> Mesh:
    """Three lamps in a black box about the origin; they shine towards +x, the back is black."""
    mesh = Mesh()
    half, tall = 0.5 * HEAD_WIDTH_M, 0.5 * HEAD_HEIGHT_M
    mesh.box((-0.25, 0.0), (-half, half), (-tall, tall), (16, 16, 17))
    lamps: tuple[tuple[float, int, Rgb, Rgb], ...] = (
        (1.0, RED_LIT, (255, 20, 10), (58, 14, 14)),
        (0.0, YELLOW_LIT, (255, 196, 0), (56, 46, 12)),
        (-1.0, GREEN_LIT, (10, 255, 110), (10, 46, 26)),
    )
    for z, bit, lit, unlit in lamps:
        mesh.disc(0.05, (0.0, z), 0.40, unlit, ban=bit)
        mesh.disc(0.05, (0.0, z), LAMP_RADIUS_M, lit, Coat.LAMP, need=bit)
    return mesh


def post() -> Mesh:
    """A thin post: unit height, scaled to where it must reach."""
    mesh = Mesh()
    mesh.prism((0.0, 0.0), (0.09, 0.09), (0.0, 1.0), 4, STEEL)
    return mesh


def stop_sign() -> Mesh:
    """A red octagon with a white rim and bar that faces +x."""
    mesh = Mesh()
    mesh.disc(0.05, (0.0, 0.0), 0.68, WHITE, Coat.RETRO)
    mesh.disc(0.06, (0.0, 0.0), 0.60, SIGN_RED, Coat.RETRO)
    mesh.plate(0.07, (-0.40, 0.40), (-0.13, 0.13), WHITE, Coat.RETRO)
    mesh.disc(0.04, (0.0, 0.0), 0.68, (120, 122, 124), facing=-1)
    return mesh


def yield_sign() -> Mesh:
    """A white triangle, point down, with a red rim, that faces +x."""
    mesh = Mesh()
    for x, r, rgb in ((0.05, 0.80, SIGN_RED), (0.06, 0.42, WHITE)):
        ring = [(x, r * math.cos(a), r * math.sin(a)) for a in (math.pi / 6, 5 * math.pi / 6, 1.5 * math.pi)]
        mesh.quad(ring, rgb, Coat.RETRO)
        if x == 0.05:
            mesh.quad([(0.04, y, z) for _, y, z in ring[::-1]], (120, 122, 124))
    return mesh


def cone() -> Mesh:
    """Orange with two white bands on a dark foot."""
    mesh = Mesh()
    mesh.box((-0.5, 0.5), (-0.5, 0.5), (0.0, 0.07), (60, 40, 30))
    bands = ((0.40, 0.07), (0.31, 0.30), (0.25, 0.46), (0.17, 0.66), (0.12, 0.80), (0.06, 1.0))
    for i, (low, high) in enumerate(pairwise(bands)):
        rgb = ORANGE if i % 2 == 0 else WHITE
        mesh.prism((0.0, 0.0), (low[0], high[0]), (low[1], high[1]), 5, rgb, Coat.RETRO)
    return mesh


def barrier() -> Mesh:
    """A striped board across the road on two feet."""
    mesh = Mesh()
    for y in (-0.42, 0.34):
        mesh.box((-0.5, 0.5), (y, y + 0.08), (0.0, 0.5), (90, 92, 96))
    for i in range(6):
        y0, y1 = -0.5 + i / 6, -0.5 + (i + 1) / 6
        for z, flip in (((0.45, 1.0), 0), ((0.12, 0.38), 1)):
            rgb = SIGN_RED if (i + flip) % 2 == 0 else WHITE
            mesh.plate(-0.2, (y0, y1), z, rgb, Coat.RETRO, facing=-1)
            mesh.plate(0.2, (y0, y1), z, rgb, Coat.RETRO)
    for y in (0.5, -0.5):
        mesh.side(y, (-0.2, 0.2), (0.12, 1.0), SIGN_RED, Coat.RETRO)
    mesh.quad([(-0.2, -0.5, 1.0), (0.2, -0.5, 1.0), (0.2, 0.5, 1.0), (-0.2, 0.5, 1.0)], WHITE)
    return mesh


def warning_board() -> Mesh:
    """A black board with a lit amber arrow; an amber cross where no side is told.

    Seen from behind (by those who drive along its heading) and from the front alike.
    """
    mesh = Mesh()
    left, right = int(Cue.INDICATOR_LEFT), int(Cue.INDICATOR_RIGHT)
    mesh.box((-0.5, 0.5), (-0.4, 0.4), (0.0, 0.14), ORANGE, Coat.RETRO)
    mesh.box((-0.12, 0.12), (-0.06, 0.06), (0.14, 0.3), STEEL)
    mesh.box((-0.1, 0.1), (-0.5, 0.5), (0.28, 1.0), BLACK)
    for facing, x in ((-1, -0.14), (1, 0.14)):
        for sign, need, ban in ((1, left, right), (-1, right, left)):
            head = [(x, 0.46 * sign, 0.64), (x, 0.12 * sign, 0.94), (x, 0.12 * sign, 0.34)]
            shaft = (-0.42, 0.14) if sign > 0 else (-0.14, 0.42)
            if (sign > 0) != (facing > 0):
                head = head[::-1]
            mesh.quad(head, AMBER, Coat.LAMP, need, ban)
            mesh.plate(x, shaft, (0.56, 0.72), AMBER, Coat.LAMP, facing=facing, need=need, ban=ban)
        for i in range(4):
            y = -0.40 + 0.20 * i
            for low, rise in ((0.40, 0.42), (0.82, -0.42)):
                strip = [
                    (x, y, low + rise * i / 4),
                    (x, y + 0.2, low + rise * (i + 1) / 4),
                    (x, y + 0.2, low + rise * (i + 1) / 4 + 0.14),
                    (x, y, low + rise * i / 4 + 0.14),
                ]
                mesh.quad(strip if facing > 0 else strip[::-1], AMBER, Coat.LAMP, ban=left | right)
    return mesh


def crate() -> Mesh:
    """Any other obstacle: a block with a darker lid line and pale corner marks."""
    mesh = Mesh()
    mesh.shadow(0.54, 0.54)
    mesh.box((-0.5, 0.5), (-0.5, 0.5), (0.0, 1.0), coat=Coat.PAINT)
    for facing, x in ((-1, -0.505), (1, 0.505)):
        mesh.plate(x, (-0.5, 0.5), (0.78, 0.86), BLACK, facing=facing)
        mesh.plate(x, (-0.35, 0.35), (0.30, 0.62), WHITE, Coat.RETRO, facing=facing)
    for y in (0.505, -0.505):
        mesh.side(y, (-0.5, 0.5), (0.78, 0.86), BLACK)
    return mesh


def building(floors: int) -> Mesh:
    """A block in bands: wall, windows, wall, ..."""
    mesh = Mesh()
    step = 1.0 / floors
    walls: tuple[Rgb, Coat] = (WHITE, Coat.PAINT)
    low = 0.0
    for floor in range(floors):
        sill, lintel = (floor + 0.35) * step, (floor + 0.75) * step
        lit = (132, 112, 62) if floor % 2 else (40, 40, 46)
        _walls(mesh, (low, sill), *walls)
        _walls(mesh, (sill, lintel), (64, 76, 92), Coat.FIXED, ban=NIGHT)
        _walls(mesh, (sill, lintel), lit, Coat.LAMP, need=NIGHT)
        low = lintel
    _walls(mesh, (low, 1.0), *walls)
    roof = [(-0.5, -0.5, 1.0), (0.5, -0.5, 1.0), (0.5, 0.5, 1.0), (-0.5, 0.5, 1.0)]
    mesh.quad([(x, y, z) for x, y, z in roof], (120, 112, 106))
    return mesh


def _walls(mesh: Mesh, z: tuple[float, float], rgb: Rgb, coat: Coat, *, need: int = 0, ban: int = 0) -> None:
    """All four sides of a building between two heights."""
    for facing in (-1, 1):
        mesh.plate(0.5 * facing, (-0.5, 0.5), z, rgb, coat, facing=facing, need=need, ban=ban)
        mesh.side(0.5 * facing, (-0.5, 0.5), z, rgb, coat, need=need, ban=ban)


def tree() -> Mesh:
    """A trunk and a crown of two stumps."""
    mesh = Mesh()
    mesh.prism((0.0, 0.0), (0.05, 0.04), (0.0, 0.34), 4, (92, 68, 48))
    mesh.prism((0.0, 0.0), (0.28, 0.48), (0.26, 0.50), 6, coat=Coat.PAINT)
    mesh.prism((0.0, 0.0), (0.48, 0.12), (0.50, 1.0), 6, coat=Coat.PAINT)
    return mesh


def lamp_post() -> Mesh:
    """A mast with an arm and a lamp towards +x, in metres for a height of 8 m (z in [0, 1])."""
    mesh = Mesh()
    mesh.prism((0.0, 0.0), (0.09, 0.06), (0.0, 1.0), 4, (104, 108, 112))
    mesh.box((0.0, 1.6), (-0.05, 0.05), (0.985, 1.0), (104, 108, 112))
    mesh.box((1.0, 1.9), (-0.16, 0.16), (0.965, 1.0), (214, 214, 206), ban=NIGHT)
    mesh.box((1.0, 1.9), (-0.16, 0.16), (0.965, 1.0), (255, 226, 160), Coat.LAMP, need=NIGHT)
    under = [(1.0, -0.16, 0.965), (1.0, 0.16, 0.965), (1.9, 0.16, 0.965), (1.9, -0.16, 0.965)]
    mesh.quad(under, (255, 226, 160), Coat.LAMP, need=NIGHT)
    return mesh
