"""Signals, signs, right of way and crosswalks of an OpenDRIVE map.

OpenDRIVE says which lanes a signal rules, but not where to stop nor in which order lights change:
traffic stops at the end of the lane that leads into the junction, all lanes of one approach share
one signal, and approaches that come towards each other are green together.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np

from takevla.scene.road_map import (
    Control,
    Crosswalk,
    LaneKind,
    Signal,
    SignalPhase,
    StopSign,
)
from takevla.world.maps.draft import MapDraft
from takevla.world.maps.opendrive_file import OpenDriveFile, RoadRecord, SignalRecord
from takevla.world.maps.opendrive_line import cubic_profile, reference_pose
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

CONTROL_OF_TYPE = {
    "1000001": Control.SIGNAL,
    "1000011": Control.SIGNAL,
    "206": Control.STOP_SIGN,
    "205": Control.YIELD,
}
GREEN_S = 10.0  # CARLA's default
BEFORE_JUNCTION_M = 40.0  # a sign rules the junction that lies at most this far ahead of it
SIGN_REACH_M = 30.0  # a plate farther from its stop line is drawn at the line instead
SIGN_LATERAL_M = 12.0  # a plate without lanes rules the nearest approach within this distance
OFFSET_STEP_S = 7.0  # neighbouring junctions change at different times

Approach = tuple[int, int]  # road number, heading in steps of 45 degrees


@dataclass
class _Ruling:
    """What the file says about the lanes that lead into one junction."""

    controls: dict[int, Counter[Control]] = field(default_factory=lambda: defaultdict(Counter))
    plates: dict[int, tuple[float, float, float]] = field(default_factory=dict)  # lane -> x, y, z


def place_control(
    file: OpenDriveFile,
    draft: MapDraft,
    index_of: dict[tuple[str, int, int], int],
    junction_of: dict[str, int],
) -> None:
    """Stop lines, signals, signs, priorities and crosswalks of all junctions."""
    rulings = _rulings(file, draft, index_of)
    for index in range(len(junction_of)):
        _control_junction(draft, index, rulings)
    for road in file.roads.values():
        for record in road.crosswalks:
            xy, heading = reference_pose(road, np.array([min(max(record.s, 0.0), road.length)]))
            turned = float(heading[0])
            centre = xy[0] + record.t * np.array([-math.sin(turned), math.cos(turned)])
            cosine, sine = math.cos(turned + record.heading), math.sin(turned + record.heading)
            corners = centre + record.corners @ np.array([[cosine, sine], [-sine, cosine]])
            draft.crosswalks.append(Crosswalk(corners.astype(np.float32)))


def _rulings(file: OpenDriveFile, draft: MapDraft, index_of: dict[tuple[str, int, int], int]) -> _Ruling:
    """Which control every lane that leads into a junction has."""
    ruling = _Ruling()
    kinds: dict[str, Control] = {}
    places: dict[str, tuple[float, float, float]] = {}
    owners: dict[str, RoadRecord] = {}
    for road in file.roads.values():
        for signal in road.signals:
            control = CONTROL_OF_TYPE.get(signal.type.replace(".", ""))
            if control is not None:
                kinds[signal.id] = control
                places[signal.id] = _place(road, signal)
                owners[signal.id] = road
    ruled: set[str] = set()
    for road in file.roads.values():
        for reference in (*road.references, *(signal for signal in road.signals if signal.lanes)):
            if reference.id not in kinds:
                continue
            for lane in _lanes_of(road, reference, index_of):
                for incoming in _incoming(draft, lane):
                    ruled.add(reference.id)
                    ruling.controls[incoming][kinds[reference.id]] += 1
                    if kinds[reference.id] != Control.SIGNAL:
                        ruling.plates[incoming] = places[reference.id]
    lonely = [name for name in kinds if name not in ruled]
    if lonely:
        approaches = [lane for lane in range(len(draft.lanes)) if _leads_into_junction(draft, lane)]
        for name in lonely:
            for incoming in _nearest_approach(draft, approaches, places[name]):
                ruling.controls[incoming][kinds[name]] += 1
                if kinds[name] != Control.SIGNAL:
                    ruling.plates[incoming] = places[name]
    return ruling


def _place(road: RoadRecord, signal: SignalRecord) -> tuple[float, float, float]:
    s = np.array([min(max(signal.s, 0.0), road.length)])
    xy, heading = reference_pose(road, s)
    x = float(xy[0, 0]) - signal.t * math.sin(float(heading[0]))
    y = float(xy[0, 1]) + signal.t * math.cos(float(heading[0]))
    return x, y, float(cubic_profile(road.elevations, s)[0])


def _lanes_of(road: RoadRecord, signal: SignalRecord, index_of: dict[tuple[str, int, int], int]) -> list[int]:
    """The built lanes of a road that a signal rules, in the section where it stands."""
    number = max((k for k, section in enumerate(road.sections) if section.s <= signal.s + 1e-6), default=0)
    ids = [lane for lane in road.sections[number].lanes if lane != 0]
    if signal.lanes:
        ids = [lane for lane in ids if any(low <= lane <= high for low, high in signal.lanes)]
    elif road.junction == "-1" and signal.orientation in "+-":
        ids = [lane for lane in ids if (lane < 0) == (signal.orientation == "+")]
    return [index_of[road.id, number, lane] for lane in ids if (road.id, number, lane) in index_of]


def _incoming(draft: MapDraft, lane: int) -> list[int]:
    """The lanes that lead into the junction which a ruled lane belongs to or runs towards."""
    if draft.lanes[lane].kind not in (LaneKind.DRIVING, LaneKind.BIKE):
        return []
    if draft.lanes[lane].junction >= 0:
        seen, front, found = {lane}, [lane], []
        while front:
            at = front.pop()
            for before in draft.lanes[at].predecessors:
                if draft.lanes[before].junction != draft.lanes[lane].junction:
                    found.append(before)
                elif before not in seen:
                    seen.add(before)
                    front.append(before)
        return found
    driven = 0.0
    while driven < BEFORE_JUNCTION_M:
        if _leads_into_junction(draft, lane):
            return [lane]
        if len(draft.lanes[lane].successors) != 1:
            return []
        lane = draft.lanes[lane].successors[0]
        driven += len(draft.lanes[lane].points)
    return []


def _leads_into_junction(draft: MapDraft, lane: int) -> bool:
    own = draft.lanes[lane]
    return own.junction < 0 and any(draft.lanes[other].junction >= 0 for other in own.successors)


def _nearest_approach(draft: MapDraft, approaches: list[int], place: tuple[float, float, float]) -> list[int]:
    """All lanes of the approach whose end is nearest to a plate that names no lanes."""
    if not approaches:
        return []
    ends = np.array([draft.lanes[lane].points[-1, :2] for lane in approaches])
    gap = np.hypot(ends[:, 0] - place[0], ends[:, 1] - place[1])
    nearest = approaches[int(np.argmin(gap))]
    if float(gap.min()) > SIGN_LATERAL_M:
        return []
    key = _approach(draft, nearest)
    return [lane for lane in approaches if _approach(draft, lane) == key]


def _approach(draft: MapDraft, lane: int) -> Approach:
    heading = float(draft.lanes[lane].heading[-1])
    return draft.lanes[lane].road, round(heading / (math.pi / 4)) % 8


def _control_junction(draft: MapDraft, index: int, rulings: _Ruling) -> None:
    junction = draft.junctions[index]
    origin: dict[int, int] = {}  # connector -> an incoming lane
    approaches: dict[Approach, set[int]] = defaultdict(set)
    for connector in junction.connectors:
        for incoming in _incoming(draft, connector):
            origin[connector] = incoming
            approaches[_approach(draft, incoming)].add(incoming)
    control_of: dict[Approach, Control] = {}
    for key, lanes in approaches.items():
        votes: Counter[Control] = Counter()
        for lane in lanes:
            votes.update(rulings.controls.get(lane, {}))
        if votes:
            control_of[key] = min(votes)  # a light outranks a sign
    lit = [key for key in approaches if control_of.get(key) == Control.SIGNAL]
    headings = [float(draft.lanes[min(approaches[key])].heading[-1]) for key in lit]
    groups = opposing_groups(headings)
    group_of = {lit[k]: number for number, group in enumerate(groups) for k in group}
    signal_of = {}
    for key in lit:
        signal_of[key] = len(draft.signals)
        heads = light_heads(draft, junction.connectors, sorted(approaches[key]))
        draft.signals.append(Signal(signal_of[key], index, heads))
        for lane in sorted(approaches[key]):
            end_stop_line(draft, lane, Control.SIGNAL, signal_of[key])
    junction.phases = tuple(
        SignalPhase(tuple(signal_of[lit[k]] for k in group), GREEN_S, YELLOW_S, ALL_RED_S) for group in groups
    )
    cycle = len(groups) * (GREEN_S + YELLOW_S + ALL_RED_S)
    junction.offset_s = (index * OFFSET_STEP_S) % cycle if groups else 0.0
    for key, control in control_of.items():
        if control != Control.SIGNAL:
            _add_sign(draft, sorted(approaches[key]), control, rulings)

    def key_of(connector: int) -> Approach | None:
        return _approach(draft, origin[connector]) if connector in origin else None

    def rank(connector: int) -> int:
        key = key_of(connector)
        control = control_of.get(key) if key is not None else None
        if lit:
            return int(control != Control.SIGNAL)
        return int(control is not None)

    def together(first: int, second: int) -> bool:
        groups_of_both = [group_of.get(key) for key in (key_of(first), key_of(second)) if key is not None]
        return len(groups_of_both) < 2 or None in groups_of_both or len(set(groups_of_both)) == 1

    mark_conflicts(draft, junction.connectors)
    mark_priorities(draft, junction.connectors, rank, together)


def _add_sign(draft: MapDraft, lanes: list[int], control: Control, rulings: _Ruling) -> None:
    lines = tuple(end_stop_line(draft, lane, control) for lane in lanes)
    end, heading, edge = approach_edge(draft, lanes)
    place = end + edge * to_right(heading)
    ground = float(draft.lanes[lanes[0]].points[-1, 2])
    plate = next((rulings.plates[lane] for lane in lanes if lane in rulings.plates), None)
    if plate is not None and math.hypot(plate[0] - end[0], plate[1] - end[1]) < SIGN_REACH_M:
        place = np.array(plate[:2])
    pose = [place[0], place[1], ground + SIGN_HEIGHT_M, between(0.0, heading + math.pi)]
    draft.stop_signs.append(StopSign(np.array(pose, np.float32), lines, control))
