"""Speed of the embedded world: ticks per CPU second on one core.

    python benchmarks/world.py [--routes N] [--json FILE]

Drives the same routes with a plan that never changes (world alone), with the expert, and with the expert
and the camera at 4 Hz.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np

from takevla.bench.suites import load_suite
from takevla.driver.closed_loop import Seat, drive, observe
from takevla.driver.expert.expert import Expert
from takevla.scene.scene import Controls
from takevla.world.camera import Camera
from takevla.world.embedded import EmbeddedWorld
from takevla.world.maps.atlas import load_town
from takevla.world.maps.route_xml import RouteTask

TICKS = 400  # of the world alone, per route
CAMERA_PERIOD_US = 250_000


class Filming:
    """Renders what each seat sees at 4 Hz, as a policy would need it."""

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self.frames = 0

    def on_plan(self, seat: Seat, observation: object, plan: object) -> None:
        """A frame at each fourth of a second."""
        if seat.world.time_us % CAMERA_PERIOD_US == 0:
            self.camera.render(seat.world.road_map, seat.world.scene())
            self.frames += 1

    def on_tick(self, seat: Seat, ego: object, controls: object) -> None:
        """Nothing."""

    def on_finish(self, seat: Seat) -> None:
        """Nothing."""


def worlds(tasks: list[RouteTask], density: float) -> list[EmbeddedWorld]:
    """A fresh world for each task."""
    return [EmbeddedWorld(load_town(task.town), task, 0, density) for task in tasks]


def alone(tasks: list[RouteTask], density: float) -> dict[str, float]:
    """The world with its ego at rest, and how many actors it moves."""
    ticks, actors, spent = 0, [], 0.0
    for world in worlds(tasks, density):
        start = time.process_time()
        for _ in range(TICKS):
            world.tick(Controls(brake=1.0))
        spent += time.process_time() - start
        ticks += TICKS
        actors.append(int(world.scene().actors.valid.sum()))
    return {"ticks_per_s": ticks / spent, "actors": float(np.mean(actors))}


def driven(tasks: list[RouteTask], density: float, camera: Camera | None) -> dict[str, float]:
    """The closed loop with the expert."""
    seats = [Seat(index, world) for index, world in enumerate(worlds(tasks, density))]
    listeners = [Filming(camera)] if camera else []
    start = time.process_time()
    drive(seats, Expert(), None, listeners)
    spent = time.process_time() - start
    ticks = sum(seat.world.time_us // 50_000 for seat in seats)
    return {"ticks_per_s": ticks / spent, "frames": float(listeners[0].frames if listeners else 0)}


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--routes", type=int, default=8)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    suite = load_suite("mini44")
    tasks = list(suite.tasks)[:: max(len(suite.tasks) // arguments.routes, 1)][: arguments.routes]
    camera = Camera()
    warm = Seat(0, worlds(tasks[:1], suite.density)[0])
    observe(warm.world, warm, camera, privileged=True)
    driven(tasks[:1], suite.density, camera)
    rows = {
        "world alone": alone(tasks, suite.density),
        "world alone, five times the traffic": alone(tasks, 5 * suite.density),
        "with expert": driven(tasks, suite.density, None),
        "with expert and camera at 4 Hz": driven(tasks, suite.density, camera),
    }
    for name, row in rows.items():
        print(f"{name:40s}" + "  ".join(f"{key} {value:,.0f}" for key, value in row.items()))
    if arguments.json:
        content = {"machine": platform.platform(), "python": platform.python_version(), "rows": rows}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
