"""Which connectors of a junction conflict, and who yields to whom."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from takevla.scene.road_map import LaneKind, Turn
from takevla.world.maps.draft import CONFLICT_GAP_M, LaneDraft, MapDraft

ONCOMING_LEAST_RAD = math.radians(120.0)


def mark_conflicts(draft: MapDraft, connectors: Sequence[int]) -> None:
    """Note every pair of connectors that cross or merge; those that only part are no conflict."""
    lanes = [draft.lanes[index] for index in connectors]
    samples = [lane.points[:: max(1, len(lane.points) // 40)] for lane in lanes]
    samples = [np.vstack([kept, lane.points[-1:]]) for kept, lane in zip(samples, lanes)]
    low = np.array([points.min(axis=0) for points in samples]) - CONFLICT_GAP_M
    high = np.array([points.max(axis=0) for points in samples]) + CONFLICT_GAP_M
    for i, first in enumerate(lanes):
        for j in range(i + 1, len(lanes)):
            second = lanes[j]
            if set(first.predecessors) & set(second.predecessors):
                continue
            if np.any(low[i] > high[j]) or np.any(low[j] > high[i]):
                continue
            merges = bool(set(first.successors) & set(second.successors))
            if not merges:
                gaps = samples[i][:, None, :] - samples[j][None, :, :]
                squared = gaps[..., 0] ** 2 + gaps[..., 1] ** 2
                level = np.abs(gaps[..., 2]) < 3.0  # bridges do not conflict with what they cross
                if not np.any((squared < CONFLICT_GAP_M**2) & level):
                    continue
            first.conflicts.add(connectors[j])
            second.conflicts.add(connectors[i])


def mark_priorities(
    draft: MapDraft,
    connectors: Sequence[int],
    rank: Callable[[int], int],
    together: Callable[[int, int], bool],
) -> None:
    """Fill `yields_to` of every connector.

    `rank(connector)`: 0 for the major road, higher for roads that must give way.
    `together(a, b)`: whether both may be moving at once; False where signals keep them apart.
    Of equal rank a left turn yields to what comes towards it, a turn yields to bicycles that go
    straight on, and otherwise the one from the right goes first; of two from
    one side that merge, the straighter; ties go to the lower lane index.
    """
    for own in connectors:
        lane = draft.lanes[own]
        for other in sorted(lane.conflicts):
            if together(own, other) and _must_yield(draft, own, other, rank):
                lane.yields_to.add(other)


def _must_yield(draft: MapDraft, own: int, other: int, rank: Callable[[int], int]) -> bool:
    mine, theirs = draft.lanes[own], draft.lanes[other]
    if rank(own) != rank(other):
        return rank(own) > rank(other)
    bearing = _approach(mine, theirs)
    if abs(bearing) < math.radians(45.0):  # same approach: side by side
        if mine.kind != theirs.kind:
            return mine.kind == LaneKind.DRIVING and mine.turn != Turn.STRAIGHT
        merging = (_side(mine), _swerve(mine), own)
        return merging > (_side(theirs), _swerve(theirs), other)
    if abs(bearing) > ONCOMING_LEAST_RAD:
        return (_side(mine), own) > (_side(theirs), other)
    return bearing > 0.0  # it comes from the right when its heading is to the left of ours


def _approach(mine: LaneDraft, theirs: LaneDraft) -> float:
    return float((theirs.heading[0] - mine.heading[0] + math.pi) % (2 * math.pi) - math.pi)


def _swerve(lane: LaneDraft) -> float:
    """How far sideways a connector moves (m, rounded): of two that merge the straighter goes first."""
    dx, dy = lane.points[0, :2] - lane.points[-1, :2]
    return round(abs(dy * math.cos(lane.heading[-1]) - dx * math.sin(lane.heading[-1])), 1)


def _side(lane: LaneDraft) -> int:
    """How much of others' way a movement cuts: straight 0, right 1, left 2."""
    return {Turn.STRAIGHT: 0, Turn.NONE: 0, Turn.RIGHT: 1, Turn.LEFT: 2}[lane.turn]
