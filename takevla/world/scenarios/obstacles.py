"""Something stands in the lane and must be passed: accidents, parked cars, construction, bicycles, a door.

The plain types leave a lane of the same direction beside them; the `TwoWays` types only that of
oncoming traffic, which comes in a flow of `frequency` metres between vehicles (facts 1.2).
"""

from __future__ import annotations

import numpy as np

from takevla.scene.actors import ActorKind, Cue
from takevla.scene.road_map import LaneKind
from takevla.world.scenarios.place import RIGHT, Place, Points, Pose
from takevla.world.staging import (
    SCENARIO_TIMEOUT_S,
    ActorSpec,
    Command,
    EgoArrives,
    EgoPast,
    Flow,
    KeepClear,
    Motion,
    Scenario,
    SetCruise,
    SetCue,
    Show,
    Stage,
)

END_M = 50.0  # the scenario ends so far behind the last obstacle (facts 1.2)
ACCIDENT_GAPS_M = (10.0, 6.0)  # police car to first, first to second vehicle (facts 1.2)
ACCIDENT_OFFSET = 0.6  # share of half the lane's width (facts 1.2), likewise below
PARKED_OFFSET = 0.7
BICYCLE_OFFSET = 0.55
BICYCLE_GAP_M = 9.0
DOOR_REACTION_S = 3.0
DOOR_MIN_M = 10.0
ONCOMING_AHEAD_M = 210.0  # length of the oncoming flow's way before and behind the obstacle
ONCOMING_BEHIND_M = 70.0
ONCOMING_SEEN_M = 90.0  # who wants to pass could not judge a flow that starts nearer
ONCOMING_SPEED_SHARE = 0.7  # of the speed limit
DETOUR_M = 25.0  # plain road needed before the obstacle to change lanes
RETURN_M = 15.0  # and behind it


def facing(pose: Pose) -> Points:
    """A path of two points that says which way a standing actor faces."""
    return np.array([pose.point, pose.aside(0.0, 2.0).point], np.float32)


def standing(
    place: Place,
    name: str,
    kind: ActorKind,
    s_m: float,
    lateral_m: float,
    cue: Cue = Cue.NONE,
    turned_rad: float = 0.0,
) -> ActorSpec:
    """An actor that stands beside or on the route, facing along it."""
    pose = place.pose(s_m).aside(lateral_m)
    return ActorSpec(name, kind, facing(pose), cue=cue, turned_rad=turned_rad, gone_at_path_end=False)


def _passed(place: Place, last_s_m: float) -> Stage:
    return Stage(EgoPast(min(last_s_m + END_M, place.end_s_m)))


def _lane_kept_clear(place: Place, last_s_m: float) -> KeepClear:
    return KeepClear(place.path(place.trigger_s_m - 40.0, last_s_m + 30.0)[:, :2])


def _room(place: Place, first_s_m: float, last_s_m: float, two_ways: bool, side: float) -> None:
    """Nothing where the ego can pass: `side` is where the obstacle leans to."""
    place.plain_road(first_s_m - DETOUR_M, min(last_s_m + RETURN_M, place.end_s_m))
    for s_m in (first_s_m, last_s_m):
        if two_ways:
            place.opposite(s_m)
        else:
            place.beside(s_m, -side)


def _oncoming(place: Place, near_s_m: float) -> Flow:
    low, high = place.interval("frequency", 70.0, 170.0)
    # Where the road is long enough the flow starts on it: through a junction it would mix with others.
    ahead = place.oncoming_clear(near_s_m, ONCOMING_AHEAD_M)
    if ahead < ONCOMING_SEEN_M:
        ahead = ONCOMING_AHEAD_M
    return Flow(
        "oncoming",
        place.oncoming_path(near_s_m, ahead, place.clear_before(near_s_m, ONCOMING_BEHIND_M)),
        speed_mps=ONCOMING_SPEED_SHARE * place.limit_mps(near_s_m),
        gap_m=(low, high),
        kinds=(ActorKind.CAR, ActorKind.VAN),
        motion=Motion.REACTIVE,
        from_start=True,
        prefilled=True,
    )


def _obstacle(
    place: Place,
    name: str,
    actors: tuple[ActorSpec, ...],
    first_s_m: float,
    last_s_m: float,
    two_ways: bool,
    before: tuple[Stage, ...] = (),
) -> Scenario:
    flows: tuple[Flow, ...] = ()
    clear = [_lane_kept_clear(place, last_s_m)]
    if two_ways:
        flow = _oncoming(place, (first_s_m + last_s_m) / 2.0)
        flows = (flow,)
        assert flow.path_world is not None
        clear.append(KeepClear(flow.path_world[:, :2]))
    return Scenario(
        name,
        place.trigger_s_m,
        actors,
        flows,
        (*before, _passed(place, last_s_m)),
        timeout_s=SCENARIO_TIMEOUT_S,
        keep_clear=tuple(clear),
    )


def _leaning(place: Place, s_m: float, side: float, share: float) -> float:
    return side * share * place.width_m(s_m) / 2.0


def _accident(place: Place, name: str, two_ways: bool) -> Scenario:
    first = place.trigger_s_m + place.number("distance", 120.0)
    middle = first + ACCIDENT_GAPS_M[0]
    last = middle + ACCIDENT_GAPS_M[1]
    side = RIGHT if two_ways else place.side()
    _room(place, first, last, two_ways, side)
    lateral = _leaning(place, first, side, ACCIDENT_OFFSET)
    actors = (
        standing(place, "police", ActorKind.POLICE, first, lateral, Cue.EMERGENCY),
        standing(place, "crashed_rear", ActorKind.CAR, middle, lateral, Cue.HAZARD),
        standing(place, "crashed_front", ActorKind.CAR, last, lateral, Cue.HAZARD),
    )
    return _obstacle(place, name, actors, first, last, two_ways)


