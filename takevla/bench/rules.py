"""What each scenario type needs of its route, and how its parameters are drawn.

The ranges are those found in public leaderboard route files (benchmark facts 1.2), cut to what a
route of 100 to 250 m can hold.  Locations and numbers are written as a route file has them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from takevla.bench.sites import Generator, Parameters, Rule, Sampler, Way
from takevla.scene.road_map import LaneKind
from takevla.world.maps.route_xml import point_attributes
from takevla.world.scenarios.junctions import (
    FROM_LEFT,
    FROM_RIGHT,
    ONCOMING,
    arms,
    first_encounter,
    unsignalised,
)
from takevla.world.scenarios.obstacles import ONCOMING_SPEED_SHARE
from takevla.world.scenarios.place import LEFT, RIGHT, Place, Points, cut, project, walk
from takevla.world.staging import CannotStart


def _value(value: float | str) -> dict[str, str]:
    return {"value": value if isinstance(value, str) else f"{round(value, 3):g}"}


def _interval(low: float, high: float) -> dict[str, str]:
    return {"from": f"{low:g}", "to": f"{high:g}"}


def _location(point: NDArray[np.float32]) -> dict[str, str]:
    x, y, z = (round(float(value), 2) for value in point)
    return point_attributes((x, y, z, 0.0))


def _round(rng: Generator, low: float, high: float, step: float = 1.0) -> float:
    return round(float(rng.uniform(low, high)) / step) * step


def _none(place: Place, rng: Generator) -> Parameters:
    return {}


def _gaps(place: Place, rng: Generator) -> dict[str, str]:
    """Gaps of an oncoming flow: some too short to overtake in, some long enough, at any speed limit."""
    speed = ONCOMING_SPEED_SHARE * place.limit_mps(place.trigger_s_m)
    return _interval(_round(rng, 4.5 * speed, 6.5 * speed, 5), _round(rng, 17 * speed, 21 * speed, 5))


def _ahead(low: float, high: float, *names: str) -> Sampler:
    """`distance`, and with it `direction`, `frequency` or what else is named."""

    def sample(place: Place, rng: Generator) -> Parameters:
        drawn: dict[str, Mapping[str, str]] = {"distance": _value(_round(rng, low, high))}
        if "direction" in names:
            drawn["direction"] = _value("right")
        if "frequency" in names:
            drawn["frequency"] = _gaps(place, rng)
        if "speed" in names:
            drawn["speed"] = _value(_round(rng, 50, 60))
        if "crossing_angle" in names:
            drawn["crossing_angle"] = _value(_round(rng, -6, 6))
        if "offset" in names:
            drawn["offset"] = _value(_round(rng, 0.3, 0.6, 0.1))
        if "bicycle" in names:
            drawn["bicycle_drive_distance"] = _value(_round(rng, 35, 50))
            drawn["bicycle_speed"] = _value(_round(rng, 8, 12))
        return drawn

    return sample


def _sided(low: float, high: float, kinds: tuple[LaneKind, ...], *names: str) -> Sampler:
    """As `_ahead`, with the `direction` on which such a lane lies (right where both do)."""
    plain = _ahead(low, high, *names)

    def sample(place: Place, rng: Generator) -> Parameters:
        drawn = dict(plain(place, rng))
        at = place.trigger_s_m + float(drawn["distance"]["value"])
        for side, word in ((RIGHT, "right"), (LEFT, "left")):
            try:
                place.beside(at, side, kinds)
            except CannotStart:
                continue
            return {**drawn, "direction": _value(word)}
        raise CannotStart("no such lane beside the route")

    return sample


def _turn_flow(speed: tuple[float, float], gap: tuple[float, float]) -> Sampler:
    def sample(place: Place, rng: Generator) -> Parameters:
        low = _round(rng, gap[0], gap[0] + 8)
        return {
            "flow_speed": _value(_round(rng, *speed)),
            "source_dist_interval": _interval(low, low + _round(rng, gap[1] - 6, gap[1])),
        }

    return sample


def _given_flow(
    path: Points,
    rng: Generator,
    speed: tuple[float, float],
    gap: tuple[float, float],
    wider_m: float = 10.0,
) -> Parameters:
    low = _round(rng, *gap)
    return {
        "start_actor_flow": _location(path[0]),
        "end_actor_flow": _location(path[-1]),
        "flow_speed": _value(_round(rng, *speed)),
        "source_dist_interval": _interval(low, low + _round(rng, 0.8 * wider_m, 1.4 * wider_m)),
    }


def _junction_flow(side: float, speed: tuple[float, float], gap: tuple[float, float]) -> Sampler:
    """A flow through the junction ahead from one side, its ends given as locations."""

    def sample(place: Place, rng: Generator) -> Parameters:
        crossing = place.crossing()
        unsignalised(place.road_map, crossing)
        met = first_encounter(place, crossing, (side,), 70.0, 70.0)
        path = cut(met.path, met.enter_s_m - 55.0, met.meet_s_m + 45.0)
        return _given_flow(path, rng, speed, gap)

    return sample


def _merge_flow(speed: tuple[float, float], gap: tuple[float, float]) -> Sampler:
    """A flow on the main road that the route joins."""

    def sample(place: Place, rng: Generator) -> Parameters:
        road_map = place.road_map
        for lane in dict.fromkeys(place.route.lane[place.index(place.trigger_s_m) :].tolist()):
            for other in road_map.lanes[lane].yields_to:
                joined = set(road_map.lanes[other].successors) & set(road_map.lanes[lane].successors)
                if joined:
                    path = walk(road_map, other, 0.0, 110.0, road_map.lanes[other].length_m + 70.0)
                    return _given_flow(path, rng, speed, gap)
        raise CannotStart("the route does not join another road")

    return sample


def _exit_flow(place: Place, rng: Generator) -> Parameters:
    """A flow on the lane to the right of the ego's, which it must cross."""
    lane = place.beside(place.trigger_s_m, RIGHT)
    s_m = project(lane.points_world, place.pose(place.trigger_s_m).point)
    path = walk(place.road_map, lane.index, s_m, 50.0, 160.0)
    return _given_flow(path, rng, (9, 13), (18, 28))


