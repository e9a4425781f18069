"""The plan of a town: nodes, streets between them, and where the highway and its ramps meet them.

Plan coordinates are a flat grid; `Warp` bends them into the world, so that roads curve and
junctions are not all alike.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import networkx as nx
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from takevla.world.maps.curves import Curve, curve_from_points, resample, rounded
from takevla.world.maps.towns.sections import Section
from takevla.world.maps.towns.style import Sections, Style

Double = NDArray[np.float64]

LEAST_CORNER_M = 26.0  # radius of bends in slow streets
CORNER_MPS2 = 2.5  # lateral acceleration at the speed limit in bends, where there is room
REFERENCE_SPACING_M = 0.5
HIGHWAY_LEAST_M = 1180.0
RAMP_ROOM_M = 425.0  # from a highway's end to the foot of a ramp: reach, auxiliary lane, taper, approach
FOOT_GAP_M = 55.0  # from a ramp's foot to the next junction


@dataclass
class Street:
    """A road between two nodes, with inner vertices and corner radius (plan coordinates)."""

    start: int
    end: int
    section: Section
    inner: list[tuple[float, float]] = field(default_factory=list)
    bow: float = 0.0


@dataclass
class Ramps:
    """Where the highway's ramps leave the town: node ids per carriageway (exit, entry)."""

    forward: tuple[int, int]
    backward: tuple[int, int]


@dataclass
class Plan:
    """A town on paper."""

    nodes: dict[int, tuple[float, float]]
    streets: list[Street]
    highway: tuple[int, int]  # node ids of its west and east end
    ramps: Ramps


@dataclass(frozen=True)
class Warp:
    """A smooth bending of the plane followed by a turn about its origin."""

    waves: tuple[tuple[float, float, float, float, float], ...]  # kx, ky, phase, shift x, shift y
    turn_rad: float
    origin: tuple[float, float]

    def __call__(self, xy: Double) -> Double:
        """World coordinates of plan coordinates (N, 2)."""
        bent = xy.astype(np.float64).copy()
        for kx, ky, phase, shift_x, shift_y in self.waves:
            wave = np.sin(xy[:, 0] * kx + xy[:, 1] * ky + phase)
            bent[:, 0] += shift_x * wave
            bent[:, 1] += shift_y * wave
        bent -= np.array(self.origin)
        cosine, sine = math.cos(self.turn_rad), math.sin(self.turn_rad)
        return bent @ np.array([[cosine, sine], [-sine, cosine]])


def draw_warp(style: Style, centre: tuple[float, float], rng: Generator) -> Warp:
    """A town's own bending."""
    waves = []
    for _ in range(3):
        direction = rng.uniform(0.0, 2 * math.pi)
        number = 2 * math.pi / rng.uniform(*style.warp_length_m)
        push = rng.uniform(0.0, 2 * math.pi)
        size = rng.uniform(*style.warp_m)
        waves.append(
            (
                number * math.cos(direction),
                number * math.sin(direction),
                rng.uniform(0.0, 2 * math.pi),
                size * math.cos(push),
                size * math.sin(push),
            )
        )
    return Warp(tuple(waves), rng.uniform(-math.pi, math.pi), centre)


def centre_line(plan: Plan, street: Street, warp: Warp) -> Curve:
    """The street's reference line in the world."""
    vertices = np.array([plan.nodes[street.start], *street.inner, plan.nodes[street.end]], np.float64)
    corner = max(LEAST_CORNER_M, street.section.speed_limit_mps**2 / CORNER_MPS2)
    flat = resample(rounded(vertices, np.full(len(vertices), corner)), REFERENCE_SPACING_M)
    if street.bow:
        bulge = street.bow * flat.length_m * np.sin(math.pi * flat.s / flat.length_m) ** 2
        normal = np.column_stack([-np.sin(flat.heading), np.cos(flat.heading)])
        flat = curve_from_points(flat.xy + bulge[:, None] * normal)
    return curve_from_points(warp(flat.xy))


