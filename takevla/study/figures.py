"""Figures of the page of results, as SVG files that are the same bytes for the same cells."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from takevla.bench.statistics import Interval

INK, QUIET, GRID = "#243240", "#9aa5b1", "#eceff2"
BETTER, WORSE, BEFORE, AFTER = "#1b5e9b", "#c4622d", "#9aa5b1", "#1b5e9b"
STYLE: Any = {
    "font.family": "sans-serif", "font.size": 9.0, "svg.fonttype": "none", "svg.hashsalt": "takevla",
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#d9dfe5", "axes.labelcolor": INK,
    "axes.titlesize": 9.5, "axes.titlelocation": "left", "axes.titlecolor": INK, "xtick.color": INK,
    "ytick.color": INK, "text.color": INK, "axes.grid": True, "grid.color": GRID, "axes.axisbelow": True,
    "legend.frameon": False,
}  # fmt: skip
DESCRIPTION: Final = "{http://purl.org/dc/elements/1.1/}description"
Row = tuple[str, Interval | None]


def _save(canvas: Figure, path: Path, shown: Any) -> None:
    """Write a figure with the numbers that it shows as its description."""
    path.parent.mkdir(parents=True, exist_ok=True)
    described = json.dumps(shown, default=lambda one: [round(value, 4) for value in asdict(one).values()])
    canvas.savefig(
        path, metadata={"Date": None, "Creator": None, "Description": described}, facecolor="white"
    )


def content(path: Path) -> str:
    """The numbers that a figure says it shows; "" where it says none."""
    told = ElementTree.parse(path).getroot().find(f".//{DESCRIPTION}")
    return "" if told is None or told.text is None else told.text


def gains(panels: Sequence[tuple[str, str, Sequence[Row]]], path: Path) -> None:
    """Differences from the base with 95 % intervals: a panel (title, unit, rows) a figure, a line an arm."""
    with matplotlib.rc_context(STYLE):
        lines = len(panels[0][2])
        canvas = Figure(figsize=(9.4, 0.3 * lines + 1.0), layout="constrained")
        axes = canvas.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for panel, (title, unit, rows) in zip(axes, panels, strict=True):
            panel.axvline(0.0, color=QUIET, linewidth=1.0)
            for y, (_, found) in enumerate(rows):
                if found is None:
                    continue
                clear = found.excludes_zero
                colour = (BETTER if found.mean > 0 else WORSE) if clear else QUIET
                panel.plot(
                    [found.low, found.high], [y, y], color=colour, linewidth=2.2, solid_capstyle="butt"
                )
                panel.plot([found.mean], [y], marker="o", markersize=5, color=colour)
            panel.set_title(f"{title}{', ' + unit if unit else ''}")
            panel.grid(axis="y", visible=False)
            panel.locator_params(axis="x", nbins=5)
        axes[0].set_yticks(range(lines), [name for name, _ in panels[0][2]])
        axes[0].set_ylim(lines - 0.5, -0.5)
        canvas.supxlabel("difference from the base, paired by route and seed", fontsize=9.0)
        _save(canvas, path, panels)


def pairs(rows: Sequence[tuple[str, Interval | None, Interval | None]], path: Path) -> None:
    """Success by group, before and after: bars with 95 % intervals."""
    with matplotlib.rc_context(STYLE):
        canvas = Figure(figsize=(7.6, 0.46 * len(rows) + 0.9), layout="constrained")
        axes = canvas.subplots()
        for shift, colour, label, side in ((-0.19, BEFORE, "base", 1), (0.19, AFTER, "after", 2)):
            for y, row in enumerate(rows):
                found = row[side]
                if not isinstance(found, Interval):
                    continue
                axes.barh(y + shift, found.mean, 0.34, color=colour, label=label if y == 0 else None)
                axes.plot([found.low, found.high], [y + shift] * 2, color=INK, linewidth=0.9)
        axes.set_yticks(range(len(rows)), [row[0] for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(0, 105)
        axes.set_xlabel("success, % of routes")
        axes.grid(axis="y", visible=False)
        canvas.legend(loc="outside upper right", ncols=2)
        _save(canvas, path, rows)


def margins(shares: Mapping[str, tuple[Sequence[float], Sequence[float]]], bin_s: float, path: Path) -> None:
    """Share of frames by their least time-to-collision, and of routes whose least is below a value; in %.

    `shares` has a line a label: of all frames driven those in each bin of `bin_s`, of all routes those whose
    least time-to-collision lies there.
    """
    with matplotlib.rc_context(STYLE):
        canvas = Figure(figsize=(9.4, 2.9), layout="constrained")
        frames, routes = canvas.subplots(1, 2)
        for (label, (of_frames, of_routes)), colour in zip(shares.items(), (BEFORE, AFTER), strict=False):
            edges = np.arange(len(of_frames) + 1) * bin_s
            frames.stairs(of_frames, edges, color=colour, fill=True, alpha=0.2)
            frames.stairs(of_frames, edges, color=colour, linewidth=1.6, label=label)
            below = np.concatenate([[0.0], np.cumsum(of_routes)])
            routes.plot(edges, below, color=colour, linewidth=1.6, marker="o", markersize=2.5)
        frames.set_title("Frames, % of all that were driven")
        frames.set_xlabel("least time-to-collision of a frame, s")
        routes.set_title("Routes, % that come so near or nearer")
        routes.set_xlabel("least time-to-collision of a route, s")
        for panel in (frames, routes):
            panel.set_xlim(left=0.0)
            panel.set_ylim(bottom=0.0)
        frames.legend()
        _save(
            canvas,
            path,
            {label: [[round(one, 4) for one in row] for row in rows] for label, rows in shares.items()},
        )
