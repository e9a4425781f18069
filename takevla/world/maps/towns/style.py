"""What distinguishes the town families, and one town from another within a family."""

from __future__ import annotations

from dataclasses import dataclass

from takevla.scene.road_map import LaneKind, MarkKind
from takevla.world.maps.towns.crossings import Rule
from takevla.world.maps.towns.sections import KMH, Section, Strip, driving


@dataclass(frozen=True)
class Style:
    """Parameter ranges of a family; a town draws its own values from them."""

    columns: tuple[int, int]
    rows: tuple[int, int]
    block_m: tuple[float, float]
    long_block_m: tuple[float, float]
    lane_m: tuple[float, float]
    warp_m: tuple[float, float]  # amplitude of the smooth bending of the whole plan
    warp_length_m: tuple[float, float]
    bow: tuple[float, float]  # sideways bulge of single streets, share of their length
    jitter_m: float  # how far inner nodes may lie off the grid
    dropped_share: tuple[float, float]  # of removable inner streets
    gap_m: tuple[float, float]  # from the frontage road to the highway's centre line
    stub_m: tuple[float, float]  # how far the highway reaches beyond the town on each side
    highway_lanes: tuple[int, int]
    rules_large: tuple[Rule, ...]  # drawn for junctions with a multi-lane road
    rules_small: tuple[Rule, ...]


ALDER = Style(
    columns=(4, 5),
    rows=(4, 4),
    block_m=(125.0, 205.0),
    long_block_m=(275.0, 310.0),
    lane_m=(3.3, 3.6),
    warp_m=(5.0, 13.0),
    warp_length_m=(520.0, 950.0),
    bow=(0.0, 0.05),
    jitter_m=6.0,
    dropped_share=(0.15, 0.4),
    gap_m=(105.0, 130.0),
    stub_m=(190.0, 240.0),
    highway_lanes=(2, 3),
    rules_large=(Rule.PERMISSIVE, Rule.PERMISSIVE, Rule.PERMISSIVE, Rule.SPLIT, Rule.MINOR_STOP),
    rules_small=(
        Rule.ALL_STOP,
        Rule.MINOR_STOP,
        Rule.MINOR_STOP,
        Rule.PERMISSIVE,
        Rule.NONE,
        Rule.MINOR_YIELD,
    ),
)

BIRCH = Style(
    columns=(3, 4),
    rows=(4, 5),
    block_m=(150.0, 235.0),
    long_block_m=(285.0, 330.0),
    lane_m=(3.1, 3.75),
    warp_m=(10.0, 20.0),
    warp_length_m=(480.0, 800.0),
    bow=(0.03, 0.08),
    jitter_m=18.0,
    dropped_share=(0.3, 0.55),
    gap_m=(115.0, 150.0),
    stub_m=(200.0, 270.0),
    highway_lanes=(2, 3),
    rules_large=(Rule.PERMISSIVE, Rule.SPLIT, Rule.SPLIT, Rule.MINOR_STOP),
    rules_small=(
        Rule.MINOR_STOP,
        Rule.ALL_STOP,
        Rule.MINOR_YIELD,
        Rule.NONE,
        Rule.NONE,
        Rule.PERMISSIVE,
    ),
)

PARKING_M = 2.3
BIKE_M = 1.7
SIDEWALK_M = 2.6
SHOULDER_M = 1.5
HIGHWAY_SHOULDER_M = 2.8
RAMP_M = 4.0

_WALK = (Strip(LaneKind.SIDEWALK, SIDEWALK_M),)
_PARK = (Strip(LaneKind.PARKING, PARKING_M),)
_BIKE = (Strip(LaneKind.BIKE, BIKE_M),)


@dataclass(frozen=True)
class Sections:
    """The cross-sections of one town."""

    local: Section
    parked: Section
    collector: Section
    arterial: Section
    boulevard: Section
    rural: Section
    highway: Section
    ramp: Section


def sections(lane_m: float, highway_lanes: int, fast: bool) -> Sections:
    """All cross-sections of a town from its lane width; `fast` towns have the higher limits."""
    narrow = lane_m - 0.15

    def both(
        name: str,
        side: tuple[Strip, ...],
        kmh: float,
        mark: MarkKind,
        median_m: float = 0.0,
        rank: int = 1,
    ) -> Section:
        return Section(name, side, side, kmh * KMH, mark, median_m, rank)

    return Sections(
        local=both("local", driving(1, narrow) + _WALK, 30.0, MarkKind.BROKEN_YELLOW),
        parked=both(
            "parked", driving(1, narrow) + _PARK + _WALK, 40.0 if fast else 30.0, MarkKind.BROKEN_YELLOW
        ),
        collector=both(
            "collector",
            driving(1, lane_m) + _BIKE + _WALK,
            50.0 if fast else 40.0,
            MarkKind.BROKEN_YELLOW,
            rank=2,
        ),
        arterial=both("arterial", driving(2, lane_m) + _PARK + _WALK, 50.0, MarkKind.DOUBLE_YELLOW, rank=3),
        boulevard=both(
            "boulevard",
            driving(2, lane_m) + _WALK,
            60.0,
            MarkKind.SOLID_YELLOW,
            median_m=2.4 if fast else 1.6,
            rank=3,
        ),
        rural=both(
            "rural",
            (*driving(1, lane_m), Strip(LaneKind.SHOULDER, SHOULDER_M)),
            70.0 if fast else 60.0,
            MarkKind.BROKEN_YELLOW,
            rank=2,
        ),
        highway=both(
            "highway",
            (*driving(highway_lanes, max(lane_m, 3.5)), Strip(LaneKind.SHOULDER, HIGHWAY_SHOULDER_M)),
            110.0 if fast else 90.0,
            MarkKind.SOLID_YELLOW,
            median_m=6.0 if fast else 4.0,
            rank=4,
        ),
        ramp=Section("ramp", driving(1, RAMP_M), (), 50.0 * KMH, MarkKind.SOLID_YELLOW),
    )
