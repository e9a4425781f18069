"""Before against after: the figures of two evaluations of the same routes, paired by route."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from takevla.bench.abilities import ABILITIES
from takevla.bench.statistics import Interval, interval, paired_interval

Metrics = Mapping[str, Any]  # the content of a metrics.json
Route = Mapping[str, Any]  # one entry of its per_route


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of the table: its two values with intervals, and the paired difference."""

    name: str
    unit: str
    digits: int
    higher_is_better: bool
    before: Interval | None
    after: Interval | None
    difference: Interval | None

    @property
    def verdict(self) -> str:
        """better, worse, or unclear when the interval of the difference holds zero; "" without a
        difference.
        """
        if self.difference is None:
            return ""
        if not self.difference.excludes_zero:
            return "unclear"
        return "better" if (self.difference.mean > 0) == self.higher_is_better else "worse"


@dataclass(frozen=True, slots=True)
class RouteChange:
    """What became of one route."""

    route_id: str
    town: str
    scenario_type: str
    before_score: float
    after_score: float
    before_success: bool
    after_success: bool
    before_events: str
    after_events: str

    @property
    def difference(self) -> float:
        """Change of the driving score."""
        return self.after_score - self.before_score

    @property
    def regression(self) -> bool:
        """Lost its success or score."""
        return self.difference < 0.0 or (self.before_success and not self.after_success)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _ability(name: str) -> Callable[[Route], float]:
    def value(route: Route) -> float:
        if name not in route["abilities"]:
            return math.nan
        # files of before the passed ones were named: plain success
        return 100.0 * (
            name in route["abilities_passed"] if "abilities_passed" in route else route["success"]
        )

    return value


def _column(name: str, scale: float = 1.0) -> Callable[[Route], float]:
    return lambda route: scale * _number(route[name])


# (name, unit, digits, higher is better, value of a route, counts 0 for routes without an outcome)
_FIGURES: tuple[tuple[str, str, int, bool, Callable[[Route], float], bool], ...] = (
    ("Driving score", "", 2, True, _column("driving_score"), True),
    ("Success rate", "%", 1, True, _column("success", 100.0), True),
    ("Route completion", "%", 1, True, _column("route_completion"), True),
    ("Average TTC", "s", 2, True, _column("ttc_mean_s"), False),
    ("Efficiency", "%", 1, True, _column("efficiency"), False),
    ("Comfort", "%", 1, True, _column("comfort"), False),
    ("Comfort, SI rule", "%", 1, True, _column("comfort_si"), False),
)


def _keys(metrics: Metrics) -> dict[tuple[str, int], Route]:
    found: dict[tuple[str, int], Route] = {}
    for route in metrics["per_route"]:
        found[str(route["route_id"]), int(route.get("repetition", 0))] = route
    for route_id in metrics.get("routes_unscored", {}):
        found.setdefault((route_id, 0), {})
    return found


def _figure(
    name: str,
    unit: str,
    digits: int,
    higher: bool,
    value: Callable[[Route], float],
    zero: bool,
    before: Metrics | None,
    after: Metrics | None,
) -> Figure:
    missing = 0.0 if zero else math.nan
    rows = [
        {key: value(route) if route else missing for key, route in _keys(metrics).items()} if metrics else {}
        for metrics in (before, after)
    ]
    common = [key for key in rows[0] if key in rows[1]]
    return Figure(
        name,
        unit,
        digits,
        higher,
        interval(list(rows[0].values())),
        interval(list(rows[1].values())),
        paired_interval([rows[0][key] for key in common], [rows[1][key] for key in common]),
    )


def figures(before: Metrics | None, after: Metrics | None) -> list[Figure]:
    """The before/after table.  Either side may be missing; figures that neither side has are left out."""
    found = [_figure(*row, before, after) for row in _FIGURES]
    return [figure for figure in found if figure.before or figure.after]


def ability_figures(before: Metrics | None, after: Metrics | None) -> list[Figure]:
    """Share of routes that pass each ability (`bench.abilities.passes`)."""
    found = [
        _figure(name.replace("_", " "), "%", 1, True, _ability(name), False, before, after)
        for name in ABILITIES
    ]
    return [figure for figure in found if figure.before or figure.after]


_EVENT_WORDS = {
    "collisions_layout": "hit an obstacle",
    "collisions_pedestrian": "hit a pedestrian",
    "collisions_vehicle": "hit a vehicle",
    "red_light": "ran a red light",
    "stop_infraction": "ran a stop sign",
    "outside_route_lanes": "left its lanes",
    "yield_emergency_vehicle_infractions": "did not yield to an emergency vehicle",
    "scenario_timeouts": "scenario timed out",
}


def events(route: Route) -> str:
    """In words, what went wrong on a route: infractions, and the way it ended if not at its goal.

    A route of a study's cell has these words already.
    """
    if "events" in route:
        return str(route["events"])
    words = []
    for name, count in route["infractions"].items():
        if name in _EVENT_WORDS:  # the others end the route, and its status says so
            words.append(_EVENT_WORDS[name] + (f" (× {count})" if count > 1 else ""))
    if route["status"] not in ("Completed", "Perfect"):
        ending = str(route["status"]).removeprefix("Failed").removeprefix(" - ").removeprefix("Agent ")
        words.append({"TickRuntime": "ran out of time"}.get(ending, ending or "did not arrive"))
    return ", ".join(words)


def route_changes(before: Metrics, after: Metrics) -> list[RouteChange]:
    """Routes that both sides have, greatest loss first."""
    old, new = _keys(before), _keys(after)
    changes = [
        RouteChange(
            route_id=key[0],
            town=route["town"],
            scenario_type=route["scenario_type"],
            before_score=route["driving_score"],
            after_score=new[key]["driving_score"],
            before_success=route["success"],
            after_success=new[key]["success"],
            before_events=events(route),
            after_events=events(new[key]),
        )
        for key, route in old.items()
        if route and new.get(key)
    ]
    return sorted(changes, key=lambda change: (change.difference, change.route_id))


def regressions(changes: Sequence[RouteChange]) -> list[RouteChange]:
    """Those that got worse."""
    return [change for change in changes if change.regression]
