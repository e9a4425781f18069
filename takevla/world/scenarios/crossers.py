"""Somebody crosses the ego's way on foot or on a bicycle.

Whoever will cross shows it (`Cue.CROSSING`) `NOTICE_S` before the first step, so that a driver who
sees single frames can tell them from people who stand.
"""

from __future__ import annotations

import math

import numpy as np

from takevla.scene.actors import ActorKind, Cue
from takevla.scene.road_map import LaneKind, LightState, Turn
from takevla.world.scenarios.junctions import light_plan, turn_of
from takevla.world.scenarios.obstacles import standing
from takevla.world.scenarios.place import LEFT, Place, Points
from takevla.world.staging import (
    SCENARIO_TIMEOUT_S,
    ActorSpec,
    After,
    AllOf,
    CannotStart,
    Command,
    EgoArrives,
    EgoPast,
    Motion,
    Now,
    Scenario,
    SetCruise,
    SetCue,
    Stage,
)

NOTICE_S = 0.7
EARLY_S = 0.3  # how much earlier than a careful driver's timing they may set out
STEP_MPS2 = 4.0  # how briskly a pedestrian reaches walking speed
BEYOND_M = 5.0  # how far crossers go on behind the far kerb
SIDEWALK_M = 1.0  # how far behind the kerb they stand
EGO_END_M = 40.0  # facts 1.2

WALK_MPS = 2.0
REACTION_S = 2.1
MIN_M = 6.0
PARKING_REACTION_S = 2.15
GROUP_WALK_MPS = 1.3
GROUP_REACTION_S = 3.5
GROUP_MIN_M = 12.0
GROUP_SIZE = 3
GROUP_GAP_M = 0.9  # each walks so far behind the one before
TURNING_MPS = 1.8
BICYCLE_REACTION_S = 1.8
WALKER_REACTION_S = 2.2
TURNING_MIN_M = 6.0
TURNING_START_M = 11.0  # the bicycle starts so far from the ego's lane (facts 1.2)


def _across(place: Place, s_m: float, side: float, from_m: float, angle_rad: float = 0.0) -> Points:
    """A straight way over the road at route s, from `from_m` beside the route to behind the far kerb."""
    pose = place.pose(s_m)
    far = place.kerb_m(s_m, -side) + BEYOND_M
    slant = math.tan(angle_rad)
    start = pose.aside(side * from_m, -slant * from_m)
    end = pose.aside(-side * far, slant * far)
    return np.array([start.point, end.point], np.float32)


def _crosser(name: str, kind: ActorKind, path: Points) -> ActorSpec:
    return ActorSpec(name, kind, path, acceleration_mps2=STEP_MPS2, motion=Motion.SCRIPTED)


def _notice_then_go(
    place: Place, names: tuple[str, ...], s_m: float, speed_mps: float, reaction_s: float, min_m: float
) -> tuple[Stage, ...]:
    """Show the intent when the ego is `NOTICE_S` short of the reaction time, then go."""
    # An ego that will still slow down for a turn is farther away in time than its speed says.
    notice: tuple[Command, ...] = tuple(SetCue(name, Cue.CROSSING) for name in names)
    go: tuple[Command, ...] = tuple(SetCruise(name, speed_mps) for name in names)
    return (
        Stage(
            AllOf(
                (
                    EgoArrives(s_m, reaction_s + NOTICE_S, min_m + 1.0),
                    EgoPast(place.before(s_m, reaction_s + NOTICE_S + EARLY_S)),
                )
            ),
            notice,
        ),
        Stage(After(NOTICE_S), go),
    )


def _reach_m(speed_mps: float, seconds: float) -> float:
    """How far a crosser comes in so many seconds from standing."""
    ramp = speed_mps / STEP_MPS2
    return speed_mps * (seconds - ramp / 2.0)


