"""The ego turns at a junction across or into a flow of others."""

from __future__ import annotations

from takevla.scene.road_map import LightState, Turn
from takevla.world.scenarios.flows import timed_flow
from takevla.world.scenarios.junctions import (
    FROM_LEFT,
    FROM_RIGHT,
    ONCOMING,
    first_encounter,
    light_plan,
    signalised,
    turn_of,
    unsignalised,
)
from takevla.world.scenarios.place import Place, cut
from takevla.world.staging import (
    SCENARIO_TIMEOUT_S,
    CannotStart,
    KeepClear,
    Scenario,
)

LEFT_SOURCE, LEFT_SINK = 4.0, 2.5  # multiples of flow_speed, before and behind the junction (facts 1.2)
RIGHT_SOURCE, RIGHT_SINK = 5.0, 3.0
END_M = 10.0
LEAST_SOURCE_M = 45.0  # nothing appears nearer to the junction than this


def _turn(
    place: Place, name: str, turn: Turn, sides: tuple[float, ...], source: float, sink: float, lights: bool
) -> Scenario:
    crossing = place.crossing()
    (signalised if lights else unsignalised)(place.road_map, crossing)
    if turn_of(place.road_map, crossing) != turn:
        raise CannotStart(f"the route does not turn {turn.name.lower()} at the junction")
    speed = max(place.number("flow_speed", 8.0), 1.0)
    reach = speed * (max(source, sink) + 1.0) + 60.0
    met = first_encounter(place, crossing, sides, reach, reach)
    start_s = max(0.0, met.enter_s_m - max(source * speed, LEAST_SOURCE_M))
    inside_m = place.road_map.lanes[met.connector].length_m
    end_s = max(met.enter_s_m + inside_m, met.meet_s_m) + sink * speed
    path = cut(met.path, start_s, end_s)
    # The ego and the flow meet on green; the flow itself goes by car-following alone.
    lamps = light_plan(place.road_map, crossing, LightState.GREEN) if lights else ()
    gap = place.interval("source_dist_interval", 25.0, 50.0)
    end = min(max(crossing.exit_s_m, met.meet_route_s_m) + END_M, place.end_s_m)
    actors, flows, stages = timed_flow(
        place, path, met.meet_s_m - start_s, met.meet_route_s_m, end, speed, gap, at_trigger=lamps
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


def signalized_junction_left_turn(place: Place) -> Scenario:
    """Left turn on green across oncoming traffic that is green as well."""
    return _turn(
        place, "SignalizedJunctionLeftTurn", Turn.LEFT, (ONCOMING,), LEFT_SOURCE, LEFT_SINK, lights=True
    )


def non_signalized_junction_left_turn(place: Place) -> Scenario:
    """Left turn without lights across oncoming traffic, or that from the side at a T-junction."""
    sides = (ONCOMING, FROM_RIGHT, FROM_LEFT)
    return _turn(
        place, "NonSignalizedJunctionLeftTurn", Turn.LEFT, sides, LEFT_SOURCE, LEFT_SINK, lights=False
    )


def signalized_junction_left_turn_enter_flow(place: Place) -> Scenario:
    """Left turn at lights into the road on which others come from the right."""
    sides = (FROM_RIGHT, ONCOMING)
    return _turn(
        place,
        "SignalizedJunctionLeftTurnEnterFlow",
        Turn.LEFT,
        sides,
        LEFT_SOURCE,
        LEFT_SINK,
        lights=True,
    )


def non_signalized_junction_left_turn_enter_flow(place: Place) -> Scenario:
    """Left turn without lights into the road on which others come from the right."""
    sides = (FROM_RIGHT, ONCOMING)
    return _turn(
        place,
        "NonSignalizedJunctionLeftTurnEnterFlow",
        Turn.LEFT,
        sides,
        LEFT_SOURCE,
        LEFT_SINK,
        lights=False,
    )


def signalized_junction_right_turn(place: Place) -> Scenario:
    """Right turn at lights into the road on which others come from the left."""
    sides = (FROM_LEFT, ONCOMING)
    return _turn(
        place, "SignalizedJunctionRightTurn", Turn.RIGHT, sides, RIGHT_SOURCE, RIGHT_SINK, lights=True
    )


def non_signalized_junction_right_turn(place: Place) -> Scenario:
    """Right turn without lights into the road on which others come from the left."""
    sides = (FROM_LEFT, ONCOMING)
    return _turn(
        place, "NonSignalizedJunctionRightTurn", Turn.RIGHT, sides, RIGHT_SOURCE, RIGHT_SINK, lights=False
    )
