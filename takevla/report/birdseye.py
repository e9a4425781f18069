"""A scene from above: road, lights, actors, route and plans, the ego's heading upwards."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from takevla.report.gallery import EXPERT_COLOUR, POLICY_COLOUR, BirdsEye
from takevla.scene.actors import ActorKind, Cue
from takevla.scene.geometry import box_corners, to_ego
from takevla.scene.plan import Plan
from takevla.scene.road_map import Control, LightState, RoadMap
from takevla.scene.route import Route
from takevla.scene.scene import Scene
from takevla.world.camera.instances import GRASS, PAVEMENT, ROAD
from takevla.world.camera.town import town_of
from takevla.world.maps.atlas import load_town

SIZE_PX = 384
RANGE_M = 64.0  # side of the square that is shown
EGO_AT = 0.70  # share of the height above which the ego stands
OVERSAMPLING = 2
MAPS_KEPT = 8

EARTH, BLOCK, CROWN = (229, 231, 222), (206, 202, 196), (186, 204, 168)
ROAD_SHADE, PAVEMENT_SHADE, VERGE_SHADE = (148, 151, 158), (208, 206, 202), (216, 214, 200)
ROUTE_RGB = (120, 170, 232)
EGO_RGB, EGO_EDGE = (255, 255, 255), (20, 20, 24)
VEHICLE_RGB, CYCLE_RGB, PERSON_RGB, OBSTACLE_RGB = (
    (64, 84, 120),
    (24, 130, 120),
    (196, 40, 130),
    (240, 110, 20),
)
EMERGENCY_RGB, PARKED_RGB = (30, 90, 255), (128, 134, 144)
BRAKE_RGB, AMBER_RGB = (255, 30, 20), (255, 170, 0)
LIGHT_RGB = {
    LightState.GREEN: (20, 190, 90),
    LightState.YELLOW: (250, 190, 0),
    LightState.RED: (225, 25, 25),
    LightState.OFF: (90, 90, 90),
}

Rgb = tuple[int, int, int]


@dataclass(frozen=True)
class DrawnPlan:
    """A plan and the colour in which to draw it."""

    plan: Plan
    rgb: Rgb


@dataclass(frozen=True)
class _Backdrop:
    """What does not move, as polygons in the world frame."""

    quads: NDArray[np.float64]  # (Q, 4, 2) ground, in painter's order
    quad_rgb: NDArray[np.uint8]  # (Q, 3)
    props: NDArray[np.float64]  # (P, 4, 2)
    prop_round: NDArray[np.bool_]  # (P,) trees
    bars: NDArray[np.float64]  # (S, 2, 2) stop lines ruled by a signal
    bar_signal: NDArray[np.int64]  # (S,)
    signs: NDArray[np.float64]  # (G, 2) stop signs


_backdrops: OrderedDict[int, tuple[RoadMap, _Backdrop]] = OrderedDict()


def _backdrop(road_map: RoadMap) -> _Backdrop:
    key = id(road_map)
    if key not in _backdrops:
        _backdrops[key] = (road_map, _build_backdrop(road_map))
        if len(_backdrops) > MAPS_KEPT:
            _backdrops.popitem(last=False)
    return _backdrops[key][1]


def _build_backdrop(road_map: RoadMap) -> _Backdrop:
    vertices = town_of(road_map).ground.vertices.reshape(-1, 4, 4)
    codes = np.ascontiguousarray(vertices[:, 0]).view(np.uint8)[:, 12:]
    rgb = codes[:, :3].copy()
    rgb[codes[:, 3] == ROAD] = ROAD_SHADE
    rgb[codes[:, 3] == PAVEMENT] = PAVEMENT_SHADE
    rgb[codes[:, 3] == GRASS] = VERGE_SHADE
    reddish = codes[:, 0].astype(int) - codes[:, 1] > 40  # cycle lanes keep their tint
    rgb[reddish & (codes[:, 3] == ROAD)] = (196, 150, 142)
    props, rounds = [], []
    for prop in road_map.props:
        if "lamp" in prop.kind or "light" in prop.kind:
            continue
        x, y, _, yaw = (float(value) for value in prop.pose_world)
        props.append(box_corners(x, y, yaw, float(prop.extent_m[0]), float(prop.extent_m[1])))
        rounds.append("tree" in prop.kind)
    bars, signals = [], []
    for line in road_map.stop_lines:
        if line.control != Control.SIGNAL:
            continue
        lane = road_map.lanes[line.lane]
        spacing = lane.length_m / (len(lane.points_world) - 1)
        row = min(max(round(float(line.s_m) / spacing), 0), len(lane.points_world) - 1)
        heading, half = float(lane.heading_rad[row]), 0.46 * float(lane.width_m[row])
        across = np.array([-math.sin(heading), math.cos(heading)]) * half
        middle = lane.points_world[row, :2].astype(np.float64)
        bars.append([middle - across, middle + across])
        signals.append(line.signal)
    signs = [sign.pose_world[:2] for sign in road_map.stop_signs if sign.control == Control.STOP_SIGN]
    return _Backdrop(
        quads=vertices[:, :, :2].astype(np.float64),
        quad_rgb=rgb,
        props=np.array(props, np.float64).reshape(-1, 4, 2),
        prop_round=np.array(rounds, np.bool_),
        bars=np.array(bars, np.float64).reshape(-1, 2, 2),
        bar_signal=np.array(signals, np.int64),
        signs=np.array(signs, np.float64).reshape(-1, 2),
    )


class _Canvas:
    """An oversampled picture and the way from the world to its pixels."""

    def __init__(self, scene: Scene, size_px: int, range_m: float) -> None:
        self.size = size_px * OVERSAMPLING
        self.scale = self.size / range_m
        self.reach_m = 1.05 * range_m
        self.position = scene.ego.position_world
        self.heading = float(scene.ego.heading_rad)
        self.image = Image.new("RGB", (self.size, self.size), EARTH)
        self.draw = ImageDraw.Draw(self.image)

    def pixels_of_ego(self, points_ego: NDArray[np.floating]) -> NDArray[np.float64]:
        """Pixels (..., 2) of ego-frame points (..., 2)."""
        points = np.asarray(points_ego, np.float64)
        column = 0.5 * self.size - self.scale * points[..., 1]
        row = EGO_AT * self.size - self.scale * points[..., 0]
        return np.stack([column, row], axis=-1)

    def pixels(self, points_world: NDArray[np.floating]) -> NDArray[np.float64]:
        """Pixels (..., 2) of world points."""
        return self.pixels_of_ego(to_ego(points_world, self.position, self.heading))

    def near(self, points_world: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which of points (N, 2) may be in the picture."""
        offset = np.abs(points_world[:, :2] - self.position[:2])
        return np.asarray(offset.max(axis=1) < self.reach_m)

    def polygon(self, pixels: NDArray[np.float64], rgb: Rgb, edge: Rgb | None = None) -> None:
        """A filled polygon (K, 2)."""
        self.draw.polygon([(float(x), float(y)) for x, y in pixels], fill=rgb, outline=edge)

    def line(self, pixels: NDArray[np.float64], rgb: Rgb, width_m: float) -> None:
        """A line (K, 2) with round joints."""
        points = [(float(x), float(y)) for x, y in pixels]
        self.draw.line(points, fill=rgb, width=max(round(width_m * self.scale), 1), joint="curve")

    def dot(self, pixel: NDArray[np.float64], radius_m: float, rgb: Rgb, edge: Rgb | None = None) -> None:
        """A disc."""
        x, y, r = float(pixel[0]), float(pixel[1]), max(radius_m * self.scale, 1.5)
        self.draw.ellipse((x - r, y - r, x + r, y + r), fill=rgb, outline=edge)


