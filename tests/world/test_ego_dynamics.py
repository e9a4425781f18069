"""The ego moves as the fitted Lincoln MKZ does, in REP-103 signs."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from takevla.world.dynamics import TICK_S, next_pose, next_speed


def _seconds_to(target_mps: float, throttle: float) -> float:
    speed, seconds = 0.0, 0.0
    while speed < target_mps:
        speed = next_speed(speed, throttle, 0.0)
        seconds += TICK_S
        assert seconds < 60.0
    return seconds


def test_full_throttle_reaches_50_kmh_in_about_two_and_a_half_seconds() -> None:
    assert 2.0 < _seconds_to(50 / 3.6, 1.0) < 3.0


def test_three_quarters_throttle_reaches_50_kmh_in_under_six_seconds() -> None:
    assert 4.0 < _seconds_to(50 / 3.6, 0.75) < 6.0


def test_full_brake_from_50_kmh_stops_within_nine_to_thirteen_metres() -> None:
    speed, distance = 50 / 3.6, 0.0
    for _ in range(100):
        distance += speed * TICK_S
        speed = next_speed(speed, 1.0, 1.0)
    assert speed < 0.01
    assert 9.0 < distance < 13.0


def test_coasting_below_the_least_throttle_holds_the_speed() -> None:
    assert next_speed(7.0, 0.29, 0.0) == 7.0


@settings(deadline=None)
@given(st.floats(0.0, 30.0), st.floats(0.0, 1.0))
def test_braking_never_speeds_up_and_never_reverses(speed: float, brake: float) -> None:
    assert 0.0 <= next_speed(speed, 1.0, brake) <= speed or brake == 0.0


@settings(deadline=None)
@given(st.floats(0.0, 30.0), st.floats(0.3, 0.95))
def test_more_throttle_means_more_speed_up_to_the_fitted_range(speed: float, throttle: float) -> None:
    if speed < 15.0:
        assert next_speed(speed, throttle + 0.05, 0.0) >= next_speed(speed, throttle, 0.0) - 1e-9


def test_positive_steer_turns_left_and_mirrors() -> None:
    x, y, heading = 0.0, 0.0, 0.0
    x2, y2, heading2 = 0.0, 0.0, 0.0
    for _ in range(20):
        x, y, heading = next_pose(x, y, heading, 5.0, 0.5)
        x2, y2, heading2 = next_pose(x2, y2, heading2, 5.0, -0.5)
    assert y > 0.0
    assert heading > 0.0
    assert math.isclose(y, -y2)
    assert math.isclose(x, x2)


def test_full_lock_turns_within_three_to_five_metres_radius() -> None:
    _, _, heading = next_pose(0.0, 0.0, 0.0, 5.0, 1.0)
    assert 3.0 < 5.0 * TICK_S / heading < 5.0
