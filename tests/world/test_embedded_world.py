"""The embedded world as a whole: determinism, snapshots, routes driven to their end."""

import numpy as np
import pytest
from plain_maps import crossing, straight, task

from takevla.scene.road_map import Control, RoadMap
from takevla.scene.scene import TICK_US, Controls, Scene
from takevla.world.embedded import EmbeddedWorld
from takevla.world.maps.atlas import load_town
from takevla.world.maps.route_xml import RouteTask

GO = Controls(0.0, 0.6, 0.0)
STOP = Controls(0.0, 0.0, 1.0)


def _town_task(road_map: RoadMap) -> RouteTask:
    lane = next(
        lane for lane in road_map.lanes if lane.junction < 0 and lane.length_m > 120 and lane.kind == 0
    )
    points = [(float(x), float(y)) for x, y, _ in lane.points_world[[5, len(lane.points_world) - 5]]]
    return task(points, "town")


def _world(kind: str, seed: int = 3) -> EmbeddedWorld:
    if kind == "crossing":
        return EmbeddedWorld(
            crossing(Control.SIGNAL), task([(-130.0, -1.75), (130.0, -1.75)]), seed, density=15.0
        )
    road_map = load_town("Alder01")
    return EmbeddedWorld(road_map, _town_task(road_map), seed)


def _controls(tick: int) -> Controls:
    return Controls(0.02 * np.sin(tick / 7.0), 0.5, 0.0) if tick % 90 < 50 else STOP


def _bytes(scene: Scene) -> bytes:
    actors = scene.actors
    parts = [
        np.array([scene.time_us]),
        scene.ego.position_world,
        np.array([scene.ego.speed_mps, scene.ego.heading_rad]),
        scene.lights,
        *(getattr(actors, name) for name in actors.__dataclass_fields__),
    ]
    return b"".join(np.ascontiguousarray(part).tobytes() for part in parts)


@pytest.mark.parametrize("kind", ["crossing", "town"])
def test_restore_at_any_tick_continues_bit_identically(kind: str) -> None:
    world = _world(kind)
    ticks = np.random.default_rng(0).integers(0, 300, 3)
    kept = {}
    straight_run = []
    for tick in range(340):
        if tick in ticks:
            kept[tick] = world.snapshot()
        world.tick(_controls(tick))
        straight_run.append(_bytes(world.scene()))
    for start, snapshot in kept.items():
        world.restore(snapshot)
        for tick in range(start, min(start + 60, 340)):
            world.tick(_controls(tick))
            assert _bytes(world.scene()) == straight_run[tick]


def test_a_snapshot_is_not_touched_by_driving_on() -> None:
    world = _world("crossing")
    for tick in range(20):
        world.tick(_controls(tick))
    snapshot = world.snapshot()
    before = _bytes(world.scene())
    for tick in range(50):
        world.tick(_controls(tick))
    world.restore(snapshot)
    assert _bytes(world.scene()) == before


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not() -> None:
    runs = []
    for seed in (5, 5, 6):
        world = _world("crossing", seed)
        for tick in range(120):
            world.tick(_controls(tick))
        runs.append(_bytes(world.scene()))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_a_route_driven_to_its_end_is_completed() -> None:
    world = EmbeddedWorld(straight(200.0), task([(5.0, 0.0), (150.0, 0.0)]), 0, density=0.0)
    ticks = 0
    while not world.finished:
        world.tick(GO)
        ticks += 1
    record = world.record()
    assert record.status == "Completed"
    assert record.completion_percent == 100.0
    assert record.ticks == ticks
    assert world.time_us == ticks * TICK_US
    assert len(record.speed_mps) == len(record.ttc_s) == ticks
    assert set(record.min_speed_percent) == {100.0}  # nobody else drives
    clean = [key for key, rows in record.infractions.items() if rows]
    assert clean == ["min_speed_infractions"]


def test_nothing_moves_once_the_route_has_finished() -> None:
    world = EmbeddedWorld(straight(200.0), task([(5.0, 0.0), (60.0, 0.0)]), 0, density=10.0)
    while not world.finished:
        world.tick(GO)
    before = _bytes(world.scene())
    world.tick(GO)
    assert _bytes(world.scene()) == before


def test_an_unknown_scenario_is_named_in_the_record_and_the_route_runs_without_it() -> None:
    from takevla.world.maps.route_xml import ScenarioCall

    call = ScenarioCall("Meteor_1", "Meteor", (50.0, 0.0, 0.0, 0.0), {})
    world = EmbeddedWorld(straight(200.0), task([(5.0, 0.0), (60.0, 0.0)], scenarios=(call,)), 0, density=0.0)
    while not world.finished:
        world.tick(GO)
    record = world.record()
    assert not record.scenario_started
    assert "Meteor" in record.scenario_reason
    assert record.scenario_type == "Meteor"


def test_a_trigger_off_the_route_is_named_in_the_record() -> None:
    from takevla.world.maps.route_xml import ScenarioCall

    call = ScenarioCall("Accident_1", "Accident", (50.0, 9.0, 0.0, 0.0), {})
    world = EmbeddedWorld(straight(200.0), task([(5.0, 0.0), (60.0, 0.0)], scenarios=(call,)), 0, density=0.0)
    assert "off the route" in world.record().scenario_reason


def test_background_keeps_its_distance_from_the_ego_when_it_is_put_on_stage() -> None:
    world = _world("town")
    seen: set[int] = set(world.scene().actors.id.tolist())
    for tick in range(400):
        world.tick(GO if tick % 200 < 120 else STOP)
        scene = world.scene()
        moving = scene.actors.speed_mps > 0.0
        for row in np.flatnonzero(moving & (scene.actors.kind < 10)):
            if int(scene.actors.id[row]) not in seen:
                away = np.linalg.norm(scene.actors.position_world[row] - scene.ego.position_world)
                assert away > 70.0
        seen.update(scene.actors.id.tolist())
