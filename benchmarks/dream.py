"""Speed of dreams: trajectories and ego steps per CPU second, rolled out and rewarded in full, on one core.

    python benchmarks/dream.py [--json FILE]

A straight road with 20 moving actors; every plan is rolled out at 20 Hz and measured every 0.1 s.  The time
of a call is the least CPU time of many, so that others on the machine do not count.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dream_plain
import dream_shapely
import numpy as np
from numba import njit
from numpy.typing import NDArray

from takevla.bench.provenance import git_revision
from takevla.learn.dream.checks import TTC_OFFSETS, TTC_SPACING_STEPS
from takevla.learn.dream.kinematics import LANES, PATH_COS, PATH_SIN, PATH_SPEED, PATH_X, PATH_Y
from takevla.learn.dream.reward import preset
from takevla.learn.dream.scenes import (
    CELL_M,
    DRIVABLE,
    RASTER_AHEAD_M,
    RASTER_BEHIND_M,
    RASTER_SIDE_M,
    STEP_S,
    DreamScene,
)
from takevla.learn.dream.simulate import TICKS_PER_STEP, measure, roll_out
from takevla.scene.plan import Plan

PLANS, ACTORS, ROUNDS, SLOW_ROUNDS = 64, 20, 300, 5
NOTE = (
    "least CPU time of 300 calls (5 of the slow forms), one core of a shared machine; ratio_to_numpy is to "
    "the form of NAVSIM's scorer (batched NumPy roll-out, shapely polygons, an STRtree per instant), "
    "ratio_to_batched_numpy to a leaner one (raster look-ups, no Python loop over contacts)"
)
# Float operations, counted by hand in the kernels.
TICK_OPERATIONS, STEP_OPERATIONS, BOX_OPERATIONS = 190, 90, 36


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


def plans(here: DreamScene) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """`PLANS` plans at various speeds and offsets."""
    rng = np.random.default_rng(1)
    routes = np.tile(here.policy_plan.route_ego, (PLANS, 1, 1))
    routes[:, :, 1] += rng.normal(0, 0.5, (PLANS, 1)) * np.linspace(0, 1, 20)
    waypoints = np.tile(here.policy_plan.waypoints_ego, (PLANS, 1, 1)) * rng.uniform(0.3, 1.3, (PLANS, 1, 1))
    return routes, waypoints.astype(np.float32)


def seconds(work: Callable[[], object], rounds: int) -> float:
    """Least CPU seconds of one call."""
    work()
    spent = []
    for _ in range(rounds):
        start = time.thread_time()
        work()
        spent.append(time.thread_time() - start)
    return min(spent)


@njit(cache=True, fastmath={"contract"})  # nothing may be folded
def _multiply_add(values: NDArray[np.float32], rounds: int) -> None:
    scale, shift = np.float32(0.999), np.float32(0.001)
    for _ in range(rounds):
        for i in range(values.shape[0]):
            v = values[i]
            for _ in range(16):
                v = v * scale + shift
            values[i] = v


def peak_flops() -> float:
    """Float32 multiply-adds of one core, counted as two, per second."""
    values = np.ones(512, np.float32)
    return 2.0 * 16 * 512 * 2000 / seconds(lambda: _multiply_add(values, 2000), 20)


def arithmetic(here: DreamScene, steps: int) -> float:
    """Operations an ego step asks for: a hand count, with the box tests that are left after pruning."""
    routes, waypoints = plans(here)
    path = roll_out(here, routes, waypoints, steps).path
    reach = float(np.hypot(*here.arrays.ego)) + np.hypot(*here.arrays.extent.T)
    tests = 0
    for t in range(1, steps + 1):
        for offset in range(TTC_OFFSETS):
            k = t + TTC_SPACING_STEPS * offset
            if k > steps:
                break
            far = STEP_S * TTC_SPACING_STEPS * offset * path[:, t, PATH_SPEED]
            near = np.ones((len(path), ACTORS), np.bool_)
            for centre, turn, column in ((PATH_X, PATH_COS, 0), (PATH_Y, PATH_SIN, 1)):
                at = path[:, t, centre] + far * path[:, t, turn]
                other = here.arrays.actors[k, :, column]
                near &= (other > at.min(1)[:, None] - reach) & (other < at.max(1)[:, None] + reach)
            tests += int(near.sum()) * LANES
    return TICKS_PER_STEP * TICK_OPERATIONS + STEP_OPERATIONS + BOX_OPERATIONS * tests / (PLANS * steps)


def figures(steps: int, reacting: bool) -> dict[str, float]:
    """One group of `PLANS` plans: what a core does in a second, and where the time goes."""
    here, reward = scene(steps), preset("pdm")
    if reacting:
        here = replace(here, actor_reacts=np.ones(ACTORS, np.bool_))
    routes, waypoints = plans(here)
    rolled = roll_out(here, routes, waypoints, steps)
    total = seconds(lambda: reward(measure(here, roll_out(here, routes, waypoints, steps))), ROUNDS)
    rolling = seconds(lambda: roll_out(here, routes, waypoints, steps), ROUNDS)
    measuring = seconds(lambda: measure(here, rolled), ROUNDS)
    return {
        "plans": PLANS,
        "steps": steps,
        "actors": ACTORS,
        "reacting": float(reacting),
        "trajectories_per_s": PLANS / total,
        "ego_steps_per_s": PLANS * steps / total,
        "ns_per_ego_step": total * 1e9 / PLANS / steps,
        "roll_out_share": rolling / total,
        "measure_share": measuring / total,
    }


def ratios(steps: int) -> tuple[float, float]:
    """How much longer the same group takes in the form of NAVSIM's scorer, and in lean batched NumPy.

    ValueError if they disagree.
    """
    here, reward = scene(steps), preset("pdm")
    routes, waypoints = plans(here)
    wide = (routes.astype(np.float64), waypoints.astype(np.float64))
    around = dream_shapely.Surroundings.of(here, steps)
    fast = measure(here, roll_out(here, routes, waypoints, steps))
    lean, polygons = dream_plain.full(here, *wide, steps), dream_shapely.full(around, *wide, steps)
    away = np.abs(fast.trajectories.poses[..., :2] - lean["path"][..., :2]).max()
    if away > 0.05 or not np.allclose(fast.collision_s, lean["collision_s"], atol=1e-4):
        raise ValueError(f"the lean form and the kernels disagree ({away:.3f} m)")
    if np.abs(reward(fast)[0] - reward(polygons)[0]).max() > 0.01:
        raise ValueError("the form of NAVSIM's scorer and the kernels disagree")
    own = seconds(lambda: reward(measure(here, roll_out(here, routes, waypoints, steps))), ROUNDS)
    shapes = seconds(lambda: reward(dream_shapely.full(around, *wide, steps)), SLOW_ROUNDS)
    return shapes / own, seconds(lambda: dream_plain.full(here, *wide, steps), SLOW_ROUNDS) / own


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = [figures(steps, reacting) for reacting in (False, True) for steps in (20, 40)]
    for row in rows:
        print("  ".join(f"{name} {value:,.3g}" for name, value in row.items()))
    peak, operations = peak_flops(), arithmetic(scene(40), 40)
    to_shapely, to_batched = (min(pair) for pair in zip(ratios(20), ratios(40), strict=True))
    content: dict[str, Any] = {
        "command": "python benchmarks/dream.py --json results/dream_speed.json",
        "note": NOTE,
        "git_revision": git_revision(),
        "ego_steps_per_s_replayed": min(row["ego_steps_per_s"] for row in rows[:2]),
        "ego_steps_per_s_reactive": min(row["ego_steps_per_s"] for row in rows[2:]),
        "trajectories_per_s": rows[0]["trajectories_per_s"],
        "ratio_to_numpy": to_shapely,
        "ratio_to_batched_numpy": to_batched,
        "peak_flops_measured": peak,
        "operations_per_ego_step": operations,
        "share_of_peak": operations * rows[1]["ego_steps_per_s"] / peak,
        "machine": f"{platform.platform()}, {platform.processor() or platform.machine()}",
        "python": platform.python_version(),
        "rows": rows,
    }
    print("  ".join(f"{name} {value}" for name, value in content.items() if name != "rows"))
    if arguments.json:
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
