"""Comfort: limits, chunks, and the two variants."""

import json
from pathlib import Path

import numpy as np
import pytest

from takevla.bench.comfort import Motion, comfort, read_metric_info


def motion(count: int = 60, lon: float = 0.0, lat: float = 0.0, yaw_rate: float = 0.0) -> Motion:
    return Motion(np.full(count, lon), np.full(count, lat), np.full(count, yaw_rate), 0.05)


@pytest.mark.parametrize("variant", ["official", "si"])
@pytest.mark.parametrize(
    ("change", "share"),
    [
        ({}, 1.0),
        ({"lon": 2.3}, 1.0),
        ({"lon": 2.5}, 0.0),
        ({"lon": -4.0}, 1.0),
        ({"lon": -4.1}, 0.0),
        ({"lat": 4.8}, 1.0),
        ({"lat": -5.0}, 0.0),
    ],
)
def test_constant_acceleration_is_comfortable_inside_its_limits(
    variant: str, change: dict, share: float
) -> None:
    assert comfort(motion(**change), variant) == share


def test_official_yaw_limit_is_in_degrees_and_si_in_radians() -> None:
    turning = motion(yaw_rate=0.1)  # 5.7 degrees per second
    assert comfort(turning, "official") == 0.0
    assert comfort(turning, "si") == 1.0


def test_jerk_uses_a_tenth_of_a_second_officially_and_the_true_period_in_si() -> None:
    ramp = Motion(0.3 * np.arange(20) - 3.0, np.full(20, 3.0), np.zeros(20), 0.05)
    gentle = Motion(0.15 * np.arange(20) - 1.5, np.zeros(20), np.zeros(20), 0.05)
    assert comfort(ramp, "official") == 0.0  # acceleration above 2.4 at the end
    assert comfort(gentle, "official") == 1.0  # 1.5 m/s^3 by its clock
    sudden = Motion(0.25 * np.arange(20) - 2.4, np.zeros(20), np.zeros(20), 0.05)  # 5 m/s^3
    assert comfort(sudden, "si") == 0.0


@pytest.mark.parametrize("variant", ["official", "si"])
def test_share_is_over_whole_chunks_and_the_rest_is_dropped(variant: str) -> None:
    lateral = np.zeros(59)
    lateral[20:] = 6.0
    steps = Motion(np.zeros(59), lateral, np.zeros(59), 0.05)
    assert comfort(steps, variant) == 0.5


def test_a_short_route_is_judged_whole_and_a_shorter_one_not_at_all() -> None:
    assert comfort(motion(10), "official") == 1.0
    assert comfort(motion(2), "official") is None


def test_variant_must_be_known() -> None:
    with pytest.raises(ValueError, match="official or si"):
        comfort(motion(), "other")


def test_metric_info_of_carla_is_read_into_our_frame(tmp_path: Path) -> None:
    step = {
        "acceleration": [1.0, 2.0, 0.0],
        "angular_velocity": [0.0, 0.0, 10.0],
        "forward_vector": [1.0, 0.0, 0.0],
        "right_vector": [0.0, 1.0, 0.0],
        "location": [0.0, 0.0, 0.0],
        "rotation": [0.0, 0.0, 0.0],
    }
    path = tmp_path / "metric_info.json"
    path.write_text(json.dumps({str(i): step for i in range(25)}))
    read = read_metric_info(path)
    assert read.lon_acceleration_mps2[0] == 1.0
    assert read.lat_acceleration_mps2[0] == -2.0  # accelerates to the right
    assert read.yaw_rate_radps[0] == pytest.approx(-np.radians(10))  # turns clockwise
    path.write_text("{}")
    path.write_text('{"0": {"acceleration": [1, 2, 3]}}')
    with pytest.raises(ValueError, match=r"metric_info\.json"):
        read_metric_info(path)
