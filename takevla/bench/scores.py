"""Driving score, success rate and efficiency, as Bench2Drive and the CARLA leaderboard define them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from takevla.bench.outcome import RouteOutcome

SCORE_DIGITS = 6  # the leaderboard rounds scores to 6 digits ...
ROUND_DIGITS = 3  # ... and everything else to 3 (benchmark facts 1.3)
EFFICIENCY_CEILING_PERCENT = 1000.0  # checkpoints above it are dropped (benchmark facts 1.7)

_OUTSIDE_PERCENT = re.compile(r"\((\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*%")
_SPEED_PERCENT = re.compile(r"(\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*%")


@dataclass(frozen=True)
class PenaltyTable:
    """How infractions lower a route's score.

    With `reciprocal` False the penalty is the product of one factor per event; with True it is 1 / (1 + sum
    of one weight per event).  Driving P % of the way outside the lanes multiplies by 1 - P/100 in both.  A
    checkpoint driven at P < 100 % of the traffic's speed counts as (100 - P) % of an event of weight
    `min_speed`; None: it does not count.
    """

    name: str
    per_event: Mapping[str, float]
    reciprocal: bool = False
    min_speed: float | None = None


_FACTORS = {
    "collisions_pedestrian": 0.50,
    "collisions_vehicle": 0.60,
    "collisions_layout": 0.65,
    "red_light": 0.70,
    "stop_infraction": 0.80,
    "scenario_timeouts": 0.70,
    "yield_emergency_vehicle_infractions": 0.70,
}
# Benchmark facts 1.4.
BENCH2DRIVE = PenaltyTable("bench2drive", _FACTORS)
LEADERBOARD_20 = PenaltyTable("leaderboard-2.0", _FACTORS, min_speed=0.70)
LEADERBOARD_21 = PenaltyTable(
    "leaderboard-2.1",
    {
        "collisions_pedestrian": 1.0,
        "collisions_vehicle": 0.7,
        "collisions_layout": 0.6,
        "red_light": 0.4,
        "stop_infraction": 0.25,
        "scenario_timeouts": 0.4,
        "yield_emergency_vehicle_infractions": 0.4,
    },
    reciprocal=True,
    min_speed=0.4,
)
PENALTY_TABLES: Mapping[str, PenaltyTable] = {
    table.name: table for table in (BENCH2DRIVE, LEADERBOARD_20, LEADERBOARD_21)
}


def penalty_table(name: str) -> PenaltyTable:
    """The table of that name.

    Raises:
        ValueError: naming the tables there are.
    """
    if name not in PENALTY_TABLES:
        raise ValueError(f"no penalty table {name!r}; there are {', '.join(PENALTY_TABLES)}")
    return PENALTY_TABLES[name]


def rescored(outcome: RouteOutcome, table: PenaltyTable) -> RouteOutcome:
    """The outcome with penalty and score computed anew from its infractions."""
    factor, composed = route_score(outcome.score_route, outcome.infractions, table)
    return replace(outcome, score_penalty=factor, score_composed=composed)


def outside_percent(message: str) -> float:
    """P of an outside-lanes message "... about N meters (P% of the completed route)"."""
    return _percent(_OUTSIDE_PERCENT, message)


def min_speed_percent(message: str) -> float:
    """P of a min-speed message "Average speed is P% of the surrounding traffic's one"."""
    return _percent(_SPEED_PERCENT, message)


def _percent(pattern: re.Pattern[str], message: str) -> float:
    match = pattern.search(message)
    if match is None:
        raise ValueError(f"no percentage in infraction message {message!r}")
    return float(match.group(1))


def penalty(infractions: Mapping[str, Sequence[str]], table: PenaltyTable = BENCH2DRIVE) -> float:
    """The infraction penalty (0..1] of one route."""
    missing = [
        max(0.0, 1.0 - min_speed_percent(message) / 100.0)
        for message in (infractions.get("min_speed_infractions", ()) if table.min_speed is not None else ())
    ]
    counts = {name: len(infractions.get(name, ())) for name in table.per_event}
    if table.reciprocal:
        weight = sum(counts[name] * value for name, value in table.per_event.items())
        weight += sum(missing) * (table.min_speed or 0.0)
        result = 1.0 / (1.0 + weight)
    else:
        result = 1.0
        for name, value in table.per_event.items():
            result *= value ** counts[name]
        for share in missing:
            result *= 1.0 - (1.0 - (table.min_speed or 0.0)) * share
    for message in infractions.get("outside_route_lanes", ()):
        result *= 1.0 - outside_percent(message) / 100.0
    return max(result, 0.0)


def route_score(
    score_route: float, infractions: Mapping[str, Sequence[str]], table: PenaltyTable = BENCH2DRIVE
) -> tuple[float, float]:
    """(penalty, composed score) of a route driven to `score_route` %, rounded as the leaderboard does."""
    factor = penalty(infractions, table)
    return round(factor, SCORE_DIGITS), round(max(score_route * factor, 0.0), SCORE_DIGITS)


def driving_score(outcomes: Sequence[RouteOutcome], asked: int, table: PenaltyTable | None = None) -> float:
    """Sum of composed scores over `asked` routes (those without an outcome count 0).

    With a table the scores are computed anew from the infractions, else taken as recorded.
    """
    if asked < max(len(outcomes), 1):
        raise ValueError(f"{len(outcomes)} routes scored but only {asked} asked")
    if table is None:
        return sum(outcome.score_composed for outcome in outcomes) / asked
    return sum(route_score(one.score_route, one.infractions, table)[1] for one in outcomes) / asked


def success_rate(outcomes: Sequence[RouteOutcome], asked: int) -> float:
    """Successful routes as % of the routes asked."""
    if asked < max(len(outcomes), 1):
        raise ValueError(f"{len(outcomes)} routes scored but only {asked} asked")
    return 100.0 * sum(outcome.success for outcome in outcomes) / asked


def route_efficiency(infractions: Mapping[str, Sequence[str]]) -> float | None:
    """Mean % of the surrounding traffic's speed over the route's checkpoints; None without any.

    Checkpoints above `EFFICIENCY_CEILING_PERCENT` are dropped.
    """
    percents = [min_speed_percent(message) for message in infractions.get("min_speed_infractions", ())]
    kept = [percent for percent in percents if percent <= EFFICIENCY_CEILING_PERCENT]
    return sum(kept) / len(kept) if kept else None


def efficiency(outcomes: Sequence[RouteOutcome]) -> float | None:
    """Mean of `route_efficiency` over the routes that have one."""
    values = [value for one in outcomes if (value := route_efficiency(one.infractions)) is not None]
    return sum(values) / len(values) if values else None
