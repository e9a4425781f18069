"""What stands beside the roads of a built-in town: buildings, trees and lamp posts.

Nothing stands on or near a lane, and nothing stands between an approach and its traffic lights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from takevla.scene.road_map import Prop
from takevla.world.maps.curves import Curve
from takevla.world.maps.draft import MapDraft
from takevla.world.maps.towns.sections import Section

Double = NDArray[np.float64]

LOT_M = (17.0, 32.0)  # along the street
DEPTH_M = (10.0, 18.0)
HEIGHT_M = {1: (4.0, 10.0), 2: (7.0, 16.0), 3: (12.0, 32.0)}  # by the street's rank
SETBACK_M = (3.0, 7.0)  # from the outer edge of the pavement
EMPTY_LOT_SHARE = 0.15
CLEAR_OF_LANE_M = 2.5  # beyond a lane's own half width
LAMP_SPACING_M = 34.0
TREE_SPACING_M = 19.0
TREE_SETBACK_M = (5.0, 14.0)
SIGHT_M = 70.0  # approaches see their lights from this far
SIGHT_STEP_M = 3.0


class _Ground:
    """Which places are free."""

    def __init__(self, draft: MapDraft) -> None:
        lanes = [lane.points[::2, :2] for lane in draft.lanes]
        half = [np.full(len(lane.points[::2]), float(lane.width.max()) / 2) for lane in draft.lanes]
        sight = list(_sight_lines(draft))
        points = np.concatenate([*lanes, *sight])
        self._reach = np.concatenate([*half, np.zeros(sum(len(part) for part in sight))])
        self._widest = float(self._reach.max())
        self._points = points
        self._tree = cKDTree(points)
        self._taken: list[tuple[float, float, float]] = []

    def free(self, places: Double, margin_m: float) -> bool:
        """Whether all places (N, 2) are at least `margin_m` off every lane and line of sight."""
        for place, near in zip(places, self._tree.query_ball_point(places, margin_m + self._widest)):
            if near:
                away = np.hypot(*(self._points[near] - place).T)
                if np.any(away < margin_m + self._reach[near]):
                    return False
        return True

    def claim(self, x: float, y: float, radius_m: float) -> bool:
        """Take a disc unless it touches one already taken."""
        if any(math.hypot(x - ox, y - oy) < radius_m + other for ox, oy, other in self._taken):
            return False
        self._taken.append((x, y, radius_m))
        return True


def _sight_lines(draft: MapDraft) -> Iterable[Double]:
    """Points between the drivers of every signalled approach and their lamps."""
    for line in draft.stop_lines:
        if line.signal < 0:
            continue
        lane = draft.lanes[line.lane]
        for place in lane.points[-int(SIGHT_M) :: 8, :2]:
            for head in draft.signals[line.signal].heads[:, :2]:
                gap = head - place
                count = max(2, int(np.hypot(*gap) / SIGHT_STEP_M))
                yield place + np.linspace(0.0, 1.0, count)[:, None] * gap


def place_props(draft: MapDraft, streets: list[tuple[Curve, Section]], rng: Generator) -> None:
    """Line the streets (trimmed reference curves with their sections) with props."""
    ground = _Ground(draft)
    for curve, section in streets:
        for left in (True, False):
            edge = section.half_width_m(forward=not left, with_sidewalk=True)
            if section.walkable:
                _buildings(draft, ground, curve, section, edge, left, rng)
                _lamps(draft, curve, edge, left)
            else:
                _trees(draft, ground, curve, edge, left, rng)


def _beside(curve: Curve, s: float, away: float, left: bool) -> tuple[float, float, float]:
    heading = float(np.interp(s, curve.s, curve.heading))
    side = 1.0 if left else -1.0
    x = float(np.interp(s, curve.s, curve.xy[:, 0])) - side * away * math.sin(heading)
    y = float(np.interp(s, curve.s, curve.xy[:, 1])) + side * away * math.cos(heading)
    return x, y, heading


def _add(
    draft: MapDraft, kind: str, place: tuple[float, float, float], extent: Double, rng: Generator
) -> None:
    pose = np.array([place[0], place[1], 0.0, place[2]], np.float32)
    draft.props.append(Prop(kind, pose, extent.astype(np.float32), int(rng.integers(0, 2**16))))


def _buildings(
    draft: MapDraft,
    ground: _Ground,
    curve: Curve,
    section: Section,
    edge: float,
    left: bool,
    rng: Generator,
) -> None:
    s = rng.uniform(0.0, 6.0)
    while s < curve.length_m:
        lot, depth = rng.uniform(*LOT_M), rng.uniform(*DEPTH_M)
        height, setback = rng.uniform(*HEIGHT_M[min(section.rank, 3)]), rng.uniform(*SETBACK_M)
        empty, greens = rng.random() < EMPTY_LOT_SHARE, rng.uniform(size=2)
        place = _beside(curve, s + lot / 2, edge + setback + depth / 2, left)
        s += lot
        length = lot - 2.5
        if empty:
            tree = _beside(curve, s - lot * greens[0], edge + 2.0 + 8.0 * greens[1], left)
            if ground.free(np.array([tree[:2]]), 3.0) and ground.claim(*tree[:2], 2.0):
                _add(draft, "tree", tree, np.array([4.5, 4.5, 6.0 + 3.0 * greens[1]]), rng)
            continue
        along = np.array([math.cos(place[2]), math.sin(place[2])])
        across = np.array([-along[1], along[0]])
        u, v = np.meshgrid(np.linspace(-0.5, 0.5, 5) * length, np.linspace(-0.5, 0.5, 4) * depth)
        footprint = np.array(place[:2]) + u.reshape(-1, 1) * along + v.reshape(-1, 1) * across
        if ground.free(footprint, CLEAR_OF_LANE_M) and ground.claim(*place[:2], 0.5 * max(length, depth)):
            _add(draft, "building", place, np.array([length, depth, height]), rng)


def _lamps(draft: MapDraft, curve: Curve, edge: float, left: bool) -> None:
    """One row per side, offset against the other, on the outer edge of the pavement."""
    first = LAMP_SPACING_M * (0.75 if left else 0.25)
    for s in np.arange(first, curve.length_m - 4.0, LAMP_SPACING_M):
        x, y, heading = _beside(curve, float(s), edge - 0.4, left)
        yaw = heading + (-math.pi / 2 if left else math.pi / 2)  # the arm reaches over the road
        pose = np.array([x, y, 0.0, yaw], np.float32)
        draft.props.append(Prop("lamp", pose, np.array([0.3, 0.3, 7.0], np.float32), 0))


def _trees(draft: MapDraft, ground: _Ground, curve: Curve, edge: float, left: bool, rng: Generator) -> None:
    s = rng.uniform(0.0, TREE_SPACING_M)
    while s < curve.length_m:
        away, size = rng.uniform(*TREE_SETBACK_M), rng.uniform(3.5, 6.0)
        place = _beside(curve, s, edge + away, left)
        s += rng.uniform(0.5, 1.6) * TREE_SPACING_M
        if ground.free(np.array([place[:2]]), 1.0 + size / 2) and ground.claim(*place[:2], size / 2):
            _add(draft, "tree", place, np.array([size, size, 1.4 * size]), rng)
