"""Models of vehicles, in units of their extents: x and y in [-0.5, 0.5], z in [0, 1]."""

from __future__ import annotations

from takevla.scene.actors import Cue
from takevla.world.camera.mesh import (
    AMBER,
    BLACK,
    BLUE_LAMP,
    GLASS,
    HEAD_LAMP,
    RED_LAMP,
    TYRE,
    WHITE,
    Coat,
    Mesh,
    Rgb,
)

NIGHT = 1 << 13  # a bit beside the Cue bits: lamps are on
LEFT = int(Cue.INDICATOR_LEFT | Cue.HAZARD)
RIGHT = int(Cue.INDICATOR_RIGHT | Cue.HAZARD)
DOOR_LINING: Rgb = (250, 214, 150)  # pale, so that an open door stands out from behind
PROUD = 0.006  # lamps stand this share of the length before the body


def _wheels(mesh: Mesh, axles: tuple[float, ...], radius: tuple[float, float]) -> None:
    """Dark hexagons on both sides; `radius` in shares of length and height."""
    rx, rz = radius
    for x in axles:
        for y in (0.515, -0.515):
            ring = [
                (x + rx, y, rz),
                (x + 0.5 * rx, y, 1.87 * rz),
                (x - 0.5 * rx, y, 1.87 * rz),
                (x - rx, y, rz),
                (x - 0.5 * rx, y, 0.13 * rz),
                (x + 0.5 * rx, y, 0.13 * rz),
            ]
            mesh.polygon(ring[::-1] if y > 0 else ring, TYRE)
    for x in (min(axles) - rx, max(axles) + rx):
        for y in (-0.5, 0.32):
            mesh.plate(x, (y, y + 0.18), (0.0, 1.4 * rz), TYRE, facing=1 if x > 0 else -1)


def _lamps(mesh: Mesh, rear: tuple[float, float], front: tuple[float, float], centre: float) -> None:
    """Tail, brake, head lamps and indicators; heights (low, high) at the rear and the front."""
    back, nose = -0.5 - PROUD, 0.5 + PROUD
    parked = int(Cue.PARKED)
    for sign in (1, -1):
        inner = (0.22, 0.40) if sign > 0 else (-0.40, -0.22)
        outer = (0.40, 0.52) if sign > 0 else (-0.52, -0.40)
        need = LEFT if sign > 0 else RIGHT
        span = (min(inner[0], outer[0]), max(inner[1], outer[1]))
        mesh.plate(back, span, rear, (96, 14, 16), facing=-1, ban=NIGHT)
        mesh.plate(back, span, rear, (96, 14, 16), facing=-1, need=parked)
        mesh.plate(back, span, rear, (128, 8, 8), Coat.LAMP, facing=-1, need=NIGHT, ban=parked)
        mesh.plate(
            back - PROUD, inner, (rear[0] - 0.03, rear[1] + 0.03), RED_LAMP, Coat.LAMP, facing=-1, need=1
        )
        tall = (rear[0] - 0.06, rear[1] + 0.06)
        mesh.plate(back - 2 * PROUD, outer, tall, AMBER, Coat.LAMP, facing=-1, need=need)
        mesh.plate(nose, inner, front, (206, 210, 206), ban=NIGHT)
        mesh.plate(nose, inner, front, HEAD_LAMP, Coat.LAMP, need=NIGHT, ban=parked)
        mesh.plate(nose + PROUD, outer, (front[0] - 0.04, front[1] + 0.06), AMBER, Coat.LAMP, need=need)
        y = 0.51 * sign
        mesh.side(y, (-0.52, -0.46), tall, AMBER, Coat.LAMP, need=need)
        mesh.side(y, (0.20, 0.27), (front[1], front[1] + 0.10), AMBER, Coat.LAMP, need=need)
        mesh.side(y, (0.46, 0.52), (front[0], front[1]), AMBER, Coat.LAMP, need=need)
    mesh.plate(back - PROUD, (-0.20, 0.20), (centre, centre + 0.06), RED_LAMP, Coat.LAMP, facing=-1, need=1)


def _doors(mesh: Mesh, hinge: float, z: tuple[float, float]) -> None:
    """A front door swung open by some 70 degrees on either side; `hinge` in shares of the length."""
    for sign, need in ((1, int(Cue.DOOR_LEFT)), (-1, int(Cue.DOOR_RIGHT))):
        edge, tip = (hinge, 0.5 * sign), (hinge - 0.07, 1.02 * sign)
        sill = z[0] + 0.68 * (z[1] - z[0])
        for low, high, rgb, coat, lining in (
            (z[0], sill, WHITE, Coat.PAINT, DOOR_LINING),
            (sill, z[1], GLASS, Coat.FIXED, GLASS),
        ):
            outside = [(*edge, low), (*tip, low), (*tip, high), (*edge, high)]
            if sign > 0:
                outside = outside[::-1]
            mesh.quad(outside, rgb, coat, need)
            mesh.quad(outside[::-1], lining, need=need)
        y = 0.503 * sign
        mesh.side(y, (hinge - 0.24, hinge), (z[0], z[1] - 0.05), BLACK, need=need)


def _light_bar(mesh: Mesh, x: tuple[float, float], z: tuple[float, float]) -> None:
    """A roof bar: dark blue, and brightly lit with `Cue.EMERGENCY`."""
    lit = int(Cue.EMERGENCY)
    mesh.box(x, (-0.40, 0.40), z, (30, 40, 96), ban=lit)
    mesh.box(x, (-0.44, 0.44), (z[0], z[1] + 0.05), BLUE_LAMP, Coat.LAMP, need=lit)


