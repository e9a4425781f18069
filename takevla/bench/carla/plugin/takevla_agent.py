"""Our drivers as an agent of the CARLA leaderboard 2.0, 2.1 and of Bench2Drive (benchmark facts 1.9).

Give this file to `--agent` and a checkpoint folder (or "shipped") to `--agent-config`.  The leaderboard puts
the file's folder first on the import path and imports the file by its bare name; that is why it lies alone.

With the leaderboard on the path the agent is a subclass of its `AutonomousAgent`; without, of a stand-in, so
that it can be imported and tested anywhere.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from takevla.bench.carla.agent_config import agent_config
from takevla.bench.carla.localisation import Localiser, solve_reference
from takevla.bench.carla.motion_log import MotionLog, sensed_motion
from takevla.bench.carla.navigation import Navigator, plan_positions
from takevla.bench.carla.sensors import GNSS, IMU, SPEED, picture, reading, sensor_list
from takevla.bench.drivers import load_driver
from takevla.driver.controller import Controller
from takevla.driver.driver import Driver
from takevla.scene.past import Past
from takevla.scene.plan import Observation
from takevla.scene.scene import TICK_US, Controls, Ego
from takevla.world.carla.answer import vehicle_control
from takevla.world.carla.frames import Pedals

SEAT = 0
MKZ_EXTENT_M = (4.9016, 2.1284, 1.5108)  # of the leaderboard's ego (benchmark facts 3)
COMPASS = -1  # place in an IMU reading


class StandInAgent:
    """What this file uses of the leaderboard's base class, where that is not installed."""

    def __init__(self, carla_host: str = "", carla_port: int = 0, debug: bool = False) -> None:
        self.track: Any = None
        self._global_plan: Any = None
        self._global_plan_world_coord: Any = None

    def set_global_plan(self, global_plan_gps: Any, global_plan_world_coord: Any) -> None:
        """Keep a plan that is already down-sampled."""
        self._global_plan = global_plan_gps
        self._global_plan_world_coord = global_plan_world_coord


def _base() -> tuple[Any, Any]:
    """Base class, and the mark of the track of cameras without a map."""
    try:
        module = importlib.import_module("leaderboard.autoagents.autonomous_agent")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "leaderboard":
            raise  # the leaderboard is there, but something that it needs is not
        return StandInAgent, "SENSORS"
    return module.AutonomousAgent, module.Track.SENSORS


_AutonomousAgent, _SENSORS = _base()


@lru_cache(maxsize=1)
def _loaded(name: str, device: str) -> Driver:
    """One driver for all routes of a process."""
    driver = load_driver(name, device=device)
    if driver.needs_privilege:
        raise ValueError(f"driver {name!r} needs the true scene, which the leaderboard does not give")
    return driver


def get_entry_point() -> str:
    """Name of the agent's class: what the leaderboard asks the file for."""
    return "TakeVlaAgent"


class TakeVlaAgent(_AutonomousAgent):  # type: ignore[misc,valid-type]
    """Drives a checkpoint: a plan every `Driver.period_us`, the controller every tick."""

    def setup(self, path_to_conf_file: str) -> None:
        """Take the configuration string of this route; the plan may already be set, or come later."""
        self.track = _SENSORS
        config = agent_config(path_to_conf_file)
        self._driver = _loaded(config.driver, config.device)
        self._driver.reset([SEAT])
        self._controller = Controller()
        self._log = MotionLog(config.folder, config.heartbeat)
        self._navigator: Navigator | None = None
        self._pictures: Past[NDArray[np.uint8]] = Past()
        self._localiser: Localiser | None = None
        self._planned_us: int | None = None
        self._last = Controls()
        self._step = -1
        self._motion: Mapping[str, Any] = {}

    def sensors(self) -> list[dict[str, Any]]:
        """Cameras of the checkpoint's rig, GNSS, IMU, speedometer."""
        return sensor_list(self._driver.rig)

    def run_step(self, input_data: Mapping[str, Any], timestamp: float) -> Pedals:
        """Pedals and wheel of this tick, CARLA's signs.

        Raises:
            ValueError: a sensor is missing or gives something else than was asked for.
        """
        if self._navigator is None or self._localiser is None:
            self._take_plan()
        assert self._navigator is not None
        assert self._localiser is not None
        self._step += 1
        time_us = round(timestamp * 1e6)
        gnss, imu = reading(input_data, GNSS), reading(input_data, IMU)
        speed_mps = max(float(reading(input_data, SPEED)["speed"]), 0.0)
        self._localiser.update(float(gnss[0]), float(gnss[1]), float(imu[COMPASS]), speed_mps)
        ego = self._ego(imu, speed_mps)
        due = self._planned_us is None or (
            time_us - self._planned_us >= self._driver.period_us - TICK_US // 2
        )
        if due:
            self._plan(input_data, time_us, ego)
        self._last = self._controller.control(ego)
        x, y = float(ego.position_world[0]), float(ego.position_world[1])
        self._motion = sensed_motion((x, y), ego.heading_rad, ego.yaw_rate_radps, imu)
        self._log.tick(self._step, self.get_metric_info())
        return vehicle_control(self._last)

    def get_metric_info(self) -> Mapping[str, Any]:
        """Motion of this tick: Bench2Drive's own reading of the actor, else that of the agent's senses."""
        theirs = getattr(super(), "get_metric_info", None)
        return self._motion if theirs is None else theirs()

    def destroy(self) -> None:
        """Write this route's files; the driver stays loaded for the next route."""
        log = getattr(self, "_log", None)  # not there when `setup` failed
        if log is not None:
            log.close()

    def _take_plan(self) -> None:
        if not self._global_plan_world_coord or not self._global_plan:
            raise ValueError("the leaderboard has set no plan; set_global_plan must come before run_step")
        positions = plan_positions(self._global_plan_world_coord)
        self._localiser = Localiser(solve_reference([point for point, _ in self._global_plan], positions))
        self._navigator = Navigator(self._global_plan_world_coord)

    def _ego(self, imu: Any, speed_mps: float) -> Ego:
        here = self._localiser
        assert here is not None
        assert here.position_world is not None
        return Ego(
            position_world=np.array([*here.position_world, 0.0], np.float32),
            heading_rad=here.heading_rad,
            speed_mps=speed_mps,
            acceleration_mps2=float(imu[0]),
            lateral_acceleration_mps2=0.0 - float(imu[1]),
            yaw_rate_radps=here.yaw_rate_radps,
            controls=self._last,
            extent_m=np.array(MKZ_EXTENT_M, np.float32),
        )

    def _plan(self, input_data: Mapping[str, Any], time_us: int, ego: Ego) -> None:
        assert self._navigator is not None
        targets, option, following = self._navigator.targets(ego.position_world, ego.heading_rad)
        image = picture(input_data, self._driver.rig) if self._driver.needs_image else None
        past = None if image is None else self._pictures.keep(time_us, image)
        observation = Observation(
            SEAT, time_us, ego.speed_mps, targets, option, following, image, past_image=past
        )
        plan = self._driver.plan([observation])[0]
        self._controller.follow(plan, ego)
        self._log.said(time_us, ego.speed_mps, plan.commentary)
        self._planned_us = time_us
