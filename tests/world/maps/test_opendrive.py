"""OpenDRIVE maps: made-up ones, broken ones, and CARLA's towns where they are at hand."""

import math
import os
from pathlib import Path

import made_up_opendrive as made
import numpy as np
import pytest

from takevla.scene.lane_query import nearest_lane
from takevla.scene.road_map import Control, LaneKind, MarkKind, Turn
from takevla.scene.trace import trace_route
from takevla.world.maps.atlas import load_town
from takevla.world.maps.check import check_map
from takevla.world.maps.opendrive import read_opendrive
from takevla.world.maps.route_xml import read_routes, trace_task

SHARED = Path(os.environ.get("TAKEVLA_SHARED", Path(__file__).resolve().parents[4] / "shared")) / "data"
TOWNS = sorted(path.stem for path in (SHARED / "maps").glob("*.xodr")) if (SHARED / "maps").is_dir() else []
at_hand = pytest.mark.skipif(not TOWNS, reason="no CARLA maps beside the checkout")


def _read(tmp_path, text, name="Made"):
    path = tmp_path / f"{name}.xodr"
    path.write_text(text)
    return read_opendrive(path)


def test_a_junction_is_read_with_turns_lights_and_right_of_way(tmp_path):
    town = _read(tmp_path, made.t_junction())
    assert list(check_map(town, open_ends=True)) == []
    (junction,) = town.junctions
    turns = sorted(town.lanes[connector].turn for connector in junction.connectors)
    assert turns == sorted([Turn.STRAIGHT, Turn.STRAIGHT, Turn.RIGHT, Turn.LEFT, Turn.RIGHT])
    assert len(town.signals) == 3
    assert sorted(len(phase.signals) for phase in junction.phases) == [1, 2]  # west and east together
    assert {line.control for line in town.stop_lines} == {Control.SIGNAL}
    for line in town.stop_lines:
        end = town.lanes[line.lane].points_world[-1, :2]
        assert np.hypot(*end) < 11.0
    left = next(town.lanes[c] for c in junction.connectors if town.lanes[c].turn == Turn.LEFT)
    through = [
        c
        for c in left.conflicts
        if town.lanes[c].turn == Turn.STRAIGHT and town.lanes[c].points_world[0, 0] < 0
    ]
    assert through
    assert set(through) <= set(left.yields_to)


def test_opendrive_coordinates_are_the_worlds_and_traffic_keeps_right(tmp_path):
    town = _read(tmp_path, made.t_junction())
    lane, _, lateral = nearest_lane(town.arrays, -60.0, -1.75, 0.0, 3.0, True)
    assert lane >= 0
    assert abs(lateral) < 0.01
    lane, *_ = nearest_lane(town.arrays, -60.0, 1.75, math.pi, 3.0, True)
    assert abs(town.lanes[lane].heading_rad[0]) == pytest.approx(math.pi, abs=0.01)
    assert town.lanes[lane].left_mark == MarkKind.BROKEN_WHITE
    assert town.lanes[town.lanes[lane].opposite].opposite == lane
    assert town.lanes[lane].speed_limit_mps == pytest.approx(13.41, abs=0.01)  # 30 mph


def test_left_hand_traffic_runs_the_other_way(tmp_path):
    road = made.road(1, 50, made.geometry(0, 0, 0, 0, 50), made.two_way(), rule="LHT")
    town = _read(tmp_path, made.document(road))
    assert nearest_lane(town.arrays, 25.0, 1.75, 0.0, 1.0, True)[0] >= 0
    assert nearest_lane(town.arrays, 25.0, -1.75, 0.0, 1.0, True)[0] == -1


def test_a_route_is_traced_through_the_junction(tmp_path):
    town = _read(tmp_path, made.t_junction())
    route = trace_route(town, np.array([[-100.0, -1.75, 0.0], [-1.75, -90.0, 0.0]]))
    assert route.length_m == pytest.approx(90 + (10 - 1.75) * math.pi / 2 + 80, abs=1.0)


@pytest.mark.parametrize(
    ("shape", "end", "heading"),
    [
        ('<arc curvature="0.02"/>', (50 * math.sin(1), 50 * (1 - math.cos(1))), 1.0),
        ('<spiral curvStart="0" curvEnd="0.02"/>', (48.7645, 8.1838), 0.5),
        (
            '<paramPoly3 pRange="normalized" aU="0" bU="50" cU="0" dU="0" aV="0" bV="0" cV="0" dV="0"/>',
            (50, 0),
            0,
        ),
        (
            '<paramPoly3 pRange="arcLength" aU="0" bU="1" cU="0" dU="0" aV="0" bV="0" cV="0" dV="0"/>',
            (50, 0),
            0,
        ),
        ('<poly3 a="0" b="0" c="0" d="0"/>', (50, 0), 0),
    ],
)
def test_every_shape_of_reference_line_ends_where_it_should(tmp_path, shape, end, heading):
    lanes = made.section(0, [(0, made.lane(0)), (-1, made.lane(-1, width=1e-3 + 3.5))])
    offset = '<laneOffset s="0" a="1.7505" b="0" c="0" d="0"/>'
    text = made.document(made.road(1, 50, made.geometry(0, 0, 0, 0, 50, shape), offset + lanes))
    lane = _read(tmp_path, text).lanes[0]
    np.testing.assert_allclose(lane.points_world[-1, :2], end, atol=0.02)
    assert lane.heading_rad[-1] == pytest.approx(heading, abs=0.01)


