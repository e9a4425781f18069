"""A small hand-made town and scenes on it, so that the camera is tested without a town builder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from takevla.scene.actors import ActorKind, Actors
from takevla.scene.road_map import (
    Control,
    Crosswalk,
    Junction,
    Lane,
    LaneKind,
    MarkKind,
    Prop,
    RoadMap,
    Signal,
    StopLine,
    StopSign,
    Turn,
)
from takevla.scene.scene import Controls, Ego, Scene, Weather

EXTENT = {
    ActorKind.CAR: (4.6, 1.9, 1.5),
    ActorKind.VAN: (5.4, 2.1, 2.4),
    ActorKind.TRUCK: (8.0, 2.5, 3.4),
    ActorKind.POLICE: (4.8, 1.9, 1.6),
    ActorKind.AMBULANCE: (6.0, 2.2, 2.7),
    ActorKind.BICYCLE: (1.8, 0.6, 1.8),
    ActorKind.PEDESTRIAN: (0.5, 0.5, 1.8),
    ActorKind.CONE: (0.4, 0.4, 0.7),
    ActorKind.BARRIER: (0.5, 2.0, 1.0),
    ActorKind.WARNING_SIGN: (1.0, 2.0, 2.0),
    ActorKind.BOX: (1.0, 1.0, 1.2),
}


def make_town(name: str = "Hand01", stop_at_m: float = 60.0) -> RoadMap:
    """Two lanes each way along x, a junction 4 m behind `stop_at_m`, and the road beyond it."""
    lanes: list[Lane] = []

    def lane(x0: float, x1: float, y: float, width: float, kind: LaneKind, back: bool, **more: object) -> int:
        x = np.linspace(x0, x1, int(abs(x1 - x0)) + 1)
        x = x[::-1] if back else x
        points = np.stack([x, np.full_like(x, y), np.zeros_like(x)], axis=1).astype(np.float32)
        lanes.append(
            Lane(
                index=len(lanes),
                road=0,
                kind=kind,
                points_world=points,
                heading_rad=np.full(len(x), np.pi if back else 0.0, np.float32),
                width_m=np.full(len(x), width, np.float32),
                speed_limit_mps=14.0,
                **more,
            )
        )
        return len(lanes) - 1

    stop_lines = []
    for x0, x1 in ((-60.0, stop_at_m + 4.0), (stop_at_m + 30.0, stop_at_m + 150.0)):
        base = len(lanes)
        white, yellow, kerb = MarkKind.BROKEN_WHITE, MarkKind.DOUBLE_YELLOW, MarkKind.KERB
        drive = LaneKind.DRIVING
        for back, sign in ((False, -1), (True, 1)):
            inner = base + (0 if not back else 4)
            lane(
                x0,
                x1,
                1.75 * sign,
                3.5,
                drive,
                back,
                opposite=base + 4 - (inner - base),
                right=inner + 1,
                left_mark=yellow,
                right_mark=white,
            )
            lane(
                x0,
                x1,
                5.25 * sign,
                3.5,
                drive,
                back,
                left=inner,
                right=inner + 2,
                left_mark=MarkKind.NONE,
                right_mark=MarkKind.SOLID_WHITE,
            )
            lane(
                x0, x1, 7.9 * sign, 1.8, LaneKind.BIKE, back, left=inner + 1, right=inner + 3, right_mark=kerb
            )
            lane(x0, x1, 10.3 * sign, 3.0, LaneKind.SIDEWALK, back, left=inner + 2)
        if not stop_lines:
            stop_lines = [StopLine(i, x1 - x0 - 4.0, Control.SIGNAL, 0) for i in (0, 1)]
    a, b = stop_at_m + 4.0, stop_at_m + 30.0
    connectors = tuple(
        lane(a, b, y, 3.5, LaneKind.DRIVING, y > 0, junction=0, turn=Turn.STRAIGHT)
        for y in (-1.75, -5.25, 1.75, 5.25)
    )
    s = stop_at_m
    heads = np.array([[s + 1.5, -9.2, 4.2, np.pi], [s + 32.0, -9.2, 4.6, np.pi]], np.float32)
    crossing = np.array([[s + 1.0, -8.8], [s + 4.0, -8.8], [s + 4.0, 8.8], [s + 1.0, 8.8]], np.float32)
    props = tuple(
        Prop("building", np.array([x, y, 0, 0], np.float32), np.array([18, 14, h], np.float32), int(x) % 7)
        for x, y, h in ((-20, 24, 10), (5, 24, 14), (30, 24, 7), (-20, -24, 9), (10, -25, 18), (40, -24, 11))
    ) + tuple(
        Prop(kind, np.array([x, y, 0, yaw], np.float32), np.array(extent, np.float32), int(x))
        for x in (-15.0, 10.0, 35.0, 55.0)
        for kind, y, yaw, extent in (
            ("tree", 13.5, 0.0, (4.0, 4.0, 6.0)),
            ("lamp_post", -12.5, np.pi / 2, (0.3, 0.3, 8.0)),
        )
    )
    return RoadMap(
        name=name,
        lanes=tuple(lanes),
        junctions=(Junction(0, connectors, np.array([s + 17.0, 0, 0], np.float32)),),
        stop_lines=tuple(stop_lines),
        signals=(Signal(0, 0, heads),),
        stop_signs=(StopSign(np.array([s + 120.0, -9.5, 2.3, np.pi], np.float32), ()),),
        crosswalks=(Crosswalk(crossing),),
        props=props,
    )


def make_actors(rows: Sequence[tuple[ActorKind, float, float, float, int]]) -> Actors:
    """Actors as (kind, x, y, heading, cue)."""
    count = len(rows)
    return Actors(
        id=np.arange(1, count + 1, dtype=np.int32),
        kind=np.array([row[0] for row in rows], np.int8),
        role=np.zeros(count, np.int8),
        cue=np.array([row[4] for row in rows], np.int16),
        position_world=np.array([(row[1], row[2], 0.0) for row in rows], np.float32).reshape(-1, 3),
        heading_rad=np.array([row[3] for row in rows], np.float32),
        speed_mps=np.zeros(count, np.float32),
        acceleration_mps2=np.zeros(count, np.float32),
        yaw_rate_radps=np.zeros(count, np.float32),
        extent_m=np.array([EXTENT[row[0]] for row in rows], np.float32).reshape(-1, 3),
        lane=np.full(count, -1, np.int32),
        valid=np.ones(count, np.bool_),
    )


def make_scene(
    rows: Sequence[tuple[ActorKind, float, float, float, int]] = (),
    x: float = 0.0,
    y: float = -1.75,
    light: int = 0,
    weather: Weather | None = None,
    time_us: int = 0,
) -> Scene:
    """A scene with the ego at (x, y) heading along x."""
    ego = Ego(
        np.array([x, y, 0.0], np.float32),
        0.0,
        8.0,
        0.0,
        0.0,
        0.0,
        Controls(),
        np.array([4.9, 2.1, 1.5], np.float32),
    )
    return Scene(time_us, "Hand01", ego, make_actors(rows), np.array([light], np.int8), weather or Weather())
