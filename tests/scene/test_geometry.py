"""Plane geometry: invariants of frames, boxes, segments and polylines."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import LineString, Polygon

from takevla.scene import geometry as g

coordinate = st.floats(-30, 30)
angle = st.floats(-7, 7)
size = st.floats(0.3, 12)
box = st.tuples(coordinate, coordinate, angle, size, size)
few = settings(max_examples=60, deadline=None)


@given(st.floats(-100, 100))
def test_wrapped_angle_is_the_same_direction_within_half_a_turn(value: float) -> None:
    wrapped = g.wrap_angle(value)
    assert -math.pi <= wrapped < math.pi
    assert math.cos(wrapped) == pytest.approx(math.cos(value), abs=1e-9)
    assert math.sin(wrapped) == pytest.approx(math.sin(value), abs=1e-9)


@given(coordinate, coordinate, angle, st.lists(st.tuples(coordinate, coordinate), min_size=1, max_size=5))
def test_world_to_ego_and_back_is_identity(x: float, y: float, heading: float, points: list) -> None:
    there = g.to_ego(points, (x, y, 3.0), heading)
    np.testing.assert_allclose(g.to_world(there, (x, y, 3.0), heading), points, atol=1e-9)


def test_ego_frame_is_x_forward_y_left() -> None:
    np.testing.assert_allclose(
        g.to_ego([[0.0, 5.0], [-5.0, 0.0]], (0.0, 0.0), math.pi / 2), [[5, 0], [0, 5]], atol=1e-12
    )


@few
@given(box, box)
def test_overlap_and_distance_are_symmetric_and_agree_with_shapely(a: tuple, b: tuple) -> None:
    pa, pb = Polygon(g.box_corners(*a)), Polygon(g.box_corners(*b))
    distance = g.box_distance(*a, *b)
    assert g.boxes_overlap(*a, *b) == g.boxes_overlap(*b, *a)
    assert distance == pytest.approx(g.box_distance(*b, *a), abs=1e-9)
    assert distance == pytest.approx(pa.distance(pb), abs=1e-6)
    if pa.distance(pb) > 1e-6 or pa.intersection(pb).area > 1e-6:
        assert g.boxes_overlap(*a, *b) == pa.intersects(pb)


@few
@given(box, box, coordinate, coordinate, angle)
def test_overlap_and_distance_do_not_change_under_rigid_motion(
    a: tuple, b: tuple, dx: float, dy: float, turn: float
) -> None:
    def moved(one: tuple) -> tuple:
        x, y = g.to_world([one[0], one[1]], (dx, dy), turn)
        return (x, y, one[2] + turn, one[3], one[4])

    distance = g.box_distance(*a, *b)
    assert g.box_distance(*moved(a), *moved(b)) == pytest.approx(distance, abs=1e-6)
    if distance > 1e-6:
        assert not g.boxes_overlap(*moved(a), *moved(b))


@few
@given(st.lists(st.tuples(coordinate, coordinate), min_size=4, max_size=4, unique=True))
def test_segments_cross_agrees_with_shapely(p: list) -> None:
    first, second = LineString(p[:2]), LineString(p[2:])
    flat = [value for point in p for value in point]
    if first.distance(second) > 1e-9:
        assert not g.segments_cross(*flat)
    elif first.crosses(second):
        assert g.segments_cross(*flat)


@few
@given(st.lists(st.tuples(coordinate, coordinate), min_size=2, max_size=8), st.floats(0.2, 5))
def test_resampled_polyline_keeps_its_ends_and_its_greatest_step(points: list, spacing: float) -> None:
    if g.arc_length(points)[-1] < 1e-3:
        return
    line = g.resample(points, spacing)
    np.testing.assert_allclose(line[[0, -1]], np.asarray(points)[[0, -1]], atol=1e-6)
    assert np.linalg.norm(np.diff(line, axis=0), axis=1).max() <= spacing * (1 + 1e-6)


def test_points_at_continues_straight_beyond_the_ends() -> None:
    np.testing.assert_allclose(g.points_at([[0, 0], [2, 0]], [-1.0, 1.0, 5.0]), [[-1, 0], [1, 0], [5, 0]])


def test_a_polyline_of_one_place_is_refused() -> None:
    with pytest.raises(ValueError, match="two distinct points"):
        g.points_at([[1, 1], [1, 1]], [0.0])


def test_projection_gives_arc_length_and_signed_lateral() -> None:
    line = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0]])
    assert g.project_on_polyline(line, 4.0, 1.0) == (4.0, 1.0, 0)
    s, lateral, segment = g.project_on_polyline(line, 12.0, 6.0)
    assert (s, lateral, segment) == (16.0, -2.0, 1)
