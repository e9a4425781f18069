import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from takevla.takeover.attempt import CameraOffset, seen_from, waypoints_seen_from
from takevla.world.camera.rig import Rig

offsets = st.builds(CameraOffset, st.floats(-1.5, 1.5), st.floats(-0.4, 0.4))


@settings(max_examples=80, deadline=None)
@given(offsets, st.integers(0, 2**31))
def test_labels_of_a_shifted_camera_lie_where_its_picture_shows_them(offset: CameraOffset, seed: int) -> None:
    rig = Rig()
    points = np.random.default_rng(seed).uniform((3.0, -6.0), (40.0, 6.0), (20, 2))
    ground = np.concatenate([points, np.zeros((20, 1))], axis=1)
    there, _ = rig.project(ground, offset.y_m, offset.yaw_rad)
    seen = np.concatenate([seen_from(points, offset, rig.mount_m[0]), np.zeros((20, 1))], axis=1)
    here, _ = rig.project(seen)
    np.testing.assert_allclose(here, there, atol=1e-2)


@settings(max_examples=80, deadline=None)
@given(offsets)
def test_a_plan_to_stand_stands_and_a_far_plan_meets_the_path_whatever_the_camera_does(
    offset: CameraOffset,
) -> None:
    mount = Rig().mount_m[0]
    standing = waypoints_seen_from(np.zeros((10, 2), np.float32), offset, mount)
    np.testing.assert_allclose(standing, 0.0, atol=1e-6)
    going = np.stack([2.5 * np.arange(1, 11), np.zeros(10)], axis=1).astype(np.float32)
    seen = waypoints_seen_from(going, offset, mount)
    np.testing.assert_allclose(seen[4:], seen_from(going, offset, mount)[4:], atol=1e-5)
    speeds = np.linalg.norm(np.diff(seen, axis=0), axis=1) / 0.25
    assert speeds == pytest.approx(10.0, rel=0.3 + abs(math.tan(offset.yaw_rad)))


def test_without_offset_nothing_moves() -> None:
    points = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    np.testing.assert_array_equal(seen_from(points, CameraOffset(), -1.5), points)
    np.testing.assert_array_equal(waypoints_seen_from(points, CameraOffset(), -1.5), points)
