"""The leaderboard's sparse plan as the target points and commands that drivers are shown.

Only the plan that the leaderboard hands to agents is used, down-sampled by it to 50 m (Bench2Drive) or 200 m
(the stock leaderboard); the dense route is privileged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from takevla.driver.closed_loop import TARGET_NEAREST_M
from takevla.scene.route import RouteOption
from takevla.world.carla.frames import vector_world

TARGET_FARTHEST_M = 50.0  # drivers never saw a target farther along the route


def plan_positions(plan: Sequence[tuple[Any, Any]]) -> NDArray[np.float64]:
    """(K, 2) REP-103 of a plan of (`carla.Transform`, RoadOption) or (`carla.Location`, RoadOption)."""
    return np.array([vector_world(getattr(place, "location", place))[:2] for place, _ in plan])


def plan_options(plan: Sequence[tuple[Any, Any]]) -> tuple[int, ...]:
    """RouteOption of each plan point; CARLA's VOID and unknown numbers mean: follow the lane."""
    numbers = [int(getattr(option, "value", option)) for _, option in plan]
    known = {int(option) for option in RouteOption}
    return tuple(number if number in known else int(RouteOption.LANE_FOLLOW) for number in numbers)


class Navigator:
    """Knows which plan points are reached.

    A point is reached within `TARGET_NEAREST_M`, or once the ego has passed it: when it is farther from it
    than from the next stretch's course, beyond the point.
    """

    def __init__(self, plan: Sequence[tuple[Any, Any]]) -> None:
        """`plan` is the agent's `_global_plan_world_coord`.

        Raises:
            ValueError: it has fewer than two points.
        """
        if len(plan) < 2:
            raise ValueError(f"a plan of {len(plan)} points; the leaderboard gives at least two")
        self._points = plan_positions(plan)
        self._options = plan_options(plan)
        self._next = 0

    def targets(
        self, position_world: NDArray[np.floating], heading_rad: float
    ) -> tuple[NDArray[np.float32], int, int]:
        """(2, 2) next two targets in the ego frame (x forward, y left), and the options that lead to them."""
        position = np.asarray(position_world, np.float64)[:2]
        last = len(self._points) - 1
        while self._next < last and self._reached(position):
            self._next += 1
        after = min(self._next + 1, last)
        c, s = math.cos(heading_rad), math.sin(heading_rad)
        targets = np.zeros((2, 2), np.float32)
        for row, index in enumerate((self._next, after)):
            dx, dy = self._points[index] - position
            shrink = min(1.0, TARGET_FARTHEST_M * (row + 1) / max(math.hypot(dx, dy), 1e-6))
            targets[row] = shrink * (c * dx + s * dy), shrink * (c * dy - s * dx)
        # The option of a stretch stands at the point where the stretch begins.
        return targets, self._options[max(self._next - 1, 0)], self._options[max(after - 1, 0)]

    def _reached(self, position: NDArray[np.float64]) -> bool:
        here, there = self._points[self._next], self._points[self._next + 1]
        if float(np.linalg.norm(position - here)) < TARGET_NEAREST_M:
            return True
        ahead = there - here
        beyond = float((position - here) @ ahead)
        length2 = float(ahead @ ahead)
        return (
            0.0 < beyond < length2
            and float(np.linalg.norm(position - here - ahead * (beyond / length2))) < TARGET_NEAREST_M
        )
