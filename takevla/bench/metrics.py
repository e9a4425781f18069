"""All figures of one evaluation, with intervals, as `metrics.json`.

Scores are in percent as the boards print them, times in seconds.  Two denominators: the headline figures
divide by the routes asked (a route without an outcome counts 0, as the leaderboard does), those named
`..._scored` by the routes that have an outcome.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from takevla.bench import statistics
from takevla.bench.abilities import ABILITIES, abilities, abilities_of, ability_mean, passes
from takevla.bench.outcome import TTC_BIN_S, RouteOutcome
from takevla.bench.scores import (
    BENCH2DRIVE,
    PENALTY_TABLES,
    driving_score,
    efficiency,
    route_efficiency,
    success_rate,
)
from takevla.scene.ttc import CAP_S

UNITS = {
    "driving_score": "0..100, over routes asked",
    "success_rate": "% of routes asked",
    "ability": "% of the ability's routes that have an outcome",
    "efficiency": "% of the surrounding traffic's speed",
    "comfort": "% of one-second chunks, official rule",
    "comfort_si": "% of one-second chunks, SI rule",
    "ttc_mean_s": f"s, frames on a collision course within {CAP_S:g} s, mean over frames, then routes",
    "ttc_coverage": "share of frames on a collision course",
}


def _column(outcomes: Sequence[RouteOutcome], value: Any) -> list[float]:
    found = [value(outcome) for outcome in outcomes]
    return [math.nan if one is None else float(one) for one in found]


def _mean(values: Sequence[float]) -> float | None:
    present = [value for value in values if math.isfinite(value)]
    return sum(present) / len(present) if present else None


def _ttc_mean(outcome: RouteOutcome) -> float | None:
    return outcome.ttc.mean_s if outcome.ttc else None


def _percent(share: float | None) -> float | None:
    return None if share is None else 100.0 * share


def _ability_intervals(outcomes: Sequence[RouteOutcome]) -> dict[str, list[float]]:
    """Intervals of the abilities and of their mean, all from the same resamples of routes."""
    counts = statistics.route_counts(len(outcomes))
    result, resampled = {}, []
    for name, types in ABILITIES.items():
        marks = [100.0 * passes(one, name) if one.scenario_type in types else math.nan for one in outcomes]
        if np.isfinite(marks).any():
            resampled.append(statistics.resampled_means(marks, counts))
            result[name] = list(statistics.percentiles(resampled[-1]))
    if resampled:
        stacked = np.stack(resampled)
        present = np.isfinite(stacked)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(present, stacked, 0.0).sum(axis=0) / present.sum(axis=0)
        result["mean"] = list(statistics.percentiles(mean))
    return result


def intervals(outcomes: Sequence[RouteOutcome], asked: int) -> dict[str, Any]:
    """95 % intervals (low, high) by figure; a figure that nothing was measured for is left out."""
    if not outcomes:
        return {}
    missing = [0.0] * (asked - len(outcomes))
    columns = {
        "driving_score": [one.score_composed for one in outcomes] + missing,
        "success_rate": [100.0 * one.success for one in outcomes] + missing,
        "driving_score_scored": [one.score_composed for one in outcomes],
        "success_rate_scored": [100.0 * one.success for one in outcomes],
        "efficiency": _column(outcomes, lambda one: route_efficiency(one.infractions)),
        "comfort": _column(outcomes, lambda one: _percent(one.comfort)),
        "comfort_si": _column(outcomes, lambda one: _percent(one.comfort_si)),
        "ttc_mean_s": _column(outcomes, _ttc_mean),
    }
    result: dict[str, Any] = {}
    for name, values in columns.items():
        found = statistics.interval(values)
        if found is not None:
            result[name] = [found.low, found.high]
    result["ability"] = _ability_intervals(outcomes)
    return result


def route_row(outcome: RouteOutcome) -> dict[str, Any]:
    """One entry of `per_route`."""
    return {
        "route_id": outcome.route_id,
        "repetition": outcome.repetition,
        "town": outcome.town,
        "scenario_type": outcome.scenario_type,
        "scenario_started": outcome.scenario_started,
        "scenario_note": outcome.scenario_note,
        "abilities": list(abilities_of(outcome.scenario_type)),
        "abilities_passed": [name for name in abilities_of(outcome.scenario_type) if passes(outcome, name)],
        "status": outcome.status,
        "success": outcome.success,
        "driving_score": outcome.score_composed,
        "route_completion": outcome.score_route,
        "penalty": outcome.score_penalty,
        "infractions": {
            name: len(messages)
            for name, messages in outcome.infractions.items()
            if messages and name != "min_speed_infractions"
        },
        "efficiency": route_efficiency(outcome.infractions),
        "comfort": _percent(outcome.comfort),
        "comfort_si": _percent(outcome.comfort_si),
        "ttc_mean_s": _ttc_mean(outcome),
        "ttc_coverage": outcome.ttc.frames_on_course / outcome.ttc.frames
        if outcome.ttc and outcome.ttc.frames
        else None,
        "ttc_histogram": list(outcome.ttc.histogram) if outcome.ttc else None,
        "sim_s": outcome.duration_game_s,
    }


def metrics(
    outcomes: Sequence[RouteOutcome],
    asked: int,
    unscored: Mapping[str, str] | None = None,
    wall_s: float | None = None,
    penalties: str = BENCH2DRIVE.name,
) -> dict[str, Any]:
    """Everything that `metrics.json` holds.

    `asked` counts all routes of the suite; `unscored` names those without an outcome, with the reason;
    `penalties` is the table by which the outcomes were scored.
    """
    scores = abilities(outcomes)
    frames = sum(one.ttc.frames for one in outcomes if one.ttc)
    on_course = sum(one.ttc.frames_on_course for one in outcomes if one.ttc)
    scored = max(len(outcomes), 1)
    asked = max(asked, 1)
    return {
        "driving_score": driving_score(outcomes, asked),
        "success_rate": success_rate(outcomes, asked),
        "driving_score_scored": driving_score(outcomes, scored),
        "success_rate_scored": success_rate(outcomes, scored),
        "penalty_table": penalties,
        "driving_score_by_table": {
            name: driving_score(outcomes, asked, table) for name, table in PENALTY_TABLES.items()
        },
        "route_completion": sum(one.score_route for one in outcomes) / asked,
        "routes_total": asked,
        "routes_scored": len(outcomes),
        "routes_unscored": dict(unscored or {}),
        "ability": {name: ability.percent for name, ability in scores.items()}
        | {"mean": ability_mean(scores)},
        "ability_routes": {name: ability.routes for name, ability in scores.items()},
        "efficiency": efficiency(outcomes),
        "comfort": _mean(_column(outcomes, lambda one: _percent(one.comfort))),
        "comfort_si": _mean(_column(outcomes, lambda one: _percent(one.comfort_si))),
        "ttc_mean_s": _mean(_column(outcomes, _ttc_mean)),
        "ttc_coverage": on_course / frames if frames else None,
        "ttc_cap_s": CAP_S,
        "ttc_bin_s": TTC_BIN_S,
        "scenarios_started": sum(bool(one.scenario_type) and one.scenario_started for one in outcomes),
        "scenarios_not_started": {
            one.route_id: one.scenario_note
            for one in outcomes
            if one.scenario_type and not one.scenario_started
        },
        "interval_95": intervals(outcomes, asked),
        "units": UNITS,
        "per_route": [route_row(one) for one in outcomes],
        "sim_s": sum(one.duration_game_s for one in outcomes),
        "wall_s": wall_s,
    }
