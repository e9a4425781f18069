"""Any OpenDRIVE map (CARLA's towns above all) as a `RoadMap`.

OpenDRIVE is right-handed with y to the left, as REP-103 is; CARLA flips y when it loads a map.  So
the file's own coordinates are the world's here, and CARLA's are these with y negated.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from takevla.scene.road_map import POINT_SPACING_M, LaneKind, MarkKind, RoadMap, Turn
from takevla.world.maps.curves import curve_from_points, resample
from takevla.world.maps.draft import JunctionDraft, LaneDraft, MapDraft, turn_of
from takevla.world.maps.opendrive_control import place_control
from takevla.world.maps.opendrive_file import (
    LONGEST_MAP_M,
    LONGEST_ROAD_M,
    Double,
    LaneRecord,
    OpenDriveFile,
    RoadLink,
    RoadRecord,
    SectionRecord,
    read_file,
)
from takevla.world.maps.opendrive_line import cubic_profile, reference_pose

KINDS = {
    "driving": LaneKind.DRIVING,
    "entry": LaneKind.DRIVING,
    "exit": LaneKind.DRIVING,
    "onramp": LaneKind.DRIVING,
    "offramp": LaneKind.DRIVING,
    "connectingramp": LaneKind.DRIVING,
    "sliplane": LaneKind.DRIVING,
    "bus": LaneKind.DRIVING,
    "taxi": LaneKind.DRIVING,
    "hov": LaneKind.DRIVING,
    "parking": LaneKind.PARKING,
    "biking": LaneKind.BIKE,
    "shoulder": LaneKind.SHOULDER,
    "stop": LaneKind.SHOULDER,
    "border": LaneKind.SHOULDER,
    "sidewalk": LaneKind.SIDEWALK,
    "walking": LaneKind.SIDEWALK,
}
DEFAULT_SPEED_MPS = 50.0 / 3.6  # where the file gives none
TURN_SPEED_MPS = 30.0 / 3.6
SAMPLING_M = 0.5
JUNCTION_SAMPLING_M = 0.2
SHORTEST_LANE_M = 0.05  # shorter lanes are bridged
LEAST_WIDTH_M = 0.1  # lanes that open from nothing are at least this wide
JOINT_GAP_M = 1.0  # ends that are declared linked but lie farther apart are not
GUESS_GAP_M = 0.3  # undeclared successors must begin this near
GUESS_ANGLE_RAD = math.radians(15.0)
OPPOSITE_GAP_M = 1.0  # widest strip between a lane and the oncoming one that may be driven across

FARTHEST_M = 100_000.0  # from the origin: beyond it float32 no longer tells centimetres
HIGHEST_M = 10_000.0
WIDEST_MAP_M = 40_000.0  # CARLA's largest towns are about 10 km wide

LaneKey = tuple[str, int, int]  # road id, section number, lane id


@dataclass
class _Context:
    """What the steps share."""

    file: OpenDriveFile
    draft: MapDraft
    index_of: dict[LaneKey, int]


def read_opendrive(path: Path | str) -> RoadMap:
    """The road map of an OpenDRIVE file; its name is the file's.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: one line that names the file and what is wrong with it.
    """
    path = Path(path)
    context = _Context(read_file(path), MapDraft(), {})
    built = points = 0
    for number, road in enumerate(context.file.roads.values()):
        for section in range(len(road.sections)):
            try:
                _add_section(context, number, road, section)
            except (ValueError, FloatingPointError, OverflowError) as error:
                raise ValueError(f"{path}: road {road.id}: {error}") from None
        points += sum(len(lane.points) for lane in context.draft.lanes[built:])
        built = len(context.draft.lanes)
        if points * POINT_SPACING_M > LONGEST_MAP_M:
            raise ValueError(f"{path}: more than {LONGEST_MAP_M / 1000:.0f} km of lanes")
    if not any(lane.kind == LaneKind.DRIVING for lane in context.draft.lanes):
        raise ValueError(f"{path}: the map has no driving lane")
    lows, highs = zip(*((lane.points.min(axis=0), lane.points.max(axis=0)) for lane in context.draft.lanes))
    extent = float((np.max(highs, axis=0) - np.min(lows, axis=0))[:2].max())
    if extent > WIDEST_MAP_M:
        raise ValueError(
            f"{path}: the map is {extent / 1000:.0f} km wide, more than {WIDEST_MAP_M / 1000:.0f} km"
        )
    _link_lanes(context)
    _guess_links(context.draft)
    junction_of = _make_junctions(context)
    place_control(context.file, context.draft, context.index_of, junction_of)
    return context.draft.freeze(path.stem, "opendrive", f"opendrive:{path.name}")


def _add_section(context: _Context, number: int, road: RoadRecord, section: int) -> None:
    record = road.sections[section]
    start = max(0.0, record.s)
    end = road.sections[section + 1].s if section + 1 < len(road.sections) else road.length
    end = min(end, road.length)
    if end - start < SHORTEST_LANE_M:
        return
    spacing = JUNCTION_SAMPLING_M if road.junction != "-1" else SAMPLING_M
    s = np.linspace(start, end, max(3, math.ceil((end - start) / spacing) + 1))
    xy, heading = reference_pose(road, s)
    height = cubic_profile(road.elevations, s)
    centre = cubic_profile(road.offsets, s)
    normal = np.column_stack([-np.sin(heading), np.cos(heading)])
    made: dict[int, int] = {}
    for sign in (-1, 1):
        edge = centre.copy()
        for lane_id in sorted((key for key in record.lanes if key * sign > 0), key=abs):
            lane = record.lanes[lane_id]
            inner = edge
            if lane.is_border:
                edge = centre + cubic_profile(lane.widths, s - record.s)
            else:
                edge = inner + sign * np.maximum(cubic_profile(lane.widths, s - record.s), 0.0)
            kind = KINDS.get(lane.type.lower())
            width = np.abs(edge - inner)
            if kind is None or width.max() < LEAST_WIDTH_M:
                continue
            points = xy + (0.5 * (inner + edge))[:, None] * normal
            backwards = (lane_id > 0) != road.left_hand
            speed = _speed_limit(road, lane, backwards, start)
            index = _add_lane(context.draft, number, kind, points, height, width, backwards, speed)
            if index is not None:
                made[lane_id] = index
                context.index_of[road.id, section, lane_id] = index
    _join_sides(context.draft, road, record, made)


def _add_lane(
    draft: MapDraft,
    number: int,
    kind: LaneKind,
    points: Double,
    height: Double,
    width: Double,
    backwards: bool,
    speed_mps: float,
) -> int | None:
    if backwards:
        points, height, width = points[::-1], height[::-1], width[::-1]
    steps = np.hypot(*np.diff(points, axis=0).T)
    keep = np.concatenate([[True], steps > 1e-6])
    if keep.sum() < 2 or steps.sum() < SHORTEST_LANE_M:
        return None
    if not np.abs(height).max() < HIGHEST_M:
        raise ValueError(f"it leads higher or lower than {HIGHEST_M / 1000:.0f} km")
    if not np.isfinite(points).all() or np.abs(points).max() > FARTHEST_M:
        raise ValueError(f"it leads farther than {FARTHEST_M / 1000:.0f} km from the map's origin")
    fine = curve_from_points(points[keep])
    if fine.length_m > LONGEST_ROAD_M:
        raise ValueError(f"a lane is {fine.length_m / 1000:.0f} km long")
    even = resample(fine, POINT_SPACING_M)
    z = np.interp(even.s, fine.s, height[keep])
    draft.lanes.append(
        LaneDraft(
            road=number,
            kind=kind,
            points=np.column_stack([even.xy, z]),
            heading=even.heading,
            width=np.maximum(np.interp(even.s, fine.s, width[keep]), LEAST_WIDTH_M),
            speed_limit_mps=speed_mps,
        )
    )
    return len(draft.lanes) - 1


def _speed_limit(road: RoadRecord, lane: LaneRecord, backwards: bool, s: float) -> float:
    """A speed sign on the road in the lane's direction, else the lane's own, else the road type's limit."""
    facing = "-" if backwards else "+"
    signs = [signal.limit_mps for signal in road.signals if signal.limit_mps and signal.orientation == facing]
    if signs:
        return signs[0]
    if lane.speed_mps:
        return lane.speed_mps
    limits = [limit for start, limit in road.speeds if start <= s + 1e-6 and limit]
    return limits[-1] if limits else DEFAULT_SPEED_MPS


