"""Speed of dreams: trajectories and ego steps per CPU second, rolled out and rewarded in full, on one core.

    python benchmarks/dream.py [--json FILE]

A bend with 20 actors: a leader, followers, one that crosses, cars on the lanes beside, a cone; a junction, a
closed line and the road's edge are within reach.  Every plan is rolled out at 20 Hz and measured every
0.1 s.  The time of a call is the least CPU time of many, so that others on the machine do not count.
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
    JUNCTION,
    LANE_SHIFT,
    ONCOMING,
    RASTER_AHEAD_M,
    RASTER_BEHIND_M,
    RASTER_SIDE_M,
    STEP_S,
    DreamScene,
)
from takevla.learn.dream.simulate import TICKS_PER_STEP, Measures, measure, reactions_apart, roll_out
from takevla.scene.plan import Plan

PLANS, ACTORS, ROUNDS, SLOW_ROUNDS = 64, 20, 300, 5
RADIUS_M, LANE_M, CROSSING_M = 80.0, 3.5, 22.0  # of the bend; where along it the junction is
LEAST_APART = 0.05  # share of the steps of actors that can react in which they must
NOTE = (
    "least CPU time of 300 calls (5 of the slow forms), one core of a shared machine; ratio_to_numpy is to "
    "the form of NAVSIM's scorer (batched NumPy roll-out, shapely polygons, an STRtree per instant), "
    "ratio_to_batched_numpy to a leaner one (raster look-ups, no Python loop over contacts)"
)
# Float operations, counted by hand in the kernels.
TICK_OPERATIONS, STEP_OPERATIONS, BOX_OPERATIONS = 190, 90, 36


def on_bend(s_m: NDArray[np.floating], left_m: NDArray[np.floating] | float = 0.0) -> NDArray[np.float64]:
    """(..., 3) x, y, heading at arc length `s_m` of a bend to the left, `left_m` beside it."""
    s, left = np.broadcast_arrays(s_m, left_m)
    heading, radius = s / RADIUS_M, RADIUS_M - left
    return np.stack([radius * np.sin(heading), RADIUS_M - radius * np.cos(heading), heading], axis=-1)


def along(speed_mps: float) -> Plan:
    """A plan along the bend."""
    route = on_bend(np.arange(1.0, 21.0))[:, :2]
    ahead = on_bend(speed_mps * 0.25 * np.arange(1, 11))[:, :2]
    return Plan(route.astype(np.float32), ahead.astype(np.float32))


def _road() -> NDArray[np.uint8]:
    """The raster: an oncoming lane on the left, two lanes along, a junction across them."""
    shape = round(2 * RASTER_SIDE_M / CELL_M), round((RASTER_BEHIND_M + RASTER_AHEAD_M) / CELL_M)
    row, column = np.indices(shape)
    x, y = (column + 0.5) * CELL_M - RASTER_BEHIND_M, (row + 0.5) * CELL_M - RASTER_SIDE_M
    left = RADIUS_M - np.hypot(x, y - RADIUS_M)
    s = RADIUS_M * np.arctan2(x, RADIUS_M - y)
    lane = np.floor((left + 0.5 * LANE_M) / LANE_M).astype(np.int64)
    raster = np.where(np.abs(lane) <= 1, DRIVABLE | (lane + 1 << LANE_SHIFT), 0)
    raster |= np.where(lane == 1, ONCOMING, 0)
    crossing = (s > CROSSING_M - 5.0) & (s < CROSSING_M + 5.0)
    return np.where(crossing, DRIVABLE | JUNCTION, raster).astype(np.uint8)


def scene(steps: int) -> DreamScene:
    """Twenty actors at a bend: the first five in the ego's way, a cone at its edge, the others beside it."""
    rng = np.random.default_rng(0)
    t = 0.1 * np.arange(steps + 1)
    s0, speed, left = rng.uniform(-15, 60, ACTORS), rng.uniform(2, 12, ACTORS), np.full(ACTORS, -LANE_M)
    left[ACTORS // 2 :] = LANE_M
    way = np.where(left > 0.0, -1.0, 1.0)  # those on the left come towards the ego
    s0[:4], speed[:4], left[:4], way[:4] = (
        (18.0, -12.0, -22.0, 34.0),
        (5.0, 7.0, 8.0, 0.0),
        (0.0, 0.0, 0.0, 0.4),
        1.0,
    )
    placed = on_bend(s0 + np.outer(t, speed * way), left)
    placed[..., 2] += np.where(way < 0.0, np.pi, 0.0)
    pose = np.concatenate([placed, np.broadcast_to(speed, (len(t), ACTORS))[..., None]], axis=-1)
    middle = on_bend(np.array(CROSSING_M))
    across = middle[2] - 0.5 * np.pi  # crosses from the left, at the junction
    away = 8.0 * (t - 2.0)
    pose[:, 4] = np.stack(
        [
            middle[0] + away * np.cos(across),
            middle[1] + away * np.sin(across),
            0.0 * t + across,
            0.0 * t + 8.0,
        ],
        axis=-1,
    )
    pose[:, 5] = [*on_bend(np.array(9.0), -1.7), 0.0]
    line = on_bend(np.array(12.0), np.array([0.5, -0.5]) * LANE_M)[:, :2]
    extent = np.tile(np.array([4.6, 1.9], np.float32), (ACTORS, 1))
    extent[5] = 0.4
    return DreamScene(
        takeover="benchmark",
        trigger="collision",
        frame_row=0,
        ego_speed_mps=8.0,
        ego_extent_m=np.array([4.9, 2.1], np.float32),
        actor_pose=pose.astype(np.float32),
        actor_extent_m=extent,
        actor_static=np.arange(ACTORS) == 5,
        actor_valid=np.ones((steps + 1, ACTORS), np.bool_),
        route=on_bend(np.arange(-5.0, 120.0))[:, :2].astype(np.float32),
        stop_lines=line.reshape(1, 4).astype(np.float32),
        stop_closed=np.ones((steps + 1, 1), np.bool_),
        stop_is_sign=np.zeros(1, np.bool_),
        raster=_road(),
        policy_plan=along(8.0),
        expert_plan=along(3.0),
    )


def plans(here: DreamScene) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """`PLANS` plans at various speeds and small offsets, one in sixteen far aside."""
    rng = np.random.default_rng(1)
    aside = rng.normal(0, 0.5, (PLANS, 1))
    aside[::16, 0] = np.linspace(-9, 9, PLANS // 16)
    aside = aside * np.linspace(0, 1, 20)
    routes = on_bend(np.arange(1.0, 21.0), aside)[..., :2]
    waypoints = on_bend(here.ego_speed_mps * 0.25 * np.arange(1, 11) * rng.uniform(0.1, 1.3, (PLANS, 1)))
    return routes.astype(np.float32), waypoints[..., :2].astype(np.float32)


def check_busy(here: DreamScene, found: Measures, apart: NDArray[np.bool_] | None) -> None:
    """Every event must come to some plans and not to all, and actors that can react must do so.

    ValueError names what does not.
    """
    for name in ("collision_s", "fault_s", "offroad_s", "rule_s", "ttc_s"):
        share = np.isfinite(getattr(found, name)).mean()
        if not 0.0 < share < 1.0:
            raise ValueError(
                f"the scene is no measure of speed: {name} is finite in {share:.0%} of the plans"
            )
    if apart is not None and apart.mean() < LEAST_APART:
        raise ValueError(f"the scene is no measure of speed: {apart.mean():.0%} of the actor steps react")


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
    apart = reactions_apart(here, rolled) if reacting else None
    check_busy(here, measure(here, rolled), apart)
    total = seconds(lambda: reward(measure(here, roll_out(here, routes, waypoints, steps))), ROUNDS)
    rolling = seconds(lambda: roll_out(here, routes, waypoints, steps), ROUNDS)
    measuring = seconds(lambda: measure(here, rolled), ROUNDS)
    return {
        "plans": PLANS,
        "steps": steps,
        "actors": ACTORS,
        "reacting": float(reacting),
        "actor_steps_reacting": float(apart.mean()) if apart is not None else 0.0,
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