def draw_plan(style: Style, parts: Sections, rng: Generator) -> Plan:
    """A town's plan: a grid with missing streets, two rural roads and a highway."""
    columns = int(rng.integers(style.columns[0], style.columns[1] + 1))
    rows = int(rng.integers(style.rows[0], style.rows[1] + 1))
    widths = rng.uniform(*style.block_m, columns - 1)
    depths = rng.uniform(*style.block_m, rows - 1)
    widths[int(rng.integers(0, columns - 1))] = rng.uniform(*style.long_block_m)
    xs = np.concatenate([[0.0], np.cumsum(widths)])
    ys = np.concatenate([[0.0], np.cumsum(depths)])
    nodes = {
        row * columns + column: (xs[column], ys[row]) for row in range(rows) for column in range(columns)
    }

    for row in range(1, rows - 1):
        for column in range(1, columns - 1):
            x, y = nodes[row * columns + column]
            dx, dy = rng.uniform(-style.jitter_m, style.jitter_m, 2)
            nodes[row * columns + column] = (x + dx, y + dy)

    wide_row = int(rng.integers(1, rows - 1))
    wide_column = int(rng.integers(1, columns - 1))
    bike_row = int(rng.choice([row for row in range(rows - 1) if row != wide_row]))
    edge_column = int(rng.choice([0, columns - 1]))

    def row_section(row: int) -> Section:
        if row == wide_row:
            return parts.arterial
        return parts.collector if row in (bike_row, rows - 1) else parts.parked if row % 2 else parts.local

    def column_section(column: int) -> Section:
        if column == wide_column:
            return parts.boulevard
        return parts.collector if column == edge_column else parts.local if column % 2 else parts.parked

    streets: list[Street] = []

    def bow(section: Section) -> float:
        if section.rank >= 3:
            return 0.0
        return float(rng.choice([-1.0, 1.0]) * rng.uniform(*style.bow))

    for row in range(rows):
        for column in range(columns):
            here = row * columns + column
            if column + 1 < columns and row < rows - 1:
                section = row_section(row)
                streets.append(Street(here, here + 1, section, bow=bow(section)))
            if row + 1 < rows:
                section = column_section(column)
                streets.append(Street(here, here + columns, section, bow=bow(section)))
    _drop_streets(streets, style, rng)

    plan = Plan(nodes, streets, (-1, -1), Ramps((-1, -1), (-1, -1)))
    _add_frontage_and_highway(plan, style, parts, rng, xs, ys, (rows - 1) * columns)
    _add_southern_road(plan, parts, rng, xs, columns)
    _contract(plan)
    return plan


def _drop_streets(streets: list[Street], style: Style, rng: Generator) -> None:
    """Remove some minor streets, keeping every node at three streets or two and the town in one piece."""
    share = rng.uniform(*style.dropped_share)
    minor = [street for street in streets if street.section.rank == 1]
    for k in rng.permutation(len(minor))[: round(share * len(minor))]:
        street = minor[int(k)]
        rest = nx.Graph((other.start, other.end) for other in streets if other is not street)
        ends = (street.start, street.end)
        if any(node not in rest or rest.degree(node) < 2 for node in ends) or not nx.is_connected(rest):
            continue
        streets.remove(street)


def _add_node(plan: Plan, x: float, y: float) -> int:
    index = max(plan.nodes) + 1
    plan.nodes[index] = (float(x), float(y))
    return index


