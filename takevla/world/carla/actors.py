"""Road users and obstacles of a CARLA world as `Actors`.  Needs no `carla`: any like objects do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from takevla.scene.actors import ActorKind, Actors, Cue, Role
from takevla.scene.lane_query import ANY_KIND, nearest_lane
from takevla.scene.road_map import LaneKind, RoadMap
from takevla.world.carla import frames

RADIUS_M = 150.0  # actors farther from the ego are left out: beyond what triggers and expert look at
LANE_REACH_M = 2.0  # an actor farther from every centre line is on no lane
WALKING_MPS = 0.3  # a walker on the road who moves faster crosses
BACKGROUND_ROLES = ("background", "autopilot")  # role_name of leaderboard and Traffic Manager vehicles

# bits of carla.VehicleLightState
BRAKE, RIGHT, LEFT, SPECIAL = 0x8, 0x10, 0x20, 0x200 | 0x400

_ROADWAY = (LaneKind.DRIVING, LaneKind.BIKE, LaneKind.PARKING)
_KIND_OF_BASE = {"truck": ActorKind.TRUCK, "bus": ActorKind.TRUCK, "van": ActorKind.VAN}
_KIND_OF_PROP = (
    ("cone", ActorKind.CONE),
    ("barrier", ActorKind.BARRIER),
    ("trafficwarning", ActorKind.WARNING_SIGN),
    ("warning", ActorKind.WARNING_SIGN),
)


def kind_of(type_id: str, attributes: Mapping[str, str]) -> ActorKind | None:
    """What an actor is, by its blueprint; None for what is no obstacle (sensors, signs, lights).

    Motorcycles count as cars: they drive as motor vehicles do, and their box says how small they are.
    """
    if type_id.startswith("walker."):
        return ActorKind.PEDESTRIAN
    if type_id.startswith("static.prop."):
        name = type_id.removeprefix("static.prop.")
        if name == "mesh":
            return ActorKind.CAR  # parked cars of leaderboard routes
        return next((kind for word, kind in _KIND_OF_PROP if word in name), ActorKind.BOX)
    if not type_id.startswith("vehicle."):
        return None
    base = attributes.get("base_type", "").lower()
    if base == "bicycle":
        return ActorKind.BICYCLE
    if "police" in type_id:
        return ActorKind.POLICE
    if attributes.get("special_type", "").lower() == "emergency":
        return ActorKind.AMBULANCE
    return _KIND_OF_BASE.get(base, ActorKind.CAR)


def cue_of(lights: int) -> Cue:
    """What the lamps of a vehicle show; `lights` are bits of `carla.VehicleLightState`."""
    cue = Cue.BRAKE if lights & BRAKE else Cue.NONE
    if lights & LEFT and lights & RIGHT:
        cue |= Cue.HAZARD
    elif lights & LEFT:
        cue |= Cue.INDICATOR_LEFT
    elif lights & RIGHT:
        cue |= Cue.INDICATOR_RIGHT
    return cue | Cue.EMERGENCY if lights & SPECIAL else cue


def read_actors(everything: Iterable[Any], ego_id: int, road_map: RoadMap) -> Actors:
    """All that stands or moves within `RADIUS_M` of the ego, in order of id.

    Args:
        everything: `carla.World.get_actors()`.
        ego_id: the actor that is the ego and left out.
        road_map: of the town.
    """
    listed = sorted(everything, key=lambda actor: actor.id)
    own = next((actor for actor in listed if actor.id == ego_id), None)
    if own is None:
        raise RuntimeError(f"the ego (actor {ego_id}) is gone from the CARLA world")
    centre = frames.vector_world(own.get_transform().location)
    rows = []
    for actor in listed:
        kind = kind_of(actor.type_id, actor.attributes)
        if kind is None or actor.id == ego_id:
            continue
        position = frames.box_foot_world(actor.get_transform(), actor.bounding_box)
        if np.hypot(*(position - centre)[:2]) <= RADIUS_M:
            rows.append(_row(actor, kind, position, road_map))
    columns = zip(*rows) if rows else ((),) * 11
    identity, kinds, roles, cues, positions, headings, speeds, accelerations, yaw_rates, extents, lanes = (
        list(column) for column in columns
    )
    return Actors(
        id=np.array(identity, np.int32),
        kind=np.array(kinds, np.int8),
        role=np.array(roles, np.int8),
        cue=np.array(cues, np.int16),
        position_world=np.array(positions, np.float32).reshape(-1, 3),
        heading_rad=np.array(headings, np.float32),
        speed_mps=np.array(speeds, np.float32),
        acceleration_mps2=np.array(accelerations, np.float32),
        yaw_rate_radps=np.array(yaw_rates, np.float32),
        extent_m=np.array(extents, np.float32).reshape(-1, 3),
        lane=np.array(lanes, np.int32),
        valid=np.ones(len(rows), np.bool_),
    )


def _row(actor: Any, kind: ActorKind, position: Any, road_map: RoadMap) -> tuple[Any, ...]:
    heading = frames.heading_rad(actor.get_transform().rotation.yaw)
    speed = frames.along(frames.vector_world(actor.get_velocity()), heading)[0]
    acceleration = frames.along(frames.vector_world(actor.get_acceleration()), heading)[0]
    x, y = float(position[0]), float(position[1])
    lane = nearest_lane(road_map.arrays, x, y, heading, LANE_REACH_M, False, ANY_KIND)[0]
    lane_kind = road_map.lanes[lane].kind if lane >= 0 else None
    cue = Cue.NONE
    if actor.type_id.startswith("vehicle."):
        cue = cue_of(int(actor.get_light_state()))
        if lane_kind == LaneKind.PARKING and speed == 0.0:
            cue |= Cue.PARKED
    elif actor.type_id == "static.prop.mesh":
        cue = Cue.PARKED
    elif kind is ActorKind.PEDESTRIAN and abs(speed) > WALKING_MPS and lane_kind in _ROADWAY:
        cue = Cue.CROSSING
    role = Role.BACKGROUND if actor.attributes.get("role_name", "") in BACKGROUND_ROLES else Role.SCENARIO
    rate = frames.yaw_rate_radps(actor.get_angular_velocity())
    extent = frames.extent_m(actor.bounding_box)
    return (
        actor.id, int(kind), int(role), int(cue), position, heading, speed, acceleration, rate, extent, lane,
    )  # fmt: skip
