"""What lies on the ground: road surface, paint, kerbs, pavements, crossings, from the road map alone."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import shapely
from numba import njit
from numpy.typing import NDArray

from takevla.scene.road_map import NO_LANE, Control, Lane, LaneKind, MarkKind, RoadMap, Turn
from takevla.world.camera.instances import GRASS, PAINT, PAVEMENT, ROAD

Array = NDArray[np.float64]

LINE_WIDTH_M = 0.22  # wider than real paint (0.12 to 0.15), so that a line can be told in 256 pixels
DASH_M = 3.0
DASH_PERIOD_M = 8.0
KERB_HEIGHT_M = 0.13
KERB_WIDTH_M = 0.28
STOP_LINE_M = 0.55
BAY_M = 6.5  # between the cross lines of a parking lane
STRIPE_M = 0.55  # of a pedestrian crossing, and as much again between two
PAINT_Z_M = 0.01
SEAM_M = 0.06
GAP_M = 3.0  # gaps between connectors up to twice as wide belong to the junction's floor
TURN_STEP_RAD = 0.05  # a ribbon's chord turns by no more
CHORD_M = 20.0
CHUNK_M = 60.0
GROUND_DISTANCE_M = 170.0

ASPHALT = (74, 75, 79)
ASPHALT_PARKING = (88, 88, 91)
ASPHALT_SHOULDER = (98, 95, 90)
BIKE_LANE = (132, 62, 56)
SLAB = (158, 154, 148)
EARTH = (112, 104, 78)
KERB_TOP = (190, 188, 184)
KERB_FACE = (132, 130, 128)
WHITE = (236, 236, 232)
YELLOW = (246, 196, 26)


class Layer(IntEnum):
    """Painter's order of the ground.

    The software rasteriser rounds corners to pixels, so that depth cannot tell paint from the road
    under it at a grazing angle: the ground is drawn in this order without a depth test instead.
    """

    EARTH = 0
    FLOOR = 1  # of junctions
    SURFACE = 2
    BIKE = 3
    PAINT = 4
    FACE = 5  # the upright side of kerbs
    TOP = 6  # pavements and the top of kerbs


_SURFACE = {
    LaneKind.DRIVING: (ASPHALT, Layer.SURFACE),
    LaneKind.PARKING: (ASPHALT_PARKING, Layer.SURFACE),
    LaneKind.BIKE: (BIKE_LANE, Layer.BIKE),
    LaneKind.SHOULDER: (ASPHALT_SHOULDER, Layer.SURFACE),
}
_KIND = {
    Layer.EARTH: GRASS,
    Layer.FLOOR: ROAD,
    Layer.SURFACE: ROAD,
    Layer.BIKE: ROAD,
    Layer.PAINT: PAINT,
    Layer.FACE: PAVEMENT,
    Layer.TOP: PAVEMENT,
}
_MARK_RGB = {
    MarkKind.BROKEN_WHITE: WHITE,
    MarkKind.SOLID_WHITE: WHITE,
    MarkKind.BROKEN_YELLOW: YELLOW,
    MarkKind.SOLID_YELLOW: YELLOW,
    MarkKind.DOUBLE_YELLOW: YELLOW,
}


class Ground(NamedTuple):
    """The quads of a town's ground, in C chunks, in the order in which they must be drawn."""

    vertices: NDArray[np.float32]  # (4 * quads, 4) as `instances.emit` writes them
    start: NDArray[np.int32]  # (C + 1,) first quad of each chunk
    circle: NDArray[np.float32]  # (C, 3) x, y, radius of a circle that holds the chunk


