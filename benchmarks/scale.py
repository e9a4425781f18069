"""Collection, evaluation and dreaming by one and two workers, here and on Ray: times, and are bytes equal?

    python benchmarks/scale.py [--json FILE] [--routes N] [--seconds S] [--updates U] [--scenes K]

Three workloads: the expert drives N training routes, S seconds of each, and is recorded; it drives the N
shortest routes of `mini44` to their end and is scored; a residual head learns for U updates in K made-up
scenes.  Each is done in process, by two local processes, on Ray with one and with two workers, and by two
workers of each kind of which one is killed (SIGKILL) at work.  Ratios are to the time in process of the
same run; they hold on a machine that does nothing else, and the load average stands beside each.  What a
worker takes to start (imports, compiled loops) is in its time, that of Ray itself apart.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from dream_stage import ANCHORS, GROUP, SEED, made_up_scenes, reading

from takevla.bench.provenance import git_revision, machine, tree_digest
from takevla.bench.runner import evaluate
from takevla.bench.suites import load_suite, refuse_for_training
from takevla.dataset.collect import CollectConfig, collect_expert
from takevla.learn.dream.config import DreamConfig
from takevla.learn.dream.dreamer import Dreamer
from takevla.learn.dream.rollouts import RollOuts
from takevla.learn.dream.scenes import STEP_S
from takevla.scale import RayCluster, Silent, executor

PART_SIZE = 2
WIDTH = 512  # of the shipped model's features
BUSY = b"ray::_Actor.work"  # how Ray names a process that is at a job
LOOK_EVERY_S = 0.02
WALL_CLOCK = ("duration_system_s", "duration_system", "wall_s")

Work = Callable[[Path, int, RayCluster | None], dict[str, Any]]
"""Does a workload in a new folder with so many workers; gives `sha256` and what it counted."""


@dataclass(frozen=True)
class Way:
    """How the jobs are run."""

    name: str
    workers: int = 1
    on_ray: bool = False
    kill: bool = False


WAYS = (
    Way("in process"),
    Way("local, 2 workers", 2),
    Way("local, 2 workers, one killed", 2, kill=True),
    Way("ray, 1 worker", 1, on_ray=True),
    Way("ray, 2 workers", 2, on_ray=True),
    Way("ray, 2 workers, one killed", 2, on_ray=True, kill=True),
)


class Ended(Silent):
    """Counts how often each job ends."""

    def __init__(self) -> None:
        self.jobs: list[int] = []

    def finished(self, index: int, result: Any) -> None:
        """A job has ended."""
        self.jobs.append(index)


def collecting(routes: int, seconds: float, out: Path, workers: int, cluster: RayCluster | None) -> Any:
    """The expert drives, pictures are written."""
    ended = Ended()
    collect_expert(
        load_suite("train").tasks[:routes], out, SEED, refuse_for_training, workers,
        CollectConfig(longest_s=seconds, part_size=PART_SIZE), listener=ended, cluster=cluster,
    )  # fmt: skip
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    return {"sha256": tree_digest(out), "bytes": size, "jobs_ended": sorted(ended.jobs)}


def evaluating(routes: int, out: Path, workers: int, cluster: RayCluster | None) -> Any:
    """The expert drives whole routes and is scored."""
    suite = load_suite("mini44")
    short = sorted(range(len(suite.tasks)), key=lambda number: _length_m(suite.tasks[number]))[:routes]
    done = evaluate(
        "expert", [suite.tasks[number] for number in short], out,
        seeds=[suite.seeds[number] for number in short], density=suite.density, seed=SEED, workers=workers,
        cluster=cluster, show=False,
    )  # fmt: skip
    files = sorted([*(out / "routes").glob("route-*.json"), out / "results.json"])
    content = [_timeless(json.loads(file.read_text())) for file in files]
    return {
        "sha256": _sha256(json.dumps(content).encode()),
        "routes_scored": done.metrics["routes_scored"],
        "driving_score": done.metrics["driving_score"],
    }


def dreaming(scenes: int, updates: int, out: Path, workers: int, cluster: RayCluster | None) -> Any:
    """A head learns; only its roll-outs are shared."""
    config = DreamConfig(group=GROUP, updates=updates, anchors=ANCHORS)
    dreamed = made_up_scenes(scenes, round(config.horizon_s / STEP_S))
    base, anchor = reading(dreamed, WIDTH)
    rollouts = RollOuts.of(dreamed, config.reward, config.terms, config.horizon_s)
    with executor(workers, cluster).crew(rollouts) as crew:
        dreamer = Dreamer(dreamed, base, anchor, config, SEED, crew)
        while dreamer.update < updates:
            dreamer.step()
    weights = b"".join(value.numpy().tobytes() for value in dreamer.head.state_dict().values())
    return {
        "sha256": _sha256(weights + json.dumps(dreamer.curves).encode()),
        "updates": len(dreamer.curves),
    }


def measure(work: Work, way: Way) -> dict[str, Any]:
    """One workload, done in one way."""
    row: dict[str, Any] = {"way": way.name}
    if way.on_ray:  # starting Ray is told apart
        began = time.monotonic()
        ray.init(address="local", num_cpus=way.workers, include_dashboard=False, log_to_driver=False)
        row["ray_start_s"] = round(time.monotonic() - began, 2)
    with tempfile.TemporaryDirectory() as folder, Killer(way) as killer:
        began = time.monotonic()
        found = work(Path(folder) / "out", way.workers, RayCluster() if way.on_ray else None)
        row["wall_s"] = round(time.monotonic() - began, 2)
    row |= found | {"load_average": round(os.getloadavg()[0], 2)}
    if way.on_ray:
        row["object_store_bytes"] = killer.stored
        ray.shutdown()
    if way.kill:
        row["killed"] = killer.killed is not None
    return row


class Killer:
    """Watches the workers of one run: kills a busy one where asked to, notes what the object store holds."""

    def __init__(self, way: Way) -> None:
        self.killed: int | None = None
        self.stored = 0.0  # greatest use of the object store seen, bytes
        self._way = way
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Killer:
        if self._way.kill or self._way.on_ray:
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        looked = 0.0
        while not self._over.wait(LOOK_EVERY_S):
            if self._way.kill and self.killed is None:
                self.killed = _busy_actor() if self._way.on_ray else _busy_process()
                if self.killed is not None:
                    os.kill(self.killed, signal.SIGKILL)
            if self._way.on_ray and time.monotonic() > looked + 0.5:
                looked, name = time.monotonic(), "object_store_memory"
                used = ray.cluster_resources().get(name, 0.0) - ray.available_resources().get(name, 0.0)
                self.stored = max(self.stored, used)


def _busy_actor() -> int | None:
    """A worker of this program's Ray that is at a job."""
    session = Path(ray._private.worker._global_node.get_session_dir_path()).name.encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if not (entry / "cmdline").read_bytes().startswith(BUSY):
                continue
            parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[1]
            if session in Path(f"/proc/{parent}/cmdline").read_bytes():
                return int(entry.name)
        except OSError:
            continue  # it ended meanwhile
    return None


