"""A road map under construction, for the town builder and the OpenDRIVE reader alike."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from takevla.scene.road_map import (
    NO_LANE,
    POINT_SPACING_M,
    Control,
    Crosswalk,
    Junction,
    Lane,
    LaneKind,
    MarkKind,
    Prop,
    RoadMap,
    Signal,
    SignalPhase,
    StopLine,
    StopSign,
    Turn,
)
from takevla.world.maps.curves import Curve, resample

STRAIGHT_LIMIT_RAD = math.radians(35.0)  # connectors that turn less count as straight
CONFLICT_GAP_M = 2.2  # centre lines closer than this cannot be driven side by side (car about 2 m wide)


@dataclass
class LaneDraft:
    """A lane that may still change; fields as in `Lane`."""

    road: int
    kind: LaneKind
    points: NDArray[np.float64]  # (N, 3)
    heading: NDArray[np.float64]  # (N,)
    width: NDArray[np.float64]  # (N,)
    speed_limit_mps: float
    successors: list[int] = field(default_factory=list)
    predecessors: list[int] = field(default_factory=list)
    left: int = NO_LANE
    right: int = NO_LANE
    opposite: int = NO_LANE
    left_mark: MarkKind = MarkKind.NONE
    right_mark: MarkKind = MarkKind.NONE
    junction: int = -1
    turn: Turn = Turn.NONE
    conflicts: set[int] = field(default_factory=set)
    yields_to: set[int] = field(default_factory=set)


@dataclass
class JunctionDraft:
    """A junction that may still change; fields as in `Junction`."""

    connectors: list[int] = field(default_factory=list)
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    phases: tuple[SignalPhase, ...] = ()
    offset_s: float = 0.0


class MapDraft:
    """Collects lanes and furniture, then freezes them into a `RoadMap`."""

    def __init__(self) -> None:
        self.lanes: list[LaneDraft] = []
        self.junctions: list[JunctionDraft] = []
        self.stop_lines: list[StopLine] = []
        self.signals: list[Signal] = []
        self.stop_signs: list[StopSign] = []
        self.crosswalks: list[Crosswalk] = []
        self.props: list[Prop] = []

    def add_curve(
        self, road: int, kind: LaneKind, curve: Curve, width_m: float, speed_limit_mps: float
    ) -> int:
        """A lane of constant width along a curve at z = 0; returns its index."""
        even = resample(curve, POINT_SPACING_M)
        points = np.column_stack([even.xy, np.zeros(len(even.s))])
        width = np.full(len(even.s), width_m)
        self.lanes.append(LaneDraft(road, kind, points, even.heading, width, speed_limit_mps))
        return len(self.lanes) - 1

    def link(self, before: int, after: int) -> None:
        """Let `after` follow `before`."""
        if after not in self.lanes[before].successors:
            self.lanes[before].successors.append(after)
            self.lanes[after].predecessors.append(before)

    def put_beside(self, left: int, right: int) -> None:
        """Make two lanes of the same direction neighbours."""
        self.lanes[left].right = right
        self.lanes[right].left = left

    def add_stop_line(self, lane: int, s_m: float, control: Control, signal: int = -1) -> int:
        """A stop line; returns its index."""
        self.stop_lines.append(StopLine(lane, s_m, control, signal))
        return len(self.stop_lines) - 1

    def freeze(self, name: str, family: str, source: str) -> RoadMap:
        """The finished map."""
        lanes = tuple(
            Lane(
                index=index,
                road=lane.road,
                kind=lane.kind,
                points_world=lane.points.astype(np.float32),
                heading_rad=((lane.heading + math.pi) % (2 * math.pi) - math.pi).astype(np.float32),
                width_m=lane.width.astype(np.float32),
                speed_limit_mps=float(lane.speed_limit_mps),
                successors=tuple(lane.successors),
                predecessors=tuple(lane.predecessors),
                left=lane.left,
                right=lane.right,
                opposite=lane.opposite,
                left_mark=lane.left_mark,
                right_mark=lane.right_mark,
                junction=lane.junction,
                turn=lane.turn,
                conflicts=tuple(sorted(lane.conflicts)),
                yields_to=tuple(sorted(lane.yields_to)),
            )
            for index, lane in enumerate(self.lanes)
        )
        junctions = tuple(
            Junction(
                index=index,
                connectors=tuple(junction.connectors),
                centre_world=np.array(junction.centre, np.float32),
                phases=junction.phases,
                offset_s=junction.offset_s,
            )
            for index, junction in enumerate(self.junctions)
        )
        return RoadMap(
            name=name,
            lanes=lanes,
            junctions=junctions,
            stop_lines=tuple(self.stop_lines),
            signals=tuple(self.signals),
            stop_signs=tuple(self.stop_signs),
            crosswalks=tuple(self.crosswalks),
            props=tuple(self.props),
            family=family,
            source=source,
        )


def turn_of(heading_in: float, heading_out: float) -> Turn:
    """Which way a connector between two headings turns."""
    turned = (heading_out - heading_in + math.pi) % (2 * math.pi) - math.pi
    if abs(turned) < STRAIGHT_LIMIT_RAD:
        return Turn.STRAIGHT
    return Turn.LEFT if turned > 0 else Turn.RIGHT