def test_sections_lanes_of_all_kinds_and_opening_lanes_are_joined(tmp_path):
    first = made.section(
        0, [(0, made.lane(0)), (-1, made.lane(-1, after=-1)), (-2, made.lane(-2, kind="sidewalk", after=-3))]
    )
    second = made.section(
        40,
        [
            (0, made.lane(0)),
            (-1, made.lane(-1, before=-1, mark="broken")),
            (-2, made.lane(-2, width=0.0, slope=0.05)),
            (-3, made.lane(-3, kind="sidewalk", before=-2)),
        ],
    )
    text = made.document(made.road(1, 100, made.geometry(0, 0, 0, 0, 100), first + second))
    town = _read(tmp_path, text)
    kinds = [lane.kind for lane in town.lanes]
    assert kinds.count(LaneKind.DRIVING) == 3
    before, after, opening = (lane for lane in town.lanes if lane.kind == LaneKind.DRIVING)
    assert before.successors == (after.index,)
    assert (after.right, opening.left) == (opening.index, after.index)
    assert opening.predecessors == ()
    assert opening.width_m[-1] == pytest.approx(3.0, abs=0.05)
    route = trace_route(town, np.array([before.points_world[5], opening.points_world[-2]]))
    assert set(route.lane) == {before.index, after.index, opening.index}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda text: text[: len(text) // 2], "not a readable XML file"),
        (lambda text: text.replace("OpenDRIVE", "OpenScenario"), "root element"),
        (lambda text: text.replace('length="100"', 'length="nan"'), "road 1: .*no finite number"),
        (lambda text: text.replace('length="100"', 'length="1e300"'), "road 1: "),
        (lambda text: text.replace('x="-110"', 'x="1e8"'), "road 1: .*farther than"),
        (lambda text: text.replace('x="-110"', 'x="-90000"'), "90 km wide"),
        (lambda text: text.replace('a="3.5"', 'a="1e8"'), "farther than"),
        (lambda text: text.replace('length="100"', 'length="-3"'), "road 1: a length of -3"),
        (lambda text: text.replace('type="driving"', 'type="none"'), "no driving lane"),
        (lambda text: text.replace("<line/>", ""), "none of line, arc"),
        (lambda text: text.replace('id="2"', 'id="1"'), "two roads have the id 1"),
        (lambda text: text.replace('<lane id="1"', '<lane id="x"'), "no finite number"),
        (lambda text: "<OpenDRIVE/>", "no road"),
        (
            lambda text: (
                '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
                + text.replace('<?xml version="1.0"?>', "").replace('name="t"', 'name="&a;"')
            ),
            "not a readable XML file",
        ),
    ],
)
def test_broken_maps_are_refused_in_one_line_that_names_the_file(tmp_path, spoil, words):
    with pytest.raises(ValueError, match=words) as caught:
        _read(tmp_path, spoil(made.t_junction()))
    assert "Made.xodr" in str(caught.value)
    assert "\n" not in str(caught.value)


@at_hand
@pytest.mark.parametrize("name", TOWNS)
def test_a_carla_town_is_whole(name):
    town = load_town(name, SHARED / "maps")
    bends = [fault for fault in check_map(town) if "bends with a radius" not in fault]
    assert bends == []  # CARLA's own corners are as tight as they are
    assert town.signals
    lamps = np.array([head[:2] for signal in town.signals for head in signal.heads])
    roads = [lane for lane in town.lanes if lane.kind == LaneKind.DRIVING]
    for lane in roads:
        gap = np.hypot(*(lane.points_world[:, None, :2] - lamps[None]).transpose(2, 0, 1))
        assert (gap > 0.5 * lane.width_m[:, None]).all()


@at_hand
@pytest.mark.parametrize("name", TOWNS)
def test_lanes_lie_where_the_simulator_has_them(name):
    carla = pytest.importorskip("carla")
    town = load_town(name, SHARED / "maps")
    reference = carla.Map(name, (SHARED / "maps" / f"{name}.xodr").read_text())
    for waypoint in reference.generate_waypoints(10.0):
        place, turn = waypoint.transform.location, waypoint.transform.rotation
        lane, s, lateral = nearest_lane(town.arrays, place.x, -place.y, -math.radians(turn.yaw), 1.0, True)
        assert lane >= 0
        assert abs(lateral) < 0.05
        width = np.interp(
            s,
            np.linspace(0, town.lanes[lane].length_m, len(town.lanes[lane].width_m)),
            town.lanes[lane].width_m,
        )
        assert width == pytest.approx(waypoint.lane_width, abs=0.05)


@at_hand
@pytest.mark.parametrize("name", TOWNS)
def test_every_real_route_is_traced(name):
    path = SHARED / "routes" / f"{name}.xml"
    if not path.is_file():
        pytest.skip("no routes for this town")
    town = load_town(name, SHARED / "maps")
    for task in read_routes(path):
        route = trace_task(town, task)
        gaps = np.hypot(
            *(route.points_world[:, None, :2] - task.keypoints_world[None, :, :2]).transpose(2, 0, 1)
        )
        assert gaps.min(axis=0).max() < 1.0
        assert np.linalg.norm(np.diff(route.points_world, axis=0), axis=1).max() < 1.2
