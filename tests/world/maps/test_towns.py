"""The built-in towns."""

from dataclasses import replace

import numpy as np
import pytest

from takevla.scene.road_map import Control, LaneKind, MarkKind, Turn
from takevla.world.maps.atlas import ALDER_TOWNS, BIRCH_TOWNS, load_town
from takevla.world.maps.check import check_map
from takevla.world.maps.towns import build_town

SOME = ("Alder03", "Alder17", "Alder40", "Birch02", "Birch08")


def test_there_are_forty_training_and_eight_validation_towns():
    assert (len(ALDER_TOWNS), len(BIRCH_TOWNS)) == (40, 8)
    assert not set(ALDER_TOWNS) & set(BIRCH_TOWNS)


@pytest.mark.parametrize("name", SOME)
def test_a_town_keeps_all_promises_of_a_road_map(name):
    assert check_map(load_town(name)) == []


def test_the_check_finds_broken_maps():
    town = load_town("Alder03")
    lane = next(lane for lane in town.lanes if lane.kind == LaneKind.DRIVING and lane.left >= 0)
    spoilt = [
        replace(lane, successors=()),
        replace(lane, left=lane.index),
        replace(lane, width_m=lane.width_m * 0.0),
        replace(lane, points_world=lane.points_world + np.float32(0.5)),
    ]
    for wrong in spoilt:
        lanes = tuple(wrong if other.index == lane.index else other for other in town.lanes)
        assert check_map(replace(town, lanes=lanes))


def test_the_same_name_gives_the_same_bytes_and_another_name_another_town():
    first, again = build_town("Birch03"), build_town("Birch03")
    for one, two in zip(first.arrays, again.arrays):
        np.testing.assert_array_equal(one, two)
    assert [prop.colour for prop in first.props] == [prop.colour for prop in again.props]
    assert len(build_town("Birch04").arrays.point_x) != len(first.arrays.point_x)


@pytest.mark.parametrize("name", SOME)
def test_a_town_has_everything_that_scenarios_ask_for(name):
    town = load_town(name)
    driving = [lane for lane in town.lanes if lane.kind == LaneKind.DRIVING and lane.junction < 0]
    assert any(lane.opposite >= 0 and lane.left < 0 and lane.length_m > 200 for lane in driving)
    assert any(lane.left >= 0 and lane.length_m > 250 for lane in driving)
    assert any(lane.kind == LaneKind.PARKING and lane.length_m > 80 for lane in town.lanes)
    assert any(lane.kind == LaneKind.BIKE and lane.length_m > 80 for lane in town.lanes)
    assert max(lane.speed_limit_mps for lane in driving) >= 25.0
    assert min(lane.speed_limit_mps for lane in driving) <= 8.4
    assert any(junction.phases for junction in town.junctions)
    assert any(sign.control == Control.STOP_SIGN for sign in town.stop_signs)
    assert any(lane.opposite >= 0 and lane.left_mark == MarkKind.BROKEN_YELLOW for lane in driving)
    assert town.crosswalks
    assert len({len({town.lanes[c].predecessors for c in j.connectors}) for j in town.junctions}) > 1


@pytest.mark.parametrize("name", SOME)
def test_nothing_stands_on_a_lane(name):
    town = load_town(name)
    points = np.concatenate([lane.points_world[:, :2] for lane in town.lanes])
    half = np.concatenate([lane.width_m / 2 for lane in town.lanes])
    used = np.concatenate([np.full(len(lane.width_m), lane.kind != LaneKind.SIDEWALK) for lane in town.lanes])
    posts = [head[:2] for signal in town.signals for head in signal.heads]
    posts += [sign.pose_world[:2] for sign in town.stop_signs]
    posts += [prop.pose_world[:2] for prop in town.props if prop.kind == "lamp"]
    for post in posts:
        near = used & (np.hypot(*(points - post).T) < half)
        assert not near.any()
    for prop in town.props:
        if prop.kind == "building":
            reach = 0.5 * min(prop.extent_m[:2])
            assert np.hypot(*(points - prop.pose_world[:2]).T).min() > reach


@pytest.mark.parametrize("name", SOME)
def test_left_turns_at_lights_yield_to_what_comes_towards_them(name):
    town = load_town(name)
    signal_of = {line.lane: line.signal for line in town.stop_lines if line.control == Control.SIGNAL}
    seen = 0
    for junction in town.junctions:
        for phase in junction.phases:
            for own in junction.connectors:
                lane = town.lanes[own]
                if lane.turn != Turn.LEFT or signal_of.get(lane.predecessors[0]) not in phase.signals:
                    continue
                for other in lane.conflicts:
                    facing = town.lanes[other]
                    if (
                        facing.turn == Turn.STRAIGHT
                        and signal_of.get(facing.predecessors[0]) in phase.signals
                    ):
                        assert other in lane.yields_to
                        seen += 1
    assert seen > 0


def test_unknown_towns_are_refused_with_the_names_that_exist(tmp_path):
    with pytest.raises(ValueError, match=r"not built in .*Alder40.*--maps"):
        load_town("Alder41")
    with pytest.raises(ValueError, match="no built-in town"):
        build_town("Cedar01")
    with pytest.raises(FileNotFoundError, match=r"Town99\.xodr"):
        load_town("Town99", tmp_path)