def _emergency(place: Place, rng: Generator) -> Parameters:
    place.plain_road(place.trigger_s_m - 10.0, place.trigger_s_m + 150.0)
    return {"distance": _value(_round(rng, 50, 65))}


def _three_arms(place: Place, rng: Generator) -> Parameters:
    if arms(place.road_map, place.crossing().junction) != 3:
        raise CannotStart("the junction does not have three arms")
    return {}


def _joining_actor(place: Place, rng: Generator) -> Parameters:
    """Another vehicle on the ramp that joins the ego's road, about level with the ego."""
    road_map = place.road_map
    for lane in dict.fromkeys(place.route.lane[place.index(place.trigger_s_m) :].tolist()):
        ramps = [
            index
            for index in road_map.lanes[lane].conflicts
            if lane in road_map.lanes[index].yields_to
            and set(road_map.lanes[index].successors) & set(road_map.lanes[lane].successors)
        ]
        if ramps:
            enter = float(place.route.s_m[int(np.flatnonzero(place.route.lane == lane)[0])])
            level = enter - place.trigger_s_m
            path = walk(road_map, ramps[0], 0.0, level + _round(rng, -4, 6), 1.5)
            return {"other_actor_location": _location(path[0])}
    raise CannotStart("no ramp joins the route")


def _bicycles(place: Place, rng: Generator) -> Parameters:
    """A flow on the bicycle lane on the right of the ego's road, over the junction it turns at."""
    crossing = place.crossing()
    lane = place.road_map.lanes[crossing.approach]
    while lane.right >= 0 and lane.kind != LaneKind.BIKE:
        lane = place.road_map.lanes[lane.right]
    if lane.kind != LaneKind.BIKE:
        raise CannotStart("no bicycle lane on the right")
    path = walk(place.road_map, lane.index, lane.length_m, 45.0, 45.0)
    if math.dist(path[-1], lane.points_world[-1]) < 20.0:
        raise CannotStart("the bicycle lane ends at the junction")
    return _given_flow(path, rng, (4, 6), (16, 20), 20.0)


WALKING_MPS = 51.0 / 3.6  # people walk along roads with limits up to this
STREET_MPS = 81.0 / 3.6  # things stand in the way on roads up to this
ANY_MPS = 200.0 / 3.6
_KERB = (LaneKind.PARKING, LaneKind.SHOULDER)


def _road(
    sample: Sampler,
    before_m: tuple[float, float] = (42.0, 58.0),
    after_m: tuple[float, float] = (100.0, 125.0),
    fastest_mps: float = STREET_MPS,
) -> Rule:
    return Rule(Way.ROAD, sample, before_m=before_m, after_m=after_m, fastest_mps=fastest_mps)


