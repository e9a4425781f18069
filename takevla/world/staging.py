"""Scenarios as data: who is on stage, where they go, and what happens when.

A scenario builder looks at a `Site` (a place on a route in a town) and returns a `Scenario`;
`takevla.world.stage` executes it.  A builder holds no behaviour of its own: whatever an actor does
follows from its path, its `Motion` and the commands of the stages.

Frame: world, REP-103 (x east, y north, counter-clockwise), metres, seconds, radians.
"route s" is arc length along the dense route of the ego, in metres from its start.

Sequence of execution:

1. `ego_start_world`, `actors` and flows with `from_start` are put into the world at time 0
   (`hidden` actors wait off stage until `Show`).
2. When the ego's centre has passed route s `trigger_s_m`, the scenario *starts*: its clock runs
   (`timeout_s`) and the first stage is waited for.
3. Stages follow each other.  When a stage's condition holds, its commands run in order, and the
   next stage is waited for in the next tick.  When the last stage has run, the scenario has *ended*:
   flows stop, ego noise ends, forced signals are released, `gone_at_end` actors leave.
4. If that takes longer than `timeout_s`, the scenario ends by timeout, which is an infraction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from takevla.scene.actors import ActorKind, Cue
from takevla.scene.road_map import LightState, RoadMap
from takevla.scene.route import Route

SCENARIO_TIMEOUT_S = 240.0  # benchmark facts 1.2, "TO 240"

# Full length, width, height.  CARLA blueprints of the kind (Lincoln MKZ 2020, Mercedes Sprinter,
# CarlaCola truck, Dodge Charger police, Ford ambulance, Gazelle bicycle, walkers, props), rounded.
EXTENT_M: Mapping[ActorKind, tuple[float, float, float]] = MappingProxyType(
    {
        ActorKind.CAR: (4.6, 1.9, 1.5),
        ActorKind.VAN: (5.9, 2.0, 2.6),
        ActorKind.TRUCK: (7.9, 2.6, 3.4),
        ActorKind.POLICE: (5.0, 2.0, 1.7),
        ActorKind.AMBULANCE: (6.4, 2.4, 2.8),
        ActorKind.BICYCLE: (1.7, 0.6, 1.7),
        ActorKind.PEDESTRIAN: (0.5, 0.6, 1.8),
        ActorKind.CONE: (0.4, 0.4, 0.8),
        ActorKind.BARRIER: (0.5, 1.8, 1.1),
        ActorKind.WARNING_SIGN: (0.8, 2.2, 2.2),
        ActorKind.BOX: (1.0, 1.0, 1.9),
    }
)


class Motion(IntEnum):
    """How an actor moves along its path."""

    STATIC = 0  # stands
    TRAFFIC = 1  # car-following on lanes; obeys lights, signs and right of way; reacts to everyone
    REACTIVE = 2  # car-following along its path; ignores lights, signs and right of way
    SCRIPTED = 3  # drives towards its cruise speed with bounded acceleration; ignores everyone


class CannotStart(ValueError):
    """A scenario does not fit its place.  The message says what is missing."""


@dataclass(frozen=True)
class Site:
    """Where a scenario shall take place, as its builder sees it."""

    road_map: RoadMap
    route: Route
    type: str  # leaderboard scenario type
    trigger_world: tuple[float, float, float, float]  # x, y, z, yaw
    trigger_s_m: float  # route s of the trigger point
    parameters: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    # child elements of the scenario as in the route file: {"distance": {"value": "40"}}, CARLA units
    seed: int = 0  # seed of whatever the builder draws


@dataclass(frozen=True)
class ActorSpec:
    """One actor of a scenario.

    The path is either `path_world`, a polyline of any spacing, or `lanes`, a chain of lane indices
    (each a successor of the one before) whose centre lines are joined.  Actors of motion TRAFFIC
    need `lanes`; where their chain ends they go on over successors at random.  A STATIC actor may
    have a path of two points just to say which way it faces.
    """

    name: str  # unique in the scenario
    kind: ActorKind
    path_world: NDArray[np.float32] | None = None  # (M, 2) or (M, 3), M >= 2
    lanes: tuple[int, ...] = ()
    start_s_m: float = 0.0  # centre of the actor along the path
    lateral_m: float = 0.0  # offset from the path, positive left
    turned_rad: float = 0.0  # heading against the path (a car that stands askew)
    speed_mps: float = 0.0  # at the start
    cruise_mps: float = 0.0  # speed it drives towards; for TRAFFIC 0 means the lane's speed limit
    acceleration_mps2: float = 3.0  # bound of a SCRIPTED actor's acceleration and braking
    motion: Motion = Motion.STATIC
    cue: Cue = Cue.NONE  # cues in addition to brake lights and the indicators of turns
    extent_m: tuple[float, float, float] | None = None  # None: `EXTENT_M` of the kind
    hidden: bool = False  # off stage until `Show`
    gone_at_end: bool = False  # leaves when the scenario ends
    gone_at_path_end: bool = True  # leaves where its path ends; else it stands there


@dataclass(frozen=True)
class Flow:
    """A stream of vehicles from the start of a path (source) to its end (sink).

    A vehicle is put at the source as soon as the one before is `gap_m` away, the gap drawn anew
    each time.  At most `most` vehicles of a flow are on stage at once.
    """

    name: str
    path_world: NDArray[np.float32] | None = None  # as in `ActorSpec`
    lanes: tuple[int, ...] = ()
    speed_mps: float = 10.0  # at the source, and cruise speed
    gap_m: tuple[float, float] = (15.0, 25.0)  # bumper to bumper, low and high
    kinds: tuple[ActorKind, ...] = (ActorKind.CAR,)
    motion: Motion = Motion.REACTIVE
    cue: Cue = Cue.NONE
    lateral_m: float = 0.0
    from_start: bool = False  # runs from time 0, else from `StartFlow`
    prefilled: bool = False  # when it starts, the whole path is filled, not the source alone
    most: int = 8


# --- Conditions ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Now:
    """Holds at once."""


@dataclass(frozen=True)
class After:
    """So many seconds since the stage before ran (for the first stage: since the scenario's start)."""

    seconds: float


@dataclass(frozen=True)
class EgoPast:
    """The ego's centre has passed this route s."""

    route_s_m: float


@dataclass(frozen=True)
class EgoWithin:
    """The ego's centre is within a straight-line distance of a point, or of the actor named."""

    distance_m: float
    point_world: tuple[float, float] | None = None
    actor: str = ""


@dataclass(frozen=True)
class EgoArrives:
    """The ego will reach route s within `seconds` at its present speed, or is within `min_distance_m`.

    The reaction-time trigger of scenario_runner.  It also holds when the ego is already past.
    """

    route_s_m: float
    seconds: float
    min_distance_m: float = 0.0


@dataclass(frozen=True)
class EgoStopped:
    """The ego has stood (below 0.1 m/s) for so long without a break."""

    seconds: float = 0.0


@dataclass(frozen=True)
class ActorAt:
    """The actor's centre has reached this arc length on its path (for `lanes`: of the joined chain)."""

    actor: str
    s_m: float


@dataclass(frozen=True)
class ActorAhead:
    """The actor's centre lies at least `by_m` ahead of the ego's, along the ego's heading."""

    actor: str
    by_m: float = 0.0


@dataclass(frozen=True)
class ActorGone:
    """The actor has left the stage."""

    actor: str


@dataclass(frozen=True)
class AnyOf:
    """At least one holds."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class AllOf:
    """All hold."""

    conditions: tuple[Condition, ...]


Condition = (
    Now
    | After
    | EgoPast
    | EgoWithin
    | EgoArrives
    | EgoStopped
    | ActorAt
    | ActorAhead
    | ActorGone
    | AnyOf
    | AllOf
)


# --- Commands -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SetMotion:
    """Change how an actor moves."""

    actor: str
    motion: Motion


@dataclass(frozen=True)
class SetCruise:
    """Set an actor's cruise speed to `cruise_mps` + `of_ego` x the ego's speed, kept up to date."""

    actor: str
    cruise_mps: float
    acceleration_mps2: float | None = None  # None keeps the bound
    of_ego: float = 0.0


@dataclass(frozen=True)
class SetSpeed:
    """Give an actor a speed at once (it appears already moving)."""

    actor: str
    speed_mps: float


@dataclass(frozen=True)
class SyncArrival:
    """Keep an actor's cruise speed such that it reaches `actor_s_m` when the ego reaches `route_s_m`.

    Ends with the next `SetCruise` of the actor, or when either has arrived (the actor keeps its speed).
    """

    actor: str
    actor_s_m: float
    route_s_m: float
    most_mps: float = 20.0


@dataclass(frozen=True)
class SetCue:
    """Replace an actor's cues."""

    actor: str
    cue: Cue


@dataclass(frozen=True)
class SwitchPath:
    """Move an actor over to another path within `seconds` of driving (a lane change).

    It continues at the point of the new path nearest to it.
    """

    actor: str
    path_world: NDArray[np.float32] | None = None
    lanes: tuple[int, ...] = ()
    seconds: float = 3.0
    lateral_m: float = 0.0  # offset it ends with
    gone_at_path_end: bool = True  # leaves where the new path ends; else it stands there


@dataclass(frozen=True)
class Shift:
    """Move an actor sideways on its own path to offset `lateral_m` within `seconds` of driving."""

    actor: str
    lateral_m: float
    seconds: float = 3.0


@dataclass(frozen=True)
class Show:
    """Bring a hidden actor on stage: at its start, or `from_ego_m` ahead (behind: negative) of the ego."""

    actor: str
    from_ego_m: float | None = None


@dataclass(frozen=True)
class Remove:
    """Take an actor off the stage."""

    actor: str


@dataclass(frozen=True)
class ForceSignals:
    """Hold signals of the road map in one state; `seconds` None means until the scenario ends."""

    signals: tuple[int, ...]
    state: LightState
    seconds: float | None = None


@dataclass(frozen=True)
class StartFlow:
    """Begin to emit vehicles."""

    flow: str


@dataclass(frozen=True)
class StopFlow:
    """Emit no more; with `clear`, take its vehicles off the stage."""

    flow: str
    clear: bool = False


@dataclass(frozen=True)
class BrakeTraffic:
    """Background vehicles ahead of the ego on its lane brake hard and stand until `seconds` have passed."""

    distance_m: float = 60.0
    seconds: float = 10.0


@dataclass(frozen=True)
class EgoNoise:
    """Disturb the ego's controls from now on: normal noise, added each tick; all zeros end it.

    Steering noise keeps one random sign for `hold_s`, so that it pushes the car off its line.
    """

    steer_mean: float = 0.0
    steer_std: float = 0.0
    throttle_mean: float = 0.0
    throttle_std: float = 0.0
    hold_s: float = 0.5


@dataclass(frozen=True)
class ClearTraffic:
    """Take background vehicles within `radius_m` of a polyline off the stage."""

    path_world: NDArray[np.float32]  # (M, 2)
    radius_m: float = 3.0


Command = (
    SetMotion
    | SetCruise
    | SetSpeed
    | SyncArrival
    | SetCue
    | SwitchPath
    | Shift
    | Show
    | Remove
    | ForceSignals
    | StartFlow
    | StopFlow
    | BrakeTraffic
    | EgoNoise
    | ClearTraffic
)


@dataclass(frozen=True)
class Stage:
    """When the condition holds, the commands run once, in order."""

    when: Condition
    do: tuple[Command, ...] = ()


@dataclass(frozen=True)
class KeepClear:
    """Where no background vehicle is put, for the whole route: within `radius_m` of a polyline."""

    path_world: NDArray[np.float32]  # (M, 2)
    radius_m: float = 3.0


@dataclass(frozen=True)
class Scenario:
    """One scenario, ready to be executed."""

    type: str
    trigger_s_m: float
    actors: tuple[ActorSpec, ...] = ()
    flows: tuple[Flow, ...] = ()
    stages: tuple[Stage, ...] = ()  # the last one's condition is the end of the scenario
    timeout_s: float | None = None  # SCENARIO_TIMEOUT_S for the types that have one; None: never
    emergency_vehicle: str = ""  # actor to whom the ego must yield (criterion), or ""
    keep_clear: tuple[KeepClear, ...] = ()
    ego_start_world: tuple[float, float, float] | None = None  # x, y, yaw where not on the first route point
