"""Dreams of takeovers on an OpenDRIVE map, rebuilt from the dataset and the map's file alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import made_up_opendrive as made
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from short_drives import CONFIG, Drifter, allow
from tiny_vla import tiny_model, tiny_tokenizer

from takevla.dataset.collect import collect_takeovers
from takevla.dataset.reader import Dataset
from takevla.driver.vla.policy import OWN_WORDS, VlaDriver
from takevla.driver.vla.residual import MODES
from takevla.learn.dream import closed, sift
from takevla.learn.dream.audit import AuditLimits, expert_is_safe
from takevla.learn.dream.calm import calm_scenes
from takevla.learn.dream.closed import ClosedDreams
from takevla.learn.dream.config import ClosedConfig, DreamConfig
from takevla.learn.dream.rank import Replayer, driven
from takevla.learn.dream.reading import anchor_rows
from takevla.learn.dream.reconstruct import _stop_lines, rebuild
from takevla.learn.dream.records import Records
from takevla.learn.dream.reward import preset
from takevla.learn.dream.scenes import CELL_M, DRIVABLE, RASTER_BEHIND_M, RASTER_SIDE_M
from takevla.learn.dream.sift import sifted
from takevla.learn.dream.simulate import roll_out
from takevla.learn.dream.spoken import opening_ids
from takevla.learn.dream.verdict import drive_on, world_verdict
from takevla.scene.geometry import to_ego
from takevla.scene.road_map import Control, RoadMap
from takevla.scene.scene import Scene
from takevla.world.maps.atlas import load_town
from takevla.world.maps.route_xml import RouteTask

TOWN = "Made"
WESTERN_ARM = np.array([[-100.0, -1.75, 0.0], [-40.0, -1.75, 0.0]], np.float32)
TASK = RouteTask("0", TOWN, WESTERN_ARM)


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("maps")
    (folder / f"{TOWN}.xodr").write_text(made.t_junction())
    return folder


@pytest.fixture(scope="module")
def taken(maps: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    out = tmp_path_factory.mktemp("taken") / "data"
    config = replace(CONFIG, density=0.0, maps_dir=maps)
    collect_takeovers([TASK], Drifter, "drifter", out, 0, allow, 1, config)
    return Dataset(out)


def test_takeovers_on_an_opendrive_map_are_rebuilt_and_replayed(taken: Dataset, maps: Path) -> None:
    assert len(taken.takeovers) > 0
    rebuilt = rebuild(taken, starts_s=(1.0, 0.0), horizon_s=2.0, maps_dir=maps)
    assert rebuilt.scenes
    for scene in rebuilt.scenes:
        assert scene.replay_error_m < 0.05
        assert scene.replay_error_deg < 0.5
        row, column = round(RASTER_SIDE_M / CELL_M), round(RASTER_BEHIND_M / CELL_M)
        assert scene.raster[row, column] & DRIVABLE  # the ego stands on the road
        assert np.hypot(*scene.route.T).min() < 2.0  # and beside its route
    assert any(expert_is_safe(scene) for scene in rebuilt.scenes)


def test_a_town_whose_file_is_not_given_is_asked_for_by_name(taken: Dataset, tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        with pytest.raises((ValueError, FileNotFoundError), match=TOWN):
            rebuild(taken, starts_s=(0.0,), horizon_s=2.0, maps_dir=folder)


def test_calm_dreams_repeat_the_drive_where_nothing_was_amiss(taken: Dataset, maps: Path) -> None:
    limits = AuditLimits()
    found = calm_scenes(taken, 6, horizon_s=2.0, reacting=1.0, limits=limits, seed=0, maps_dir=maps)
    assert found
    assert len(found) <= 6
    role, driver = taken.column("role"), taken.column("driver")
    for scene in found:
        row = scene.frame_row
        assert role[row] in ("other", "takeover")
        assert limits.replays(scene)
        assert expert_is_safe(scene)
        travelled_m = float(np.hypot(*np.diff(scene.expert_trajectory[:, :2], axis=0).T).sum())
        asked = taken.column(f"{driver[row]}_waypoints_ego")[row].reshape(-1, 2)
        np.testing.assert_array_equal(scene.policy_plan.waypoints_ego, asked)
        assert travelled_m <= 2.0 * 20.0
    again = calm_scenes(taken, 6, horizon_s=2.0, reacting=1.0, limits=limits, seed=0, maps_dir=maps)
    assert [scene.frame_row for scene in again] == [scene.frame_row for scene in found]
    assert not calm_scenes(taken, 0, horizon_s=2.0, reacting=1.0, limits=limits, seed=0, maps_dir=maps)


def test_open_dreams_of_a_head_begin_where_the_ego_moves(
    taken: Dataset, maps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rebuilt = rebuild(taken, starts_s=(1.5, 1.0, 0.5, 0.0), horizon_s=2.0, maps_dir=maps)
    every = sifted(rebuilt, DreamConfig(kind="closed"))[0]
    speeds = [scene.ego_speed_mps for scene in every]
    least_mps = (min(speeds) + max(speeds)) / 2.0
    monkeypatch.setattr(sift, "MOVING_MPS", least_mps)
    kept, report = sifted(rebuilt, DreamConfig())
    assert [scene.frame_row for scene in kept] == [
        scene.frame_row for scene in every if scene.ego_speed_mps >= least_mps
    ]
    assert 0 < len(kept) < len(every)
    assert report.left_out["the ego stands, where no head has a say"] == len(every) - len(kept)
    ordinary = taken.column("speed_mps")[anchor_rows(taken, 64, 0, least_mps)]
    assert len(ordinary) == 0 or ordinary.min() >= least_mps
    calm = calm_scenes(
        taken, 6, horizon_s=2.0, reacting=1.0, limits=AuditLimits(), seed=0, least_mps=3.0, maps_dir=maps
    )
    assert calm
    assert min(scene.ego_speed_mps for scene in calm) >= 3.0


def test_a_closed_dream_of_calm_driving_lasts_as_long_as_asked(taken: Dataset, maps: Path) -> None:
    scene = calm_scenes(taken, 1, horizon_s=2.0, reacting=1.0, limits=AuditLimits(), seed=0, maps_dir=maps)[0]
    record = Records(taken, 1.0, 0, maps).record(scene, 2.0, 6.0)
    assert record.ticks == 40
    np.testing.assert_allclose(record.scene.expert_trajectory, scene.expert_trajectory)


class _Paints:
    """A camera that keeps the scenes it is shown."""

    def __init__(self) -> None:
        self.seen: list[Scene] = []

    def render(
        self, road_map: RoadMap, scene: Scene, offset_y_m: float = 0.0, yaw_offset_rad: float = 0.0
    ) -> NDArray[np.uint8]:
        self.seen.append(scene)
        return np.zeros((32, 96, 3), np.uint8)


def test_a_closed_dream_replans_between_the_steps_of_its_record(taken: Dataset, maps: Path) -> None:
    scenes = rebuild(taken, starts_s=(0.0,), horizon_s=2.0, maps_dir=maps).scenes[:1]
    camera, driver = _Paints(), VlaDriver(tiny_model(), tiny_tokenizer())
    dreams = ClosedDreams(
        taken, scenes, driver, camera, ClosedConfig(replan_s=0.25, longest_s=2.0, group=2), preset("pdm"),
        Records(taken, 1.0, 0, maps), least_s=2.0, seed=0,
    )  # fmt: skip
    decided = dreams.dream([0], 2, lambda features: torch.zeros(len(features), MODES))
    assert decided.taken.shape == (1, 2 * 8)
    begin = int(taken.column("time_us")[scenes[0].frame_row])
    times = sorted({scene.time_us - begin for scene in camera.seen})
    assert times == [250_000 * k for k in range(len(times))]
    assert len(times) > 1


class _Dated(_Paints):
    """A camera whose pictures say when they were taken."""

    def render(
        self, road_map: RoadMap, scene: Scene, offset_y_m: float = 0.0, yaw_offset_rad: float = 0.0
    ) -> NDArray[np.uint8]:
        super().render(road_map, scene, offset_y_m, yaw_offset_rad)
        return np.full((32, 96, 3), len({seen.time_us for seen in self.seen}), np.uint8)


def test_a_model_that_sees_the_past_sees_the_record_first_and_then_what_was_dreamed(
    taken: Dataset, maps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = rebuild(taken, starts_s=(0.0,), horizon_s=2.0, maps_dir=maps).scenes[:1]
    model = tiny_model()
    model.see_past(2)
    driver, shown = VlaDriver(model, tiny_tokenizer()), []
    think = driver.think
    monkeypatch.setattr(
        driver, "think", lambda images, *rest, **how: shown.append(images) or think(images, *rest, **how)
    )
    dreams = ClosedDreams(
        taken, scenes, driver, _Dated(), ClosedConfig(replan_s=0.25, longest_s=2.0, group=2), preset("pdm"),
        Records(taken, 1.0, 0, maps), least_s=2.0, seed=0,
    )  # fmt: skip
    dreams.dream([0], 2, lambda features: torch.zeros(len(features), MODES))
    recorded = taken.pictures(scenes[0].frame_row, past=True)[..., 3:]
    np.testing.assert_array_equal(shown[0][0, ..., 3:].numpy(), recorded)
    assert len(shown) > 3
    for k, images in enumerate(shown):
        assert (images[..., :3] == k + 1).all()
        if k >= 2:
            assert (images[..., 3:] == k - 1).all()


def test_dreams_of_words_branch_at_the_openings_and_go_on_where_they_were_cut_off(
    taken: Dataset, maps: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scenes = rebuild(taken, starts_s=(0.5, 0.0), horizon_s=2.0, maps_dir=maps).scenes[:2]
    driver = VlaDriver(tiny_model(), tiny_tokenizer())
    config = ClosedConfig(replan_s=0.5, longest_s=2.0, hold_s=1.0, least_share=0.05)
    dreams = ClosedDreams(
        taken, scenes, driver, _Paints(), config, preset("pdm"), Records(taken, 1.0, 0, maps),
        least_s=2.0, seed=0,
    )  # fmt: skip
    ids, asked, think = opening_ids(driver.tokenizer), [], driver.think
    monkeypatch.setattr(
        driver, "think", lambda *given, opens: asked.append(list(opens)) or think(*given, opens=opens)
    )
    share = np.full((2, len(ids)), 0.01)
    share[:, 0] = share[:, 1] = 0.48
    monkeypatch.setattr(closed, "BRANCHED_AT_ONCE", 1)
    rewards, failed = dreams.branches([0, 1], share, ids, state=tmp_path / "kept.npz")
    assert rewards.shape == failed.shape == (2, len(ids))
    assert asked[:2] == [list(ids[:2])] * 2  # for a second, two plans
    assert all(set(opens) == {OWN_WORDS} for opens in asked[2:4])
    for row in range(2):
        assert (rewards[row, 2:] == rewards[row, :2].min()).all()
        assert (failed[row, 2:] == failed[row, :2].max()).all()
    asked.clear()
    again = dreams.branches([0, 1], share, ids, state=tmp_path / "kept.npz")
    assert not asked
    np.testing.assert_array_equal(again[0], rewards)
    with pytest.raises(ValueError, match="of other dreams"):
        dreams.branches([0, 1], share[:, ::-1], ids, state=tmp_path / "kept.npz")
    with pytest.raises(ValueError, match="of other dreams"):
        dreams.branches([0, 1], share, ids, state=tmp_path / "kept.npz", settings="others")
    alone = dreams.opened(1, ids[:2])
    np.testing.assert_array_equal(preset("pdm")(alone)[0], rewards[1, :2])


def test_the_recorded_plan_drives_in_the_world_as_it_does_in_the_dream(taken: Dataset, maps: Path) -> None:
    scene = rebuild(taken, starts_s=(0.0,), horizon_s=2.0, maps_dir=maps).scenes[0]
    begin = int(taken.column("time_us")[scene.frame_row])
    episode = str(taken.column("episode")[scene.frame_row])
    world = Replayer(taken, [TASK], maps).world(episode, begin)
    assert world is not None
    lived = driven(drive_on(world, scene))
    plan = scene.policy_plan
    dreamed = roll_out(scene, plan.route_ego[None], plan.waypoints_ego[None], scene.steps).poses[0]
    np.testing.assert_allclose(lived[:, :2], dreamed[:, :2], atol=0.05)
    asked = replace(scene, trigger="collision")
    verdict = world_verdict(taken, [asked, scene], [TASK], limits=AuditLimits(), maps_dir=maps)
    assert verdict.world_asked == {"collision": 0, "follow": 1, "restart": 0, "rule": 0}
    assert verdict.world_failures["follow"] == 1
    assert verdict.world_recall_follow == 1.0
    verdict = world_verdict(taken, [asked], [TASK], limits=AuditLimits(), maps_dir=maps)
    assert verdict.world_asked["collision"] == 1
    assert verdict.world_failures["collision"] == 0  # there is nobody to hit
    assert verdict.world_recall_collision is None
    elsewhere = world_verdict(taken, [asked], [], limits=AuditLimits(), maps_dir=maps)
    assert sum(elsewhere.world_left_out.values()) == 1


def test_a_stop_line_of_the_lane_beside_counts_and_one_that_faces_the_other_way_does_not() -> None:
    """A policy that changes lanes runs the neighbour's light, but not the light of those who come."""
    town = load_town("Alder01")
    lights = {line.lane for line in town.stop_lines if line.control == Control.SIGNAL}
    own = next(lane for lane in town.lanes if lane.index in lights and lane.left in lights)
    x, y, _ = own.points_world[0]
    heading = float(own.heading_rad[0])
    route = to_ego(own.points_world[:, :2].astype(float), np.array([x, y]), heading)
    record = [SimpleNamespace(lights=np.zeros(len(town.signals), np.int64))]
    found = [
        _stop_lines(town, lanes, route.astype(np.float32), record, np.array([x, y]), heading)[0]
        for lanes in ({own.index}, {own.index, own.left})
    ]
    assert len(found[0]) >= 2
    np.testing.assert_array_equal(found[0], found[1])
    back = _stop_lines(town, set(), route[::-1].astype(np.float32), record, np.array([x, y]), heading)[0]
    ours = {tuple(line) for line in found[0].round(3).tolist()}
    assert not ours & {tuple(line) for line in back.round(3).tolist()}