class Quads:
    """Quads being gathered: corners (N, 4, 3) world, by layer and colour."""

    def __init__(self) -> None:
        self._corners: dict[Layer, list[Array]] = {layer: [] for layer in Layer}
        self._codes: dict[Layer, list[NDArray[np.uint8]]] = {layer: [] for layer in Layer}

    def add(self, corners: Array, rgb: tuple[int, int, int], layer: Layer) -> None:
        """Add quads (N, 4, 3) of one colour."""
        if len(corners):
            self._corners[layer].append(corners)
            code = np.array([*rgb, _KIND[layer]], np.uint8)
            self._codes[layer].append(np.tile(code, (len(corners), 1)))

    def ground(self, chunk_m: float) -> Ground:
        """The quads in painter's order, within each layer by square chunks of side `chunk_m`."""
        layers = [layer for layer in Layer if self._corners[layer]]
        if not layers:
            return Ground(np.empty((0, 4), np.float32), np.zeros(1, np.int32), np.empty((0, 3), np.float32))
        corners = np.concatenate([quads for layer in layers for quads in self._corners[layer]])
        codes = np.concatenate([codes for layer in layers for codes in self._codes[layer]])
        rank = np.repeat(layers, [sum(map(len, self._corners[layer])) for layer in layers])
        vertices = np.empty((len(corners), 4, 4), np.float32)
        vertices[:, :, :3] = corners
        vertices.view(np.uint8)[:, :, 12:] = codes[:, None, :]
        middle = corners[:, :, :2].mean(axis=1)
        cell = np.floor((middle - middle.min(axis=0)) / chunk_m).astype(np.int64)
        key = (rank * (cell[:, 1].max() + 1) + cell[:, 1]) * (cell[:, 0].max() + 1) + cell[:, 0]
        order = np.argsort(key, kind="stable")
        start = np.flatnonzero(np.diff(key[order], prepend=-1))
        flat = corners[order, :, :2].reshape(-1, 2)
        low = np.minimum.reduceat(flat, 4 * start, axis=0)
        high = np.maximum.reduceat(flat, 4 * start, axis=0)
        radius = 0.5 * np.linalg.norm(high - low, axis=1)
        return Ground(
            vertices=vertices[order].reshape(-1, 4),
            start=np.append(start, len(order)).astype(np.int32),
            circle=np.concatenate([0.5 * (low + high), radius[:, None]], axis=1).astype(np.float32),
        )


class _Track:
    """The centre line of one lane, sampled where it bends, with offsets to either side."""

    def __init__(self, lane: Lane) -> None:
        points = lane.points_world.astype(np.float64)
        self.lane = lane
        self.points = points
        self.s = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
        self.heading = np.unwrap(lane.heading_rad.astype(np.float64))
        self.width = lane.width_m.astype(np.float64)
        slope = np.gradient(points[:, 2]) if len(points) > 1 else np.zeros(1)
        bend = np.abs(np.diff(self.heading)) + np.abs(np.diff(slope)) + 0.3 * np.abs(np.diff(self.width))
        measure = np.concatenate([[0.0], np.cumsum(bend)]) / TURN_STEP_RAD + self.s / CHORD_M
        keep = np.concatenate([[True], np.diff(np.floor(measure)) > 0])
        keep[-1] = True
        self.nodes = self.s[keep]

    def at(self, s: Array, share: float, offset_m: float | Array = 0.0, z_m: float = 0.0) -> Array:
        """Points (N, 3) at arc lengths `s`, at `share` of the half width to the left plus `offset_m`."""
        heading = np.interp(s, self.s, self.heading)
        lateral = 0.5 * share * np.interp(s, self.s, self.width) + offset_m
        return np.stack(
            [
                np.interp(s, self.s, self.points[:, 0]) - np.sin(heading) * lateral,
                np.interp(s, self.s, self.points[:, 1]) + np.cos(heading) * lateral,
                np.interp(s, self.s, self.points[:, 2]) + z_m,
            ],
            axis=1,
        )

    def strip(
        self,
        spans: Array,
        left: tuple[float, float, float],
        right: tuple[float, float, float],
    ) -> Array:
        """Quads (N, 4, 3) over `spans` (N, 2) of arc length; sides are (share, offset_m, z_m)."""
        start, end = spans[:, 0], spans[:, 1]
        return np.stack(
            [self.at(start, *right), self.at(end, *right), self.at(end, *left), self.at(start, *left)], axis=1
        )

    @property
    def spans(self) -> Array:
        """The whole lane as consecutive spans (N, 2)."""
        return np.stack([self.nodes[:-1], self.nodes[1:]], axis=1)

    def dashes(self) -> Array:
        """Spans (N, 2) of a broken line."""
        start = np.arange(0.5 * (DASH_PERIOD_M - DASH_M), self.s[-1], DASH_PERIOD_M)
        return np.stack([start, np.minimum(start + DASH_M, self.s[-1])], axis=1)


