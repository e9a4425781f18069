"""Collection: many attempts, in parts, by any number of processes, resumable after a kill.

`collect_takeovers` lets a policy drive with the expert in shadow; `collect_expert` lets the expert
drive alone, with pushes of wheel and brake and a wandering camera, for pretraining.  Both write the dataset
of `takevla.dataset`.  Tasks are grouped into parts by their order, a part is driven as one batch and
committed as a whole, so neither the number of workers nor a kill changes a byte of the result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from takevla.dataset.buckets import COLUMNS as BUCKET_COLUMNS
from takevla.dataset.buckets import bucket_names
from takevla.dataset.holds import Holder, Holds
from takevla.dataset.scenes import scene_columns
from takevla.dataset.schema import FRAME_COLUMNS
from takevla.dataset.writer import Part, Writer
from takevla.driver.closed_loop import BurstSchedule, Seat, drive
from takevla.driver.closed_loop import Camera as Eye
from takevla.driver.closed_loop import Listener as DriveListener
from takevla.driver.driver import Driver
from takevla.driver.expert.expert import Expert
from takevla.driver.expert.margins import Margins
from takevla.scale import Executor, JobFailure, Listener, RayCluster, Report, Silent, executor, groups
from takevla.scene.scene import TICK_US
from takevla.takeover.attempt import Attempt
from takevla.takeover.recorder import DemonstrationRecorder, OffsetConfig, TakeoverRecorder
from takevla.takeover.shadow import ShadowedDriver, TakeoverConfig
from takevla.world.camera import Camera, Rig
from takevla.world.embedded import DENSITY_PER_KM, EmbeddedWorld
from takevla.world.maps.atlas import load_town
from takevla.world.maps.route_xml import RouteTask
from takevla.world.record import KEY_OF_EVENT, MIN_SPEED_KEY, RouteRecord
from takevla.world.world import UnfitRouteError, World

PLAN_PERIOD_US: Final = 250_000  # 4 Hz, as the policy plans
SEATS: Final = 16  # attempts of a part that a policy drives at a time, as many as it plans for in one pass
LONGEST_BURSTS_US: Final = 600_000_000  # bursts are drawn for attempts up to this long

Refusal = Callable[[Sequence[RouteTask]], None]
PolicyMaker = Callable[[], Driver]


@dataclass(frozen=True)
class Bursts:
    """Pushes of wheel and brake in expert attempts: see `BurstSchedule`."""

    every_s: tuple[float, float] = (4.0, 10.0)
    lasts_s: tuple[float, float] = (0.3, 0.7)
    steer: tuple[float, float] = (0.05, 0.22)
    brake_every_s: tuple[float, float] = (9.0, 22.0)
    brake_lasts_s: tuple[float, float] = (0.4, 3.0)


@dataclass(frozen=True)
class CollectConfig:
    """What all collections share."""

    rig: Rig = field(default_factory=Rig)
    density: float = DENSITY_PER_KM  # background vehicles per km of lane
    longest_s: float = 120.0  # an attempt is given up after this much world time
    part_size: int = 16  # attempts that are driven in one batch and committed together
    maps_dir: Path | None = None  # where OpenDRIVE towns are looked for


Worlds = Callable[
    [Sequence[RouteTask], Sequence[int], CollectConfig], AbstractContextManager[tuple[list[World], Eye]]
]
"""Opens the worlds of a part, given its tasks and their seeds, and the camera that sees them."""


@contextmanager
def embedded_worlds(
    tasks: Sequence[RouteTask], seeds: Sequence[int], config: CollectConfig
) -> Iterator[tuple[list[World], Eye]]:
    """The worlds that need no simulator."""
    worlds: list[World] = [
        EmbeddedWorld(load_town(task.town, config.maps_dir), task, seed, config.density)
        for task, seed in zip(tasks, seeds, strict=True)
    ]
    yield worlds, _camera(config.rig)


@dataclass(frozen=True)
class DemonstrationConfig:
    """What expert attempts add."""

    offsets: OffsetConfig = field(default_factory=OffsetConfig)
    bursts: Bursts = field(default_factory=Bursts)
    holds: Holds = field(default_factory=Holds)
    margins: Margins = field(default_factory=Margins)  # what the expert keeps
    standing_every: int = 4  # of the instants at which the ego stands and stays, one in so many is kept


@dataclass(frozen=True)
class _Job:
    out: Path
    meta: dict[str, Any]
    part: str
    tasks: tuple[RouteTask, ...]
    seeds: tuple[int, ...]
    config: CollectConfig


def collect_takeovers(
    tasks: Sequence[RouteTask],
    make_policy: PolicyMaker,
    policy_name: str,
    out: Path,
    seed: int,
    refuse: Refusal,
    workers: int = 1,
    config: CollectConfig | None = None,
    takeovers: TakeoverConfig | None = None,
    listener: Listener | None = None,
    worlds: Worlds = embedded_worlds,
    cluster: RayCluster | None = None,
) -> None:
    """Drive `tasks` with the policy, the expert in shadow; write all attempts to the dataset `out`.

    Args:
        tasks: in the order that fixes the parts.
        make_policy: gives the policy; called once for each part, in the process that drives it, so it
            must be picklable and should keep what it loads.
        policy_name: stands in the provenance, for example the checkpoint's path and hash.
        out: a new folder, or one of the same collection that was interrupted.
        seed: of the worlds.
        refuse: raises ValueError where a task must not be used for training.
        workers: processes.
        config: camera, traffic, size of parts.
        takeovers: triggers, monitor, windows.
        listener: is told of progress by part.
        worlds: where the tasks are driven; picklable if there are several workers.
        cluster: where the processes run, this machine if None.

    Raises:
        ValueError: `refuse` does, or `out` was begun with other settings.
    """
    settings = takeovers or TakeoverConfig()
    function = partial(_drive_policy, make_policy=make_policy, settings=settings, worlds=worlds)
    provenance = {"kind": "takeover", "policy": policy_name, "takeover": asdict(settings)}
    rates = {"scene_period_us": settings.scene_period_us}
    engine = executor(workers, cluster)
    _collect(function, tasks, out, seed, refuse, config, provenance, rates, engine, listener)


def collect_expert(
    tasks: Sequence[RouteTask],
    out: Path,
    seed: int,
    refuse: Refusal,
    workers: int = 1,
    config: CollectConfig | None = None,
    demonstration: DemonstrationConfig | None = None,
    listener: Listener | None = None,
    cluster: RayCluster | None = None,
) -> None:
    """Drive `tasks` with the expert and write all attempts; arguments as in `collect_takeovers`."""
    settings = demonstration or DemonstrationConfig()
    function = partial(_drive_expert, settings=settings)
    provenance = {"kind": "demonstration", "demonstration": asdict(settings)}
    engine = executor(workers, cluster)
    _collect(function, tasks, out, seed, refuse, config, provenance, {}, engine, listener)


class _Finisher:
    """Lets the manifest follow the parts as they are committed."""

    def __init__(self, writer: Writer, told: Listener) -> None:
        self._writer, self._told = writer, told

    def progress(self, index: int, share: float) -> None:
        self._told.progress(index, share)

    def finished(self, index: int, result: Any) -> None:
        self._writer.finish()
        self._told.finished(index, result)


def _collect(
    function: Callable[[_Job, Report], JobFailure | None],
    tasks: Sequence[RouteTask],
    out: Path,
    seed: int,
    refuse: Refusal,
    config: CollectConfig | None,
    provenance: dict[str, Any],
    rates: dict[str, int],
    engine: Executor,
    listener: Listener | None,
) -> None:
    refuse(tasks)
    config = config or CollectConfig()
    meta = {
        "rig": config.rig.settings(),
        "rates": {"plan_period_us": PLAN_PERIOD_US, **rates},
        "provenance": provenance
        | {
            "seed": seed,
            "density": config.density,
            "longest_s": config.longest_s,
            "part_size": config.part_size,
            "tasks": len(tasks),
            "tasks_sha256": tasks_hash(tasks),
        },
    }
    writer = Writer(out, meta)
    jobs, start = [], 0
    for number, group in enumerate(groups(tasks, config.part_size)):
        seeds = tuple(world_seed(seed, start + k) for k in range(len(group)))
        jobs.append(_Job(out, meta, f"{number:05d}", group, seeds, config))
        start += len(group)
    names = [f"part {job.part}" for job in jobs]
    with engine.crew(function) as crew:
        results = crew.run(jobs, names, _Finisher(writer, listener or Silent()))
    writer.finish()
    failed = [result for result in results if isinstance(result, JobFailure)]
    if failed:
        raise RuntimeError(
            f"{out}: {len(failed)} of {len(jobs)} parts failed, first {failed[0]}; the others are written: "
            "run it again, or leave out what fails"
        )


def world_seed(seed: int, index: int) -> int:
    """Seed of the world of task `index`."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])


