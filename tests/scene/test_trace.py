"""Routes over the lane graph."""

import numpy as np
import pytest

from takevla.scene.road_map import LaneKind, Turn
from takevla.scene.route import RouteOption
from takevla.scene.trace import TARGET_SPACING_M, plan_stretches, target_points, trace_route
from takevla.world.maps.atlas import load_town

TOWN = load_town("Alder01")
PLAIN = [lane for lane in TOWN.lanes if lane.kind == LaneKind.DRIVING and lane.junction < 0]
OPTION = {Turn.LEFT: RouteOption.LEFT, Turn.STRAIGHT: RouteOption.STRAIGHT, Turn.RIGHT: RouteOption.RIGHT}


def _random_routes(count):
    rng = np.random.default_rng(7)
    for _ in range(count):
        first, last = rng.choice(len(PLAIN), 2, replace=False)
        keypoints = np.array([PLAIN[first].points_world[4], PLAIN[last].points_world[-4]])
        yield keypoints, trace_route(TOWN, keypoints)


def test_routes_are_dense_smooth_and_end_at_their_keypoints():
    for keypoints, route in _random_routes(20):
        steps = np.linalg.norm(np.diff(route.points_world, axis=0), axis=1)
        assert steps.max() < 1.1
        assert steps.min() > 0.5
        assert np.abs(np.diff(np.unwrap(route.heading_rad))).max() < 0.25  # radius of 4 m
        assert np.linalg.norm(route.points_world[0] - keypoints[0]) < 0.1
        assert np.linalg.norm(route.points_world[-1] - keypoints[1]) < 0.1
        np.testing.assert_allclose(np.diff(route.s_m), steps, atol=0.02)


def test_every_step_of_a_route_follows_the_lane_graph():
    for _, route in _random_routes(20):
        for before, after in zip(route.lane[:-1], route.lane[1:]):
            lane = TOWN.lanes[before]
            assert after in (before, lane.left, lane.right, *lane.successors)


def test_options_tell_the_turn_of_every_connector():
    for _, route in _random_routes(20):
        for index, option in zip(route.lane, route.option):
            if TOWN.lanes[index].junction >= 0 and option < RouteOption.CHANGE_LANE_LEFT:
                assert option == OPTION[TOWN.lanes[index].turn]


def test_a_lane_change_is_labelled_and_shifts_by_one_lane():
    right = next(lane for lane in PLAIN if lane.left >= 0 and lane.length_m > 120)
    left = TOWN.lanes[right.left]
    route = trace_route(TOWN, np.array([right.points_world[10], left.points_world[-10]]))
    changing = np.flatnonzero(route.option == RouteOption.CHANGE_LANE_LEFT)
    assert 5 <= len(changing) <= 45
    assert np.all(np.diff(changing) == 1)
    assert route.lane[0] == right.index
    assert route.lane[-1] == left.index
    back = trace_route(TOWN, np.array([left.points_world[10], right.points_world[-10]]))
    assert RouteOption.CHANGE_LANE_RIGHT in back.option


def test_close_keypoints_on_different_lanes_still_give_a_drivable_change():
    right = next(lane for lane in PLAIN if lane.left >= 0 and lane.length_m > 120)
    left = TOWN.lanes[right.left]
    points = [right.points_world[k] for k in range(10, 40, 2)]
    points += [left.points_world[k] for k in range(42, 100, 2)]
    route = trace_route(TOWN, np.array(points))
    assert np.abs(np.diff(np.unwrap(route.heading_rad))).max() < 0.1


def test_keypoints_behind_each_other_on_one_lane_go_round_the_block():
    lane = next(lane for lane in PLAIN if lane.length_m > 100 and lane.successors)
    stretches = plan_stretches(TOWN, np.array([lane.points_world[60], lane.points_world[20]], np.float64))
    assert len(stretches) > 3
    assert stretches[0].lane == stretches[-1].lane == lane.index


def test_target_points_are_at_most_fifty_metres_apart_and_mark_every_change_of_option():
    for _, route in _random_routes(10):
        chosen = target_points(route)
        assert chosen[0] == 0
        assert chosen[-1] == len(route) - 1
        assert np.diff(route.s_m[chosen]).max() <= TARGET_SPACING_M + 1e-3
        changes = np.flatnonzero(np.diff(route.option)) + 1
        assert set(changes) <= set(chosen.tolist())


@pytest.mark.parametrize(
    ("keypoints", "words"),
    [
        ([[1e5, 1e5, 0], [0, 0, 0]], "keypoint 0 at .* is off the map"),
        ([[float("nan"), 0, 0], [0, 0, 0]], "finite"),
        ([[0, 0, 0]], "at least two keypoints"),
    ],
)
def test_bad_keypoints_are_refused_in_words(keypoints, words):
    with pytest.raises(ValueError, match=words):
        trace_route(TOWN, np.array(keypoints, np.float32))
