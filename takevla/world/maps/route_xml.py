"""Leaderboard and Bench2Drive route files: keypoints, scenarios and weathers as XML.

The files are CARLA's: left-handed (y to the right), yaw clockwise in degrees.  Everything read here
is REP-103 (y to the left, yaw counter-clockwise in radians), except the raw `parameters` of a
scenario, which stay text; `point_world` converts those that are places.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from numpy.typing import NDArray

from takevla.scene.road_map import RoadMap
from takevla.scene.route import Route
from takevla.scene.scene import Weather
from takevla.scene.trace import trace_route

LARGEST_FILE_BYTES = 64 * 2**20  # Bench2Drive's 220 routes are about 1 MB
LARGEST_COORDINATE_M = 1e6
MOST_KEYPOINTS = 20_000
TRIGGER_DIGITS = (6, 6, 6, 8)  # decimals kept of x, y, z (m) and yaw (rad), so that files read back equal
REPEAT = "#"  # the second <flow> child of a scenario is parameter "flow#2"

_WEATHER_FIELDS = {
    "cloudiness": "cloudiness",
    "precipitation": "precipitation",
    "precipitation_deposits": "precipitation_deposits",
    "wetness": "wetness",
    "fog_density": "fog_density",
    "sun_altitude_angle": "sun_altitude_deg",
    "sun_azimuth_angle": "sun_azimuth_deg",
}


@dataclass(frozen=True)
class ScenarioCall:
    """One scenario that a route asks for.

    `trigger_world` is x, y, z (m) and yaw (rad) of the first trigger point, REP-103.  `parameters`
    keeps the attributes of every other child element as text in CARLA's units, in file order; a
    repeated element has its number appended (`trigger_point#2`).
    """

    name: str
    type: str
    trigger_world: tuple[float, float, float, float]
    parameters: Mapping[str, Mapping[str, str]]

    def __post_init__(self) -> None:
        rounded = tuple(
            round(float(value), digits) + 0.0 for value, digits in zip(self.trigger_world, TRIGGER_DIGITS)
        )
        object.__setattr__(self, "trigger_world", rounded)


@dataclass(frozen=True, eq=False)
class RouteTask:
    """One route to drive: K keypoints, the scenarios on it and its weathers by percentage driven."""

    id: str
    town: str
    keypoints_world: NDArray[np.float32]  # (K, 3) m, REP-103
    scenarios: tuple[ScenarioCall, ...] = ()
    weathers: tuple[tuple[float, Weather], ...] = ((0.0, Weather()),)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, RouteTask)
            and (self.id, self.town, self.scenarios, self.weathers)
            == (other.id, other.town, other.scenarios, other.weathers)
            and np.array_equal(self.keypoints_world, other.keypoints_world)
        )

    def __hash__(self) -> int:
        return hash((self.id, self.town))


def point_world(attributes: Mapping[str, str]) -> tuple[float, float, float, float]:
    """The place (x, y, z, yaw), REP-103, that a scenario parameter gives in CARLA's frame.

    Missing z and yaw are 0.

    Raises:
        ValueError: if x or y is missing or a number is not finite.
    """
    x, y = _number(attributes, "x"), _number(attributes, "y")
    z, yaw = _number(attributes, "z", 0.0), _number(attributes, "yaw", 0.0)
    return x, 0.0 - y, z, _wrap(-math.radians(yaw))


def point_attributes(place_world: Sequence[float] | NDArray[np.floating[Any]]) -> dict[str, str]:
    """The attributes in CARLA's frame of a place (x, y[, z[, yaw]]), REP-103: inverse of `point_world`."""
    values = [float(value) for value in place_world]
    values[1] = 0.0 - values[1]
    if len(values) > 3:
        values[3] = -math.degrees(values[3])
    names = ("x", "y", "z", "yaw")[: len(values)]
    return {name: repr(round(value, 7) + 0.0) for name, value in zip(names, values)}