def tasks_hash(tasks: Sequence[RouteTask]) -> str:
    """SHA-256 over what makes the tasks what they are, in their order."""
    digest = hashlib.sha256()
    for task in tasks:
        digest.update(repr((task.id, task.town, task.scenarios, task.weathers)).encode())
        digest.update(np.ascontiguousarray(task.keypoints_world, np.float32).tobytes())
    return digest.hexdigest()


def _drive_policy(
    job: _Job, report: Report, make_policy: PolicyMaker, settings: TakeoverConfig, worlds: Worlds
) -> JobFailure | None:
    writer = Writer(job.out, job.meta)
    if writer.has(job.part):
        return None
    policy = make_policy()
    if policy.period_us != PLAN_PERIOD_US:
        raise ValueError(f"policy {policy.name!r} plans every {policy.period_us} us; needs {PLAN_PERIOD_US}")
    attempts = _attempts(job)
    driver = ShadowedDriver(policy, Expert(PLAN_PERIOD_US, settings.margins), attempts, settings)
    recorder = TakeoverRecorder(attempts, settings.scene_period_us)
    listeners: list[DriveListener] = [recorder, _Progress(report, len(job.tasks))]
    try:
        with worlds(job.tasks, job.seeds, job.config) as (opened, camera):
            seats = [Seat(index, world) for index, world in enumerate(opened)]
            drive(seats, driver, camera, listeners, _until_us(job), at_most=SEATS)
    except UnfitRouteError as error:
        return JobFailure(f"part {job.part}", str(error), 1)
    for seat in seats:
        driver.finish(seat.index, seat.world.time_us)
    _commit(writer, job, seats, attempts, policy.name, settings)
    return None


