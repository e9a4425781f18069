"""Jobs on a Ray cluster: same bytes as in process, with a killed worker too; time with 1 and 2 workers.

    python benchmarks/scale.py [--json FILE] [--routes N] [--seconds S]

The expert's collection of N routes, S seconds of each, is made in process, on Ray with one and with two
workers, and on Ray with two of which one is killed (SIGKILL) while it drives.  Wall times hold on a machine
that does nothing else: the load average stands beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import ray

from takevla.bench.provenance import git_revision, machine, tree_digest
from takevla.bench.suites import load_suite, refuse_for_training
from takevla.dataset.collect import CollectConfig, collect_expert
from takevla.scale import RayCluster, Silent

PART_SIZE = 2
BUSY = b"ray::_Actor.work"  # how Ray names a process that is at a job


class Watcher(Silent):
    """Counts how often each job ends; kills one busy worker of this cluster when told to."""

    def __init__(self, kill: bool) -> None:
        self.kill = kill
        self.killed: int | None = None
        self.ended: list[int] = []
        self.stored = 0.0  # greatest use of the object store seen, bytes

    def progress(self, index: int, share: float) -> None:
        """A job goes on; the first one's worker may die for it."""
        if self.kill and self.killed is None:
            self.killed = _busy_worker()
            if self.killed is not None:
                os.kill(self.killed, signal.SIGKILL)

    def finished(self, index: int, result: Any) -> None:
        """A job has ended."""
        self.ended.append(index)
        if ray.is_initialized():
            name = "object_store_memory"
            used = ray.cluster_resources()[name] - ray.available_resources().get(name, 0.0)
            self.stored = max(self.stored, used)


def _busy_worker() -> int | None:
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


def measure(
    what: str, out: Path, routes: int, seconds: float, workers: int, cluster: bool, kill: bool
) -> dict[str, Any]:
    """One collection."""
    watcher = Watcher(kill)
    if cluster:  # starting Ray is told apart
        began = time.monotonic()
        ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False)
        start_s = time.monotonic() - began
    began = time.monotonic()
    collect_expert(
        load_suite("train").tasks[:routes], out, 0, refuse_for_training, workers,
        CollectConfig(longest_s=seconds, part_size=PART_SIZE), listener=watcher,
        cluster=RayCluster() if cluster else None,
    )  # fmt: skip
    row = {
        "what": what,
        "wall_s": round(time.monotonic() - began, 2),
        "sha256": tree_digest(out),
        "bytes": sum(file.stat().st_size for file in out.rglob("*") if file.is_file()),
        "jobs_ended": sorted(watcher.ended),
        "load_average": os.getloadavg()[0],
    }
    if cluster:
        row |= {"ray_start_s": round(start_s, 2), "object_store_bytes": watcher.stored}
        ray.shutdown()
    if kill:
        row["killed_pid"] = watcher.killed
    return row


def main() -> None:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--routes", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for what, workers, cluster, kill in (
            ("in process", 1, False, False),
            ("ray, 2 workers, one killed", 2, True, True),
            ("ray, 2 workers", 2, True, False),
            ("ray, 1 worker", 1, True, False),
        ):
            out = Path(folder) / str(len(rows))
            rows.append(measure(what, out, arguments.routes, arguments.seconds, workers, cluster, kill))
            print(json.dumps(rows[-1]), flush=True)
            if rows[-1]["sha256"] != rows[0]["sha256"]:
                raise SystemExit(f"{what}: other bytes than in process")
            if kill and rows[-1]["killed_pid"] is None:
                raise SystemExit("no worker was killed: the jobs were too short; give more --seconds")
            if arguments.json:
                found = {
                    "command": f"python benchmarks/scale.py --routes {arguments.routes} --seconds "
                    f"{arguments.seconds}",
                    "git_revision": git_revision(), "ray": ray.__version__, "machine": machine(),
                    "rows": rows,
                }  # fmt: skip
                arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
