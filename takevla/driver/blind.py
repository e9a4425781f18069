"""Drivers who ignore what is around them: they show what a route's hazard does to those who do not see it.

They are the floor of the benchmark as the expert is its ceiling, and read nothing but the ego and the route.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from takevla.scene.geometry import to_ego
from takevla.scene.plan import (
    ROUTE_POINTS,
    SPEED_WAYPOINTS,
    WAYPOINT_PERIOD_US,
    Observation,
    Plan,
    Privileged,
)
from takevla.world.camera.rig import Rig

CRUISE_SHARE = 0.72  # of the speed limit, as the expert's (benchmark facts 3)
BEND_MPS2 = 2.5  # lateral acceleration in bends
BEND_AHEAD = 18  # route points (1 m apart) of which the sharpest bend sets the speed
LEAST_BEND_RAD = 0.02  # between two route points; less is straight
SPEED_UP_MPS = 2.0  # waypoints are at most so much faster than the ego now
BEYOND_M = 80.0  # the route goes on straight for so long behind its end


class BlindDriver:
    """Keeps to the route at the usual speed, and ignores lights, signs and everybody else.

    With `turns` False it ignores the route as well and holds the wheel straight: for the types whose only
    demand is to turn, to change lanes, or to counter a disturbance.
    """

    needs_image = False
    rig = Rig()
    needs_privilege = True
    period_us = 250_000

    def __init__(self, turns: bool = True) -> None:
        self.turns = turns

    @property
    def name(self) -> str:
        """How results name it."""
        return "blind" if self.turns else "straight"

    def reset(self, seats: Sequence[int]) -> None:
        """Nothing: it remembers nothing."""
        del seats

    def plan(self, observations: Sequence[Observation]) -> list[Plan]:
        """One plan for each observation."""
        return [self._plan(observation) for observation in observations]

    def _plan(self, observation: Observation) -> Plan:
        truth = observation.privileged
        if truth is None:
            raise ValueError("a blind driver follows the true route; observe with privileged=True")
        near = truth.route.heading_rad[truth.route_index : truth.route_index + BEND_AHEAD]
        speed = CRUISE_SHARE * float(truth.route.speed_limit_mps[truth.route_index])
        bend = np.abs(np.diff(np.unwrap(near)))
        if self.turns and len(bend) and bend.max() > LEAST_BEND_RAD:
            speed = min(speed, float(np.sqrt(BEND_MPS2 / bend.max())))
        speed = min(speed, observation.speed_mps + SPEED_UP_MPS)
        ahead_m = np.arange(1.0, ROUTE_POINTS + 1)
        waypoints_m = speed * WAYPOINT_PERIOD_US * 1e-6 * np.arange(1.0, SPEED_WAYPOINTS + 1)
        path = _route_ego(truth) if self.turns else np.array([[0.0, 0.0], [BEYOND_M, 0.0]])
        return Plan(_along(path, ahead_m), _along(path, waypoints_m))


def _route_ego(truth: Privileged) -> NDArray[np.float64]:
    """The route from the ego on, (N, 2) in its frame, straight for `BEYOND_M` behind its end."""
    points = truth.route.points_world[truth.route_index :, :2].astype(np.float64)
    heading = float(truth.route.heading_rad[-1])
    end = points[-1] + BEYOND_M * np.array([np.cos(heading), np.sin(heading)])
    ego = truth.scene.ego
    path = to_ego(np.concatenate([points, end[None]]), ego.position_world, ego.heading_rad).astype(np.float64)
    first, second = path[0], path[1]
    step = second - first
    passed = max(0.0, float(-first @ step) / max(float(step @ step), 1e-9))
    path[0] = first + min(passed, 1.0) * step
    return path


def _along(path: NDArray[np.float64], metres: NDArray[np.float64]) -> NDArray[np.float32]:
    """Places so many metres along a path, (N, 2)."""
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    s_m = np.concatenate([[0.0], np.cumsum(steps)])
    return np.stack([np.interp(metres, s_m, path[:, axis]) for axis in range(2)], axis=1).astype(np.float32)