def read_routes(path: Path | str) -> list[RouteTask]:
    """All routes of a leaderboard file, old form (`<waypoint>` children) or new (`<waypoints>`).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: one line that names the file, and the route where it can.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such route file")
    size = path.stat().st_size
    if size > LARGEST_FILE_BYTES:
        raise ValueError(f"{path}: {size} bytes is more than a route file may have ({LARGEST_FILE_BYTES})")
    try:
        root = fromstring(path.read_bytes())
    except (ElementTree.ParseError, DefusedXmlException, ValueError, LookupError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: not a readable XML file: {reason}") from None
    elements = list(root.iter("route"))
    if not elements:
        raise ValueError(f"{path}: no <route> element; is this a leaderboard route file?")
    tasks: list[RouteTask] = []
    seen: dict[str, int] = {}
    for element in elements:
        name = element.get("id")
        if not name:
            raise ValueError(f"{path}: route number {len(tasks) + 1} has no id attribute")
        if not name.isprintable():
            raise ValueError(f"{path}: route number {len(tasks) + 1} has an id with control characters")
        seen[name] = seen.get(name, 0) + 1
        label = name if seen[name] == 1 else f"{name}{REPEAT}{seen[name]}"
        try:
            tasks.append(_read_route(element, label))
        except ValueError as error:
            raise ValueError(f"{path}: route {label}: {error}") from None
    return tasks


def _read_route(element: Any, name: str) -> RouteTask:
    town = element.get("town") or element.get("map")
    if not town:
        raise ValueError("no town attribute")
    if not town.isprintable():
        raise ValueError("its town has control characters")
    positions = element.findall("./waypoints/position") or element.findall("./waypoint")
    if not 2 <= len(positions) <= MOST_KEYPOINTS:
        raise ValueError(f"{len(positions)} waypoint positions; a route has 2 to {MOST_KEYPOINTS}")
    keypoints = []
    for k, position in enumerate(positions):
        try:
            keypoints.append(point_world(position.attrib)[:3])
        except ValueError as error:
            raise ValueError(f"waypoint {k}: {error}") from None
    scenarios = tuple(
        _read_scenario(child, k) for k, child in enumerate(element.findall("./scenarios/scenario"))
    )
    weather_elements = element.findall("./weathers/weather") or element.findall("./weather")
    weathers = sorted((_read_weather(child) for child in weather_elements), key=lambda item: item[0])
    return RouteTask(
        id=name,
        town=town,
        keypoints_world=np.array(keypoints, np.float32),
        scenarios=scenarios,
        weathers=tuple(weathers) or ((0.0, Weather()),),
    )


def _read_scenario(element: Any, index: int) -> ScenarioCall:
    kind = element.get("type")
    if not kind:
        raise ValueError(f"scenario {index} has no type attribute")
    name = element.get("name") or f"{kind}_{index}"
    trigger = None
    parameters: dict[str, dict[str, str]] = {}
    seen: dict[str, int] = {}
    for child in element:
        if not isinstance(child.tag, str):
            continue
        seen[child.tag] = seen.get(child.tag, 0) + 1
        if child.tag == "trigger_point" and trigger is None:
            try:
                trigger = point_world(child.attrib)
            except ValueError as error:
                raise ValueError(f"trigger point of scenario {name}: {error}") from None
            continue
        key = child.tag if seen[child.tag] == 1 else f"{child.tag}{REPEAT}{seen[child.tag]}"
        parameters[key] = dict(child.attrib)
    if trigger is None:
        raise ValueError(f"scenario {name} has no <trigger_point>")
    return ScenarioCall(name, kind, trigger, parameters)


def _read_weather(element: Any) -> tuple[float, Weather]:
    percentage = _number(element.attrib, "route_percentage", 0.0)
    values = {
        ours: _number(element.attrib, theirs)
        for theirs, ours in _WEATHER_FIELDS.items()
        if theirs in element.attrib
    }
    return percentage, Weather(**values)


def _number(attributes: Mapping[str, str], key: str, default: float | None = None) -> float:
    text = attributes.get(key)
    if text is None:
        if default is None:
            raise ValueError(f"attribute {key} is missing")
        return default
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{key}={text[:40]!r} is not a number") from None
    if not math.isfinite(value) or abs(value) > LARGEST_COORDINATE_M:
        raise ValueError(f"{key}={text[:40]!r} is not a finite number of at most {LARGEST_COORDINATE_M:g}")
    return value


def _wrap(angle: float) -> float:
    return (angle + math.pi) % (2.0 * math.pi) - math.pi


def write_routes(path: Path | str, tasks: Iterable[RouteTask]) -> None:
    """Write a leaderboard file (new form) that `read_routes` reads back equal."""
    root = ElementTree.Element("routes")
    for task in tasks:
        route = ElementTree.SubElement(root, "route", id=task.id, town=task.town)
        weathers = ElementTree.SubElement(route, "weathers")
        for percentage, weather in task.weathers:
            attributes = {"route_percentage": repr(float(percentage))}
            for theirs, ours in _WEATHER_FIELDS.items():
                attributes[theirs] = repr(float(getattr(weather, ours)))
            ElementTree.SubElement(weathers, "weather", attributes)
        waypoints = ElementTree.SubElement(route, "waypoints")
        for x, y, z in task.keypoints_world:
            # The shortest text of a float32 reads back as the same float32.
            place = {
                "x": str(np.float32(x)),
                "y": str(np.float32(0.0) - np.float32(y)),
                "z": str(np.float32(z)),
            }
            ElementTree.SubElement(waypoints, "position", place)
        scenarios = ElementTree.SubElement(route, "scenarios")
        for call in task.scenarios:
            scenario = ElementTree.SubElement(scenarios, "scenario", name=call.name, type=call.type)
            ElementTree.SubElement(scenario, "trigger_point", point_attributes(call.trigger_world))
            for key, texts in call.parameters.items():
                ElementTree.SubElement(scenario, key.split(REPEAT)[0], dict(texts))
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    Path(path).write_text(f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n', encoding="utf-8")


def select_routes(tasks: Sequence[RouteTask], subset: str) -> list[RouteTask]:
    """Routes by the leaderboard's subset syntax: ids and `a-b` ranges in file order, comma separated.

    Raises:
        ValueError: naming an id that no route has.
    """
    position = {task.id: k for k, task in enumerate(tasks)}
    chosen: set[int] = set()
    for item in filter(None, (piece.strip() for piece in subset.split(","))):
        ends = [item] if item in position else item.split("-")
        for end in ends:
            if end not in position:
                raise ValueError(
                    f"no route {end!r} in the file; ids run from {tasks[0].id} to {tasks[-1].id}"
                )
        chosen.update(range(position[ends[0]], position[ends[-1]] + 1))
    return [tasks[k] for k in sorted(chosen)]


def trace_task(road_map: RoadMap, task: RouteTask) -> Route:
    """The dense route of a task.

    Raises:
        ValueError: naming the route and the keypoint that is off the map or cannot be reached.
    """
    try:
        return trace_route(road_map, task.keypoints_world)
    except ValueError as error:
        raise ValueError(f"route {task.id} ({task.town}): {error}") from None
