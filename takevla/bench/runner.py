"""Drive a list of routes and score them: on one or more workers, resumable.

Each worker has a share of the routes and some seats; a route whose end frees a seat makes room for the next,
so that a driver plans for a full batch as long as there are routes.  A finished route is one file, so an
evaluation that was killed goes on with the routes that are missing.  Who drives beside a route does not
change its result as long as the driver's arithmetic does not (the tiny VLA's does not, to the bit), so
neither does the number of workers.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from takevla import scale
from takevla.bench.drivers import BUILT_IN, driver_name, load_driver
from takevla.bench.finished import FinishedRoute, begin, read_route, write_route
from takevla.bench.judge import judge
from takevla.bench.leaderboard_json import leaderboard, merged
from takevla.bench.metrics import metrics
from takevla.bench.outcome import RouteOutcome
from takevla.bench.provenance import run_facts, tree_digest, versions
from takevla.bench.scores import BENCH2DRIVE, penalty_table
from takevla.bench.words import WORDS_FILE, words_report
from takevla.driver.closed_loop import Seat, drive
from takevla.driver.driver import Driver
from takevla.driver.expert import Expert
from takevla.files import write_json
from takevla.scene.plan import Observation, Plan
from takevla.scene.scene import Controls, Ego
from takevla.takeover.precaution import ShadowListener, route_words
from takevla.world.camera import Camera, Rig
from takevla.world.embedded import DENSITY_PER_KM, EmbeddedWorld
from takevla.world.maps.atlas import load_town
from takevla.world.maps.route_xml import RouteTask

SEATS = 16  # worlds that a worker drives together
SHARE = 128  # routes of a share at most; what is lost with a share whose worker dies again and again
REPORT_EVERY_S = 0.5  # between two words on progress


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation came to."""

    out: Path
    metrics: Mapping[str, Any]  # the content of metrics.json
    unscored: Mapping[str, str]  # routes without an outcome, and why


@dataclass(frozen=True)
class _Job:
    folder: Path  # of the finished routes
    driver: str
    digest: str | None  # of the checkpoint: one that was trained anew under its old name is loaded anew
    commentary: bool
    numbers: tuple[int, ...]  # of the tasks in the evaluation
    tasks: tuple[RouteTask, ...]
    seeds: tuple[int, ...]
    density: float
    maps_dir: Path | None
    penalties: str  # name of a table
    shadow: bool
    device: str  # of the driver's weights


@lru_cache(maxsize=1)
def _driver(name: str, digest: str | None, commentary: bool, device: str) -> Driver:
    return load_driver(name, commentary, device)


@lru_cache(maxsize=1)
def _camera(rig: Rig) -> Camera:
    return Camera.of(rig)


class _Judging:
    """Judges each route at its end and commits it; tells how much of the share is done."""

    def __init__(self, job: _Job, count: int, shadow: ShadowListener | None, report: scale.Report) -> None:
        self._job, self._shadow, self._report = job, shadow, report
        self._shares = [0.0] * count
        self._told = time.monotonic()
        self._seated_s: dict[int, float] = {}  # wall time of work while the seat was taken, per seat
        self._mark = time.monotonic()

    def seated(self, index: int) -> None:
        """A route takes a seat."""
        self._seated_s[index] = 0.0

    def on_plan(self, seat: Seat, observation: Observation, plan: Plan) -> None:
        """Share the time since the last call among those who drive."""
        now = time.monotonic()
        spent, self._mark = (now - self._mark) / max(len(self._seated_s), 1), now
        for index in self._seated_s:
            self._seated_s[index] += spent
        world = seat.world
        self._shares[seat.index] = world.route_index / max(len(world.route) - 1, 1)
        if now - self._told >= REPORT_EVERY_S:
            self._told = now
            self._report(sum(self._shares) / len(self._shares))

    def on_tick(self, seat: Seat, ego: Ego, controls: Controls) -> None:
        pass

    def on_finish(self, seat: Seat) -> None:
        world = seat.world
        assert isinstance(world, EmbeddedWorld)
        record, table = world.record(), penalty_table(self._job.penalties)
        outcome = judge(record, world.route, world.road_map, self._seated_s.pop(seat.index), table)
        noted = self._shadow.drives.pop(seat.index) if self._shadow is not None else None
        words = route_words(noted, record.ttc_s) if noted is not None else None
        write_route(self._job.folder, self._job.numbers[seat.index], FinishedRoute(outcome, words=words))
        self._shares[seat.index] = 1.0


