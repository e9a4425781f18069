"""What a driver sees and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from takevla.scene.road_map import RoadMap
from takevla.scene.route import Route
from takevla.scene.scene import Scene

ROUTE_POINTS = 20  # one metre apart (SimLingo, benchmark facts 2.1)
SPEED_WAYPOINTS = 10
WAYPOINT_PERIOD_US = 250_000


class Action(IntEnum):
    """The longitudinal word of a commentary."""

    REMAIN_STOPPED = 0
    STOP = 1
    DECELERATE = 2
    MAINTAIN = 3
    ACCELERATE = 4


class Manoeuvre(IntEnum):
    """The lateral word of a commentary."""

    FOLLOW_ROUTE = 0
    GO_AROUND_LEFT = 1
    GO_AROUND_RIGHT = 2
    WAIT_FOR_GAP = 3
    RETURN_TO_LANE = 4
    GIVE_WAY = 5
    CHANGE_LANE = 6


class Cause(IntEnum):
    """Which rule or object bounds the expert's speed."""

    FREE_ROAD = 0
    LEADER = 1
    CROSSING_VEHICLE = 2  # a forecast collision with a vehicle that is not the leader
    PEDESTRIAN = 3
    BICYCLE = 4
    RED_LIGHT = 5
    YELLOW_LIGHT = 6
    STOP_SIGN = 7
    OBSTACLE = 8  # something that stands in the lane and must be passed
    ONCOMING = 9  # oncoming traffic that keeps it from passing or from turning
    EMERGENCY_VEHICLE = 10
    YIELD = 11  # right of way of others at a junction or merge
    JUNCTION = 12  # slower for the junction or bend ahead
    MERGING_VEHICLE = 13  # a vehicle that cuts or merges into the lane


@dataclass(frozen=True, slots=True)
class Reason:
    """Why the expert does what it does; commentary is made of it.

    `actor_id` is -1 where no actor is the cause.  `actor_position_ego` is (x forward, y left) in m.
    """

    action: Action
    manoeuvre: Manoeuvre
    cause: Cause
    target_speed_mps: float
    distance_m: float = float("inf")  # free distance to the cause
    actor_id: int = -1
    actor_kind: int = -1  # ActorKind or -1
    actor_position_ego: tuple[float, float] = (0.0, 0.0)
    actor_speed_mps: float = 0.0
    time_to_collision_s: float = float("inf")


@dataclass(frozen=True, slots=True)
class Plan:
    """A driver's answer in the ego frame at the time of observation (x forward, y left).

    `route_ego[i]` lies i + 1 metres ahead along the intended path; `waypoints_ego[k]` is where the
    ego's centre will be (k + 1) * 0.25 s from now.
    """

    route_ego: NDArray[np.float32]  # (20, 2) m
    waypoints_ego: NDArray[np.float32]  # (10, 2) m
    commentary: str = ""
    reason: Reason | None = None  # the expert's only


@dataclass(frozen=True, slots=True)
class Observation:
    """What a driver gets.  The `privileged` part is None for drivers that must not see it."""

    seat: int  # stable index of the world in its batch; drivers key their memory by it
    time_us: int
    speed_mps: float
    target_points_ego: NDArray[np.float32]  # (2, 2) the next two target points of the route
    option: int  # RouteOption that applies now
    next_option: int  # the RouteOption that follows
    image: NDArray[np.uint8] | None  # (H, W, 3) RGB or None for drivers without a camera
    privileged: Privileged | None = None
    past_image: NDArray[np.uint8] | None = None  # what `image` was `PAST_US` ago (`takevla.scene.past`)


@dataclass(frozen=True, slots=True)
class Privileged:
    """The truth, for experts, monitors and labels."""

    scene: Scene
    road_map: RoadMap
    route: Route
    route_index: int  # the last route point that the ego has passed
