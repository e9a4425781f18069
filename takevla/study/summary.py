"""What a table of cells comes to: each arm's figures with intervals over seeds and routes, and its gain.

Rows of a table are seeds, columns routes; a difference pairs an arm's cell with the base's of the same seed,
route by route, over the seeds and routes that both have.  Routes asked but without an outcome count 0 in the
figures over routes asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from takevla.bench.abilities import abilities_of
from takevla.bench.statistics import Interval, seeded_interval, seeded_ratio, seeded_ratio_difference
from takevla.bench.words import WORD_FIGURES, parts
from takevla.study.cell import BASE, Cell, arm_order

SUMMARISED = ("driving_score", "success_rate", "ttc_mean_s")  # what `results/summary.json` holds
Cells = Mapping[int, Cell]  # of one arm, by seed
Table = NDArray[np.float64]


@dataclass(frozen=True)
class Measure:
    """A figure: how a route's numbers of a cell make it, and how it is written."""

    name: str
    title: str
    unit: str
    digits: int
    higher_is_better: bool | None  # None where neither is
    parts: Callable[[Cell, int | None], tuple[float, float]]  # numerator and denominator of a route's row


@dataclass(frozen=True)
class Finding:
    """A measure of an arm, and its difference from the base."""

    value: Interval | None
    difference: Interval | None
    seeds: tuple[int, ...]


def _column(name: str, scale: float = 1.0, missing: float = math.nan) -> Callable[..., tuple[float, float]]:
    def found(cell: Cell, row: int | None) -> tuple[float, float]:
        value = missing if row is None else cell["routes"][name][row]
        if value is None or not math.isfinite(value):
            return 0.0, 0.0
        return scale * float(value), 1.0

    return found


def _share(name: str, of: str) -> Callable[..., tuple[float, float]]:
    def found(cell: Cell, row: int | None) -> tuple[float, float]:
        if row is None:
            return 0.0, 0.0
        return 100.0 * float(cell["routes"][name][row]), float(cell["routes"][of][row])

    return found


def _words(name: str) -> Callable[..., tuple[float, float]]:
    def found(cell: Cell, row: int | None) -> tuple[float, float]:
        if row is None or not cell["words"]:
            return 0.0, 0.0
        routes = cell["routes"]
        words = cell["words"]["routes"].get(routes["route_id"][row])
        return parts(words, routes["km"][row], name) if words else (0.0, 0.0)

    return found


MEASURES: dict[str, Measure] = {
    one.name: one
    for one in (
        Measure("driving_score", "Driving score", "", 2, True, _column("driving_score", 1.0, 0.0)),
        Measure("success_rate", "Success rate", "%", 1, True, _column("success", 100.0, 0.0)),
        Measure("ttc_mean_s", "Average TTC", "s", 2, True, _column("ttc_mean_s")),
        Measure("driving_score_scored", "Driving score, scored", "", 2, True, _column("driving_score")),
        Measure("success_rate_scored", "Success rate, scored", "%", 1, True, _column("success", 100.0)),
        Measure("route_completion", "Route completion", "%", 1, True, _column("route_completion", 1.0, 0.0)),
        Measure("close_frames", "Frames with TTC < 1.5 s", "%", 2, False, _share("frames_close", "frames")),
        *(
            Measure(
                name, meaning[0].upper() + meaning[1:], unit, 2,
                {"takeovers_per_km": False, "expert_lead_s": None}.get(name, True), _words(name),
            )
            for name, (unit, meaning) in WORD_FIGURES.items()
        ),
    )
}  # fmt: skip


def route_ids(cells: Iterable[Cell]) -> list[str]:
    """Every route that was asked in any of these cells, in the order of the first that has it."""
    found: dict[str, None] = {}
    for cell in cells:
        found.update(dict.fromkeys([*cell["routes"]["route_id"], *cell["routes_unscored"]]))
    return list(found)


def tables(
    cells: Sequence[Cell],
    measure: Measure,
    routes: Sequence[str],
    only: Callable[[Cell, int], bool] | None = None,
) -> tuple[Table, Table]:
    """Numerators and denominators (S cells, N routes); a route that a cell was not asked has no part in it.

    `only` says of a cell's row whether it counts (routes without an outcome are left out then).
    """
    top, bottom = np.zeros((len(cells), len(routes))), np.zeros((len(cells), len(routes)))
    for s, cell in enumerate(cells):
        rows = {route: k for k, route in enumerate(cell["routes"]["route_id"])}
        for n, route in enumerate(routes):
            row = rows.get(route)
            if row is None and (only is not None or route not in cell["routes_unscored"]):
                continue
            if row is not None and only is not None and not only(cell, row):
                continue
            top[s, n], bottom[s, n] = measure.parts(cell, row)
    return top, bottom


