"""One town as the camera keeps it: the ground, and the placed models that do not move."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from takevla.scene.road_map import Control, LaneKind, LightState, Prop, RoadMap
from takevla.world.camera.ground import Ground, build_ground
from takevla.world.camera.instances import Instances
from takevla.world.camera.models import BUILDING_FLOORS, FLOOR_HEIGHT_M, model_index
from takevla.world.camera.street import GREEN_LIT, HEAD_HEIGHT_M, RED_LIT, YELLOW_LIT
from takevla.world.camera.vehicles import NIGHT

TOWNS_KEPT = 64  # towns whose geometry stays in memory, about 1 to 3 MB each
PLATE_HEIGHT_M = 2.3  # of a sign's plate where the map gives its foot

BUILDING_PAINT = np.array(
    [
        (178, 128, 104),
        (196, 184, 160),
        (146, 148, 152),
        (168, 152, 128),
        (132, 96, 84),
        (186, 190, 190),
        (150, 160, 140),
        (120, 124, 136),
    ],
    np.uint8,
)
TREE_PAINT = np.array([(64, 104, 52), (76, 118, 56), (58, 92, 58), (92, 116, 54)], np.uint8)
LIT_BY_STATE = np.zeros(4, np.int32)
LIT_BY_STATE[[LightState.GREEN, LightState.YELLOW, LightState.RED]] = (GREEN_LIT, YELLOW_LIT, RED_LIT)

_Row = tuple[int, tuple[float, float, float, float], tuple[float, float, float], tuple[int, int, int], float]


@dataclass(frozen=True)
class Town:
    """The camera's own picture of a road map."""

    ground: Ground
    fixed: Instances  # signal heads come first
    head_signal: NDArray[np.int32]  # (heads,) signal of each of the first rows of `fixed`

    def instances(self, lights: NDArray[np.int8], night: bool) -> Instances:
        """The fixed models under these light states."""
        bits = self.fixed.bits.copy()
        heads = len(self.head_signal)
        bits[:heads] = LIT_BY_STATE[lights[self.head_signal].astype(np.int64) & 3]
        if night:
            bits[heads:] = NIGHT
        return self.fixed._replace(bits=bits)


def _prop_row(prop: Prop) -> _Row:
    """A prop as a placed model; kinds unknown here become boxes."""
    rows = model_index()
    x, y, z, yaw = (float(value) for value in prop.pose_world)
    length, width, height = (float(value) for value in prop.extent_m)
    scale = (length, width, height)
    radius = 0.5 * math.hypot(length, width) + height
    if "tree" in prop.kind:
        red, green, blue = TREE_PAINT[prop.colour % len(TREE_PAINT)]
        return rows["tree"], (x, y, z, yaw), scale, (int(red), int(green), int(blue)), radius
    if "lamp" in prop.kind or "light" in prop.kind:
        return rows["lamp"], (x, y, z, yaw), (1.0, 1.0, height), (240, 240, 240), height + 2.0
    red, green, blue = BUILDING_PAINT[prop.colour % len(BUILDING_PAINT)]
    paint = (int(red), int(green), int(blue))
    if "building" in prop.kind or "house" in prop.kind:
        floors = min(BUILDING_FLOORS, key=lambda count: abs(count - height / FLOOR_HEIGHT_M))
        return rows[f"building{floors}"], (x, y, z, yaw), scale, paint, radius
    return rows["box"], (x, y, z, yaw), scale, paint, radius


class _Roadway:
    """Tells whether a point stands in a lane that vehicles use."""

    def __init__(self, road_map: RoadMap) -> None:
        used = [lane for lane in road_map.lanes if lane.kind in (LaneKind.DRIVING, LaneKind.BIKE)]
        self._points = np.concatenate([lane.points_world for lane in used])
        self._half = np.concatenate([0.5 * lane.width_m for lane in used])

    def ground(self, x: float, y: float) -> tuple[float, bool]:
        """Height of the nearest lane point, and whether (x, y) lies on its lane."""
        gap = np.hypot(self._points[:, 0] - x, self._points[:, 1] - y)
        nearest = int(gap.argmin())
        return float(self._points[nearest, 2]), bool(np.any(gap < self._half))


def build_town(road_map: RoadMap) -> Town:
    """Make the town's ground and placed models.  Well under a second for a built-in town."""
    rows = model_index()
    roadway = _Roadway(road_map)
    heads: list[_Row] = []
    others: list[_Row] = []
    head_signal: list[int] = []
    grey = (240, 240, 240)
    for signal in road_map.signals:
        for x, y, z, yaw in np.asarray(signal.heads, np.float64).reshape(-1, 4):
            heads.append((rows["signal"], (x, y, z, yaw), (1.0, 1.0, 1.0), grey, 2.2))
            head_signal.append(signal.index)
            ground, in_lane = roadway.ground(x, y)
            foot = z - 0.5 * HEAD_HEIGHT_M - ground
            if not in_lane and foot > 0.1:
                behind = (x - 0.15 * math.cos(yaw), y - 0.15 * math.sin(yaw), ground, yaw)
                others.append((rows["post"], behind, (1.0, 1.0, foot), grey, foot + 1.0))
    for sign in road_map.stop_signs:
        x, y, z, yaw = (float(value) for value in sign.pose_world)
        ground, _ = roadway.ground(x, y)
        if z - ground < 1.0:
            z = ground + PLATE_HEIGHT_M
        name = "yield" if sign.control == Control.YIELD else "stop"
        others.append((rows[name], (x, y, z, yaw), (1.0, 1.0, 1.0), grey, 1.5))
        others.append((rows["post"], (x, y, ground, yaw), (1.0, 1.0, z - ground + 0.4), grey, 3.0))
    others.extend(_prop_row(prop) for prop in road_map.props)
    placed = heads + others
    fixed = Instances(
        model=np.array([row[0] for row in placed], np.int32),
        pose=np.array([row[1] for row in placed], np.float32).reshape(-1, 4),
        scale=np.array([row[2] for row in placed], np.float32).reshape(-1, 3),
        rgb=np.array([row[3] for row in placed], np.uint8).reshape(-1, 3),
        bits=np.zeros(len(placed), np.int32),
        radius=np.array([row[4] for row in placed], np.float32),
    )
    return Town(
        ground=build_ground(road_map),
        fixed=fixed,
        head_signal=np.array(head_signal, np.int32),
    )


_towns: OrderedDict[int, tuple[RoadMap, Town]] = OrderedDict()


def town_of(road_map: RoadMap) -> Town:
    """The town of `road_map`, built when first asked for and kept; keeping the map keeps its `id` its own."""
    key = id(road_map)
    if key in _towns:
        _towns.move_to_end(key)
        return _towns[key][1]
    town = build_town(road_map)
    _towns[key] = (road_map, town)
    if len(_towns) > TOWNS_KEPT:
        _towns.popitem(last=False)
    return town
