"""What a table of cells comes to: each arm's figures with intervals over seeds and routes, and its gain.

Rows of a table are seeds, columns routes; a difference pairs an arm's cell with the base's of the same seed,
route by route, over the seeds and routes that both have.  Routes asked but without an outcome count 0 in the
figures over routes asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from takevla.bench.abilities import ABILITIES
from takevla.bench.statistics import (
    Interval,
    seeded_interval,
    seeded_mean_of_ratios,
    seeded_ratio,
    seeded_ratio_difference,
)
from takevla.study.cell import BASE, Cell, arm_order
from takevla.study.measures import MEASURES, SUMMARISED, Measure, Only, ability_measure, of_ability

Cells = Mapping[int, Cell]  # of one arm, by seed
Table = NDArray[np.float64]


@dataclass(frozen=True)
class Finding:
    """A measure of an arm, and its difference from another arm, the base unless said otherwise."""

    value: Interval | None
    difference: Interval | None
    seeds: tuple[int, ...]
    paired_seeds: tuple[int, ...]  # those that the difference is over


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
    only: Only | None = None,
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


def find(arm: Cells, base: Cells, measure: Measure, only: Only | None = None) -> Finding:
    """A measure of an arm with its difference from `base`, of the routes that `only` lets count."""
    seeds = sorted(arm)
    cells = [arm[seed] for seed in seeds]
    value = seeded_ratio(*tables(cells, measure, route_ids(cells), only))
    common, routes = _common([arm, base])
    difference = None
    if common and arm is not base:
        first, second = (
            tables([side[seed] for seed in common], measure, routes, only) for side in (base, arm)
        )
        difference = seeded_ratio_difference(first, second) if measure.pooled else paired(first, second)
    return Finding(value, difference, tuple(seeds), tuple(common))


def find_ability_mean(arm: Cells, base: Cells) -> Finding:
    """Mean of the five abilities, of cells that `tell_abilities`; all from the same resamples of routes."""

    def of_each(cells: Sequence[Cell], routes: Sequence[str]) -> list[tuple[Table, Table]]:
        found = [tables(cells, ability_measure(name), routes, of_ability(name)) for name in ABILITIES]
        return [pair for pair in found if pair[1].any()]

    seeds = sorted(arm)
    cells = [arm[seed] for seed in seeds]
    value = seeded_mean_of_ratios(of_each(cells, route_ids(cells)))
    common, routes = _common([arm, base])
    difference = None
    if common and arm is not base:
        before, after = (of_each([side[seed] for seed in common], routes) for side in (base, arm))
        difference = seeded_mean_of_ratios(after, minus=before)
    return Finding(value, difference, tuple(seeds), tuple(common))


def interaction(first: tuple[Cells, Cells], second: tuple[Cells, Cells], measure: Measure) -> Finding:
    """How much more the first arm of `first` is above its second than that of `second` above its second."""
    sides = (*first, *second)
    common, routes = _common(sides)
    if not common:
        return Finding(None, None, (), ())
    found = [tables([side[seed] for seed in common], measure, routes) for side in sides]
    present = np.logical_and.reduce([number > 0.0 for _, number in found])
    (a, _), (b, _), (c, _), (d, _) = found
    difference = seeded_interval(np.where(present, (a - b) - (c - d), np.nan)) if present.any() else None
    return Finding(None, difference, tuple(common), tuple(common))


def both_succeed(arm: Cells, base: Cells) -> Only:
    """Rows of the routes and seeds at which the arm and the base both succeed."""

    def clean(cells: Cells) -> set[tuple[int, str]]:
        return {
            (seed, route)
            for seed, cell in cells.items()
            for route, success in zip(cell["routes"]["route_id"], cell["routes"]["success"], strict=True)
            if success
        }

    both = clean(arm) & clean(base)
    return lambda cell, row: (int(cell["seed"]), cell["routes"]["route_id"][row]) in both


def _common(arms: Sequence[Cells]) -> tuple[list[int], list[str]]:
    """Seeds and routes that all these arms have."""
    seeds = sorted(set.intersection(*(set(one) for one in arms)))
    asked = [route_ids([one[seed] for seed in seeds]) for one in arms]
    everywhere = set.intersection(*map(set, asked))
    return seeds, [route for route in asked[-1] if route in everywhere]


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


def scenario_types(cells: Iterable[Cell]) -> list[str]:
    """The scenario types that occur, by name."""
    return sorted({name for cell in cells for name in cell["routes"]["scenario_type"] if name})


@dataclass(frozen=True)
class Drive:
    """What became of a route with one seed; a route that was asked and has no outcome scores 0."""

    score: float
    success: bool
    events: str


@dataclass(frozen=True)
class RouteShift:
    """What became of a route, before and after, at the seeds that both arms have."""

    route_id: str
    town: str
    scenario_type: str
    drives: tuple[tuple[Drive, Drive], ...]  # one a seed

    @property
    def change(self) -> float:
        """Of the mean driving score."""
        return float(np.mean([after.score - before.score for before, after in self.drives]))

    @property
    def mended(self) -> int:
        """Seeds at which it succeeds only after."""
        return sum(after.success and not before.success for before, after in self.drives)

    @property
    def broken(self) -> int:
        """Seeds at which it succeeded only before."""
        return sum(before.success and not after.success for before, after in self.drives)

    @property
    def worse(self) -> bool:
        """Whether it lost driving score or its success at some seed."""
        return self.broken > 0 or any(after.score < before.score for before, after in self.drives)


def shifts(arm: Cells, base: Cells) -> list[RouteShift]:
    """Every route that was asked of both with some seed, greatest loss of driving score first."""
    drives: dict[str, list[tuple[Drive, Drive]]] = {}
    places: dict[str, tuple[str, str]] = {}
    for seed in sorted(set(arm) & set(base)):
        before, after = _drives(base[seed], places), _drives(arm[seed], places)
        for route in (one for one in before if one in after):
            drives.setdefault(route, []).append((before[route], after[route]))
    found = [RouteShift(route, *places.get(route, ("", "")), tuple(rows)) for route, rows in drives.items()]
    return sorted(found, key=lambda one: (one.change, one.route_id))


def _drives(cell: Cell, places: dict[str, tuple[str, str]]) -> dict[str, Drive]:
    """The drives of a cell by route; notes town and scenario type of each."""
    routes = cell["routes"]
    names = ("route_id", "town", "scenario_type", "driving_score", "success", "events")
    found = {}
    for route, town, kind, score, success, events in zip(*(routes[name] for name in names), strict=True):
        places[route] = (town, kind)
        found[route] = Drive(score, success, events)
    return found | {
        route: Drive(0.0, False, f"no outcome: {why}") for route, why in cell["routes_unscored"].items()
    }
