"""Abilities: the official lists, denominators and the Traffic_Signs rule."""

import pytest
from made_up_outcomes import RED, VEHICLE, outcome

from takevla.bench import abilities as ab


def test_lists_have_the_official_sizes_and_cover_44_types() -> None:
    sizes = {name: len(types) for name, types in ab.ABILITIES.items()}
    assert sizes == {
        "Overtaking": 9,
        "Merging": 16,
        "Emergency_Brake": 12,
        "Give_Way": 2,
        "Traffic_Signs": 19,
    }
    assert len(frozenset().union(*ab.ABILITIES.values())) == 44


def test_a_route_counts_in_every_ability_that_lists_its_type() -> None:
    assert ab.abilities_of("PedestrianCrossing") == ("Emergency_Brake", "Traffic_Signs")
    assert ab.abilities_of("") == ()


def test_share_is_successes_over_routes_with_an_outcome() -> None:
    crash = {"collisions_vehicle": [VEHICLE]}
    rows = [outcome("1"), outcome("2", infractions=crash), outcome("3", "InvadingTurn")]
    found = ab.abilities(rows)
    assert found["Overtaking"].percent == 50.0
    assert found["Give_Way"].percent == 100.0
    assert found["Merging"].percent is None
    assert ab.ability_mean(found) == pytest.approx(75.0)


def test_junction_counts_as_passed_eight_points_after_its_first_point() -> None:
    assert ab.junction_percent([False] * 40 + [True] * 10 + [False] * 50) == pytest.approx(100 * 49 / 100)
    assert ab.junction_percent([False] * 5) is None


@pytest.mark.parametrize(
    ("completion", "infractions", "passed"),
    [
        (60.0, {"collisions_vehicle": [VEHICLE]}, True),
        (49.0, {"collisions_vehicle": [VEHICLE]}, False),
        (60.0, {"red_light": [RED]}, False),
        (60.0, {"stop_infraction": ["ran a stop"]}, False),
    ],
)
def test_traffic_signs_forgives_what_happens_away_from_signs(
    completion: float, infractions: dict, passed: bool
) -> None:
    row = outcome(
        scenario="PedestrianCrossing", completion=completion, infractions=infractions, junction_percent=49.0
    )
    assert ab.passes(row, "Traffic_Signs") is passed
    assert not ab.passes(row, "Emergency_Brake")


def test_without_the_map_only_plain_success_counts_for_traffic_signs() -> None:
    row = outcome(scenario="T_Junction", infractions={"collisions_vehicle": [VEHICLE]})
    assert not ab.passes(row, "Traffic_Signs")
