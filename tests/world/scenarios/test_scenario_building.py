"""Every scenario type can be staged where the suites ask for it, and says why where it cannot."""

import dataclasses

import numpy as np
import pytest

from takevla.bench.suites import load_suite
from takevla.scene.actors import ActorKind, Cue
from takevla.scene.road_map import LightState
from takevla.world.maps.atlas import load_town
from takevla.world.maps.route_xml import trace_task
from takevla.world.scenarios import SCENARIOS, Place, build_scenario
from takevla.world.staging import (
    AllOf,
    AnyOf,
    CannotStart,
    EgoArrives,
    EgoStopped,
    ForceSignals,
    Scenario,
    SetCruise,
    SetCue,
    Site,
)

TASKS = {task.scenarios[0].type: task for task in load_suite("dev88").tasks}


def site_of(name: str) -> Site:
    task = TASKS[name]
    road_map = load_town(task.town)
    route = trace_task(road_map, task)
    call = task.scenarios[0]
    x, y = call.trigger_world[:2]
    nearest = int(np.hypot(route.points_world[:, 0] - x, route.points_world[:, 1] - y).argmin())
    trigger_s = float(route.s_m[nearest])
    return Site(road_map, route, call.type, call.trigger_world, trigger_s, call.parameters, seed=7)


def commands(scenario: Scenario) -> list[object]:
    return [command for stage in scenario.stages for command in stage.do]


def test_there_are_the_44_types_of_bench2drive() -> None:
    assert len(SCENARIOS) == 44
    assert set(TASKS) == set(SCENARIOS)


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_a_scenario_is_complete_and_refers_only_to_its_own_actors(name: str) -> None:
    site = site_of(name)
    scenario = build_scenario(site)
    assert scenario.type == name
    assert scenario.stages, "a scenario without stages has no end"
    names = [actor.name for actor in scenario.actors]
    assert len(names) == len(set(names))
    for command in commands(scenario):
        actor = getattr(command, "actor", None)
        assert actor is None or actor in names
    for actor in scenario.actors:
        assert actor.path_world is not None
        assert np.isfinite(actor.path_world).all()
    for flow in scenario.flows:
        assert flow.path_world is not None
        assert np.isfinite(flow.path_world).all()
        assert np.linalg.norm(np.diff(flow.path_world[:, :2], axis=0), axis=1).sum() > 40.0
    assert site.trigger_s_m > 5.0
    assert site.route.length_m > site.trigger_s_m + 50.0


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_the_same_site_gives_the_same_scenario(name: str) -> None:
    first, second = build_scenario(site_of(name)), build_scenario(site_of(name))
    assert [actor.name for actor in first.actors] == [actor.name for actor in second.actors]
    for one, other in zip(first.actors, second.actors, strict=True):
        np.testing.assert_array_equal(one.path_world, other.path_world)
        assert (one.kind, one.lateral_m, one.start_s_m) == (other.kind, other.lateral_m, other.start_s_m)


def test_crossers_show_their_intent_before_they_move() -> None:
    for name in ("DynamicObjectCrossing", "ParkingCrossingPedestrian", "PedestrianCrossing"):
        scenario = build_scenario(site_of(name))
        kinds = {actor.name: actor.kind for actor in scenario.actors}
        order = [
            command
            for command in commands(scenario)
            if isinstance(command, SetCue | SetCruise) and kinds[command.actor] == ActorKind.PEDESTRIAN
        ]
        assert isinstance(order[0], SetCue)
        assert order[0].cue & Cue.CROSSING
        cues = [i for i, command in enumerate(order) if isinstance(command, SetCue)]
        moves = [i for i, command in enumerate(order) if isinstance(command, SetCruise)]
        assert max(cues) < min(moves)


def test_obstacles_carry_hazard_lights() -> None:
    for name in ("Accident", "ParkedObstacle", "ParkedObstacleTwoWays", "BlockedIntersection"):
        for actor in build_scenario(site_of(name)).actors:
            assert actor.cue & (Cue.HAZARD | Cue.EMERGENCY)


def test_the_light_is_as_the_type_says() -> None:
    states = {
        "VanillaSignalizedTurnEncounterRedLight": LightState.RED,
        "VanillaSignalizedTurnEncounterGreenLight": LightState.GREEN,
        "SignalizedJunctionLeftTurn": LightState.GREEN,
        "OppositeVehicleRunningRedLight": LightState.GREEN,
    }
    for name, expected in states.items():
        forced = [c for c in commands(build_scenario(site_of(name))) if isinstance(c, ForceSignals)]
        assert forced[0].state == expected


@pytest.mark.parametrize("name", ["VanillaSignalizedTurnEncounterRedLight", "T_Junction"])
def test_a_light_turns_green_for_an_ego_that_stands_in_the_queue_before_it(name: str) -> None:
    scenario = build_scenario(site_of(name))
    waits = [stage.when for stage in scenario.stages if isinstance(stage.when, AnyOf)]
    assert any(isinstance(when, EgoStopped) for wait in waits for when in wait.conditions)


def test_reaction_times_are_the_reference_plus_the_time_of_notice() -> None:
    scenario = build_scenario(site_of("DynamicObjectCrossing"))
    first = scenario.stages[0].when
    assert isinstance(first, AllOf)
    arrival = next(part for part in first.conditions if isinstance(part, EgoArrives))
    assert arrival.seconds == pytest.approx(2.1 + 0.7)


def test_an_unknown_type_cannot_start() -> None:
    site = dataclasses.replace(site_of("Accident"), type="FlyingSaucer")
    with pytest.raises(CannotStart, match="FlyingSaucer is not supported"):
        build_scenario(site)


def test_a_parameter_that_is_no_number_cannot_start() -> None:
    site = dataclasses.replace(site_of("Accident"), parameters={"distance": {"value": "far"}})
    with pytest.raises(CannotStart, match="distance is no number"):
        build_scenario(site)


def test_an_obstacle_beyond_the_route_cannot_start() -> None:
    site = dataclasses.replace(site_of("Accident"), parameters={"distance": {"value": "900"}})
    with pytest.raises(CannotStart, match="the route is"):
        build_scenario(site)


def test_a_place_interpolates_the_route() -> None:
    place = Place(site_of("HardBreakRoute"))
    a, b = place.pose(10.0), place.pose(11.0)
    assert np.hypot(b.x - a.x, b.y - a.y) == pytest.approx(1.0, abs=0.02)
    left = a.aside(2.0)
    cross = np.cos(a.heading) * (left.y - a.y) - np.sin(a.heading) * (left.x - a.x)
    assert cross == pytest.approx(2.0)
