"""Every scenario type by the name that leaderboard route files use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from takevla.world.scenarios import (
    crossers,
    cut_ins,
    give_way,
    merges,
    obstacles,
    plain_turns,
    runners,
    sudden,
    turns,
)
from takevla.world.scenarios.place import Place
from takevla.world.staging import CannotStart, Scenario, Site

ScenarioType = Callable[[Place], Scenario]

SCENARIOS: Mapping[str, ScenarioType] = MappingProxyType(
    {
        "Accident": obstacles.accident,
        "AccidentTwoWays": obstacles.accident_two_ways,
        "BlockedIntersection": sudden.blocked_intersection,
        "ConstructionObstacle": obstacles.construction_obstacle,
        "ConstructionObstacleTwoWays": obstacles.construction_obstacle_two_ways,
        "ControlLoss": sudden.control_loss,
        "CrossingBicycleFlow": merges.crossing_bicycle_flow,
        "DynamicObjectCrossing": crossers.dynamic_object_crossing,
        "EnterActorFlow": merges.enter_actor_flow,
        "HardBreakRoute": sudden.hard_brake_route,
        "HazardAtSideLane": obstacles.hazard_at_side_lane,
        "HazardAtSideLaneTwoWays": obstacles.hazard_at_side_lane_two_ways,
        "HighwayCutIn": cut_ins.highway_cut_in,
        "HighwayExit": merges.highway_exit,
        "InterurbanActorFlow": merges.interurban_actor_flow,
        "InterurbanAdvancedActorFlow": merges.interurban_advanced_actor_flow,
        "InvadingTurn": give_way.invading_turn,
        "MergerIntoSlowTraffic": merges.merger_into_slow_traffic,
        "MergerIntoSlowTrafficV2": merges.merger_into_slow_traffic_v2,
        "NonSignalizedJunctionLeftTurn": turns.non_signalized_junction_left_turn,
        "NonSignalizedJunctionLeftTurnEnterFlow": turns.non_signalized_junction_left_turn_enter_flow,
        "NonSignalizedJunctionRightTurn": turns.non_signalized_junction_right_turn,
        "OppositeVehicleRunningRedLight": runners.opposite_vehicle_running_red_light,
        "OppositeVehicleTakingPriority": runners.opposite_vehicle_taking_priority,
        "ParkedObstacle": obstacles.parked_obstacle,
        "ParkedObstacleTwoWays": obstacles.parked_obstacle_two_ways,
        "ParkingCrossingPedestrian": crossers.parking_crossing_pedestrian,
        "ParkingCutIn": cut_ins.parking_cut_in,
        "ParkingExit": merges.parking_exit,
        "PedestrianCrossing": crossers.pedestrian_crossing,
        "SequentialLaneChange": merges.sequential_lane_change,
        "SignalizedJunctionLeftTurn": turns.signalized_junction_left_turn,
        "SignalizedJunctionLeftTurnEnterFlow": turns.signalized_junction_left_turn_enter_flow,
        "SignalizedJunctionRightTurn": turns.signalized_junction_right_turn,
        "StaticCutIn": cut_ins.static_cut_in,
        "T_Junction": plain_turns.t_junction,
        "VanillaNonSignalizedTurn": plain_turns.non_signalized_turn,
        "VanillaNonSignalizedTurnEncounterStopsign": plain_turns.stop_sign_turn,
        "VanillaSignalizedTurnEncounterGreenLight": plain_turns.green_light_turn,
        "VanillaSignalizedTurnEncounterRedLight": plain_turns.red_light_turn,
        "VehicleOpensDoorTwoWays": obstacles.vehicle_opens_door_two_ways,
        "VehicleTurningRoute": crossers.vehicle_turning_route,
        "VehicleTurningRoutePedestrian": crossers.vehicle_turning_route_pedestrian,
        "YieldToEmergencyVehicle": give_way.yield_to_emergency_vehicle,
    }
)


def build_scenario(site: Site) -> Scenario:
    """Stage `site.type` at the site.

    Raises:
        CannotStart: when the type is unknown or the site does not offer what it needs.
    """
    build = SCENARIOS.get(site.type)
    if build is None:
        raise CannotStart(f"scenario type {site.type} is not supported")
    return build(Place(site))
