"""Where the ego is, from noisy GNSS, compass and speedometer.

Every town of CARLA has its own geographic reference, and not all name it.  The leaderboard gives the plan
both ways, in degrees and in metres, so the reference is solved from the plan itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from takevla.scene.scene import TICK_US
from takevla.world.carla.frames import heading_rad
from takevla.world.dynamics import REAR_WHEELBASE_M

EARTH_RADIUS_M = 6_378_137.0  # equatorial, of the leaderboard's Mercator projection
GNSS_STD_M = math.radians(5e-6) * EARTH_RADIUS_M  # the leaderboard's noise (benchmark facts 1.9)
DRIFT_VAR_M2 = 1e-4  # per tick, of the dead reckoning (SimLingo, benchmark facts 2.8)
LEAST_PLAN_M = 1.0  # a plan must span so much for the reference to be solved


def _mercator(latitude_deg: float, longitude_deg: float) -> tuple[float, float]:
    """East and north on the unscaled Mercator map, m."""
    north = EARTH_RADIUS_M * math.log(math.tan(math.radians(45.0 + 0.5 * latitude_deg)))
    return EARTH_RADIUS_M * math.radians(longitude_deg), north


@dataclass(frozen=True)
class GeoReference:
    """Degrees to metres of the world: x = scale * east - x0, y (left) = scale * north - y0."""

    scale: float
    centre_map: tuple[float, float]  # east, north of the plan's mean, kept apart for precision
    centre_world: tuple[float, float]

    def position_world(self, latitude_deg: float, longitude_deg: float) -> NDArray[np.float64]:
        """(2,) x and y, REP-103."""
        east, north = _mercator(latitude_deg, longitude_deg)
        x = self.centre_world[0] + self.scale * (east - self.centre_map[0])
        y = self.centre_world[1] + self.scale * (north - self.centre_map[1])
        return np.array([x, y])


def solve_reference(
    plan_gps: Sequence[Mapping[str, float]], plan_world: NDArray[np.floating]
) -> GeoReference:
    """The least-squares reference of K >= 2 plan points, `lat` and `lon` in degrees and (K, 2) REP-103 m.

    Raises:
        ValueError: the lists differ in length, or the points are too close to tell.
    """
    if len(plan_gps) != len(plan_world) or len(plan_gps) < 2:
        raise ValueError(f"a plan of {len(plan_gps)} GPS points and {len(plan_world)} world points")
    flat = np.array([_mercator(float(one["lat"]), float(one["lon"])) for one in plan_gps])
    world = np.asarray(plan_world, np.float64)[:, :2]
    centre_map, centre_world = flat.mean(axis=0), world.mean(axis=0)
    away_map, away_world = flat - centre_map, world - centre_world
    if np.abs(away_world).max() < LEAST_PLAN_M or not np.isfinite(away_map).all():
        raise ValueError("the plan's points are too close together to solve the geographic reference")
    scale = float((away_map * away_world).sum() / (away_map**2).sum())
    return GeoReference(
        scale,
        (float(centre_map[0]), float(centre_map[1])),
        (float(centre_world[0]), float(centre_world[1])),
    )


def compass_heading(compass_rad: float) -> float:
    """Heading of CARLA's compass: 0 is north, which is -y of CARLA, growing clockwise."""
    return heading_rad(math.degrees(compass_rad) - 90.0)


@dataclass
class Localiser:
    """A Kalman filter of the position: the speedometer carries it on, GNSS pulls it back.

    The compass has no noise in the leaderboard, but may be NaN; the last turn then goes on.
    """

    reference: GeoReference
    position_world: NDArray[np.float64] | None = None  # (2,) of the ego's centre
    heading_rad: float = 0.0
    yaw_rate_radps: float = 0.0
    _variance_m2: float = GNSS_STD_M**2

    def update(self, latitude_deg: float, longitude_deg: float, compass_rad: float, speed_mps: float) -> None:
        """Take in the readings of one tick."""
        tick_s = TICK_US * 1e-6
        measured = self.reference.position_world(latitude_deg, longitude_deg)
        if self.position_world is None:
            self.position_world = measured
            self.heading_rad = compass_heading(compass_rad) if math.isfinite(compass_rad) else 0.0
            return
        if math.isfinite(compass_rad):
            heading = compass_heading(compass_rad)
            turned = (heading - self.heading_rad + math.pi) % (2.0 * math.pi) - math.pi
            self.yaw_rate_radps = turned / tick_s
        else:
            turned = self.yaw_rate_radps * tick_s
            heading = self.heading_rad + turned
        middle = self.heading_rad + 0.5 * turned
        # The rear axle moves along the heading; the centre, ahead of it, also sweeps sideways.
        aside = self.yaw_rate_radps * REAR_WHEELBASE_M
        c, s = math.cos(middle), math.sin(middle)
        moved = tick_s * np.array([speed_mps * c - aside * s, speed_mps * s + aside * c])
        self.heading_rad = heading
        self._variance_m2 += DRIFT_VAR_M2
        gain = self._variance_m2 / (self._variance_m2 + GNSS_STD_M**2)
        predicted = self.position_world + moved
        if not np.isfinite(measured).all():
            self.position_world = predicted
            return
        self.position_world = predicted + gain * (measured - predicted)
        self._variance_m2 *= 1.0 - gain
