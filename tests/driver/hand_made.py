"""Small roads and scenes made by hand, for tests of drivers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from takevla.driver.controller import Controller
from takevla.scene.actors import ActorKind, Actors
from takevla.scene.plan import Observation, Plan, Privileged
from takevla.scene.road_map import Control, Lane, LaneKind, RoadMap, Signal, StopLine
from takevla.scene.route import Route, RouteOption
from takevla.scene.scene import TICK_US, Controls, Ego, Scene, Weather
from takevla.world.dynamics import EGO_EXTENT_M, next_pose, next_speed

WIDTH_M = 3.5
LENGTH_M = 300.0


@dataclass
class Other:
    """One actor of a hand-made scene; it drives on straight at its speed."""

    x: float
    y: float
    kind: ActorKind = ActorKind.CAR
    heading: float = 0.0
    speed: float = 0.0
    cue: int = 0
    extent: tuple[float, float, float] = (4.6, 1.9, 1.5)
    lane: int = -1


def _lane(index: int, y: float, reverse: bool = False, **more: object) -> Lane:
    x = np.arange(0.0, LENGTH_M + 1.0)
    if reverse:
        x = x[::-1]
    points = np.stack([x, np.full(len(x), y), np.zeros(len(x))], 1).astype(np.float32)
    heading = np.full(len(x), math.pi if reverse else 0.0, np.float32)
    width = np.full(len(x), WIDTH_M, np.float32)
    return Lane(index, 0, LaneKind.DRIVING, points, heading, width, 13.9, **more)  # type: ignore[arg-type]


def two_way_road(control: Control | None = None, stop_m: float = 100.0) -> RoadMap:
    """Lane 0 runs east at y = 0, lane 1 west at y = 3.5; a stop line on lane 0 if asked for."""
    lanes = (_lane(0, 0.0, opposite=1), _lane(1, WIDTH_M, reverse=True, opposite=0))
    if control is None:
        return RoadMap("hand", lanes)
    signals = (Signal(0, 0, np.zeros((1, 4), np.float32)),) if control == Control.SIGNAL else ()
    line = StopLine(0, stop_m, control, 0 if signals else -1)
    return RoadMap("hand", lanes, stop_lines=(line,), signals=signals)


def two_lane_road() -> RoadMap:
    """Lanes 0 (y = 0) and 1 (y = 3.5, on its left), both run east."""
    return RoadMap("hand", (_lane(0, 0.0, left=1), _lane(1, WIDTH_M, right=0)))


def route_on_lane_0(road_map: RoadMap) -> Route:
    lane = road_map.lanes[0]
    n = len(lane.points_world)
    return Route(
        lane.points_world,
        lane.heading_rad,
        lane.points_world[:, 0].copy(),
        np.zeros(n, np.int32),
        np.full(n, RouteOption.LANE_FOLLOW, np.int8),
        np.full(n, lane.speed_limit_mps, np.float32),
    )


@dataclass
class HandWorld:
    """A world of few rules: the true ego dynamics, and others that drive on straight."""

    road_map: RoadMap
    others: list[Other] = field(default_factory=list)
    lights: tuple[int, ...] = ()
    x: float = 5.0
    y: float = 0.0
    heading: float = 0.0
    speed: float = 8.0
    time_us: int = 0
    end_m: float = 280.0
    controls: Controls = field(default_factory=Controls)
    touched: bool = False

    def __post_init__(self) -> None:
        self.route = route_on_lane_0(self.road_map)

    @property
    def route_index(self) -> int:
        return int(min(max(self.x, 0.0), LENGTH_M))

    @property
    def finished(self) -> bool:
        return self.x > self.end_m

    def ego(self) -> Ego:
        return Ego(
            np.array([self.x, self.y, 0.0], np.float32), self.heading, self.speed, 0.0, 0.0, 0.0,
            self.controls, np.array(EGO_EXTENT_M, np.float32),
        )  # fmt: skip

    def scene(self) -> Scene:
        others = self.others
        zeros = np.zeros(len(others), np.float32)
        actors = Actors(
            np.arange(1, len(others) + 1, dtype=np.int32),
            np.array([o.kind for o in others], np.int8),
            np.ones(len(others), np.int8),
            np.array([o.cue for o in others], np.int16),
            np.array([(o.x, o.y, 0.0) for o in others], np.float32).reshape(-1, 3),
            np.array([o.heading for o in others], np.float32),
            np.array([o.speed for o in others], np.float32),
            zeros,
            zeros,
            np.array([o.extent for o in others], np.float32).reshape(-1, 3),
            np.array([o.lane for o in others], np.int32),
            np.ones(len(others), np.bool_),
        )
        return Scene(self.time_us, "hand", self.ego(), actors, np.array(self.lights, np.int8), Weather())

    def tick(self, controls: Controls) -> None:
        if self.finished:
            return
        self.controls = controls
        self.x, self.y, self.heading = next_pose(self.x, self.y, self.heading, self.speed, controls.steer)
        self.speed = next_speed(self.speed, controls.throttle, controls.brake)
        for other in self.others:
            other.x += other.speed * math.cos(other.heading) * 0.05
            other.y += other.speed * math.sin(other.heading) * 0.05
            c, s = abs(math.cos(other.heading)), abs(math.sin(other.heading))
            long = (other.extent[0] * c + other.extent[1] * s + EGO_EXTENT_M[0]) / 2
            wide = (other.extent[0] * s + other.extent[1] * c + EGO_EXTENT_M[1]) / 2
            if abs(other.x - self.x) < long and abs(other.y - self.y) < wide:
                self.touched = True
        self.time_us += TICK_US

    def snapshot(self) -> object:
        raise NotImplementedError

    def restore(self, snapshot: object) -> None:
        raise NotImplementedError


def observation(world: HandWorld, seat: int = 0) -> Observation:
    """What a privileged driver sees of a hand-made world."""
    truth = Privileged(world.scene(), world.road_map, world.route, world.route_index)
    targets = np.zeros((2, 2), np.float32)
    return Observation(seat, world.time_us, world.speed, targets, 4, 4, None, truth)


def wanted_speed(plan: Plan) -> float:
    """Speed (m/s) that the last two waypoints of a plan ask for."""
    return float(np.hypot(*(plan.waypoints_ego[-1] - plan.waypoints_ego[-2]))) / 0.25


def plan_of_speed(speed: float) -> Plan:
    """Straight on at a constant speed."""
    route = np.stack([np.arange(1.0, 21.0), np.zeros(20)], 1).astype(np.float32)
    waypoints = np.stack([speed * 0.25 * np.arange(1, 11), np.zeros(10)], 1).astype(np.float32)
    return Plan(route, waypoints)


def run(world: HandWorld, driver: object, seconds: float) -> list[Plan]:
    """Drive a hand-made world; returns the plans."""
    controller = Controller()
    plans: list[Plan] = []
    ticks = driver.period_us // TICK_US  # type: ignore[attr-defined]
    for k in range(round(seconds / 0.05)):
        if world.finished:
            break
        if k % ticks == 0:
            plans += driver.plan([observation(world)])  # type: ignore[attr-defined]
            controller.follow(plans[-1], world.ego())
        world.tick(controller.control(world.ego()))
    return plans


def causes(plans: Sequence[Plan]) -> set[int]:
    """All causes that plans name."""
    return {int(plan.reason.cause) for plan in plans if plan.reason is not None}
