"""Route files, maps and scenario parameters made to harm: refused in one line, or read, and nothing else."""

import re
import socket

import made_up_opendrive as made
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from takevla.bench.suites import load_suite
from takevla.scene.road_map import RoadMap
from takevla.scene.scene import Controls
from takevla.world.embedded import EmbeddedWorld
from takevla.world.maps import opendrive_file, route_xml
from takevla.world.maps.atlas import load_town
from takevla.world.maps.opendrive import read_opendrive
from takevla.world.maps.route_xml import RouteTask, read_routes
from takevla.world.scenarios.catalogue import SCENARIOS

ROUTE = """<routes><route id="7" town="Town05"><weathers><weather route_percentage="0" cloudiness="10"/>
</weathers><waypoints><position x="1.5" y="2.5" z="0.5"/><position x="30" y="-4" z="0"/></waypoints>
<scenarios><scenario name="Accident_1" type="Accident"><trigger_point x="1" y="2" z="0" yaw="90"/>
<distance value="40"/></scenario></scenarios></route></routes>"""
MAP = made.t_junction()
LAUGHS = "".join(f'<!ENTITY l{k + 1} "{f"&l{k};" * 10}">' for k in range(9))
HOSTILE = [
    "nan",
    "inf",
    "-inf",
    "1e999",
    "1e9",
    "-1e9",
    "1e308",
    "",
    "0",
    "-1",
    "1e-300",
    "x",
    "1,5",
    "\u0663",
]
TICKS = 20
quiet = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def _read(folder, text: str | bytes, kind: str):
    path = folder / f"hostile.{kind}"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return read_opendrive(path) if kind == "xodr" else read_routes(path)


def _outcome(folder, text: str | bytes, kind: str) -> str:
    """What a reader says of a file: "" where it takes it, else the refusal."""
    try:
        found = _read(folder, text, kind)
    except ValueError as error:
        refusal = str(error)
        assert f"hostile.{kind}" in refusal
        assert "\n" not in refusal
        assert len(refusal) < 600
        return refusal
    for one in [found] if isinstance(found, RoadMap) else found:
        if isinstance(one, RoadMap):
            assert all(np.isfinite(lane.points_world).all() for lane in one.lanes)
        else:
            assert isinstance(one, RouteTask)
            assert np.isfinite(one.keypoints_world).all()
    return ""


@st.composite
def spoilt(draw, text: str) -> str:
    """The text with up to three wounds: values swapped for hostile ones, pieces cut out or put in twice."""
    for _ in range(draw(st.integers(1, 3))):
        wound = draw(st.sampled_from(["value", "value", "value", "element", "cut", "twice"]))
        if wound == "value":
            values = [match.span(1) for match in re.finditer(r'="([^"]*)"', text)]
            start, end = draw(st.sampled_from(values or [(0, 0)]))
            text = text[:start] + draw(st.sampled_from(HOSTILE)) + text[end:]
        elif wound == "element":
            elements = [match.span() for match in re.finditer(r"<[^<>/]*/>", text)]
            start, end = draw(st.sampled_from(elements or [(0, 0)]))
            text = text[:start] + text[end:]
        else:
            start = draw(st.integers(0, len(text)))
            end = draw(st.integers(start, min(len(text), start + 300)))
            text = text[:start] + (text[end:] if wound == "cut" else text[start:end] + text[start:])
    return text


@quiet
@given(text=spoilt(MAP))
def test_a_spoilt_map_is_read_or_refused_in_one_line(tmp_path, text):
    _outcome(tmp_path, text, "xodr")


@quiet
@given(text=spoilt(ROUTE))
def test_a_spoilt_route_file_is_read_or_refused_in_one_line(tmp_path, text):
    _outcome(tmp_path, text, "xml")


@pytest.mark.parametrize(("old", "new"), [('id="7"', 'id="7&#10;8"'), ('"Town05"', '"Town&#10;05"')])
def test_names_that_would_break_a_line_are_refused(tmp_path, old, new):
    assert "control characters" in _outcome(tmp_path, ROUTE.replace(old, new), "xml")


@settings(quiet, max_examples=60)
@given(noise=st.binary(max_size=200))
def test_noise_is_refused(tmp_path, noise):
    for kind in ("xml", "xodr"):
        assert _outcome(tmp_path, noise, kind)


