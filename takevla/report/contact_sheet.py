"""`docs/contact_sheet.png`: what the VLA sees, at its own resolution, doubled for the page.

python -m takevla.report.contact_sheet --out docs/contact_sheet.png
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from takevla.scene.actors import ActorKind, Actors, Cue
from takevla.scene.road_map import Control, Lane, LaneKind, LightState, MarkKind, RoadMap
from takevla.scene.scene import Controls, Ego, Scene, Weather
from takevla.world.camera import Camera
from takevla.world.maps.atlas import load_town

TOWN = "Alder05"
COLUMNS = 3
SCALE = 2
CAPTION_PX = 22
GAP_PX = 6
EGO_EXTENT_M = (4.9, 2.1, 1.5)

EXTENT_M = {
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


@dataclass(frozen=True, slots=True)
class Placed:
    """An actor in the ego's frame: x forward, y left, heading against the ego's."""

    kind: ActorKind
    x: float
    y: float
    heading: float = 0.0
    cue: Cue = Cue.NONE


@dataclass(frozen=True, slots=True)
class Situation:
    """One picture of the sheet: where the ego stands and what is before it."""

    caption: str
    lane: Lane
    s_m: float
    actors: tuple[Placed, ...] = ()
    light: LightState = LightState.GREEN
    weather: Weather = field(default_factory=Weather)


def place(road_map: RoadMap, situation: Situation) -> Scene:
    """The situation as a scene."""
    lane = situation.lane
    spacing = lane.length_m / (len(lane.points_world) - 1)
    row = min(max(round(situation.s_m / spacing), 0), len(lane.points_world) - 1)
    position, heading = lane.points_world[row], float(lane.heading_rad[row])
    cos, sin = math.cos(heading), math.sin(heading)
    placed = situation.actors
    count = len(placed)
    actors = Actors(
        id=np.arange(1, count + 1, dtype=np.int32),
        kind=np.array([actor.kind for actor in placed], np.int8),
        role=np.zeros(count, np.int8),
        cue=np.array([actor.cue for actor in placed], np.int16),
        position_world=np.array(
            [
                (
                    position[0] + cos * actor.x - sin * actor.y,
                    position[1] + sin * actor.x + cos * actor.y,
                    position[2],
                )
                for actor in placed
            ],
            np.float32,
        ).reshape(-1, 3),
        heading_rad=np.array([heading + actor.heading for actor in placed], np.float32),
        speed_mps=np.zeros(count, np.float32),
        acceleration_mps2=np.zeros(count, np.float32),
        yaw_rate_radps=np.zeros(count, np.float32),
        extent_m=np.array([EXTENT_M[actor.kind] for actor in placed], np.float32).reshape(-1, 3),
        lane=np.full(count, -1, np.int32),
        valid=np.ones(count, np.bool_),
    )
    ego = Ego(position, heading, 0.0, 0.0, 0.0, 0.0, Controls(), np.array(EGO_EXTENT_M, np.float32))
    lights = np.full(len(road_map.signals), situation.light, np.int8)
    return Scene(0, road_map.name, ego, actors, lights, situation.weather)


def _longest(road_map: RoadMap, suits: Callable[[Lane], bool], what: str) -> Lane:
    """The longest lane outside junctions that suits."""
    lanes = [
        lane for lane in road_map.lanes if lane.kind == LaneKind.DRIVING and lane.junction < 0 and suits(lane)
    ]
    if not lanes:
        raise ValueError(f"town {road_map.name!r} has no {what}: choose another with --town")
    return max(lanes, key=lambda lane: lane.length_m)


def situations(road_map: RoadMap) -> list[Situation]:
    """Everything that a person must be able to tell at the VLA's resolution."""
    stop_at = {line.lane: float(line.s_m) for line in road_map.stop_lines}
    control = {line.lane: line.control for line in road_map.stop_lines}

    def ruled(kind: Control) -> Callable[[Lane], bool]:
        return lambda lane: control.get(lane.index) == kind

    signal = _longest(road_map, ruled(Control.SIGNAL), "signalised approach")
    stop = _longest(road_map, ruled(Control.STOP_SIGN), "stop sign")
    street = _longest(
        road_map,
        lambda lane: lane.right_mark == MarkKind.KERB or lane.left_mark == MarkKind.BROKEN_YELLOW,
        "two-way street",
    )
    wide = _longest(
        road_map, lambda lane: MarkKind.BROKEN_WHITE in (lane.left_mark, lane.right_mark), "lane line"
    )
    parking = _longest(
        road_map,
        lambda lane: lane.right >= 0 and road_map.lanes[lane.right].kind == LaneKind.PARKING,
        "parking lane",
    )
    at_light, before = stop_at[signal.index], stop_at[signal.index] - 30.0
    middle = 0.35 * street.length_m
    car, person, cone = ActorKind.CAR, ActorKind.PEDESTRIAN, ActorKind.CONE
    across = 0.5 * math.pi
    works = (
        Placed(ActorKind.WARNING_SIGN, 14.0, -1.2, cue=Cue.INDICATOR_LEFT),
        *(Placed(cone, 17.0 + 2.5 * i, -2.0 + 0.55 * i) for i in range(5)),
        Placed(ActorKind.BARRIER, 30.0, 0.0),
    )
    queue = (Placed(car, 20.0, 0.0, cue=Cue.BRAKE), Placed(car, 28.0, 3.5, math.pi))
    crossing = Placed(person, 25.0, -1.0, across, Cue.CROSSING)
    standing = Placed(person, 25.0, -3.4, across)
    night = Weather(sun_altitude_deg=-30.0)
    rain = Weather(precipitation=90.0, wetness=90.0, precipitation_deposits=80.0, cloudiness=95.0)
    red, yellow = LightState.RED, LightState.YELLOW
    return [
        Situation("red light, 30 m", signal, before, light=red),
        Situation("yellow light, 30 m", signal, before, light=yellow),
        Situation("green light, 30 m", signal, before),
        Situation("at the stop line, red", signal, at_light - 3.0, light=red),
        Situation("car ahead, 20 m", street, middle, (Placed(car, 20.0, 0.0),)),
        Situation("car ahead brakes, 20 m", street, middle, (Placed(car, 20.0, 0.0, cue=Cue.BRAKE),)),
        Situation(
            "truck signals left, 20 m",
            street,
            middle,
            (Placed(ActorKind.TRUCK, 20.0, 0.0, cue=Cue.INDICATOR_LEFT),),
        ),
        Situation(
            "hazard lights, 15 m", street, middle, (Placed(ActorKind.VAN, 15.0, -0.8, cue=Cue.HAZARD),)
        ),
        Situation("pedestrian stands, 25 m", street, middle, (standing,)),
        Situation("pedestrian crosses, 25 m", street, middle, (crossing,)),
        Situation("bicycle, 12 m", street, middle, (Placed(ActorKind.BICYCLE, 12.0, -1.0),)),
        Situation(
            "cyclist crosses, 18 m",
            street,
            middle,
            (Placed(ActorKind.BICYCLE, 18.0, 0.0, across, Cue.CROSSING),),
        ),
        Situation("road works", street, middle, works),
        Situation(
            "parked car, door open, 14 m",
            parking,
            0.3 * parking.length_m,
            (
                Placed(car, 14.0, -2.6, cue=Cue.PARKED | Cue.DOOR_LEFT),
                Placed(car, 22.0, -2.9, cue=Cue.PARKED),
            ),
        ),
        Situation(
            "ambulance, blue lights",
            wide,
            0.4 * wide.length_m,
            (Placed(ActorKind.AMBULANCE, 16.0, 0.0, cue=Cue.EMERGENCY), Placed(ActorKind.POLICE, 26.0, 3.5)),
        ),
        Situation("lane marks", wide, 0.2 * wide.length_m),
        Situation("stop sign, 20 m", stop, stop_at[stop.index] - 20.0),
        Situation(
            "cross traffic at a stop sign",
            stop,
            stop_at[stop.index] - 3.0,
            (Placed(car, 15.0, 7.0, -across),),
        ),
        Situation("night", signal, before, (*queue, standing), red, night),
        Situation("night, pedestrian crosses, 25 m", street, middle, (crossing,), weather=night),
        Situation("rain", signal, before, queue, red, rain),
        Situation("fog", signal, before, queue, red, Weather(fog_density=60.0)),
        Situation("low sun", signal, before, queue, yellow, Weather(sun_altitude_deg=6.0, cloudiness=20.0)),
        Situation(
            "clear noon",
            wide,
            0.6 * wide.length_m,
            (Placed(car, 18.0, 0.0),),
            weather=Weather(cloudiness=0.0),
        ),
    ]


