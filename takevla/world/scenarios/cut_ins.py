"""Somebody comes into the ego's lane from beside it, close ahead."""

from __future__ import annotations

from takevla.scene.actors import ActorKind, Cue
from takevla.scene.road_map import LaneKind
from takevla.world.scenarios.obstacles import standing
from takevla.world.scenarios.place import KMH, LEFT, Place, Points, lateral_of, meeting, project
from takevla.world.staging import (
    SCENARIO_TIMEOUT_S,
    ActorSpec,
    After,
    CannotStart,
    EgoArrives,
    EgoPast,
    KeepClear,
    Motion,
    Now,
    Scenario,
    SetCruise,
    SetCue,
    SetMotion,
    SetSpeed,
    Show,
    Stage,
    SwitchPath,
    SyncArrival,
)

NOTICE_S = 0.7  # the indicator blinks so long before the car moves
QUEUE_GAP_M = 11.0  # front bumper to front bumper (facts 1.2)
QUEUE_BEHIND, QUEUE_AHEAD = 2, 3
STATIC_REACTION_S, STATIC_MIN_M = 2.7, 15.0
STATIC_SPEED_MPS = 60.0 * KMH
PARKING_AHEAD_M = 35.0
PARKING_BLOCKER_M = 28.0
PARKING_REACTION_S, PARKING_MIN_M = 2.35, 10.0
PARKING_SPEED_MPS = 13.0
ENTER_MPS = 3.5  # a car that pulls out of a standing row does so at a turning speed
ENTER_MPS2 = 2.5
ENTER_S = 2.4  # to be fully in the lane
CRAWL_S = 3.0  # it accelerates only then
HIGHWAY_CUT_IN_M = 10.0  # facts 1.2, likewise below
HIGHWAY_SPEED_SHARE = 0.8
HIGHWAY_CHANGE_S = 2.0
HIGHWAY_SLOW_SHARE = 0.55  # having cut in, it slows down to this share of the ego's cruise speed
HIGHWAY_SLOW_S = 4.0
HIGHWAY_LEAST_M = 50.0  # of driving side by side before it changes lanes
BESIDE_M = 4.5  # paths no farther apart are neighbour lanes
CAR_M = 4.7
AFTER_M = 45.0  # driven behind the place of the cut-in until the scenario ends


def _indicator(from_side: float) -> Cue:
    return Cue.INDICATOR_RIGHT if from_side == LEFT else Cue.INDICATOR_LEFT


def _pulls_out(
    place: Place, s_m: float, side: float, onward_mps: float, reaction_s: float, min_m: float
) -> tuple[Stage, ...]:
    """The actor `cutter`, standing at route s in the row on `side`, drives into the route's lane."""
    return (
        Stage(EgoArrives(s_m, reaction_s + NOTICE_S, min_m + 3.0), (SetCue("cutter", _indicator(side)),)),
        Stage(
            After(NOTICE_S),
            (
                SetMotion("cutter", Motion.SCRIPTED),
                SetCruise("cutter", ENTER_MPS, ENTER_MPS2),
                SwitchPath("cutter", place.path(s_m - 10.0, place.route.length_m), seconds=ENTER_S),
            ),
        ),
        Stage(
            After(CRAWL_S),
            (
                SetCue("cutter", Cue.NONE),
                SetMotion("cutter", Motion.REACTIVE),
                SetCruise("cutter", min(onward_mps, place.limit_mps(s_m))),
            ),
        ),
        Stage(EgoPast(min(s_m + AFTER_M, place.end_s_m))),
    )


def static_cut_in(place: Place) -> Scenario:
    """In a standing row on the next lane one car pulls out in front of the ego."""
    s_m = place.trigger_s_m + place.number("distance", 100.0)
    side = place.side()
    first, last = s_m - QUEUE_BEHIND * QUEUE_GAP_M, s_m + QUEUE_AHEAD * QUEUE_GAP_M
    place.plain_road(first, min(last, place.end_s_m))
    lane = place.beside(s_m, side)
    lateral = side * (place.width_m(s_m) + float(lane.width_m.mean())) / 2.0
    actors = []
    for i in range(-QUEUE_BEHIND, QUEUE_AHEAD + 1):
        at = s_m + i * QUEUE_GAP_M
        if at < 1.0 or at > place.route.length_m - 3.0:
            continue
        actors.append(standing(place, "cutter" if i == 0 else f"row_{i}", ActorKind.CAR, at, lateral))
    stages = _pulls_out(place, s_m, side, STATIC_SPEED_MPS, STATIC_REACTION_S, STATIC_MIN_M)
    clear = KeepClear(place.path(first - 30.0, last + 30.0)[:, :2], radius_m=5.5)
    return Scenario("StaticCutIn", place.trigger_s_m, tuple(actors), stages=stages, keep_clear=(clear,))


