"""`takevla serve --alpasim` in a process of its own, driven by the loop of `carla-driver-interface`.

    python benchmarks/serve.py [--model shipped] [--steps N] [--sessions 1,4] [--json FILE]

Each session declares the two cameras below and makes N drive calls, 0.1 s of simulated time apart.  A drive
call answers after the model's commentary and plan; calls of other sessions share its batch.  Wall times hold
on a machine that does nothing else: the load average stands beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from carla_driver_interface.testing import FakeCamera, FakeLoop

from takevla.bench.provenance import git_revision, machine

CAMERAS = (
    FakeCamera("left", width=320, height=320, yaw_left_deg=32.5, fov_deg=70.0),
    FakeCamera("right", width=320, height=320, yaw_left_deg=-32.5, fov_deg=70.0),
)
SPEED_MPS = 5.0  # at the start


class TimedLoop(FakeLoop):
    """Keeps how long each drive call took, s."""

    def __init__(self, target: str) -> None:
        super().__init__(target, CAMERAS, initial_speed_mps=SPEED_MPS, timeout_s=600.0)
        self.took_s: list[float] = []
        answer = self._stub.drive

        def drive(*arguments: Any, **settings: Any) -> Any:
            began = time.perf_counter()
            response = answer(*arguments, **settings)
            self.took_s.append(time.perf_counter() - began)
            return response

        self._stub.drive = drive


def drive(port: int, steps: int) -> tuple[list[float], dict[str, float]]:
    """Times of one session's drive calls, and what came of it."""
    with TimedLoop(f"localhost:{port}") as loop:
        result = loop.run(steps)
        scalars = [one.scalars for one in result.debug if one is not None]
        found = {
            "frames": float(result.steps * len(CAMERAS)),
            "plans": float(len(scalars)),
            "metres": float(result.ego.positions[-1, 0]),
            "largest_batch": max((float(one["largest_batch"]) for one in scalars), default=0.0),
        }
        return loop.took_s, found


def measure(port: int, sessions: int, steps: int) -> dict[str, Any]:
    """So many sessions at once."""
    with ThreadPoolExecutor(sessions) as threads:
        rows = list(threads.map(drive, [port] * sessions, [steps] * sessions))
    took_ms = sorted(1e3 * second for row, _ in rows for second in row)
    return {
        "sessions": sessions,
        "frames": sum(found["frames"] for _, found in rows),
        "plans": sum(found["plans"] for _, found in rows),
        "metres": [round(found["metres"], 2) for _, found in rows],
        "largest_batch": max(found["largest_batch"] for _, found in rows),
        "ms_per_call_median": round(statistics.median(took_ms), 1),
        "ms_per_call_longest": round(took_ms[-1], 1),
        "load_average": os.getloadavg()[0],
    }


def main() -> None:
    """Serve, drive, print, stop the server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="shipped")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--sessions", default="1,4", help="numbers of sessions at once")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    command = ["serve", "--alpasim", arguments.model, "--client", "carla"]
    command += ["--port", "0", "--host", "127.0.0.1"]
    server = subprocess.Popen(
        [sys.executable, "-m", "takevla", *command], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"COLUMNS": "200"},
    )  # fmt: skip
    assert server.stdout is not None
    said = server.stdout.readline().strip()
    print(said, flush=True)
    bound = re.search(r":(\d+);", said)
    if bound is None:
        raise SystemExit(f"takevla {' '.join(command)}: did not say its port")
    rows = [measure(int(bound[1]), int(count), arguments.steps) for count in arguments.sessions.split(",")]
    server.send_signal(signal.SIGTERM)
    ended = server.wait(60)
    for row in rows:
        print(json.dumps(row), flush=True)
    print(f"the server ended with exit code {ended}")
    if arguments.json:
        content = {
            "command": f"python benchmarks/serve.py --steps {arguments.steps}",
            "git_revision": git_revision(),
            "machine": machine(),
            "rows": rows,
            "server_exit_code": ended,
        }
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
