"""The road map: lanes, junctions, stop lines, signals, and what stands beside the road.

A `RoadMap` is immutable and shared by every world that runs on it.  Set-up code walks the
readable records (`Lane`, `Junction`, ...); hot loops use `RoadMap.arrays`, the same content as
flat NumPy arrays that numba kernels take directly.

Frame: world, x east, y north, z up, yaw counter-clockwise, metres and radians.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Int = NDArray[np.int32]

POINT_SPACING_M = 1.0  # greatest distance between neighbouring points of a lane's centre line
GRID_CELL_M = 10.0  # side of a cell of the nearest-lane grid
NO_LANE = -1


class LaneKind(IntEnum):
    """What a lane is for (OpenDRIVE lane types, reduced to those that driving needs)."""

    DRIVING = 0
    PARKING = 1
    BIKE = 2
    SHOULDER = 3
    SIDEWALK = 4


class MarkKind(IntEnum):
    """The paint (or kerb) along one side of a lane."""

    NONE = 0
    BROKEN_WHITE = 1
    SOLID_WHITE = 2
    BROKEN_YELLOW = 3
    SOLID_YELLOW = 4
    DOUBLE_YELLOW = 5
    KERB = 6


class Turn(IntEnum):
    """Which way a junction connector turns; NONE outside junctions."""

    NONE = 0
    LEFT = 1
    STRAIGHT = 2
    RIGHT = 3


class Control(IntEnum):
    """What rules a stop line."""

    SIGNAL = 0
    STOP_SIGN = 1
    YIELD = 2


class LightState(IntEnum):
    """State of one signal."""

    GREEN = 0
    YELLOW = 1
    RED = 2
    OFF = 3


@dataclass(frozen=True, slots=True)
class Lane:
    """One lane of one road section, or one connector through a junction.

    Points run in driving direction at equal spacing of at most `POINT_SPACING_M`.  Neighbours are
    lane indices (`NO_LANE` = none); `left`/`right` drive the same way as this lane (any kind),
    `opposite` is the nearest DRIVING lane that runs the other way on the left.
    """

    index: int
    road: int  # road (or junction connector) identity, e.g. the OpenDRIVE road id
    kind: LaneKind
    points_world: Float  # (N, 3) m, N >= 2
    heading_rad: Float  # (N,) tangent of the centre line
    width_m: Float  # (N,)
    speed_limit_mps: float
    successors: tuple[int, ...] = ()
    predecessors: tuple[int, ...] = ()
    left: int = NO_LANE
    right: int = NO_LANE
    opposite: int = NO_LANE
    left_mark: MarkKind = MarkKind.NONE
    right_mark: MarkKind = MarkKind.NONE
    junction: int = -1  # index into RoadMap.junctions for connectors, else -1
    turn: Turn = Turn.NONE
    conflicts: tuple[int, ...] = ()  # connectors of the same junction whose path crosses or merges
    yields_to: tuple[int, ...] = ()  # the subset of `conflicts` that has right of way over this lane

    @property
    def length_m(self) -> float:
        """Arc length of the centre line."""
        steps = np.diff(self.points_world.astype(np.float64), axis=0)
        return float(np.linalg.norm(steps, axis=1).sum())


@dataclass(frozen=True, slots=True)
class Junction:
    """A crossing of roads.  `phases` is empty where no signals stand."""

    index: int
    connectors: tuple[int, ...]  # lane indices
    centre_world: Float  # (3,)
    phases: tuple[SignalPhase, ...] = ()
    offset_s: float = 0.0  # start of the cycle against world time


@dataclass(frozen=True, slots=True)
class SignalPhase:
    """Signals that are green together, and for how long; all others of the junction are red."""

    signals: tuple[int, ...]
    green_s: float
    yellow_s: float = 3.0
    all_red_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Signal:
    """One traffic light: it rules the stop lines that name it.

    `heads` are the lamp positions a camera sees (near-right and far side): (K, 4) of
    x, y, z of the lamp box centre and the yaw towards which the lamps shine.
    """

    index: int
    junction: int
    heads: Float


@dataclass(frozen=True, slots=True)
class StopLine:
    """Where traffic of one lane must stop: at `s_m` along `lane`, ruled by `control`."""

    lane: int
    s_m: float
    control: Control
    signal: int = -1  # index into RoadMap.signals when control is SIGNAL


@dataclass(frozen=True, slots=True)
class StopSign:
    """A sign at the roadside: pose of the plate (x, y, z, yaw it faces) and the stop lines it rules."""

    pose_world: Float  # (4,)
    stop_lines: tuple[int, ...]  # indices into RoadMap.stop_lines
    control: Control = Control.STOP_SIGN


@dataclass(frozen=True, slots=True)
class Crosswalk:
    """A pedestrian crossing as a closed polygon."""

    polygon_world: Float  # (K, 2), no repeated end point


@dataclass(frozen=True, slots=True)
class Prop:
    """A static thing beside the road that only the camera needs (building, tree, lamp post)."""

    kind: str
    pose_world: Float  # (4,) x, y, z of the base centre, yaw
    extent_m: Float  # (3,) full length, width, height
    colour: int  # seed of its look


class RoadArrays(NamedTuple):
    """The road map as flat arrays for kernels.  P points, L lanes, S stop lines.

    `point_*` of lane i are at [lane_start[i], lane_start[i + 1]).  `*_index`/`*_items` pairs are
    compressed rows: items of row i at [index[i], index[i + 1]).  The grid lists, per cell
    (row-major, y then x), the points whose lane is DRIVING, PARKING, BIKE or SHOULDER.
    """

    point_x: Float
    point_y: Float
    point_z: Float
    point_heading: Float
    point_width: Float
    point_s: Float  # arc length from the lane's start
    point_lane: Int
    lane_start: Int  # (L + 1,)
    lane_length: Float
    lane_kind: Int
    lane_speed_limit: Float
    lane_left: Int
    lane_right: Int
    lane_left_mark: Int
    lane_right_mark: Int
    lane_junction: Int
    lane_turn: Int
    successor_index: Int
    successor_items: Int
    predecessor_index: Int
    predecessor_items: Int
    conflict_index: Int
    conflict_items: Int
    yield_index: Int
    yield_items: Int
    lane_stop_s: Float  # (L,) arc length of the lane's stop line, inf where none
    lane_stop_control: Int  # (L,) Control or -1
    lane_stop_signal: Int  # (L,) signal or -1
    grid_origin: Float  # (2,) x, y of the lower left corner
    grid_shape: Int  # (2,) columns (x), rows (y)
    grid_index: Int  # (columns * rows + 1,)
    grid_items: Int  # point indices


def _rows(rows: list[tuple[int, ...]]) -> tuple[Int, Int]:
    index = np.zeros(len(rows) + 1, np.int32)
    index[1:] = np.cumsum([len(row) for row in rows])
    items = np.fromiter((item for row in rows for item in row), np.int32, int(index[-1]))
    return index, items


@dataclass(frozen=True)
class RoadMap:
    """Everything about a town that does not move."""

    name: str
    lanes: tuple[Lane, ...]
    junctions: tuple[Junction, ...] = ()
    stop_lines: tuple[StopLine, ...] = ()
    signals: tuple[Signal, ...] = ()
    stop_signs: tuple[StopSign, ...] = ()
    crosswalks: tuple[Crosswalk, ...] = ()
    props: tuple[Prop, ...] = ()
    family: str = ""  # "alder", "birch", "opendrive"
    source: str = field(default="", compare=False)  # how to build it again: a seed or a file

    @cached_property
    def arrays(self) -> RoadArrays:
        """The flat view, built once."""
        lanes = self.lanes
        counts = np.array([len(lane.points_world) for lane in lanes], np.int32)
        start = np.zeros(len(lanes) + 1, np.int32)
        start[1:] = np.cumsum(counts)
        points = np.concatenate([lane.points_world for lane in lanes]).astype(np.float32)
        arc = []
        for lane in lanes:
            steps = np.linalg.norm(np.diff(lane.points_world.astype(np.float64), axis=0), axis=1)
            arc.append(np.concatenate([[0.0], np.cumsum(steps)]))
        stop_s = np.full(len(lanes), np.inf, np.float32)
        stop_control = np.full(len(lanes), -1, np.int32)
        stop_signal = np.full(len(lanes), -1, np.int32)
        for line in self.stop_lines:
            stop_s[line.lane] = line.s_m
            stop_control[line.lane] = line.control
            stop_signal[line.lane] = line.signal
        point_lane = np.repeat(np.arange(len(lanes), dtype=np.int32), counts)
        kind = np.array([lane.kind for lane in lanes], np.int32)
        drivable = np.flatnonzero(kind[point_lane] != LaneKind.SIDEWALK)
        low = points[:, :2].min(axis=0) - GRID_CELL_M
        shape = np.ceil((points[:, :2].max(axis=0) + GRID_CELL_M - low) / GRID_CELL_M).astype(np.int32)
        cell_xy = ((points[drivable, :2] - low) / GRID_CELL_M).astype(np.int32)
        cell = cell_xy[:, 1] * shape[0] + cell_xy[:, 0]
        order = np.argsort(cell, kind="stable")
        grid_index = np.zeros(int(shape[0]) * int(shape[1]) + 1, np.int32)
        grid_index[1:] = np.cumsum(np.bincount(cell, minlength=len(grid_index) - 1))
        successor = _rows([lane.successors for lane in lanes])
        predecessor = _rows([lane.predecessors for lane in lanes])
        conflict = _rows([lane.conflicts for lane in lanes])
        yields = _rows([lane.yields_to for lane in lanes])
        return RoadArrays(
            point_x=np.ascontiguousarray(points[:, 0]),
            point_y=np.ascontiguousarray(points[:, 1]),
            point_z=np.ascontiguousarray(points[:, 2]),
            point_heading=np.concatenate([lane.heading_rad for lane in lanes]).astype(np.float32),
            point_width=np.concatenate([lane.width_m for lane in lanes]).astype(np.float32),
            point_s=np.concatenate(arc).astype(np.float32),
            point_lane=point_lane,
            lane_start=start,
            lane_length=np.array([row[-1] for row in arc], np.float32),
            lane_kind=kind,
            lane_speed_limit=np.array([lane.speed_limit_mps for lane in lanes], np.float32),
            lane_left=np.array([lane.left for lane in lanes], np.int32),
            lane_right=np.array([lane.right for lane in lanes], np.int32),
            lane_left_mark=np.array([lane.left_mark for lane in lanes], np.int32),
            lane_right_mark=np.array([lane.right_mark for lane in lanes], np.int32),
            lane_junction=np.array([lane.junction for lane in lanes], np.int32),
            lane_turn=np.array([lane.turn for lane in lanes], np.int32),
            successor_index=successor[0],
            successor_items=successor[1],
            predecessor_index=predecessor[0],
            predecessor_items=predecessor[1],
            conflict_index=conflict[0],
            conflict_items=conflict[1],
            yield_index=yields[0],
            yield_items=yields[1],
            lane_stop_s=stop_s,
            lane_stop_control=stop_control,
            lane_stop_signal=stop_signal,
            grid_origin=low.astype(np.float32),
            grid_shape=shape,
            grid_index=grid_index,
            grid_items=drivable[order].astype(np.int32),
        )
