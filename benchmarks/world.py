"""Speed of the embedded world on one core, by number of actors.

    python benchmarks/world.py [--json FILE] [--ticks N]

Rates are per second of CPU time, so that other work on the machine disturbs them little.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from takevla.scene.scene import Controls
from takevla.world.embedded import EmbeddedWorld
from takevla.world.maps.atlas import load_town
from takevla.world.maps.route_xml import RouteTask

TOWN = "Alder01"
CROWDS = (("about 20 actors", 6.0), ("about 60 actors", 45.0))  # name, vehicles per km
WARM_UP = 20


def _task() -> RouteTask:
    """A route along the lane of the town that has the most junctions within reach."""
    road_map = load_town(TOWN)
    centres = np.array([junction.centre_world[:2] for junction in road_map.junctions])
    lanes = [
        lane for lane in road_map.lanes if lane.kind == 0 and lane.junction < 0 and lane.length_m > 100.0
    ]

    def near(points: np.ndarray) -> int:
        middle = points[len(points) // 2, :2]
        return int((np.hypot(*(centres - middle).T) < 150.0).sum())

    lane = max(lanes, key=lambda each: near(each.points_world))
    return RouteTask("benchmark", TOWN, lane.points_world[[3, len(lane.points_world) - 4]])


def _rate(what: Callable[[], object], times: int) -> float:
    start = time.process_time()
    for _ in range(times):
        what()
    return times / (time.process_time() - start)


def measure(ticks: int) -> list[dict[str, float | str]]:
    """One row for each crowd: mean actors on stage and rates per second."""
    rows: list[dict[str, float | str]] = []
    for name, density in CROWDS:
        world = EmbeddedWorld(load_town(TOWN), _task(), 0, density=density, tick_limit=ticks + 100)
        stand = Controls(0.0, 0.0, 1.0)  # the ego stands; traffic flows around it
        for _ in range(WARM_UP):
            world.tick(stand)
        counts = []
        start = time.process_time()
        for _ in range(ticks):
            if world.finished:
                break
            world.tick(stand)
            counts.append(world.actors_on_stage)
        elapsed = time.process_time() - start
        rows.append(
            {
                "crowd": name,
                "actors": float(np.mean(counts)),
                "ticks_per_s": len(counts) / elapsed,
                "scenes_per_s": _rate(world.scene, 500),
                "snapshots_per_s": _rate(world.snapshot, 500),
            }
        )
    return rows


def main() -> None:
    """Measure, print a table, and write it as JSON if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--ticks", type=int, default=1000, help="ticks per crowd (default 1000)")
    arguments = parser.parse_args()
    rows = measure(arguments.ticks)
    machine = f"{platform.machine()}, Python {platform.python_version()}, one core"
    print(f"embedded world, {TOWN} ({machine})")
    for row in rows:
        print(
            f"{row['crowd']}: {row['actors']:.1f} on stage, {row['ticks_per_s']:.0f} ticks/s, "
            f"{row['scenes_per_s']:.0f} scenes/s, {row['snapshots_per_s']:.0f} snapshots/s"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