def _same_border(track: _Track, side: int, other: _Track, other_side: int) -> bool:
    """Whether both lanes' borders begin or end at the same place, so that one line serves both."""
    mine = track.at(track.s[[0, -1]], side)
    theirs = other.at(other.s[[0, -1]], other_side)
    gaps = np.linalg.norm(mine[:, None, :2] - theirs[None, :, :2], axis=2)
    return bool(gaps.min() < 0.6)


def _drawn_by_neighbour(tracks: Sequence[_Track], lane: Lane, side: int) -> bool:
    """Whether the line on `side` (+1 left) is left to the lane next to it."""
    if side < 0:
        return False
    if lane.left != NO_LANE:
        other = tracks[lane.left]
        return other.lane.right_mark != MarkKind.NONE and _same_border(tracks[lane.index], 1, other, -1)
    if lane.opposite != NO_LANE and lane.opposite < lane.index:
        other = tracks[lane.opposite]
        return other.lane.left_mark != MarkKind.NONE and _same_border(tracks[lane.index], 1, other, 1)
    return False


def _crossings(road_map: RoadMap) -> set[int]:
    """Junctions where ways part: the paint of their connectors would be a tangle; at ramps it guides."""
    turns = (Turn.LEFT, Turn.RIGHT)
    return {lane.junction for lane in road_map.lanes if lane.junction >= 0 and lane.turn in turns}


def _marks(quads: Quads, road_map: RoadMap, tracks: Sequence[_Track]) -> None:
    """Paint and kerbs along the lanes, each border once."""
    crossings = _crossings(road_map)
    half = 0.5 * LINE_WIDTH_M
    z = PAINT_Z_M
    for track in tracks:
        for side, kind in ((1, track.lane.left_mark), (-1, track.lane.right_mark)):
            if kind == MarkKind.NONE or _drawn_by_neighbour(tracks, track.lane, side):
                continue
            if track.lane.junction in crossings and kind != MarkKind.KERB:
                continue
            if kind == MarkKind.KERB:
                top, out = KERB_HEIGHT_M, KERB_WIDTH_M * side
                quads.add(track.strip(track.spans, (side, 0.0, top), (side, 0.0, 0.0)), KERB_FACE, Layer.FACE)
                quads.add(track.strip(track.spans, (side, out, top), (side, 0.0, top)), KERB_TOP, Layer.TOP)
                quads.add(track.strip(track.spans, (side, out, top), (side, out, 0.0)), KERB_FACE, Layer.FACE)
                continue
            rgb = _MARK_RGB[kind]
            if kind == MarkKind.DOUBLE_YELLOW:
                for centre in (-LINE_WIDTH_M, LINE_WIDTH_M):
                    line = track.strip(track.spans, (side, centre + half, z), (side, centre - half, z))
                    quads.add(line, rgb, Layer.PAINT)
                continue
            broken = kind in (MarkKind.BROKEN_WHITE, MarkKind.BROKEN_YELLOW)
            spans = track.dashes() if broken else track.spans
            quads.add(track.strip(spans, (side, half, z), (side, -half, z)), rgb, Layer.PAINT)


