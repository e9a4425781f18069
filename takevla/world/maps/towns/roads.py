"""From centre lines with cross-sections to lanes of a map draft."""

from __future__ import annotations

from dataclasses import dataclass, field

from takevla.scene.road_map import NO_LANE, LaneKind, MarkKind
from takevla.world.maps.curves import Curve, offset, reverse
from takevla.world.maps.draft import MapDraft
from takevla.world.maps.towns.sections import Section, Strip, mark_between, outer_mark


@dataclass
class BuiltRoad:
    """Lane indices of a built road, outwards from the centre."""

    forward: list[int] = field(default_factory=list)
    backward: list[int] = field(default_factory=list)


def build_side(
    draft: MapDraft,
    road: int,
    reference: Curve,
    strips: tuple[Strip, ...],
    first_offset_m: float,
    speed_limit_mps: float,
    inner_mark: MarkKind,
) -> list[int]:
    """Lanes to the right of a directed reference curve, beginning `first_offset_m` from it."""
    indices: list[int] = []
    edge = first_offset_m
    for k, strip in enumerate(strips):
        curve = offset(reference, -(edge + strip.width_m / 2))
        lane = draft.add_curve(road, strip.kind, curve, strip.width_m, speed_limit_mps)
        edge += strip.width_m
        own = draft.lanes[lane]
        own.left_mark = inner_mark if k == 0 else mark_between(strips[k - 1].kind, strip.kind)
        last = k == len(strips) - 1
        own.right_mark = outer_mark(strip.kind) if last else mark_between(strip.kind, strips[k + 1].kind)
        if indices:
            draft.put_beside(indices[-1], lane)
        indices.append(lane)
    return indices


def build_road(draft: MapDraft, road: int, reference: Curve, section: Section) -> BuiltRoad:
    """All lanes of a road along a trimmed reference curve."""
    built = BuiltRoad()
    half_median = section.median_m / 2
    centre = section.centre_mark if section.forward and section.backward else MarkKind.SOLID_YELLOW
    for forward in (True, False):
        strips = section.strips(forward)
        if strips:
            curve = reference if forward else reverse(reference)
            lanes = build_side(draft, road, curve, strips, half_median, section.speed_limit_mps, centre)
            (built.forward if forward else built.backward).extend(lanes)
    if built.forward and built.backward and section.median_m == 0.0:
        inner, other = draft.lanes[built.forward[0]], draft.lanes[built.backward[0]]
        if inner.kind == other.kind == LaneKind.DRIVING:
            inner.opposite, other.opposite = built.backward[0], built.forward[0]
    return built


def driving_lanes(draft: MapDraft, lanes: list[int]) -> list[int]:
    """Those of `lanes` that cars drive on, in the same order."""
    return [lane for lane in lanes if draft.lanes[lane].kind == LaneKind.DRIVING]


def lane_of_kind(draft: MapDraft, lanes: list[int], kind: LaneKind) -> int:
    """The first lane of a kind, or NO_LANE."""
    return next((lane for lane in lanes if draft.lanes[lane].kind == kind), NO_LANE)
