"""Path lookups invert each other, and free paths behave like lanes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_maps import crossing

from takevla.world.paths import build_paths, nearest_on_path, point_at, resample, with_free_paths

PATHS = build_paths(crossing())


@given(st.integers(0, 19), st.floats(0.02, 0.98), st.floats(-2.0, 2.0))
@settings(max_examples=60, deadline=None)
def test_projection_inverts_the_lookup(path: int, share: float, lateral: float) -> None:
    s = share * float(PATHS.lanes["length"][path])
    x, y, _, heading = point_at(PATHS, path, s)
    found_s, found_lateral = nearest_on_path(
        PATHS, path, x - lateral * np.sin(heading), y + lateral * np.cos(heading)
    )
    assert abs(found_s - s) < 0.25
    assert abs(found_lateral - lateral) < 0.1


def test_a_free_path_is_found_behind_the_lanes_and_keeps_its_ends() -> None:
    line = np.array([[0.0, 50.0], [30.0, 50.0], [30.0, 80.0]], np.float32)
    grown = with_free_paths(PATHS, [line])
    path = len(PATHS.lanes)
    assert np.allclose(point_at(grown, path, 0.0)[:2], (0.0, 50.0))
    end = float(grown.lanes["length"][path])
    assert np.allclose(point_at(grown, path, end)[:2], (30.0, 80.0), atol=1e-6)
    assert np.allclose(point_at(grown, path, end + 5.0)[:2], (30.0, 85.0), atol=1e-6)
    assert (grown.lanes[: len(PATHS.lanes)] == PATHS.lanes).all()


def test_crossing_connectors_share_an_interval_around_the_middle() -> None:
    rows = PATHS.conflicts[PATHS.lanes["conflict_first"][8] : PATHS.lanes["conflict_end"][8]]
    across = rows[rows["other"] == 11][0]  # straight from arm 0 against straight from arm 1
    assert 0.0 < across["enter"] < across["leave"] < PATHS.lanes["length"][8]


@pytest.mark.parametrize("line", [np.zeros((1, 2)), np.zeros((4, 2)), np.zeros((3, 4))])
def test_a_path_without_extent_is_refused(line: np.ndarray) -> None:
    with pytest.raises(ValueError, match="path needs"):
        resample(line)
