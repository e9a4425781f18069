"""metrics.json: every figure of the design, both denominators, nothing that JSON cannot hold."""

import json

import pytest
from made_up_outcomes import outcome, random_outcomes

from takevla.bench.abilities import ABILITIES
from takevla.bench.metrics import metrics
from takevla.bench.outcome import TtcSummary

TYPES = sorted(frozenset().union(*ABILITIES.values()))


def test_all_figures_of_the_design_are_there_with_intervals() -> None:
    found = metrics(random_outcomes(TYPES, 0.7, 0), 44, wall_s=3.0)
    for name in ("driving_score", "success_rate", "efficiency", "comfort", "ttc_mean_s"):
        low, high = found["interval_95"][name]
        assert low <= found[name] <= high
    for name in (*ABILITIES, "mean"):
        low, high = found["interval_95"]["ability"][name]
        assert low <= found["ability"][name] <= high
    assert len(found["per_route"]) == found["routes_scored"] == found["routes_total"] == 44
    assert found["sim_s"] == pytest.approx(44 * 26.0)
    json.dumps(found, allow_nan=False)


def test_unscored_routes_count_zero_in_the_headline_and_are_named() -> None:
    found = metrics([outcome("1")], 2, {"2": "route off the map"})
    assert (found["driving_score"], found["driving_score_scored"]) == (50.0, 100.0)
    assert (found["success_rate"], found["success_rate_scored"]) == (50.0, 100.0)
    assert found["routes_unscored"] == {"2": "route off the map"}


def test_ttc_is_averaged_over_frames_then_routes_and_tells_its_coverage() -> None:
    rows = [
        outcome("1", ttc=TtcSummary(2.0, 10, 5, (5,))),
        outcome("2", ttc=TtcSummary(6.0, 90, 5, (5,))),
        outcome("3", ttc=TtcSummary(None, 100, 0, (0,))),
    ]
    found = metrics(rows, 3)
    assert found["ttc_mean_s"] == pytest.approx(4.0)
    assert found["ttc_coverage"] == pytest.approx(10 / 200)


def test_scenarios_that_did_not_start_are_counted_and_named() -> None:
    rows = [
        outcome("1"),
        outcome("2", scenario_started=False, scenario_note="unsupported type"),
        outcome("3", ""),
    ]
    found = metrics(rows, 3)
    assert found["scenarios_started"] == 1
    assert found["scenarios_not_started"] == {"2": "unsupported type"}


def test_an_evaluation_without_outcomes_has_zero_scores_and_no_interval() -> None:
    found = metrics([], 3)
    assert found["driving_score"] == 0.0
    assert found["ttc_mean_s"] is None
    assert found["interval_95"] == {}
