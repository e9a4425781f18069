"""An OpenDRIVE file as records: what `opendrive` builds lanes from, checked on entry.

Covers what CARLA's maps use of OpenDRIVE 1.4 (and the same elements of later versions).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from numpy.typing import NDArray

LARGEST_FILE_BYTES = 512 * 2**20  # CARLA's largest towns have tens of megabytes
LONGEST_ROAD_M = 100_000.0
LONGEST_MAP_M = 5_000_000.0  # sum over lanes; CARLA's largest towns stay below 1,000 km
LARGEST_NUMBER = 1e9
FASTEST_MPS = 150.0
MPS_PER_UNIT = {"mph": 0.44704, "km/h": 1.0 / 3.6, "m/s": 1.0}

Double = NDArray[np.float64]


@dataclass(frozen=True)
class Geometry:
    """One piece of a road's reference line in the plan."""

    s: float
    x: float
    y: float
    heading: float
    length: float
    shape: str  # "line", "arc", "spiral", "poly3", "paramPoly3"
    values: tuple[float, ...]  # curvature(s) or polynomial coefficients (au..du, av..dv)
    normalised: bool = False  # paramPoly3: parameter runs to 1 instead of to the length


@dataclass(frozen=True)
class Mark:
    """The paint on a lane's outer edge from `s` (within the section) on."""

    s: float
    type: str
    colour: str


@dataclass(frozen=True)
class LaneRecord:
    """One lane of a lane section; ids count outwards, negative to the right of the reference line."""

    id: int
    type: str
    predecessors: tuple[int, ...]
    successors: tuple[int, ...]
    widths: Double  # (W, 5) s within the section, a, b, c, d
    is_border: bool  # whether `widths` hold the outer border's offset instead
    marks: tuple[Mark, ...]
    speed_mps: float | None


@dataclass(frozen=True)
class SectionRecord:
    """A stretch of road with constant lanes."""

    s: float
    lanes: dict[int, LaneRecord]


@dataclass(frozen=True)
class RoadLink:
    """What a road's end touches."""

    kind: str  # "road" or "junction"
    id: str
    contact: str  # "start" or "end" of that road, "" for junctions


@dataclass(frozen=True)
class SignalRecord:
    """A signal, or a reference to one from the lanes it rules."""

    id: str
    s: float
    t: float
    orientation: str
    type: str  # "" on references
    lanes: tuple[tuple[int, int], ...]  # validity ranges of lane ids; empty: by orientation
    limit_mps: float | None = None  # of speed limit signs


@dataclass(frozen=True)
class CrosswalkRecord:
    """A pedestrian crossing as a polygon about a point of the road."""

    s: float
    t: float
    heading: float
    corners: Double  # (K, 2) local u, v


@dataclass(frozen=True)
class RoadRecord:
    """One road."""

    id: str
    length: float
    junction: str  # "-1" outside junctions
    left_hand: bool
    predecessor: RoadLink | None
    successor: RoadLink | None
    geometries: tuple[Geometry, ...]
    elevations: Double  # (E, 5)
    offsets: Double  # (O, 5) lane offsets
    sections: tuple[SectionRecord, ...]
    speeds: tuple[tuple[float, float | None], ...]  # from s on, m/s
    signals: tuple[SignalRecord, ...]
    references: tuple[SignalRecord, ...]
    crosswalks: tuple[CrosswalkRecord, ...]


@dataclass(frozen=True)
class LaneJoint:
    """A lane link through a junction."""

    incoming: str
    connecting: str
    contact: str
    lanes: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class OpenDriveFile:
    """All that is read from a file."""

    roads: dict[str, RoadRecord]
    joints: tuple[LaneJoint, ...]


