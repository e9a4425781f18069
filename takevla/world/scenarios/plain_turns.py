"""Junctions whose only task is to obey what rules them: lights, stop signs, right of way."""

from __future__ import annotations

from takevla.scene.road_map import Control, LightState
from takevla.world.scenarios.flows import timed_flow
from takevla.world.scenarios.junctions import (
    FROM_LEFT,
    FROM_RIGHT,
    ONCOMING,
    ego_signals,
    first_encounter,
    light_plan,
    signalised,
    stop_control,
    unsignalised,
)
from takevla.world.scenarios.place import Crossing, Place
from takevla.world.staging import (
    SCENARIO_TIMEOUT_S,
    After,
    AnyOf,
    CannotStart,
    EgoArrives,
    EgoPast,
    EgoStopped,
    KeepClear,
    Now,
    Scenario,
    Stage,
)

GREEN_DELAY_S = 5.0  # facts 1.2, likewise below
END_M = 10.0
AT_LINE_M = 14.0  # the delay counts once the ego's centre is so near to the junction ...
QUEUED_S = 1.0  # ... or has stood for so long in the queue before it
CROSS_SPEED_MPS = 8.0
CROSS_GAP_M = (22.0, 45.0)


def _end(place: Place, crossing: Crossing) -> Stage:
    return Stage(EgoPast(min(crossing.exit_s_m + END_M, place.end_s_m)))


def _red_then_green(place: Place, crossing: Crossing) -> tuple[Stage, ...]:
    road_map = place.road_map
    return (
        Stage(Now(), light_plan(road_map, crossing, LightState.RED, LightState.GREEN)),
        Stage(AnyOf((EgoArrives(crossing.enter_s_m, 0.1, AT_LINE_M), EgoStopped(QUEUED_S)))),
        Stage(After(GREEN_DELAY_S), light_plan(road_map, crossing, LightState.GREEN)),
    )


def red_light_turn(place: Place) -> Scenario:
    """The light is red when the ego comes and turns green 5 s after it has come close."""
    crossing = place.crossing()
    signalised(place.road_map, crossing)
    stages = (*_red_then_green(place, crossing), _end(place, crossing))
    return Scenario("VanillaSignalizedTurnEncounterRedLight", place.trigger_s_m, stages=stages)


def green_light_turn(place: Place) -> Scenario:
    """The light is green and stays so."""
    crossing = place.crossing()
    signalised(place.road_map, crossing)
    green = Stage(Now(), light_plan(place.road_map, crossing, LightState.GREEN))
    return Scenario(
        "VanillaSignalizedTurnEncounterGreenLight",
        place.trigger_s_m,
        stages=(green, _end(place, crossing)),
    )


def stop_sign_turn(place: Place) -> Scenario:
    """A stop sign rules the ego's approach."""
    crossing = place.crossing()
    if stop_control(place.road_map, crossing) != Control.STOP_SIGN:
        raise CannotStart("no stop sign rules the approach")
    return Scenario(
        "VanillaNonSignalizedTurnEncounterStopsign", place.trigger_s_m, stages=(_end(place, crossing),)
    )


def non_signalized_turn(place: Place) -> Scenario:
    """A junction without lights or stop sign, where traffic with right of way crosses."""
    crossing = place.crossing()
    unsignalised(place.road_map, crossing)
    if stop_control(place.road_map, crossing) == Control.STOP_SIGN:
        raise CannotStart("a stop sign rules the approach")
    return _with_cross_traffic(place, crossing, "VanillaNonSignalizedTurn")


def _with_cross_traffic(place: Place, crossing: Crossing, name: str) -> Scenario:
    met = first_encounter(place, crossing, (FROM_LEFT, FROM_RIGHT, ONCOMING), 60.0, 40.0)
    end = min(crossing.exit_s_m + END_M, place.end_s_m)
    actors, flows, stages = timed_flow(
        place, met.path, met.meet_s_m, met.meet_route_s_m, end, CROSS_SPEED_MPS, CROSS_GAP_M
    )
    return Scenario(
        name,
        place.trigger_s_m,
        actors,
        flows,
        stages,
        timeout_s=SCENARIO_TIMEOUT_S,
        keep_clear=(KeepClear(met.path[:, :2]), KeepClear(place.path(0.0, crossing.exit_s_m)[:, :2])),
    )


def t_junction(place: Place) -> Scenario:
    """A junction (of three arms in the suites): red at first, or crossing traffic where it has no lights."""
    crossing = place.crossing()
    if ego_signals(place.road_map, crossing):
        stages = (*_red_then_green(place, crossing), _end(place, crossing))
        return Scenario("T_Junction", place.trigger_s_m, stages=stages, timeout_s=SCENARIO_TIMEOUT_S)
    return _with_cross_traffic(place, crossing, "T_Junction")
