"""Drive a list of routes and score them: in batches, on one or more workers, resumable.

Routes are cut into batches by their order alone.  Each batch is one job: it loads its driver and its towns,
drives its worlds together and gives back outcomes.  A finished batch is one file, so an evaluation that was
killed goes on with the batches that are missing and ends with the same results.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from takevla import scale
from takevla.bench.batches import BatchResult, begin, read_batch, write_batch
from takevla.bench.drivers import BUILT_IN, check_driver, load_driver
from takevla.bench.judge import judge
from takevla.bench.leaderboard_json import leaderboard, merged, write_json
from takevla.bench.metrics import metrics
from takevla.bench.outcome import RouteOutcome
from takevla.bench.provenance import run_facts, tree_digest, versions
from takevla.bench.scores import BENCH2DRIVE, penalty_table
from takevla.bench.words import WORDS_FILE, words_report
from takevla.driver.closed_loop import Listener, Seat, drive
from takevla.driver.driver import Driver
from takevla.driver.expert import Expert
from takevla.scene.plan import Observation, Plan
from takevla.scene.scene import Controls, Ego
from takevla.takeover.precaution import ShadowListener, route_words
from takevla.world.camera import Camera, Rig
from takevla.world.embedded import DENSITY_PER_KM, EmbeddedWorld
from takevla.world.maps.atlas import load_town
from takevla.world.maps.route_xml import RouteTask

BATCH_SIZE = 16  # worlds driven together at most; part of what the results depend on
REPORT_EVERY_S = 0.5  # between two words on progress


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation came to."""

    out: Path
    metrics: Mapping[str, Any]  # the content of metrics.json
    unscored: Mapping[str, str]  # routes without an outcome, and why


@dataclass(frozen=True)
class _Job:
    driver: str
    digest: str | None  # of the checkpoint: one that was trained anew under its old name is loaded anew
    commentary: bool
    tasks: tuple[RouteTask, ...]
    seeds: tuple[int, ...]
    density: float
    maps_dir: Path | None
    penalties: str  # name of a table
    shadow: bool


@lru_cache(maxsize=1)
def _driver(name: str, digest: str | None, commentary: bool) -> Driver:
    return load_driver(name, commentary)


@lru_cache(maxsize=1)
def _camera(rig: Rig) -> Camera:
    return Camera.of(rig)


class _Progress:
    """Tells how much of a batch is done: the mean share of its routes that is driven."""

    def __init__(self, report: scale.Report, seats: Sequence[Seat]) -> None:
        self._report = report
        self._shares = {seat.index: 0.0 for seat in seats}
        self._told = 0.0

    def on_plan(self, seat: Seat, observation: Observation, plan: Plan) -> None:
        world = seat.world
        self._shares[seat.index] = world.route_index / max(len(world.route) - 1, 1)
        now = time.monotonic()
        if now - self._told >= REPORT_EVERY_S:
            self._told = now
            self._report(sum(self._shares.values()) / len(self._shares))

    def on_tick(self, seat: Seat, ego: Ego, controls: Controls) -> None:
        pass

    def on_finish(self, seat: Seat) -> None:
        self._shares[seat.index] = 1.0


def run_batch(job: _Job, report: scale.Report) -> BatchResult:
    """Drive the routes of one batch together."""
    start = time.monotonic()
    driver = _driver(job.driver, job.digest, job.commentary)
    reasons = [""] * len(job.tasks)
    seats: list[Seat] = []
    shadow: ShadowListener | None = None
    for index, (task, seed) in enumerate(zip(job.tasks, job.seeds, strict=True)):
        try:
            world = EmbeddedWorld(load_town(task.town, job.maps_dir), task, seed, job.density)
        except (ValueError, FileNotFoundError) as error:
            reasons[index] = str(error)
            continue
        seats.append(Seat(index, world))
    if seats:
        camera = _camera(driver.rig) if driver.needs_image else None
        shadow = ShadowListener(Expert(driver.period_us), seats) if job.shadow else None
        listeners: list[Listener] = [_Progress(report, seats)]
        if shadow is not None:
            listeners.append(shadow)
        drive(seats, driver, camera, listeners)
    wall_s = time.monotonic() - start
    records = {seat.index: seat.world.record() for seat in seats if isinstance(seat.world, EmbeddedWorld)}
    ticks = max(sum(record.ticks for record in records.values()), 1)
    outcomes: list[RouteOutcome | None] = [None] * len(job.tasks)
    for seat in seats:
        record = records[seat.index]
        share = record.ticks / ticks
        outcomes[seat.index] = judge(
            record, seat.world.route, seat.world.road_map, wall_s * share, penalty_table(job.penalties)
        )
    words: list[dict[str, Any] | None] = [None] * len(job.tasks)
    for index, noted in (shadow.drives if shadow is not None else {}).items():
        words[index] = route_words(noted, records[index].ttc_s)
    return BatchResult(tuple(outcomes), tuple(reasons), wall_s, tuple(words))


def world_seed(seed: int, route_seed: int) -> int:
    """The seed of a world, from the evaluation's and the route's own."""
    return int(np.random.SeedSequence([seed, route_seed]).generate_state(1)[0]) >> 1


