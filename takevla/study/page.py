"""`results/summary.json`, `docs/results.md` and its figures, all made of the cells under `results/arms`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from takevla.files import write_json
from takevla.study import figures, gains
from takevla.study.cell import BASE, FULL, ORDER, arm_order, read_cells
from takevla.study.comparison import before_after
from takevla.study.measures import MEASURES, SUMMARISED
from takevla.study.summary import Cells, find, summary

SUMMARY_SUITE = "val220"  # the suite that is reported; choices are made on another
SUMMARY_FILE = "summary.json"
COMMAND = "takevla results"


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
        "intervals over routes and seeds (over routes alone where there is one seed).  Differences are",
        "paired with the base by route and seed.  **Bold**: the interval excludes zero, with at least ten",
        "routes and three seeds.  *Italics*: it excludes zero, but with fewer seeds than a claim needs, so",
        "the spread between trainings is not in it, or hardly.  A seed sets both the draws of training and",
        "the traffic of the evaluation; the base was trained once, so its seeds vary the traffic alone.  All",
        "share the worlds in which data is collected (`data_seed`).  Each figure is defined in",
        "[`metrics.md`](metrics.md).",
        "Some routes of before and after are shown [in pictures](strips/strips.md).",
    ]
    for suite in sorted(suites, key=lambda name: (name != SUMMARY_SUITE, name)):
        lines += _suite_section(suite, suites[suite], results, page, drawn)
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
        for name in ("arms", "expert"):
            if (results / name).is_dir():
                (fresh_results / name).symlink_to((results / name).resolve(), target_is_directory=True)
        made = write_results(fresh_results, fresh_page)
        compared = [(page, fresh_page), (results / SUMMARY_FILE, fresh_results / SUMMARY_FILE)]
        compared += [(page.parent / one.relative_to(fresh_page.parent), one) for one in made[2:]]
        for kept, fresh in compared:
            if not kept.is_file():
                raise ValueError(f"{kept}: missing; `{COMMAND}` makes it")
            if fresh.suffix == ".svg":  # its bytes depend on the fonts of the machine
                if figures.content(kept) != figures.content(fresh):
                    raise ValueError(f"{kept}: does not show the cells; `{COMMAND}` draws it anew")
                continue
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


def _suite_section(
    suite: str, cells: Mapping[str, Cells], results: Path, page: Path, drawn: list[Path]
) -> list[str]:
    arms = sorted(cells, key=arm_order)
    base, full = cells.get(BASE, {}), cells.get(FULL)
    towards = ORDER[1 : ORDER.index(FULL) + 1]  # arms that lead to the full system, which is the last
    compared = next((cells[arm] for arm in reversed(towards) if arm in cells), None)
    first = next(iter(cells[arms[0]].values()))
    lines = ["", f"## {suite}", "", f"{first['figures']['routes_total']} routes.", ""]

    def draw(name: str, words: str, drawing: Callable[[Any, Path], None], content: Any) -> list[str]:
        path = page.parent / page.stem / f"{suite}-{name}.svg"
        drawing(content, path)
        drawn.append(path)
        return ["", f"![{words}]({page.stem}/{path.name})"]

    lines += gains.arms_table(cells, arms, base)
    if suite == SUMMARY_SUITE:
        lines += gains.missing_arms(cells)
    shown = [arm for arm in arms if arm != BASE]
    if base and shown:
        panels = [
            (MEASURES[name].title, MEASURES[name].unit,
             [(gains.title(cells[arm]), find(cells[arm], base, MEASURES[name]).difference) for arm in shown])
            for name in SUMMARISED
        ]  # fmt: skip
        lines += draw("gains", "Differences from the base", figures.gains, panels)
        lines += gains.each_seed(cells, shown, base)
    lines += gains.driving(cells, arms, base)
    if full:
        lines += gains.against_controls(cells, arms, full)
        if base:
            lines += gains.towards_expert(results / "expert" / f"{suite}.json", base, full)
    if base and shown:
        lines += gains.mindset(cells, shown, base)
    if base and compared:
        lines += before_after(base, compared, draw)
    return lines + gains.dreams(cells, arms) + gains.cost(cells, arms)
