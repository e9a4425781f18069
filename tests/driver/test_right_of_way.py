"""Who goes first at a signalised junction of a built-in town."""

import numpy as np
import pytest

from takevla.driver.expert.right_of_way import EGO_FIRST, LANE_DEPTH, RUNNER, priority
from takevla.scene.road_map import Control, LightState, RoadMap
from takevla.world.maps.atlas import load_town

WILL_STOP = -1


@pytest.fixture(scope="module")
def crossing() -> tuple[RoadMap, int, int, int]:
    """A town, a connector of the ego, one that crosses it with equal right, and the lane that leads there."""
    town = load_town("Alder37")
    arrays = town.arrays
    for own in range(len(town.lanes)):
        for k in range(arrays.conflict_index[own], arrays.conflict_index[own + 1]):
            other = int(arrays.conflict_items[k])
            approach = town.lanes[other].predecessors[0]
            yields = arrays.yield_items[arrays.yield_index[own] : arrays.yield_index[own + 1]]
            signal = arrays.lane_stop_signal[approach]
            if arrays.lane_stop_control[approach] != int(Control.SIGNAL) or other in yields or signal < 0:
                continue
            own_signal = arrays.lane_stop_signal[town.lanes[own].predecessors[0]]
            if own_signal != signal and arrays.lane_stop_s[approach] > 40.0:
                return town, own, other, approach
    raise AssertionError("no signalised crossing in the town")


def verdict(
    crossing: tuple[RoadMap, int, int, int], lanes: list[int], s: float, speed: float, pull: float
) -> int:
    town, own, _, _ = crossing
    chain = np.full(LANE_DEPTH, -1, np.int32)
    chain[: len(lanes)] = lanes
    lights = np.full(len(town.signals), int(LightState.RED), np.int8)
    return int(priority(town.arrays, lights, chain, s, speed, pull, np.array([own, -1], np.int32)))


def test_one_who_does_not_brake_as_hard_as_its_red_light_takes_is_a_runner(
    crossing: tuple[RoadMap, int, int, int],
) -> None:
    town, _, other, approach = crossing
    near = float(town.arrays.lane_stop_s[approach]) - 20.0
    chain = [approach, other]
    assert verdict(crossing, chain, near, 14.0, 0.0) == RUNNER
    assert verdict(crossing, chain, near, 14.0, -2.0) == RUNNER
    assert verdict(crossing, chain, near, 14.0, -5.0) == WILL_STOP
    assert verdict(crossing, chain, near, 8.0, 0.0) == WILL_STOP  # there is time to brake gently
    assert verdict(crossing, chain, near, 20.0, -5.0) == RUNNER  # it cannot stop any more


def test_a_red_light_beyond_the_junction_does_not_make_one_inside_stop(
    crossing: tuple[RoadMap, int, int, int],
) -> None:
    town, _, other, approach = crossing
    # `approach` again stands for a later lane with a red light that it could well stop for.
    assert verdict(crossing, [other, approach], 1.0, 8.0, 0.0) == RUNNER
    assert verdict(crossing, [approach, other, approach], 1.0, 8.0, 0.0) == WILL_STOP
    assert np.isinf(town.arrays.lane_stop_s[other])


def test_one_on_the_egos_own_connector_comes_behind_it(crossing: tuple[RoadMap, int, int, int]) -> None:
    _, own, _, _ = crossing
    assert verdict(crossing, [own], 1.0, 8.0, 0.0) == EGO_FIRST
