"""Leaderboard route files."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from takevla.scene.scene import Weather
from takevla.world.maps.atlas import load_town
from takevla.world.maps.route_xml import (
    RouteTask,
    ScenarioCall,
    point_attributes,
    point_world,
    read_routes,
    select_routes,
    trace_task,
    write_routes,
)

NEW = """<routes><route id="7" town="Town05"><weathers>
<weather route_percentage="100" cloudiness="80" sun_altitude_angle="-5"/>
<weather route_percentage="0" cloudiness="10"/></weathers>
<waypoints><position x="1.5" y="2.5" z="0.5"/><position x="30" y="-4" z="0"/></waypoints>
<scenarios><scenario name="Accident_1" type="Accident"><trigger_point x="1" y="2" z="0" yaw="90"/>
<distance value="40"/><flow x="1" y="2"/><flow x="3" y="4"/><trigger_point x="9" y="9" z="0" yaw="0"/>
</scenario></scenarios></route></routes>"""
OLD = """<routes><route id="0" town="Town01"><waypoint x="1" y="2" z="0" yaw="0" connection="LANEFOLLOW"/>
<waypoint x="5" y="2" z="0"/></route></routes>"""

number = st.floats(-1e5, 1e5, allow_nan=False, width=32)
word = st.text("abcdefgXYZ_0123456789", min_size=1, max_size=8)
attribute_text = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=8)
call = st.builds(
    ScenarioCall,
    name=word,
    type=word,
    trigger_world=st.tuples(number, number, number, st.floats(-math.pi, math.pi)),
    parameters=st.dictionaries(
        word.map(lambda w: "p" + w), st.dictionaries(word.map(lambda w: "a" + w), attribute_text), max_size=3
    ),
)
task = st.builds(
    RouteTask,
    id=word,
    town=word,
    keypoints_world=st.lists(st.tuples(number, number, number), min_size=2, max_size=6).map(
        lambda rows: np.array(rows, np.float32)
    ),
    scenarios=st.lists(call, max_size=2).map(tuple),
    weathers=st.lists(
        st.tuples(number, st.builds(Weather, cloudiness=number, sun_altitude_deg=number)),
        min_size=1,
        max_size=3,
    ).map(lambda rows: tuple(sorted(rows, key=lambda row: row[0]))),
)


def _file(tmp_path, text):
    path = tmp_path / "routes.xml"
    path.write_text(text)
    return path


@settings(max_examples=60, deadline=None)
@given(tasks=st.lists(task, min_size=1, max_size=3, unique_by=lambda item: item.id))
def test_what_is_written_reads_back_equal(tasks, tmp_path_factory):
    path = tmp_path_factory.mktemp("routes") / "routes.xml"
    write_routes(path, tasks)
    assert read_routes(path) == tasks


@given(place=st.tuples(number, number, number, st.floats(-3.1, 3.1)))
def test_places_survive_the_round_trip_between_conventions(place):
    assert point_world(point_attributes(place)) == pytest.approx(place, abs=1e-5)


def test_the_new_form_is_read_in_the_worlds_frame(tmp_path):
    (route,) = read_routes(_file(tmp_path, NEW))
    assert (route.id, route.town) == ("7", "Town05")
    np.testing.assert_allclose(route.keypoints_world, [[1.5, -2.5, 0.5], [30.0, 4.0, 0.0]])
    (scenario,) = route.scenarios
    assert scenario.trigger_world == pytest.approx((1.0, -2.0, 0.0, -math.pi / 2))
    assert scenario.parameters == {
        "distance": {"value": "40"},
        "flow": {"x": "1", "y": "2"},
        "flow#2": {"x": "3", "y": "4"},
        "trigger_point#2": {"x": "9", "y": "9", "z": "0", "yaw": "0"},
    }
    assert [percentage for percentage, _ in route.weathers] == [0.0, 100.0]
    assert route.weathers[1][1].sun_altitude_deg == -5.0


def test_the_old_form_without_scenarios_and_weathers_is_read_with_defaults(tmp_path):
    (route,) = read_routes(_file(tmp_path, OLD))
    assert route.scenarios == ()
    assert route.weathers == ((0.0, Weather()),)
    np.testing.assert_allclose(route.keypoints_world[1], [5.0, -2.0, 0.0])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('x="30"', 'x="nan"', "route 7: waypoint 1: x='nan'"),
        ('x="30"', 'x="inf"', "route 7: waypoint 1"),
        ('x="30"', 'x="1e9"', "route 7: waypoint 1"),
        ('x="30"', 'x="thirty"', "route 7: waypoint 1: x='thirty' is not a number"),
        ('<position x="30" y="-4" z="0"/>', "", "route 7: 1 waypoint"),
        (' town="Town05"', "", "route 7: no town"),
        (' id="7"', "", "route number 1 has no id"),
        ('type="Accident"', "", "route 7: scenario 0 has no type"),
        ('<trigger_point x="1"', '<trigger_point u="1"', "route 7: trigger point of scenario Accident_1"),
        ("</routes>", "", "not a readable XML file"),
        ("route", "path", "no <route> element"),
        ("<routes>", '<!DOCTYPE r [<!ENTITY a "b">]><routes>', "not a readable XML file"),
    ],
)
def test_broken_files_are_refused_in_one_line_that_names_file_and_route(tmp_path, old, new, words):
    path = _file(tmp_path, NEW.replace(old, new))
    with pytest.raises(ValueError, match=words) as caught:
        read_routes(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.xml"):
        read_routes(tmp_path / "none.xml")


def test_routes_with_one_id_twice_stay_apart(tmp_path):
    route = OLD.removeprefix("<routes>").removesuffix("</routes>")
    tasks = read_routes(_file(tmp_path, f"<routes>{route}{route}</routes>"))
    assert [task.id for task in tasks] == ["0", "0#2"]


def test_a_route_off_the_map_names_route_and_keypoint():
    town = load_town("Alder01")
    lost = RouteTask("17", "Alder01", np.array([[0, 0, 0], [9000, 0, 0]], np.float32))
    with pytest.raises(ValueError, match=r"route 17 .*keypoint"):
        trace_task(town, lost)


def test_subsets_take_ids_and_ranges_in_file_order():
    points = np.zeros((2, 3), np.float32)
    tasks = [RouteTask(str(k), "T", points) for k in (3, 5, 8, 9)]
    assert [task.id for task in select_routes(tasks, "9,3-8")] == ["3", "5", "8", "9"]
    with pytest.raises(ValueError, match="no route '4'"):
        select_routes(tasks, "4")