def _join_sides(draft: MapDraft, road: RoadRecord, record: SectionRecord, made: dict[int, int]) -> None:
    """Neighbours, marks and oncoming lanes of one section."""
    for lane_id, index in made.items():
        sign = 1 if lane_id > 0 else -1
        lane = draft.lanes[index]
        inner_id = _next_made(draft, record, made, lane_id, -sign)
        # Seen by its driver a lane's inner side is its left, under right-hand traffic.
        inner_mark = _mark(record.lanes.get(lane_id - sign))
        outer_mark = _mark(record.lanes[lane_id])
        beyond = record.lanes.get(lane_id + sign)
        if outer_mark == MarkKind.NONE and beyond is not None and KINDS.get(beyond.type) == LaneKind.SIDEWALK:
            outer_mark = MarkKind.KERB
        if road.left_hand:
            lane.right_mark, lane.left_mark = inner_mark, outer_mark
        else:
            lane.left_mark, lane.right_mark = inner_mark, outer_mark
        if inner_id is not None and inner_id * sign > 0:
            if road.left_hand:
                draft.put_beside(index, made[inner_id])
            else:
                draft.put_beside(made[inner_id], index)
    left, right = made.get(_innermost(made, 1)), made.get(_innermost(made, -1))
    if left is not None and right is not None and not road.left_hand:
        first, second = draft.lanes[left], draft.lanes[right]
        gap = math.hypot(*(first.points[-1, :2] - second.points[0, :2]))
        gap -= 0.5 * float(first.width[-1] + second.width[0])
        if first.kind == second.kind == LaneKind.DRIVING and gap < OPPOSITE_GAP_M:
            first.opposite, second.opposite = right, left


