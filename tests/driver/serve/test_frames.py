"""Frames and pictures between a simulator and the driver."""

from __future__ import annotations

import numpy as np
import pytest

from takevla.driver.serve.frames import REAR_AXLE_TO_CENTRE_M, Retina, SeenBy, navigation, plan_in_rig
from takevla.driver.serve.lenses import Picture, Pinhole, fisheye
from takevla.scene.plan import Plan
from takevla.scene.route import RouteOption
from takevla.world.camera.rig import Rig

OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # in body axes, as columns


def test_a_left_turn_ahead_is_announced_and_its_targets_lie_in_the_ego_frame() -> None:
    straight = np.stack([np.arange(0.0, 30.0), np.zeros(30)], 1)
    turned = np.stack([np.full(30, 30.0), np.arange(0.0, 30.0)], 1)
    targets, option, following = navigation(np.concatenate([straight, turned]))
    assert option == RouteOption.LANE_FOLLOW
    assert following == RouteOption.LEFT
    assert targets[0, 0] < 30.0 - REAR_AXLE_TO_CENTRE_M + 1.0
    assert targets[1, 0] == pytest.approx(30.0 - REAR_AXLE_TO_CENTRE_M, abs=0.5)
    assert 2.0 < targets[1, 1] < 9.0
    targets, option, _ = navigation(np.zeros((0, 3)))
    assert option == RouteOption.LANE_FOLLOW
    assert targets[0, 0] > 7.5
    assert targets[0, 1] == 0.0


def test_a_plan_round_a_circle_keeps_the_axle_on_its_own_circle() -> None:
    radius, angle = 20.0, np.arange(1, 11) * 0.1
    lead = REAR_AXLE_TO_CENTRE_M
    # The axle runs a circle about (0, radius) of the rig frame; the centre leads it by `lead`.
    axle = np.stack([radius * np.sin(angle), radius * (1 - np.cos(angle))], 1)
    centre = axle + lead * np.stack([np.cos(angle), np.sin(angle)], 1) - (lead, 0.0)
    plan = Plan(np.zeros((20, 2), np.float32), centre.astype(np.float32))
    times, poses = plan_in_rig(plan)
    assert times.tolist() == [250_000 * k for k in range(11)]
    assert poses[0] == pytest.approx([0.0, 0.0, 0.0])
    assert np.abs(poses[1:, :2] - axle).max() < 0.1
    assert np.abs(poses[1:, 2] - angle).max() < 0.07


def test_the_retina_of_the_same_camera_returns_its_picture() -> None:
    rig = Rig(width=64, height=64, lens_yaws_deg=(0.0,), lens_fovs_deg=(60.0,))
    lens = Pinhole(Picture(64, 64, 32.0, 32.0), (rig.focals_px[0],) * 2)
    eye = np.add(rig.mount_m, (REAR_AXLE_TO_CENTRE_M, 0.0, 0.0))
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    retina = Retina(rig, {"front": SeenBy(eye, OPTICAL, lens.project)})
    assert retina.coverage == 1.0
    assert np.array_equal(retina.paint({"front": picture}), picture)
    assert not retina.paint({}).any()


def test_without_distortion_pinhole_and_fisheye_agree_near_the_axis() -> None:
    points = np.array([[0.02, -0.01, 1.0], [0.0, 0.0, 3.0], [0.1, 0.1, -1.0]])
    picture = Picture(640, 360, 320.0, 180.0)
    flat, seen = Pinhole(picture, (500.0, 500.0)).project(points)
    bent, also = fisheye(picture, (500.0, 500.0), (), 1.5).project(points)
    assert seen.tolist() == also.tolist() == [True, True, False]
    assert np.abs(flat[:2] - bent[:2]).max() < 0.01
