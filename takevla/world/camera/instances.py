"""Placed models: the kernel that turns those in view into one batch of coloured quads.

A vertex is 16 bytes, three float32 of position and four bytes R, G, B, A.  Alpha is no opacity:
it carries what the look (`look.py`) must know of the surface: its kind and its distance.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from takevla.scene.actors import Actors
from takevla.world.camera.mesh import Coat
from takevla.world.camera.models import PALETTE_ROWS, REFERENCE_HEIGHT_M, Models, kind_table
from takevla.world.camera.vehicles import NIGHT

# Kinds of surface in the alpha byte.  Below OBJECT: what lies on the ground.
SKY = 0  # nothing drawn: sky above the horizon, grass below
GRASS = 1
ROAD = 2
PAINT = 3
PAVEMENT = 4
OBJECT = 64  # + distance step
LAMP = 128  # + distance step
RETRO = 192  # + distance step
DISTANCE_STEPS = 64
DISTANCE_STEP_M = 3.0

DRAW_DISTANCE_M = 170.0
SMALL_DISTANCE_M = 110.0  # beyond it, models smaller than SMALL_RADIUS_M are left out
SMALL_RADIUS_M = 1.2

_SHADOW = int(Coat.SHADOW)
_PAINT = int(Coat.PAINT)
_LAMP = int(Coat.LAMP)
_RETRO = int(Coat.RETRO)
_RETRO_PAINT = int(Coat.RETRO_PAINT)


class Instances(NamedTuple):
    """I placed models, world frame."""

    model: NDArray[np.int32]  # (I,)
    pose: NDArray[np.float32]  # (I, 4) x, y, z of the model's origin, yaw
    scale: NDArray[np.float32]  # (I, 3)
    rgb: NDArray[np.uint8]  # (I, 3) paint
    bits: NDArray[np.int32]  # (I,) what `need` and `ban` of quads look at
    radius: NDArray[np.float32]  # (I,) of a sphere about the origin that holds the model


def actor_instances(actors: Actors, night: bool) -> Instances:
    """The valid actors as placed models.  Paint follows from the id; lamps are on at night."""
    table = kind_table()
    rows = np.flatnonzero(actors.valid)
    kind = actors.kind[rows].astype(np.int64) & 127
    extent = np.maximum(actors.extent_m[rows].astype(np.float32), table.smallest[kind])
    scaled = table.scaled[kind]
    tall = extent[:, 2:3] / REFERENCE_HEIGHT_M
    scale = np.where(scaled[:, None], extent, np.concatenate([np.ones_like(extent[:, :2]), tall], axis=1))
    pose = np.concatenate(
        [actors.position_world[rows], actors.heading_rad[rows, None]], axis=1, dtype=np.float32
    )
    identity = actors.id[rows].astype(np.uint32) * np.uint32(2654435761)
    choice = (identity >> np.uint32(20)).astype(np.int64) % PALETTE_ROWS
    bits = actors.cue[rows].astype(np.int32)
    if night:
        bits = bits | NIGHT
    return Instances(
        model=table.model[kind],
        pose=pose,
        scale=scale.astype(np.float32),
        rgb=table.palette[kind, choice],
        bits=bits,
        radius=(0.6 * np.linalg.norm(extent, axis=1) + 1.2).astype(np.float32),
    )


@njit(cache=True)
def emit(
    models: Models,
    instances: Instances,
    eye: NDArray[np.float64],
    yaw: float,
    tan_half: float,
    solids: NDArray[np.float32],
    shadows: NDArray[np.float32],
) -> tuple[int, int]:
    """Write the quads that face the eye into `solids` and `shadows`, each (capacity * 4, 4).

    `eye` is the camera's position, `tan_half` the tangent of half its field of view.  Returns the
    number of quads in each; what exceeds a capacity is left out.
    """
    forward_x, forward_y = np.cos(yaw), np.sin(yaw)
    widen = np.sqrt(1.0 + tan_half * tan_half)
    solid_count, shadow_count = 0, 0
    for i in range(len(instances.model)):
        dx = instances.pose[i, 0] - eye[0]
        dy = instances.pose[i, 1] - eye[1]
        radius = instances.radius[i]
        depth = forward_x * dx + forward_y * dy
        if depth < -radius or depth > DRAW_DISTANCE_M + radius:
            continue
        if depth > SMALL_DISTANCE_M and radius < SMALL_RADIUS_M:
            continue
        across = abs(forward_x * dy - forward_y * dx)
        if across > depth * tan_half + radius * widen:
            continue
        step = min(int(np.sqrt(dx * dx + dy * dy) / DISTANCE_STEP_M), DISTANCE_STEPS - 1)
        cos, sin = np.cos(instances.pose[i, 3]), np.sin(instances.pose[i, 3])
        px, py, pz = instances.pose[i, 0], instances.pose[i, 1], instances.pose[i, 2]
        sx, sy, sz = instances.scale[i, 0], instances.scale[i, 1], instances.scale[i, 2]
        bits = instances.bits[i]
        # The eye in the model's own units: back faces are told without transforming them.
        ex = (-cos * dx - sin * dy) / sx
        ey = (sin * dx - cos * dy) / sy
        ez = (eye[2] - pz) / sz
        model = instances.model[i]
        for q in range(models.start[model], models.start[model + 1]):
            if models.need[q] != 0 and (models.need[q] & bits) == 0:
                continue
            if (models.ban[q] & bits) != 0:
                continue
            c = models.corner[q]
            ax, ay, az = c[2, 0] - c[0, 0], c[2, 1] - c[0, 1], c[2, 2] - c[0, 2]
            bx, by, bz = c[3, 0] - c[1, 0], c[3, 1] - c[1, 1], c[3, 2] - c[1, 2]
            nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
            if nx * (ex - c[0, 0]) + ny * (ey - c[0, 1]) + nz * (ez - c[0, 2]) <= 0.0:
                continue
            coat = models.coat[q]
            r, g, b = np.uint32(models.rgb[q, 0]), np.uint32(models.rgb[q, 1]), np.uint32(models.rgb[q, 2])
            alpha = np.uint32(OBJECT + step)
            if coat in (_PAINT, _RETRO_PAINT):
                r = np.uint32(r * np.uint32(instances.rgb[i, 0]) // np.uint32(240))
                g = np.uint32(g * np.uint32(instances.rgb[i, 1]) // np.uint32(240))
                b = np.uint32(b * np.uint32(instances.rgb[i, 2]) // np.uint32(240))
            if coat == _LAMP:
                alpha = np.uint32(LAMP + step)
            elif coat in (_RETRO, _RETRO_PAINT):
                alpha = np.uint32(RETRO + step)
            elif coat == _SHADOW:
                alpha = np.uint32(ROAD)
            code = r | (g << np.uint32(8)) | (b << np.uint32(16)) | (alpha << np.uint32(24))
            if coat == _SHADOW:
                vertices, row = shadows, 4 * shadow_count
                shadow_count += 1
            else:
                vertices, row = solids, 4 * solid_count
                solid_count += 1
            if row >= len(vertices):
                return min(solid_count, len(solids) // 4), min(shadow_count, len(shadows) // 4)
            for k in range(4):
                x, y = c[k, 0] * sx, c[k, 1] * sy
                vertices[row, 0] = px + cos * x - sin * y
                vertices[row, 1] = py + sin * x + cos * y
                vertices[row, 2] = pz + c[k, 2] * sz
                vertices.view(np.uint32)[row, 3] = code
                row += 1
    return solid_count, shadow_count
