"""All models in flat arrays, and which model, size and colour an actor or prop gets."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from takevla.scene.actors import ActorKind
from takevla.world.camera import people, street, vehicles
from takevla.world.camera.mesh import Mesh

BUILDING_FLOORS = (1, 2, 3, 4, 6, 8, 12)
FLOOR_HEIGHT_M = 3.4


class Models(NamedTuple):
    """T models of Q quads in all, as the emit kernel takes them."""

    start: NDArray[np.int32]  # (T + 1,) first quad of each model
    corner: NDArray[np.float32]  # (Q, 4, 3) in the model's own units
    rgb: NDArray[np.uint8]  # (Q, 3)
    coat: NDArray[np.int8]  # (Q,) Coat
    need: NDArray[np.int32]  # (Q,)
    ban: NDArray[np.int32]  # (Q,)


def _meshes() -> dict[str, Mesh]:
    meshes = {
        "car": vehicles.car(),
        "van": vehicles.van(),
        "truck": vehicles.truck(),
        "police": vehicles.car((20, 40, 120), bar=True),
        "ambulance": vehicles.van((214, 30, 30), bar=True),
        "bicycle": people.bicycle(),
        "pedestrian": people.pedestrian(),
        "cone": street.cone(),
        "barrier": street.barrier(),
        "warning": street.warning_board(),
        "box": street.crate(),
        "signal": street.signal_head(),
        "post": street.post(),
        "stop": street.stop_sign(),
        "yield": street.yield_sign(),
        "tree": street.tree(),
        "lamp": street.lamp_post(),
    }
    meshes.update({f"building{floors}": street.building(floors) for floors in BUILDING_FLOORS})
    return meshes


@cache
def model_index() -> dict[str, int]:
    """Row of each model by name."""
    return {name: row for row, name in enumerate(_meshes())}


@cache
def models() -> Models:
    """The packed models, built once."""
    meshes = list(_meshes().values())
    start = np.zeros(len(meshes) + 1, np.int32)
    start[1:] = np.cumsum([len(mesh.corners) for mesh in meshes])
    return Models(
        start=start,
        corner=np.array([quad for mesh in meshes for quad in mesh.corners], np.float32),
        rgb=np.clip([rgb for mesh in meshes for rgb in mesh.colours], 0, 255).astype(np.uint8),
        coat=np.array([coat for mesh in meshes for coat in mesh.coats], np.int8),
        need=np.array([bits for mesh in meshes for bits in mesh.need], np.int32),
        ban=np.array([bits for mesh in meshes for bits in mesh.ban], np.int32),
    )


# Saturated red, amber, blue and yellow-green are kept for lamps and jackets.
CAR_PAINT = np.array(
    [
        (196, 200, 204),
        (66, 70, 76),
        (232, 232, 228),
        (60, 84, 130),
        (116, 42, 44),
        (70, 104, 84),
        (150, 136, 112),
        (36, 38, 44),
        (112, 150, 168),
        (132, 112, 140),
    ],
    np.uint8,
)
COAT_CLOTH = np.array(
    [(88, 108, 160), (140, 96, 70), (120, 124, 132), (150, 78, 96), (74, 118, 106), (190, 178, 164)], np.uint8
)
CRATE_PAINT = np.array([(140, 108, 72), (96, 112, 120), (150, 132, 110), (88, 104, 76)], np.uint8)
PLAIN = np.array([(240, 240, 240)], np.uint8)

_NAMES = {
    ActorKind.CAR: ("car", CAR_PAINT, True),
    ActorKind.VAN: ("van", CAR_PAINT, True),
    ActorKind.TRUCK: ("truck", CAR_PAINT, True),
    ActorKind.POLICE: ("police", PLAIN, True),
    ActorKind.AMBULANCE: ("ambulance", PLAIN, True),
    ActorKind.BICYCLE: ("bicycle", COAT_CLOTH, False),
    ActorKind.PEDESTRIAN: ("pedestrian", COAT_CLOTH, False),
    ActorKind.CONE: ("cone", PLAIN, True),
    ActorKind.BARRIER: ("barrier", PLAIN, True),
    ActorKind.WARNING_SIGN: ("warning", PLAIN, True),
    ActorKind.BOX: ("box", CRATE_PAINT, True),
}
PALETTE_ROWS = 16
REFERENCE_HEIGHT_M = 1.8  # of the models that are drawn in metres: people
SMALLEST_M = {  # so that thin or missing extents can still be seen
    ActorKind.CONE: (0.45, 0.45, 0.75),
    ActorKind.BARRIER: (0.5, 1.2, 0.9),
    ActorKind.WARNING_SIGN: (0.8, 1.4, 1.8),
    ActorKind.BOX: (0.3, 0.3, 0.3),
}


class KindTable(NamedTuple):
    """Look-ups by `ActorKind`, rows 0..127."""

    model: NDArray[np.int32]  # (128,) model row
    palette: NDArray[np.uint8]  # (128, PALETTE_ROWS, 3) paints, repeated to fill
    scaled: NDArray[np.bool_]  # (128,) model in units of the extents, else in metres
    smallest: NDArray[np.float32]  # (128, 3) least extents


@cache
def kind_table() -> KindTable:
    """How each kind of actor is drawn; kinds unknown here become boxes."""
    rows = model_index()
    table = KindTable(
        model=np.full(128, rows["box"], np.int32),
        palette=np.resize(CRATE_PAINT, (128, PALETTE_ROWS, 3)),
        scaled=np.ones(128, np.bool_),
        smallest=np.full((128, 3), 0.1, np.float32),
    )
    for kind, (name, paint, scaled) in _NAMES.items():
        table.model[kind] = rows[name]
        table.palette[kind] = np.resize(paint, (PALETTE_ROWS, 3))
        table.scaled[kind] = scaled
        table.smallest[kind] = SMALLEST_M.get(kind, (0.1, 0.1, 0.1))
    return table
