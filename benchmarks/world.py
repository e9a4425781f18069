"""Speed of the embedded world: alone, with expert, with camera, many at once, beside other simulators.

    python benchmarks/world.py [--json FILE] [--ticks N]

Rates of one process are per second of its CPU time, so that other work on the machine disturbs them little;
two processes are measured in both, against one in the same run.  highway-env and MetaDrive (without
rendering, traffic of about 20 vehicles) are measured where they are installed.  A tick is 0.05 s of driving.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from takevla.bench.provenance import git_revision, machine, versions
from takevla.bench.suites import load_suite
from takevla.driver.closed_loop import Seat, drive
from takevla.driver.expert.expert import Expert
from takevla.scene.scene import TICK_US, Controls
from takevla.world.camera import Camera
from takevla.world.embedded import EmbeddedWorld
from takevla.world.maps.atlas import load_town
from takevla.world.maps.route_xml import RouteTask

TOWN = "Alder01"
CROWDS = ((20, 6.0), (60, 45.0))  # about so many actors, vehicles per km
WARM_UP = 20
TICK_S = TICK_US * 1e-6
CAMERA_EVERY = 5  # ticks: 4 Hz
MANY = 16  # worlds in one process
SUITE = "dev88"
STAND = Controls(0.0, 0.0, 1.0)  # the ego stands; traffic flows around it
HIGHWAY_STEPS = 300
ROUND = 1000  # ticks after which a standing ego starts anew: after 1,200 its route ends, blocked
PAIR_TIMES = 4  # two processes are measured over so many times the ticks: starting takes a while


@dataclass(frozen=True)
class Row:
    """One measurement."""

    what: str
    actors: float | None  # on stage, mean; None where it differs between worlds
    ticks_per_s: float  # of all worlds together, ticks of 0.05 s
    clock: str  # "cpu" or "wall"
    note: str = ""


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


def _standing(density: float, seed: int = 0) -> EmbeddedWorld:
    world = EmbeddedWorld(load_town(TOWN), _task(), seed, density=density, tick_limit=2 * ROUND)
    for _ in range(WARM_UP):
        world.tick(STAND)
    return world


def _rounds(world: EmbeddedWorld, ticks: int, after: Callable[[int], None] | None = None) -> int:
    """Tick a standing world so often, from its start again after each round; `after` is told each tick."""
    start = world.snapshot()
    for tick in range(ticks):
        if tick % ROUND == 0:
            world.restore(start)
        world.tick(STAND)
        if after is not None:
            after(tick)
    assert not world.finished, "a finished world costs nothing: nothing was measured"
    return ticks


def _cpu_rate(work: Callable[[], int]) -> float:
    """What `work` says it did, per second of CPU time."""
    start = time.process_time()
    done = work()
    return done / (time.process_time() - start)


def plain(ticks: int, actors: int, density: float, camera: Camera | None = None) -> Row:
    """One world whose ego stands, with the camera at 4 Hz if there is one."""
    world = _standing(density)
    counts = []
    if camera is not None:
        camera.render(world.road_map, world.scene())

    def after(tick: int) -> None:
        counts.append(world.actors_on_stage)
        if camera is not None and tick % CAMERA_EVERY == 0:
            camera.render(world.road_map, world.scene())

    rate = _cpu_rate(lambda: _rounds(world, ticks, after))
    eye = "" if camera is None else f", camera {camera.rig.width}x{camera.rig.height} at 4 Hz"
    return Row(f"one world, about {actors} actors{eye}", float(np.mean(counts)), rate, "cpu")


def many(ticks: int) -> Row:
    """Many worlds in one process, a tick of each in turn."""
    actors, density = CROWDS[0]
    worlds = [_standing(density, seed) for seed in range(MANY)]

    def work() -> int:
        for _ in range(min(ticks // MANY, ROUND)):
            for world in worlds:
                world.tick(STAND)
        return min(ticks // MANY, ROUND) * MANY

    count = float(np.mean([world.actors_on_stage for world in worlds]))
    return Row(f"{MANY} worlds in one process, about {actors} actors each", count, _cpu_rate(work), "cpu")


def with_expert(routes: int) -> Row:
    """Routes of the suite driven to their end by the expert, together."""
    suite = load_suite(SUITE)
    step = len(suite.tasks) // routes
    chosen = list(zip(suite.tasks, suite.seeds, strict=True))[::step][:routes]

    def worlds() -> list[EmbeddedWorld]:
        return [EmbeddedWorld(load_town(task.town), task, seed, suite.density) for task, seed in chosen]

    drive([Seat(0, worlds()[0])], Expert(), until_us=2_000_000)
    driven = worlds()

    def work() -> int:
        drive([Seat(k, world) for k, world in enumerate(driven)], Expert())
        return sum(world.time_us for world in driven) // TICK_US

    rate = _cpu_rate(work)
    count = float(np.mean([world.actors_on_stage for world in driven]))
    return Row(f"{len(driven)} routes of {SUITE} with the expert", count, rate, "cpu")


def _share(ticks: int) -> float:
    """A worker's part: one standing world; gives its ticks per second of its own CPU time."""
    world = _standing(CROWDS[0][1])
    return _cpu_rate(lambda: _rounds(world, ticks))