def run_share(job: _Job, report: scale.Report) -> None:
    """Drive the routes of a share that have no file yet."""
    driver = _driver(job.driver, job.digest, job.commentary, job.device)
    shadow = ShadowListener(Expert(driver.period_us)) if job.shadow else None
    judging = _Judging(job, len(job.tasks), shadow, report)

    def seats() -> Iterator[Seat]:
        for index, (number, task, seed) in enumerate(zip(job.numbers, job.tasks, job.seeds, strict=True)):
            if read_route(job.folder, number) is not None:
                continue
            try:
                world = EmbeddedWorld(load_town(task.town, job.maps_dir), task, seed, job.density)
            except (ValueError, FileNotFoundError) as error:
                write_route(job.folder, number, FinishedRoute(None, str(error)))
                continue
            judging.seated(index)
            yield Seat(index, world)

    camera = _camera(driver.rig) if driver.needs_image else None
    drive(seats(), driver, camera, [judging] if shadow is None else [shadow, judging], at_most=SEATS)


def world_seed(seed: int, route_seed: int) -> int:
    """The seed of a world, from the evaluation's and the route's own."""
    return int(np.random.SeedSequence([seed, route_seed]).generate_state(1)[0]) >> 1


def _digest(tasks: Sequence[RouteTask], seeds: Sequence[int]) -> str:
    digest = hashlib.sha256()
    for task, seed in zip(tasks, seeds, strict=True):
        digest.update(repr((task.id, task.town, task.scenarios, task.weathers, seed)).encode())
        digest.update(np.ascontiguousarray(task.keypoints_world, np.float32).tobytes())
    return digest.hexdigest()


def evaluate(
    driver: str,
    tasks: Sequence[RouteTask],
    out: Path,
    *,
    seeds: Sequence[int] | None = None,
    density: float = DENSITY_PER_KM,
    seed: int = 0,
    workers: int = 1,
    cluster: scale.RayCluster | None = None,
    resume: bool = False,
    maps_dir: Path | None = None,
    commentary: bool = True,
    suite: str = "",
    penalties: str = BENCH2DRIVE.name,
    shadow: bool = False,
    device: str = "cpu",
    show: bool = True,
) -> Evaluation:
    """Drive `tasks` with a driver and write `results.json`, `merged.json`, `metrics.json` and `run.json` to
    `out`.

    Args:
        driver: one of `drivers.BUILT_IN` or a checkpoint folder.
        tasks: the routes, in the order of their suite.
        out: folder of the results; `routes/` in it holds finished routes.
        seeds: one for each route (a suite has them); 0 for all without.
        density: background vehicles per km of driving lane.
        seed: of this evaluation; another one gives other traffic on the same routes.
        workers: processes; changes nothing but the time it takes.
        cluster: where they run, this machine if None.
        resume: keep the finished routes of a former call with the same settings.
        maps_dir: folder of OpenDRIVE files for towns that are not built in.
        commentary: whether a VLA speaks before it plans.
        suite: its name, for the files.
        penalties: name of the penalty table by which routes are scored (`scores.PENALTY_TABLES`).
        shadow: let the expert watch, and write what he would have said and done as `words.json`; the drives
            stay the same.
        device: where each worker puts the weights of a VLA, as `load_driver` takes it.
        show: a progress bar with the time left.

    Routes that cannot be driven (off the map, unknown town) and those whose worker died again and again are
    named in `unscored` and count 0.

    Raises:
        ValueError, FileNotFoundError: no routes, two routes of one id, no workers, a missing driver, or a
            folder to resume that holds an evaluation with other settings.
    """
    start = time.monotonic()
    engine = scale.executor(workers, cluster)
    driver = driver_name(driver)
    table = penalty_table(penalties)
    route_seeds = _seeds_of(tasks, seeds)
    folder = out / "routes"
    digest = None if driver in BUILT_IN else tree_digest(Path(driver))
    settings = {
        "driver": driver,
        "driver_digest": digest,
        "suite": suite,
        "routes": len(tasks),
        "routes_digest": _digest(tasks, route_seeds),
        "density": density,
        "seed": seed,
        "commentary": commentary,
        "seats": SEATS,
        "penalties": table.name,
        "shadow": shadow,
    }
    begin(folder, settings | {"version": versions()["takevla"]}, resume)

    kept = {number: read_route(folder, number) for number in range(len(tasks))} if resume else {}
    todo = [number for number in range(len(tasks)) if kept.get(number) is None]
    jobs = [
        _Job(
            folder=folder.resolve(),
            driver=driver,
            digest=digest,
            commentary=commentary,
            numbers=share,
            tasks=tuple(tasks[number] for number in share),
            seeds=tuple(world_seed(seed, route_seeds[number]) for number in share),
            density=density,
            maps_dir=maps_dir,
            penalties=table.name,
            shadow=shadow,
            device=device,
        )
        for share in _shares(todo, workers)
    ]
    ends = _drive(jobs, engine, f"Evaluate {Path(driver).name} on {suite or 'routes'}", show)

    outcomes, words, unscored = _outcomes(folder, tasks, ends)
    reused_s = sum(one.outcome.duration_system_s for one in kept.values() if one is not None and one.outcome)
    wall_s = time.monotonic() - start + reused_s / workers
    found = metrics(outcomes, len(tasks), unscored, wall_s, table.name)
    write_json(out / "results.json", leaderboard(outcomes, len(tasks)))
    write_json(out / "merged.json", merged(outcomes, len(tasks)))
    write_json(out / "metrics.json", found)
    if shadow:
        km = {one.route_id: one.route_length_m * one.score_route / 1e5 for one in outcomes}
        write_json(out / WORDS_FILE, words_report(words, km))
    facts = run_facts("evaluate", seed, settings | {"workers": workers, "device": device}, wall_s)
    write_json(out / "run.json", facts)
    return Evaluation(out, found, unscored)