def _drive_expert(job: _Job, report: Report, settings: DemonstrationConfig) -> None:
    writer = Writer(job.out, job.meta)
    if writer.has(job.part):
        return
    seats = _pushed_seats(job, settings.bursts)
    attempts = _attempts(job)
    expert = Expert(PLAN_PERIOD_US, settings.margins)
    mount_m = job.config.rig.mount_m
    camera = _camera(job.config.rig)
    seeds = dict(enumerate(job.seeds))
    recorder = DemonstrationRecorder(
        camera, attempts, seeds, settings.offsets, mount_m, settings.standing_every
    )
    listeners: list[DriveListener] = [
        recorder,
        Holder(settings.holds, seeds),
        _Progress(report, len(seats)),
    ]
    drive(seats, expert, None, listeners, _until_us(job))
    _commit(writer, job, seats, attempts, expert.name, None)


class _Progress:
    """Tells which share of a part's attempts is done."""

    def __init__(self, report: Report, seats: int) -> None:
        self._report, self._seats, self._done = report, seats, 0

    def on_plan(self, seat: Seat, observation: Any, plan: Any) -> None:
        pass

    def on_tick(self, seat: Seat, ego: Any, controls: Any) -> None:
        pass

    def on_finish(self, seat: Seat) -> None:
        self._done += 1
        self._report(self._done / self._seats)


