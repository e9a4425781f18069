"""The leaderboard agent: coordinates cross the border once, noise is filtered, any checkpoint drives."""

import importlib
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from short_drives import Drifter
from tiny_vla import tiny_model, tiny_tokenizer

from takevla.bench.carla.agent_config import agent_config
from takevla.bench.carla.localisation import EARTH_RADIUS_M, Localiser, compass_heading, solve_reference
from takevla.bench.carla.motion_log import METRIC_INFO
from takevla.bench.carla.navigation import Navigator
from takevla.bench.carla.plugin import takevla_agent
from takevla.bench.carla.sensors import lens_id, picture, sensor_list
from takevla.bench.comfort import read_metric_info
from takevla.driver.vla.checkpoint import Checkpoint, save_checkpoint
from takevla.scene.plan import Observation, Plan
from takevla.world.camera.rig import SIMLINGO_RIG, Rig

LATITUDE, LONGITUDE = 49.0, 8.0  # reference of a town
TICK_S = 0.05


def gps(x: float, y_right: float) -> dict[str, float]:
    """What the leaderboard gives for a place in CARLA's frame: a scaled Mercator projection."""
    scale = math.cos(math.radians(LATITUDE))
    east = scale * EARTH_RADIUS_M * math.radians(LONGITUDE) + x
    north = scale * EARTH_RADIUS_M * math.log(math.tan(math.radians(45 + LATITUDE / 2))) - y_right
    latitude = 2 * math.degrees(math.atan(math.exp(north / (EARTH_RADIUS_M * scale)))) - 90
    return {"lat": latitude, "lon": math.degrees(east / (EARTH_RADIUS_M * scale)), "z": 0.0}


def place(x: float, y_right: float) -> Any:
    return SimpleNamespace(location=SimpleNamespace(x=x, y=y_right, z=0.0))


# East for 60 m, then south (CARLA's +y), which is a right turn.
POINTS = [(100.0, 50.0), (130.0, 50.0), (160.0, 50.0), (160.0, 90.0)]
OPTIONS = [4, 2, 4, 4]
WORLD_PLAN = [(place(*point), SimpleNamespace(value=option)) for point, option in zip(POINTS, OPTIONS)]
GPS_PLAN = [(gps(*point), SimpleNamespace(value=option)) for point, option in zip(POINTS, OPTIONS)]


def readings(rig: Rig, x: float, y_right: float, compass: float, speed: float) -> dict[str, Any]:
    fix = gps(x, y_right)
    shape = (rig.oversampling * rig.height, rig.oversampling * rig.lens_width, 4)
    images = {lens_id(k): (0, np.full(shape, 40 * (k + 1), np.uint8)) for k in range(len(rig.lens_yaws_deg))}
    return images | {
        "GNSS": (0, np.array([fix["lat"], fix["lon"], 0.0])),
        "IMU": (0, np.array([0.5, 0.0, 9.81, 0.0, 0.0, 0.0, compass])),
        "SPEED": (0, {"speed": speed}),
    }


def test_the_configuration_string_that_grows_names_the_last_route() -> None:
    config = agent_config("/models/a+first+second+third", {"SAVE_PATH": "/save"})
    assert (config.driver, config.save_name, config.folder) == ("/models/a", "third", Path("/save/third"))
    assert agent_config("shipped", {"SAVE_PATH": "/save"}).folder is None
    assert config.device == "cpu"
    assert agent_config("shipped", {"TAKEVLA_DEVICE": "cuda:1"}).device == "cuda:1"
    with pytest.raises(ValueError, match="--agent-config"):
        agent_config("+first", {})


def test_lenses_sit_and_look_as_the_rig_says_in_carlas_frame() -> None:
    rig = Rig(mount_m=(-1.5, 0.3, 2.0))
    cameras = [one for one in sensor_list(rig) if one["type"] == "sensor.camera.rgb"]
    assert [one["yaw"] for one in cameras] == [-32.5, 32.5, 0.0]  # the first lens looks left
    assert [one["fov"] for one in cameras] == [65.0, 65.0, 22.0]
    assert {one["y"] for one in cameras} == {-0.3}
    with pytest.raises(ValueError, match="allows 3 m"):
        sensor_list(Rig(mount_m=(-4.0, 0.0, 2.0)))


