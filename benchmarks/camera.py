"""How fast the camera is: frames per CPU second in a built-in town, with and without 20 cars.

python benchmarks/camera.py [TOWN] [--json FILE]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from pathlib import Path

import numpy as np

from takevla.bench.provenance import git_revision, machine
from takevla.report.contact_sheet import Placed, Situation, place
from takevla.scene.actors import ActorKind, Cue
from takevla.scene.road_map import LaneKind
from takevla.scene.scene import Scene
from takevla.world.camera import Camera
from takevla.world.camera.town import build_town
from takevla.world.maps.atlas import load_town

VIEWS, ROUNDS, CARS = 100, 3, 20


def frames_per_cpu_second(camera: Camera, town: str, scenes: list[Scene]) -> float:
    """Frames drawn per second of CPU time, best round."""
    road_map = load_town(town)
    camera.render_many([(road_map, scene) for scene in scenes])
    best = 0.0
    for _ in range(ROUNDS):
        start = time.process_time()
        for scene in scenes:
            camera.render(road_map, scene)
        best = max(best, len(scenes) / (time.process_time() - start))
    return best


def main() -> None:
    """Build, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("town", nargs="?", default="Alder05", help="built-in town (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    town, load = arguments.town, os.getloadavg()[0]
    road_map = load_town(town)
    build_town(road_map)
    start = time.process_time()
    build_town(road_map)
    built = time.process_time() - start
    generator = np.random.Generator(np.random.PCG64(0))
    lanes = [lane for lane in road_map.lanes if lane.kind == LaneKind.DRIVING]
    scenes = []
    for _ in range(VIEWS):
        cars = tuple(
            Placed(
                ActorKind.CAR,
                float(generator.uniform(-60, 120)),
                float(generator.uniform(-30, 30)),
                cue=Cue.BRAKE,
            )
            for _ in range(CARS)
        )
        lane = lanes[int(generator.integers(len(lanes)))]
        scenes.append(place(road_map, Situation("", lane, 0.0, cars)))
    empty = [
        dataclasses.replace(
            scene, actors=dataclasses.replace(scene.actors, valid=np.zeros_like(scene.actors.valid))
        )
        for scene in scenes
    ]
    camera = Camera()
    with_cars = frames_per_cpu_second(camera, town, scenes)
    without = frames_per_cpu_second(camera, town, empty)
    about = machine()
    size = f"{camera.rig.width}x{camera.rig.height}"
    print(f"{about['processor']}, {town}: built in {built:.2f} s of CPU time")
    share = with_cars / without
    print(f"{size}: {with_cars:.0f} frames a CPU second with {CARS} cars, {share:.2f} of the empty town's")
    if arguments.json:
        figures = {
            "command": f"python benchmarks/camera.py {town}",
            "git_revision": git_revision(),
            "machine": about,
            "load_average_at_start": load,
            "town_built_cpu_s": built,
            "width": camera.rig.width,
            "height": camera.rig.height,
            "cars": CARS,
            "frames_per_cpu_s_with_cars": with_cars,
            "frames_per_cpu_s_empty": without,
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