def _junction_fill(quads: Quads, road_map: RoadMap, tracks: Sequence[_Track]) -> None:
    """The floor of each junction: the union of its connectors, gaps closed."""
    for junction in road_map.junctions:
        areas, nodes = [], []
        for index in junction.connectors:
            track = tracks[index]
            if track.lane.kind == LaneKind.SIDEWALK:
                continue
            left, right = track.at(track.nodes, 1.0), track.at(track.nodes, -1.0)
            nodes.append(track.at(track.nodes, 0.0))
            areas.append(shapely.make_valid(shapely.Polygon(np.concatenate([left, right[::-1]])[:, :2])))
        if not areas:
            continue
        floor = shapely.union_all(areas).buffer(GAP_M, quad_segs=4)
        floor = floor.buffer(2 * SEAM_M - GAP_M, quad_segs=4).simplify(SEAM_M)
        corners = np.array(
            [
                shapely.get_coordinates(triangle)[[0, 1, 2, 2]]
                for triangle in shapely.constrained_delaunay_triangles(floor).geoms
            ]
        ).reshape(-1, 4, 2)
        if not len(corners):
            continue
        known = np.concatenate(nodes)
        if np.ptp(known[:, 2]) < 0.02:
            height = np.full(corners.shape[:2], known[0, 2])
        else:
            gap = np.linalg.norm(corners[:, :, None, :] - known[None, None, :, :2], axis=3)
            height = known[gap.argmin(axis=2), 2]
        quads.add(np.concatenate([corners, height[:, :, None]], axis=2), ASPHALT, Layer.FLOOR)


def _stop_lines(quads: Quads, road_map: RoadMap, tracks: Sequence[_Track]) -> None:
    """A bar across the lane; a row of teeth where traffic must yield."""
    for line in road_map.stop_lines:
        track = tracks[line.lane]
        z = PAINT_Z_M
        end = min(float(line.s_m), float(track.s[-1]))
        span = np.array([[end - STOP_LINE_M, end]])
        if line.control != Control.YIELD:
            quads.add(track.strip(span, (0.94, 0.0, z), (-0.94, 0.0, z)), WHITE, Layer.PAINT)
            continue
        for share in np.arange(-0.9, 0.8, 0.36):
            quads.add(track.strip(span, (share + 0.24, 0.0, z), (share, 0.0, z)), WHITE, Layer.PAINT)


def _crosswalks(quads: Quads, road_map: RoadMap) -> None:
    """White stripes along the road, across the longer side of the polygon."""
    heights = np.concatenate([lane.points_world for lane in road_map.lanes])
    for crosswalk in road_map.crosswalks:
        polygon = crosswalk.polygon_world.astype(np.float64)
        box = shapely.get_coordinates(shapely.oriented_envelope(shapely.MultiPoint(polygon)))[:4]
        if len(box) < 4:
            continue
        if np.linalg.norm(box[1] - box[0]) < np.linalg.norm(box[2] - box[1]):
            box = np.roll(box, -1, axis=0)
        along, across = box[1] - box[0], box[3] - box[0]
        length = float(np.linalg.norm(along))
        count = max(round((length / STRIPE_M + 1.0) / 2.0), 1)
        at = (np.arange(count) * 2.0 + 0.5) / (2.0 * count)
        low = box[0] + at[:, None] * along - 0.5 * STRIPE_M * along / length
        high = low + STRIPE_M * along / length
        flat = np.stack([low, high, high + across, low + across], axis=1)
        centre = polygon.mean(axis=0)
        ground = heights[np.linalg.norm(heights[:, :2] - centre, axis=1).argmin(), 2]
        z = np.full((count, 4, 1), ground + PAINT_Z_M)
        quads.add(np.concatenate([flat, z], axis=2), WHITE, Layer.PAINT)


