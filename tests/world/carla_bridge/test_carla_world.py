"""The bridge on a CARLA-shaped facade of the embedded world: what it reads is what is there."""

from __future__ import annotations

import logging
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
from made_up_opendrive import t_junction
from short_drives import Drifter, allow

carla = pytest.importorskip("carla")

from facade import Client, Sensor, World  # noqa: E402

from takevla.dataset.collect import CollectConfig, collect_takeovers  # noqa: E402
from takevla.dataset.reader import Dataset  # noqa: E402
from takevla.driver.closed_loop import Seat, drive  # noqa: E402
from takevla.driver.expert.expert import Expert  # noqa: E402
from takevla.scene.road_map import LightState  # noqa: E402
from takevla.scene.scene import Controls  # noqa: E402
from takevla.world.camera.rig import Rig  # noqa: E402
from takevla.world.carla.client import synchronous  # noqa: E402
from takevla.world.carla.opened import open_route  # noqa: E402
from takevla.world.carla.world import CarlaWorld  # noqa: E402
from takevla.world.criteria import Event  # noqa: E402
from takevla.world.maps.atlas import load_town  # noqa: E402
from takevla.world.maps.route_xml import RouteTask  # noqa: E402

TASK = RouteTask("ahead", "Tee", np.array([[-100.0, -1.75, 0.0], [100.0, -1.75, 0.0]], np.float32))

AWAY = RouteTask("away", "Tee", np.array([[60.0, -1.75, 0.0], [100.0, -1.75, 0.0]], np.float32))


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps")
    (folder / "Tee.xodr").write_text(t_junction())
    return folder, load_town("Tee", folder)


def facade(town, tasks=(TASK,)):
    return World(town[1], (town[0] / "Tee.xodr").read_text(), tasks, seed=3)


def test_scenes_of_the_bridge_are_those_of_the_world_behind_it(town, tmp_path):
    world = facade(town)
    with synchronous(Client(world), "Tee") as live:
        bridge = CarlaWorld(live, TASK, tmp_path, warm_up_ticks=1)
        for step in range(120):
            bridge.tick(Controls(0.02 * np.sin(step), 0.6, 0.0))
            ours, theirs = bridge.scene(), world.embedded.scene()
            near = np.hypot(*(theirs.actors.position_world - theirs.ego.position_world)[:, :2].T) <= 150.0
            order = np.argsort(theirs.actors.id[near])
            for name in ("id", "kind", "role", "lane"):
                assert (
                    getattr(ours.actors, name).tolist() == getattr(theirs.actors, name)[near][order].tolist()
                )
            for name in ("position_world", "speed_mps", "acceleration_mps2", "yaw_rate_radps", "extent_m"):
                there = getattr(theirs.actors, name)[near][order]
                np.testing.assert_allclose(getattr(ours.actors, name), there, atol=1e-3)
            turned = ours.actors.heading_rad - theirs.actors.heading_rad[near][order]
            np.testing.assert_allclose(np.cos(turned), 1.0, atol=1e-6)
            assert ours.lights.tolist() == theirs.lights.tolist()
            np.testing.assert_allclose(ours.ego.position_world, theirs.ego.position_world, atol=1e-3)
            assert ours.ego.speed_mps == pytest.approx(theirs.ego.speed_mps, abs=1e-3)
            assert ours.ego.yaw_rate_radps == pytest.approx(theirs.ego.yaw_rate_radps, abs=1e-4)
        assert len(ours.actors) > 0
        assert ours.ego.speed_mps > 3.0
        bridge.close()
    assert not world.get_settings().synchronous_mode


def test_expert_drives_the_bridge_to_the_end_as_the_world_behind_it_judges(town, tmp_path):
    world = facade(town)
    with synchronous(Client(world), "Tee") as live:
        bridge = CarlaWorld(live, TASK, tmp_path)
        drive([Seat(0, bridge)], Expert())
        record, behind = bridge.record(), world.embedded.record()
        bridge.close()
    assert record.finished
    assert record.status == behind.status
    assert record.completion_percent == pytest.approx(behind.completion_percent)
    for key, messages in record.infractions.items():
        assert key == "min_speed_infractions" or messages == behind.infractions[key]
    assert bridge.control.unmatched_lights == []
    assert bridge.control.unmatched_signs == []


def test_events_of_a_reckless_drive_are_those_that_the_world_behind_it_notes(town, tmp_path):
    world = facade(town)
    with synchronous(Client(world), "Tee") as live:
        bridge = CarlaWorld(live, TASK, tmp_path, tick_limit=1300)
        while not bridge.finished:
            bridge.tick(Controls(0.0, 1.0, 0.0))
        bridge.close()
    ours, theirs = bridge.record(), world.embedded.record()
    own = [event for _, event, _ in ours.events if event != Event.TICK_LIMIT]  # the limit is the bridge's
    assert own == [event for _, event, _ in theirs.events]
    assert any(ours.infractions.values())


def test_picture_has_the_rigs_lenses_side_by_side_and_is_of_this_tick(town, tmp_path):
    world, rig = facade(town), Rig(96, 32)
    with synchronous(Client(world), "Tee") as live:
        bridge = CarlaWorld(live, TASK, tmp_path, rig)
        first = bridge.camera.render(bridge.road_map, bridge.scene())
        assert np.array_equal(first, bridge.camera.render(bridge.road_map, bridge.scene()))
        for _ in range(40):
            bridge.tick(Controls(0.0, 1.0, 0.0))
        later = bridge.camera.render(bridge.road_map, bridge.scene())
        assert first.shape == later.shape == (32, 96, 3)
        from takevla.world.camera import Camera

        straight = Camera(96, 32).render(world.road_map, world.embedded.scene())
        assert np.abs(later.astype(int) - straight.astype(int)).mean() < 6.0
        assert np.abs(later.astype(int) - first.astype(int)).mean() > 1.0
        bridge.close()
        with pytest.raises(ValueError, match="without a camera"):
            _ = bridge.camera