@pytest.mark.parametrize("kind", ["xml", "xodr"])
@pytest.mark.parametrize(
    "head",
    [
        f'<!DOCTYPE r [<!ENTITY l0 "ha">{LAUGHS}]>',
        '<!DOCTYPE r [<!ENTITY secret SYSTEM "{file}">]>',
        '<!DOCTYPE r [<!ENTITY secret SYSTEM "http://127.0.0.1:9/x">]>',
        '<!DOCTYPE r SYSTEM "http://127.0.0.1:9/x.dtd">',
        '<!DOCTYPE r [<!ENTITY % p SYSTEM "{file}"> %p;]>',
    ],
    ids=["billion laughs", "file entity", "net entity", "net dtd", "parameter entity"],
)
def test_entities_are_refused_without_reading_or_calling_anyone(tmp_path, monkeypatch, kind, head):
    calls: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda *args: calls.append(args))
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret words")
    body = (MAP if kind == "xodr" else ROUTE).replace('<?xml version="1.0"?>', "")
    name = "&l9;" if "l9" in head else "&secret;" if "ENTITY secret" in head else "7"
    body = body.replace('id="7"', f'id="{name}"').replace('<road id="1"', f'<road id="{name}"')
    refusal = _outcome(tmp_path, head.replace("{file}", secret.as_uri()) + body, kind)
    if "net dtd" not in head and "SYSTEM" in head and "ENTITY" not in head:
        assert "the secret words" not in refusal  # a bare external subset is ignored, not fetched
    else:
        assert "not a readable XML file" in refusal
        assert "the secret words" not in refusal
    assert calls == []


@pytest.mark.parametrize("kind", ["xml", "xodr"])
def test_deep_nesting_is_no_trouble(tmp_path, kind):
    assert _outcome(tmp_path, "<r>" * 200_000 + "</r>" * 200_000, kind)


@pytest.mark.parametrize(("module", "kind"), [(route_xml, "xml"), (opendrive_file, "xodr")])
def test_a_file_of_huge_size_is_refused_before_it_is_read(tmp_path, monkeypatch, module, kind):
    monkeypatch.setattr(module, "LARGEST_FILE_BYTES", 1000)
    assert "is more than" in _outcome(tmp_path, b" " * 1001, kind)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('length="20"', 'length="1e8"', "length"),
        ('a="3.5"', 'a="1e8"', "km"),
        ('max="30" unit="mph"', 'max="1e6" unit="m/s"', "speed"),
        ("<planView>", '<elevationProfile><elevation s="0" a="1e8"/></elevationProfile><planView>', "high"),
        ('<line/>', '<paramPoly3 aU="0" bU="1e8" cU="0" dU="0" aV="0" bV="0" cV="0" dV="0"/>', "km"),
    ],
)  # fmt: skip
def test_huge_roads_are_refused_with_the_figure_named(tmp_path, old, new, words):
    assert old in MAP
    assert words in _outcome(tmp_path, MAP.replace(old, new), "xodr")


def test_a_map_whose_lanes_wind_on_for_ever_is_refused(tmp_path):
    """Each road is short by its own word, but its curve runs to and fro for 90 km."""
    curve = (
        '<paramPoly3 pRange="arcLength" aU="0" bU="-90000" cU="0" dU="90000" aV="0" bV="0" cV="0" dV="0"/>'
    )
    roads = [made.road(k, 1, made.geometry(0, 0, 9 * k, 0, 1, curve), made.two_way()) for k in range(60)]
    assert "of lanes" in _outcome(tmp_path, made.document(*roads), "xodr")


@pytest.mark.parametrize("town", ["../outside", "sub/Town", "/etc/hostname", "..", "", "a\x00b", "Town\n01"])
def test_a_town_is_a_name_and_never_a_path(tmp_path, town):
    maps = tmp_path / "maps"
    maps.mkdir()
    (tmp_path / "outside.xodr").write_text(MAP)
    with pytest.raises(ValueError, match="town") as caught:
        load_town(town, maps)
    assert "\n" not in str(caught.value)


def _calls() -> dict[str, tuple[RouteTask, int]]:
    suite = load_suite("dev88")
    return {task.scenarios[0].type: (task, seed) for task, seed in zip(suite.tasks, suite.seeds, strict=True)}


@pytest.mark.parametrize("name", SCENARIOS)
def test_hostile_parameters_leave_the_route_without_scenario_and_say_so_or_are_used(name):
    """Every parameter in turn takes every hostile value: no crash, no hang, finite positions."""
    task, seed = _calls()[name]
    call = task.scenarios[0]
    road_map = load_town(task.town)
    for parameter, attributes in call.parameters.items():
        for attribute in attributes:
            for value in ("nan", "1e308", "-1e9", "0"):
                spoilt = {**call.parameters, parameter: {**attributes, attribute: value}}
                changed = route_xml.ScenarioCall(call.name, call.type, call.trigger_world, spoilt)
                world = EmbeddedWorld(
                    road_map,
                    RouteTask(task.id, task.town, task.keypoints_world, (changed,)),
                    seed,
                    density=0.0,
                )
                assert world.record().scenario_reason
                for _ in range(TICKS):
                    world.tick(Controls(0.0, 0.5, 0.0))
                assert np.isfinite(world.scene().actors.position_world).all()
