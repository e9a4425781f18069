"""Nearest lanes and Frenet coordinates on a built-in town."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from takevla.scene.lane_query import (
    ANY_KIND,
    lane_pose,
    nearest_lane,
    project_lane,
)
from takevla.scene.road_map import LaneKind
from takevla.world.maps.atlas import load_town

TOWN = load_town("Alder01")
DRIVING = [lane.index for lane in TOWN.lanes if lane.kind == LaneKind.DRIVING and lane.junction < 0]


@settings(max_examples=60, deadline=None)
@given(pick=st.integers(0, 10_000), share=st.floats(0.02, 0.98), aside=st.floats(-1.2, 1.2))
def test_a_point_set_off_a_lane_is_found_again_at_the_same_place(pick, share, aside):
    lane = DRIVING[pick % len(DRIVING)]
    length = float(TOWN.arrays.lane_length[lane])
    x, y, _, heading, _ = lane_pose(TOWN.arrays, lane, share * length)
    x, y = x - aside * math.sin(heading), y + aside * math.cos(heading)
    found, s, lateral = nearest_lane(TOWN.arrays, x, y, heading, 5.0, True)
    assert abs(lateral) <= abs(aside) + 0.05  # where lanes overlap another may be nearer
    own_s, own_lateral = project_lane(TOWN.arrays, lane, x, y)
    assert own_s == pytest.approx(share * length, abs=0.1)
    assert own_lateral == pytest.approx(aside, abs=0.05)
    if found == lane:
        assert (s, lateral) == pytest.approx((own_s, own_lateral), abs=1e-3)


def test_the_nearest_lane_is_the_nearest_of_all_by_brute_force():
    rng = np.random.default_rng(3)
    arrays = TOWN.arrays
    for _ in range(25):
        lane = int(rng.choice(DRIVING))
        x, y, *_ = lane_pose(arrays, lane, rng.uniform(0, arrays.lane_length[lane]))
        x, y = x + rng.uniform(-4, 4), y + rng.uniform(-4, 4)
        found, s, _ = nearest_lane(arrays, x, y, 0.0, 8.0, False)
        px, py, *_ = lane_pose(arrays, found, s)
        best = min(
            math.hypot(x - lx, y - ly)
            for other in TOWN.lanes
            if other.kind == LaneKind.DRIVING
            for lx, ly, *_ in [lane_pose(arrays, other.index, project_lane(arrays, other.index, x, y)[0])]
        )
        assert math.hypot(x - px, y - py) == pytest.approx(best, abs=0.02)


def test_heading_chooses_between_the_two_directions_of_a_road():
    lane = next(lane for lane in TOWN.lanes if lane.opposite >= 0 and lane.length_m > 60)
    x, y, _, heading, _ = lane_pose(TOWN.arrays, lane.opposite, 30.0)
    with_traffic = nearest_lane(TOWN.arrays, x, y, heading, 6.0, True)[0]
    against = nearest_lane(TOWN.arrays, x, y, heading + math.pi, 6.0, True)[0]
    assert (with_traffic, against) == (lane.opposite, lane.index)


def test_far_off_the_map_there_is_no_lane():
    assert nearest_lane(TOWN.arrays, 1e5, -1e5, 0.0, 10.0, False, ANY_KIND)[0] == -1
    assert nearest_lane(TOWN.arrays, -1e5, 1e5, 0.0, 10.0, True)[0] == -1