def _through(way: Way, sample: Sampler = _none) -> Rule:
    return Rule(way, sample, after_m=(60.0, 85.0))


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "Accident": _road(_ahead(38, 50, "direction", "speed"), after_m=(125.0, 145.0)),
        "AccidentTwoWays": _road(_ahead(40, 52, "frequency"), after_m=(125.0, 145.0)),
        "BlockedIntersection": _through(Way.TURN),
        "ConstructionObstacle": _road(_ahead(38, 50, "direction", "speed"), after_m=(115.0, 135.0)),
        "ConstructionObstacleTwoWays": _road(_ahead(40, 52, "frequency"), after_m=(115.0, 135.0)),
        "ControlLoss": _road(_none, after_m=(120.0, 140.0)),
        "CrossingBicycleFlow": _through(Way.RIGHT, _bicycles),
        "DynamicObjectCrossing": _road(
            _ahead(34, 46, "direction", "crossing_angle"), fastest_mps=WALKING_MPS
        ),
        "EnterActorFlow": _through(Way.RIGHT, _junction_flow(FROM_LEFT, (8, 11), (20, 28))),
        "HardBreakRoute": _road(_none, after_m=(90.0, 110.0), fastest_mps=ANY_MPS),
        "HazardAtSideLane": _road(_ahead(34, 45, "speed", "bicycle"), after_m=(150.0, 170.0)),
        "HazardAtSideLaneTwoWays": _road(_ahead(34, 45, "frequency", "bicycle"), after_m=(150.0, 170.0)),
        "HighwayCutIn": Rule(
            Way.BESIDE_MERGE,
            _joining_actor,
            before_m=(90.0, 120.0),
            approach_m=(120.0, 140.0),
            after_m=(90.0, 110.0),
            fastest_mps=ANY_MPS,
        ),
        "HighwayExit": Rule(
            Way.EXIT, _exit_flow, before_m=(80.0, 110.0), after_m=(190.0, 220.0), fastest_mps=ANY_MPS
        ),
        "InterurbanActorFlow": _through(Way.LEFT, _junction_flow(ONCOMING, (9, 12), (25, 35))),
        "InterurbanAdvancedActorFlow": _through(Way.LEFT, _junction_flow(FROM_RIGHT, (9, 12), (25, 35))),
        "InvadingTurn": _road(_ahead(70, 90, "offset"), after_m=(110.0, 135.0)),
        "MergerIntoSlowTraffic": Rule(
            Way.MERGE,
            _merge_flow((6, 9), (16, 22)),
            approach_m=(70.0, 100.0),
            after_m=(90.0, 110.0),
            fastest_mps=ANY_MPS,
        ),
        "MergerIntoSlowTrafficV2": Rule(
            Way.MERGE,
            _merge_flow((8, 11), (20, 28)),
            approach_m=(100.0, 130.0),
            after_m=(90.0, 110.0),
            fastest_mps=ANY_MPS,
        ),
        "NonSignalizedJunctionLeftTurn": _through(Way.LEFT, _turn_flow((7, 10), (25, 24))),
        "NonSignalizedJunctionLeftTurnEnterFlow": _through(Way.LEFT, _turn_flow((7, 10), (25, 24))),
        "NonSignalizedJunctionRightTurn": _through(Way.RIGHT, _turn_flow((7, 10), (22, 20))),
        "OppositeVehicleRunningRedLight": _through(Way.STRAIGHT),
        "OppositeVehicleTakingPriority": _through(Way.STRAIGHT),
        "ParkedObstacle": _road(_ahead(38, 50, "direction", "speed")),
        "ParkedObstacleTwoWays": _road(_ahead(40, 52, "frequency"), after_m=(115.0, 135.0)),
        "ParkingCrossingPedestrian": _road(_sided(34, 46, _KERB, "crossing_angle"), fastest_mps=WALKING_MPS),
        "ParkingCutIn": _road(_none, fastest_mps=WALKING_MPS),
        "ParkingExit": _road(_none, before_m=(10.0, 12.0), fastest_mps=WALKING_MPS),
        "PedestrianCrossing": _through(Way.JUNCTION),
        "SequentialLaneChange": Rule(Way.LANE_CHANGE, _none, before_m=(50.0, 70.0), after_m=(140.0, 170.0)),
        "SignalizedJunctionLeftTurn": _through(Way.LEFT, _turn_flow((7, 10), (25, 24))),
        "SignalizedJunctionLeftTurnEnterFlow": _through(Way.LEFT, _turn_flow((7, 10), (25, 24))),
        "SignalizedJunctionRightTurn": _through(Way.RIGHT, _turn_flow((7, 10), (22, 20))),
        "StaticCutIn": _road(_sided(45, 60, (LaneKind.DRIVING,)), after_m=(125.0, 150.0)),
        "T_Junction": _through(Way.TURN, _three_arms),
        "VanillaNonSignalizedTurn": _through(Way.TURN),
        "VanillaNonSignalizedTurnEncounterStopsign": _through(Way.JUNCTION),
        "VanillaSignalizedTurnEncounterGreenLight": _through(Way.TURN),
        "VanillaSignalizedTurnEncounterRedLight": _through(Way.JUNCTION),
        "VehicleOpensDoorTwoWays": _road(
            _sided(38, 50, _KERB, "frequency"), after_m=(115.0, 135.0), fastest_mps=WALKING_MPS
        ),
        "VehicleTurningRoute": _through(Way.TURN),
        "VehicleTurningRoutePedestrian": _through(Way.TURN),
        "YieldToEmergencyVehicle": _road(
            _emergency, before_m=(70.0, 85.0), after_m=(250.0, 300.0), fastest_mps=ANY_MPS
        ),
    }
)
