"""From the scenario calls of a route file to scenarios, or to the reason why there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from takevla.scene.road_map import RoadMap
from takevla.scene.route import Route
from takevla.world.maps.route_xml import ScenarioCall
from takevla.world.scenarios import build_scenario
from takevla.world.staging import CannotStart, Scenario, Site
from takevla.world.tracks import check_paths

TRIGGER_NEAR_M = 2.0  # a trigger point further from the route does not start (benchmark facts 1.2)
TRIGGER_TURN_RAD = math.radians(10.0)
SAME_PLACE_M = 0.75  # route points this much further than the nearest are as near (a route may cross itself)


@dataclass(frozen=True)
class Cast:
    """A scenario of the route, or why there is none."""

    call: ScenarioCall
    scenario: Scenario | None
    reason: str  # "" when there is a scenario


def find_site(road_map: RoadMap, route: Route, call: ScenarioCall, seed: int) -> Site:
    """The place of a call on its route.

    Raises:
        CannotStart: when the trigger point lies off the route or is turned against it.
    """
    x, y, _, yaw = call.trigger_world
    away = np.hypot(route.points_world[:, 0] - x, route.points_world[:, 1] - y)
    close = np.flatnonzero(away < away.min() + SAME_PLACE_M)
    turn = np.abs((route.heading_rad[close] - yaw + math.pi) % (2 * math.pi) - math.pi)
    nearest = int(close[turn.argmin()])
    if away[nearest] > TRIGGER_NEAR_M:
        raise CannotStart(f"its trigger point lies {away[nearest]:.1f} m off the route (limit 2 m)")
    if turn.min() > TRIGGER_TURN_RAD:
        raise CannotStart(
            f"its trigger is turned {math.degrees(turn.min()):.0f} deg off the route (limit 10)"
        )
    return Site(
        road_map=road_map,
        route=route,
        type=call.type,
        trigger_world=call.trigger_world,
        trigger_s_m=float(route.s_m[nearest]),
        parameters=call.parameters,
        seed=seed,
    )


def cast(road_map: RoadMap, route: Route, call: ScenarioCall, seed: int) -> Cast:
    """Build the scenario of a call; what cannot start is said in `reason`, not raised."""
    try:
        scenario = build_scenario(find_site(road_map, route, call, seed))
    except CannotStart as error:
        return Cast(call, None, str(error))
    check_paths(road_map, scenario)
    return Cast(call, scenario, "")