def _vehicle(canvas: _Canvas, corners: NDArray[np.float64], rgb: Rgb, cue: int) -> None:
    """A box with a pale nose and its lit lamps; corners run from the front left, counter-clockwise."""
    pixels = canvas.pixels(corners)
    front_left, rear_left, rear_right, front_right = pixels
    canvas.polygon(pixels, rgb, (30, 32, 36))

    def at(along: float, across: float) -> NDArray[np.float64]:
        left = front_left + (rear_left - front_left) * along
        right = front_right + (rear_right - front_right) * along
        return np.asarray(left + (right - left) * across)

    canvas.polygon(
        np.stack([at(0.22, 0.12), at(0.22, 0.88), at(0.36, 0.80), at(0.36, 0.20)]), (214, 222, 232)
    )
    if cue & Cue.BRAKE:
        canvas.line(np.stack([at(0.97, 0.05), at(0.97, 0.95)]), BRAKE_RGB, 0.5)
    for bit, side in ((Cue.INDICATOR_LEFT, 0.04), (Cue.INDICATOR_RIGHT, 0.96)):
        if cue & (bit | Cue.HAZARD):
            for along in (0.06, 0.94):
                canvas.dot(at(along, side), 0.35, AMBER_RGB)
    for bit, side in ((Cue.DOOR_LEFT, 0.0), (Cue.DOOR_RIGHT, 1.0)):
        if cue & bit:
            canvas.line(np.stack([at(0.40, side), at(0.48, side + (0.5 if side else -0.5))]), rgb, 0.3)
    if cue & Cue.EMERGENCY:
        canvas.line(np.stack([at(0.5, 0.1), at(0.5, 0.9)]), EMERGENCY_RGB, 0.6)


