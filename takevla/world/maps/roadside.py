"""What the town builder and the OpenDRIVE reader agree on: signals, signs and their places."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from takevla.scene.road_map import Control
from takevla.world.maps.draft import MapDraft

NEAR_HEAD_HEIGHT_M = 3.4
FAR_HEAD_HEIGHT_M = 4.6
SIGN_HEIGHT_M = 2.2
ROADSIDE_M = 1.2  # posts stand this far beyond the carriageway
STOP_LINE_SETBACK_M = 0.5  # before the end of the lane
YELLOW_S = 3.0  # CARLA's default
ALL_RED_S = 2.0  # CARLA's default
OPPOSING_LEAST_RAD = math.radians(135.0)


def between(first: float, second: float) -> float:
    """The turn from one heading to another, in [-pi, pi)."""
    return (second - first + math.pi) % (2 * math.pi) - math.pi


def opposing_groups(headings: Sequence[float]) -> list[list[int]]:
    """Approaches (by heading) that may be green together: those that come towards each other, in pairs."""
    waiting = list(range(len(headings)))
    groups: list[list[int]] = []
    while waiting:
        first = waiting.pop(0)
        facing = [k for k in waiting if abs(between(headings[first], headings[k])) > OPPOSING_LEAST_RAD]
        if not facing:
            groups.append([first])
            continue
        partner = max(facing, key=lambda k: abs(between(headings[first], headings[k])))
        waiting.remove(partner)
        groups.append([first, partner])
    return groups


def end_stop_line(draft: MapDraft, lane: int, control: Control, signal: int = -1) -> int:
    """A stop line just before the end of a lane; returns its index."""
    points = draft.lanes[lane].points
    length = float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
    return draft.add_stop_line(lane, max(0.0, length - STOP_LINE_SETBACK_M), control, signal)


def light_heads(
    near: NDArray[np.float64], far: NDArray[np.float64], heading: float, ground_m: float = 0.0
) -> NDArray[np.float32]:
    """The lamp boxes (2, 4) at two places (x, y), shining against `heading`."""
    facing = between(0.0, heading + math.pi)
    return np.array(
        [
            [near[0], near[1], ground_m + NEAR_HEAD_HEIGHT_M, facing],
            [far[0], far[1], ground_m + FAR_HEAD_HEIGHT_M, facing],
        ],
        np.float32,
    )