def compose(pictures: Sequence[NDArray[np.uint8]], captions: Sequence[str]) -> Image.Image:
    """Pictures in a grid, enlarged without smoothing, each under its caption."""
    height, width = pictures[0].shape[:2]
    cell_x, cell_y = SCALE * width + GAP_PX, SCALE * height + CAPTION_PX + GAP_PX
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * cell_x + GAP_PX, rows * cell_y + GAP_PX), (250, 250, 248))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=15)
    for i, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        x, y = GAP_PX + i % COLUMNS * cell_x, GAP_PX + i // COLUMNS * cell_y
        draw.text((x + 2, y + 1), caption, (30, 30, 34), font)
        large = Image.fromarray(picture).resize((SCALE * width, SCALE * height), Image.Resampling.NEAREST)
        sheet.paste(large, (x, y + CAPTION_PX))
    return sheet


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description="Draw the contact sheet of the camera.")
    parser.add_argument("--out", type=Path, default=Path("docs/contact_sheet.png"), help="where to write it")
    parser.add_argument("--town", default=TOWN, help="built-in town (default: %(default)s)")
    options = parser.parse_args(arguments)
    road_map = load_town(options.town)
    camera = Camera()
    shown = situations(road_map)
    pictures = [camera.render(road_map, place(road_map, situation)) for situation in shown]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    compose(pictures, [situation.caption for situation in shown]).save(options.out, optimize=True)
    print(f"{options.out}: {len(shown)} pictures of {camera.rig.width}x{camera.rig.height}")


if __name__ == "__main__":
    main()