def parking_cut_in(place: Place) -> Scenario:
    """A car pulls out of a parking bay in front of the ego, behind another parked car."""
    s_m = place.trigger_s_m + PARKING_AHEAD_M
    side = place.side()
    place.plain_road(place.trigger_s_m, s_m)
    lane = place.beside(s_m, side, (LaneKind.PARKING, LaneKind.SHOULDER))
    lateral = side * (place.width_m(s_m) + max(float(lane.width_m.mean()), 2.1)) / 2.0
    actors = (
        standing(place, "blocker", ActorKind.CAR, place.trigger_s_m + PARKING_BLOCKER_M, lateral, Cue.PARKED),
        standing(place, "cutter", ActorKind.CAR, s_m, lateral, Cue.PARKED),
    )
    stages = _pulls_out(place, s_m, side, PARKING_SPEED_MPS, PARKING_REACTION_S, PARKING_MIN_M)
    return Scenario("ParkingCutIn", place.trigger_s_m, actors, stages=stages)


def _joining_path(place: Place) -> Points:
    """The cutter's way: from where it waits to far along the route."""
    where = place.point("other_actor_location")
    if where is None:
        raise CannotStart("parameter other_actor_location is missing")
    for ahead_m in (220.0, 160.0, 120.0, 90.0):
        if place.trigger_s_m + ahead_m <= place.route.length_m:
            return place.traced(where, place.pose(place.trigger_s_m + ahead_m).point)
    raise CannotStart("the route ends before the merge")


def highway_cut_in(place: Place) -> Scenario:
    """A car from an on-ramp comes beside the ego and cuts in 10 m ahead of it."""
    path = _joining_path(place)
    met = meeting(path, place.path(place.trigger_s_m, place.route.length_m), BESIDE_M)
    if met is None:
        raise CannotStart("the other actor's way does not come beside the route")
    # They run side by side from here; it has come up to its lead when the ego arrives.
    route_s = place.trigger_s_m + max(met[1], HIGHWAY_LEAST_M)
    if route_s + 40.0 > place.route.length_m:
        raise CannotStart("the route ends before the merge")
    lead_m = HIGHWAY_CUT_IN_M + CAR_M
    beside_s = project(path, place.pose(route_s).point)
    cruise = place.cruise_mps(place.trigger_s_m)
    lateral = lateral_of(path, place.pose(route_s).point)
    cue = Cue.INDICATOR_LEFT if lateral > 0 else Cue.INDICATOR_RIGHT
    actor = ActorSpec(
        "cutter",
        ActorKind.CAR,
        path,
        start_s_m=0.5,
        motion=Motion.SCRIPTED,
        acceleration_mps2=4.0,
        hidden=True,
        gone_at_path_end=False,
    )
    onward = place.path(route_s - 20.0, place.route.length_m)
    stages = (
        Stage(
            Now(),
            (
                Show("cutter"),
                SetSpeed("cutter", cruise),
                SyncArrival("cutter", beside_s + lead_m, route_s, 1.6 * cruise),
            ),
        ),
        Stage(EgoArrives(route_s, 1.0, 5.0), (SetCue("cutter", cue),)),
        Stage(
            EgoArrives(route_s, 0.2, 2.0),
            (
                SwitchPath("cutter", onward, seconds=HIGHWAY_CHANGE_S),
                SetCruise("cutter", 0.0, 4.0, of_ego=HIGHWAY_SPEED_SHARE),
            ),
        ),
        Stage(After(HIGHWAY_CHANGE_S), (SetCruise("cutter", HIGHWAY_SLOW_SHARE * cruise, 4.0),)),
        Stage(After(HIGHWAY_SLOW_S), (SetMotion("cutter", Motion.REACTIVE), SetCue("cutter", Cue.NONE))),
        Stage(Now(), (SetCruise("cutter", place.limit_mps(route_s)),)),
        Stage(EgoPast(min(route_s + 80.0, place.end_s_m))),
    )
    return Scenario(
        "HighwayCutIn",
        place.trigger_s_m,
        (actor,),
        stages=stages,
        timeout_s=SCENARIO_TIMEOUT_S,
        keep_clear=(KeepClear(path[:, :2]), KeepClear(place.path(0.0, route_s + 60.0)[:, :2])),
    )