def _innermost(made: dict[int, int], sign: int) -> int:
    """The id of the made lane nearest the centre on one side, 0 where there is none."""
    return min((key for key in made if key * sign > 0), key=abs, default=0)


def _next_made(
    draft: MapDraft, record: SectionRecord, made: dict[int, int], lane_id: int, step: int
) -> int | None:
    """The next lane inwards on the same side, over strips too thin to matter."""
    at = lane_id + step
    while at != 0 and at in record.lanes:
        if at in made:
            return at
        if float(np.abs(record.lanes[at].widths[:, 1]).max(initial=0.0)) > OPPOSITE_GAP_M:
            return None
        at += step
    return None


def _mark(lane: LaneRecord | None) -> MarkKind:
    """The paint that most of a lane's outer edge carries: the last mark of the section."""
    if lane is None or not lane.marks:
        return MarkKind.NONE
    mark = lane.marks[-1] if lane.marks[-1].type != "none" else lane.marks[0]
    yellow = mark.colour == "yellow"
    if mark.type in ("curb", "grass", "edge"):
        return MarkKind.KERB
    if mark.type in ("broken", "broken broken", "botts dots"):
        return MarkKind.BROKEN_YELLOW if yellow else MarkKind.BROKEN_WHITE
    if mark.type == "solid":
        return MarkKind.SOLID_YELLOW if yellow else MarkKind.SOLID_WHITE
    if mark.type in ("solid solid", "solid broken", "broken solid"):
        return MarkKind.DOUBLE_YELLOW if yellow else MarkKind.SOLID_WHITE
    return MarkKind.NONE


def _link_lanes(context: _Context) -> None:
    """Follow the file's lane links; ends that do not meet are left apart."""
    draft, index_of = context.draft, context.index_of
    pairs: set[tuple[LaneKey, LaneKey]] = set()
    for road in context.file.roads.values():
        last = len(road.sections) - 1
        for number, section in enumerate(road.sections):
            for lane_id, lane in section.lanes.items():
                key = (road.id, number, lane_id)
                for other in lane.successors:
                    pairs.update((key, far) for far in _across(context, road, number, last, True, other))
                for other in lane.predecessors:
                    pairs.update((key, far) for far in _across(context, road, number, last, False, other))
    for joint in context.file.joints:
        connecting, incoming = (context.file.roads.get(name) for name in (joint.connecting, joint.incoming))
        if connecting is None or incoming is None:
            continue
        inner = 0 if joint.contact == "start" else len(connecting.sections) - 1
        for source, target in joint.lanes:
            for outer in {0, len(incoming.sections) - 1}:
                pairs.add(((incoming.id, outer, source), (connecting.id, inner, target)))
    bridges = defaultdict(set)  # lanes too short to be built pass their links on
    for first, second in pairs:
        bridges[first].add(second)
        bridges[second].add(first)
    for first in sorted(index_of):
        for second in sorted(_built_neighbours(bridges, index_of, first)):
            _link_if_meeting(draft, index_of[first], index_of[second])


