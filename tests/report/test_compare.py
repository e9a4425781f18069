"""Before against after: pairing, verdicts, regressions, words."""

import pytest
from made_up_outcomes import RED, VEHICLE, outcome, random_outcomes

from takevla.bench.metrics import metrics
from takevla.report.compare import ability_figures, events, figures, regressions, route_changes

TYPES = ["Accident", "InvadingTurn", "T_Junction", "PedestrianCrossing"] * 5


def test_differences_pair_the_same_routes_whatever_their_order() -> None:
    rows = random_outcomes(TYPES, 0.5, 3)
    before, after = metrics(rows, 20), metrics(rows[::-1], 20)
    for figure in (*figures(before, after), *ability_figures(before, after)):
        assert figure.difference is not None
        assert (figure.difference.low, figure.difference.high) == (0.0, 0.0)
        assert figure.verdict == "unclear"


def test_a_route_that_was_not_scored_counts_zero_in_scores_and_is_left_out_elsewhere() -> None:
    rows = [outcome("1", comfort=0.5), outcome("2", comfort=0.5)]
    before, after = metrics(rows, 2), metrics(rows[:1], 2, {"2": "gone"})
    found = {figure.name: figure for figure in figures(before, after)}
    score, comfort = found["Driving score"].difference, found["Comfort"].difference
    assert score is not None
    assert comfort is not None
    assert (score.mean, score.count) == (-50.0, 2)
    assert (comfort.mean, comfort.count) == (0.0, 1)


def test_verdict_follows_the_direction_only_when_the_interval_leaves_out_zero() -> None:
    good = [outcome(str(i)) for i in range(10)]
    bad = [outcome(str(i), infractions={"red_light": [RED]}) for i in range(10)]
    up = figures(metrics(bad, 10), metrics(good, 10))[0]
    down = figures(metrics(good, 10), metrics(bad, 10))[0]
    assert (up.verdict, down.verdict) == ("better", "worse")


def test_traffic_signs_forgives_a_collision_but_no_light() -> None:
    hits = [
        outcome(str(i), "T_Junction", infractions={"collisions_vehicle": [VEHICLE]}, junction_percent=50.0)
        for i in range(4)
    ]
    runs = [
        outcome(str(i), "T_Junction", infractions={"red_light": [RED]}, junction_percent=50.0)
        for i in range(4)
    ]
    for rows, percent in ((hits, 100.0), (runs, 0.0)):
        whole = metrics(rows, 4)
        found = {figure.name: figure.before for figure in ability_figures(whole, None)}
        signs = found["Traffic Signs"]
        assert signs is not None
        assert signs.mean == percent == whole["ability"]["Traffic_Signs"]
    for route in whole["per_route"]:
        del route["abilities_passed"]  # a file of before: plain success
    assert {figure.name: figure.before for figure in ability_figures(whole, None)}[
        "Traffic Signs"
    ].mean == 0.0


def test_one_side_alone_gives_its_figures_without_differences() -> None:
    found = figures(None, metrics([outcome()], 1))
    assert found
    assert all(figure.before is None and figure.difference is None for figure in found)


def test_regressions_are_named_worst_first() -> None:
    before = metrics([outcome("1"), outcome("2"), outcome("3")], 3)
    after = metrics(
        [
            outcome("1", infractions={"red_light": [RED]}),
            outcome("2"),
            outcome("3", infractions={"collisions_vehicle": [VEHICLE, VEHICLE]}),
        ],
        3,
    )
    worse = regressions(route_changes(before, after))
    assert [one.route_id for one in worse] == ["3", "1"]
    assert worse[0].difference == pytest.approx(-64.0)
    assert worse[0].after_events == "hit a vehicle (× 2)"


def test_events_say_how_a_route_ended_once() -> None:
    row = outcome(completion=40.0, infractions={"vehicle_blocked": ["Agent got blocked"], "red_light": [RED]})
    assert events(metrics([row], 1)["per_route"][0]) == "ran a red light, got blocked"
    late = outcome(completion=40.0, status="Failed - TickRuntime")
    assert events(metrics([late], 1)["per_route"][0]) == "ran out of time"
