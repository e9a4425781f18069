"""Figures of the report as inline SVG."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from takevla.report.compare import Figure

P = ParamSpec("P")

BEFORE, AFTER = "#9aa5b1", "#1b5e9b"  # base model, post-trained model
ACCENT = "#c4622d"
INK, FAINT = "#243240", "#d9dfe5"
GROUP_COLOURS = ("#8b97a3", "#c4622d", "#1b5e9b", "#2f7d5b", "#7a5aa6")
FIRST_CURVES = ("total", "loss", "reward")  # what a reader looks at first
PX_PER_INCH = 104  # of a figure on the page
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "svg.fonttype": "none",  # the page's own font
    "svg.hashsalt": "takevla",  # the same figure is the same bytes
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "axes.grid": True,
    "grid.color": "#eceff2",
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def styled(draw: Callable[P, str]) -> Callable[P, str]:
    """Draw in the page's style, without touching matplotlib's settings for anybody else."""

    @wraps(draw)
    def drawn(*arguments: P.args, **named: P.kwargs) -> str:
        with matplotlib.rc_context(_STYLE):
            return draw(*arguments, **named)

    return drawn


def svg(canvas: Canvas, description: str) -> str:
    """The figure as inline SVG that gives way to the page."""
    buffer = io.StringIO()
    canvas.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # Width and height give way to the page; the view box keeps the proportions, and the greatest width keeps
    # the letters of all figures at one size.
    text = re.sub(r'<svg ([^>]*?)height="[^"]*" ', r"<svg \1", text, count=1)
    text = re.sub(r'<svg ([^>]*?)width="[^"]*" ', r"<svg \1", text, count=1)
    style = f"max-width: {canvas.get_figwidth() * PX_PER_INCH:.0f}px"
    return text.replace("<svg ", f'<svg role="img" aria-label="{description}" style="{style}" ', 1)


def axes_grid(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Canvas, list[Axes]]:
    """A figure of that size in inches, and its panels row by row."""
    canvas = Canvas(figsize=(width, height), layout="constrained")
    axes = canvas.subplots(rows, columns, squeeze=False)
    return canvas, list(axes.flat)


@styled
def ability_bars(rows: Sequence[Figure]) -> str:
    """Success by ability, before and after, with 95 % intervals."""
    canvas, (axes,) = axes_grid(7.8, 0.46 * len(rows) + 0.75)
    for shift, colour, side in ((-0.2, BEFORE, "before"), (0.2, AFTER, "after")):
        found = [(i, getattr(row, side)) for i, row in enumerate(rows)]
        kept = [(i, one) for i, one in found if one is not None]
        if not kept:
            continue
        place = [i + shift for i, _ in kept]
        mean = np.array([one.mean for _, one in kept])
        ends = np.array([[one.mean - one.low, one.high - one.mean] for _, one in kept]).T
        axes.barh(place, mean, height=0.36, color=colour, label=side)
        axes.errorbar(mean, place, xerr=ends.clip(0), fmt="none", ecolor=INK, elinewidth=0.9, capsize=2)
        for y, one in zip(place, (one for _, one in kept), strict=True):
            axes.text(1.0, y, f"{one.mean:.0f}", va="center", ha="left", fontsize=7.5, color="white")
    axes.set_yticks(range(len(rows)), [_ability_label(row) for row in rows])
    axes.set_xlim(0, 105)
    axes.set_xlabel("success, % of routes")
    axes.grid(axis="y", visible=False)
    axes.invert_yaxis()
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.17), ncols=2)
    return svg(canvas, "Success by ability before and after")


def _ability_label(row: Figure) -> str:
    known = row.after or row.before
    return f"{row.name} ({known.count if known else 0} routes)"


@styled
def count_bars(counts: Mapping[str, int], description: str) -> str:
    """Horizontal bars of counts, in the order given."""
    canvas, (axes,) = axes_grid(4.4, 0.34 * len(counts) + 0.45)
    names, values = list(counts), list(counts.values())
    axes.barh(names, values, color=AFTER, height=0.62)
    for y, value in enumerate(values):
        axes.text(value, y, f" {value}", va="center", ha="left", fontsize=8.5)
    axes.set_xlim(0, max([*values, 1]) * 1.15)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.grid(visible=False)
    axes.invert_yaxis()
    return svg(canvas, description)


@styled
def curves(rows: Sequence[Mapping[str, Any]], description: str, most: int = 9) -> str:
    """Every numeric column of `rows` over `step` or `update`; a column and its `val_` twin share a panel."""
    names = sorted(
        {name for row in rows for name, value in row.items() if _numeric(value)} - {"step", "update", "epoch"}
    )
    panels = [name for name in names if not (name.startswith("val_") and name[4:] in names)]
    panels.sort(key=lambda name: name not in FIRST_CURVES)
    panels = panels[:most]
    columns = min(3, max(len(panels), 1))
    lines = math.ceil(len(panels) / columns)
    canvas, axes = axes_grid(2.9 * columns, 1.9 * lines, lines, columns)
    for panel, name in zip(axes, panels, strict=False):
        for column, colour, label in ((name, AFTER, "training"), (f"val_{name}", ACCENT, "validation")):
            points = [
                (row.get("step", row.get("update", i)), row[column])
                for i, row in enumerate(rows)
                if _numeric(row.get(column))
            ]
            if points:
                x, y = zip(*points, strict=True)
                panel.plot(
                    x, y, color=colour, linewidth=1.3, marker="o" if len(x) < 12 else "", ms=2.5, label=label
                )
        panel.set_title(name.replace("_", " "))
        if f"val_{name}" in names:
            panel.legend(fontsize=7.5)
        panel.locator_params(nbins=5)
        panel.ticklabel_format(axis="y", scilimits=(-2, 4))
    for panel in axes[len(panels) :]:
        panel.set_visible(False)
    for panel in axes[max(len(panels) - columns, 0) : len(panels)]:
        panel.set_xlabel("update" if "update" in rows[0] else "step")
    return svg(canvas, description)


def _numeric(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@styled
def ttc_distribution(before: NDArray[Any] | None, after: NDArray[Any] | None, bin_s: float) -> str:
    """Share of frames on a collision course by least time-to-collision; inputs are counts per bin."""
    canvas, (axes,) = axes_grid(7.8, 2.5)
    for counts, colour, label in ((before, BEFORE, "before"), (after, AFTER, "after")):
        if counts is None or not counts.sum():
            continue
        edges = np.arange(len(counts) + 1) * bin_s
        axes.stairs(100.0 * counts / counts.sum(), edges, color=colour, fill=True, alpha=0.22)
        axes.stairs(100.0 * counts / counts.sum(), edges, color=colour, linewidth=1.5, label=label)
    axes.set_xlabel("time to collision at constant velocity, s")
    axes.set_ylabel("% of frames on course")
    axes.set_xlim(left=0)
    axes.legend()
    return svg(canvas, "Distribution of time to collision before and after")


@styled
def rewards(before: Sequence[float], after: Sequence[float]) -> str:
    """Reward of the same dreams before and after: one point a scene, and both distributions."""
    first, second = np.asarray(before, float), np.asarray(after, float)
    canvas, (left, right) = axes_grid(7.6, 2.9, 1, 2)
    low, high = float(min(first.min(), second.min())), float(max(first.max(), second.max()))
    margin = 0.05 * (high - low or 1.0)
    left.plot([low - margin, high + margin], [low - margin, high + margin], color=FAINT, linewidth=1)
    left.scatter(first, second, s=11, color=AFTER, alpha=0.55, linewidths=0)
    left.set_xlabel("reward before")
    left.set_ylabel("reward after")
    left.set_title("one point a scene; above the line is better")
    left.set_aspect("equal", adjustable="datalim")
    edges = np.linspace(low - margin, high + margin, 17)
    for values, colour, label in ((first, BEFORE, "before"), (second, AFTER, "after")):
        counts, _ = np.histogram(values, edges)
        right.stairs(counts, edges, color=colour, fill=True, alpha=0.22)
        right.stairs(counts, edges, color=colour, linewidth=1.5, label=f"{label}, mean {values.mean():.3f}")
    right.set_xlabel("reward")
    right.set_ylabel("scenes")
    right.legend(fontsize=8)
    return svg(canvas, "Rewards of dreams before and after")


@styled
def scatter(points: NDArray[Any], groups: Sequence[str]) -> str:
    """Points (N, 2) coloured by group; groups in order of first mention, larger ones behind."""
    canvas, (axes,) = axes_grid(6.0, 4.4)
    names = list(dict.fromkeys(groups))
    labels = np.asarray(groups)
    for colour, name in zip(GROUP_COLOURS, names, strict=False):
        chosen = points[labels == name]
        axes.scatter(
            chosen[:, 0], chosen[:, 1], s=14, color=colour, alpha=0.75, linewidths=0,
            label=f"{name} ({len(chosen)})",
        )  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=1.6)
    return svg(canvas, "t-SNE of frames in the feature space of the model")
