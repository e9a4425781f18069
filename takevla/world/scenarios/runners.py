"""Another vehicle takes the ego's right of way at a junction: through a red light, or without lights."""

from __future__ import annotations

import math

from takevla.scene.actors import ActorKind, Cue
from takevla.scene.road_map import LightState
from takevla.world.scenarios.junctions import (
    FROM_LEFT,
    FROM_RIGHT,
    ONCOMING,
    Encounter,
    encounters,
    light_plan,
    signalised,
    unsignalised,
)
from takevla.world.scenarios.place import KMH, Crossing, Place, cut
from takevla.world.staging import (
    SCENARIO_TIMEOUT_S,
    ActorAt,
    ActorSpec,
    After,
    AllOf,
    AnyOf,
    CannotStart,
    EgoArrives,
    EgoPast,
    EgoStopped,
    KeepClear,
    Motion,
    Now,
    Scenario,
    SetCruise,
    SetSpeed,
    Show,
    Stage,
    SyncArrival,
)

ADVERSARY_MPS = 60.0 * KMH  # facts 1.2, likewise below
STRAIGHT_RAD = math.radians(30.0)
TURNING_MPS = 8.0  # of one that turns, with its indicator on
REACTION_S = 2.2
MIN_TRIGGER_M = 12.0
SOURCE_M = 30.0  # least distance of its start from the junction
SIGHT_S = 1.3  # it is on stage so long before the reaction time, so that it can be seen coming
LAST_M = 15.0  # it keeps its timing until so far before the meeting point
PATIENCE_S = 0.5  # or until so long after it should have arrived, if the ego waits for it
END_M = 10.0

SIDES = {
    "left": (FROM_LEFT, FROM_RIGHT, ONCOMING),
    "right": (FROM_RIGHT, FROM_LEFT, ONCOMING),
    "opposite": (ONCOMING, FROM_RIGHT, FROM_LEFT),
}


def _fastest_encounter(place: Place, crossing: Crossing, sides: tuple[float, ...]) -> Encounter:
    """A vehicle that goes straight on, from the side asked for if there is one; else one that turns."""
    found = [met for side in sides for met in encounters(place, crossing, side, 120.0, 60.0)]
    if not found:
        raise CannotStart("no other approach of the junction meets the route")
    return next((met for met in found if abs(met.bend_rad) < STRAIGHT_RAD), found[0])


def _runner(place: Place, name: str, lights: bool) -> Scenario:
    crossing = place.crossing()
    (signalised if lights else unsignalised)(place.road_map, crossing)
    sides = SIDES.get(place.word("direction", "right"), SIDES["right"])
    met = _fastest_encounter(place, crossing, sides)
    straight = abs(met.bend_rad) < STRAIGHT_RAD
    speed = ADVERSARY_MPS if straight else TURNING_MPS
    cue = Cue.NONE if straight else Cue.INDICATOR_LEFT if met.bend_rad > 0 else Cue.INDICATOR_RIGHT
    inside_m = met.meet_s_m - met.enter_s_m
    before_m = max(SOURCE_M + inside_m, speed * (REACTION_S + SIGHT_S))
    start_s = max(0.0, met.meet_s_m - before_m)
    path = cut(met.path, start_s, met.meet_s_m + 60.0)
    meet_s = met.meet_s_m - start_s
    seconds = max(meet_s / speed, 1.0)
    adversary = ActorSpec(
        "adversary",
        ActorKind.CAR,
        path,
        start_s_m=0.1,
        motion=Motion.SCRIPTED,
        acceleration_mps2=5.0,
        cue=cue,
        hidden=True,
    )
    lamps = light_plan(place.road_map, crossing, LightState.GREEN) if lights else ()
    stages = (
        Stage(Now(), lamps),
        Stage(
            AllOf(
                (
                    EgoArrives(met.meet_route_s_m, seconds, MIN_TRIGGER_M + 6.0),
                    EgoPast(place.before(met.meet_route_s_m, seconds + 0.5)),
                )
            ),
            (
                Show("adversary"),
                SetSpeed("adversary", speed),
                SyncArrival("adversary", meet_s, met.meet_route_s_m, 1.2 * speed),
            ),
        ),
        # From here on it only drives: a driver who brakes sees it pass in front.
        Stage(
            AnyOf((ActorAt("adversary", meet_s - LAST_M), EgoStopped(), After(seconds + PATIENCE_S))),
            (SetCruise("adversary", speed),),
        ),
        Stage(EgoPast(min(crossing.exit_s_m + END_M, place.end_s_m))),
    )
    return Scenario(
        name,
        place.trigger_s_m,
        (adversary,),
        stages=stages,
        timeout_s=SCENARIO_TIMEOUT_S,
        keep_clear=(KeepClear(path[:, :2]), KeepClear(place.path(0.0, crossing.exit_s_m)[:, :2])),
    )


def opposite_vehicle_running_red_light(place: Place) -> Scenario:
    """The ego has green; a vehicle from the side runs its red light."""
    return _runner(place, "OppositeVehicleRunningRedLight", lights=True)


def opposite_vehicle_taking_priority(place: Place) -> Scenario:
    """At a junction without lights a fast vehicle does not wait."""
    return _runner(place, "OppositeVehicleTakingPriority", lights=False)
