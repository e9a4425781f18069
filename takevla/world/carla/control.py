"""Traffic lights and stop signs of a CARLA world, matched to the stop lines of our road map.

The road map takes its stop lines from the town's OpenDRIVE; the server's lights are actors with stop
waypoints.  A light belongs to the signal of the stop line that is nearest to one of them and points
the same way.  Needs no `carla`: any like objects do.

What matches nothing is kept with its places: a signal without a light is OFF, which the expert passes as if
it were green, and a light or sign without a stop line is not judged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from takevla.scene.lane_query import lane_pose
from takevla.scene.road_map import Control, LightState, RoadMap
from takevla.world.carla import frames

LINE_REACH_M = 12.0  # CARLA puts stop waypoints some metres before the junction, our line at its edge
LINE_ANGLE_RAD = math.radians(45.0)
SIGN_REACH_M = 20.0  # from a sign's post to its stop line
NEAR_ROUTE_M = 30.0  # what is unmatched so near to a route may rule it

_STATE_OF_NAME = {"Red": LightState.RED, "Yellow": LightState.YELLOW, "Green": LightState.GREEN}


class LiveControl:
    """The lights of the server by signal of our road map."""

    def __init__(self, everything: Iterable[Any], road_map: RoadMap) -> None:
        """`everything` is `carla.World.get_actors()`."""
        lines = [
            (line, np.array(lane_pose(road_map.arrays, line.lane, float(line.s_m))[:4]))
            for line in road_map.stop_lines
        ]
        self._lights: list[Any | None] = [None] * len(road_map.signals)
        gaps = [math.inf] * len(road_map.signals)
        self.unmatched_signs: list[int] = []  # ids of the server's stop signs without a stop line of ours
        self.unmatched_lights: list[int] = []  # the same of traffic lights
        self._unmatched: list[tuple[str, list[NDArray[np.float64]]]] = []  # what, and the places it stands at
        signs = [pose for line, pose in lines if line.control == Control.STOP_SIGN]
        for actor in sorted(everything, key=lambda one: one.id):
            if actor.type_id == "traffic.stop":
                place = frames.vector_world(actor.get_transform().location)
                if not any(np.hypot(*(pose[:2] - place[:2])) <= SIGN_REACH_M for pose in signs):
                    self.unmatched_signs.append(actor.id)
                    self._unmatched.append((f"stop sign {actor.id}", [place[:2]]))
            if actor.type_id != "traffic.traffic_light":
                continue
            found, places = False, []
            for waypoint in actor.get_stop_waypoints():
                place = frames.vector_world(waypoint.transform.location)
                heading = frames.heading_rad(waypoint.transform.rotation.yaw)
                places.append(place[:2])
                for line, pose in lines:
                    gap = float(np.hypot(*(pose[:2] - place[:2])))
                    turned = abs(math.remainder(float(pose[3]) - heading, math.tau))
                    if line.control != Control.SIGNAL or gap > LINE_REACH_M or turned > LINE_ANGLE_RAD:
                        continue
                    found = True
                    if gap < gaps[line.signal]:
                        gaps[line.signal], self._lights[line.signal] = gap, actor
            if not found:
                self.unmatched_lights.append(actor.id)
                post = frames.vector_world(actor.get_transform().location)[:2]
                self._unmatched.append((f"traffic light {actor.id}", places or [post]))
        ruled = {line.signal for line in road_map.stop_lines if line.control == Control.SIGNAL}
        self.unlit_signals = [
            k for k in sorted(ruled) if self._lights[k] is None
        ]  # of our map, without a light
        for signal in self.unlit_signals:
            places = [
                pose[:2] for line, pose in lines if (line.control, line.signal) == (Control.SIGNAL, signal)
            ]
            self._unmatched.append((f"signal {signal}", places))

    def unmatched_near(self, points_world: NDArray[np.floating]) -> list[str]:
        """What is unmatched within `NEAR_ROUTE_M` of a route's points, (N, 2 or more)."""
        points = np.asarray(points_world, np.float64)[:, :2]
        return [
            what
            for what, places in self._unmatched
            if any(np.hypot(*(points - place).T).min() <= NEAR_ROUTE_M for place in places)
        ]

    def note(self, points_world: NDArray[np.floating]) -> str:
        """What is unmatched, in one line, and what of it is near a route; "" where all is matched."""
        if not self._unmatched:
            return ""
        near = self.unmatched_near(points_world)
        return (
            f"without a stop line: {len(self.unmatched_lights)} traffic lights, {len(self.unmatched_signs)} "
            f"stop signs; signals without a light: {len(self.unlit_signals)}; "
            f"near the route: {', '.join(near) or 'none'}"
        )

    def states(self) -> NDArray[np.int8]:
        """(S,) LightState of each signal now; OFF where the server has no light."""
        return np.array(
            [
                LightState.OFF
                if light is None
                else _STATE_OF_NAME.get(str(light.get_state()), LightState.OFF)
                for light in self._lights
            ],
            np.int8,
        )
