"""The figures of a table of cells, each as what a route adds to a numerator and a denominator."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from takevla.bench.abilities import abilities_of
from takevla.bench.words import WORD_FIGURES, parts
from takevla.study.cell import TICKS_PER_S, Cell

SUMMARISED: Final = ("driving_score", "success_rate", "ttc_mean_s")  # what `results/summary.json` holds
LEAST_TTC_S: Final = (0.5, 1.0, 1.5)  # a route whose least time-to-collision is below one of these came close
Parts = Callable[[Cell, int | None], tuple[float, float]]  # of a cell's row; None: asked, without an outcome
Only = Callable[[Cell, int], bool]  # whether a cell's row counts


@dataclass(frozen=True)
class Measure:
    """A figure: how a route's numbers of a cell make it, and how it is written."""

    name: str
    title: str
    unit: str
    digits: int
    higher_is_better: bool | None  # None where neither is
    parts: Parts
    pooled: bool = False  # a ratio of sums over routes, not a mean of routes

    @property
    def heading(self) -> str:
        """Title with the unit."""
        return f"{self.title}{', ' + self.unit if self.unit else ''}"


def _of_route(cell: Cell, name: str, row: int) -> Any:
    """A route's entry of a column, None where cells of its time did not have it yet."""
    column = cell["routes"].get(name)
    return None if column is None else column[row]


def _column(name: str, scale: float = 1.0, missing: float = math.nan) -> Parts:
    def found(cell: Cell, row: int | None) -> tuple[float, float]:
        value = missing if row is None else _of_route(cell, name, row)
        if value is None or not math.isfinite(value):
            return 0.0, 0.0
        return scale * float(value), 1.0

    return found


def _share(name: str, of: str, scale: float = 100.0) -> Parts:
    def found(cell: Cell, row: int | None) -> tuple[float, float]:
        top, bottom = (None if row is None else _of_route(cell, one, row) for one in (name, of))
        return (0.0, 0.0) if top is None or bottom is None else (scale * float(top), float(bottom))

    return found


def _least_ttc_below(limit_s: float) -> Parts:
    def found(cell: Cell, row: int | None) -> tuple[float, float]:
        if row is None:
            return 0.0, 0.0
        first = cell["routes"]["least_ttc_bin"][row]
        return (100.0 if first is not None and first * cell["figures"]["ttc_bin_s"] < limit_s else 0.0), 1.0

    return found


def _words(name: str) -> Parts:
    def found(cell: Cell, row: int | None) -> tuple[float, float]:
        if row is None or not cell["words"]:
            return 0.0, 0.0
        routes = cell["routes"]
        words = cell["words"]["routes"].get(routes["route_id"][row])
        return parts(words, routes["km"][row], name) if words else (0.0, 0.0)

    return found


def _takeovers_per_minute(cell: Cell, row: int | None) -> tuple[float, float]:
    takeovers, km = _words("takeovers_per_km")(cell, row)
    return (
        (0.0, 0.0)
        if row is None or not km
        else (takeovers, cell["routes"]["frames"][row] / TICKS_PER_S / 60.0)
    )


MEASURES: dict[str, Measure] = {
    one.name: one
    for one in (
        Measure("driving_score", "Driving score", "", 2, True, _column("driving_score", 1.0, 0.0)),
        Measure("success_rate", "Success rate", "%", 1, True, _column("success", 100.0, 0.0)),
        Measure("ttc_mean_s", "Average TTC", "s", 2, True, _column("ttc_mean_s")),
        Measure("driving_score_scored", "Driving score, scored", "", 2, True, _column("driving_score")),
        Measure("success_rate_scored", "Success rate, scored", "%", 1, True, _column("success", 100.0)),
        Measure("route_completion", "Route completion", "%", 1, True, _column("route_completion", 1.0, 0.0)),
        Measure("efficiency", "Efficiency", "%", 1, None, _column("efficiency")),
        Measure("comfort", "Comfort", "%", 1, True, _column("comfort")),
        Measure("comfort_si", "Comfort, SI rule", "%", 1, True, _column("comfort_si")),
        Measure("frames", "Time driven, of a route", "s", 1, None, _column("frames", 1.0 / TICKS_PER_S)),
        Measure("course_share", "Frames on a collision course, the ones averaged", "%", 1, None,
                _share("frames_on_course", "frames"), pooled=True),
        Measure("course_frames", "Time on a collision course, of a route", "s", 1, False,
                _column("frames_on_course", 1.0 / TICKS_PER_S)),
        Measure("close_frames", "Frames with TTC < 1.5 s", "%", 2, False,
                _share("frames_close", "frames"), pooled=True),
        Measure("close_per_km", "Time with TTC < 1.5 s", "s/km", 1, False,
                _share("frames_close", "km", 1.0 / TICKS_PER_S), pooled=True),
        *(
            Measure(f"least_ttc_{limit:g}", f"Routes whose least TTC is under {limit:g} s", "%", 1, False,
                    _least_ttc_below(limit))
            for limit in LEAST_TTC_S
        ),
        *(
            Measure(
                name, meaning[0].upper() + meaning[1:], unit, 2,
                {"takeovers_per_km": False, "expert_lead_s": None}.get(name, True), _words(name), pooled=True,
            )
            for name, (unit, meaning) in WORD_FIGURES.items()
        ),
        Measure("takeovers_per_min", "Takeovers that the monitor would have called for", "1/min", 2, False,
                _takeovers_per_minute, pooled=True),
    )
}  # fmt: skip


def tell_abilities(cells: Iterable[Cell]) -> bool:
    """Whether all these cells say which abilities a route passes; those of former revisions do not."""
    return not any(None in cell["routes"].get("abilities_passed", [None]) for cell in cells)


def ability_measure(name: str) -> Measure:
    """Share of routes that pass an ability, of cells that `tell_abilities`."""

    def passed(cell: Cell, row: int | None) -> tuple[float, float]:
        return (0.0, 0.0) if row is None else (100.0 * (name in cell["routes"]["abilities_passed"][row]), 1.0)

    return replace(MEASURES["success_rate_scored"], name=name, title=name.replace("_", " "), parts=passed)


def of_ability(name: str) -> Only:
    """Rows of the scenario types of an ability."""
    return lambda cell, row: name in abilities_of(cell["routes"]["scenario_type"][row])


def of_type(name: str) -> Only:
    """Rows of a scenario type."""
    return lambda cell, row: bool(cell["routes"]["scenario_type"][row] == name)
