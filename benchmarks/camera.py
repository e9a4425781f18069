"""How fast the camera is: frames per CPU second in a built-in town, with and without 20 cars.

python benchmarks/camera.py [TOWN]
"""

from __future__ import annotations

import dataclasses
import platform
import sys
import time

import numpy as np

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
    town = sys.argv[1] if len(sys.argv) > 1 else "Alder05"
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
    size = f"{camera.rig.width}x{camera.rig.height}"
    print(f"{platform.processor() or platform.machine()}, {town}: built in {built:.2f} s of CPU time")
    share = with_cars / without
    print(f"{size}: {with_cars:.0f} frames a CPU second with {CARS} cars, {share:.2f} of the empty town's")


if __name__ == "__main__":
    main()
