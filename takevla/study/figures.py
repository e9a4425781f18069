"""Figures of the page of results, as SVG files that are the same bytes for the same cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
Row = tuple[str, Interval | None]


def _save(canvas: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path, metadata={"Date": None, "Creator": None}, facecolor="white")


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
        _save(canvas, path)


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
        _save(canvas, path)


def margins(counts: Mapping[str, Sequence[int]], bin_s: float, path: Path) -> None:
    """Share of frames on a collision course by least time-to-collision, one line a label."""
    with matplotlib.rc_context(STYLE):
        canvas = Figure(figsize=(7.6, 2.7), layout="constrained")
        axes = canvas.subplots()
        for (label, column), colour in zip(counts.items(), (BEFORE, AFTER), strict=False):
            values = np.asarray(column, np.float64)
            edges = np.arange(len(values) + 1) * bin_s
            share = 100.0 * values / max(values.sum(), 1.0)
            axes.stairs(share, edges, color=colour, fill=True, alpha=0.2)
            axes.stairs(share, edges, color=colour, linewidth=1.6, label=label)
        axes.set_xlabel("least time-to-collision of a frame, s")
        axes.set_ylabel("% of frames on course")
        axes.set_xlim(left=0.0)
        axes.legend()
        _save(canvas, path)
