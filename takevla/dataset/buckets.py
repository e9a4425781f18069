"""Buckets: named subsets of frames, each a predicate over the columns of the table `frames`.

The kinds follow SimLingo's buckets (benchmark facts 2.6); the bounds are this project's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from takevla.scene.plan import WAYPOINT_PERIOD_US, Cause, Manoeuvre
from takevla.scene.route import RouteOption

Frames = Mapping[str, NDArray[Any]]  # columns as `Dataset.column` gives them
Mask = NDArray[np.bool_]

STANDSTILL_MPS: Final = 0.2
START_MPS: Final = 0.8  # a plan that ends faster than this sets off
STRONG_ACCELERATION_MPS2: Final = 1.0
STRONG_BRAKING_MPS2: Final = 1.5
EMERGENCY_BRAKING_MPS2: Final = 4.0
LATERAL_M: Final = 0.5  # mean sideways distance of the waypoints
SHARP_LATERAL_M: Final = 2.0
SUN_ALTITUDE: Final = 5  # index into the weather column
PRECIPITATION: Final = 1
FOG_DENSITY: Final = 4

# What `bucket_names` reads of a table of frames.
COLUMNS: Final = (
    "speed_mps",
    "option",
    "expert_waypoints_ego",
    "expert_manoeuvre",
    "expert_cause",
    "weather",
)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A predicate over frames and what it stands for."""

    name: str
    meaning: str
    holds: Callable[[Frames], Mask]


def _cause(cause: Cause) -> Callable[[Frames], Mask]:
    return lambda frames: frames["expert_cause"] == cause


def _manoeuvre(*manoeuvres: Manoeuvre) -> Callable[[Frames], Mask]:
    return lambda frames: np.isin(frames["expert_manoeuvre"], manoeuvres)


def _option(*options: RouteOption) -> Callable[[Frames], Mask]:
    return lambda frames: np.isin(frames["option"], options)


def _waypoints(frames: Frames) -> NDArray[np.float32]:
    waypoints = frames["expert_waypoints_ego"]
    return waypoints.reshape(len(waypoints), -1, 2)


def _planned_speed(frames: Frames, waypoint: int) -> NDArray[np.float32]:
    """Speed between waypoint - 1 and `waypoint` of the expert's plan, m/s."""
    points = _waypoints(frames)
    return np.linalg.norm(points[:, waypoint] - points[:, waypoint - 1], axis=1) / (WAYPOINT_PERIOD_US / 1e6)


def _acceleration(frames: Frames) -> NDArray[np.float32]:
    """Mean acceleration over the first second of the expert's plan, m/s²."""
    return _planned_speed(frames, 3) - frames["speed_mps"]


def _lateral(frames: Frames) -> NDArray[np.float32]:
    return np.abs(_waypoints(frames)[:, :, 1]).mean(axis=1)


def _making_room(frames: Frames) -> Mask:
    gives_way = _manoeuvre(Manoeuvre.GIVE_WAY)(frames) & np.isin(frames["expert_cause"], _NOBODY_BEFORE_IT)
    return gives_way & (_planned_speed(frames, -1) >= START_MPS)


_NOBODY_BEFORE_IT = (Cause.ONCOMING, Cause.FREE_ROAD)
_AROUND = (
    Manoeuvre.GO_AROUND_LEFT,
    Manoeuvre.GO_AROUND_RIGHT,
    Manoeuvre.WAIT_FOR_GAP,
    Manoeuvre.RETURN_TO_LANE,
)
_LANE_OPTIONS = (RouteOption.CHANGE_LANE_LEFT, RouteOption.CHANGE_LANE_RIGHT)

