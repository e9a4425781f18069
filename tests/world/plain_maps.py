"""Small road maps made by hand, on which one property shows at a time."""

from __future__ import annotations

import math

import numpy as np

from takevla.scene.road_map import (
    Control,
    Junction,
    Lane,
    LaneKind,
    MarkKind,
    RoadMap,
    Signal,
    SignalPhase,
    StopLine,
    Turn,
)
from takevla.scene.scene import Weather
from takevla.world.maps.route_xml import RouteTask

WIDTH = 3.5
INNER, OUTER = 12.0, 150.0


def lane(index: int, points: list[tuple[float, float]], limit: float = 13.0, **fields: object) -> Lane:
    """A lane along a polyline, resampled to half a metre."""
    line = np.array(points, np.float64)
    steps = np.linalg.norm(np.diff(line, axis=0), axis=1)
    arc = np.concatenate([[0.0], np.cumsum(steps)])
    at = np.linspace(0.0, arc[-1], max(2, int(arc[-1] / 0.5)))
    x, y = np.interp(at, arc, line[:, 0]), np.interp(at, arc, line[:, 1])
    heading = np.arctan2(np.gradient(y), np.gradient(x))
    defaults: dict[str, object] = {"road": index, "kind": LaneKind.DRIVING}
    return Lane(
        index=index,
        points_world=np.column_stack([x, y, np.zeros(len(x))]).astype(np.float32),
        heading_rad=heading.astype(np.float32),
        width_m=np.full(len(x), WIDTH, np.float32),
        speed_limit_mps=limit,
        **{**defaults, **fields},  # type: ignore[arg-type]
    )


def straight(length: float = 400.0, lanes: int = 1, limit: float = 13.0) -> RoadMap:
    """A road to the east; lane 0 is the rightmost at y = 0, the others lie to its left."""
    return RoadMap(
        "Straight",
        tuple(
            lane(
                k,
                [(0.0, WIDTH * k), (length, WIDTH * k)],
                limit,
                left=k + 1 if k + 1 < lanes else -1,
                right=k - 1,
                left_mark=MarkKind.BROKEN_WHITE if k + 1 < lanes else MarkKind.SOLID_YELLOW,
                right_mark=MarkKind.BROKEN_WHITE if k > 0 else MarkKind.SOLID_WHITE,
            )
            for k in range(lanes)
        ),
    )


def _turned(points: list[tuple[float, float]], quarter: int) -> list[tuple[float, float]]:
    c, s = round(math.cos(quarter * math.pi / 2)), round(math.sin(quarter * math.pi / 2))
    return [(c * x - s * y, s * x + c * y) for x, y in points]


def _curve(
    a: tuple[float, float], corner: tuple[float, float], b: tuple[float, float]
) -> list[tuple[float, float]]:
    t = np.linspace(0.0, 1.0, 21)
    return [
        tuple((1 - u) ** 2 * np.array(a) + 2 * u * (1 - u) * np.array(corner) + u * u * np.array(b))
        for u in t
    ]  # type: ignore[misc]


def crossing(control: Control | None = None, major: tuple[int, ...] = (0, 2)) -> RoadMap:
    """Four arms; lane k comes in on arm k (0: from the west), lane 4 + k leaves over arm k.

    Connectors: 8 + 3 k + (0 straight, 1 left, 2 right).  `control` rules the stop lines: SIGNAL of all
    arms (arms 0 and 2 are green first, 10 s each), STOP_SIGN of the arms that are not `major`.
    Arms that are not major yield; left turns yield to what comes towards them.
    """
    h = WIDTH / 2
    lanes: list[Lane] = []
    for k in range(4):
        lanes.append(
            lane(k, _turned([(-OUTER, -h), (-INNER, -h)], k), successors=(8 + 3 * k, 9 + 3 * k, 10 + 3 * k))
        )
    for k in range(4):
        lanes.append(lane(4 + k, _turned([(-INNER, h), (-OUTER, h)], k)))
    ways = []
    for k in range(4):
        ways.append((k, (k + 2) % 4, Turn.STRAIGHT, _turned([(-INNER, -h), (INNER, -h)], k)))
        ways.append((k, (k + 3) % 4, Turn.LEFT, _turned(_curve((-INNER, -h), (h, -h), (h, INNER)), k)))
        ways.append((k, (k + 1) % 4, Turn.RIGHT, _turned(_curve((-INNER, -h), (-h, -h), (-h, -INNER)), k)))
    lines = [np.array(way[3]) for way in ways]
    fine = [
        np.column_stack(
            [np.interp(np.linspace(0, len(p) - 1, 60), np.arange(len(p)), p[:, c]) for c in (0, 1)]
        )
        for p in lines
    ]
    conflicts: list[list[int]] = [[] for _ in ways]
    yields: list[list[int]] = [[] for _ in ways]
    for i, a in enumerate(ways):
        for j, b in enumerate(ways):
            if a[0] == b[0]:
                continue
            if np.hypot(*(fine[i][:, None] - fine[j][None]).transpose(2, 0, 1)).min() > 2.0:
                continue
            conflicts[i].append(8 + j)
            opposite = (a[0] + 2) % 4 == b[0]
            if opposite:
                give = a[2] == Turn.LEFT and b[2] != Turn.LEFT
            else:
                give = a[0] not in major and b[0] in major and control is not Control.SIGNAL
            if give:
                yields[i].append(8 + j)
    for n, (start, end, turn, points) in enumerate(ways):
        lanes.append(
            lane(
                8 + n,
                points,
                8.0 if turn != Turn.STRAIGHT else 13.0,
                predecessors=(start,),
                successors=(4 + end,),
                junction=0,
                turn=turn,
                conflicts=tuple(conflicts[n]),
                yields_to=tuple(yields[n]),
            )
        )
    stops: tuple[StopLine, ...] = ()
    signals: tuple[Signal, ...] = ()
    phases: tuple[SignalPhase, ...] = ()
    reach = OUTER - INNER
    if control is Control.SIGNAL:
        stops = tuple(StopLine(k, reach - 1.0, Control.SIGNAL, k) for k in range(4))
        signals = tuple(Signal(k, 0, np.zeros((1, 4), np.float32)) for k in range(4))
        phases = (SignalPhase((0, 2), 10.0), SignalPhase((1, 3), 10.0))
    elif control is Control.STOP_SIGN:
        stops = tuple(StopLine(k, reach - 1.0, control) for k in range(4) if k not in major)
    junction = Junction(0, tuple(range(8, 20)), np.zeros(3, np.float32), phases)
    return RoadMap("Crossing", tuple(lanes), (junction,), stops, signals)


def task(points: list[tuple[float, float]], name: str = "1", **fields: object) -> RouteTask:
    """A route through keypoints."""
    keypoints = np.array([(x, y, 0.0) for x, y in points], np.float32)
    return RouteTask(name, "Plain", keypoints, weathers=((0.0, Weather()),), **fields)  # type: ignore[arg-type]
