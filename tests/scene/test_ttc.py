"""Time-to-collision: exact against stepping, and averaged as the rule says."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from takevla.scene import geometry as g
from takevla.scene import ttc

body = st.tuples(
    st.floats(-25, 25),
    st.floats(-25, 25),
    st.floats(-4, 4),
    st.floats(-3, 15),
    st.floats(0.5, 8),
    st.floats(0.5, 3),
)


def _at(b: tuple, t: float) -> tuple:
    x, y, heading, speed, length, width = b
    return (x + speed * t * math.cos(heading), y + speed * t * math.sin(heading), heading, length, width)


@settings(max_examples=80, deadline=None)
@given(body, body)
def test_ttc_is_the_first_overlap_found_by_brute_force(a: tuple, b: tuple) -> None:
    exact = ttc.pair_ttc(*a, *b, ttc.CAP_S)
    assert exact == pytest.approx(ttc.pair_ttc(*b, *a, ttc.CAP_S), abs=1e-9)
    step = 0.02
    hits = [t for t in np.arange(0, ttc.CAP_S, step) if g.boxes_overlap(*_at(a, t), *_at(b, t))]
    if hits:
        assert hits[0] - step - 1e-9 <= exact <= hits[0] + 1e-9
    if math.isfinite(exact):  # touching at that time, and apart just before
        assert g.box_distance(*_at(a, exact), *_at(b, exact)) < 1e-6
        if exact > 1e-3:
            assert not g.boxes_overlap(*_at(a, exact - 1e-3), *_at(b, exact - 1e-3))


@settings(max_examples=40, deadline=None)
@given(body, body, st.floats(-4, 4))
def test_ttc_does_not_change_when_the_whole_scene_is_turned(a: tuple, b: tuple, turn: float) -> None:
    def turned(one: tuple) -> tuple:
        x, y = g.to_world([one[0], one[1]], (3.0, -2.0), turn)
        return (x, y, one[2] + turn, *one[3:])

    before, after = ttc.pair_ttc(*a, *b, 10.0), ttc.pair_ttc(*turned(a), *turned(b), 10.0)
    if math.isfinite(before) and math.isfinite(after):
        assert after == pytest.approx(before, abs=1e-5)


def test_head_on_ttc_is_gap_over_closing_speed() -> None:
    value = ttc.pair_ttc(0.0, 0.0, 0.0, 10.0, 4.0, 2.0, 34.0, 0.0, math.pi, 5.0, 4.0, 2.0, 10.0)
    assert value == pytest.approx(2.0)


def test_ttc_is_zero_in_contact_and_infinite_beyond_the_cap() -> None:
    standing = (0.0, 0.0, 0.0, 0.0, 4.0, 2.0)
    assert ttc.pair_ttc(*standing, 1.0, 0.0, 0.0, 0.0, 4.0, 2.0, 10.0) == 0.0
    assert ttc.pair_ttc(*standing, 30.0, 0.0, math.pi, 2.0, 4.0, 2.0, 10.0) == math.inf


def test_actors_on_another_deck_or_invalid_do_not_count() -> None:
    position = np.array([[14, 0, 0], [14, 0, 6], [14, 0, 0]], np.float32)
    values = ttc.swept_ttc(
        0.0, 0.0, 0.0, 0.0, 5.0, 4.0, 2.0, position, np.zeros(3, np.float32), np.zeros(3, np.float32),
        np.tile(np.array([4, 2, 1.5], np.float32), (3, 1)), np.array([True, True, False]), 10.0,
    )  # fmt: skip
    np.testing.assert_allclose(values, [2.0, np.inf, np.inf])


def test_the_mean_of_a_route_is_over_its_frames_on_course() -> None:
    assert ttc.route_ttc(np.array([2.0, 4.0, np.inf, 10.5])) == pytest.approx(3.0)
    assert ttc.route_ttc(np.array([np.inf])) is None
