import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from short_drives import CONFIG, Drifter, allow, short_tasks

from takevla.dataset.collect import DemonstrationConfig, collect_expert, collect_takeovers
from takevla.dataset.reader import Dataset, numpy_column
from takevla.dataset.schema import FRAMES
from takevla.driver.expert import Expert, Margins
from takevla.takeover.commentary import parse
from takevla.takeover.shadow import TakeoverConfig
from takevla.world.maps.route_xml import RouteTask

TASKS = 6  # three parts, of which a kill leaves one


def content(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()
    }


def collect(out: Path, workers: int = 1) -> None:
    collect_takeovers(short_tasks(TASKS), Drifter, "drifter", out, 3, allow, workers, CONFIG)


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("taken") / "data"
    collect(out)
    return out


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shown") / "data"
    collect_expert(short_tasks(2), out, 3, allow, 1, CONFIG)
    return out


def test_a_drifting_policy_is_taken_over_and_the_window_before_is_labelled(taken: Path) -> None:
    dataset = Dataset(taken, verify=True)
    takeovers = dataset.takeovers.to_pylist()
    assert takeovers
    assert {t["trigger"] for t in takeovers} <= {"follow", "collision", "restart", "rule"}
    time, role, of = (dataset.column(name) for name in ("time_us", "role", "takeover"))
    for takeover in takeovers:
        mine = of == takeover["takeover"]
        before, during = time[mine & (role == "pre_takeover")], time[mine & (role == "takeover")]
        assert takeover["start_us"] in during
        assert (during >= takeover["start_us"]).all()
        assert (during < takeover["end_us"]).all()
        assert (before >= takeover["start_us"] - 3_000_000).all()
        assert (before < takeover["start_us"]).all()
        if len(before):
            assert before.min() == takeover["window_start_us"]
    for text in dataset.column("enhanced_commentary")[role == "pre_takeover"]:
        if text:
            parse(text)
    assert (dataset.column("enhanced_commentary")[role != "pre_takeover"] == "").all()


def test_the_expert_drives_exactly_while_a_takeover_lasts(taken: Path) -> None:
    dataset = Dataset(taken)
    driver, phase, role = (dataset.column(name) for name in ("driver", "phase", "role"))
    assert ((driver == "policy") == (phase == "autonomous")).all()
    assert ((role == "takeover") == (driver == "expert")).all()


def test_every_instant_of_an_attempt_is_kept_with_both_plans(taken: Path) -> None:
    dataset = Dataset(taken)
    for episode in dataset.episodes.to_pylist():
        mine = dataset.column("episode") == episode["episode"]
        np.testing.assert_array_equal(dataset.column("time_us")[mine], 250_000 * np.arange(episode["frames"]))
        controls = dataset.frames.column("applied_controls").filter(mine).to_pylist()
        assert sum(len(row) for row in controls) == 3 * episode["duration_us"] // 50_000
    for plan in ("policy_route_ego", "policy_waypoints_ego", "expert_route_ego", "expert_waypoints_ego"):
        assert np.isfinite(dataset.column(plan)).all()
    assert dataset.image(0).shape == (32, 96, 3)


def test_each_frame_keeps_the_picture_of_half_a_second_before(taken: Path) -> None:
    dataset = Dataset(taken)
    frames = np.flatnonzero(dataset.column("episode") == dataset.column("episode")[0])
    for k in (0, 1, 2, 7):
        now, past = np.split(dataset.pictures(int(frames[k]), past=True), 2, axis=-1)
        np.testing.assert_array_equal(now, dataset.image(int(frames[k])))
        np.testing.assert_array_equal(past, dataset.image(int(frames[max(k - 2, 0)])))
    table = pq.read_table(taken / FRAMES / "part-00000.parquet", columns=["past_image"])
    assert set(table.column("past_image").to_pylist()) == {b""}  # nothing is stored twice


def test_the_past_picture_of_a_demonstration_is_taken_by_a_camera_that_stands_alike(shown: Path) -> None:
    dataset = Dataset(shown)
    speed, time, turned = (dataset.column(name) for name in ("speed_mps", "time_us", "camera_yaw_rad"))
    pictures = [dataset.pictures(k, past=True).astype(float) for k in range(len(dataset))]
    apart = np.array([np.abs(both[..., 3:] - both[..., :3]).mean() for both in pictures])
    assert (apart[time == 0] == 0).all()
    still = (speed < 0.01) & (time > 0)
    turns = np.flatnonzero(np.abs(turned[1:]) > 0.05)
    jumps = np.array([np.abs(pictures[k + 1][..., :3] - pictures[k][..., :3]).mean() for k in turns])
    assert apart[turns + 1].mean() < 0.5 * jumps.mean()  # against what the wandering camera would show
    assert (apart[speed > 2.0] > 0).all()
    assert still.sum() == 0 or np.median(apart[still]) < np.median(apart[speed > 2.0])


