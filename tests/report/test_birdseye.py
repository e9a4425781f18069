"""Pictures from above and clips: what is where, in which colour, and files that are whole or absent."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from hand_made_town import make_scene, make_town

from takevla.report.birdseye import EGO_AT, LIGHT_RGB, RANGE_M, DrawnPlan, draw_birdseye
from takevla.report.clips import clip_writer, compose, moved_plan, overlay_plan
from takevla.scene.actors import ActorKind
from takevla.scene.plan import Plan
from takevla.scene.road_map import LightState, RoadMap
from takevla.world.camera import Camera

SIZE = 256
RED = (255, 0, 0)


@pytest.fixture(scope="module")
def town() -> RoadMap:
    return make_town()


def straight_plan(speed_mps: float = 8.0) -> Plan:
    route = np.stack([np.arange(1.0, 21.0), np.zeros(20)], axis=1).astype(np.float32)
    waypoints = np.stack([0.25 * speed_mps * np.arange(1, 11), np.zeros(10)], axis=1).astype(np.float32)
    return Plan(route, waypoints)


def differs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.abs(first.astype(int) - second.astype(int)).max(axis=2) > 30


def close_to(picture: np.ndarray, rgb: tuple[int, int, int]) -> int:
    return int((np.abs(picture.astype(int) - rgb).max(axis=2) < 12).sum())


@pytest.mark.parametrize(("x", "y"), [(15.0, -1.75), (-10.0, 1.75), (5.0, -8.0)])
def test_an_actor_is_drawn_where_it_stands(town: RoadMap, x: float, y: float) -> None:
    shown = draw_birdseye(town, make_scene([(ActorKind.CAR, x, y, 0.0, 0)]), size_px=SIZE)
    rows, columns = np.nonzero(differs(shown, draw_birdseye(town, make_scene(), size_px=SIZE)))
    scale = SIZE / RANGE_M
    assert abs(rows.mean() - (EGO_AT * SIZE - scale * x)) < 2.0
    assert abs(columns.mean() - (0.5 * SIZE - scale * (y + 1.75))) < 2.0


def test_the_world_turns_about_the_ego(town: RoadMap) -> None:
    scene = make_scene([(ActorKind.CAR, 15.0, -1.75, 0.0, 0)])
    turned = dataclasses.replace(scene, ego=dataclasses.replace(scene.ego, heading_rad=np.pi / 2))
    empty = make_scene()
    blank = dataclasses.replace(empty, ego=dataclasses.replace(empty.ego, heading_rad=np.pi / 2))
    seen = differs(draw_birdseye(town, turned, size_px=SIZE), draw_birdseye(town, blank, size_px=SIZE))
    _, columns = np.nonzero(seen)
    assert columns.mean() > 0.6 * SIZE  # what was ahead lies to the right


@pytest.mark.parametrize("state", list(LightState))
def test_the_stop_line_has_the_colour_of_its_signal(town: RoadMap, state: LightState) -> None:
    picture = draw_birdseye(town, make_scene(x=40.0, light=state), size_px=SIZE)
    assert close_to(picture, LIGHT_RGB[state]) >= 20
    for other in LightState:
        if other not in (state, LightState.OFF):
            assert close_to(picture, LIGHT_RGB[other]) == 0


def test_a_plan_is_drawn_ahead_in_its_colour(town: RoadMap) -> None:
    plan = DrawnPlan(straight_plan(), RED)
    picture = draw_birdseye(town, make_scene(), plans=[plan], size_px=SIZE)
    rows, columns = np.nonzero(np.abs(picture.astype(int) - RED).max(axis=2) < 12)
    assert len(rows) >= 20
    assert rows.max() < EGO_AT * SIZE
    assert abs(columns.mean() - 0.5 * SIZE) < 1.5


def test_a_plan_is_laid_on_the_road_before_the_camera(town: RoadMap) -> None:
    camera = Camera()
    image = camera.render(town, make_scene())
    kept = image.copy()
    picture = overlay_plan(image, camera.rig, [DrawnPlan(straight_plan(), RED)], scale=2)
    assert picture.shape == (256, 768, 3)
    plain = overlay_plan(image, camera.rig, [], scale=2)
    rows, columns = np.nonzero(differs(picture, plain))
    assert rows.min() > 128  # below the horizon
    assert abs(columns.mean() - 256) < 4
    np.testing.assert_array_equal(image, kept)


def test_a_plan_keeps_its_place_in_the_world_when_the_ego_moves() -> None:
    plan = straight_plan()
    then = make_scene().ego
    np.testing.assert_allclose(moved_plan(plan, then, then).route_ego, plan.route_ego, atol=1e-5)
    later = dataclasses.replace(then, position_world=then.position_world + np.float32([2.0, 0.5, 0.0]))
    moved = moved_plan(plan, then, later)
    np.testing.assert_allclose(moved.waypoints_ego, plan.waypoints_ego - [2.0, 0.5], atol=1e-4)
    turned = dataclasses.replace(then, heading_rad=np.pi / 2)
    np.testing.assert_allclose(
        moved_plan(plan, then, turned).route_ego[:, 1], -plan.route_ego[:, 0], atol=1e-4
    )


def test_a_clip_holds_every_frame(tmp_path: Path) -> None:
    path = tmp_path / "films" / "one.mp4"
    blank = np.zeros((128, 256, 3), np.uint8)
    with clip_writer(path, frames_per_s=10.0) as append:
        for level in range(12):
            append(
                compose(blank + level * 20, blank[:, :128], "Maintain your speed.", "1.0 s", ["red light"])
            )
    frames, _ = imageio_ffmpeg.count_frames_and_secs(str(path))
    assert frames == 12
    assert [found.name for found in path.parent.iterdir()] == ["one.mp4"]


def test_a_clip_that_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "two.mp4"

    def film() -> None:
        with clip_writer(path, frames_per_s=10.0) as append:
            append(np.zeros((64, 64, 3), np.uint8))
            raise KeyError

    with pytest.raises(KeyError):
        film()
    assert list(tmp_path.iterdir()) == []
