"""Speed of dreams: trajectories and ego steps per CPU second, rolled out and rewarded, on one core.

    python benchmarks/dream.py [--json FILE]

A straight road with 20 moving actors; every plan is rolled out at 20 Hz and measured every 0.1 s.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import numpy as np

from takevla.learn.dream.reward import preset
from takevla.learn.dream.scenes import (
    CELL_M,
    DRIVABLE,
    RASTER_AHEAD_M,
    RASTER_BEHIND_M,
    RASTER_SIDE_M,
    DreamScene,
)
from takevla.learn.dream.simulate import TICKS_PER_STEP, measure, roll_out
from takevla.scene.plan import Plan

PLANS, ACTORS, ROUNDS = 64, 20, 15


def straight(speed_mps: float) -> Plan:
    """A plan straight ahead."""
    route = np.stack([np.arange(1, 21), np.zeros(20)], axis=1).astype(np.float32)
    ahead = speed_mps * 0.25 * np.arange(1, 11)
    return Plan(route, np.stack([ahead, np.zeros(10)], axis=1).astype(np.float32))


def scene(steps: int) -> DreamScene:
    """Twenty cars on the lanes beside a straight road."""
    rng = np.random.default_rng(0)
    raster = np.zeros(
        (round(2 * RASTER_SIDE_M / CELL_M), round((RASTER_BEHIND_M + RASTER_AHEAD_M) / CELL_M)), np.uint8
    )
    middle = raster.shape[0] // 2
    raster[middle - 16 : middle + 16] = DRIVABLE
    pose = np.zeros((steps + 1, ACTORS, 4), np.float32)
    speed = rng.uniform(0, 12, ACTORS)
    pose[:, :, 0] = rng.uniform(-10, 60, ACTORS) + np.outer(0.1 * np.arange(steps + 1), speed)
    pose[:, :, 1], pose[:, :, 3] = rng.choice([-3.6, 3.6, 7.2], ACTORS), speed
    return DreamScene(
        takeover="benchmark",
        trigger="collision",
        frame_row=0,
        ego_speed_mps=8.0,
        ego_steer=0.0,
        ego_extent_m=np.array([4.9, 2.1], np.float32),
        actor_pose=pose,
        actor_extent_m=np.tile(np.array([4.6, 1.9], np.float32), (ACTORS, 1)),
        actor_static=np.zeros(ACTORS, np.bool_),
        actor_valid=np.ones((steps + 1, ACTORS), np.bool_),
        route=np.stack([np.arange(-5, 120), np.zeros(125)], axis=1).astype(np.float32),
        stop_lines=np.array([[60.0, 1.75, 60.0, -1.75]], np.float32),
        stop_closed=np.ones((steps + 1, 1), np.bool_),
        stop_is_sign=np.zeros(1, np.bool_),
        raster=raster,
        policy_plan=straight(8.0),
        expert_plan=straight(6.0),
    )


def figures(steps: int) -> dict[str, float]:
    """CPU seconds of one group of `PLANS` plans, and what follows from them."""
    here, reward = scene(steps), preset("pdm")
    rng = np.random.default_rng(1)
    routes = np.tile(here.policy_plan.route_ego, (PLANS, 1, 1))
    routes[:, :, 1] += rng.normal(0, 0.5, (PLANS, 1)) * np.linspace(0, 1, 20)
    waypoints = np.tile(here.policy_plan.waypoints_ego, (PLANS, 1, 1)) * rng.uniform(0.3, 1.3, (PLANS, 1, 1))

    def rolled() -> float:
        start = time.process_time()
        path = roll_out(here, routes, waypoints.astype(np.float32), steps)
        between = time.process_time()
        reward(measure(here, path))
        spent.append((between - start, time.process_time() - between))
        return 0.0

    spent: list[tuple[float, float]] = []
    rolled()
    spent.clear()
    for _ in range(ROUNDS):
        rolled()
    roll_s, reward_s = (statistics.median(column) for column in zip(*spent, strict=True))
    total = roll_s + reward_s
    return {
        "plans": PLANS,
        "steps": steps,
        "actors": ACTORS,
        "trajectories_per_s": PLANS / total,
        "ego_steps_per_s": PLANS * steps / total,
        "ego_ticks_per_s": PLANS * steps * TICKS_PER_STEP / total,
        "roll_out_share": roll_s / total,
    }


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = [figures(20), figures(40)]
    for row in rows:
        print("  ".join(f"{name} {value:,.3g}" for name, value in row.items()))
    if arguments.json:
        content = {"machine": platform.platform(), "python": platform.python_version(), "rows": rows}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