def test_scenes_cover_each_takeover_and_what_led_to_it(taken: Path) -> None:
    dataset = Dataset(taken)
    for takeover in dataset.takeovers.to_pylist():
        low, high = max(0, takeover["start_us"] - 4_000_000), takeover["end_us"]
        times = [scene.time_us for scene in dataset.scenes(takeover["episode"], low, high)]
        assert times == list(range(low, high + 1, 50_000))
        start = dataset.scenes(takeover["episode"], takeover["start_us"], takeover["start_us"])
        np.testing.assert_allclose(start[0].ego.position_world, takeover["position_world"], atol=1e-4)


def test_two_workers_write_the_same_bytes_as_one(taken: Path, tmp_path: Path) -> None:
    collect(tmp_path / "two", workers=2)
    assert content(tmp_path / "two") == content(taken)


KILLED = """
import os, sys, pathlib
sys.path.insert(0, sys.argv[2])
from short_drives import CONFIG, Drifter, allow, short_tasks
from takevla.scale import Silent
from takevla.dataset.collect import collect_takeovers
class Die(Silent):
    def progress(self, index, share):
        if index == 1:
            os.kill(os.getpid(), 9)
out = pathlib.Path(sys.argv[1])
collect_takeovers(short_tasks(6), Drifter, "drifter", out, 3, allow, 1, CONFIG, listener=Die())
"""


def test_a_killed_collection_goes_on_to_the_same_bytes(taken: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(out), str(Path(__file__).parents[1])], check=False
    )
    assert run.returncode == -9
    assert len(Dataset(out).episodes) == 2  # the first part was committed
    collect(out)
    assert content(out) == content(taken)


def test_demonstrations_hold_shifted_views_and_pushes_of_the_wheel(shown: Path) -> None:
    dataset = Dataset(shown, verify=True)
    assert set(dataset.column("role")) == {"pretrain"}
    assert set(dataset.column("driver")) == {"expert"}
    offset = dataset.column("camera_offset_y_m")
    assert (offset == 0.0).any()
    assert (offset != 0.0).any()
    assert np.isnan(dataset.column("policy_route_ego")).all()
    assert np.isfinite(dataset.column("expert_waypoints_ego")).all()
    for text in set(dataset.column("expert_commentary")):
        parse(text)
    assert not list((shown / "scenes").iterdir())


def test_episodes_tell_success_and_where_they_were_driven(shown: Path) -> None:
    episodes = Dataset(shown).episodes
    assert episodes.column("success").to_pylist() == [True, True]
    assert (numpy_column(episodes, "distance_m") > 30.0).all()
    assert set(episodes.column("town").to_pylist()) == {"Alder01"}


def test_refused_tasks_leave_nothing_behind(tmp_path: Path) -> None:
    def refuse(tasks: Sequence[RouteTask]) -> None:
        raise ValueError(f"route {tasks[0].id} is a validation route")

    with pytest.raises(ValueError, match="validation route"):
        collect_expert(short_tasks(1), tmp_path / "out", 0, refuse, 1, CONFIG)
    assert not (tmp_path / "out" / FRAMES).exists()


def test_another_seed_in_the_same_folder_is_refused(shown: Path) -> None:
    with pytest.raises(ValueError, match="other settings"):
        collect_expert(short_tasks(2), shown, 4, allow, 1, CONFIG)


def test_the_expert_keeps_the_margins_that_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = []

    class Spied(Expert):
        def __init__(self, period_us: int, margins: Margins) -> None:
            super().__init__(period_us, margins)
            kept.append(margins)

    monkeypatch.setattr("takevla.dataset.collect.Expert", Spied)
    wide, wider = Margins(before_s=2.0), Margins(before_s=5.0)
    collect_expert(short_tasks(1), tmp_path / "shown", 3, allow, 1, CONFIG, DemonstrationConfig(margins=wide))
    collect_takeovers(
        short_tasks(1),
        Drifter,
        "drifter",
        tmp_path / "taken",
        3,
        allow,
        1,
        CONFIG,
        TakeoverConfig(margins=wider),
    )
    assert kept == [wide, wider]
