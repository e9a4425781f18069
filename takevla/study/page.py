"""`results/summary.json`, `docs/results.md` and its figures, all made of the cells under `results/arms`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from takevla.bench.abilities import ABILITIES
from takevla.bench.leaderboard_json import write_json
from takevla.bench.provenance import machine_words
from takevla.bench.statistics import Interval
from takevla.bench.words import WORD_FIGURES
from takevla.study import figures
from takevla.study.cell import BASE, FULL, ORDER, Cell, arm_order, read_cells
from takevla.study.dreams import CALM, CURVES, JUDGED
from takevla.study.summary import (
    MEASURES,
    SUMMARISED,
    Cells,
    Finding,
    ability_measure,
    find,
    of_ability,
    of_type,
    scenario_types,
    shifts,
    summary,
    tell_abilities,
)

SUMMARY_SUITE = "val220"  # the suite that is reported; choices are made on another
SUMMARY_FILE = "summary.json"
MOST_REGRESSIONS = 30
FEWEST_TELLING = 10  # routes below which an interval without zero is no finding
COMMAND = "takevla results"
# What an arm changes beside its scores: the margin it keeps, and how early it says and does the right thing.
MINDSET: Mapping[str, str] = {
    "close_frames": "frames with TTC < 1.5 s, %", "both_right": "words as the expert's, %",
    "takeovers_per_km": "calls by the monitor, 1/km", "words_lead_s": "right words earlier by, s",
    "braking_lead_s": "first braking earlier by, s",
}  # fmt: skip
_FOLDERS: Mapping[str, str] = {
    "base_eval": "evaluate the base", "rehearsal": "rehearsal", "starts": "starts", "takeovers": "collect",
    "expert": "expert frames", "sft": "fine-tune", "dream": "dream", "final_eval": "evaluate",
}  # fmt: skip


def write_results(results: Path, page: Path) -> list[Path]:
    """Write the summary, the page and its figures; gives the files."""
    suites = _suites(results)
    summarised = suites.get(SUMMARY_SUITE, {})
    write_json(results / SUMMARY_FILE, summary(summarised))
    drawn: list[Path] = []
    lines = [
        "# Results",
        "",
        f"Made by `{COMMAND}` of the cells under `results/arms`: numbers change by running, not by hand.",
        f"Choices of method are made on `dev88`; `{SUMMARY_SUITE}` is only reported.  Brackets are 95 %",
        "intervals, resampled over routes and training seeds; a difference is paired by route and seed with",
        "the base's.  **Bold** differences have an interval without zero, over ten routes or more.  A seed",
        "is one of what is drawn in learning and of the traffic that is evaluated in; all share the worlds",
        "in which data is collected (`data_seed`).  Each figure is defined in [`metrics.md`](metrics.md).",
        "Some routes of before and after are shown [in pictures](strips/strips.md).",
    ]
    for suite in sorted(suites, key=lambda name: (name != SUMMARY_SUITE, name)):
        lines += _suite_section(suite, suites[suite], page, drawn)
    if not suites:
        lines += ["", "No cell has been run yet: `takevla arms --suite dev88` runs the table."]
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [results / SUMMARY_FILE, page, *drawn]


def check_results(results: Path, page: Path) -> None:
    """Make summary and page anew beside and compare.

    Raises:
        ValueError: a file does not agree with the cells; names the first line that differs.
    """
    with tempfile.TemporaryDirectory() as folder:
        fresh_page, fresh_results = Path(folder) / "docs" / page.name, Path(folder) / "results"
        fresh_results.mkdir()
        if (results / "arms").is_dir():
            (fresh_results / "arms").symlink_to((results / "arms").resolve(), target_is_directory=True)
        made = write_results(fresh_results, fresh_page)
        compared = [(page, fresh_page), (results / SUMMARY_FILE, fresh_results / SUMMARY_FILE)]
        compared += [(page.parent / one.relative_to(fresh_page.parent), one) for one in made[2:]]
        for kept, fresh in compared:
            if not kept.is_file():
                raise ValueError(f"{kept}: missing; `{COMMAND}` makes it")
            if fresh.suffix == ".svg":
                continue  # its bytes depend on the fonts of the machine
            found, wanted = (one.read_text(encoding="utf-8").splitlines() for one in (kept, fresh))
            for number in range(max(len(found), len(wanted))):
                if found[number : number + 1] != wanted[number : number + 1]:
                    raise ValueError(
                        f"{kept}: line {number + 1} does not agree with the cells; `{COMMAND}` makes it anew"
                    )


def _suites(results: Path) -> dict[str, dict[str, Cells]]:
    folders = sorted(path for path in (results / "arms").glob("*") if path.is_dir())
    found = {path.name: read_cells(path) for path in folders}
    return {name: dict(cells) for name, cells in found.items() if cells}


def _suite_section(suite: str, cells: Mapping[str, Cells], page: Path, drawn: list[Path]) -> list[str]:
    arms = sorted(cells, key=arm_order)
    base, full = cells.get(BASE, {}), cells.get(FULL)
    towards = ORDER[1 : ORDER.index(FULL) + 1]  # arms that lead to the full system, which is the last
    compared = next((cells[arm] for arm in reversed(towards) if arm in cells), None)
    first = next(iter(cells[arms[0]].values()))
    lines = ["", f"## {suite}", "", f"{first['figures']['routes_total']} routes.", ""]
    lines += _arms_table(cells, arms, base)
    shown = [arm for arm in arms if arm != BASE]
    if base and shown:
        panels = [
            (MEASURES[name].title, MEASURES[name].unit,
             [(_title(cells[arm]), find(cells[arm], base, MEASURES[name]).difference) for arm in shown])
            for name in SUMMARISED
        ]  # fmt: skip
        lines += _picture(
            page, drawn, f"{suite}-gains.svg", "Differences from the base", figures.gains, panels
        )
    lines += ["", "Over the routes that have an outcome, and how much was driven:", ""]
    lines += _table(
        ["arm", "Driving score", "Success rate, %", "Route completion, %", "routes scored / asked"],
        [
            [_title(cells[arm])]
            + [_value(find(cells[arm], base, MEASURES[name]), name) for name in
               ("driving_score_scored", "success_rate_scored", "route_completion")]
            + [", ".join(f"{one['figures']['routes_scored']} / {one['figures']['routes_total']}"
                         for _, one in sorted(cells[arm].items()))]
            for arm in arms
        ],
    )  # fmt: skip
    if full:
        lines += _against_controls(cells, arms, full)
    if base and shown:
        lines += _mindset(cells, shown, base)
    if base and compared:
        lines += _before_after(suite, base, compared, page, drawn)
    return lines + _dreams(cells, arms) + _cost(cells, arms)


def _arms_table(cells: Mapping[str, Cells], arms: Sequence[str], base: Cells) -> list[str]:
    head = ["arm", "seeds"]
    for name in SUMMARISED:
        head += [_heading(name), "Δ to base"]
    rows = []
    for arm in arms:
        row = [_title(cells[arm]), ", ".join(map(str, sorted(cells[arm])))]
        for name in SUMMARISED:
            found = find(cells[arm], base, MEASURES[name])
            row += [_value(found, name), _difference(found.difference, MEASURES[name].digits)]
        rows.append(row)
    return _table(head, rows)


def _against_controls(cells: Mapping[str, Cells], arms: Sequence[str], full: Cells) -> list[str]:
    rows = []
    for arm in arms:
        if arm in (BASE, FULL):
            continue
        found = [find(full, cells[arm], MEASURES[name]).difference for name in SUMMARISED]
        digits = [MEASURES[name].digits for name in SUMMARISED]
        rows.append([_title(cells[arm]), *map(_difference, found, digits)])
    if not rows:
        return []
    head = ["the full system against", *(f"Δ {_heading(name)}" for name in SUMMARISED)]
    return ["", "### The full system against each control", "", *_table(head, rows)]


def _mindset(cells: Mapping[str, Cells], arms: Sequence[str], base: Cells) -> list[str]:
    rows = []
    for arm in arms:
        found = [find(cells[arm], base, MEASURES[name]).difference for name in MINDSET]
        rows.append([_title(cells[arm]), *(_difference(one, 2) for one in found)])
    head = ["arm", *MINDSET.values()]
    return ["", "### Change of margin and foresight, each arm against the base", "", *_table(head, rows)]


def _before_after(suite: str, base: Cells, full: Cells, page: Path, drawn: list[Path]) -> list[str]:
    """The base and one arm, side by side: the full system, or until that has been run the one next to it."""
    success, after_title = MEASURES["success_rate_scored"], _title(full)
    lines = _abilities(suite, base, full, page, drawn)
    lines += ["", "### By scenario type", ""]
    score, kinds = MEASURES["driving_score_scored"], []
    for name in scenario_types([*base.values(), *full.values()]):
        only = of_type(name)
        before, after = find(base, {}, success, only).value, find(full, base, success, only)
        gain = find(full, base, score, only).difference
        kinds.append([name, str(before.count if before else 0), _plain(before), _plain(after.value),
                      _difference(after.difference, 1), _difference(gain, 1)])  # fmt: skip
    head = ["type", "routes", "base, success %", "after, success %", "Δ success", "Δ driving score"]
    lines += _table(head, kinds)
    lines += ["", "### Safety margin and words", ""]
    names = ["ttc_mean_s", "close_frames", *WORD_FIGURES]
    found = [(name, find(base, {}, MEASURES[name]).value, find(full, base, MEASURES[name])) for name in names]
    rows = [
        [_heading(name), _interval(before, 2), _interval(after.value, 2), _difference(after.difference, 2)]
        for name, before, after in found
        if before or after.value
    ]
    rows.insert(
        1, ["Frames on a collision course, the ones averaged, %", _coverage(base), _coverage(full), ""]
    )
    lines += _table(["figure", "base", "after", "Δ"], rows)
    counts = {"base": _frames(base), after_title: _frames(full)}
    bin_s = float(next(iter(base.values()))["figures"]["ttc_bin_s"])
    lines += _picture(page, drawn, f"{suite}-ttc.svg", "Least time-to-collision of frames",
                      lambda content, path: figures.margins(content, bin_s, path), counts)  # fmt: skip
    return lines + _regressions(base, full)


def _abilities(suite: str, base: Cells, full: Cells, page: Path, drawn: list[Path]) -> list[str]:
    lines = ["", f"### Base and “{_title(full)}” by ability", ""]
    if not tell_abilities([*base.values(), *full.values()]):
        return [*lines, "Not shown: cells of a former revision among these do not say what a route passes."]
    rows = []
    for name in ABILITIES:
        measure, only = ability_measure(name), of_ability(name)
        before, after = find(base, {}, measure, only).value, find(full, base, measure, only)
        rows.append((name.replace("_", " "), before, after))
    lines += _table(
        ["ability", "routes", "base, %", "after, %", "Δ"],
        [
            [name, str(before.count if before else 0), _interval(before, 1),
             _interval(found.value, 1), _difference(found.difference, 1)]
            for name, before, found in rows
        ],
    )  # fmt: skip
    bars = [(name, before, found.value) for name, before, found in rows]
    return lines + _picture(page, drawn, f"{suite}-abilities.svg", "Success by ability", figures.pairs, bars)


def _regressions(base: Cells, full: Cells) -> list[str]:
    changes = shifts(full, base)
    worse = [one for one in changes if one.after < one.before or one.successes_after < one.successes_before]
    mended = sum(one.successes_after > one.successes_before for one in changes)
    most = f"; these are the {MOST_REGRESSIONS} greatest losses" if len(worse) > MOST_REGRESSIONS else ""
    lines = [
        "",
        "### Routes that got worse",
        "",
        f"Of {len(changes)} routes, {mended} succeed in more seeds than before,",
        f"{len(worse)} lost driving score or success{most}.",
        "",
    ]
    head = ["route", "town", "type", "driving score", "successes", "before", "after"]
    rows = [
        [
            one.route_id,
            one.town,
            one.scenario_type,
            f"{one.before:.1f} → {one.after:.1f}",
            f"{one.successes_before} → {one.successes_after} of {one.seeds}",
            one.events_before,
            one.events_after,
        ]
        for one in worse[:MOST_REGRESSIONS]
    ]
    return lines + (_table(head, rows) if rows else [])


def _dreams(cells: Mapping[str, Cells], arms: Sequence[str]) -> list[str]:
    """What the dreams of each arm came to, mean over its seeds and rounds; nothing where no arm dreams."""
    rows, refused = [], []
    for arm in arms:
        found = [(seed, one) for seed, cell in sorted(cells[arm].items()) for one in cell.get("dreams", [])]
        refused += [f"`{arm}`, seed {seed}: {one['refused']}" for seed, one in found if one["refused"]]
        dreamed = [one for _, one in found if not one["refused"]]
        if not dreamed:
            continue
        judged = [mean_of([one["judged"][name] for one in dreamed]) for name in JUDGED[1:]]
        calm = [mean_of([one["judged"][name] for one in dreamed]) for name in CALM[3:]]
        last = [mean_of([one["last_update"][name] for one in dreamed]) for name in CURVES[1:4]]
        rows.append(
            [f"`{arm}`", str(len(dreamed)), _arrow(judged[:2], 3), _arrow(judged[2:], 3), _arrow(calm, 3)]
            + ["" if one is None else f"{one:.3f}" for one in last]
        )
    if not rows and not refused:
        return []
    lines = ["", "### Dreams", ""]
    if rows:
        lines += [
            "Before and after, of the plan that drives, over the scenes dreamed (in closed dreams over",
            "`dream.closed.judged` of them); the last three figures are of the last update, KL in nats:",
            "",
            *_table(
                ["arm", "dreams", "reward", "failures", "failures of calm driving", "KL, scenes dreamed",
                 "KL, ordinary frames", "degenerate groups"],
                rows,
            ),
        ]  # fmt: skip
    if refused:
        lines += ["", "Nothing was dreamed in these, whose fine-tuned model was driven as it is:", ""]
        lines += [f"- {one}" for one in refused]
    return lines


def mean_of(values: Sequence[float | None]) -> float | None:
    """Of those that there are, None if there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _arrow(pair: Sequence[float | None], digits: int) -> str:
    """Before and after."""
    return "" if None in pair else " → ".join(f"{one:.{digits}f}" for one in pair)