def test_lenses_are_asked_for_as_many_times_as_large_as_the_rig_says() -> None:
    def sizes(rig: Rig) -> set[tuple[int, int]]:
        return {(one["width"], one["height"]) for one in sensor_list(rig) if "LENS" in one["id"]}

    assert sizes(Rig()) == {(512, 512)}
    assert sizes(SIMLINGO_RIG) == {(1024, 512)}
    assert picture(readings(SIMLINGO_RIG, 0, 0, 0, 0), SIMLINGO_RIG).shape == (512, 1024, 3)


def test_bgra_lenses_become_one_rgb_picture() -> None:
    rig = Rig(width=24, height=8)
    data = readings(rig, 0, 0, 0, 0)
    data[lens_id(1)][1][..., 0] = 7  # blue
    image = picture(data, rig)
    assert image.shape == (8, 24, 3)
    assert image[0, 0].tolist() == [40, 40, 40]
    assert image[0, 8].tolist() == [80, 80, 7]
    data[lens_id(2)] = (0, np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(ValueError, match="LENS_2"):
        picture(data, rig)


def test_the_reference_is_solved_from_the_plan_and_noise_is_filtered() -> None:
    world = np.array([(x, -y) for x, y in POINTS])
    reference = solve_reference([point for point, _ in GPS_PLAN], world)
    fix = gps(123.0, -456.0)
    np.testing.assert_allclose(reference.position_world(fix["lat"], fix["lon"]), [123.0, 456.0], atol=1e-4)
    assert compass_heading(math.pi / 2) == pytest.approx(0.0)  # east is CARLA's +x
    assert compass_heading(math.pi) == pytest.approx(-math.pi / 2)  # south is CARLA's +y, our right
    rng = np.random.default_rng(0)
    localiser, errors, raw = Localiser(reference), [], []
    for tick in range(600):
        x = 100.0 + 8.0 * TICK_S * tick
        fix = gps(x, 50.0)
        noisy = (fix["lat"] + rng.normal(0, 5e-6), fix["lon"] + rng.normal(0, 5e-6))
        localiser.update(*noisy, math.nan if tick % 50 == 7 else math.pi / 2, 8.0)
        assert localiser.position_world is not None
        errors.append(np.linalg.norm(localiser.position_world - [x, -50.0]))
        raw.append(np.linalg.norm(reference.position_world(*noisy) - [x, -50.0]))
    assert np.mean(errors[200:]) < 0.3 * np.mean(raw[200:])


def test_targets_move_on_and_keep_the_command_of_their_stretch() -> None:
    navigator = Navigator(WORLD_PLAN)
    targets, option, following = navigator.targets(np.array([100.0, -50.0]), 0.0)
    np.testing.assert_allclose(targets, [[30, 0], [60, 0]], atol=1e-5)
    assert (option, following) == (4, 2)
    targets, option, following = navigator.targets(np.array([155.0, -50.0]), 0.0)
    np.testing.assert_allclose(targets, [[5, -40], [5, -40]], atol=1e-5)  # to the right is negative
    assert (option, following) == (4, 4)


SMALL_RIG = Rig(96, 32)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(folder, Checkpoint(tiny_model(), tiny_tokenizer(), rig=SMALL_RIG))
    return folder


def test_a_checkpoint_drives_and_leaves_its_logs(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAVE_PATH", str(tmp_path))
    monkeypatch.setenv("TAKEVLA_HEARTBEAT", str(tmp_path / "beat"))
    rig = SMALL_RIG
    text, answers = str(checkpoint), []
    for name in ("first", "second"):  # one process, one string that grows
        text += f"+{name}"
        agent = getattr(takevla_agent, takevla_agent.get_entry_point())("localhost", 2000, False)
        agent.set_global_plan(GPS_PLAN, WORLD_PLAN)
        agent.setup(text)
        assert len(agent.sensors()) == 6
        answers.append([
            agent.run_step(readings(rig, 100 + 0.4 * k, 50, math.pi / 2, 8.0), k * TICK_S) for k in range(12)
        ])  # fmt: skip
        agent.destroy()
    first, second = ([(one.steer, one.throttle, one.brake) for one in row] for row in answers)
    assert first == second  # nothing is left of the route before
    assert all(
        -1 <= steer <= 1 and 0 <= throttle <= 1 and 0 <= brake <= 1 for steer, throttle, brake in first
    )
    motion = read_metric_info(tmp_path / "second" / METRIC_INFO)
    np.testing.assert_allclose(motion.lon_acceleration_mps2, 0.5, atol=1e-6)
    words = (tmp_path / "second" / "commentary.jsonl").read_text().splitlines()
    assert [json.loads(line)["time_us"] for line in words] == [0, 250000, 500000]
    assert (tmp_path / "beat").exists()


class Watcher(Drifter):
    """Keeps what it was shown."""

    rig = SMALL_RIG

    def __init__(self) -> None:
        self.shown: list[Observation] = []

    def plan(self, observations: Sequence[Observation]) -> list[Plan]:
        self.shown += observations
        return super().plan(observations)


def test_the_driver_is_shown_the_picture_of_half_a_second_before(monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = Watcher()
    monkeypatch.setattr(takevla_agent, "_loaded", lambda name, device: watcher)
    agent = takevla_agent.TakeVlaAgent("localhost", 2000)
    agent.setup("watcher")
    agent.set_global_plan(GPS_PLAN, WORLD_PLAN)
    for tick in range(21):
        data = readings(SMALL_RIG, 100 + 0.4 * tick, 50, math.pi / 2, 8.0)
        for lens in range(3):
            data[lens_id(lens)][1][...] = tick
        agent.run_step(data, tick * TICK_S)
    now, past = ([int(image.max()) for image in images] for images in zip(*map(both, watcher.shown)))
    assert now == [0, 5, 10, 15, 20]
    assert past == [0, 0, 0, 5, 10]


def both(observation: Observation) -> tuple[Any, Any]:
    return observation.image, observation.past_image


def test_a_missing_plan_and_a_missing_sensor_are_named(checkpoint: Path) -> None:
    agent = takevla_agent.TakeVlaAgent("localhost", 2000)
    agent.setup(str(checkpoint))
    with pytest.raises(ValueError, match="set_global_plan"):
        agent.run_step({}, 0.0)
    agent.set_global_plan(GPS_PLAN, WORLD_PLAN)
    with pytest.raises(ValueError, match="no sensor 'GNSS'"):
        agent.run_step({}, 0.0)


def test_answers_are_the_clients_own_type_where_it_is_installed(checkpoint: Path) -> None:
    carla = pytest.importorskip("carla")
    agent = takevla_agent.TakeVlaAgent("localhost", 2000)
    agent.setup(str(checkpoint))
    agent.set_global_plan(GPS_PLAN, WORLD_PLAN)
    answer = agent.run_step(readings(Rig(width=96, height=32), 100, 50, math.pi / 2, 8.0), 0.0)
    assert isinstance(answer, carla.VehicleControl)


def test_on_the_leaderboards_path_it_is_its_subclass_and_shadows_nothing(tmp_path: Path) -> None:
    package = tmp_path / "leaderboard" / "autoagents"
    package.mkdir(parents=True)
    (package / "autonomous_agent.py").write_text(
        "from enum import Enum\n\nclass Track(Enum):\n    SENSORS = 'SENSORS'\n\n"
        "class AutonomousAgent:\n    def get_metric_info(self):\n        return {'theirs': 1}\n"
    )
    folder = Path(takevla_agent.__file__).parent
    root = Path(importlib.import_module("takevla").__file__ or "").parents[1]
    script = f"""
import sys
sys.path[:0] = [{str(folder)!r}, {str(tmp_path)!r}, {str(root)!r}]  # as the leaderboard does
import takevla_agent
from leaderboard.autoagents.autonomous_agent import AutonomousAgent
import statistics
kind = getattr(takevla_agent, takevla_agent.get_entry_point())
assert issubclass(kind, AutonomousAgent)
assert kind().get_metric_info() == {{'theirs': 1}}
assert 'takevla' not in statistics.__file__
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
