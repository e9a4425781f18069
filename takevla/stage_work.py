"""What a stage does, without a recipe: commands call it for one stage, `rounds.py` for the whole loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from takevla.bench.drivers import load_driver
from takevla.bench.runner import evaluate
from takevla.bench.starts import standing_starts
from takevla.bench.suites import Suite, load_suite, refuse_for_training
from takevla.dataset.collect import (
    Bursts,
    CollectConfig,
    DemonstrationConfig,
    collect_expert,
    collect_takeovers,
)
from takevla.dataset.reader import Dataset
from takevla.driver.expert.margins import ORDINARY, Margins
from takevla.driver.vla.checkpoint import read_rig
from takevla.files import write_json
from takevla.learn.dream.audit import DreamAudit
from takevla.learn.dream.config import DreamConfig
from takevla.learn.dream.dreaming import dream
from takevla.learn.dream.rank import rank_drivers
from takevla.learn.dream.records import camera_of
from takevla.learn.dream.reward import preset
from takevla.learn.dream.sift import replayed_scenes, sifted
from takevla.learn.dream.verdict import world_verdict
from takevla.scale import Bar, Launched, RayCluster, executor, groups, processes
from takevla.takeover.shadow import TakeoverConfig
from takevla.world.camera.rig import Rig
from takevla.world.carla.opened import open_route
from takevla.world.maps.route_xml import RouteTask

START_S = 2.0  # of a standing start, eight frames at 4 Hz
COLLECT_PART = 44  # attempts in one part of a collection; 16 of them are driven at a time
START_PART = 32  # standing starts in one part; they are short
NO_BURSTS = Bursts(every_s=(60.0, 61.0), brake_every_s=(60.0, 61.0))  # none within a standing start


def drive_suite(
    driver: str,
    suite: Suite,
    out: Path,
    *,
    seed: int,
    workers: int,
    cluster: RayCluster | None = None,
    device: str = "cpu",
) -> None:
    """Evaluate a driver on a suite with the expert in shadow, going on with what is there."""
    evaluate(
        driver, suite.tasks, out, seeds=suite.seeds, density=suite.density, seed=seed, workers=workers,
        cluster=cluster, resume=True, suite=suite.name, shadow=True, device=device,
    )  # fmt: skip


def demonstrate(
    suites: Sequence[Suite],
    out: Path,
    *,
    seed: int,
    workers: int,
    cluster: RayCluster | None = None,
    rig: Rig | None = None,
    margins: Margins = ORDINARY,
) -> None:
    """Let the expert drive suites for training, and record it as `rig` (None: the default one) sees it."""
    tasks = [task for suite in suites for task in suite.tasks]
    config = CollectConfig(rig or Rig(), suites[0].density)
    with parts_bar("Expert drives", len(tasks), config) as bar:
        settings = DemonstrationConfig(margins=margins)
        collect_expert(tasks, out, seed, refuse_for_training, workers, config, settings, bar, cluster)


def demonstrate_starts(
    suites: Sequence[Suite],
    per_route: int,
    out: Path,
    *,
    seed: int,
    workers: int,
    cluster: RayCluster | None = None,
    rig: Rig | None = None,
    margins: Margins = ORDINARY,
) -> None:
    """As `demonstrate`, from rest at `per_route` places along each route, for two seconds each."""
    for suite in suites:
        refuse_for_training(suite)
    tasks = standing_starts([task for suite in suites for task in suite.tasks], per_route, seed)
    config = CollectConfig(rig or Rig(), suites[0].density, longest_s=START_S, part_size=START_PART)
    settings = DemonstrationConfig(bursts=NO_BURSTS, margins=margins)
    with parts_bar("Expert sets off", len(tasks), config) as bar:
        collect_expert(tasks, out, seed, refuse_for_training, workers, config, settings, bar, cluster)


def collect(
    model: Path,
    suite: Suite,
    takeover: TakeoverConfig,
    out: Path,
    *,
    seed: int,
    workers: int,
    cluster: RayCluster | None = None,
    device: str = "cpu",
) -> None:
    """Let a model drive a suite for training with the expert in shadow, and record it."""
    config = CollectConfig(read_rig(model), suite.density, part_size=COLLECT_PART)
    policy = partial(load_driver, str(model), device=device)
    with parts_bar("Model drives, expert watches", len(suite.tasks), config) as bar:
        collect_takeovers(
            suite.tasks, policy, model.name, out, seed, refuse_for_training, workers, config, takeover, bar,
            cluster=cluster,
        )  # fmt: skip


def collect_live(
    model: Path,
    tasks: Sequence[RouteTask],
    takeover: TakeoverConfig,
    out: Path,
    client: Any,
    *,
    seed: int,
    maps_dir: Path,
    device: str = "cpu",
) -> None:
    """As `collect`, on the CARLA server of `client`, one route at a time.

    The OpenDRIVE of the towns is kept in `maps_dir`, where dreams of the dataset find it.
    """
    config = CollectConfig(read_rig(model), density=0.0, part_size=1, maps_dir=maps_dir)

    def worlds(
        tasks: Sequence[RouteTask], seeds: Sequence[int], config: CollectConfig
    ) -> AbstractContextManager[Any]:
        return open_route(client, tasks, seeds, config.rig, maps_dir)

    policy = partial(load_driver, str(model), device=device)
    with parts_bar("Model drives on CARLA, expert watches", len(tasks), config) as bar:
        collect_takeovers(
            tasks, policy, model.name, out, seed, refuse_for_training, 1, config, takeover, bar, worlds
        )


def parts_bar(title: str, tasks: int, config: CollectConfig) -> Bar:
    """A progress bar over the parts of a collection."""
    return Bar(title, [float(len(part)) for part in groups(range(tasks), config.part_size)])


def audit_stage(
    takeovers: Path,
    out: Path,
    config: DreamConfig,
    *,
    seed: int,
    maps_dir: Path | None = None,
    ask_world: bool = False,
    ranked: Sequence[str] = (),
    suite: str = "train",
    most: int = 100,
    device: str = "cpu",
) -> tuple[dict[str, Any], Callable[[], None]]:
    """How true the dreams of a dataset are: the content of `out/audit.json`, which it writes, and a function
    that raises `UntrueDreamsError` where `config.limits` ask for more.

    With `ask_world`, also whether the embedded world says the same about COLLISION and RULE takeovers.  With
    `ranked`, names of drivers or checkpoint folders, also how dreams rank these against the embedded
    world, on at most `most` takeovers.  `suite` holds the routes that the dataset was collected on.
    """
    torch.set_num_threads(1)  # batches of one seat
    dataset = Dataset(takeovers)
    rebuilt = replayed_scenes(dataset, config, seed=seed, maps_dir=maps_dir)
    _, report = sifted(rebuilt, config)
    content: dict[str, Any] = report.to_json()
    world: dict[str, float] = {}
    if ask_world:
        with Bar("Ask the world", [1.0]) as bar:
            verdict = world_verdict(
                dataset, rebuilt.scenes, load_suite(suite).tasks, limits=config.limits, maps_dir=maps_dir,
                progress=lambda done, total: bar.progress(0, done / total),
            )  # fmt: skip
        content |= verdict.to_json()
        world = verdict.recalls()
    if ranked:
        drivers = {Path(name).name: load_driver(name, device=device) for name in ranked}
        with Bar("Rank drivers", [1.0]) as bar:
            content |= rank_drivers(
                dataset, rebuilt.scenes, load_suite(suite).tasks, drivers, camera_of(dataset),
                preset(config.reward, config.terms), horizon_s=config.horizon_s, most=most, seed=seed,
                limits=config.limits, maps_dir=maps_dir,
                progress=lambda done, total: bar.progress(0, done / total),
            ).to_json()  # fmt: skip
    write_json(out / "audit.json", content)
    return content, lambda: config.limits.refuse(report, world)


def dream_stage(
    model: Path,
    takeovers: Path,
    out: Path,
    config: DreamConfig,
    *,
    seed: int,
    maps_dir: Path | None = None,
    workers: int = 1,
    cluster: RayCluster | None = None,
    tasks: Sequence[RouteTask] = (),
    former: Sequence[Path] = (),
    device: str = "cpu",
) -> DreamAudit:
    """Dream with a progress bar, the roll-outs by `workers` or by the processes of `accelerate launch`.

    With the `tasks` of the dataset the embedded world is asked for its word (`learn.dream.verdict`).
    `former` are the takeovers of earlier rounds.
    """
    torch.set_num_threads(1)  # the arrays are small
    among = processes()
    engine = Launched(among) if among.size > 1 else executor(workers, cluster)
    with Bar("Dream", [1.0], show=among.leads) as bar:
        return dream(
            model, Dataset(takeovers), out, config, seed=seed, maps_dir=maps_dir, engine=engine, tasks=tasks,
            former=[Dataset(path) for path in former], device=device,
            progress=lambda done, total: bar.progress(0, done / total),
        )  # fmt: skip
