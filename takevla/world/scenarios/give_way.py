"""Others need the ego's room: an emergency vehicle from behind, oncoming cars that cut the bend."""

from __future__ import annotations

import numpy as np

from takevla.scene.actors import ActorKind, Cue
from takevla.world.scenarios.obstacles import standing
from takevla.world.scenarios.place import KMH, LEFT, RIGHT, Place, arc_lengths, moved_aside, project
from takevla.world.staging import (
    SCENARIO_TIMEOUT_S,
    ActorAhead,
    ActorSpec,
    AnyOf,
    CannotStart,
    EgoPast,
    Flow,
    KeepClear,
    Motion,
    Now,
    Scenario,
    SetCruise,
    SetSpeed,
    Show,
    Stage,
)

EMERGENCY_FASTER_MPS = 25.0 * KMH  # than the ego (facts 1.2)
EMERGENCY_END_M = 50.0  # so far ahead of the ego it is done with (facts 1.2)
EMERGENCY_LEAST_MPS = 9.0  # it drives at least so fast, also behind an ego that stands
FLOW_EVERY_M = 40.0  # facts 1.2
INVADED_M = 0.5  # how far the invaders' sides reach into the ego's lane, besides `offset`
SWERVE_M = 14.0  # over this length they leave their lane and return to it
BEYOND_M = 70.0  # they come from so far behind the last cone
CONE_EVERY_M = 8.0


def yield_to_emergency_vehicle(place: Place) -> Scenario:
    """An ambulance comes from behind and needs the ego's lane; there is a lane beside to move to."""
    behind = place.number("distance", 140.0)
    try:
        place.beside(place.trigger_s_m, RIGHT)
    except CannotStart:
        place.beside(place.trigger_s_m, LEFT)
    ambulance = ActorSpec(
        "ambulance",
        ActorKind.AMBULANCE,
        place.path(0.0, place.route.length_m),
        start_s_m=max(4.0, place.trigger_s_m - behind),
        motion=Motion.REACTIVE,
        cue=Cue.EMERGENCY,
        hidden=True,
        gone_at_path_end=True,
    )
    fast = place.cruise_mps(place.trigger_s_m) + EMERGENCY_FASTER_MPS
    stages = (
        Stage(
            Now(),
            (
                Show("ambulance"),
                SetSpeed("ambulance", fast),
                SetCruise("ambulance", EMERGENCY_LEAST_MPS, of_ego=1.0),
            ),
        ),
        Stage(
            AnyOf((ActorAhead("ambulance", 6.0), EgoPast(place.end_s_m))),
            (SetCruise("ambulance", fast),),
        ),
        Stage(AnyOf((ActorAhead("ambulance", EMERGENCY_END_M), EgoPast(place.end_s_m)))),
    )
    return Scenario(
        "YieldToEmergencyVehicle",
        place.trigger_s_m,
        (ambulance,),
        stages=stages,
        emergency_vehicle="ambulance",
        keep_clear=(KeepClear(place.path(0.0, place.route.length_m)[:, :2], radius_m=5.5),),
    )


def invading_turn(place: Place) -> Scenario:
    """Oncoming cars reach into the ego's lane, because cones narrow theirs; the ego keeps right."""
    first = place.trigger_s_m + 15.0
    last = min(first + place.number("distance", 100.0), place.end_s_m - SWERVE_M)
    middle = (first + last) / 2.0
    lane = place.opposite(middle)
    reach = INVADED_M + place.number("offset", 0.5)
    half_lane = float(lane.width_m.mean()) / 2.0
    half_car = 0.95
    lateral = half_lane - half_car + reach  # their left side then is `reach` beyond the middle line
    place.plain_road(first, last)
    behind = place.clear_before(first, 30.0)  # a flow must not run into a junction behind the ego
    lane_path = place.oncoming_path(first, last - first + BEYOND_M, behind)
    enter, leave = (project(lane_path, place.pose(s_m).point) for s_m in (last, first))
    knots = [enter - SWERVE_M, enter, leave, leave + SWERVE_M]
    share = np.interp(arc_lengths(lane_path), knots, [0.0, 1.0, 1.0, 0.0])
    path = moved_aside(lane_path, lateral * share * share * (3.0 - 2.0 * share))
    flow = Flow(
        "invaders",
        path,
        speed_mps=0.6 * place.limit_mps(middle),
        gap_m=(FLOW_EVERY_M, FLOW_EVERY_M),
        motion=Motion.SCRIPTED,
        from_start=True,
        prefilled=True,
    )
    cone_m = place.width_m(middle) / 2.0 + 2.0 * half_lane - 0.3  # their outer edge, seen from the route
    cones = tuple(
        standing(place, f"cone_{i}", ActorKind.CONE, first + CONE_EVERY_M * i, cone_m)
        for i in range(int((last - first) / CONE_EVERY_M))
    )
    return Scenario(
        "InvadingTurn",
        place.trigger_s_m,
        cones,
        (flow,),
        (Stage(EgoPast(last + SWERVE_M)),),
        timeout_s=SCENARIO_TIMEOUT_S,
        keep_clear=(KeepClear(path[:, :2]), KeepClear(place.path(first - 30.0, last)[:, :2])),
    )