def accident(place: Place) -> Scenario:
    """A police car and two crashed cars block the lane; the lane beside is free."""
    return _accident(place, "Accident", two_ways=False)


def accident_two_ways(place: Place) -> Scenario:
    """The accident on a road whose only other lane is that of oncoming traffic."""
    return _accident(place, "AccidentTwoWays", two_ways=True)


def _parked(place: Place, name: str, two_ways: bool) -> Scenario:
    s_m = place.trigger_s_m + place.number("distance", 120.0)
    side = RIGHT if two_ways else place.side()
    _room(place, s_m, s_m, two_ways, side)
    kind = (ActorKind.CAR, ActorKind.VAN)[int(place.rng.integers(2))]
    car = standing(place, "parked", kind, s_m, _leaning(place, s_m, side, PARKED_OFFSET), Cue.HAZARD)
    return _obstacle(place, name, (car,), s_m, s_m, two_ways)


def parked_obstacle(place: Place) -> Scenario:
    """A car stands in the lane with its hazard lights on; the lane beside is free."""
    return _parked(place, "ParkedObstacle", two_ways=False)


def parked_obstacle_two_ways(place: Place) -> Scenario:
    """A car stands in the lane; only the oncoming lane leads past it."""
    return _parked(place, "ParkedObstacleTwoWays", two_ways=True)


def _construction(place: Place, name: str, two_ways: bool) -> Scenario:
    first = place.trigger_s_m + place.number("distance", 100.0)
    last = first + 9.0
    side = RIGHT if two_ways else place.side()
    _room(place, first, last, two_ways, side)
    inner = -side * (place.width_m(first) / 2.0 - 0.9)  # cones stand just inside the lane's far line
    actors = [
        standing(place, "board", ActorKind.WARNING_SIGN, first, 0.0),
        standing(place, "barrier_first", ActorKind.BARRIER, first + 4.0, side * 0.3),
        standing(place, "barrier_last", ActorKind.BARRIER, last, 0.0),
    ]
    actors += [standing(place, f"cone_{i}", ActorKind.CONE, first + 1.5 + 2.0 * i, inner) for i in range(4)]
    return _obstacle(place, name, tuple(actors), first, last, two_ways)


def construction_obstacle(place: Place) -> Scenario:
    """A construction site behind a lit board fills the lane; the lane beside is free."""
    return _construction(place, "ConstructionObstacle", two_ways=False)


def construction_obstacle_two_ways(place: Place) -> Scenario:
    """A construction site fills the lane; only the oncoming lane leads past it."""
    return _construction(place, "ConstructionObstacleTwoWays", two_ways=True)


def _slow_bicycles(place: Place, name: str, two_ways: bool) -> Scenario:
    first = place.trigger_s_m + place.number("distance", 100.0)
    drive = place.number("bicycle_drive_distance", 50.0)
    speed = place.number("bicycle_speed", 10.0) / 3.6
    last = first + BICYCLE_GAP_M + drive
    _room(place, first, last, two_ways, RIGHT)
    path = place.path(first, last + 2.0)
    lateral = _leaning(place, first, RIGHT, BICYCLE_OFFSET)
    actors = tuple(
        ActorSpec(
            f"bicycle_{i}",
            ActorKind.BICYCLE,
            path,
            start_s_m=i * BICYCLE_GAP_M,
            lateral_m=lateral,
            motion=Motion.SCRIPTED,
            acceleration_mps2=1.5,
            gone_at_path_end=False,
        )
        for i in range(2)
    )
    ride: tuple[Command, ...] = tuple(SetCruise(actor.name, speed) for actor in actors)
    start = Stage(EgoPast(max(place.trigger_s_m, first - END_M)), ride)
    return _obstacle(place, name, actors, first, last, two_ways, (start,))


def hazard_at_side_lane(place: Place) -> Scenario:
    """Two slow bicycles ride on the right of the lane; the lane beside is free."""
    return _slow_bicycles(place, "HazardAtSideLane", two_ways=False)


def hazard_at_side_lane_two_ways(place: Place) -> Scenario:
    """Two slow bicycles ride on the right of the lane; only the oncoming lane leads past them."""
    return _slow_bicycles(place, "HazardAtSideLaneTwoWays", two_ways=True)


def vehicle_opens_door_two_ways(place: Place) -> Scenario:
    """The door of a car parked at the kerb opens into the lane; oncoming traffic on the other."""
    s_m = place.trigger_s_m + place.number("distance", 50.0)
    side = place.side()
    place.plain_road(s_m - DETOUR_M, min(s_m + RETURN_M, place.end_s_m))
    place.opposite(s_m)
    place.beside(s_m, side, (LaneKind.PARKING, LaneKind.SHOULDER, LaneKind.BIKE))
    # The body stands clear of the lane, the open door reaches 0.9 m into it.
    lateral = side * (place.width_m(s_m) / 2.0 + 1.0)
    door = Cue.DOOR_LEFT if side == RIGHT else Cue.DOOR_RIGHT
    car = standing(place, "parked", ActorKind.CAR, s_m, lateral, Cue.PARKED)
    leaf = ActorSpec(
        "door",
        ActorKind.BOX,
        facing(place.pose(s_m).aside(side * (place.width_m(s_m) / 2.0 - 0.45), 0.6)),
        extent_m=(0.15, 1.0, 1.3),
        hidden=True,
        gone_at_path_end=False,
    )
    opened = Stage(EgoArrives(s_m, DOOR_REACTION_S, DOOR_MIN_M), (SetCue("parked", door), Show("door")))
    return _obstacle(place, "VehicleOpensDoorTwoWays", (car, leaf), s_m, s_m, True, (opened,))
