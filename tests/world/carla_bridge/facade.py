"""The part of CARLA's client that the bridge calls, backed by the embedded world.

`Transform`, `Location`, `VehicleControl`, `Map`, `Waypoint`, `TrafficLightState` and the like are the real
client's; what the client will not build without a server (`World`, `Actor`, `Image`, ...) stands here
with the same methods.  The embedded world moves the ego, the traffic and the lights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import carla
import numpy as np

from takevla.scene.actors import ActorKind, Cue, Role
from takevla.scene.lane_query import lane_pose
from takevla.scene.road_map import Control, LightState, RoadMap
from takevla.scene.scene import Controls
from takevla.world.camera import Camera
from takevla.world.camera.rig import OVERSAMPLING
from takevla.world.criteria import KIND_FACTOR, WALL, Event
from takevla.world.embedded import EmbeddedWorld
from takevla.world.maps.route_xml import RouteTask, trace_task

FIRST_ID = 100_000  # of the actors that the facade makes itself: ego, sensors, lights
TYPES = {
    ActorKind.CAR: ("vehicle.tesla.model3", "car", ""),
    ActorKind.VAN: ("vehicle.mercedes.sprinter", "van", ""),
    ActorKind.TRUCK: ("vehicle.carlamotors.carlacola", "truck", ""),
    ActorKind.POLICE: ("vehicle.dodge.charger_police", "car", "emergency"),
    ActorKind.AMBULANCE: ("vehicle.ford.ambulance", "van", "emergency"),
    ActorKind.BICYCLE: ("vehicle.bh.crossbike", "bicycle", ""),
    ActorKind.PEDESTRIAN: ("walker.pedestrian.0001", "", ""),
    ActorKind.CONE: ("static.prop.constructioncone", "", ""),
    ActorKind.BARRIER: ("static.prop.streetbarrier", "", ""),
    ActorKind.WARNING_SIGN: ("static.prop.trafficwarning", "", ""),
    ActorKind.BOX: ("static.prop.vendingmachine", "", ""),
}
LAMPS = (
    (Cue.BRAKE, carla.VehicleLightState.Brake),
    (Cue.INDICATOR_LEFT, carla.VehicleLightState.LeftBlinker),
    (Cue.INDICATOR_RIGHT, carla.VehicleLightState.RightBlinker),
    (Cue.HAZARD, carla.VehicleLightState.LeftBlinker),
    (Cue.HAZARD, carla.VehicleLightState.RightBlinker),
    (Cue.EMERGENCY, carla.VehicleLightState.Special1),
)
STATES = {
    LightState.GREEN: carla.TrafficLightState.Green,
    LightState.YELLOW: carla.TrafficLightState.Yellow,
    LightState.RED: carla.TrafficLightState.Red,
    LightState.OFF: carla.TrafficLightState.Off,
}
COLLISIONS = (Event.COLLISION_LAYOUT, Event.COLLISION_PEDESTRIAN, Event.COLLISION_VEHICLE)


@lru_cache(maxsize=8)
def lens(width: int, height: int, mount: tuple[float, float, float], yaw: float, fov: float) -> Camera:
    return Camera(width, height, mount, (yaw,), (fov,))


def location(x: float, y: float, z: float) -> Any:
    return carla.Location(x=float(x), y=-float(y), z=float(z))


def rotation(heading: float) -> Any:
    return carla.Rotation(yaw=-math.degrees(float(heading)))


@dataclass
class Body:
    """A `carla.Actor` that the embedded world moves: the values are those of the last tick."""

    id: int
    type_id: str
    attributes: dict[str, str]
    pose: tuple[float, float, float, float]  # x, y, z of the box's foot, heading; REP-103
    speed: float
    acceleration: tuple[float, float]
    yaw_rate: float
    extent: tuple[float, float, float]
    cue: int = 0

    @property
    def bounding_box(self) -> Any:
        length, width, height = (0.5 * float(value) for value in self.extent)
        middle = 0.0 if self.type_id.startswith("walker.") else height
        return carla.BoundingBox(carla.Location(0.0, 0.0, middle), carla.Vector3D(length, width, height))

    def get_transform(self) -> Any:
        x, y, z, heading = self.pose
        lift = 0.5 * self.extent[2] if self.type_id.startswith("walker.") else 0.0
        return carla.Transform(location(x, y, z + lift), rotation(heading))

    def _vector(self, ahead: float, left: float) -> Any:
        c, s = math.cos(self.pose[3]), math.sin(self.pose[3])
        return carla.Vector3D(c * ahead - s * left, -(s * ahead + c * left), 0.0)

    def get_velocity(self) -> Any:
        return self._vector(self.speed, 0.0)

    def get_acceleration(self) -> Any:
        return self._vector(*self.acceleration)

    def get_angular_velocity(self) -> Any:
        return carla.Vector3D(0.0, 0.0, -math.degrees(self.yaw_rate))

    def get_light_state(self) -> Any:
        bits = 0
        for cue, lamp in LAMPS:
            bits |= int(lamp) if self.cue & cue else 0
        return carla.VehicleLightState(bits)


@dataclass
class Hero:
    """The ego: what is applied to it waits for the next tick."""

    world: World
    id: int
    attributes: dict[str, str]
    type_id: str = "vehicle.lincoln.mkz_2020"
    applied: Any = field(default_factory=carla.VehicleControl)

    def _body(self) -> Body:
        ego = self.world.embedded.ego()
        acceleration = ego.acceleration_mps2, ego.lateral_acceleration_mps2
        pose = (*(float(value) for value in ego.position_world), ego.heading_rad)
        extent = tuple(float(value) for value in ego.extent_m)
        return Body(self.id, self.type_id, {}, pose, ego.speed_mps, acceleration, ego.yaw_rate_radps, extent)

    def __getattr__(self, name: str) -> Any:
        if name == "bounding_box" or name.startswith("get_"):
            return getattr(self._body(), name)
        raise AttributeError(name)

    def apply_control(self, control: Any) -> None:
        assert isinstance(control, carla.VehicleControl)
        self.applied = control

    def destroy(self) -> bool:
        return self.world.remove(self)


@dataclass
class Sensor:
    """A collision sensor or a camera on the ego."""

    world: World
    id: int
    type_id: str
    attributes: dict[str, str]
    place: Any
    callback: Callable[[Any], None] | None = None

    def listen(self, callback: Callable[[Any], None]) -> None:
        self.callback = callback

    def stop(self) -> None:
        self.callback = None

    def destroy(self) -> bool:
        return self.world.remove(self)

    def picture(self, frame: int) -> Any:
        """A `carla.Image`: BGRA.  Each pixel that the embedded camera draws is repeated."""
        width, height = (int(self.attributes[f"image_size_{axis}"]) // OVERSAMPLING for axis in "xy")
        at = self.place.location
        eye = lens(
            width, height, (round(at.x, 4), -round(at.y, 4), round(at.z, 4)),
            -round(self.place.rotation.yaw, 4), float(self.attributes["fov"]),
        )  # fmt: skip
        scene = self.world.embedded.scene()
        rgb = eye.render(self.world.road_map, scene).repeat(OVERSAMPLING, 0).repeat(OVERSAMPLING, 1)
        bgra = np.dstack([rgb[:, :, ::-1], np.full(rgb.shape[:2], 255, np.uint8)])
        return SimpleNamespace(
            frame=frame, width=rgb.shape[1], height=rgb.shape[0], raw_data=memoryview(bgra.tobytes())
        )


@dataclass
class Light:
    """A `carla.TrafficLight` for one signal of the road map; one that is `lost` has no stop waypoints."""

    world: World
    id: int
    signal: int
    type_id: str = "traffic.traffic_light"
    attributes: dict[str, str] = field(default_factory=dict)
    lost: bool = False

    def get_transform(self) -> Any:
        """Where its post stands: at a line that it rules."""
        road_map = self.world.road_map
        line = next(one for one in road_map.stop_lines if one.signal == self.signal)
        x, y, z, *_ = lane_pose(road_map.arrays, line.lane, float(line.s_m))
        return carla.Transform(location(x, y, z), carla.Rotation())

    def get_stop_waypoints(self) -> list[Any]:
        """Real waypoints, a metre before the lines that the signal rules."""
        road_map, found = self.world.road_map, []
        if self.lost:
            return found
        for line in road_map.stop_lines:
            if line.control == Control.SIGNAL and line.signal == self.signal:
                x, y, z, *_ = lane_pose(road_map.arrays, line.lane, max(0.0, float(line.s_m) - 1.0))
                found.append(self.world.get_map().get_waypoint(location(x, y, z)))
        return found

    def get_state(self) -> Any:
        return STATES[LightState(int(self.world.embedded.scene().lights[self.signal]))]


class Blueprint:
    def __init__(self, name: str) -> None:
        self.id, self.values = name, {}

    def set_attribute(self, name: str, value: str) -> None:
        assert isinstance(value, str)
        self.values[name] = value


class World:
    """A `carla.World`; spawning the ego at the start of one of the tasks begins that task."""

    def __init__(
        self, road_map: RoadMap, xodr: str, tasks: Sequence[RouteTask], seed: int = 0, density: float = 8.0
    ) -> None:
        self.road_map, self._tasks, self._seed, self._density = road_map, tasks, seed, density
        self._map = carla.Map(road_map.name, xodr)
        self._settings = SimpleNamespace(synchronous_mode=False, fixed_delta_seconds=None)
        self._next_id, self._frame = FIRST_ID, 0
        self.made: list[Any] = []
        self.embedded: Any = None
        self.weather: Any = None
        self.lights = [Light(self, self._new_id(), k) for k in range(len(road_map.signals))]

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def get_map(self) -> Any:
        return self._map

    def get_settings(self) -> Any:
        return SimpleNamespace(**vars(self._settings))

    def apply_settings(self, settings: Any) -> int:
        self._settings = settings
        return self._frame

    def set_weather(self, weather: Any) -> None:
        assert isinstance(weather, carla.WeatherParameters)
        self.weather = weather

    def get_blueprint_library(self) -> Any:
        return SimpleNamespace(find=Blueprint)

    def spawn_actor(self, blueprint: Blueprint, place: Any, attach_to: Any = None) -> Any:
        assert isinstance(place, carla.Transform)
        if attach_to is not None:
            made: Any = Sensor(self, self._new_id(), blueprint.id, dict(blueprint.values), place)
        else:
            self._begin(place)
            made = Hero(self, self._new_id(), dict(blueprint.values))
        self.made.append(made)
        return made

    def try_spawn_actor(self, blueprint: Blueprint, place: Any) -> Any:
        """None where something stands, as the real one."""
        if any(isinstance(actor, Hero) for actor in self.made):
            return None
        return self.spawn_actor(blueprint, place)

    def _begin(self, place: Any) -> None:
        for task in self._tasks:
            route = trace_task(self.road_map, task)
            x, y, _ = route.points_world[0]
            if math.hypot(place.location.x - x, -place.location.y - y) < 0.1:
                self.embedded = EmbeddedWorld(self.road_map, task, self._seed, self._density)
                return
        raise RuntimeError("no task of the facade begins here")

    def remove(self, actor: Any) -> bool:
        self.made.remove(actor)
        return True

    def get_actors(self) -> list[Any]:
        if self.embedded is None:
            return [*self.lights, *self.made]
        actors, bodies = self.embedded.scene().actors, []
        for row in range(len(actors)):
            name, base, special = TYPES[ActorKind(int(actors.kind[row]))]
            role = "background" if actors.role[row] == Role.BACKGROUND else "scenario"
            pose = (*(float(value) for value in actors.position_world[row]), float(actors.heading_rad[row]))
            bodies.append(
                Body(
                    int(actors.id[row]), name,
                    {"base_type": base, "special_type": special, "role_name": role}, pose,
                    float(actors.speed_mps[row]), (float(actors.acceleration_mps2[row]), 0.0),
                    float(actors.yaw_rate_radps[row]), tuple(float(v) for v in actors.extent_m[row]),
                    int(actors.cue[row]),
                )
            )  # fmt: skip
        return [*bodies, *self.lights, *self.made]

    def tick(self) -> int:
        assert self._settings.synchronous_mode
        assert self._settings.fixed_delta_seconds == 0.05
        hero = next(actor for actor in self.made if isinstance(actor, Hero))
        control, before = hero.applied, len(self.embedded.record().events)
        self.embedded.tick(Controls(-control.steer, control.throttle, control.brake))
        self._frame += 1
        for _tick, event, _ in self.embedded.record().events[before:]:
            if event in COLLISIONS:
                self._tell_of_collision()
        for actor in self.made:
            if isinstance(actor, Sensor) and actor.callback and actor.type_id == "sensor.camera.rgb":
                actor.callback(actor.picture(self._frame))
        return self._frame

    def _tell_of_collision(self) -> None:
        state = self.embedded._state
        kind, identity = divmod(int(state.events[state.clock[2] - 1][5]), KIND_FACTOR)
        other = SimpleNamespace(id=0, type_id="static.building")
        if kind != WALL:
            other = SimpleNamespace(id=identity, type_id=TYPES[ActorKind(kind)][0])
        for actor in self.made:
            if actor.type_id == "sensor.other.collision" and actor.callback:
                actor.callback(SimpleNamespace(other_actor=other, frame=self._frame))


class Client:
    """A `carla.Client` of a server that has `world` loaded and can load `others`."""

    def __init__(self, world: World, *others: World) -> None:
        self._world, self._towns = world, {one.get_map().name: one for one in (world, *others)}

    def get_world(self) -> World:
        return self._world

    def load_world(self, town: str) -> World:
        """As the real one: nothing that another client has put into the old world is left."""
        if town not in self._towns:
            raise RuntimeError(f"map not found: {town}")
        self._world.made.clear()
        self._world = self._towns[town]
        return self._world