def _cost(cells: Mapping[str, Cells], arms: Sequence[str]) -> list[str]:
    """Minutes of each kind of stage, mean over seeds; a stage that arms share counts in each of them."""
    columns = list(_FOLDERS)
    rows = []
    for arm in arms:
        spent = dict.fromkeys(columns, 0.0)
        for one in cells[arm].values():
            for stage in one["stages"]:
                spent[stage["folder"].rsplit("/", 1)[-1]] += (stage["wall_s"] or 0.0) / 60.0 / len(cells[arm])
        minutes = [f"{spent[name]:.1f}" if spent[name] else "" for name in columns]
        rows.append([f"`{arm}`", *minutes, f"{sum(spent.values()):.1f}"])
    every: dict[str, float] = {}
    revisions: dict[str, None] = {}
    machines: dict[str, None] = {}
    for one in (cell for arm in arms for _, cell in sorted(cells[arm].items())):
        every.update({stage["key"]: stage["wall_s"] or 0.0 for stage in one["stages"]})
        revisions.update(dict.fromkeys(str(stage["git_revision"])[:12] for stage in one["stages"]))
        machines[machine_words(one["machine"])] = None
    suite = next(iter(cells[arms[0]].values()))["suite"]
    return [
        "",
        "### Cost, and how to run a cell again",
        "",
        "Minutes of wall time, mean over seeds, stages that arms share counted in each:",
        "",
        *_table(["arm", *_FOLDERS.values(), "sum"], rows),
        "",
        f"The whole table, each stage once: {sum(every.values()) / 3600.0:.2f} hours.  Machine: "
        f"{'; '.join(machines)}.",
        "",
        f"Revisions: {', '.join(f'`{one}`' for one in revisions)}.",
        "",
        "A cell from nothing:",
        "",
        "    takevla arms --arms '[ARM]' --seeds '[SEED]' "
        f"--suite {suite.split('-')[0]} --work A --results B",
    ]


