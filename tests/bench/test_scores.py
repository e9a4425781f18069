"""Scores: worked cases of every rule."""

import pytest
from made_up_outcomes import OUTSIDE, PEDESTRIAN, RED, VEHICLE, outcome, slow

from takevla.bench import scores


@pytest.mark.parametrize(
    ("infraction", "bench2drive", "reciprocal"),
    [
        ("collisions_pedestrian", 0.50, 1 / 2.0),
        ("collisions_vehicle", 0.60, 1 / 1.7),
        ("collisions_layout", 0.65, 1 / 1.6),
        ("red_light", 0.70, 1 / 1.4),
        ("stop_infraction", 0.80, 1 / 1.25),
        ("scenario_timeouts", 0.70, 1 / 1.4),
        ("yield_emergency_vehicle_infractions", 0.70, 1 / 1.4),
        ("route_dev", 1.0, 1.0),
        ("vehicle_blocked", 1.0, 1.0),
        ("route_timeout", 1.0, 1.0),
    ],
)
def test_each_infraction_lowers_the_penalty_by_its_coefficient(
    infraction: str, bench2drive: float, reciprocal: float
) -> None:
    events = {infraction: ["it happened"]}
    assert scores.penalty(events, scores.BENCH2DRIVE) == pytest.approx(bench2drive)
    assert scores.penalty(events, scores.LEADERBOARD_20) == pytest.approx(bench2drive)
    assert scores.penalty(events, scores.LEADERBOARD_21) == pytest.approx(reciprocal)


def test_events_multiply_in_version_2_0_and_add_up_in_2_1() -> None:
    events = {"collisions_vehicle": [VEHICLE, VEHICLE], "red_light": [RED], "outside_route_lanes": [OUTSIDE]}
    assert scores.penalty(events, scores.BENCH2DRIVE) == pytest.approx(0.6 * 0.6 * 0.7 * 0.9)
    assert scores.penalty(events, scores.LEADERBOARD_21) == pytest.approx(0.9 / (1 + 0.7 + 0.7 + 0.4))


def test_slow_driving_counts_in_the_leaderboards_but_not_in_bench2drive() -> None:
    events = {"min_speed_infractions": [slow(50.0), slow(250.0)]}
    assert scores.penalty(events, scores.BENCH2DRIVE) == 1.0
    assert scores.penalty(events, scores.LEADERBOARD_20) == pytest.approx(1 - 0.3 * 0.5)
    assert scores.penalty(events, scores.LEADERBOARD_21) == pytest.approx(1 / (1 + 0.4 * 0.5))


def test_composed_score_is_completion_times_penalty_rounded_to_six_digits() -> None:
    one = outcome(completion=33.3333333, infractions={"collisions_pedestrian": [PEDESTRIAN]})
    assert (one.score_penalty, one.score_composed) == (0.5, 16.666667)


def test_driving_score_and_success_divide_by_the_routes_asked() -> None:
    outcomes = [outcome("1"), outcome("2", infractions={"red_light": [RED]})]
    assert scores.driving_score(outcomes, 4) == pytest.approx((100 + 70) / 4)
    assert scores.success_rate(outcomes, 4) == pytest.approx(25.0)
    with pytest.raises(ValueError, match="only 1 asked"):
        scores.driving_score(outcomes, 1)


def test_success_forgives_slow_driving_only() -> None:
    assert outcome(infractions={"min_speed_infractions": [slow(30)]}).success
    assert not outcome(infractions={"outside_route_lanes": [OUTSIDE]}).success
    assert outcome(status="Perfect").success
    assert not outcome(status="Failed - TickRuntime").success


def test_efficiency_drops_checkpoints_above_1000_percent_and_routes_without_any() -> None:
    first = outcome(infractions={"min_speed_infractions": [slow(100.0), slow(300.0), slow(1500.0)]})
    second = outcome(infractions={"min_speed_infractions": [slow(50)]})
    assert scores.efficiency([first, second, outcome()]) == pytest.approx((200 + 50) / 2)
    assert scores.efficiency([outcome()]) is None


def test_a_percentage_message_without_percentage_is_refused() -> None:
    with pytest.raises(ValueError, match="no percentage"):
        scores.penalty({"outside_route_lanes": ["went outside"]})


def test_a_route_scored_by_each_table() -> None:
    events = {
        "collisions_pedestrian": [PEDESTRIAN],
        "red_light": [RED],
        "outside_route_lanes": [OUTSIDE],
        "min_speed_infractions": [slow(50.0)],
    }
    one = outcome(completion=80.0, infractions=events)
    expected = {
        "bench2drive": 80 * 0.5 * 0.7 * 0.9,
        "leaderboard-2.0": 80 * 0.5 * 0.7 * 0.9 * (1 - 0.3 * 0.5),
        "leaderboard-2.1": 80 * 0.9 / (1 + 1.0 + 0.4 + 0.4 * 0.5),
    }
    assert set(expected) == set(scores.PENALTY_TABLES)
    for name, value in expected.items():
        again = scores.rescored(one, scores.penalty_table(name))
        assert again.score_composed == pytest.approx(value, abs=1e-5)
        assert again.score_composed == pytest.approx(80.0 * again.score_penalty, abs=1e-4)
        assert again.score_route == one.score_route


def test_an_unknown_table_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match=r"'lb2'; there are bench2drive, leaderboard-2.0, leaderboard-2.1"):
        scores.penalty_table("lb2")