BUCKETS: Final[Mapping[str, Bucket]] = {
    bucket.name: bucket
    for bucket in (
        Bucket("all", "every frame", lambda f: np.ones(len(f["speed_mps"]), np.bool_)),
        Bucket("free_road", "nothing bounds the expert's speed", _cause(Cause.FREE_ROAD)),
        Bucket("leader", "behind a vehicle", _cause(Cause.LEADER)),
        Bucket("crossing_vehicle", "a forecast collision with a vehicle", _cause(Cause.CROSSING_VEHICLE)),
        Bucket("pedestrian", "a pedestrian bounds the speed", _cause(Cause.PEDESTRIAN)),
        Bucket("bicycle", "a bicycle bounds the speed", _cause(Cause.BICYCLE)),
        Bucket("red_light", "a red light bounds the speed", _cause(Cause.RED_LIGHT)),
        Bucket("yellow_light", "a yellow light bounds the speed", _cause(Cause.YELLOW_LIGHT)),
        Bucket("stop_sign", "a stop sign bounds the speed", _cause(Cause.STOP_SIGN)),
        Bucket("oncoming", "oncoming traffic keeps the ego waiting", _cause(Cause.ONCOMING)),
        Bucket("yield", "others have the right of way", _cause(Cause.YIELD)),
        Bucket("merging_vehicle", "a vehicle cuts or merges in", _cause(Cause.MERGING_VEHICLE)),
        Bucket("junction", "slower for a junction or bend", _cause(Cause.JUNCTION)),
        Bucket(
            "parked_obstacle",
            "an obstacle in the lane, and every step of passing it",
            lambda f: _cause(Cause.OBSTACLE)(f) | _manoeuvre(*_AROUND)(f),
        ),
        Bucket("emergency", "an emergency vehicle bounds the speed", _cause(Cause.EMERGENCY_VEHICLE)),
        Bucket("giving_way", "lets others go first", _manoeuvre(Manoeuvre.GIVE_WAY)),
        Bucket(
            "making_room", "goes on at the edge of its lane, for cars that come over the middle", _making_room
        ),
        Bucket(
            "lane_change",
            "the route or the expert changes lane",
            lambda f: _option(*_LANE_OPTIONS)(f) | _manoeuvre(Manoeuvre.CHANGE_LANE)(f),
        ),
        Bucket("junction_turn_left", "the route turns left", _option(RouteOption.LEFT)),
        Bucket("junction_turn_right", "the route turns right", _option(RouteOption.RIGHT)),
        Bucket("junction_straight", "the route crosses a junction", _option(RouteOption.STRAIGHT)),
        Bucket(
            "standstill",
            "stands and the plan stays there",
            lambda f: (f["speed_mps"] < STANDSTILL_MPS) & (_planned_speed(f, -1) < START_MPS),
        ),
        Bucket(
            "start_from_stop",
            "stands and the plan sets off",
            lambda f: (f["speed_mps"] < STANDSTILL_MPS) & (_planned_speed(f, -1) >= START_MPS),
        ),
        Bucket("accelerate", "gains speed", lambda f: _acceleration(f) > STRONG_ACCELERATION_MPS2),
        Bucket("brake", "brakes", lambda f: _acceleration(f) < -STRONG_BRAKING_MPS2),
        Bucket("brake_hard", "brakes hard", lambda f: _acceleration(f) < -EMERGENCY_BRAKING_MPS2),
        Bucket("lateral", "the plan bends", lambda f: _lateral(f) >= LATERAL_M),
        Bucket("lateral_sharp", "the plan bends sharply", lambda f: _lateral(f) >= SHARP_LATERAL_M),
        Bucket("night", "the sun is down", lambda f: f["weather"][:, SUN_ALTITUDE] < 0.0),
        Bucket("rain", "it rains", lambda f: f["weather"][:, PRECIPITATION] > 20.0),
        Bucket("fog", "fog", lambda f: f["weather"][:, FOG_DENSITY] > 20.0),
    )
}


def bucket_masks(frames: Frames) -> dict[str, Mask]:
    """For each bucket, which of the N frames it holds: (N,)."""
    return {name: np.asarray(bucket.holds(frames), np.bool_) for name, bucket in BUCKETS.items()}


def bucket_names(frames: Frames) -> list[list[str]]:
    """For each frame, the names of the buckets that hold it."""
    masks = bucket_masks(frames)
    rows = np.stack(list(masks.values()), axis=1)
    names = list(masks)
    return [[names[k] for k in np.flatnonzero(row)] for row in rows]


def recorded_names(column: pa.ChunkedArray) -> set[str]:
    """All names in a column `buckets`, those of other projects among them."""
    return {str(name) for name in pc.unique(pc.list_flatten(column)).to_pylist()}


def recorded_masks(column: pa.ChunkedArray, names: Sequence[str]) -> dict[str, Mask]:
    """For each of `names`, which of the N frames name it in their column `buckets`: (N,)."""
    row, name = pc.list_parent_indices(column).to_numpy(), pc.list_flatten(column)
    masks = {}
    for wanted in names:
        masks[wanted] = np.zeros(len(column), np.bool_)
        masks[wanted][row[pc.equal(name, wanted).to_numpy()]] = True
    return masks
