"""The ego joins, leaves or crosses a flow of traffic whose way the route file gives.

`start_actor_flow` and `end_actor_flow` are the flow's source and sink, `flow_speed` its speed and
`source_dist_interval` the gaps between its vehicles (facts 1.2).
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from takevla.scene.actors import ActorKind, Cue
from takevla.scene.road_map import NO_LANE, LaneKind, LightState
from takevla.world.scenarios.flows import CARS, timed_flow
from takevla.world.scenarios.junctions import ego_signals, light_plan
from takevla.world.scenarios.obstacles import standing
from takevla.world.scenarios.place import Place, Points, cut, meeting, nearest, project, walk
from takevla.world.staging import (
    SCENARIO_TIMEOUT_S,
    ActorSpec,
    CannotStart,
    Command,
    EgoPast,
    Flow,
    KeepClear,
    Motion,
    Now,
    Scenario,
    Stage,
)

SINK_M = 2.0  # facts 1.2
PARKING_EXIT_END_M = 50.0
BICYCLES = (ActorKind.BICYCLE,)
BICYCLE_SNAP_M = 3.0  # a flow of bicycles starts so near to a bicycle lane, or goes with the cars
BAY_GAP_M = 9.0  # centre to centre (facts 1.2: front/behind_vehicle_distance)


def _crossed_flow(place: Place, name: str, kinds: tuple[ActorKind, ...], speed: float) -> Scenario:
    """A flow that the route meets at a junction."""
    path = _given_path(place, kinds)
    crossing = place.crossing()
    met = meeting(place.path(crossing.enter_s_m - 2.0, place.route.length_m), path)
    if met is None:
        raise CannotStart("the flow does not meet the route")
    meet_route_s = max(crossing.enter_s_m - 2.0, 0.0) + met[0]
    gap = place.interval("source_dist_interval", 20.0, 40.0)
    speed = max(place.number("flow_speed", speed), 0.5)
    end = min(max(crossing.exit_s_m, meet_route_s) + 10.0, place.end_s_m)
    lamps = light_plan(place.road_map, crossing, LightState.GREEN)
    actors, flows, stages = timed_flow(
        place, path, met[1], meet_route_s, end, speed, gap, kinds, at_trigger=lamps
    )
    return Scenario(
        name,
        place.trigger_s_m,
        actors,
        flows,
        stages,
        timeout_s=SCENARIO_TIMEOUT_S,
        keep_clear=(KeepClear(path[:, :2]), KeepClear(place.path(0.0, crossing.exit_s_m)[:, :2])),
    )


def _given_path(place: Place, kinds: tuple[ActorKind, ...]) -> Points:
    """The way from `start_actor_flow` to `end_actor_flow`."""
    start, end = place.point("start_actor_flow"), place.point("end_actor_flow")
    if start is None or end is None:
        raise CannotStart("parameters start_actor_flow and end_actor_flow are missing")
    return _bicycle_path(place, start, end) if kinds == BICYCLES else place.traced(start, end)


def _joined_flow(place: Place, name: str, kinds: tuple[ActorKind, ...], speed: float) -> Scenario:
    """A flow that the route joins or leaves, on the road from the start."""
    path = _given_path(place, kinds)
    flow = Flow(
        "traffic",
        path,
        speed_mps=max(place.number("flow_speed", speed), 0.5),
        gap_m=place.interval("source_dist_interval", 5.0, 10.0),
        kinds=kinds,
        motion=Motion.REACTIVE,
        from_start=True,
        prefilled=True,
        most=16,
    )
    # Done where the ego comes past the sink, or where its route leaves the flow for good.
    ahead = place.path(place.trigger_s_m, place.route.length_m)
    sink_s, sink_gap = nearest(ahead, tuple(path[-1].tolist()))
    end_s = place.trigger_s_m + sink_s + SINK_M
    if sink_gap > 8.0:
        gaps = np.linalg.norm(ahead[:, None, :2] - path[None, :, :2], axis=2).min(axis=1)
        beside = np.flatnonzero(gaps < 5.0)
        if len(beside) == 0:
            raise CannotStart("the flow does not come near the route")
        end_s = place.trigger_s_m + float(beside[-1]) + 10.0
    return Scenario(
        name,
        place.trigger_s_m,
        flows=(flow,),
        stages=(Stage(Now(), _green_way(place, end_s)), Stage(EgoPast(min(end_s, place.end_s_m)))),
        timeout_s=SCENARIO_TIMEOUT_S,
        keep_clear=(KeepClear(path[:, :2]), KeepClear(place.path(0.0, place.trigger_s_m + 20.0)[:, :2])),
    )


def _green_way(place: Place, end_s_m: float) -> tuple[Command, ...]:
    """Green for the ego at a light before `end_s_m`: the flow goes by car-following alone, past any light."""
    try:
        crossing = place.crossing()
    except CannotStart:
        return ()
    if crossing.enter_s_m > end_s_m or not ego_signals(place.road_map, crossing):
        return ()
    return light_plan(place.road_map, crossing, LightState.GREEN)


def _bicycle_path(place: Place, start: tuple[float, ...], end: tuple[float, ...]) -> Points:
    """Along bicycle lanes from start to end, along driving lanes where there are none."""
    bike_lanes = [lane for lane in place.road_map.lanes if lane.kind == LaneKind.BIKE]
    near = [(nearest(lane.points_world, start), lane.index) for lane in bike_lanes]
    (s_m, gap_m), index = min(near, key=lambda item: item[0][1], default=((0.0, math.inf), NO_LANE))
    if gap_m <= BICYCLE_SNAP_M:
        path = walk(place.road_map, index, s_m, 0.0, 2.0 * math.dist(start[:2], end[:2]))
        end_s, end_gap = nearest(path, end)
        if end_gap <= 2.0 * BICYCLE_SNAP_M:
            return cut(path, 0.0, end_s)
    return place.traced((start[0], start[1], start[2]), (end[0], end[1], end[2]))


def merger_into_slow_traffic(place: Place) -> Scenario:
    """The ego comes from a ramp and must find room in a slow, dense flow."""
    return _joined_flow(place, "MergerIntoSlowTraffic", CARS, 10.0)


def merger_into_slow_traffic_v2(place: Place) -> Scenario:
    """The same where the ego's own lane goes on and others come from the ramp."""
    return _joined_flow(place, "MergerIntoSlowTrafficV2", CARS, 10.0)


