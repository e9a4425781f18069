"""What the camera promises: copies, determinism, geometry, and that a driver can see what matters."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hand_made_town import EXTENT, make_scene, make_town

from takevla.scene.actors import ActorKind, Cue
from takevla.scene.road_map import LightState, RoadMap
from takevla.scene.scene import Weather
from takevla.world.camera import Camera, Rig
from takevla.world.camera.rig import SIMLINGO_RIG

LAMP_30_M = 30.0  # ego x at which the near head stands some 30 m before the camera
ALL_KINDS = list(EXTENT)
NIGHT = Weather(sun_altitude_deg=-30.0)

LONG_LENS = 256  # first column of the long lens's part of the picture


@pytest.fixture(scope="module")
def town() -> RoadMap:
    return make_town()


@pytest.fixture(scope="module")
def camera() -> Camera:
    return Camera()


def count_red(picture: np.ndarray) -> int:
    red, green, blue = (picture[:, :, k].astype(int) for k in range(3))
    return int(((red > 170) & (green < 90) & (blue < 90)).sum())


def count_yellow(picture: np.ndarray) -> int:
    """Signal yellow; yellow lane marks lie below the horizon."""
    red, green, blue = (picture[:62, :, k].astype(int) for k in range(3))
    return int(((red > 190) & (green > 140) & (blue < 70)).sum())


def count_green(picture: np.ndarray) -> int:
    red, green, blue = (picture[:, :, k].astype(int) for k in range(3))
    return int(((green > 170) & (red < 110) & (blue < 170)).sum())


def count_jacket(picture: np.ndarray) -> int:
    red, green, blue = (picture[:, :, k].astype(int) for k in range(3))
    return int(((green > 150) & (red > 130) & (green - blue > 70) & (green - red > -15)).sum())


def changed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.abs(first.astype(int) - second.astype(int)).max(axis=2) > 24


@pytest.mark.parametrize("weather", [Weather(), NIGHT, Weather(precipitation=80.0, wetness=80.0)])
def test_lamp_colour_can_be_read_at_30_m(camera: Camera, town: RoadMap, weather: Weather) -> None:
    shown = {
        state: camera.render(town, make_scene(x=LAMP_30_M, light=state, weather=weather))
        for state in LightState
    }
    counts = {
        state: (count_red(picture), count_yellow(picture), count_green(picture))
        for state, picture in shown.items()
    }
    assert counts[LightState.RED][0] >= 8
    assert counts[LightState.YELLOW][1] >= 8
    assert counts[LightState.GREEN][2] >= 8
    off = counts[LightState.OFF]
    for state, channel in ((LightState.RED, 0), (LightState.YELLOW, 1), (LightState.GREEN, 2)):
        for other in LightState:
            if other != state:
                assert counts[other][channel] <= off[channel] + 2


def test_far_head_stays_in_view_at_the_stop_line(camera: Camera, town: RoadMap) -> None:
    red = camera.render(town, make_scene(x=57.0, light=LightState.RED))
    green = camera.render(town, make_scene(x=57.0, light=LightState.GREEN))
    assert count_red(red[:, :]) - count_red(green) >= 8


def test_picture_is_the_callers_own_copy(camera: Camera, town: RoadMap) -> None:
    first = camera.render(town, make_scene())
    kept = first.copy()
    camera.render(town, make_scene([(ActorKind.TRUCK, 10.0, -1.75, 0.0, 0)]))
    np.testing.assert_array_equal(first, kept)
    first[:] = 0
    np.testing.assert_array_equal(camera.render(town, make_scene()), kept)


def test_same_scene_gives_same_bytes_whatever_was_drawn_before(camera: Camera, town: RoadMap) -> None:
    rows = [
        (kind, 8.0 + 4.0 * i, -1.75 + 0.5 * i, 0.3 * i, int(Cue.BRAKE)) for i, kind in enumerate(ALL_KINDS)
    ]
    scene = make_scene(rows, weather=Weather(precipitation=60.0))
    first = camera.render(town, scene)
    other = make_town("Other", stop_at_m=35.0)
    camera.render(other, make_scene([(ActorKind.CAR, 9.0, 0.0, 1.0, 0)] * 5, weather=NIGHT, light=2))
    Camera(width=128, height=96, lens_yaws_deg=(0.0,), lens_fovs_deg=(60.0,)).render(town, make_scene())
    camera.render(town, make_scene(x=40.0))
    np.testing.assert_array_equal(camera.render(town, scene), first)
    np.testing.assert_array_equal(Camera().render(make_town(), scene), first)


def test_many_pictures_equal_single_ones(camera: Camera, town: RoadMap) -> None:
    scenes = [make_scene(x=10.0 * i) for i in range(3)]
    offsets, turns = [0.0, 0.5, -0.5], [0.0, 0.1, -0.1]
    many = camera.render_many([(town, scene) for scene in scenes], offsets, turns)
    for picture, scene, offset, turn in zip(many, scenes, offsets, turns, strict=True):
        np.testing.assert_array_equal(picture, camera.render(town, scene, offset, turn))


@pytest.mark.parametrize(("offset_y_m", "yaw_offset_rad"), [(1.0, 0.0), (0.0, 0.1)])
def test_moving_or_turning_left_moves_things_to_the_right(
    camera: Camera, town: RoadMap, offset_y_m: float, yaw_offset_rad: float
) -> None:
    rows = [(ActorKind.BOX, 15.0, -1.75, 0.0, 0)]

    def column(offset: float, turn: float) -> float:
        with_box = camera.render(town, make_scene(rows), offset, turn)
        without = camera.render(town, make_scene(), offset, turn)
        return float(np.flatnonzero(changed(with_box, without).any(axis=0)).mean())

    assert column(offset_y_m, yaw_offset_rad) > column(0.0, 0.0) + 3
    assert column(-offset_y_m, -yaw_offset_rad) < column(0.0, 0.0) - 3


@pytest.mark.parametrize(("x", "y"), [(12.0, -1.75), (20.0, 1.5), (25.0, -6.0)])
@pytest.mark.parametrize(("offset_y_m", "yaw_offset_rad"), [(0.0, 0.0), (0.4, -0.08)])
def test_projection_agrees_with_the_picture(
    camera: Camera, town: RoadMap, x: float, y: float, offset_y_m: float, yaw_offset_rad: float
) -> None:
    rows = [(ActorKind.BOX, x, y, 0.0, 0)]
    with_box = camera.render(town, make_scene(rows), offset_y_m, yaw_offset_rad)
    mask = changed(with_box, camera.render(town, make_scene(), offset_y_m, yaw_offset_rad))
    rows_seen, columns_seen = np.nonzero(mask[:, :LONG_LENS])
    middle = np.array([[x, y + 1.75, 0.6]])
    pixel, inside = camera.rig.project(middle, offset_y_m, yaw_offset_rad)
    assert inside[0]
    np.testing.assert_allclose(pixel[0], [columns_seen.mean(), rows_seen.mean()], atol=2.0)


def test_points_behind_the_camera_are_outside() -> None:
    _, inside = Rig().project(np.array([[-5.0, 0.0, 1.0], [10.0, 0.0, 1.0], [5.0, 40.0, 1.0]]))
    assert inside.tolist() == [False, True, False]


def test_crossing_pedestrian_can_be_told_at_25_m(camera: Camera, town: RoadMap) -> None:
    empty = camera.render(town, make_scene())
    standing = camera.render(town, make_scene([(ActorKind.PEDESTRIAN, 25.0, -3.0, 1.57, 0)]))
    crossing = camera.render(town, make_scene([(ActorKind.PEDESTRIAN, 25.0, -3.0, 1.57, int(Cue.CROSSING))]))
    assert changed(standing, empty).sum() >= 12
    assert changed(crossing, empty).sum() >= 12
    assert count_jacket(crossing) >= count_jacket(empty) + 6
    assert count_jacket(standing) <= count_jacket(empty) + 1


def test_brake_lights_can_be_told_at_25_m(camera: Camera, town: RoadMap) -> None:
    for weather in (Weather(), NIGHT):
        lit = camera.render(
            town, make_scene([(ActorKind.CAR, 25.0, -1.75, 0.0, int(Cue.BRAKE))], weather=weather)
        )
        dark = camera.render(town, make_scene([(ActorKind.CAR, 25.0, -1.75, 0.0, 0)], weather=weather))
        assert count_red(lit) >= count_red(dark) + 4


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("weather", [Weather(), NIGHT])
def test_every_kind_of_actor_is_seen_at_20_m(
    camera: Camera, town: RoadMap, kind: ActorKind, weather: Weather
) -> None:
    empty = camera.render(town, make_scene(weather=weather))
    shown = camera.render(town, make_scene([(kind, 20.0, -1.75, 0.0, 0)], weather=weather))
    assert changed(shown, empty).sum() >= 4


@pytest.mark.parametrize(
    ("kind", "cue"),
    [
        (ActorKind.CAR, Cue.INDICATOR_LEFT),
        (ActorKind.CAR, Cue.INDICATOR_RIGHT),
        (ActorKind.VAN, Cue.HAZARD),
        (ActorKind.TRUCK, Cue.BRAKE),
        (ActorKind.CAR, Cue.DOOR_LEFT),
        (ActorKind.CAR, Cue.DOOR_RIGHT),
        (ActorKind.POLICE, Cue.EMERGENCY),
        (ActorKind.AMBULANCE, Cue.EMERGENCY),
        (ActorKind.BICYCLE, Cue.CROSSING),
    ],
)
def test_every_cue_is_seen_at_15_m(camera: Camera, town: RoadMap, kind: ActorKind, cue: Cue) -> None:
    plain = camera.render(town, make_scene([(kind, 15.0, -1.75, 0.0, 0)]))
    cued = camera.render(town, make_scene([(kind, 15.0, -1.75, 0.0, int(cue))]))
    assert changed(cued, plain).sum() >= 6


def test_invalid_actors_are_not_drawn(camera: Camera, town: RoadMap) -> None:
    scene = make_scene([(ActorKind.TRUCK, 12.0, -1.75, 0.0, 0)])
    gone = dataclasses.replace(scene.actors, valid=np.zeros(1, np.bool_))
    hidden = dataclasses.replace(scene, actors=gone)
    np.testing.assert_array_equal(camera.render(town, hidden), camera.render(town, make_scene()))


def test_lane_marks_are_seen_40_m_ahead(camera: Camera, town: RoadMap) -> None:
    picture = camera.render(town, make_scene(x=-40.0)).astype(int)
    pixel, _ = camera.rig.project(np.array([[20.0, 1.75, 0.0], [40.0, 1.75, 0.0]]))
    for column, row in pixel.round().astype(int):
        patch = picture[row - 1 : row + 2, column - 3 : column + 4]
        assert (patch[:, :, 0] - patch[:, :, 2]).max() > 60  # yellow


def test_night_is_dark_but_for_lamps(camera: Camera, town: RoadMap) -> None:
    day, night = (camera.render(town, make_scene(weather=weather)) for weather in (Weather(), NIGHT))
    assert night.mean() < 0.45 * day.mean()


def test_fog_hides_the_distance_more_than_the_near(camera: Camera, town: RoadMap) -> None:
    fog = Weather(fog_density=80.0)

    def seen(x: float) -> int:
        shown = camera.render(town, make_scene([(ActorKind.CAR, x, -1.75, 0.0, 0)], weather=fog))
        return int(changed(shown, camera.render(town, make_scene(weather=fog))).sum())

    assert seen(10.0) > 100
    assert seen(90.0) == 0


def test_wrong_map_is_refused_with_both_names(camera: Camera, town: RoadMap) -> None:
    scene = dataclasses.replace(make_scene(), lights=np.zeros(0, np.int8))
    with pytest.raises(ValueError, match=r"Hand01.*0 light states.*1 signals"):
        camera.render(town, scene)


def test_rig_refuses_impossible_sizes() -> None:
    with pytest.raises(ValueError, match="4x128"):
        Rig(width=4)
    with pytest.raises(ValueError, match="lens_fovs_deg"):
        Rig(lens_fovs_deg=(65.0, 65.0, 180.0))
    with pytest.raises(ValueError, match="one angle for each"):
        Rig(lens_fovs_deg=(65.0, 65.0))
    with pytest.raises(ValueError, match="oversampling 0"):
        Rig(oversampling=0)


def test_a_rig_remembers_its_oversampling_and_one_that_does_not_say_has_four():
    assert Rig.of(json.loads(json.dumps(SIMLINGO_RIG.settings()))).oversampling == 1
    assert "oversampling" not in Rig(96, 32).settings()  # bytes as before; a dataset can be continued
    old = {name: value for name, value in SIMLINGO_RIG.settings().items() if name != "oversampling"}
    assert Rig.of(old).oversampling == 4
    assert Rig.of(old) == SIMLINGO_RIG


def test_cross_traffic_is_in_view_at_the_stop_line(camera: Camera, town: RoadMap) -> None:
    """From 3 m before the line, a car 12 m beyond it and 20 m to either side can be seen."""
    empty = camera.render(town, make_scene(x=57.0))
    for y in (-22.0, 18.0):
        shown = camera.render(town, make_scene([(ActorKind.CAR, 72.0, y, 1.57, 0)], x=57.0))
        assert changed(shown, empty).sum() >= 30


def test_lenses_meet_without_a_gap(camera: Camera, town: RoadMap) -> None:
    """A box that stands astride the seam is seen whole, on both sides of it, at the same height."""
    rows = [(ActorKind.BOX, 12.0, -1.75, 0.0, 0)]
    mask = changed(camera.render(town, make_scene(rows)), camera.render(town, make_scene()))
    columns = np.flatnonzero(mask[:, :LONG_LENS].any(axis=0))
    assert (np.diff(columns) == 1).all()
    assert columns[0] < 127
    assert columns[-1] > 128
    np.testing.assert_array_equal(mask[:, 126:128].any(axis=1), mask[:, 128:130].any(axis=1))


def test_the_long_lens_shows_what_lies_ahead_more_than_twice_as_wide(camera: Camera, town: RoadMap) -> None:
    rows = [(ActorKind.CAR, 30.0, -1.75, 0.0, 0)]
    mask = changed(camera.render(town, make_scene(rows)), camera.render(town, make_scene()))
    wide, long = mask[:, :LONG_LENS].any(axis=0).sum(), mask[:, LONG_LENS:].any(axis=0).sum()
    assert long > 2 * wide > 0


def test_one_lens_can_be_chosen(town: RoadMap) -> None:
    single = Camera(width=200, height=100, lens_yaws_deg=(0.0,), lens_fovs_deg=(110.0,))
    rows = [(ActorKind.BOX, 12.0, -1.75, 0.0, 0)]
    mask = changed(single.render(town, make_scene(rows)), single.render(town, make_scene()))
    pixel, inside = single.rig.project(np.array([[12.0, 0.0, 0.6]]))
    assert inside[0]
    np.testing.assert_allclose(pixel[0], [c.mean() for c in np.nonzero(mask)[::-1]], atol=2.0)
