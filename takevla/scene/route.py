"""The dense route: what the ego is asked to drive, one point per metre."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

ROUTE_SPACING_M = 1.0  # CARLA leaderboard hop resolution (benchmark facts 1.4)


class RouteOption(IntEnum):
    """High-level command, numbered as CARLA's RoadOption."""

    LEFT = 1
    RIGHT = 2
    STRAIGHT = 3
    LANE_FOLLOW = 4
    CHANGE_LANE_LEFT = 5
    CHANGE_LANE_RIGHT = 6


@dataclass(frozen=True)
class Route:
    """A traced route of N points about `ROUTE_SPACING_M` apart, world frame."""

    points_world: NDArray[np.float32]  # (N, 3) m
    heading_rad: NDArray[np.float32]  # (N,)
    s_m: NDArray[np.float32]  # (N,) arc length from the start
    lane: NDArray[np.int32]  # (N,) lane index under the point
    option: NDArray[np.int8]  # (N,) RouteOption
    speed_limit_mps: NDArray[np.float32]  # (N,)

    def __len__(self) -> int:
        return len(self.s_m)

    @property
    def length_m(self) -> float:
        """Arc length of the whole route."""
        return float(self.s_m[-1])