def car(stripe: Rgb | None = None, *, bar: bool = False) -> Mesh:
    """A saloon; with a coloured flank and a light bar, a police car."""
    mesh = Mesh()
    mesh.shadow(0.52, 0.56)
    roof = 0.90 if bar else 1.0
    mesh.frustum((-0.5, 0.5, -0.5, 0.5), (-0.49, 0.48, -0.48, 0.48), (0.17, 0.60), coat=Coat.PAINT)
    glass = (-0.40, 0.25, -0.46, 0.46)
    mesh.frustum(glass, (-0.28, 0.08, -0.38, 0.38), (0.60, roof), GLASS, roof=(WHITE, Coat.PAINT))
    for y in (0.472, -0.472):  # the pillar between the doors
        high = y * 0.82
        pillar = [(-0.10, y, 0.60), (-0.05, y, 0.60), (-0.06, high, roof), (-0.10, high, roof)]
        mesh.quad(pillar[::-1] if y > 0 else pillar, coat=Coat.PAINT)
    _wheels(mesh, (-0.31, 0.31), (0.075, 0.23))
    mesh.plate(-0.503, (-0.17, 0.17), (0.33, 0.42), (226, 226, 214), facing=-1)
    mesh.plate(0.503, (-0.20, 0.20), (0.27, 0.42), BLACK)
    if stripe is not None:
        for y in (0.51, -0.51):
            mesh.side(y, (-0.49, 0.48), (0.36, 0.54), stripe)
        mesh.plate(-0.5035, (-0.2, 0.2), (0.44, 0.58), stripe, facing=-1)
    if bar:
        _light_bar(mesh, (-0.16, -0.04), (0.90, 1.0))
    _lamps(mesh, (0.40, 0.58), (0.38, 0.52), 0.64)
    _doors(mesh, 0.16, (0.20, 0.92))
    return mesh


def van(stripe: Rgb | None = None, *, bar: bool = False) -> Mesh:
    """A tall delivery van; with a stripe and a light bar, an ambulance."""
    mesh = Mesh()
    mesh.shadow(0.52, 0.56)
    roof = 0.93 if bar else 1.0
    mesh.frustum((-0.5, 0.36, -0.5, 0.5), (-0.49, 0.22, -0.46, 0.46), (0.14, roof), coat=Coat.PAINT)
    mesh.frustum((0.30, 0.5, -0.49, 0.49), (0.30, 0.42, -0.48, 0.48), (0.14, 0.55), coat=Coat.PAINT)
    windscreen = [(0.37, -0.44, 0.55), (0.37, 0.44, 0.55), (0.25, 0.42, 0.90), (0.25, 0.42, 0.90)]
    windscreen[3] = (0.25, -0.42, 0.90)
    mesh.quad(windscreen, GLASS)
    for y in (0.492, -0.492):
        high = y * 0.96
        pane = [(0.10, y, 0.55), (0.31, y, 0.55), (0.25, high, 0.85), (0.10, high, 0.85)]
        mesh.quad(pane[::-1] if y > 0 else pane, GLASS)
    for y in (-0.38, 0.03):
        mesh.plate(-0.505, (y, y + 0.35), (0.58, 0.86), GLASS, facing=-1)
    _wheels(mesh, (-0.30, 0.32), (0.07, 0.17))
    if stripe is not None:
        for y in (0.51, -0.51):
            mesh.side(y, (-0.49, 0.34), (0.36, 0.50), stripe)
        mesh.plate(-0.506, (-0.46, 0.46), (0.44, 0.54), stripe, facing=-1)
    if bar:
        _light_bar(mesh, (0.02, 0.14), (0.93, 1.0))
        lit = int(Cue.EMERGENCY)
        mesh.plate(-0.508, (-0.46, 0.46), (0.88, 0.99), BLUE_LAMP, Coat.LAMP, facing=-1, need=lit)
        mesh.plate(0.508, (-0.36, 0.36), (0.42, 0.50), BLUE_LAMP, Coat.LAMP, need=lit)
    _lamps(mesh, (0.22, 0.40), (0.28, 0.40), 0.88)
    _doors(mesh, 0.30, (0.16, 0.80))
    return mesh


def truck() -> Mesh:
    """A cab and a pale cargo box."""
    mesh = Mesh()
    mesh.shadow(0.51, 0.54)
    mesh.box((-0.5, 0.24), (-0.5, 0.5), (0.24, 1.0), (212, 208, 198))
    mesh.box((-0.49, 0.24), (-0.42, 0.42), (0.12, 0.24), BLACK)
    mesh.frustum((0.27, 0.5, -0.48, 0.48), (0.27, 0.47, -0.46, 0.46), (0.10, 0.82), coat=Coat.PAINT)
    mesh.plate(0.502, (-0.42, 0.42), (0.48, 0.72), GLASS)
    for y in (0.485, -0.485):
        mesh.side(y, (0.33, 0.45), (0.48, 0.72), GLASS)
    _wheels(mesh, (-0.36, -0.24, 0.38), (0.055, 0.14))
    mesh.plate(-0.502, (-0.46, 0.46), (0.26, 0.96), (186, 182, 172), facing=-1)
    mesh.plate(-0.503, (-0.01, 0.01), (0.26, 0.96), (96, 94, 90), facing=-1)
    _lamps(mesh, (0.13, 0.23), (0.18, 0.28), 0.26)
    _doors(mesh, 0.45, (0.14, 0.74))
    return mesh