def _frames(cells: Cells) -> list[int]:
    columns = [one["ttc_histogram"] for one in cells.values() if one["ttc_histogram"]]
    return [sum(row) for row in zip(*columns, strict=True)]


def _coverage(cells: Cells) -> str:
    """Share of frames that have a time-to-collision, mean over seeds: cells keep no more than that."""
    found = mean_of([one["figures"]["ttc_coverage"] for one in cells.values()])
    return "" if found is None else f"{100.0 * found:.1f}"


def _picture(
    page: Path, drawn: list[Path], name: str, words: str, draw: Callable[[Any, Path], None], content: Any
) -> list[str]:
    path = page.parent / page.stem / name
    draw(content, path)
    drawn.append(path)
    return ["", f"![{words}]({page.stem}/{name})"]


def _title(cells: Cells) -> str:
    one: Cell = next(iter(cells.values()))
    return str(one["title"])


def _heading(name: str) -> str:
    measure = MEASURES[name]
    return f"{measure.title}{', ' + measure.unit if measure.unit else ''}"


def _value(found: Finding, name: str) -> str:
    return _interval(found.value, MEASURES[name].digits)


def _interval(found: Interval | None, digits: int) -> str:
    if found is None:
        return ""
    return f"{found.mean:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def _plain(found: Interval | None) -> str:
    return "" if found is None else f"{found.mean:.0f}"


def _difference(found: Interval | None, digits: int) -> str:
    if found is None:
        return ""
    mean = f"{found.mean:+.{digits}f}"
    mean = f"**{mean}**" if found.excludes_zero and found.count >= FEWEST_TELLING else mean
    return f"{mean} [{found.low:+.{digits}f}, {found.high:+.{digits}f}]"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(str(one).replace("|", "/") for one in line) + " |" for line in lines]