def read_file(path: Path) -> OpenDriveFile:
    """Read and check an OpenDRIVE file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: one line that names the file, and the road where it can.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such OpenDRIVE file")
    size = path.stat().st_size
    if size > LARGEST_FILE_BYTES:
        raise ValueError(f"{path}: {size} bytes is more than a map may have ({LARGEST_FILE_BYTES})")
    try:
        root = fromstring(path.read_bytes())
    except (ElementTree.ParseError, DefusedXmlException, ValueError, LookupError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: not a readable XML file: {reason}") from None
    if "}" in root.tag:
        for element in root.iter():
            if isinstance(element.tag, str):
                element.tag = element.tag.rpartition("}")[2]
    if root.tag != "OpenDRIVE":
        raise ValueError(f"{path}: the root element is <{root.tag}>, not <OpenDRIVE>")
    roads: dict[str, RoadRecord] = {}
    for element in root.findall("road"):
        name = element.get("id", "?")
        try:
            road = _read_road(element)
        except ValueError as error:
            raise ValueError(f"{path}: road {name}: {error}") from None
        if road.id in roads:
            raise ValueError(f"{path}: two roads have the id {road.id}")
        roads[road.id] = road
    if not roads:
        raise ValueError(f"{path}: the map has no road")
    total = sum(road.length * max(len(section.lanes) for section in road.sections) for road in roads.values())
    if total > LONGEST_MAP_M:
        raise ValueError(
            f"{path}: {total / 1000:.0f} km of lanes are more than {LONGEST_MAP_M / 1000:.0f} km"
        )
    joints = []
    for junction in root.findall("junction"):
        for connection in junction.findall("connection"):
            try:
                lanes = tuple(
                    (_integer(link, "from"), _integer(link, "to")) for link in connection.findall("laneLink")
                )
            except ValueError as error:
                raise ValueError(f"{path}: junction {junction.get('id')}: {error}") from None
            joints.append(
                LaneJoint(
                    connection.get("incomingRoad", ""),
                    connection.get("connectingRoad", ""),
                    connection.get("contactPoint", "start"),
                    lanes,
                )
            )
    return OpenDriveFile(roads, tuple(joints))


def _read_road(element: Any) -> RoadRecord:
    name = element.get("id")
    if not name:
        raise ValueError("it has no id")
    length = _float(element, "length")
    if not 0.0 < length <= LONGEST_ROAD_M:
        raise ValueError(f"a length of {length:g} m is not between 0 and {LONGEST_ROAD_M:g} m")
    geometries = tuple(_read_geometry(item) for item in element.findall("./planView/geometry"))
    if not geometries:
        raise ValueError("it has no plan view geometry")
    sections = tuple(
        sorted(
            (_read_section(item) for item in element.findall("./lanes/laneSection")), key=lambda item: item.s
        )
    )
    if not sections:
        raise ValueError("it has no lane section")
    link = element.find("link")
    speeds = tuple((_float(item, "s", 0.0), _speed(item.find("speed"))) for item in element.findall("type"))
    references = tuple(_read_signal(item) for item in element.findall("./signals/signalReference"))
    return RoadRecord(
        id=name,
        length=length,
        junction=element.get("junction", "-1"),
        left_hand=element.get("rule", "RHT").upper() == "LHT",
        predecessor=_road_link(link, "predecessor"),
        successor=_road_link(link, "successor"),
        geometries=tuple(sorted(geometries, key=lambda item: item.s)),
        elevations=_cubics(element.findall("./elevationProfile/elevation"), "s"),
        offsets=_cubics(element.findall("./lanes/laneOffset"), "s"),
        sections=sections,
        speeds=speeds,
        signals=tuple(_read_signal(item) for item in element.findall("./signals/signal")),
        references=references,
        crosswalks=tuple(
            _read_crosswalk(item)
            for item in element.findall("./objects/object")
            if item.get("type", "").lower() == "crosswalk"
        ),
    )


def _read_geometry(element: Any) -> Geometry:
    s, x, y = _float(element, "s"), _float(element, "x"), _float(element, "y")
    heading, length = _float(element, "hdg"), _float(element, "length")
    if length < 0.0 or length > LONGEST_ROAD_M:
        raise ValueError(f"a geometry's length of {length:g} m is not between 0 and {LONGEST_ROAD_M:g} m")
    for shape in ("line", "arc", "spiral", "poly3", "paramPoly3"):
        child = element.find(shape)
        if child is None:
            continue
        if shape == "line":
            values: tuple[float, ...] = ()
        elif shape == "arc":
            values = (_float(child, "curvature"),)
        elif shape == "spiral":
            values = (_float(child, "curvStart"), _float(child, "curvEnd"))
        elif shape == "poly3":
            values = tuple(_float(child, key) for key in "abcd")
        else:
            values = tuple(_float(child, key + axis) for axis in "UV" for key in "abcd")
        normalised = shape == "paramPoly3" and child.get("pRange", "normalized") != "arcLength"
        return Geometry(s, x, y, heading, length, shape, values, normalised)
    raise ValueError("a geometry has none of line, arc, spiral, poly3, paramPoly3")


def _read_section(element: Any) -> SectionRecord:
    lanes = {}
    for item in (
        element.findall("./left/lane") + element.findall("./center/lane") + element.findall("./right/lane")
    ):
        lane = _read_lane(item)
        lanes[lane.id] = lane
    if not lanes:
        raise ValueError("a lane section has no lanes")
    return SectionRecord(_float(element, "s"), lanes)


def _read_lane(element: Any) -> LaneRecord:
    index = _integer(element, "id")
    widths = _cubics(element.findall("width"), "sOffset")
    borders = _cubics(element.findall("border"), "sOffset")
    is_border = not len(widths) and len(borders) > 0
    marks = tuple(
        Mark(_float(item, "sOffset", 0.0), item.get("type", "none").lower(), item.get("color", "").lower())
        for item in element.findall("roadMark")
    )
    link = element.find("link")
    return LaneRecord(
        id=index,
        type=element.get("type", "none"),
        predecessors=_lane_links(link, "predecessor"),
        successors=_lane_links(link, "successor"),
        widths=borders if is_border else widths,
        is_border=is_border,
        marks=tuple(sorted(marks, key=lambda mark: mark.s)),
        speed_mps=_speed(element.find("speed")),
    )


def _lane_links(link: Any, tag: str) -> tuple[int, ...]:
    return () if link is None else tuple(_integer(item, "id") for item in link.findall(tag))


def _road_link(link: Any, tag: str) -> RoadLink | None:
    item = None if link is None else link.find(tag)
    if item is None:
        return None
    return RoadLink(item.get("elementType", "road"), item.get("elementId", ""), item.get("contactPoint", ""))


def _read_signal(element: Any) -> SignalRecord:
    lanes = tuple(
        sorted((_integer(item, "fromLane"), _integer(item, "toLane"))) for item in element.findall("validity")
    )
    kind = element.get("type", "")
    limit = None
    if kind == "274":  # maximum speed; CARLA writes the figure as subtype or value
        figures = [_maybe(element.get(key)) for key in ("value", "subtype")]
        figure = next((value for value in figures if value is not None and value > 0.0), None)
        factor = MPS_PER_UNIT.get(element.get("unit", "km/h"), 1.0 / 3.6)
        limit = None if figure is None else _believable(figure * factor)
    return SignalRecord(
        id=element.get("id", ""),
        s=_float(element, "s"),
        t=_float(element, "t", 0.0),
        orientation=element.get("orientation", "none"),
        type=kind,
        lanes=tuple((low, high) for low, high in lanes if (low, high) != (0, 0)),
        limit_mps=limit,
    )


def _read_crosswalk(element: Any) -> CrosswalkRecord:
    corners = [
        (_float(item, "u"), _float(item, "v")) for item in element.findall("./outline/cornerLocal")
    ] or [
        (_float(item, "u"), _float(item, "v")) for item in element.findall("./outlines/outline/cornerLocal")
    ]
    if len(corners) > 1 and math.dist(corners[0], corners[-1]) < 1e-3:
        corners = corners[:-1]
    if len(corners) < 3:
        half, wide = _float(element, "length", 0.0) / 2, _float(element, "width", 0.0) / 2
        corners = [(half, wide), (half, -wide), (-half, -wide), (-half, wide)]
    return CrosswalkRecord(
        _float(element, "s"), _float(element, "t", 0.0), _float(element, "hdg", 0.0), np.array(corners)
    )


def _cubics(elements: list[Any], start: str) -> Double:
    rows = [[_float(item, start, 0.0), *(_float(item, key, 0.0) for key in "abcd")] for item in elements]
    rows.sort(key=lambda row: row[0])
    return np.array(rows, np.float64).reshape(-1, 5)


def _speed(element: Any) -> float | None:
    """A <speed> element in m/s; None where absent, unlimited or undefined."""
    value = None if element is None else _maybe(element.get("max"))
    if element is None or value is None or value <= 0.0:
        return None
    return _believable(value * MPS_PER_UNIT.get(element.get("unit", "m/s"), 1.0))


def _believable(limit_mps: float) -> float:
    if limit_mps > FASTEST_MPS:
        raise ValueError(f"a speed limit of {limit_mps:g} m/s is more than {FASTEST_MPS:g} m/s")
    return limit_mps


def _maybe(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) and abs(value) < LARGEST_NUMBER else None


def _float(element: Any, key: str, default: float | None = None) -> float:
    text = element.get(key)
    if text is None:
        if default is None:
            raise ValueError(f"<{element.tag}> lacks the attribute {key}")
        return default
    value = _maybe(text)
    if value is None:
        raise ValueError(f"<{element.tag}> has {key}={text[:40]!r}, which is no finite number")
    return value


def _integer(element: Any, key: str) -> int:
    value = _float(element, key)
    if value != int(value):
        raise ValueError(f"<{element.tag}> has {key}={value:g}, which is no whole number")
    return int(value)
