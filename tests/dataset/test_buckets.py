from typing import Any

import numpy as np

from takevla.dataset.buckets import BUCKETS, COLUMNS, bucket_names
from takevla.scene.plan import Cause, Manoeuvre
from takevla.scene.route import RouteOption


def frame(speed: float, speeds: list[float], **other: Any) -> dict[str, Any]:
    x = np.cumsum(np.array(speeds) * 0.25)
    waypoints = np.stack([x, np.full(10, other.pop("y", 0.0))], axis=1).ravel()
    row = {"speed_mps": speed, "expert_waypoints_ego": waypoints, "expert_cause": Cause.FREE_ROAD}
    row |= {"option": RouteOption.LANE_FOLLOW, "expert_manoeuvre": Manoeuvre.FOLLOW_ROUTE}
    return row | {"weather": [50.0, 0.0, 0.0, 0.0, 0.0, 70.0, 0.0]} | other


def names(*rows: dict[str, Any]) -> list[set[str]]:
    columns = {name: np.array([row[name] for row in rows]) for name in COLUMNS}
    return [set(found) for found in bucket_names(columns)]


def test_every_frame_is_in_all_and_its_cause_has_a_bucket() -> None:
    own = {"pedestrian": Cause.PEDESTRIAN, "red_light": Cause.RED_LIGHT, "parked_obstacle": Cause.OBSTACLE}
    for name, cause in own.items():
        (found,) = names(frame(5.0, [5.0] * 10, expert_cause=cause))
        assert {"all", name} <= found


def test_standing_setting_off_and_braking_are_told_apart() -> None:
    stay, go, brake, hard = names(
        frame(0.0, [0.0] * 10),
        frame(0.0, [1.0] * 10),
        frame(8.0, [7.0, 6.5, 6.0, 5.5] + [5.0] * 6),
        frame(8.0, [6.0, 4.0, 2.0, 0.0] + [0.0] * 6),
    )
    assert "standstill" in stay
    assert "start_from_stop" not in stay
    assert "start_from_stop" in go
    assert "brake" in brake
    assert "brake_hard" not in brake
    assert "brake_hard" in hard


def test_manoeuvre_option_bend_and_weather_have_buckets() -> None:
    around, turn, night = names(
        frame(5.0, [5.0] * 10, expert_manoeuvre=Manoeuvre.WAIT_FOR_GAP),
        frame(5.0, [5.0] * 10, option=RouteOption.LEFT, y=2.5),
        frame(5.0, [5.0] * 10, weather=[0.0, 80.0, 0.0, 0.0, 0.0, -10.0, 0.0]),
    )
    assert "parked_obstacle" in around
    assert {"junction_turn_left", "lateral", "lateral_sharp"} <= turn
    assert {"night", "rain"} <= night


def test_bucket_names_are_their_keys() -> None:
    assert all(name == bucket.name for name, bucket in BUCKETS.items())