def _actors(canvas: _Canvas, scene: Scene) -> None:
    """All actors in the picture, obstacles first, people last."""
    actors = scene.actors
    shown = np.flatnonzero(actors.valid)
    shown = shown[canvas.near(actors.position_world[shown])]
    for i in sorted(shown, key=lambda row: (actors.kind[row] < ActorKind.CONE, int(actors.kind[row]))):
        kind, cue = int(actors.kind[i]), int(actors.cue[i])
        x, y = (float(value) for value in actors.position_world[i, :2])
        length, width = (float(value) for value in actors.extent_m[i, :2])
        corners = box_corners(x, y, float(actors.heading_rad[i]), length, width)
        if kind < ActorKind.BICYCLE:
            rgb = PARKED_RGB if cue & Cue.PARKED else VEHICLE_RGB
            if kind in (ActorKind.POLICE, ActorKind.AMBULANCE):
                rgb = (236, 236, 240)
            _vehicle(canvas, corners, rgb, cue)
        elif kind == ActorKind.PEDESTRIAN:
            middle = canvas.pixels(np.array([x, y]))
            if cue & Cue.CROSSING:
                canvas.dot(middle, 0.95, (255, 236, 60))
            canvas.dot(middle, 0.6, PERSON_RGB, (60, 10, 40))
        elif kind == ActorKind.BICYCLE:
            canvas.polygon(canvas.pixels(corners), CYCLE_RGB, (10, 50, 46))
        elif kind == ActorKind.CONE:
            canvas.dot(canvas.pixels(np.array([x, y])), 0.4, OBSTACLE_RGB)
        else:
            canvas.polygon(canvas.pixels(corners), OBSTACLE_RGB, (110, 50, 10))


def _plan(canvas: _Canvas, drawn: DrawnPlan) -> None:
    """The path as a line, where the ego will be as dots."""
    start = np.zeros((1, 2))
    path = np.concatenate([start, np.asarray(drawn.plan.route_ego, np.float64)])
    canvas.line(canvas.pixels_of_ego(path), drawn.rgb, 0.4)
    for point in canvas.pixels_of_ego(np.asarray(drawn.plan.waypoints_ego, np.float64)):
        canvas.dot(point, 0.55, drawn.rgb, (255, 255, 255))


