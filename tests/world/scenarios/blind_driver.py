"""A driver who keeps to the route at the usual speed and ignores everything else."""

from collections.abc import Sequence

import numpy as np

from takevla.scene.plan import ROUTE_POINTS, SPEED_WAYPOINTS, Observation, Plan

CRUISE_SHARE = 0.72
COMFORT_MPS2 = 2.5  # lateral, in bends


class BlindDriver:
    name = "blind"
    needs_image = False
    needs_privilege = True
    period_us = 250_000

    def reset(self, seats: Sequence[int]) -> None:
        del seats

    def plan(self, observations: Sequence[Observation]) -> list[Plan]:
        return [self._plan(observation) for observation in observations]

    def _plan(self, observation: Observation) -> Plan:
        assert observation.privileged is not None
        route, ego = observation.privileged.route, observation.privileged.scene.ego
        at = observation.privileged.route_index
        s = np.concatenate([route.s_m, route.s_m[-1] + np.arange(1.0, 80.0)])
        tail = route.points_world[-1, :2] + np.outer(
            np.arange(1.0, 80.0), [np.cos(route.heading_rad[-1]), np.sin(route.heading_rad[-1])]
        )
        points = np.concatenate([route.points_world[:, :2], tail]).astype(np.float64)
        delta = points - ego.position_world[:2]
        cos, sin = np.cos(ego.heading_rad), np.sin(ego.heading_rad)
        local = np.stack(
            [cos * delta[:, 0] + sin * delta[:, 1], cos * delta[:, 1] - sin * delta[:, 0]], axis=1
        )
        start = float(route.s_m[at])
        ahead = local[at : at + 6]
        start += max(0.0, float(-ahead[0] @ (ahead[1] - ahead[0]) / np.linalg.norm(ahead[1] - ahead[0])))

        def place(metres: np.ndarray) -> np.ndarray:
            return np.stack([np.interp(start + metres, s, local[:, axis]) for axis in range(2)], axis=1)

        speed = CRUISE_SHARE * float(route.speed_limit_mps[at])
        near = route.heading_rad[at : at + 18]
        bend = np.abs(np.diff(np.unwrap(near)))
        if len(bend) and bend.max() > 0.02:
            speed = min(speed, float(np.sqrt(COMFORT_MPS2 / bend.max())))
        distances = np.minimum(speed, observation.speed_mps + 2.0) * 0.25 * np.arange(1, SPEED_WAYPOINTS + 1)
        return Plan(
            place(np.arange(1.0, ROUTE_POINTS + 1)).astype(np.float32), place(distances).astype(np.float32)
        )