def _seeds_of(tasks: Sequence[RouteTask], seeds: Sequence[int] | None) -> list[int]:
    """A seed for each route; ValueError where there is no route, one twice, or not a seed for each."""
    if not tasks:
        raise ValueError("no routes to evaluate")
    names = [task.id for task in tasks]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise ValueError(f"route {doubled} appears twice; give each route of an evaluation its own id")
    found = [0] * len(tasks) if seeds is None else list(seeds)
    if len(found) != len(tasks):
        raise ValueError(f"{len(found)} seeds for {len(tasks)} routes")
    return found


def _shares(todo: Sequence[int], workers: int) -> list[tuple[int, ...]]:
    """The numbers of the routes dealt out in turn: as many shares for each worker, none above `SHARE`."""
    count = min(-(-len(todo) // (SHARE * workers)) * workers, len(todo))
    return [tuple(todo[first::count]) for first in range(count)]


def _drive(jobs: Sequence[_Job], engine: scale.Executor, title: str, show: bool) -> dict[int, Any]:
    """Drive all shares; how the share of each route ended, by the route's number."""
    labels = [
        f"share {index + 1} of {len(jobs)} (routes {job.tasks[0].id} to {job.tasks[-1].id})"
        for index, job in enumerate(jobs)
    ]
    with (
        scale.Bar(title, [float(len(job.tasks)) for job in jobs], show) as bar,
        engine.crew(run_share) as crew,
    ):
        ends = crew.run(jobs, labels, bar)
    return {number: end for job, end in zip(jobs, ends, strict=True) for number in job.numbers}


def _outcomes(
    folder: Path, tasks: Sequence[RouteTask], ends: Mapping[int, Any]
) -> tuple[list[RouteOutcome], dict[str, Any], dict[str, str]]:
    """Outcomes and words of the routes that were driven, and why the others have none."""
    outcomes: list[RouteOutcome] = []
    words: dict[str, Any] = {}
    unscored: dict[str, str] = {}
    for number, task in enumerate(tasks):
        route = read_route(folder, number)
        if route is None:
            unscored[task.id] = str(ends[number])
        elif route.outcome is None:
            unscored[task.id] = route.reason
        else:
            outcomes.append(route.outcome)
            words[task.id] = route.words
    return outcomes, words, unscored