def test_all_actors_that_the_bridge_made_are_taken_away_even_if_it_fails(town, tmp_path):
    world = facade(town)
    with synchronous(Client(world), "Tee") as live:
        CarlaWorld(live, TASK, tmp_path, Rig(96, 32)).close()
        CarlaWorld(live, TASK, tmp_path).close()  # the place is free again
        wrong = RouteTask("off", "Other", TASK.keypoints_world)
        with pytest.raises(ValueError, match="is of Other"):
            CarlaWorld(live, wrong, tmp_path)
        bridge = CarlaWorld(live, TASK, tmp_path)
        with pytest.raises(RuntimeError, match="no snapshots"):
            bridge.snapshot()
        bridge.close()


def test_nothing_stays_on_the_server_when_a_sensor_fails(town, tmp_path, monkeypatch):
    world = facade(town)
    with synchronous(Client(world), "Tee") as live:
        with monkeypatch.context() as patch:
            patch.setattr(Sensor, "listen", failing_from(Sensor.listen, 3))
            with pytest.raises(RuntimeError, match="of call 3"):
                CarlaWorld(live, TASK, tmp_path, Rig(96, 32))  # the second lens
            assert world.made == []
        bridge = CarlaWorld(live, TASK, tmp_path, Rig(96, 32))
        monkeypatch.setattr(Sensor, "stop", failing_from(Sensor.stop, 1))
        with pytest.raises(RuntimeError, match="of call"):
            bridge.close()
        assert world.made == []


def failing_from(method, number):
    """The method, which raises from its `number`th call on."""
    calls = count(1)

    def call(self, *arguments):
        made = next(calls)
        if made >= number:
            raise RuntimeError(f"failure of call {made}")
        return method(self, *arguments)

    return call


def test_a_route_that_cannot_be_opened_is_named_and_the_others_are_collected(town, tmp_path):
    far = RouteTask("far", "Tee", TASK.keypoints_world + np.float32([0.0, 500.0, 0.0]))
    client = Client(facade(town))

    def worlds(tasks, seeds, config):
        return open_route(client, tasks, seeds, config.rig, tmp_path / "maps")

    config = CollectConfig(Rig(96, 32), longest_s=3.0, part_size=1)
    for _ in range(2):  # the second time nothing is driven
        with pytest.raises(RuntimeError, match="1 of 2 parts failed, first part 00000: route far: "):
            collect_takeovers(
                [far, TASK], Drifter, "drifter", tmp_path / "out", 0, allow, 1, config, worlds=worlds
            )
    assert [row["route"] for row in Dataset(tmp_path / "out").episodes.to_pylist()] == ["ahead"]


def test_another_towns_file_of_the_same_name_is_refused(town, tmp_path):
    (tmp_path / "Tee.xodr").write_text("something else")
    with synchronous(Client(facade(town)), "Tee") as live, pytest.raises(ValueError, match="not the map"):
        CarlaWorld(live, TASK, tmp_path)


@pytest.mark.parametrize(("task", "near"), [(TASK, True), (AWAY, False)])
def test_a_light_without_a_stop_line_is_told_before_the_route_and_noted_with_it(
    town, tmp_path, caplog, task, near
):
    world = facade(town, (task,))
    light = next(one for one in world.lights if one.get_transform().location.x < 0.0)
    light.lost = True
    with synchronous(Client(world), "Tee") as live, caplog.at_level(logging.INFO, "takevla"):
        bridge = CarlaWorld(live, task, tmp_path)
        bridge.tick(Controls(0.0, 0.5, 0.0))
        bridge.close()
    assert bridge.control.unmatched_lights == [light.id]
    assert bridge.control.unlit_signals == [light.signal]
    assert bridge.scene().lights[light.signal] == LightState.OFF
    counts = "without a stop line: 1 traffic lights, 0 stop signs; signals without a light: 1; near the route"
    names = f"traffic light {light.id}, signal {light.signal}"
    assert bridge.record().scenario_reason == f"{counts}: {names if near else 'none'}"
    warnings = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert len(warnings) == near
    assert all(names in one and "\n" not in one for one in warnings)
    assert f"route {task.id}: {counts}" in caplog.text


def test_another_town_is_loaded_unless_that_would_destroy_traffic(town, tmp_path):
    (tmp_path / "Other.xodr").write_text(t_junction())
    other = World(load_town("Other", tmp_path), t_junction(), ())
    client = Client(other, facade(town))
    car = SimpleNamespace(id=1, type_id="vehicle.tesla.model3", attributes={"role_name": "autopilot"})
    other.made.append(car)
    told = "1 vehicles and walkers in Other, which loading Tee would destroy: end the client "
    with pytest.raises(RuntimeError, match=told), synchronous(client, "Tee"):
        pass
    assert other.made == [car]
    assert not other.get_settings().synchronous_mode
    with synchronous(client, "Other") as live:  # where the traffic is it stays
        assert live is other
        assert other.made == [car]
    other.made.clear()
    with pytest.raises(RuntimeError, match="map not found: Nowhere"), synchronous(client, "Nowhere"):
        pass
    with synchronous(client, "Tee") as live:
        bridge = CarlaWorld(live, TASK, tmp_path / "maps")
        bridge.close()
    assert client.get_world() is live is not other