def draw_birdseye(
    road_map: RoadMap,
    scene: Scene,
    *,
    route: Route | None = None,
    plans: Sequence[DrawnPlan] = (),
    size_px: int = SIZE_PX,
    range_m: float = RANGE_M,
) -> NDArray[np.uint8]:
    """The scene from above as (size_px, size_px, 3) RGB, the ego's heading upwards.

    `range_m` is the side of the square that is shown.  Plans are in the ego's frame of this scene.
    """
    canvas = _Canvas(scene, size_px, range_m)
    backdrop = _backdrop(road_map)
    shown = canvas.near(backdrop.quads[:, 0])
    for pixels, rgb in zip(
        canvas.pixels(backdrop.quads[shown]), backdrop.quad_rgb[shown].tolist(), strict=True
    ):
        canvas.polygon(pixels, (rgb[0], rgb[1], rgb[2]))
    if len(backdrop.props):
        near = canvas.near(backdrop.props.mean(axis=1))
        for pixels, is_round in zip(
            canvas.pixels(backdrop.props[near]), backdrop.prop_round[near], strict=True
        ):
            if is_round:
                radius = 0.5 * float(np.linalg.norm(pixels[1] - pixels[0])) / canvas.scale
                canvas.dot(pixels.mean(axis=0), radius, CROWN)
            else:
                canvas.polygon(pixels, BLOCK, (182, 178, 172))
    if route is not None:
        near = canvas.near(route.points_world)
        edges = np.flatnonzero(np.diff(near.astype(np.int8)))
        for part in np.split(np.arange(len(near)), edges + 1):
            if len(part) > 1 and near[part[0]]:
                canvas.line(canvas.pixels(route.points_world[part]), ROUTE_RGB, 0.9)
    for bar, signal in zip(backdrop.bars, backdrop.bar_signal, strict=True):
        if canvas.near(bar[:1])[0]:
            canvas.line(canvas.pixels(bar), LIGHT_RGB[LightState(int(scene.lights[signal]))], 1.1)
    if len(backdrop.signs):
        for sign in backdrop.signs[canvas.near(backdrop.signs)]:
            canvas.dot(canvas.pixels(sign), 0.9, (214, 16, 24), (255, 255, 255))
    _actors(canvas, scene)
    ego = scene.ego
    x, y = float(ego.position_world[0]), float(ego.position_world[1])
    corners = box_corners(x, y, float(ego.heading_rad), float(ego.extent_m[0]), float(ego.extent_m[1]))
    for drawn in plans:
        _plan(canvas, drawn)
    pixels = canvas.pixels(corners)
    canvas.polygon(pixels, EGO_RGB, EGO_EDGE)
    nose = 0.5 * (pixels[0] + pixels[3])
    canvas.polygon(
        np.stack([nose, 0.6 * pixels[1] + 0.4 * pixels[0], 0.6 * pixels[2] + 0.4 * pixels[3]]), EGO_EDGE
    )
    small = canvas.image.resize((size_px, size_px), Image.Resampling.BOX)
    return np.asarray(small, np.uint8).copy()


def rgb_of(colour: str) -> Rgb:
    """The bytes of a colour such as "#1b5e9b"."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def birdseye_of_towns(
    maps_dir: Path | None = None, size_px: int = SIZE_PX, range_m: float = RANGE_M
) -> BirdsEye:
    """What `report.page` draws scenes with: policy and expert in the report's colours."""

    def draw(scene: Scene, policy: Plan | None, expert: Plan | None) -> NDArray[np.uint8]:
        plans = [
            DrawnPlan(plan, rgb_of(colour))
            for plan, colour in ((policy, POLICY_COLOUR), (expert, EXPERT_COLOUR))
            if plan is not None
        ]
        road_map = load_town(scene.town, maps_dir)
        return draw_birdseye(road_map, scene, plans=plans, size_px=size_px, range_m=range_m)

    return draw
