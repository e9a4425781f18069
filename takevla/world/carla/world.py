"""A route driven on a live CARLA server: implements `World`, so that the one closed loop drives it too."""

from __future__ import annotations

import logging
import queue
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from takevla.scene.road_map import RoadMap
from takevla.scene.route import Route
from takevla.scene.scene import TICK_US, Controls, Ego, Scene, Weather
from takevla.world.camera.rig import Rig
from takevla.world.carla import frames
from takevla.world.carla.actors import read_actors
from takevla.world.carla.camera import LiveCamera, take_away
from takevla.world.carla.client import carla
from takevla.world.carla.control import LiveControl
from takevla.world.carla.referee import Referee
from takevla.world.carla.town import live_town
from takevla.world.embedded import TICK_LIMIT
from takevla.world.maps.route_xml import RouteTask, trace_task
from takevla.world.record import RouteRecord, make_record
from takevla.world.world import UnfitRouteError

LOG = logging.getLogger(__name__)
EGO_BLUEPRINT = "vehicle.lincoln.mkz_2020"  # the leaderboard's (benchmark facts 1.4)
EGO_ROLE = "hero"
SPAWN_ABOVE_M = 0.5  # it falls onto the road in the warm-up
WARM_UP_TICKS = 10  # after the sensors are there
NOT_STARTED = "scenarios are not started on a live server"
NOT_TOUCHED = ("static.sidewalk", "static.road", "static.roadline", "static.ground", "static.terrain")

_WEATHER_NAMES = {
    "cloudiness": "cloudiness",
    "precipitation": "precipitation",
    "precipitation_deposits": "precipitation_deposits",
    "wetness": "wetness",
    "fog_density": "fog_density",
    "sun_altitude_deg": "sun_altitude_angle",
    "sun_azimuth_deg": "sun_azimuth_angle",
}


