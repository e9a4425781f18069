"""Coordinates at CARLA's border: by hand, there and back, and against the client's own matrices."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from takevla.scene.geometry import box_corners
from takevla.scene.scene import Controls
from takevla.world.carla import frames

ANGLES = st.floats(-720.0, 720.0)
COORDINATES = st.floats(-1000.0, 1000.0)


def made(x: float, y: float, z: float) -> SimpleNamespace:
    return SimpleNamespace(x=x, y=y, z=z)


def placed(x: float, y: float, z: float, yaw: float) -> SimpleNamespace:
    rotation = SimpleNamespace(pitch=0.0, yaw=yaw, roll=0.0)
    return SimpleNamespace(location=made(x, y, z), rotation=rotation)


def boxed(centre: tuple[float, float, float], half: tuple[float, float, float]) -> SimpleNamespace:
    return SimpleNamespace(location=made(*centre), extent=made(*half))


def test_right_becomes_left_and_clockwise_counter_clockwise() -> None:
    assert frames.vector_world(made(1.0, 2.0, 3.0)).tolist() == [1.0, -2.0, 3.0]
    assert frames.heading_rad(90.0) == pytest.approx(-math.pi / 2)
    assert frames.yaw_rate_radps(made(0.0, 0.0, 180.0)) == pytest.approx(-math.pi)
    assert frames.controls(SimpleNamespace(steer=0.3, throttle=0.5, brake=0.1)) == Controls(-0.3, 0.5, 0.1)


@given(COORDINATES, COORDINATES, ANGLES)
def test_there_and_back_is_the_same_place(x: float, y: float, yaw: float) -> None:
    assert frames.vector_carla(frames.vector_world(made(x, y, 1.0))) == pytest.approx((x, y, 1.0))
    back = frames.yaw_deg(frames.heading_rad(yaw))
    assert -180.0 <= back < 180.0
    assert math.cos(math.radians(back - yaw)) == pytest.approx(1.0)


@given(ANGLES, COORDINATES, COORDINATES)
def test_forward_vector_has_only_a_component_along_the_heading(yaw: float, x: float, y: float) -> None:
    forward = made(math.cos(math.radians(yaw)), math.sin(math.radians(yaw)), 0.0)  # CARLA's definition
    ahead, left = frames.along(frames.vector_world(forward), frames.heading_rad(yaw))
    assert (ahead, left) == pytest.approx((1.0, 0.0), abs=1e-9)


def test_foot_of_a_walker_is_below_the_middle_of_its_box() -> None:
    foot = frames.box_foot_world(placed(5.0, 6.0, 0.93, 30.0), boxed((0.0, 0.0, 0.0), (0.19, 0.19, 0.93)))
    assert foot == pytest.approx([5.0, -6.0, 0.0])


def test_controls_there_and_back() -> None:
    asked = Controls(-0.25, 0.75, 0.0)
    assert frames.controls(SimpleNamespace(**frames.pedals_carla(asked))) == asked


def test_image_bytes_become_rgb_and_wrong_sizes_are_refused() -> None:
    bgra = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    image = frames.rgb_image(bgra.tobytes(), 2, 3)
    assert image.shape == (2, 3, 3)
    assert image[1, 2].tolist() == [bgra[1, 2, 2], bgra[1, 2, 1], bgra[1, 2, 0]]
    with pytest.raises(ValueError, match="23 bytes"):
        frames.rgb_image(bgra.tobytes()[:-1], 2, 3)


def test_box_corners_agree_with_the_clients_own() -> None:
    carla = pytest.importorskip("carla")
    transform = carla.Transform(carla.Location(10.0, -4.0, 0.5), carla.Rotation(yaw=37.0))
    box = carla.BoundingBox(carla.Location(0.3, -0.1, 0.7), carla.Vector3D(2.4, 1.0, 0.75))
    theirs = np.array([frames.vector_world(v)[:2] for v in box.get_world_vertices(transform)])
    foot = frames.box_foot_world(transform, box)
    length, width, _ = frames.extent_m(box)
    ours = box_corners(foot[0], foot[1], frames.heading_rad(37.0), length, width)
    for corner in ours:
        assert np.hypot(*(theirs - corner).T).min() < 1e-3
    assert foot[2] == pytest.approx(0.5 + 0.7 - 0.75, abs=1e-5)