def _busy_process() -> int | None:
    """A local worker that has spent a second of a core; it had its job from the start."""
    for child in multiprocessing.active_children():
        try:
            fields = Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") > 1.0:
            return child.pid
    return None


def _length_m(task: Any) -> float:
    return float(np.linalg.norm(np.diff(task.keypoints_world[:, :2], axis=0), axis=1).sum())


def _timeless(content: Any) -> Any:
    """JSON content without what a clock says."""
    if isinstance(content, dict):
        return {key: _timeless(value) for key, value in content.items() if key not in WALL_CLOCK}
    if isinstance(content, list):
        return [_timeless(value) for value in content]
    return content


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main() -> None:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--routes", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--updates", type=int, default=60)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # in process as in a worker
    workloads: dict[str, Work] = {
        "collection": partial(collecting, arguments.routes, arguments.seconds),
        "evaluation": partial(evaluating, arguments.routes),
        "dreaming": partial(dreaming, arguments.scenes, arguments.updates),
    }
    settings = f"--routes {arguments.routes} --seconds {arguments.seconds:g} --scenes {arguments.scenes}"
    content: dict[str, Any] = {
        "command": f"python benchmarks/scale.py {settings} --updates {arguments.updates}",
        "git_revision": git_revision(), "ray": ray.__version__, "machine": machine(), "workloads": {},
    }  # fmt: skip
    for name, work in workloads.items():
        rows: list[dict[str, Any]] = []
        content["workloads"][name] = rows
        for way in WAYS:
            row = measure(work, way)
            rows.append(row)
            row["equal"] = row["sha256"] == rows[0]["sha256"]
            row["times_faster"] = round(rows[0]["wall_s"] / row["wall_s"], 2)
            print(name, json.dumps(row), flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            if not row["equal"]:
                raise SystemExit(f"{name}, {way.name}: other bytes than in process")
            if not row.get("killed", True):
                raise SystemExit(f"{name}, {way.name}: no worker was killed, the jobs were too short")


if __name__ == "__main__":
    main()
