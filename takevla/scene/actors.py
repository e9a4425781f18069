"""Other road users and obstacles at one instant, as struct-of-arrays."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag

import numpy as np
from numpy.typing import NDArray


class ActorKind(IntEnum):
    """What an actor is.  Below `BICYCLE`: motor vehicles."""

    CAR = 0
    VAN = 1
    TRUCK = 2
    POLICE = 3
    AMBULANCE = 4
    BICYCLE = 10
    PEDESTRIAN = 11
    CONE = 20
    BARRIER = 21
    WARNING_SIGN = 22  # a lit arrow or triangle board in front of a construction site
    BOX = 23  # any other static obstacle (vending machine, bin, container)


class Cue(IntFlag):
    """What an onlooker can see of an actor's intent.  The camera draws every one of them."""

    NONE = 0
    BRAKE = 1
    INDICATOR_LEFT = 2
    INDICATOR_RIGHT = 4
    HAZARD = 8  # both indicators: the vehicle stands as an obstacle
    EMERGENCY = 16  # blue lights
    DOOR_LEFT = 32  # left door open
    DOOR_RIGHT = 64
    CROSSING = 128  # a pedestrian or cyclist who is about to cross or crosses (strides, raised arm)
    PARKED = 256  # parked at the kerb, lights off


class Role(IntEnum):
    """Why an actor is in the world."""

    BACKGROUND = 0
    SCENARIO = 1


@dataclass(frozen=True)
class Actors:
    """A actors; rows where `valid` is False hold no meaning.

    Position is the centre of the box's ground face; extents are full lengths.
    """

    id: NDArray[np.int32]  # (A,) unique within an episode
    kind: NDArray[np.int8]  # (A,) ActorKind
    role: NDArray[np.int8]  # (A,) Role
    cue: NDArray[np.int16]  # (A,) Cue bits
    position_world: NDArray[np.float32]  # (A, 3) m
    heading_rad: NDArray[np.float32]  # (A,)
    speed_mps: NDArray[np.float32]  # (A,) along the heading, negative in reverse
    acceleration_mps2: NDArray[np.float32]  # (A,) along the heading
    yaw_rate_radps: NDArray[np.float32]  # (A,)
    extent_m: NDArray[np.float32]  # (A, 3) length, width, height
    lane: NDArray[np.int32]  # (A,) lane index under the centre, -1 off the lanes
    valid: NDArray[np.bool_]  # (A,)

    def __len__(self) -> int:
        return len(self.id)