def _built_neighbours(
    bridges: dict[LaneKey, set[LaneKey]], index_of: dict[LaneKey, int], start: LaneKey
) -> set[LaneKey]:
    found, seen, front = set(), {start}, [start]
    while front:
        for key in bridges.get(front.pop(), ()):
            if key in seen:
                continue
            seen.add(key)
            if key in index_of:
                found.add(key)
            else:
                front.append(key)
    return found


def _across(
    context: _Context, road: RoadRecord, number: int, last: int, forward: bool, lane_id: int
) -> list[LaneKey]:
    """The lane that a lane's link names: in the next section, or at the next road's touching end."""
    if forward and number < last:
        return [(road.id, number + 1, lane_id)]
    if not forward and number > 0:
        return [(road.id, number - 1, lane_id)]
    link: RoadLink | None = road.successor if forward else road.predecessor
    if link is None or link.kind != "road" or link.id not in context.file.roads:
        return []
    other = context.file.roads[link.id]
    section = len(other.sections) - 1 if link.contact == "end" else 0
    return [(other.id, section, lane_id)]


def _link_if_meeting(draft: MapDraft, first: int, second: int) -> None:
    for before, after in ((first, second), (second, first)):
        end, start = draft.lanes[before], draft.lanes[after]
        if end.kind != start.kind:
            continue
        gap = float(np.linalg.norm(end.points[-1] - start.points[0]))
        turned = (start.heading[0] - end.heading[-1] + math.pi) % (2 * math.pi) - math.pi
        if gap < JOINT_GAP_M and abs(turned) < math.pi / 4:
            draft.link(before, after)


def _guess_links(draft: MapDraft) -> None:
    """Give driving lanes that end without a link the lanes that begin exactly there."""
    starts: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, lane in enumerate(draft.lanes):
        if lane.kind == LaneKind.DRIVING:
            starts[round(float(lane.points[0, 0])), round(float(lane.points[0, 1]))].append(index)
    for index, lane in enumerate(draft.lanes):
        if lane.kind != LaneKind.DRIVING or lane.successors:
            continue
        column, row = round(float(lane.points[-1, 0])), round(float(lane.points[-1, 1]))
        for near in ((column + i, row + j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
            for other in starts.get(near, ()):
                begin = draft.lanes[other]
                gap = float(np.linalg.norm(begin.points[0] - lane.points[-1]))
                turned = (begin.heading[0] - lane.heading[-1] + math.pi) % (2 * math.pi) - math.pi
                if other != index and gap < GUESS_GAP_M and abs(turned) < GUESS_ANGLE_RAD:
                    draft.link(index, other)


def _make_junctions(context: _Context) -> dict[str, int]:
    """Junction drafts with their connectors and turns; returns their indices by file id."""
    draft = context.draft
    members: dict[str, list[int]] = defaultdict(list)
    for (road_id, _, _), index in context.index_of.items():
        junction = context.file.roads[road_id].junction
        if junction != "-1" and draft.lanes[index].kind in (LaneKind.DRIVING, LaneKind.BIKE):
            members[junction].append(index)
    junction_of: dict[str, int] = {}
    for name, lanes in members.items():
        junction_of[name] = len(draft.junctions)
        places = np.concatenate([draft.lanes[lane].points for lane in lanes])
        centre = 0.5 * (places.min(axis=0) + places.max(axis=0))
        draft.junctions.append(
            JunctionDraft(sorted(lanes), (float(centre[0]), float(centre[1]), float(centre[2])))
        )
        for lane in lanes:
            draft.lanes[lane].junction = junction_of[name]
    for built in draft.junctions:
        for connector in built.connectors:
            first, last = _chain_ends(draft, connector)
            own = draft.lanes[connector]
            own.turn = turn_of(float(draft.lanes[first].heading[0]), float(draft.lanes[last].heading[-1]))
            if own.turn in (Turn.LEFT, Turn.RIGHT):
                own.speed_limit_mps = min(own.speed_limit_mps, TURN_SPEED_MPS)
    return junction_of


def _chain_ends(draft: MapDraft, index: int) -> tuple[int, int]:
    """First and last lane of the connecting road that a connector is part of."""

    def walk(forward: bool) -> int:
        at, seen = index, {index}
        while True:
            lane = draft.lanes[at]
            following = lane.successors if forward else lane.predecessors
            same = [
                other
                for other in following
                if draft.lanes[other].junction == lane.junction and draft.lanes[other].road == lane.road
            ]
            if len(same) != 1 or same[0] in seen:
                return at
            at = same[0]
            seen.add(at)

    return walk(False), walk(True)