class CarlaWorld:
    """One route on a `carla.World` in synchronous mode.  Owns the ego and its sensors; `close` it.

    The traffic is the server's: whatever other clients have put there.  Scenarios of the task are not
    started.  Weather is that of the task's first keyframe.
    """

    def __init__(
        self,
        world: Any,
        task: RouteTask,
        maps_dir: Path,
        rig: Rig | None = None,
        seed: int = 0,
        tick_limit: int = TICK_LIMIT,
        warm_up_ticks: int = WARM_UP_TICKS,
    ) -> None:
        """Spawn the ego at the start of the route and let it settle.

        Args:
            world: the `carla.World`, in synchronous mode with a step of `TICK_US`.
            task: keypoints on the town that is loaded; its scenarios are noted as not started.
            maps_dir: where the town's OpenDRIVE is kept, for dreams.
            rig: the camera; None for drivers without one.
            seed: noted in the record; the server's traffic has its own.
            tick_limit: as of the embedded world.
            warm_up_ticks: at least 1, before the route begins.

        Raises:
            UnfitRouteError: the town is another one, the route does not lie on it, or its start is taken.
            RuntimeError: the server does not answer.
        """
        self._world, self._task, self._seed = world, task, seed
        self._road_map = live_town(world.get_map(), maps_dir)
        if task.town != self._road_map.name:
            raise UnfitRouteError(
                f"route {task.id} is of {task.town}; the server has {self._road_map.name} loaded"
            )
        try:
            self._route = trace_task(self._road_map, task)
        except ValueError as error:
            raise UnfitRouteError(f"route {task.id}: {error}") from error
        self._controls = Controls(brake=1.0)
        self._touched: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._owned = ExitStack()
        self._camera: LiveCamera | None = None
        _set_weather(world, task.weathers[0][1] if task.weathers else Weather())
        try:
            self._vehicle = self._spawn()
            if rig is not None:
                self._camera = LiveCamera(world, self._vehicle, rig)
                self._owned.callback(self._camera.close)
            for _ in range(max(warm_up_ticks, 1)):
                self._advance(self._controls)
            self._control = LiveControl(world.get_actors(), self._road_map)
            self._control_note = self._control.note(self._route.points_world)
            self._say_unmatched()
            while not self._touched.empty():
                self._touched.get()
            self._scene = self._read(0)
        except BaseException:
            self.close()
            raise
        self._referee = Referee(self._road_map, self._route, tick_limit, self._scene)

    def _spawn(self) -> Any:
        library, blueprints = carla(), self._world.get_blueprint_library()
        blueprint = blueprints.find(EGO_BLUEPRINT)
        blueprint.set_attribute("role_name", EGO_ROLE)
        x, y, z = frames.vector_carla(self._route.points_world[0])
        place = library.Transform(
            library.Location(x, y, z + SPAWN_ABOVE_M),
            library.Rotation(yaw=frames.yaw_deg(float(self._route.heading_rad[0]))),
        )
        vehicle = self._world.try_spawn_actor(blueprint, place)
        if vehicle is None:
            raise UnfitRouteError(f"route {self._task.id}: something stands at its start ({x:.1f}, {y:.1f})")
        self._owned.callback(take_away, vehicle)
        feeler = self._world.spawn_actor(
            blueprints.find("sensor.other.collision"), library.Transform(), attach_to=vehicle
        )
        self._owned.callback(take_away, feeler)
        feeler.listen(self._touched.put)
        return vehicle

    def _say_unmatched(self) -> None:
        LOG.info("route %s: %s", self._task.id, self._control_note or "every light and stop sign is matched")
        near = self._control.unmatched_near(self._route.points_world)
        if near:
            LOG.warning(
                "route %s: %s near it: matched to nothing, so the expert drives as if it were green and no "
                "stop is judged; leave the route out if it passes there",
                self._task.id,
                ", ".join(near),
            )

    # --- World ----------------------------------------------------------------------------------

    @property
    def road_map(self) -> RoadMap:
        """The town, from the server's own OpenDRIVE."""
        return self._road_map

    @property
    def route(self) -> Route:
        """The dense route that the ego is asked to drive."""
        return self._route

    @property
    def route_index(self) -> int:
        """Index of the last route point that the ego has passed."""
        return self._referee.route_index

    @property
    def time_us(self) -> int:
        """World time since the start of the route."""
        return self._referee.ticks * TICK_US

    @property
    def finished(self) -> bool:
        """True once the route has ended, for whatever reason."""
        return self._referee.finished

    @property
    def camera(self) -> LiveCamera:
        """The sensors of the ego.

        Raises:
            ValueError: there are none.
        """
        if self._camera is None:
            raise ValueError("this CARLA world was opened without a camera rig")
        return self._camera

    @property
    def control(self) -> LiveControl:
        """How the server's lights and signs were matched to the road map."""
        return self._control

    def ego(self) -> Ego:
        """The ego alone, as an immutable record."""
        return self._scene.ego

    def scene(self) -> Scene:
        """Everything near the ego at this instant, as an immutable record."""
        return self._scene

    def tick(self, controls: Controls) -> None:
        """Apply `controls` for one tick.  Does nothing once finished."""
        if self.finished:
            return
        self._advance(controls)
        touched = []
        while not self._touched.empty():
            other = self._touched.get().other_actor
            if not other.type_id.startswith(NOT_TOUCHED):
                touched.append(int(other.id))
        self._scene = self._read(self.time_us + TICK_US)
        self._referee.judge(self._scene, touched)

    def snapshot(self) -> NoReturn:
        """A server cannot be put back: dreams rebuild scenes from the dataset instead."""
        raise RuntimeError("a CARLA world has no snapshots; dream from the dataset that it writes")

    def restore(self, snapshot: Any) -> NoReturn:
        """See `snapshot`."""
        raise RuntimeError("a CARLA world cannot be restored; dream from the dataset that it writes")

    # --- besides ----------------------------------------------------------------------------------

    def record(self) -> RouteRecord:
        """The outcome so far, by the embedded world's criteria."""
        call = self._task.scenarios[0] if self._task.scenarios else None
        return make_record(
            self._referee.state,
            self._route,
            route_id=self._task.id,
            town=self._road_map.name,
            scenario_type=call.type if call else "",
            scenario_name=call.name if call else "",
            scenario_started=False,
            scenario_reason="; ".join(filter(None, (NOT_STARTED if call else "", self._control_note))),
            weather=self._scene.weather,
            seed=self._seed,
            density=0.0,
        )

    def close(self) -> None:
        """Take the ego and its sensors from the server."""
        self._camera = None
        self._owned.close()

    def _advance(self, controls: Controls) -> None:
        self._vehicle.apply_control(carla().VehicleControl(**frames.pedals_carla(controls)))
        frame = self._world.tick()
        self._controls = controls
        if self._camera is not None:
            self._camera.expect(frame)

    def _read(self, time_us: int) -> Scene:
        return Scene(
            time_us=time_us,
            town=self._road_map.name,
            ego=self._read_ego(),
            actors=read_actors(self._world.get_actors(), self._vehicle.id, self._road_map),
            lights=self._control.states(),
            weather=self._task.weathers[0][1] if self._task.weathers else Weather(),
        )

    def _read_ego(self) -> Ego:
        vehicle = self._vehicle
        transform, box = vehicle.get_transform(), vehicle.bounding_box
        heading = frames.heading_rad(transform.rotation.yaw)
        speed, _ = frames.along(frames.vector_world(vehicle.get_velocity()), heading)
        ahead, left = frames.along(frames.vector_world(vehicle.get_acceleration()), heading)
        return Ego(
            position_world=frames.box_foot_world(transform, box).astype(np.float32),
            heading_rad=heading,
            speed_mps=max(speed, 0.0),
            acceleration_mps2=ahead,
            lateral_acceleration_mps2=left,
            yaw_rate_radps=frames.yaw_rate_radps(vehicle.get_angular_velocity()),
            controls=self._controls,
            extent_m=frames.extent_m(box).astype(np.float32),
        )


def _set_weather(world: Any, weather: Weather) -> None:
    values = carla().WeatherParameters()
    for ours, theirs in _WEATHER_NAMES.items():
        setattr(values, theirs, getattr(weather, ours))
    world.set_weather(values)