def _crossing_from(
    place: Place, name: str, reaction_s: float, blocker: ActorKind, blocker_cue: Cue
) -> Scenario:
    s_m = place.trigger_s_m + place.number("distance", 12.0)
    side = place.side()
    angle = math.radians(place.number("crossing_angle", 0.0))
    parked = blocker is not ActorKind.BOX
    if parked:
        place.beside(s_m, side, (LaneKind.PARKING, LaneKind.SHOULDER))
        beside = place.width_m(s_m) / 2.0 + 1.15  # a parked car's middle
        length = 4.6
    else:
        beside = place.kerb_m(s_m, side) + 0.7
        length = 1.0
    # Started `reaction_s` before the ego, the pedestrian is in the middle of the lane when it arrives.
    from_m = max(_reach_m(WALK_MPS, reaction_s) - 0.2, beside)
    path = _across(place, s_m, side, from_m, angle)
    actors = (
        standing(place, "blocker", blocker, s_m - length / 2.0 - 0.8, side * beside, blocker_cue),
        _crosser("pedestrian", ActorKind.PEDESTRIAN, path),
    )
    stages = (
        *_notice_then_go(place, ("pedestrian",), s_m, WALK_MPS, reaction_s, MIN_M),
        Stage(EgoPast(min(s_m + EGO_END_M, place.end_s_m))),
    )
    return Scenario(name, place.trigger_s_m, actors, stages=stages)


def dynamic_object_crossing(place: Place) -> Scenario:
    """A pedestrian walks out from behind a vending machine at the kerb."""
    return _crossing_from(place, "DynamicObjectCrossing", REACTION_S, ActorKind.BOX, Cue.NONE)


def parking_crossing_pedestrian(place: Place) -> Scenario:
    """A pedestrian walks out from behind a parked car."""
    return _crossing_from(place, "ParkingCrossingPedestrian", PARKING_REACTION_S, ActorKind.CAR, Cue.PARKED)


def pedestrian_crossing(place: Place) -> Scenario:
    """Three pedestrians cross the road that the ego turns into, or goes on, behind a junction."""
    crossing = place.crossing()
    s_m = crossing.exit_s_m + 4.0
    kerb = place.kerb_m(s_m, -LEFT)
    from_m = max(kerb + SIDEWALK_M, _reach_m(GROUP_WALK_MPS, GROUP_REACTION_S) - 0.6)
    actors = []
    for i in range(GROUP_SIZE):
        path = _across(place, s_m + 1.1 * i, -LEFT, from_m + GROUP_GAP_M * i)
        actors.append(_crosser(f"pedestrian_{i}", ActorKind.PEDESTRIAN, path))
    names = tuple(actor.name for actor in actors)
    stages = (
        Stage(Now(), light_plan(place.road_map, crossing, LightState.GREEN)),
        *_notice_then_go(place, names, s_m, GROUP_WALK_MPS, GROUP_REACTION_S, GROUP_MIN_M),
        Stage(EgoPast(min(s_m + EGO_END_M, place.end_s_m))),
    )
    return Scenario("PedestrianCrossing", place.trigger_s_m, tuple(actors), stages=stages)


def _while_turning(place: Place, name: str, kind: ActorKind, reaction_s: float, start_m: float) -> Scenario:
    crossing = place.crossing()
    turn = turn_of(place.road_map, crossing)
    if turn == Turn.STRAIGHT:
        raise CannotStart("the route does not turn at the junction")
    s_m = crossing.exit_s_m + 2.0
    side = LEFT if turn == Turn.LEFT else -LEFT
    # They come from the inner side of the turn, where the ego looks.
    from_m = max(place.kerb_m(s_m, side) + SIDEWALK_M, start_m, _reach_m(TURNING_MPS, reaction_s))
    late_s = max(0.0, from_m / TURNING_MPS - reaction_s)
    path = _across(place, s_m, side, from_m)
    actor = _crosser("crosser", kind, path)
    stages = (
        Stage(Now(), light_plan(place.road_map, crossing, LightState.GREEN)),
        *_notice_then_go(place, ("crosser",), s_m, TURNING_MPS, reaction_s + late_s, TURNING_MIN_M),
        Stage(EgoPast(min(s_m + EGO_END_M, place.end_s_m))),
    )
    return Scenario(name, place.trigger_s_m, (actor,), stages=stages, timeout_s=SCENARIO_TIMEOUT_S)


def vehicle_turning_route(place: Place) -> Scenario:
    """A bicycle crosses the road that the ego turns into."""
    return _while_turning(
        place, "VehicleTurningRoute", ActorKind.BICYCLE, BICYCLE_REACTION_S, TURNING_START_M
    )


def vehicle_turning_route_pedestrian(place: Place) -> Scenario:
    """A pedestrian crosses the road that the ego turns into."""
    return _while_turning(
        place, "VehicleTurningRoutePedestrian", ActorKind.PEDESTRIAN, WALKER_REACTION_S, 0.0
    )
