"""What the town builder and the OpenDRIVE reader agree on: signals, signs and their places."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from takevla.scene.road_map import NO_LANE, Control, LaneKind
from takevla.world.maps.draft import MapDraft

NEAR_HEAD_HEIGHT_M = 3.4
FAR_HEAD_HEIGHT_M = 4.6
SIGN_HEIGHT_M = 2.2
ROADSIDE_M = 1.2  # posts stand this far beyond the carriageway
POST_CLEARANCE_M = 0.6  # from a lane's edge
STOP_LINE_SETBACK_M = 0.5  # before the end of the lane
YELLOW_S = 3.0  # CARLA's default
ALL_RED_S = 2.0  # CARLA's default
OPPOSING_LEAST_RAD = math.radians(135.0)


def between(first: float, second: float) -> float:
    """The turn from one heading to another, in [-pi, pi)."""
    return (second - first + math.pi) % (2 * math.pi) - math.pi


def opposing_groups(headings: Sequence[float]) -> list[list[int]]:
    """Approaches (by heading) that may be green together: those that come towards each other, in pairs."""
    waiting = list(range(len(headings)))
    groups: list[list[int]] = []
    while waiting:
        first = waiting.pop(0)
        facing = [k for k in waiting if abs(between(headings[first], headings[k])) > OPPOSING_LEAST_RAD]
        if not facing:
            groups.append([first])
            continue
        partner = max(facing, key=lambda k: abs(between(headings[first], headings[k])))
        waiting.remove(partner)
        groups.append([first, partner])
    return groups


def end_stop_line(draft: MapDraft, lane: int, control: Control, signal: int = -1) -> int:
    """A stop line just before the end of a lane; returns its index."""
    points = draft.lanes[lane].points
    length = float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
    return draft.add_stop_line(lane, max(0.0, length - STOP_LINE_SETBACK_M), control, signal)


def to_right(heading: float) -> NDArray[np.float64]:
    """The unit vector (2,) to the right of a heading."""
    return np.array([math.sin(heading), -math.cos(heading)])


def approach_edge(draft: MapDraft, lanes: Sequence[int]) -> tuple[NDArray[np.float64], float, float]:
    """End point (2,) and heading of an approach's rightmost lane, and how far to its right posts stand."""
    heading = float(draft.lanes[lanes[0]].heading[-1])
    lane = max(lanes, key=lambda index: float(np.dot(draft.lanes[index].points[-1, :2], to_right(heading))))
    return draft.lanes[lane].points[-1, :2], heading, _outer_edge(draft, lane, True)


def _outer_edge(draft: MapDraft, lane: int, at_end: bool) -> float:
    """From a lane's centre line to beyond the carriageway's right edge, where posts stand."""
    at = -1 if at_end else 0
    edge = 0.5 * float(draft.lanes[lane].width[at])
    while draft.lanes[lane].right != NO_LANE:
        lane = draft.lanes[lane].right
        if draft.lanes[lane].kind == LaneKind.SIDEWALK:
            break
        edge += float(draft.lanes[lane].width[at])
    return edge + ROADSIDE_M


def light_heads(draft: MapDraft, connectors: Sequence[int], lanes: Sequence[int]) -> NDArray[np.float32]:
    """Lamp boxes (2, 4) of one approach: at the near right corner and across the junction.

    `lanes` lead into the junction that consists of `connectors`.  Both boxes shine against the
    approach and stand clear of every lane of the junction.
    """
    end, heading, edge = approach_edge(draft, lanes)
    ahead, right = np.array([math.cos(heading), math.sin(heading)]), to_right(heading)
    reach, lateral = 0.0, edge
    for connector in connectors:
        lane = draft.lanes[connector]
        straight = abs(between(heading, float(lane.heading[-1]))) < math.pi / 4
        if straight and lane.successors and lane.kind == LaneKind.DRIVING:
            gap = lane.points[-1, :2] - end
            reach = max(reach, float(np.dot(gap, ahead)))
            lateral = max(lateral, float(np.dot(gap, right)) + _outer_edge(draft, lane.successors[0], False))
        else:
            reach = max(reach, float(np.max((lane.points[:, :2] - end) @ ahead)) + ROADSIDE_M)
    taken, half = _ground_taken(draft, connectors)
    ground = float(draft.lanes[lanes[0]].points[-1, 2])
    facing = between(0.0, heading + math.pi)
    near = _clear_place(end + ahead + edge * right, right, -ahead, taken, half)
    far = _clear_place(end + reach * ahead + lateral * right, ahead, right, taken, half)
    return np.array(
        [
            [near[0], near[1], ground + NEAR_HEAD_HEIGHT_M, facing],
            [far[0], far[1], ground + FAR_HEAD_HEIGHT_M, facing],
        ],
        np.float32,
    )


def _ground_taken(
    draft: MapDraft, connectors: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points (N, 2) and half widths (N,) of a junction's lanes and of the roads that meet there."""
    lanes = set(connectors)
    for connector in connectors:
        lanes.update(draft.lanes[connector].successors + draft.lanes[connector].predecessors)
    for lane in list(lanes):
        for side in ("left", "right"):
            beside = getattr(draft.lanes[lane], side)
            while beside != NO_LANE and draft.lanes[beside].kind != LaneKind.SIDEWALK:
                lanes.add(beside)
                beside = getattr(draft.lanes[beside], side)
    chosen = [draft.lanes[lane] for lane in sorted(lanes)]
    points = [np.vstack([lane.points[:30, :2], lane.points[-30:, :2]]) for lane in chosen]
    half = [np.full(len(part), 0.5 * float(lane.width.max())) for part, lane in zip(points, chosen)]
    return np.concatenate(points), np.concatenate(half)


def _clear_place(
    place: NDArray[np.float64],
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    taken: NDArray[np.float64],
    half: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The place nearest to the wanted one, moving along two directions, that is clear of lanes."""
    steps = sorted(((i, j) for i in range(13) for j in range(9)), key=lambda step: (sum(step), step[1]))
    for i, j in steps:
        moved = place + i * first + j * second
        if np.all(np.hypot(taken[:, 0] - moved[0], taken[:, 1] - moved[1]) > half + POST_CLEARANCE_M):
            return moved
    return place