def _pushed_seats(job: _Job, bursts: Bursts) -> list[Seat]:
    seats = []
    for index, (task, seed) in enumerate(zip(job.tasks, job.seeds, strict=True)):
        world = EmbeddedWorld(load_town(task.town, job.config.maps_dir), task, seed, job.config.density)
        pushes = BurstSchedule(seed, **asdict(bursts)).bursts(LONGEST_BURSTS_US)
        seats.append(Seat(index, world, bursts=pushes))
    return seats


def _attempts(job: _Job) -> dict[int, Attempt]:
    return {k: Attempt(f"{job.part}-{k:03d}") for k in range(len(job.tasks))}


def _until_us(job: _Job) -> int:
    return round(job.config.longest_s * 1e6)


@lru_cache(maxsize=2)
def _camera(rig: Rig) -> Camera:
    return Camera.of(rig)


def _commit(
    writer: Writer,
    job: _Job,
    seats: Sequence[Seat],
    attempts: dict[int, Attempt],
    driver: str,
    settings: TakeoverConfig | None,
) -> None:
    frames: dict[str, list[Any]] = {column.name: [] for column in FRAME_COLUMNS}
    episodes, takeovers, scenes = [], [], []
    for seat, task, seed in zip(seats, job.tasks, job.seeds, strict=True):
        attempt = attempts[seat.index]
        for name, values in frame_columns(attempt).items():
            frames[name] += values
        what = {"route": task.id, "town": task.town, "scenario": scenario_type(task)}
        episodes.append(
            what
            | {
                "episode": attempt.episode,
                "part": job.part,
                "keypoints_world": np.asarray(task.keypoints_world, np.float32).ravel(),
                "seed": seed,
                "driver": driver,
                "frames": len(attempt.rows),
                "duration_us": seat.world.time_us,
            }
            | _outcome(seat.world.record())  # type: ignore[attr-defined]
        )
        takeovers += [takeover | what for takeover in attempt.takeovers]
        if settings is not None:
            spans = (settings.scenes_before_s, settings.scenes_after_s, settings.calm_period_us)
            kept = attempt.kept_scenes(*spans)
            scenes += [(attempt.episode, scene) for scene in kept]
    writer.commit(Part(job.part, episodes, takeovers, frames, scene_columns(scenes)))


def frame_columns(attempt: Attempt) -> dict[str, list[Any]]:
    """The frames of an attempt as columns of the table `frames`, with the names of their buckets."""
    columns = {c.name: [row[c.name] for row in attempt.rows] for c in FRAME_COLUMNS if c.name != "buckets"}
    arrays = {name: np.array(columns[name]) for name in BUCKET_COLUMNS}
    return columns | {"buckets": bucket_names(arrays) if attempt.rows else []}


def scenario_type(task: RouteTask) -> str:
    """Type of the first scenario of a task, "" for none."""
    return task.scenarios[0].type if task.scenarios else ""


def _outcome(record: RouteRecord) -> dict[str, Any]:
    """How an attempt ended; what fails it is what denies success in the benchmark (facts 1.5)."""
    happened = [key for key, messages in record.infractions.items() if messages]
    failing = [key for key in happened if key != MIN_SPEED_KEY]
    ticks = [tick for tick, event, _ in record.events if event in KEY_OF_EVENT]
    return {
        "success": record.finished and not failing,
        "status": record.status,
        "first_failure_us": min(ticks) * TICK_US if ticks else -1,
        "infractions": happened,
        "completion_percent": record.completion_percent,
        "scenario_note": record.scenario_reason,
        "distance_m": driven_m(record),
    }


def driven_m(record: RouteRecord) -> float:
    """Distance that the ego drove, m."""
    steps = np.diff(record.position_world[:, :2].astype(np.float64), axis=0)
    return float(np.hypot(steps[:, 0], steps[:, 1]).sum())
