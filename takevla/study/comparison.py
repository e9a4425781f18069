"""Sections of the page of results about one arm beside the base: abilities, types, margin, what got worse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from takevla.bench.abilities import ABILITIES
from takevla.bench.words import WORD_FIGURES
from takevla.study import figures
from takevla.study.gains import title
from takevla.study.markup import difference, interval, table
from takevla.study.measures import (
    LEAST_TTC_S,
    MEASURES,
    ability_measure,
    of_ability,
    of_type,
    tell_abilities,
)
from takevla.study.summary import (
    Cells,
    Finding,
    both_succeed,
    find,
    find_ability_mean,
    scenario_types,
    shifts,
)

MARGIN = (
    "ttc_mean_s", "course_share", "course_frames", "frames", "close_frames", "close_per_km",
    *(f"least_ttc_{limit:g}" for limit in LEAST_TTC_S), *WORD_FIGURES, "takeovers_per_min",
)  # fmt: skip
BOTH = ("ttc_mean_s", "close_per_km")  # shown once more over the routes that both drive without a fault
Draw = Callable[[str, str, Callable[[Any, Path], None], Any], list[str]]  # name, words, drawing, content


def before_after(base: Cells, after: Cells, draw: Draw) -> list[str]:
    """The base and one arm, side by side, at the seeds that both have."""
    base = {seed: base[seed] for seed in sorted(after) if seed in base} or base
    lines = [*_abilities(base, after, draw), "", "### By scenario type", ""]
    success, score, kinds = MEASURES["success_rate_scored"], MEASURES["driving_score_scored"], []
    for name in scenario_types([*base.values(), *after.values()]):
        only = of_type(name)
        before, now = find(base, {}, success, only).value, find(after, base, success, only)
        means = ["" if one is None else f"{one.mean:.0f}" for one in (before, now.value)]
        changes = [difference(now, 1), difference(find(after, base, score, only), 1)]
        kinds.append([name, str(before.count if before else 0), *means, *changes])
    head = ["type", "routes", "base, success %", "after, success %", "Δ success", "Δ driving score"]
    return lines + table(head, kinds) + _margin(base, after, draw) + _regressions(base, after)


def _abilities(base: Cells, after: Cells, draw: Draw) -> list[str]:
    lines = ["", f"### Base and “{title(after)}” by ability", ""]
    if not tell_abilities([*base.values(), *after.values()]):
        return [*lines, "Not shown: cells of a former revision among these do not say what a route passes."]
    rows: list[tuple[str, Finding, Finding]] = []
    for name in ABILITIES:
        measure, only = ability_measure(name), of_ability(name)
        rows.append((measure.title, find(base, {}, measure, only), find(after, base, measure, only)))
    rows.append(("Mean of the abilities", find_ability_mean(base, {}), find_ability_mean(after, base)))
    lines += table(
        ["ability", "routes", "base, %", "after, %", "Δ"],
        [
            [name, str(before.value.count if before.value else 0), interval(before.value, 1),
             interval(found.value, 1), difference(found, 1)]
            for name, before, found in rows
        ],
    )  # fmt: skip
    bars = [(name, before.value, found.value) for name, before, found in rows]
    return lines + draw("abilities", "Success by ability", figures.pairs, bars)


def _margin(base: Cells, after: Cells, draw: Draw) -> list[str]:
    rows = [_row(MEASURES[name].heading, find(base, {}, MEASURES[name]), find(after, base, MEASURES[name]))
            for name in MARGIN]  # fmt: skip
    clean = both_succeed(after, base)
    for name in BOTH:
        found = [find(arm, other, MEASURES[name], clean) for arm, other in ((base, {}), (after, base))]
        rows.append(_row(f"{MEASURES[name].heading}, where both succeed", found[0], found[1]))
    lines = ["", "### Safety margin and words", ""]
    lines += table(["figure", "base", "after", "Δ"], [row for row in rows if any(row[1:])])
    counts = {"base": _least(base), title(after): _least(after)}
    bin_s = float(next(iter(base.values()))["figures"]["ttc_bin_s"])
    return lines + draw(
        "ttc", "Least time-to-collision of frames, and of routes",
        lambda content, path: figures.margins(content, bin_s, path), counts,
    )  # fmt: skip


def _row(heading: str, before: Finding, after: Finding) -> list[str]:
    return [heading, interval(before.value, 2), interval(after.value, 2), difference(after, 2)]


def _least(cells: Cells) -> tuple[list[float], list[float]]:
    """By least time-to-collision: frames, in % of all frames driven, and routes, in % of all routes."""
    columns = [one["ttc_histogram"] for one in cells.values() if one["ttc_histogram"]]
    frames = [sum(row) for row in zip(*columns, strict=True)]
    driven = sum(sum(one["routes"]["frames"]) for one in cells.values())
    least = [one for cell in cells.values() for one in cell["routes"]["least_ttc_bin"]]
    return (
        [100.0 * count / max(driven, 1) for count in frames],
        [100.0 * least.count(place) / max(len(least), 1) for place in range(len(frames))],
    )


def _regressions(base: Cells, after: Cells) -> list[str]:
    changes = shifts(after, base)
    worse = [one for one in changes if one.worse]
    more, fewer = (sum(sign * (one.mended - one.broken) > 0 for one in changes) for sign in (1, -1))
    won, lost = sum(one.mended for one in changes), sum(one.broken for one in changes)
    lines = [
        "",
        "### Routes that got worse",
        "",
        f"Of {len(changes)} routes, {more} succeed with more seeds than before and {fewer} with fewer;",
        f"by route and seed {won} successes are won and {lost} lost.",
        f"These {len(worse)} lost driving score or success with some seed:",
        "",
    ]
    head = ["route", "town", "type", "driving score, by seed", "before", "after"]
    rows = [
        [
            one.route_id,
            one.town,
            one.scenario_type,
            ", ".join(f"{before.score:.1f} → {now.score:.1f}" for before, now in one.drives),
            *(_joined([pair[side].events for pair in one.drives]) for side in (0, 1)),
        ]
        for one in worse
    ]
    return lines + (table(head, rows) if rows else [])


def _joined(events: Sequence[str]) -> str:
    return "; ".join(dict.fromkeys(one for one in events if one))
