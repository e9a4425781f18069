"""Junctions of built-in towns: trims, connectors, control, signals, signs and crosswalks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from takevla.scene.road_map import (
    Control,
    Crosswalk,
    LaneKind,
    Signal,
    SignalPhase,
    StopSign,
    Turn,
)
from takevla.world.maps.curves import connect
from takevla.world.maps.draft import JunctionDraft, MapDraft, turn_of
from takevla.world.maps.right_of_way import mark_conflicts, mark_priorities
from takevla.world.maps.roadside import (
    ALL_RED_S,
    SIGN_HEIGHT_M,
    YELLOW_S,
    approach_edge,
    between,
    end_stop_line,
    light_heads,
    opposing_groups,
    to_right,
)
from takevla.world.maps.towns.sections import KMH, Section

CORNER_M = 6.0  # from the edge of the crossing road to the stop line: room for the corner and a crosswalk
LEAST_TRIM_M = 9.0
CROSSWALK_START_M = 1.0  # behind the stop line
CROSSWALK_DEPTH_M = 3.0
TURN_SPEED_MPS = 30.0 * KMH


class Rule(Enum):
    """How a junction is controlled."""

    PERMISSIVE = "signals, opposite approaches together, left turns yield"
    SPLIT = "signals, one approach at a time, so left turns are protected"
    ALL_STOP = "stop signs on every approach"
    MINOR_STOP = "stop signs on the minor road"
    MINOR_YIELD = "yield signs on the minor road"
    NONE = "right before left"


@dataclass(frozen=True)
class Leg:
    """One road end at a junction; lanes are listed from left to right as their drivers see them."""

    outward_rad: float  # direction away from the junction
    end_xy: NDArray[np.float64]  # (2,) the reference line's trimmed end
    section: Section
    starts_here: bool  # whether the road's reference line starts at this junction
    arriving: tuple[int, ...]  # driving lanes towards the junction
    leaving: tuple[int, ...]  # driving lanes away from it
    arriving_bike: int
    leaving_bike: int

    @property
    def arriving_half_m(self) -> float:
        """Carriageway half width on the side that arrives."""
        return self.section.half_width_m(forward=not self.starts_here)

    @property
    def leaving_half_m(self) -> float:
        """Carriageway half width on the side that leaves."""
        return self.section.half_width_m(forward=self.starts_here)


def trims(outward_rad: list[float], arriving_half: list[float], leaving_half: list[float]) -> list[float]:
    """How far from the node each leg must end so that the corners leave room for turning.

    Of neighbouring legs i and j (j next counter-clockwise) the side of i that leaves (its left, seen
    outwards, is where traffic arrives) meets j's; the edges' intersection gives the distance.
    """
    result = []
    for i, own in enumerate(outward_rad):
        need = LEAST_TRIM_M
        for j, other in enumerate(outward_rad):
            if i == j:
                continue
            angle = (other - own + math.pi) % (2 * math.pi) - math.pi
            if abs(math.sin(angle)) < 0.3:
                if abs(angle) > math.pi / 2:
                    need = max(need, LEAST_TRIM_M)
                continue
            # Seen outwards, arriving traffic runs on the left of a leg and leaving traffic on its right.
            own_half = arriving_half[i] if angle > 0 else leaving_half[i]
            other_half = leaving_half[j] if angle > 0 else arriving_half[j]
            meet = (other_half + own_half * math.cos(angle)) / abs(math.sin(angle))
            need = max(need, meet + CORNER_M)
        result.append(need)
    return result


def build_junction(
    draft: MapDraft, node_xy: NDArray[np.float64], legs: list[Leg], rule: Rule, road: int, rng: Generator
) -> None:
    """Connectors, right of way, control and furniture of one junction."""
    index = len(draft.junctions)
    junction = JunctionDraft(centre=(float(node_xy[0]), float(node_xy[1]), 0.0))
    draft.junctions.append(junction)
    origin: dict[int, int] = {}  # connector -> leg it comes from
    for source, leg in enumerate(legs):
        for lane, exits in _movements(draft, legs, source).items():
            for target in exits:
                connector = _connector(draft, road, index, lane, target, LaneKind.DRIVING)
                junction.connectors.append(connector)
                origin[connector] = source
        if leg.arriving_bike >= 0:
            for target_leg in legs:
                bike = target_leg.leaving_bike
                if target_leg is leg or bike < 0:
                    continue
                heading = leg.outward_rad + math.pi
                if turn_of(heading, target_leg.outward_rad) == Turn.STRAIGHT:
                    connector = _connector(draft, road, index, leg.arriving_bike, bike, LaneKind.BIKE)
                    junction.connectors.append(connector)
                    origin[connector] = source
    major = _major_legs(legs)
    mark_conflicts(draft, junction.connectors)
    groups = _phase_groups(legs, rule)
    group_of = {leg: k for k, group in enumerate(groups) for leg in group}
    ranked = rule in (Rule.MINOR_STOP, Rule.MINOR_YIELD)
    mark_priorities(
        draft,
        junction.connectors,
        rank=lambda connector: int(ranked and origin[connector] not in major),
        together=lambda a, b: not groups or group_of[origin[a]] == group_of[origin[b]],
    )
    if groups:
        _signals(draft, index, legs, groups, rng)
    else:
        _signs(draft, legs, rule, major)
    for leg in legs:
        if leg.section.walkable:
            _crosswalk(draft, leg)


def _movements(draft: MapDraft, legs: list[Leg], source: int) -> dict[int, list[int]]:
    """Which outgoing lanes every arriving lane of a leg leads to."""
    leg = legs[source]
    heading = leg.outward_rad + math.pi
    exits: dict[Turn, list[Leg]] = {Turn.LEFT: [], Turn.STRAIGHT: [], Turn.RIGHT: []}
    for k, other in enumerate(legs):
        if k != source and other.leaving:
            exits[turn_of(heading, other.outward_rad)].append(other)
    lanes = leg.arriving
    count = len(lanes)
    result: dict[int, list[int]] = {lane: [] for lane in lanes}
    if not lanes:
        return result
    through = exits[Turn.STRAIGHT]
    for target in through:
        wide = len(target.leaving)
        first, last = 0, count
        if count > wide and exits[Turn.LEFT]:
            first = 1  # the leftmost lane is for turning left
        if last - first > wide and exits[Turn.RIGHT]:
            last -= 1
        for k in range(first, last):
            column = k - first if count >= wide else wide - count + k - first
            result[lanes[k]].append(target.leaving[min(column, wide - 1)])
    turning_left = max(1, count // 2) if not through else 1
    turning_right = max(1, count - turning_left) if not through else 1
    for target in exits[Turn.LEFT]:
        for k in range(turning_left if exits[Turn.RIGHT] or through else count):
            result[lanes[k]].append(target.leaving[min(k, len(target.leaving) - 1)])
    for target in exits[Turn.RIGHT]:
        for k in range(turning_right if exits[Turn.LEFT] or through else count):
            column = len(target.leaving) - 1 - k
            result[lanes[count - 1 - k]].append(target.leaving[max(column, 0)])
    return result


def _connector(draft: MapDraft, road: int, junction: int, source: int, target: int, kind: LaneKind) -> int:
    before, after = draft.lanes[source], draft.lanes[target]
    curve = connect(
        before.points[-1, :2], float(before.heading[-1]), after.points[0, :2], float(after.heading[0])
    )
    turn = turn_of(float(before.heading[-1]), float(after.heading[0]))
    limit = before.speed_limit_mps if turn == Turn.STRAIGHT else min(before.speed_limit_mps, TURN_SPEED_MPS)
    lane = draft.add_curve(road, kind, curve, float(before.width[-1]), limit)
    own = draft.lanes[lane]
    own.width = np.linspace(before.width[-1], after.width[0], len(own.width))
    own.junction, own.turn = junction, turn
    draft.link(source, lane)
    draft.link(lane, target)
    return lane


def _major_legs(legs: list[Leg]) -> set[int]:
    """The straightest pair among the most important legs."""
    best, pair = -1e9, (0, 0)
    for i in range(len(legs)):
        for j in range(i + 1, len(legs)):
            bend = abs(abs(between(legs[i].outward_rad, legs[j].outward_rad)) - math.pi)
            score = 2.0 * (legs[i].section.rank + legs[j].section.rank) - 4.0 * bend
            if score > best:
                best, pair = score, (i, j)
    return set(pair)


def _phase_groups(legs: list[Leg], rule: Rule) -> list[list[int]]:
    """Legs whose signals are green together; empty where there are no signals."""
    waiting = [k for k, leg in enumerate(legs) if leg.arriving]
    if rule == Rule.SPLIT:
        return [[k] for k in waiting]
    if rule != Rule.PERMISSIVE:
        return []
    headings = [legs[k].outward_rad for k in waiting]
    return [[waiting[k] for k in group] for group in opposing_groups(headings)]


def _signals(
    draft: MapDraft,
    index: int,
    legs: list[Leg],
    groups: list[list[int]],
    rng: Generator,
) -> None:
    signal_of: dict[int, int] = {}
    for k, leg in enumerate(legs):
        if not leg.arriving:
            continue
        signal_of[k] = len(draft.signals)
        heads = light_heads(draft, draft.junctions[index].connectors, leg.arriving)
        draft.signals.append(Signal(signal_of[k], index, heads))
        for lane in (*leg.arriving, leg.arriving_bike):
            if lane >= 0:
                end_stop_line(draft, lane, Control.SIGNAL, signal_of[k])
    phases = tuple(
        SignalPhase(
            signals=tuple(signal_of[leg] for leg in group),
            green_s=float(rng.integers(9, 17)),
            yellow_s=YELLOW_S,
            all_red_s=ALL_RED_S,
        )
        for group in groups
    )
    draft.junctions[index].phases = phases
    cycle = sum(phase.green_s + phase.yellow_s + phase.all_red_s for phase in phases)
    draft.junctions[index].offset_s = float(np.round(rng.uniform(0.0, cycle)))


def _signs(draft: MapDraft, legs: list[Leg], rule: Rule, major: set[int]) -> None:
    if rule == Rule.NONE:
        return
    control = Control.YIELD if rule == Rule.MINOR_YIELD else Control.STOP_SIGN
    for k, leg in enumerate(legs):
        if not leg.arriving or (rule != Rule.ALL_STOP and k in major):
            continue
        lines = tuple(end_stop_line(draft, lane, control) for lane in leg.arriving)
        end, heading, edge = approach_edge(draft, leg.arriving)
        place = end + edge * to_right(heading)
        pose = np.array([place[0], place[1], SIGN_HEIGHT_M, between(0.0, heading + math.pi)], np.float32)
        draft.stop_signs.append(StopSign(pose, lines, control))


def _crosswalk(draft: MapDraft, leg: Leg) -> None:
    inward = -np.array([math.cos(leg.outward_rad), math.sin(leg.outward_rad)])
    right = np.array([inward[1], -inward[0]])
    near, far = CROSSWALK_START_M, CROSSWALK_START_M + CROSSWALK_DEPTH_M
    corners = [
        leg.end_xy + inward * near + right * leg.arriving_half_m,
        leg.end_xy + inward * far + right * leg.arriving_half_m,
        leg.end_xy + inward * far - right * leg.leaving_half_m,
        leg.end_xy + inward * near - right * leg.leaving_half_m,
    ]
    draft.crosswalks.append(Crosswalk(np.array(corners, np.float32)))