def _expert_share(routes: int) -> int:
    """A worker's part of an evaluation; gives its peak memory, bytes."""
    with_expert(routes)
    return _peak_bytes()


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def two_processes(ticks: int) -> tuple[list[Row], dict[str, float]]:
    """One and two processes at work, and how many times one the two are.

    By the wall clock it shows the whole truth where the machine is free; by CPU time only what two
    processes take from each other's caches and memory, also where other work holds the cores.
    """
    wall, cpu = {}, {}
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(_share, [WARM_UP] * 4))  # start both, load the kernels
        for count in (1, 2):
            start = time.perf_counter()
            cpu[count] = sum(pool.map(_share, [ticks] * count))
            wall[count] = count * ticks / (time.perf_counter() - start)
    rows = [
        Row(f"{n} process{'es' * (n > 1)}, one world each", None, rates[n], clock)
        for clock, rates in (("wall", wall), ("cpu", cpu))
        for n in (1, 2)
    ]
    return rows, {"wall": wall[2] / wall[1], "cpu": cpu[2] / cpu[1]}


def peak_memory(routes: int) -> int:
    """Peak memory (bytes) of a fresh worker that drives routes with the expert."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_expert_share, routes).result()


def highway_env() -> Row:
    """highway-v0 at 20 Hz with 20 vehicles, not rendered."""
    import gymnasium
    import highway_env as package

    gymnasium.register_envs(package)
    config = {"vehicles_count": 20, "simulation_frequency": 20, "policy_frequency": 20, "duration": 1000}
    env = gymnasium.make("highway-v0", config=config)
    env.reset(seed=0)

    def work() -> int:
        for _ in range(HIGHWAY_STEPS):
            *_, ended, cut, _ = env.step(1)
            if ended or cut:
                env.reset(seed=0)
        return HIGHWAY_STEPS

    return Row("highway-env, highway-v0, a step is 0.05 s", 20.0, _cpu_rate(work), "cpu")


def metadrive() -> Row:
    """MetaDrive without rendering; its step is 0.1 s, counted as two ticks."""
    from metadrive import MetaDriveEnv

    env: Any = MetaDriveEnv(
        {"use_render": False, "image_observation": False, "traffic_density": 0.1, "log_level": 50, "map": 5}
    )
    env.reset(seed=0)
    steps = HIGHWAY_STEPS
    step_s = env.config["physics_world_step_size"] * env.config["decision_repeat"]
    counts = []

    def work() -> int:
        for _ in range(steps):
            _, _, ended, cut, _ = env.step([0.0, 0.1])
            counts.append(len(env.engine.traffic_manager.vehicles))
            if ended or cut:
                env.reset(seed=0)
        return round(steps * step_s / TICK_S)

    rate = _cpu_rate(work)
    env.close()
    note = f"{rate * TICK_S / step_s:.0f} steps of {step_s:g} s a second"
    return Row("MetaDrive without rendering", float(np.mean(counts)), rate, "cpu", note)


OTHERS = {"highway_env": highway_env, "metadrive": metadrive}


def main() -> None:
    """Measure, print a table, and write it as JSON if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--ticks", type=int, default=2000, help="ticks of each measurement (default 2000)")
    parser.add_argument("--routes", type=int, default=MANY, help="routes for the expert (default 16)")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    ticks = arguments.ticks
    rows = [plain(ticks, *crowd) for crowd in CROWDS]
    rows += [plain(ticks, *CROWDS[0], camera=Camera()), many(ticks), with_expert(arguments.routes)]
    pair, speed_up = two_processes(PAIR_TIMES * ticks)
    rows += pair
    missing = {}
    for name, measure in OTHERS.items():
        if importlib.util.find_spec(name) is None:
            missing[name] = "not installed"
            continue
        try:
            rows.append(measure())
        except OSError as error:  # MetaDrive fetches its assets when it first starts
            missing[name] = f"installed, but cannot start: {error}"
    memory = peak_memory(arguments.routes)
    about = machine()
    print(
        f"{about['processor']}, {about['cores']} cores, {about['system']}, "
        f"load {load:.1f} at the start\n\n{'':<58}{'actors':>8}{'ticks/s':>10}  clock"
    )
    for row in rows:
        actors = "" if row.actors is None else f"{row.actors:.0f}"
        print(f"{row.what:<58}{actors:>8}{row.ticks_per_s:>10.0f}  {row.clock}  {row.note}".rstrip())
    print(f"\ntwo processes: {speed_up['wall']:.2f} times one by the wall, {speed_up['cpu']:.2f} by CPU time")
    print(f"peak memory of a worker with the expert: {memory / 2**30:.2f} GiB")
    for name, reason in missing.items():
        print(f"{name} not measured: {reason}")
    if arguments.json:
        content = {
            "command": f"python benchmarks/world.py --ticks {ticks} --routes {arguments.routes}",
            "git_revision": git_revision(),
            "machine": about,
            "versions": versions(),
            "load_average_at_start": load,
            "rows": [asdict(row) for row in rows],
            "two_processes_times_one": speed_up,
            "note": "measured on a machine shared with other work; see load_average_at_start",
            "peak_memory_bytes": memory,
            "not_measured": missing,
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
