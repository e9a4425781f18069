"""Short routes in a built-in town, and a policy that drives them badly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from takevla.dataset.collect import CollectConfig
from takevla.scene.plan import Observation, Plan
from takevla.scene.road_map import LaneKind
from takevla.world.camera import Rig
from takevla.world.maps.atlas import load_town
from takevla.world.maps.route_xml import RouteTask

TOWN = "Alder01"
LENGTH_M = 45.0
CONFIG = CollectConfig(Rig(width=96, height=32), density=2.0, longest_s=20.0, part_size=2)


def short_tasks(count: int) -> list[RouteTask]:
    """Straight stretches of different lanes."""
    lanes = [
        lane
        for lane in load_town(TOWN).lanes
        if lane.kind == LaneKind.DRIVING and lane.junction < 0 and lane.length_m > LENGTH_M + 20.0
    ]
    tasks = []
    for number in range(count):
        points = lanes[number * len(lanes) // count].points_world
        end = 5 + int(LENGTH_M / float(np.linalg.norm(points[1] - points[0])))
        tasks.append(RouteTask(str(number), TOWN, np.stack([points[5], points[end]])))
    return tasks


def allow(tasks: Sequence[RouteTask]) -> None:
    """Refuse nothing."""


class Drifter:
    """Drives on at a constant speed and ever more to the left; refuses to look at the truth."""

    name = "drifter"
    needs_image = True
    rig = Rig()
    needs_privilege = False
    period_us = 250_000

    def reset(self, seats: Sequence[int]) -> None:
        pass

    def plan(self, observations: Sequence[Observation]) -> list[Plan]:
        return [self._plan(observation) for observation in observations]

    def _plan(self, observation: Observation) -> Plan:
        assert observation.privileged is None
        assert observation.image is not None
        angle = np.float32(0.08)
        direction = np.array([np.cos(angle), np.sin(angle)], np.float32)
        route = direction * np.arange(1, 21, dtype=np.float32)[:, None]
        waypoints = direction * (1.5 * np.arange(1, 11, dtype=np.float32))[:, None]
        return Plan(route, waypoints, "hold 6m/s on the free road")
