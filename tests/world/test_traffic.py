"""Background traffic: it flows, stops where it must, and does not run into itself."""

import numpy as np
import pytest
from plain_maps import crossing, straight, task

from takevla.scene.geometry import boxes_overlap
from takevla.scene.road_map import Control, LightState, RoadMap
from takevla.scene.scene import Controls
from takevla.world.embedded import EmbeddedWorld
from takevla.world.maps.atlas import load_town
from takevla.world.staging import ActorSpec, Motion, Scenario
from takevla.world.state import EGO, ON_STAGE
from takevla.world.traffic import IDM_HEADWAY_S, IDM_STANDSTILL_M, idm

STOP = Controls(0.0, 0.0, 1.0)
CAR = 0
FAR_UP_M = 60.0


def _without_ego(
    road_map: RoadMap, route: list[tuple[float, float]], seed: int, density: float
) -> EmbeddedWorld:
    """A world whose ego is lifted out of everybody's way and never blocks."""
    world = EmbeddedWorld(road_map, task(route), seed, density=density, tick_limit=3000)
    world._state.actors["z"][EGO] = FAR_UP_M
    return world


def _keep_going(world: EmbeddedWorld) -> np.ndarray:
    world.tick(STOP)
    world._state.marks[13] = 0.0  # the ego is not blocked, it is not there
    actors = world._state.actors
    return np.flatnonzero(
        (actors["stage"] == ON_STAGE) & (np.arange(len(actors)) > 0) & (actors["kind"] <= 10)
    )


def _town_route(name: str) -> tuple[RoadMap, list[tuple[float, float]]]:
    road_map = load_town(name)
    lane = max(
        (lane for lane in road_map.lanes if lane.kind == 0 and lane.junction < 0),
        key=lambda each: len(each.successors),
    )
    rows = lane.points_world[[2, len(lane.points_world) - 3]]
    return road_map, [(float(x), float(y)) for x, y, _ in rows]


@pytest.mark.parametrize("where", ["signals", "stop signs", "priority", "Alder01", "Birch02"])
def test_nobody_collides_and_traffic_flows_for_a_minute(where: str) -> None:
    controls = {"signals": Control.SIGNAL, "stop signs": Control.STOP_SIGN, "priority": None}
    if where in controls:
        road_map, route = crossing(controls[where]), [(-100.0, -1.75), (-20.0, -1.75)]
        density = 20.0
    else:
        road_map, route = _town_route(where)
        density = 10.0
    world = _without_ego(road_map, route, 1, density)
    actors = world._state.actors
    speeds, most = [], 0
    for tick in range(1200):
        on = _keep_going(world)
        most = max(most, len(on))
        moving = on[actors["motion"][on] != Motion.STATIC]
        speeds.append(actors["speed"][moving].mean() if len(moving) else np.nan)
        if tick % 5:
            continue
        boxes = [tuple(float(actors[k][i]) for k in ("x", "y", "heading", "length", "width")) for i in on]
        for a in range(len(on)):
            for b in range(a):
                if abs(actors["z"][on[a]] - actors["z"][on[b]]) < 3.0:
                    assert not boxes_overlap(*boxes[a], *boxes[b])
    assert most >= 4
    assert np.nanmean(speeds[-600:]) > 2.5


def test_no_front_crosses_a_line_at_red() -> None:
    world = _without_ego(crossing(Control.SIGNAL), [(-100.0, -1.75), (-20.0, -1.75)], 2, 25.0)
    actors, queue, paths = world._state.actors, world._state.queue, world._paths
    front: dict[int, tuple[int, float]] = {}
    crossed = 0
    for _ in range(1200):
        lights = world._state.light.copy()
        for i in _keep_going(world):
            path, at = int(queue[i, 0]), float(actors["s"][i] + 0.5 * actors["length"][i])
            number = int(actors["id"][i])
            last = front.get(number)
            if last and last[0] == path and path < 4:
                line = float(paths.lanes["stop_s"][path])
                if last[1] <= line < at:
                    crossed += 1
                    assert lights[path] != LightState.RED
            front[number] = (path, at)
    assert crossed > 5


