"""Another vehicle takes the ego's right of way at a junction: through a red light, or without lights."""

from __future__ import annotations

from takevla.scene.actors import ActorKind
from takevla.scene.road_map import LightState
from takevla.world.scenarios.junctions import (
    FROM_LEFT,
    FROM_RIGHT,
    ONCOMING,
    first_encounter,
    light_plan,
    signalised,
    unsignalised,
)
from takevla.world.scenarios.place import KMH, Place, cut
from takevla.world.staging import (
    SCENARIO_TIMEOUT_S,
    ActorAt,
    ActorSpec,
    After,
    AllOf,
    AnyOf,
    EgoArrives,
    EgoPast,
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
REACTION_S = 2.2
MIN_TRIGGER_M = 12.0
SOURCE_M = 30.0  # least distance of its start from the junction
SIGHT_S = 1.3  # it is on stage so long before the reaction time, so that it can be seen coming
LAST_M = 15.0  # it keeps its timing until so far before the meeting point
LAST_S = 0.9  # or until so long before
END_M = 10.0

SIDES = {
    "left": (FROM_LEFT, FROM_RIGHT, ONCOMING),
    "right": (FROM_RIGHT, FROM_LEFT, ONCOMING),
    "opposite": (ONCOMING, FROM_RIGHT, FROM_LEFT),
}


def _runner(place: Place, name: str, lights: bool) -> Scenario:
    crossing = place.crossing()
    (signalised if lights else unsignalised)(place.road_map, crossing)
    sides = SIDES.get(place.word("direction", "right"), SIDES["right"])
    met = first_encounter(place, crossing, sides, 120.0, 60.0)
    inside_m = met.meet_s_m - met.enter_s_m
    before_m = max(SOURCE_M + inside_m, ADVERSARY_MPS * (REACTION_S + SIGHT_S))
    start_s = max(0.0, met.meet_s_m - before_m)
    path = cut(met.path, start_s, met.meet_s_m + 60.0)
    meet_s = met.meet_s_m - start_s
    seconds = max(meet_s / ADVERSARY_MPS, 1.0)
    adversary = ActorSpec(
        "adversary",
        ActorKind.CAR,
        path,
        start_s_m=0.1,
        motion=Motion.SCRIPTED,
        acceleration_mps2=5.0,
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
                SetSpeed("adversary", ADVERSARY_MPS),
                SyncArrival("adversary", meet_s, met.meet_route_s_m, 1.2 * ADVERSARY_MPS),
            ),
        ),
        # From here on it only drives: a driver who brakes sees it pass in front.
        Stage(
            AnyOf((ActorAt("adversary", meet_s - LAST_M), After(seconds - LAST_S))),
            (SetCruise("adversary", ADVERSARY_MPS),),
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