@njit(cache=True)
def lay(
    ground: Ground, eye: NDArray[np.float64], yaw: float, tan_half: float, vertices: NDArray[np.float32]
) -> int:
    """Copy the quads that may be in view into `vertices` (capacity * 4, 4); return their number.

    What exceeds the capacity is left out.
    """
    capacity = len(vertices) // 4
    forward_x, forward_y = np.cos(yaw), np.sin(yaw)
    widen = np.sqrt(1.0 + tan_half * tan_half)
    count = 0
    for chunk in range(len(ground.circle)):
        dx, dy = ground.circle[chunk, 0] - eye[0], ground.circle[chunk, 1] - eye[1]
        radius = ground.circle[chunk, 2]
        depth = forward_x * dx + forward_y * dy
        if depth < -radius or depth > GROUND_DISTANCE_M + radius:
            continue
        if abs(forward_x * dy - forward_y * dx) > depth * tan_half + radius * widen:
            continue
        for quad in range(ground.start[chunk], ground.start[chunk + 1]):
            near, far, left, right = 1e9, -1e9, -1e9, -1e9
            for k in range(4 * quad, 4 * quad + 4):
                dx, dy = ground.vertices[k, 0] - eye[0], ground.vertices[k, 1] - eye[1]
                depth, side = forward_x * dx + forward_y * dy, forward_x * dy - forward_y * dx
                near, far = min(near, depth), max(far, depth)
                left, right = max(left, depth * tan_half - side), max(right, depth * tan_half + side)
            if far < 0.0 or near > GROUND_DISTANCE_M or left < 0.0 or right < 0.0:
                continue
            if count >= capacity:
                return count
            vertices[4 * count : 4 * count + 4] = ground.vertices[4 * quad : 4 * quad + 4]
            count += 1
    return count


def build_ground(road_map: RoadMap) -> Ground:
    """Everything painted or paved in the town."""
    quads = Quads()
    tracks = [_Track(lane) for lane in road_map.lanes]
    _junction_fill(quads, road_map, tracks)
    for track in tracks:
        lane = track.lane
        if lane.kind == LaneKind.SIDEWALK:
            top = KERB_HEIGHT_M
            quads.add(track.strip(track.spans, (1, 0.0, top), (-1, 0.0, top)), SLAB, Layer.TOP)
            for side in (1, -1):
                quads.add(
                    track.strip(track.spans, (side, 0.0, top), (side, 0.0, -0.05)), KERB_FACE, Layer.FACE
                )
                if lane.junction < 0:
                    inner = (side, -KERB_WIDTH_M * side, top)
                    quads.add(track.strip(track.spans, (side, 0.0, top), inner), KERB_TOP, Layer.TOP)
            continue
        if lane.junction >= 0 and lane.kind == LaneKind.DRIVING:
            continue  # part of the junction's floor
        rgb, layer = _SURFACE[lane.kind]
        seam = SEAM_M  # neighbouring surfaces overlap, or the grass would glint between them
        quads.add(track.strip(track.spans, (1, seam, 0.0), (-1, -seam, 0.0)), rgb, layer)
        if lane.junction < 0:
            for side, neighbour in ((1, lane.left), (-1, lane.right)):
                open_side = neighbour == NO_LANE and not (side > 0 and lane.opposite != NO_LANE)
                if open_side:  # a strip of bare earth, so that the road's edge can be told
                    edge = track.strip(track.spans, (side, 0.9 * side, -0.04), (side, 0.0, -0.04))
                    quads.add(edge, EARTH, Layer.EARTH)
        if lane.kind == LaneKind.PARKING and lane.junction < 0:
            start = np.arange(0.0, track.s[-1], BAY_M)
            bays = np.stack([start, start + 0.18], axis=1)
            quads.add(track.strip(bays, (1, 0.0, PAINT_Z_M), (-1, 0.0, PAINT_Z_M)), WHITE, Layer.PAINT)
    _marks(quads, road_map, tracks)
    _crosswalks(quads, road_map)
    _stop_lines(quads, road_map, tracks)
    return quads.ground(CHUNK_M)