def test_everybody_stands_before_a_stop_line_is_crossed() -> None:
    world = _without_ego(crossing(Control.STOP_SIGN), [(-100.0, -1.75), (-20.0, -1.75)], 4, 20.0)
    actors, queue, paths = world._state.actors, world._state.queue, world._paths
    stood: set[int] = set()
    entered: set[int] = set()
    for _ in range(1600):
        for i in _keep_going(world):
            path, number = int(queue[i, 0]), int(actors["id"][i])
            if path in (1, 3):
                left = paths.lanes["stop_s"][path] - actors["s"][i] - 0.5 * actors["length"][i]
                if left < 4.0 and actors["speed"][i] < 0.1:
                    stood.add(number)
            elif path >= 8 and (path - 8) // 3 in (1, 3):
                entered.add(number)
    assert len(entered) > 3
    assert entered <= stood


def test_the_gap_behind_a_steady_leader_is_the_models_equilibrium() -> None:
    road_map = straight(800.0)
    leader = ActorSpec(
        "leader", CAR, lanes=(0,), start_s_m=120.0, speed_mps=8.0, cruise_mps=8.0, motion=Motion.SCRIPTED
    )
    follower = ActorSpec(
        "follower", CAR, lanes=(0,), start_s_m=80.0, speed_mps=8.0, cruise_mps=13.0, motion=Motion.REACTIVE
    )
    world = EmbeddedWorld(
        road_map,
        task([(2.0, 0.0), (60.0, 0.0)]),
        0,
        density=0.0,
        staged=[Scenario("Pair", 0.0, (leader, follower))],
    )
    for _ in range(1000):
        world.tick(STOP)
    actors = world._state.actors
    gap = actors["s"][1] - actors["s"][2] - actors["length"][1]
    wanted = (IDM_STANDSTILL_M + 8.0 * IDM_HEADWAY_S) / np.sqrt(1.0 - (8.0 / 13.0) ** 4)
    assert actors["speed"][2] == pytest.approx(8.0, abs=0.1)
    assert gap == pytest.approx(wanted, abs=0.8)


def test_model_acceleration_falls_with_speed_and_with_a_smaller_gap() -> None:
    assert (
        idm(0.0, 10.0, np.inf, 0.0, 2.0)
        > idm(5.0, 10.0, np.inf, 0.0, 2.0)
        > idm(10.0, 10.0, np.inf, 0.0, 2.0) - 1e-9
    )
    assert idm(5.0, 10.0, 50.0, 5.0, 2.0) > idm(5.0, 10.0, 10.0, 5.0, 2.0)


def test_a_vehicle_behind_a_standing_one_changes_lanes_on_a_wide_road() -> None:
    road_map = straight(800.0, lanes=2)
    stands = ActorSpec("stands", CAR, lanes=(0,), start_s_m=300.0)
    comes = ActorSpec("comes", CAR, lanes=(0,), start_s_m=150.0, speed_mps=10.0, motion=Motion.TRAFFIC)
    world = EmbeddedWorld(
        road_map,
        task([(2.0, 0.0), (60.0, 0.0)]),
        0,
        density=0.0,
        staged=[Scenario("Pass", 0.0, (stands, comes))],
    )
    heading = []
    for _ in range(700):
        world.tick(STOP)
        heading.append(abs(float(world._state.actors["heading"][2])))
    assert world._state.actors["s"][2] > 320.0
    assert world._state.queue[2, 0] == 1
    assert max(heading) < 0.3  # smooth


def test_traffic_stops_for_the_ego() -> None:
    comes = ActorSpec("comes", CAR, lanes=(0,), start_s_m=10.0, speed_mps=12.0, motion=Motion.TRAFFIC)
    world = EmbeddedWorld(
        straight(400.0),
        task([(100.0, 0.0), (300.0, 0.0)]),
        0,
        density=0.0,
        staged=[Scenario("Stop", 0.0, (comes,))],
    )
    for _ in range(400):
        world.tick(STOP)
    actors = world._state.actors
    gap = actors["x"][EGO] - actors["x"][1] - 0.5 * (actors["length"][EGO] + actors["length"][1])
    assert 1.0 < gap < 4.0
    assert actors["speed"][1] < 0.1
