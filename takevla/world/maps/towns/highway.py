"""The highway of a built-in town: two carriageways with exits, entries and their ramps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from takevla.scene.road_map import LaneKind, MarkKind, Turn
from takevla.world.maps.curves import Curve, Double, connect, cubic, join, offset, part
from takevla.world.maps.draft import JunctionDraft, MapDraft
from takevla.world.maps.right_of_way import mark_conflicts, mark_priorities
from takevla.world.maps.towns.roads import build_side
from takevla.world.maps.towns.sections import KMH, Section
from takevla.world.maps.towns.style import RAMP_M

APPROACH_M = 130.0  # next to the junctions at its ends the highway has a lower limit
APPROACH_SPEED_MPS = 60.0 * KMH
AUXILIARY_M = 140.0  # acceleration and deceleration lanes
TAPER_M = 60.0
GORE_M = 70.0  # over this length a ramp swings clear of the carriageway
GORE_SHIFT_M = 9.0
GORE_ANGLE_RAD = math.radians(11.0)
RAMP_REACH_M = 125.0  # along the highway, from the ramp's foot to the auxiliary lane


@dataclass(frozen=True)
class Carriageway:
    """What a built carriageway offers to the junctions at its ends and to its ramps."""

    entering: tuple[int, ...]  # driving lanes at its start
    leaving: tuple[int, ...]  # driving lanes at its end
    exit_lane: int  # the deceleration lane
    entry_lane: int  # the acceleration lane
    exit_ramp: Curve  # centre line from the deceleration lane to the exit's foot
    entry_ramp: Curve  # centre line from the entry's foot to the acceleration lane


def build_carriageway(
    draft: MapDraft, road: int, reference: Curve, section: Section, exit_foot: Double, entry_foot: Double
) -> Carriageway:
    """One direction, to the right of `reference` (directed along traffic).

    The feet are the world points of the ramps' nodes; the auxiliary lanes are placed so that the
    ramps reach them with wide curves.
    """
    exit_s = _abscissa(reference, exit_foot) - RAMP_REACH_M  # end of the deceleration lane
    entry_s = _abscissa(reference, entry_foot) + RAMP_REACH_M  # start of the acceleration lane
    merge_end = entry_s + AUXILIARY_M + TAPER_M
    fork = exit_s - AUXILIARY_M - TAPER_M
    first_slow = min(APPROACH_M, fork - 20.0)
    last_slow = max(reference.length_m - APPROACH_M, merge_end + 20.0)
    if first_slow < 10.0 or last_slow > reference.length_m - 10.0 or entry_s < exit_s + 50.0:
        raise ValueError(
            f"no room for ramps on a highway of {reference.length_m:.0f} m: "
            f"exit at {exit_s:.0f} m, entry at {entry_s:.0f} m"
        )
    forking, deceleration, acceleration, merging = 2, 3, 5, 6  # pieces between the cuts
    cuts = [
        0.0,
        first_slow,
        fork,
        exit_s - AUXILIARY_M,
        exit_s,
        entry_s,
        entry_s + AUXILIARY_M,
        merge_end,
        last_slow,
        reference.length_m,
    ]
    lanes = tuple(strip for strip in section.forward if strip.kind == LaneKind.DRIVING)
    shoulder = tuple(strip for strip in section.forward if strip.kind == LaneKind.SHOULDER)
    count = len(lanes)
    pieces: list[list[int]] = []
    for k in range(len(cuts) - 1):
        extra = lanes[-1:] if k in (deceleration, acceleration) else ()
        built = build_side(
            draft,
            road + k,
            part(reference, cuts[k], cuts[k + 1]),
            lanes + extra + (() if k in (forking, merging) else shoulder),
            section.median_m / 2,
            APPROACH_SPEED_MPS if k in (0, len(cuts) - 2) else section.speed_limit_mps,
            MarkKind.SOLID_YELLOW,
        )
        for before, after in zip(pieces[-1][:count] if pieces else [], built[:count]):
            draft.link(before, after)
        pieces.append(built)
    exit_lane, entry_lane = pieces[deceleration][count], pieces[acceleration][count]
    _taper(draft, road + forking, pieces[forking - 1][count - 1], exit_lane)
    merge = _taper(draft, road + merging, entry_lane, pieces[merging + 1][count - 1])
    _merge_junction(draft, pieces[merging][count - 1], merge)
    return Carriageway(
        entering=tuple(pieces[0][:count]),
        leaving=tuple(pieces[-1][:count]),
        exit_lane=exit_lane,
        entry_lane=entry_lane,
        exit_ramp=_exit_curve(draft, exit_lane, exit_foot, reference),
        entry_ramp=_entry_curve(draft, entry_lane, entry_foot, reference),
    )


def _abscissa(reference: Curve, foot: Double) -> float:
    return float(reference.s[np.argmin(np.hypot(*(reference.xy - foot).T))])


def _taper(draft: MapDraft, road: int, before: int, after: int) -> int:
    """A lane that shifts sideways from the end of one lane to the start of another."""
    start, end = draft.lanes[before], draft.lanes[after]
    curve = cubic(start.points[-1, :2], float(start.heading[-1]), end.points[0, :2], float(end.heading[0]))
    width = float(end.width[0])
    lane = draft.add_curve(road, LaneKind.DRIVING, curve, width, start.speed_limit_mps)
    draft.lanes[lane].right_mark = MarkKind.SOLID_WHITE
    draft.link(before, lane)
    draft.link(lane, after)
    return lane


def _merge_junction(draft: MapDraft, main: int, merge: int) -> None:
    """Where the acceleration lane ends: it yields to the right lane of the carriageway."""
    centre = draft.lanes[merge].points[len(draft.lanes[merge].points) // 2]
    index = len(draft.junctions)
    draft.junctions.append(JunctionDraft([main, merge], (float(centre[0]), float(centre[1]), 0.0)))
    for lane in (main, merge):
        draft.lanes[lane].junction, draft.lanes[lane].turn = index, Turn.STRAIGHT
    mark_conflicts(draft, [main, merge])
    mark_priorities(draft, [main, merge], rank=lambda lane: int(lane == merge), together=lambda a, b: True)


def _exit_curve(draft: MapDraft, lane: int, foot: Double, reference: Curve) -> Curve:
    own = draft.lanes[lane]
    start, heading = own.points[-1, :2], float(own.heading[-1])
    ahead, right = _axes(heading)
    clear = start + GORE_M * ahead + GORE_SHIFT_M * right
    leaving = heading - GORE_ANGLE_RAD
    down = _heading_at(reference, foot) - math.pi / 2
    return join(cubic(start, heading, clear, leaving), connect(clear, leaving, foot, down))


def _entry_curve(draft: MapDraft, lane: int, foot: Double, reference: Curve) -> Curve:
    own = draft.lanes[lane]
    end, heading = own.points[0, :2], float(own.heading[0])
    ahead, right = _axes(heading)
    clear = end - GORE_M * ahead + GORE_SHIFT_M * right
    arriving = heading + GORE_ANGLE_RAD
    up = _heading_at(reference, foot) + math.pi / 2
    return join(connect(foot, up, clear, arriving), cubic(clear, arriving, end, heading))


def _axes(heading: float) -> tuple[Double, Double]:
    ahead = np.array([math.cos(heading), math.sin(heading)])
    return ahead, np.array([ahead[1], -ahead[0]])


def _heading_at(reference: Curve, foot: Double) -> float:
    return float(reference.heading[np.argmin(np.hypot(*(reference.xy - foot).T))])


def ramp_reference(ramp: Curve) -> Curve:
    """The reference line whose single forward lane lies on the ramp's centre line."""
    return offset(ramp, RAMP_M / 2)