def _digest(tasks: Sequence[RouteTask], seeds: Sequence[int]) -> str:
    digest = hashlib.sha256()
    for task, seed in zip(tasks, seeds, strict=True):
        digest.update(repr((task.id, task.town, task.scenarios, task.weathers, seed)).encode())
        digest.update(np.ascontiguousarray(task.keypoints_world, np.float32).tobytes())
    return digest.hexdigest()


class _Keeper(scale.Bar):
    """Writes each batch as it ends, and shows progress."""

    def __init__(
        self, title: str, weights: Sequence[float], show: bool, folder: Path, todo: Sequence[int]
    ) -> None:
        super().__init__(title, weights, show)
        self._folder, self._todo = folder, todo

    def finished(self, index: int, result: Any) -> None:
        if isinstance(result, BatchResult):
            write_batch(self._folder, self._todo[index], result)
        super().finished(index, result)


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
    show: bool = True,
) -> Evaluation:
    """Drive `tasks` with a driver and write `results.json`, `merged.json`, `metrics.json` and `run.json` to
    `out`.

    Args:
        driver: one of `drivers.BUILT_IN` or a checkpoint folder.
        tasks: the routes, in the order of their suite.
        out: folder of the results; `batches/` in it holds finished batches.
        seeds: one for each route (a suite has them); 0 for all without.
        density: background vehicles per km of driving lane.
        seed: of this evaluation; another one gives other traffic on the same routes.
        workers: processes; changes nothing but the time it takes.
        cluster: where they run, this machine if None.
        resume: keep the finished batches of a former call with the same settings.
        maps_dir: folder of OpenDRIVE files for towns that are not built in.
        commentary: whether a VLA speaks before it plans.
        suite: its name, for the files.
        penalties: name of the penalty table by which routes are scored (`scores.PENALTY_TABLES`).
        shadow: let the expert watch, and write what he would have said and done as `words.json`; the drives
            stay the same.
        show: a progress bar with the time left.

    Routes that cannot be driven (off the map, unknown town) and those whose worker died again and again are
    named in `unscored` and count 0.

    Raises:
        ValueError, FileNotFoundError: no routes, two routes of one id, a missing driver, or a folder to
        resume
            that holds an evaluation with other settings.
    """
    start = time.monotonic()
    check_driver(driver)
    table = penalty_table(penalties)
    if not tasks:
        raise ValueError("no routes to evaluate")
    names = [task.id for task in tasks]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise ValueError(f"route {doubled} appears twice; give each route of an evaluation its own id")
    route_seeds = [0] * len(tasks) if seeds is None else list(seeds)
    if len(route_seeds) != len(tasks):
        raise ValueError(f"{len(route_seeds)} seeds for {len(tasks)} routes")
    folder = out / "batches"
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
        "batch_size": BATCH_SIZE,
        "penalties": table.name,
        "shadow": shadow,
    }
    begin(folder, settings | {"version": versions()["takevla"]}, resume)

    world_seeds = [world_seed(seed, one) for one in route_seeds]
    batches = scale.groups(list(zip(tasks, world_seeds, strict=True)), BATCH_SIZE)
    done = {index: read_batch(folder, index) for index in range(len(batches))} if resume else {}
    todo = [index for index in range(len(batches)) if done.get(index) is None]
    jobs = [
        _Job(
            driver,
            digest,
            commentary,
            tuple(task for task, _ in batches[index]),
            tuple(one for _, one in batches[index]),
            density,
            maps_dir,
            table.name,
            shadow,
        )
        for index in todo
    ]
    labels = [
        f"batch {index} (routes {batches[index][0][0].id} to {batches[index][-1][0].id})" for index in todo
    ]
    title = f"Evaluate {Path(driver).name} on {suite or 'routes'}"
    engine = scale.executor(workers, cluster)
    with (
        _Keeper(title, [len(job.tasks) for job in jobs], show, folder, todo) as keeper,
        engine.crew(run_batch) as crew,
    ):
        results = crew.run(jobs, labels, keeper)

    outcomes: list[RouteOutcome] = []
    words: dict[str, Any] = {}
    unscored: dict[str, str] = {}
    reused_s = sum(one.wall_s for one in done.values() if one is not None)
    fresh = dict(zip(todo, results, strict=True))
    for index, batch in enumerate(batches):
        result = fresh[index] if index in fresh else done[index]
        for place, (task, _) in enumerate(batch):
            if isinstance(result, scale.JobFailure):
                unscored[task.id] = str(result)
            elif result is not None:
                outcome = result.outcomes[place]
                if outcome is None:
                    unscored[task.id] = result.reasons[place]
                else:
                    outcomes.append(outcome)
                    if shadow:
                        words[task.id] = result.words[place]
    wall_s = time.monotonic() - start + reused_s / workers
    found = metrics(outcomes, len(tasks), unscored, wall_s, table.name)
    write_json(out / "results.json", leaderboard(outcomes, len(tasks)))
    write_json(out / "merged.json", merged(outcomes, len(tasks)))
    write_json(out / "metrics.json", found)
    if shadow:
        km = {one.route_id: one.route_length_m * one.score_route / 1e5 for one in outcomes}
        write_json(out / WORDS_FILE, words_report(words, km))
    write_json(out / "run.json", run_facts("evaluate", seed, settings | {"workers": workers}, wall_s))
    return Evaluation(out, found, unscored)
