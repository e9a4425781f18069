"""What is ahead changes at once: hard braking, a blocked junction, loss of control."""

from __future__ import annotations

from takevla.scene.actors import ActorKind, Cue
from takevla.scene.road_map import LightState
from takevla.world.scenarios.junctions import light_plan
from takevla.world.scenarios.obstacles import standing
from takevla.world.scenarios.place import Place
from takevla.world.staging import (
    SCENARIO_TIMEOUT_S,
    ActorSpec,
    After,
    AllOf,
    AnyOf,
    BrakeTraffic,
    EgoNoise,
    EgoPast,
    EgoStopped,
    EgoWithin,
    KeepClear,
    Motion,
    Now,
    Remove,
    Scenario,
    SetCruise,
    SetMotion,
    SetSpeed,
    Show,
    Stage,
)

LEADER_AHEAD_M = 16.0  # centre to centre, at the start of the route
LEADER_SHARE = 0.62  # of the speed limit: a little slower than a careful driver, who closes in
HARD_BRAKE_MPS2 = 7.0
STANDS_S = 10.0  # facts 1.2, likewise below
DRIVE_ON_M = 15.0
APPROACH_M = 70.0  # on longer routes the leader joins so far before the trigger
NOISE_STEER = (0.055, 0.015)  # mean, standard deviation
NOISE_THROTTLE = (0.03, 0.01)
NOISE_M = 110.0
BLOCKER_M = 5.0  # inside the road behind the junction
BLOCKED_TRIGGER_M = 13.0
BLOCKED_S = 10.0


def hard_brake_route(place: Place) -> Scenario:
    """The car ahead brakes hard and stands for 10 s."""
    early = place.trigger_s_m > APPROACH_M + 20.0
    joins = max(0.0, place.trigger_s_m - APPROACH_M)
    cruise = LEADER_SHARE * place.limit_mps(place.trigger_s_m)
    leader = ActorSpec(
        "leader",
        ActorKind.CAR,
        place.path(0.0, place.route.length_m),
        start_s_m=LEADER_AHEAD_M,
        cruise_mps=cruise,
        motion=Motion.REACTIVE,
        hidden=early,
    )
    appear = (Stage(Now(), (Show("leader", LEADER_AHEAD_M + 14.0), SetSpeed("leader", cruise))),)
    stages = (
        *(appear if early else ()),
        Stage(
            EgoPast(place.trigger_s_m),
            (
                SetMotion("leader", Motion.SCRIPTED),
                SetCruise("leader", 0.0, HARD_BRAKE_MPS2),
                BrakeTraffic(seconds=STANDS_S),
            ),
        ),
        Stage(
            After(STANDS_S),
            (
                SetMotion("leader", Motion.REACTIVE),
                SetCruise("leader", place.limit_mps(place.trigger_s_m)),
            ),
        ),
        Stage(EgoPast(min(place.trigger_s_m + 20.0 + DRIVE_ON_M, place.end_s_m))),
    )
    clear = KeepClear(place.path(0.0, place.trigger_s_m + 40.0)[:, :2])
    start = joins if early else min(place.trigger_s_m, 1.0)
    return Scenario("HardBreakRoute", start, (leader,), stages=stages, keep_clear=(clear,))


def control_loss(place: Place) -> Scenario:
    """The controls are disturbed over 110 m."""
    end = min(place.trigger_s_m + NOISE_M, place.end_s_m)
    stages = (
        Stage(Now(), (EgoNoise(*NOISE_STEER, *NOISE_THROTTLE),)),
        Stage(EgoPast(end), (EgoNoise(),)),
    )
    return Scenario("ControlLoss", place.trigger_s_m, stages=stages)


def blocked_intersection(place: Place) -> Scenario:
    """A car stands just behind the junction and drives on 10 s after the ego has come close."""
    crossing = place.crossing()
    s_m = crossing.exit_s_m + BLOCKER_M
    place.pose(s_m + 10.0)
    blocker = standing(place, "blocker", ActorKind.CAR, s_m, 0.0, Cue.HAZARD)
    stages = (
        Stage(Now(), light_plan(place.road_map, crossing, LightState.GREEN)),
        Stage(AnyOf((EgoWithin(BLOCKED_TRIGGER_M, actor="blocker"), EgoStopped(1.0)))),
        Stage(AllOf((After(BLOCKED_S),)), (Remove("blocker"),)),
        Stage(EgoPast(min(s_m + 20.0, place.end_s_m))),
    )
    clear = KeepClear(place.path(place.trigger_s_m, s_m + 20.0)[:, :2])
    return Scenario(
        "BlockedIntersection",
        place.trigger_s_m,
        (blocker,),
        stages=stages,
        timeout_s=SCENARIO_TIMEOUT_S,
        keep_clear=(clear,),
    )
