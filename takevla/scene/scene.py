"""Everything in the world at one instant."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from takevla.scene.actors import Actors

TICK_US = 50_000  # 20 Hz, the CARLA leaderboard's fixed step (benchmark facts 1.4)


@dataclass(frozen=True, slots=True)
class Controls:
    """Pedals and wheel.  `steer` in [-1, 1] of the full lock, positive to the LEFT; pedals in [0, 1]."""

    steer: float = 0.0
    throttle: float = 0.0
    brake: float = 0.0


@dataclass(frozen=True, slots=True)
class Ego:
    """The driven vehicle.  Position is the centre of the box's ground face, world frame."""

    position_world: NDArray[np.float32]  # (3,) m
    heading_rad: float
    speed_mps: float  # along the heading, >= 0
    acceleration_mps2: float  # along the heading, over the last tick
    lateral_acceleration_mps2: float  # positive to the left, over the last tick
    yaw_rate_radps: float
    controls: Controls  # applied over the last tick
    extent_m: NDArray[np.float32]  # (3,) full length, width, height


@dataclass(frozen=True, slots=True)
class Weather:
    """CARLA weather parameters that the camera shows; defaults are the leaderboard's (facts 1.8)."""

    cloudiness: float = 50.0  # 0..100
    precipitation: float = 0.0  # 0..100
    precipitation_deposits: float = 0.0  # 0..100
    wetness: float = 0.0  # 0..100
    fog_density: float = 0.0  # 0..100
    sun_altitude_deg: float = 70.0  # below 0 is night
    sun_azimuth_deg: float = 0.0


@dataclass(frozen=True, slots=True)
class Scene:
    """Ego, actors and lights at `time_us`, on the road map named `town`."""

    time_us: int
    town: str
    ego: Ego
    actors: Actors
    lights: NDArray[np.int8]  # (S,) LightState of each signal of the road map
    weather: Weather