def find(
    arm: Cells, base: Cells, measure: Measure, only: Callable[[Cell, int], bool] | None = None
) -> Finding:
    """A measure of an arm with its difference from `base`, of the routes that `only` lets count."""
    seeds = sorted(arm)
    cells = [arm[seed] for seed in seeds]
    value = seeded_ratio(*tables(cells, measure, route_ids(cells), only))
    common = [seed for seed in seeds if seed in base]
    difference = None
    if common and arm is not base:
        before, after = [base[seed] for seed in common], [arm[seed] for seed in common]
        asked = set(route_ids(after))
        routes = [route for route in route_ids(before) if route in asked]
        first, second = tables(before, measure, routes, only), tables(after, measure, routes, only)
        if measure.name not in ("close_frames", *WORD_FIGURES):
            difference = paired(first, second)
        else:
            difference = seeded_ratio_difference(first, second)
    return Finding(value, difference, tuple(seeds))


def paired(before: tuple[Table, Table], after: tuple[Table, Table]) -> Interval | None:
    """Difference of means over the cells of the table that have a value on both sides."""
    both = (before[1] > 0.0) & (after[1] > 0.0)
    return seeded_interval(np.where(both, after[0] - before[0], np.nan)) if both.any() else None


def summary(cells: Mapping[str, Cells]) -> dict[str, Any]:
    """The content of `results/summary.json` of one suite's cells."""
    base = cells.get(BASE, {})
    result: dict[str, Any] = {}
    for arm in sorted(cells, key=arm_order):
        result[arm] = {}
        for name in SUMMARISED:
            found = find(cells[arm], base, MEASURES[name])
            if found.value is not None:
                result[arm][name] = _plain(found.value) | {
                    "seeds": list(found.seeds),
                    "difference": found.difference and _plain(found.difference),
                }
    return result


def _plain(found: Interval) -> dict[str, Any]:
    return {"mean": round(found.mean, 4), "interval_95": [round(found.low, 4), round(found.high, 4)]}


def tell_abilities(cells: Iterable[Cell]) -> bool:
    """Whether all these cells say which abilities a route passes; those of former revisions do not."""
    return not any(None in cell["routes"].get("abilities_passed", [None]) for cell in cells)


def ability_measure(name: str) -> Measure:
    """Share of routes that pass an ability, of cells that `tell_abilities`."""

    def passed(cell: Cell, row: int | None) -> tuple[float, float]:
        return (0.0, 0.0) if row is None else (100.0 * (name in cell["routes"]["abilities_passed"][row]), 1.0)

    return replace(MEASURES["success_rate_scored"], name=name, title=name.replace("_", " "), parts=passed)


def of_ability(name: str) -> Callable[[Cell, int], bool]:
    """Rows of the scenario types of an ability."""
    return lambda cell, row: name in abilities_of(cell["routes"]["scenario_type"][row])


def of_type(name: str) -> Callable[[Cell, int], bool]:
    """Rows of a scenario type."""
    return lambda cell, row: bool(cell["routes"]["scenario_type"][row] == name)


def scenario_types(cells: Iterable[Cell]) -> list[str]:
    """The scenario types that occur, by name."""
    return sorted({name for cell in cells for name in cell["routes"]["scenario_type"] if name})


@dataclass(frozen=True)
class RouteShift:
    """What became of a route over the seeds that both arms have."""

    route_id: str
    town: str
    scenario_type: str
    before: float  # mean driving score
    after: float
    successes_before: int
    successes_after: int
    seeds: int
    events_before: str
    events_after: str


def shifts(arm: Cells, base: Cells) -> list[RouteShift]:
    """Every route that both have in some seed, greatest loss of driving score first."""
    rows: dict[str, list[tuple[Cell, int, Cell, int]]] = {}
    for seed in sorted(set(arm) & set(base)):
        there = {route: k for k, route in enumerate(arm[seed]["routes"]["route_id"])}
        for k, route in enumerate(base[seed]["routes"]["route_id"]):
            if route in there:
                rows.setdefault(route, []).append((base[seed], k, arm[seed], there[route]))
    found = []
    for route, pairs in rows.items():

        def column(name: str, side: int, pairs: list[Any] = pairs) -> list[Any]:
            return [pair[2 * side]["routes"][name][pair[2 * side + 1]] for pair in pairs]

        found.append(
            RouteShift(
                route, column("town", 0)[0], column("scenario_type", 0)[0],
                float(np.mean(column("driving_score", 0))), float(np.mean(column("driving_score", 1))),
                sum(column("success", 0)), sum(column("success", 1)), len(pairs),
                _joined(column("events", 0)), _joined(column("events", 1)),
            )
        )  # fmt: skip
    return sorted(found, key=lambda one: (one.after - one.before, one.route_id))


def _joined(events: Sequence[str]) -> str:
    return "; ".join(dict.fromkeys(one for one in events if one))
