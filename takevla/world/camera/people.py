"""Models of pedestrians and cyclists, in metres for a person 1.8 m tall."""

from __future__ import annotations

from takevla.scene.actors import Cue
from takevla.world.camera.mesh import BLACK, TYRE, Coat, Mesh, Rgb

SKIN: Rgb = (206, 158, 126)
TROUSERS: Rgb = (44, 46, 62)
BRIGHT: Rgb = (236, 255, 40)  # the jacket of somebody who crosses
CROSSING = int(Cue.CROSSING)


def _leg(mesh: Mesh, foot: float, y: float, *, need: int = 0, ban: int = 0) -> None:
    """A leg from the hip above x = 0 to a foot at x = `foot`."""
    w, t = 0.10, 0.10
    low = (foot - t, foot + t, y - w, y + w)
    mesh.frustum(low, (-t, t, y - w, y + w), (0.0, 0.86), TROUSERS, need=need, ban=ban)


def pedestrian() -> Mesh:
    """Standing upright; with `Cue.CROSSING` in stride, one arm raised, in a bright jacket."""
    mesh = Mesh()
    mesh.shadow(0.30, 0.30)
    for y in (-0.12, 0.12):
        _leg(mesh, 0.0, y, ban=CROSSING)
        _leg(mesh, 0.42 if y > 0 else -0.42, y, need=CROSSING)
    torso = (-0.17, 0.17, -0.27, 0.27)
    mesh.frustum(torso, (-0.15, 0.15, -0.30, 0.30), (0.82, 1.46), coat=Coat.PAINT, ban=CROSSING)
    mesh.frustum(torso, (-0.18, 0.18, -0.32, 0.32), (0.78, 1.48), BRIGHT, Coat.RETRO, need=CROSSING)
    for y in (-0.36, 0.36):
        mesh.box((-0.08, 0.08), (y - 0.07, y + 0.07), (0.78, 1.42), coat=Coat.PAINT, ban=CROSSING)
    mesh.frustum(
        (-0.08, 0.10, -0.44, -0.28),
        (0.20, 0.40, -0.46, -0.30),
        (1.32, 2.02),
        BRIGHT,
        Coat.RETRO,
        need=CROSSING,
    )
    mesh.frustum(
        (-0.40, -0.22, 0.30, 0.44), (-0.10, 0.08, 0.28, 0.42), (0.86, 1.42), BRIGHT, Coat.RETRO, need=CROSSING
    )
    mesh.prism((0.02, 0.0), (0.13, 0.13), (1.48, 1.74), 6, SKIN)
    mesh.prism((0.0, 0.0), (0.145, 0.09), (1.68, 1.82), 6, (58, 40, 30))
    return mesh


def bicycle() -> Mesh:
    """A rider on a bicycle that is 1.8 m long; with `Cue.CROSSING` bright and one arm raised."""
    mesh = Mesh()
    mesh.shadow(0.85, 0.25)
    for x in (-0.56, 0.56):
        for y in (0.03, -0.03):
            ring = [
                (x + 0.34, y, 0.34),
                (x + 0.24, y, 0.58),
                (x, y, 0.68),
                (x - 0.24, y, 0.58),
                (x - 0.34, y, 0.34),
                (x - 0.24, y, 0.10),
                (x, y, 0.0),
                (x + 0.24, y, 0.10),
            ]
            mesh.polygon(ring[::-1] if y > 0 else ring, TYRE)
        mesh.box((x - 0.05, x + 0.05), (-0.05, 0.05), (0.02, 0.66), BLACK)
    mesh.box((-0.5, 0.5), (-0.04, 0.04), (0.52, 0.62), (190, 60, 50))
    mesh.box((0.46, 0.56), (-0.30, 0.30), (0.96, 1.04), BLACK)
    mesh.plate(-0.62, (-0.07, 0.07), (0.68, 0.84), (230, 20, 20), Coat.RETRO, facing=-1)
    for y in (-0.12, 0.12):
        mesh.frustum((0.0, 0.2, y - 0.08, y + 0.08), (-0.22, 0.0, y - 0.09, y + 0.09), (0.26, 0.96), TROUSERS)
    low, high = (-0.28, 0.04, -0.22, 0.22), (0.04, 0.30, -0.25, 0.25)
    mesh.frustum(low, high, (0.92, 1.46), coat=Coat.PAINT, ban=CROSSING)
    mesh.frustum(low, high, (0.92, 1.46), BRIGHT, Coat.RETRO, need=CROSSING)
    for y in (-0.26, 0.26):
        arm = (0.12, 0.26, y - 0.06, y + 0.06)
        mesh.frustum((0.42, 0.54, y - 0.05, y + 0.05), arm, (1.02, 1.42), SKIN, ban=CROSSING)
    mesh.frustum(
        (0.10, 0.24, 0.22, 0.36), (0.12, 0.26, 0.50, 0.64), (1.36, 1.98), BRIGHT, Coat.RETRO, need=CROSSING
    )
    mesh.prism((0.26, 0.0), (0.13, 0.13), (1.48, 1.70), 6, SKIN)
    mesh.prism((0.24, 0.0), (0.16, 0.09), (1.62, 1.82), 6, (240, 240, 240))
    return mesh