def _add_frontage_and_highway(
    plan: Plan,
    style: Style,
    parts: Sections,
    rng: Generator,
    xs: Double,
    ys: Double,
    first_top: int,
) -> None:
    top, west, east = float(ys[-1]), float(xs[0]), float(xs[-1])
    span = east - west
    stub = max(float(rng.uniform(*style.stub_m)), (HIGHWAY_LEAST_M - span) / 2)
    gap = rng.uniform(*style.gap_m)
    beyond = top + gap + rng.uniform(*style.gap_m)
    west_end = _add_node(plan, west - stub, top + gap)
    east_end = _add_node(plan, east + stub, top + gap)
    plan.highway = (west_end, east_end)
    first, last = west - stub + RAMP_ROOM_M, east + stub - RAMP_ROOM_M

    def foot(low: float, high: float) -> float:
        """A place for a ramp's foot, away from the junctions of the columns."""
        low, high = max(low, west + FOOT_GAP_M), min(high, east - FOOT_GAP_M)
        wanted = rng.uniform(low, high)
        places = np.arange(low, high, 1.0)
        free = np.abs(places[:, None] - xs[None, :]).min(axis=1) >= FOOT_GAP_M
        return float(places[free][np.argmin(np.abs(places[free] - wanted))])

    middle = (first + last) / 2
    exit_x = foot(first, middle - 40.0)
    entry_x = foot(middle + 40.0, last)
    exit_node, entry_node = _add_node(plan, exit_x, top), _add_node(plan, entry_x, top)
    tops = [(first_top + k, float(x)) for k, x in enumerate(xs)] + [
        (exit_node, exit_x),
        (entry_node, entry_x),
    ]
    tops.sort(key=lambda item: item[1])
    for (before, _), (after, _) in itertools.pairwise(tops):
        plan.streets.append(Street(before, after, parts.collector))
    plan.streets.append(Street(west_end, tops[0][0], parts.boulevard, [(west - stub, top)]))
    plan.streets.append(Street(tops[-1][0], east_end, parts.boulevard, [(east + stub, top)]))

    far_entry = _add_node(plan, first + rng.uniform(0.0, 50.0), beyond)
    far_exit = _add_node(plan, last - rng.uniform(0.0, 50.0), beyond)
    rural = parts.rural
    plan.streets.append(Street(west_end, far_entry, rural, [(west - stub, beyond)]))
    plan.streets.append(Street(far_entry, far_exit, rural, bow=float(rng.uniform(0.0, 0.06))))
    plan.streets.append(Street(far_exit, east_end, rural, [(east + stub, beyond)]))
    plan.ramps = Ramps(forward=(exit_node, entry_node), backward=(far_exit, far_entry))


def _add_southern_road(plan: Plan, parts: Sections, rng: Generator, xs: Double, columns: int) -> None:
    """A winding two-way country road round the south, met by one street in the middle."""
    low = -float(rng.uniform(110.0, 140.0))
    west, east = float(xs[0]), float(xs[-1])
    middle = int(rng.integers(1, columns - 1))
    meet = _add_node(plan, float(xs[middle]), low)
    plan.streets.append(Street(middle, meet, parts.local))
    for corner, start, x in ((0, west, west - 100.0), (columns - 1, east, east + 100.0)):
        reach = float(xs[middle]) - start
        wave = float(rng.uniform(10.0, 35.0))
        inner = [(x, 0.0), (x, low - wave), (start + 0.5 * reach, low - wave)]
        plan.streets.append(Street(corner, meet, parts.rural, inner))


def _contract(plan: Plan) -> None:
    """Join the two streets of every node that is no junction into one curved street."""
    for node in list(plan.nodes):
        ends = [street for street in plan.streets if node in (street.start, street.end)]
        fixed = {*plan.highway, *plan.ramps.forward, *plan.ramps.backward}
        if len(ends) != 2 or node in fixed or ends[0] is ends[1]:
            continue
        first, second = ends
        if first.end != node:
            first = Street(first.end, first.start, first.section, first.inner[::-1])
        if second.start != node:
            second = Street(second.end, second.start, second.section, second.inner[::-1])
        if first.start == second.end:
            continue
        main = first if first.section.rank >= second.section.rank else second
        inner = [*first.inner, plan.nodes[node], *second.inner]
        for street in ends:
            plan.streets.remove(street)
        plan.streets.append(Street(first.start, second.end, main.section, inner))
        del plan.nodes[node]
