"""What there is to be seen from the ego: road users and lamps in front that no nearer actor hides.

Privileged, and so a label for training only: a model that learns where things are in its picture needs
far fewer examples to learn what to do about them.  Buildings hide nothing here.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from takevla.scene.actors import Actors
from takevla.scene.geometry import to_ego
from takevla.scene.road_map import LightState, RoadMap
from takevla.scene.scene import Scene

FIELDS: Final = 6  # kind, x, y, z, heading, speed
UNSEEN_KIND: Final = -1  # stands alone in a frame of which nobody knows what was to be seen
LAMP_KIND: Final = 40  # plus the LightState, for a lamp that shines towards the ego
REACH_M: Final = 60.0  # what is farther away is a few pixels
HALF_ANGLE_RAD: Final = math.radians(65.0)  # of the sector in front that counts
MOST_ACTORS, MOST_LAMPS = 16, 6  # the nearest ones
FACING_COS: Final = 0.5  # a lamp is read up to 60 degrees off its axis

Float = NDArray[np.float32]


def in_view(scene: Scene, road_map: RoadMap, eye_m: tuple[float, float, float]) -> Float:
    """(N, FIELDS) float32 of what an eye at `eye_m` sees, nearest actors first, then nearest lamps.

    Kind is an `ActorKind`, or `LAMP_KIND` plus a `LightState`; x, y, z (m) of the middle, heading (rad)
    and speed (m/s) are in the ego frame.  A lamp's heading is the way it shines, its speed 0.
    """
    return np.concatenate([_actors(scene, eye_m), _lamps(scene, road_map, eye_m)])


def _actors(scene: Scene, eye_m: tuple[float, float, float]) -> Float:
    actors, ego = scene.actors, scene.ego
    rows = np.flatnonzero(actors.valid)
    place = to_ego(actors.position_world[rows, :2], ego.position_world, ego.heading_rad)
    away, azimuth = _polar(place, eye_m)
    near = (away < REACH_M) & (np.abs(azimuth) < HALF_ANGLE_RAD)
    order = np.flatnonzero(near)[np.argsort(away[near], kind="stable")]
    order = order[_unhidden(actors, rows[order], away[order], azimuth[order], ego.heading_rad, eye_m[2])]
    order = order[:MOST_ACTORS]
    chosen = rows[order]
    height = actors.position_world[chosen, 2] + 0.5 * actors.extent_m[chosen, 2] - ego.position_world[2]
    heading = _wrapped(actors.heading_rad[chosen] - ego.heading_rad)
    columns = [actors.kind[chosen], *place[order].T, height, heading, actors.speed_mps[chosen]]
    return np.stack(columns, axis=1).astype(np.float32)


def _unhidden(
    actors: Actors, rows: NDArray[np.int64], away: Float, azimuth: Float, heading_rad: float, eye_z: float
) -> NDArray[np.bool_]:
    """Which of the actors `rows`, nearest first, show above every nearer one in the same direction."""
    seen = np.ones(len(rows), np.bool_)
    turn = actors.heading_rad[rows] - heading_rad - azimuth
    length, width, height = actors.extent_m[rows].T
    half = np.arctan2(
        0.5 * (np.abs(width * np.cos(turn)) + np.abs(length * np.sin(turn))), np.maximum(away, 0.1)
    )
    for far in range(1, len(rows)):
        over = eye_z + (height[:far] - eye_z) * away[far] / np.maximum(away[:far], 0.1)
        seen[far] = not np.any((np.abs(azimuth[:far] - azimuth[far]) < half[:far]) & (over >= height[far]))
    return seen


def _lamps(scene: Scene, road_map: RoadMap, eye_m: tuple[float, float, float]) -> Float:
    ego = scene.ego
    if not road_map.signals:
        return np.zeros((0, FIELDS), np.float32)
    heads = np.concatenate([signal.heads for signal in road_map.signals])
    state = np.concatenate([np.full(len(s.heads), scene.lights[s.index]) for s in road_map.signals])
    place = to_ego(heads[:, :2], ego.position_world, ego.heading_rad)
    away, azimuth = _polar(place, eye_m)
    shines = _wrapped(heads[:, 3] - ego.heading_rad)
    towards = -np.cos(shines - azimuth) > FACING_COS
    near = towards & (state != LightState.OFF) & (away < REACH_M) & (np.abs(azimuth) < HALF_ANGLE_RAD)
    chosen = np.flatnonzero(near)[np.argsort(away[near], kind="stable")][:MOST_LAMPS]
    columns = [
        LAMP_KIND + state[chosen],
        *place[chosen].T,
        heads[chosen, 2] - ego.position_world[2],
        shines[chosen],
        np.zeros(len(chosen)),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _polar(place_ego: NDArray[np.floating], eye_m: tuple[float, float, float]) -> tuple[Float, Float]:
    """Distance and azimuth of ego-frame points (N, 2) from the eye."""
    relative = place_ego - np.array(eye_m[:2])
    away = np.hypot(relative[:, 0], relative[:, 1])
    return away.astype(np.float32), np.arctan2(relative[:, 1], relative[:, 0]).astype(np.float32)


def _wrapped(angle: NDArray[np.floating]) -> NDArray[np.floating]:
    return (angle + np.pi) % (2.0 * np.pi) - np.pi
