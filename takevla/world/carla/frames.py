"""The border between CARLA's frame and this project's: the only place where values cross it.

CARLA (Unreal) is left-handed: x forward, y to the RIGHT, z up, yaw CLOCKWISE seen from above, degrees;
box extents are HALF lengths, the wheel is positive to the right.  Here: REP-103, y to the left, yaw
counter-clockwise, radians, full lengths, the wheel positive to the left.  Arguments are anything with
the attributes of `carla.Location`, `Rotation`, `Transform`, `BoundingBox`; `carla` is not imported.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from takevla.scene.scene import Controls
from takevla.world.camera.rig import Rig


class Vector(Protocol):
    """`carla.Location` or `carla.Vector3D`."""

    x: float
    y: float
    z: float


class Rotation(Protocol):
    """`carla.Rotation`, degrees."""

    pitch: float
    yaw: float
    roll: float


class Transform(Protocol):
    """`carla.Transform`."""

    location: Vector
    rotation: Rotation


class Box(Protocol):
    """`carla.BoundingBox`: centre in the frame of its actor, half extents."""

    location: Vector
    extent: Vector


class Pedals(Protocol):
    """`carla.VehicleControl`."""

    steer: float
    throttle: float
    brake: float


def vector_world(vector: Vector) -> NDArray[np.float64]:
    """(3,) REP-103 of a location (m), velocity (m/s) or acceleration (m/s^2)."""
    return np.array([vector.x, 0.0 - vector.y, vector.z])


def vector_carla(vector_world: NDArray[np.floating]) -> tuple[float, float, float]:
    """x, y, z for `carla.Location` or `carla.Vector3D`: inverse of `vector_world`."""
    x, y, z = (float(value) for value in vector_world)
    return x, 0.0 - y, z


def heading_rad(yaw_deg: float) -> float:
    """Heading in [-pi, pi) of a CARLA yaw."""
    return (math.pi - math.radians(yaw_deg)) % (2.0 * math.pi) - math.pi


def yaw_deg(heading_rad: float) -> float:
    """CARLA yaw in [-180, 180) of a heading: inverse of `heading_rad`."""
    return (180.0 - math.degrees(heading_rad)) % 360.0 - 180.0


def yaw_rate_radps(angular_velocity: Vector) -> float:
    """Yaw rate, counter-clockwise, of `Actor.get_angular_velocity()`, which is in degrees per second."""
    return -math.radians(angular_velocity.z)


def extent_m(box: Box) -> NDArray[np.float64]:
    """(3,) full length, width, height."""
    return 2.0 * np.array([box.extent.x, box.extent.y, box.extent.z])


def box_foot_world(transform: Transform, box: Box) -> NDArray[np.float64]:
    """(3,) centre of the ground face of an actor's box, REP-103; only the yaw tilts it.

    The place of positions in `Ego` and `Actors`.  A vehicle's transform lies on the ground near its
    box's centre, a walker's in the middle of its box.
    """
    offset = vector_world(box.location)
    heading = heading_rad(transform.rotation.yaw)
    c, s = math.cos(heading), math.sin(heading)
    turned = np.array([c * offset[0] - s * offset[1], s * offset[0] + c * offset[1], offset[2]])
    foot = vector_world(transform.location) + turned
    foot[2] -= box.extent.z
    return foot


def along(vector_world: NDArray[np.floating], heading_rad: float) -> tuple[float, float]:
    """Components of a world vector along a heading and to the left of it."""
    c, s = math.cos(heading_rad), math.sin(heading_rad)
    x, y = float(vector_world[0]), float(vector_world[1])
    return c * x + s * y, c * y - s * x


def controls(pedals: Pedals) -> Controls:
    """What `Vehicle.get_control()` or an agent's answer says, wheel positive to the left."""
    return Controls(0.0 - pedals.steer, pedals.throttle, pedals.brake)


def pedals_carla(controls: Controls) -> dict[str, float]:
    """Keyword arguments of `carla.VehicleControl`: inverse of `controls`."""
    return {
        "steer": 0.0 - float(controls.steer),
        "throttle": float(controls.throttle),
        "brake": float(controls.brake),
    }


def lens_picture(bgra: bytes | memoryview, rig: Rig) -> NDArray[np.uint8]:
    """(H, W', 3) RGB of one lens, from a `carla.Image` rendered `oversampling` times as high and wide.

    Raises:
        ValueError: the bytes are of another size.
    """
    k, height, width = rig.oversampling, rig.height, rig.lens_width
    blocks = rgb_image(bgra, k * height, k * width).reshape(height, k, width, k, 3)
    return np.round(blocks.mean(axis=(1, 3), dtype=np.float32)).astype(np.uint8)


def rgb_image(bgra: bytes | memoryview, height: int, width: int) -> NDArray[np.uint8]:
    """(H, W, 3) RGB, a copy, of the raw bytes of a `carla.Image`, which are BGRA rows.

    Raises:
        ValueError: the bytes are not height x width x 4.
    """
    flat = np.frombuffer(bgra, np.uint8)
    if flat.size != height * width * 4:
        raise ValueError(f"image of {flat.size} bytes; {height} x {width} BGRA has {height * width * 4}")
    return np.ascontiguousarray(flat.reshape(height, width, 4)[:, :, 2::-1])
