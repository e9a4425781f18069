"""Vehicles that braked for the recorded ego without need go on in dreams; all others keep their record."""

from __future__ import annotations

import numpy as np

from takevla.learn.dream.freed import freed

T = 41
CAR, EGO = np.array([[4.6, 1.9]], np.float32), np.array([4.9, 2.1], np.float32)
NORTH, EAST = np.pi / 2, 0.0
WAY = np.stack([np.arange(40.0), np.zeros(40)], axis=1).astype(np.float32)  # straight ahead of the ego
STANDS = np.zeros((T, 4), np.float32)  # the ego that waits at the origin


def driven(x: float, y: float, heading: float, speed: float, after_s: float, slow_mps2: float) -> np.ndarray:
    """(T, 1, 4) a car that keeps its speed and then slows, not below 2 m/s."""
    t = 0.1 * np.arange(T)
    v = np.maximum(speed - slow_mps2 * np.maximum(t - after_s, 0.0), 2.0 if slow_mps2 else 0.0)
    s = np.concatenate([[0.0], np.cumsum(0.1 * v[1:])])
    pose = np.zeros((T, 1, 4), np.float32)
    pose[:, 0, 0], pose[:, 0, 1] = x + s * np.cos(heading), y + s * np.sin(heading)
    pose[:, 0, 2], pose[:, 0, 3] = heading, v
    return pose


def free(pose: np.ndarray, *, ways=(STANDS, STANDS), may_go: bool = True, others=None) -> np.ndarray:
    """`freed` of a car, perhaps beside others that stand still as obstacles."""
    whole = pose if others is None else np.concatenate([pose, others], axis=1)
    count = whole.shape[1]
    speed = whole[..., 3]
    acceleration = np.concatenate([np.zeros((1, count)), np.diff(speed, axis=0) / 0.1]).astype(np.float32)
    return freed(
        whole, np.repeat(CAR, count, axis=0), np.ones((T, count), np.bool_),
        np.arange(count) == 0, np.full((T, count), may_go), acceleration,
        np.full(count, 14.0, np.float32), ways, WAY, EGO,
    )  # fmt: skip


def test_a_crossing_car_that_slowed_for_a_waiting_ego_goes_on_at_its_speed():
    pose = driven(12.0, -20.0, NORTH, 8.0, 0.5, 3.0)
    moved = free(pose)
    assert moved[-1, 0, 1] > pose[-1, 0, 1] + 5.0
    np.testing.assert_allclose(moved[-1, 0], (12.0, -20.0 + 32.0, NORTH, 8.0), atol=0.6)
    assert np.array_equal(moved[:5], pose[:5])  # until it lets off it is its record


def test_a_car_that_had_to_give_way_to_the_expert_keeps_its_record():
    pose = driven(12.0, -20.0, NORTH, 8.0, 0.5, 3.0)
    crosses = STANDS.copy()
    crosses[:, 0] = np.linspace(0.0, 24.0, T)  # at 12 m after 2 s, where the freed car would cross
    crosses[:, 3] = 6.0
    assert not np.array_equal(free(pose), pose)
    assert np.array_equal(free(pose, ways=(STANDS, crosses)), pose)


def test_a_leader_that_brakes_keeps_its_record():
    pose = driven(15.0, 0.0, EAST, 8.0, 0.5, 3.0)
    assert np.array_equal(free(pose), pose)


def test_a_car_before_a_closed_line_or_away_from_the_egos_way_keeps_its_record():
    pose = driven(12.0, -20.0, NORTH, 8.0, 0.5, 3.0)
    assert np.array_equal(free(pose, may_go=False), pose)
    away = driven(-12.0, -20.0, NORTH, 8.0, 0.5, 3.0)  # crosses behind the ego
    assert np.array_equal(free(away), away)


def test_a_freed_car_does_not_drive_through_one_that_stands_on_its_course():
    pose = driven(12.0, -20.0, NORTH, 8.0, 0.5, 3.0)
    stands = np.zeros((T, 1, 4), np.float32)
    stands[:, 0, :3] = (12.0, 8.0, NORTH)
    moved = free(pose, others=stands)
    assert moved[-1, 0, 1] < 8.0 - 4.6
    assert np.array_equal(moved[:, 1], stands[:, 0])
