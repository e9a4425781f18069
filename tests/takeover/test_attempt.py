import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from takevla.scene.scene import TICK_US, Scene
from takevla.takeover.attempt import Attempt, CameraOffset, seen_from, waypoints_seen_from
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


def test_scenes_are_kept_densely_about_takeovers_and_thinly_elsewhere() -> None:
    attempt = Attempt("a", takeovers=[{"start_us": 10_000_000, "end_us": 12_000_000}])
    nothing: Any = None
    for tick in range(400):
        attempt.scenes.append(Scene(tick * TICK_US, "Made", nothing, nothing, nothing, nothing))

    def times(calm_period_us: int) -> list[int]:
        return [scene.time_us for scene in attempt.kept_scenes(1.0, 2.0, calm_period_us)]

    near = list(range(9_000_000, 14_000_001, TICK_US))
    assert times(0) == near
    assert times(100_000) == sorted({*near, *range(0, 400 * TICK_US, 100_000)})