def enter_actor_flow(place: Place) -> Scenario:
    """The ego enters a junction or ramp whose far side a fast flow uses."""
    return _crossed_flow(place, "EnterActorFlow", CARS, 12.0)


def highway_exit(place: Place) -> Scenario:
    """The ego must cross a flow on the lane beside to reach its exit."""
    return _joined_flow(place, "HighwayExit", CARS, 15.0)


def interurban_actor_flow(place: Place) -> Scenario:
    """The ego turns across or into a fast flow on a road between towns."""
    return _crossed_flow(place, "InterurbanActorFlow", CARS, 15.0)


def interurban_advanced_actor_flow(place: Place) -> Scenario:
    """The ego crosses one fast flow and enters another."""
    return _crossed_flow(place, "InterurbanAdvancedActorFlow", CARS, 15.0)


def crossing_bicycle_flow(place: Place) -> Scenario:
    """Bicycles on their own lane cross the ego's way at a junction."""
    return _crossed_flow(place, "CrossingBicycleFlow", BICYCLES, 8.0)


def sequential_lane_change(place: Place) -> Scenario:
    """The route changes lanes more than once in a row, with traffic on the lanes it changes to."""
    route = place.route
    first = place.index(place.trigger_s_m)
    lanes = list(dict.fromkeys(int(lane) for lane in route.lane[first:]))
    road_map = place.road_map
    targets = [
        lane
        for before, lane in pairwise(lanes)
        if lane in (road_map.lanes[before].left, road_map.lanes[before].right)
    ]
    if not targets:
        raise CannotStart("the route does not change lanes behind the trigger")
    changed = int(np.flatnonzero(route.lane == targets[-1])[0])
    flows = []
    for i, lane in enumerate(dict.fromkeys(targets)):
        s_m = project(road_map.lanes[lane].points_world, place.pose(place.trigger_s_m).point)
        path = walk(road_map, lane, s_m, 40.0, route.length_m - place.trigger_s_m)
        flows.append(
            Flow(
                f"traffic_{i}",
                path,
                speed_mps=place.cruise_mps(place.trigger_s_m),
                gap_m=(20.0, 40.0),
                kinds=CARS,
                motion=Motion.REACTIVE,
                from_start=True,
                prefilled=True,
            )
        )
    end = Stage(EgoPast(min(float(route.s_m[changed]) + 20.0, place.end_s_m)))
    return Scenario(
        "SequentialLaneChange",
        place.trigger_s_m,
        flows=tuple(flows),
        stages=(end,),
        timeout_s=SCENARIO_TIMEOUT_S,
    )


def parking_exit(place: Place) -> Scenario:
    """The ego starts from a parking bay between two parked cars."""
    side = place.side()
    s_m = max(place.trigger_s_m, 0.0)
    lane = place.beside(s_m, side, (LaneKind.PARKING, LaneKind.SHOULDER))
    if lane.index == NO_LANE:
        raise CannotStart("no parking lane")
    lateral = side * (place.width_m(s_m) + max(float(lane.width_m.mean()), 2.1)) / 2.0
    front = s_m + place.number("front_vehicle_distance", BAY_GAP_M)
    actors: tuple[ActorSpec, ...] = (standing(place, "front", ActorKind.CAR, front, lateral, Cue.PARKED),)
    behind = s_m - place.number("behind_vehicle_distance", BAY_GAP_M)
    if behind > 0.0:
        actors += (standing(place, "behind", ActorKind.CAR, behind, lateral, Cue.PARKED),)
    start = place.pose(s_m).aside(lateral)
    return Scenario(
        "ParkingExit",
        place.trigger_s_m,
        actors,
        stages=(Stage(EgoPast(min(s_m + PARKING_EXIT_END_M, place.end_s_m))),),
        timeout_s=SCENARIO_TIMEOUT_S,
        keep_clear=(KeepClear(place.path(s_m - 15.0, s_m + 25.0)[:, :2]),),
        ego_start_world=(start.x, start.y, start.heading),
    )
