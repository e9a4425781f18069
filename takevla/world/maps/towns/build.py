"""A whole built-in town from its name."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence

from takevla.scene.road_map import LaneKind, RoadMap
from takevla.world.maps.curves import Curve, Double, part, reverse
from takevla.world.maps.draft import MapDraft
from takevla.world.maps.towns.crossings import Leg, Rule, build_junction, trims
from takevla.world.maps.towns.highway import build_carriageway, ramp_reference
from takevla.world.maps.towns.layout import Plan, Street, Warp, centre_line, draw_plan, draw_warp
from takevla.world.maps.towns.props import place_props
from takevla.world.maps.towns.roads import BuiltRoad, build_road, driving_lanes, lane_of_kind
from takevla.world.maps.towns.sections import Section
from takevla.world.maps.towns.style import ALDER, BIRCH, Sections, Style, sections

_FAMILIES: dict[str, tuple[int, int, Style]] = {"Alder": (1, 40, ALDER), "Birch": (2, 8, BIRCH)}
ANGLE_AT_M = 14.0  # a leg's direction is taken this far from its node, about where it is trimmed


HIGHWAY_ROAD = 1000  # road identities
JUNCTION_ROAD = 2000


@dataclass
class _Road:
    """A road being built; lanes are filled in once both ends are trimmed."""

    start: int  # node or -1 where it continues as another road
    end: int
    section: Section
    curve: Curve
    trim_start_m: float = 0.0
    trim_end_m: float = 0.0
    built: BuiltRoad = field(default_factory=BuiltRoad)
    ends: list[int] = field(default_factory=list)  # highways: arriving lanes, forward then backward
    joints: list[tuple[int, int]] = field(default_factory=list)  # lane links at open ends, -1 is its own


def town_names(family: str) -> tuple[str, ...]:
    """All towns of a family, in order."""
    return tuple(f"{family}{number:02d}" for number in range(1, _FAMILIES[family][1] + 1))


def build_town(name: str) -> RoadMap:
    """The built-in town of that name; the same bytes for the same name.

    Raises:
        ValueError: if no family has such a town.
    """
    family, number = name[:-2], name[-2:]
    if family not in _FAMILIES or not number.isdigit() or not 1 <= int(number) <= _FAMILIES[family][1]:
        known = ", ".join(f"{key}01..{key}{entry[1]:02d}" for key, entry in _FAMILIES.items())
        raise ValueError(f"no built-in town named {name!r}; there are {known}")
    key, _, style = _FAMILIES[family]
    rng = Generator(PCG64(SeedSequence([key, int(number)])))
    parts = sections(
        lane_m=float(np.round(rng.uniform(*style.lane_m), 2)),
        highway_lanes=int(rng.integers(style.highway_lanes[0], style.highway_lanes[1] + 1)),
        fast=bool(rng.random() < 0.5),
    )
    plan = draw_plan(style, parts, rng)
    xy = np.array(list(plan.nodes.values()))
    centre = (float(xy[:, 0].mean()), float(xy[:, 1].mean()))
    warp = draw_warp(style, centre, rng)
    node_xy = {node: warp(np.array([place]))[0] for node, place in plan.nodes.items()}
    roads = [
        _Road(street.start, street.end, street.section, centre_line(plan, street, warp))
        for street in plan.streets
    ]
    draft = MapDraft()
    roads += _build_highway(draft, roads, plan, warp, node_xy, parts)
    nodes = [node for node in plan.nodes if node not in plan.highway]
    for node in nodes:
        _trim_at(node, roads)
    for index, road in enumerate(roads):
        if not road.built.forward:
            road.built = build_road(draft, index, _trimmed(road), road.section)
    for road in roads:
        for before, after in road.joints:
            first = before if before >= 0 else road.built.forward[0]
            draft.link(first, after if after >= 0 else road.built.forward[0])
    for order, node in enumerate(plan.nodes):
        legs = _legs(draft, node, roads)
        rule = _draw_rule(legs, node in plan.highway, style, rng)
        build_junction(draft, node_xy[node], legs, rule, JUNCTION_ROAD + order, rng)
    lined = [road for road in roads if road.section.name != "ramp"]
    place_props(draft, [(_trimmed(road), road.section) for road in lined], rng)
    return draft.freeze(name, family.lower(), f"town:{name}")


def _trimmed(road: _Road) -> Curve:
    return part(road.curve, road.trim_start_m, road.curve.length_m - road.trim_end_m)


def _build_highway(
    draft: MapDraft,
    roads: list[_Road],
    plan: Plan,
    warp: Warp,
    node_xy: dict[int, Double],
    parts: Sections,
) -> list[_Road]:
    """The highway, built between the junctions at its ends, and its ramps, still to be built."""
    west, east = plan.highway
    street = Street(west, east, parts.highway)
    highway = _Road(west, east, parts.highway, centre_line(plan, street, warp))
    for node in plan.highway:
        _trim_at(node, [*roads, highway])
    whole = _trimmed(highway)
    result = [highway]
    for forward, (exit_node, entry_node) in ((True, plan.ramps.forward), (False, plan.ramps.backward)):
        side = build_carriageway(
            draft,
            HIGHWAY_ROAD + (0 if forward else 100),
            whole if forward else reverse(whole),
            parts.highway,
            node_xy[exit_node],
            node_xy[entry_node],
        )
        (highway.built.forward if forward else highway.built.backward).extend(side.entering)
        highway.ends.extend(side.leaving)
        leaving = _Road(-1, exit_node, parts.ramp, ramp_reference(side.exit_ramp))
        leaving.joints.append((side.exit_lane, -1))
        arriving = _Road(entry_node, -1, parts.ramp, ramp_reference(side.entry_ramp))
        arriving.joints.append((-1, side.entry_lane))
        result += [leaving, arriving]
    return result


def _trim_at(node: int, roads: list[_Road]) -> None:
    """Set how far from `node` each of its roads ends."""
    ends = [(road, True) for road in roads if road.start == node]
    ends += [(road, False) for road in roads if road.end == node]
    outward = []
    for road, starts in ends:
        curve = road.curve if starts else reverse(road.curve)
        near = curve.xy[np.searchsorted(curve.s, ANGLE_AT_M)] - curve.xy[0]
        outward.append(math.atan2(near[1], near[0]))
    result = trims(
        outward,
        [road.section.half_width_m(forward=not starts) for road, starts in ends],
        [road.section.half_width_m(forward=starts) for road, starts in ends],
    )
    for (road, starts), trim in zip(ends, result):
        if starts:
            road.trim_start_m = trim
        else:
            road.trim_end_m = trim


def _legs(draft: MapDraft, node: int, roads: list[_Road]) -> list[Leg]:
    legs = []
    ends = [(road, True) for road in roads if road.start == node]
    ends += [(road, False) for road in roads if road.end == node]
    for road, starts in ends:
        if starts:
            away, towards = road.built.forward, road.built.backward
        else:
            away, towards = road.built.backward, road.built.forward
        if road.ends:  # a highway: its lanes arrive as other lanes than they set out
            half = len(road.ends) // 2
            towards = road.ends[half:] if starts else road.ends[:half]
        at = road.trim_start_m if starts else road.curve.length_m - road.trim_end_m
        heading = float(np.interp(at, road.curve.s, road.curve.heading))
        legs.append(
            Leg(
                outward_rad=heading if starts else heading + math.pi,
                end_xy=np.array([np.interp(at, road.curve.s, road.curve.xy[:, k]) for k in (0, 1)]),
                section=road.section,
                starts_here=starts,
                arriving=tuple(driving_lanes(draft, towards)),
                leaving=tuple(driving_lanes(draft, away)),
                arriving_bike=lane_of_kind(draft, towards, LaneKind.BIKE),
                leaving_bike=lane_of_kind(draft, away, LaneKind.BIKE),
            )
        )
    return legs


def _draw_rule(legs: list[Leg], fast: bool, style: Style, rng: Generator) -> Rule:
    """How a junction is controlled: highways always end at signals."""
    wide = sum(len(leg.arriving) > 1 for leg in legs)
    choice = style.rules_large if wide else style.rules_small
    rule = choice[int(rng.integers(0, len(choice)))]
    if fast or wide >= 3:
        return Rule.SPLIT if rule == Rule.SPLIT else Rule.PERMISSIVE
    if any(leg.section.rank >= 2 for leg in legs) and rule == Rule.NONE:
        return Rule.MINOR_YIELD
    return rule
