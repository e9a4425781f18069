"""A dream from above: sampled plans coloured by reward before and after, and the terms of the reward."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Polygon

from takevla.learn.dream.scenes import CELL_M, RASTER_AHEAD_M, RASTER_BEHIND_M, RASTER_SIDE_M
from takevla.report.figures import AFTER, BEFORE, INK, axes_grid, styled, svg
from takevla.report.gallery import EXPERT_COLOUR, POLICY_COLOUR
from takevla.scene.geometry import box_corners

COLOURS = "RdYlGn"  # from the reward 0 to 1
MARGIN_M = 8.0  # around the paths
ROAD_SHADE, ACTOR_SHADE = 0.90, "#40547a"


@styled
def fan_figure(fan: Mapping[str, Any]) -> str:
    """Before and after side by side, x forward to the right, and bars of the terms; SVG."""
    canvas, axes = axes_grid(9.6, 3.0, 1, 3)
    for panel, name in zip(axes[:2], ("before", "after"), strict=True):
        _panel(panel, fan, name)
    handles, labels = axes[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower left", fontsize=7.5, ncols=3)
    names = list(fan["before"]["terms"])
    place = np.arange(len(names))
    for shift, colour, name in ((-0.2, BEFORE, "before"), (0.2, AFTER, "after")):
        values = [fan[name]["terms"][term] for term in names]
        axes[2].barh(place + shift, values, height=0.36, color=colour, label=name)
    axes[2].set_yticks(place, [term.replace("_", " ") for term in names], fontsize=7.5)
    axes[2].set_xlim(0, 1.02)
    axes[2].invert_yaxis()
    axes[2].set_title("terms of the plan that drives")
    axes[2].legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)
    return svg(canvas, f"Sampled plans of a {fan['trigger']} dream before and after")


def _panel(panel: Axes, fan: Mapping[str, Any], name: str) -> None:
    rows, columns = fan["road_shape"]
    bits = np.unpackbits(np.frombuffer(base64.b64decode(fan["road"]), np.uint8), count=rows * columns)
    shade = np.where(bits.reshape(rows, columns)[..., None] > 0, ROAD_SHADE, 1.0) * np.ones(3)
    panel.imshow(
        shade,
        origin="lower",
        extent=(-RASTER_BEHIND_M, RASTER_AHEAD_M, -RASTER_SIDE_M, RASTER_SIDE_M),
        interpolation="nearest",
    )
    assert rows * CELL_M == 2 * RASTER_SIDE_M
    for pose, extent in zip(fan["actors"], fan["actor_extents_m"], strict=True):
        panel.add_patch(Polygon(box_corners(*pose[:3], *extent), color=ACTOR_SHADE, linewidth=0))
    for pose, extent in zip(fan["actors_after"], fan["actor_extents_m"], strict=True):
        corners = box_corners(*pose, *extent)
        panel.add_patch(Polygon(corners, fill=False, edgecolor=ACTOR_SHADE, linewidth=0.6))
    panel.add_patch(Polygon(box_corners(0.0, 0.0, 0.0, *fan["ego_extent_m"]), fill=False, edgecolor=INK))
    for x0, y0, x1, y1 in fan["closed_lines"]:
        panel.plot([x0, x1], [y0, y1], color="#d01919", linewidth=1.6)

    colours = matplotlib.colormaps[COLOURS]
    tried = fan[name]
    for path, reward in zip(tried["paths"][1:], tried["reward"][1:], strict=True):
        panel.plot(*np.transpose(path), color=colours(min(max(reward, 0.0), 1.0)), linewidth=1.0, alpha=0.85)
        panel.plot(*path[-1], marker="o", ms=2, color=colours(min(max(reward, 0.0), 1.0)))
    for one, colour, label, dash in (
        (fan["recorded"], POLICY_COLOUR, "recorded plan", "--"),
        (fan["expert"], EXPERT_COLOUR, "expert", "--"),
        (tried["paths"][0], INK, "plan that drives", "-"),
    ):
        # The mark at its end shows a path that stands.
        panel.plot(
            *np.transpose(one), color=colour, linestyle=dash, linewidth=1.4, label=label, marker="D",
            markevery=[-1], ms=3,
        )  # fmt: skip
    points = np.concatenate(
        [np.reshape(path, (-1, 2)) for side in ("before", "after") for path in fan[side]["paths"]]
        + [np.asarray(fan["recorded"]), np.asarray(fan["expert"])]
    )
    low, high = points.min(0) - MARGIN_M, points.max(0) + MARGIN_M
    panel.set_xlim(low[0], high[0])
    panel.set_ylim(low[1], high[1])
    panel.set_aspect("equal")
    panel.grid(visible=False)
    panel.set_title(
        f"{name}: reward {tried['reward'][0]:.2f},\nsampled mean {np.mean(tried['reward'][1:]):.2f}"
    )
    panel.set_xlabel("m ahead of the ego at the start", fontsize=7.5)
    panel.tick_params(labelsize=7)
