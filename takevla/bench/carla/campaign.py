"""An evaluation by the user's own Bench2Drive checkout: the queue, the retries, and the merged results.

Routes are handed to workers in short runs of file order.  Each run is one call of the evaluator
(`attempt`); what it leaves undone goes back to the head of the queue.  A final record is committed as one
file the moment it is seen, so that an evaluation that was killed goes on with the routes that are missing.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import socket
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from takevla.bench.carla.agent_config import DEVICE
from takevla.bench.carla.attempt import (
    CHECKPOINT,
    SERVER_LOG,
    Attempt,
    Crash,
    Patience,
    Record,
    crash_of,
    last_line,
    read_records,
    run_attempt,
)
from takevla.bench.carla.checkout import Checkout, evaluator_command, evaluator_environment, server_command
from takevla.bench.carla.processes import POLL_S, end, free_ports, start
from takevla.bench.leaderboard_json import leaderboard, merged, read_results
from takevla.bench.provenance import run_facts, tree_digest
from takevla.files import write_json

RETRIES = 3  # calls that may end early over the same route, or in a row without driving any
CHUNK = 10  # routes in one call of the evaluator: CARLA leaks, and idle workers share the rest
PLAN, RECORDS, GIVEN_UP, CALLS, AGENT = "plan.json", "records", "given_up", "calls", "agent"
CRASHES = "crashes.json"


@dataclass(frozen=True)
class Campaign:
    """What the evaluation came to; also in `results.json`, `merged.json`, `crashes.json`, `run.json`."""

    out: Path
    asked: int
    scored: int
    unscored: Mapping[str, str]  # routes without a record, and why
    crashes: tuple[Mapping[str, Any], ...]  # every call that ended early, in order of time
    wall_s: float

    @property
    def agent_files(self) -> Path:
        """Folder of `SAVE_NAME/metric_info.json`."""
        return self.out / AGENT


def _name(route: str) -> str:
    return quote(route, safe="") + ".json"


class _Queue:
    """Routes to drive, shared by the workers."""

    def __init__(
        self, ids: Sequence[str], out: Path, workers: int, retries: int, tell: Callable[[str], None]
    ) -> None:
        self._workers = workers
        self.stop = threading.Event()  # set when the whole evaluation is interrupted
        self._lock = threading.Lock()
        self._todo = list(ids)
        self._order = {name: place for place, name in enumerate(ids)}
        self._early: Counter[str] = Counter()  # calls charged to a route
        self._put_off: Counter[str] = Counter()  # calls that drove nothing and asked this route first
        self._idle: list[str] = []  # routes of the last calls in a row that would have ended so over any
        self._driven = False  # some route has ended: evaluator and agent work
        self._out, self._retries, self._tell = out, retries, tell
        self.crashes: list[Mapping[str, Any]] = []
        self.stopped = ""  # why nothing is driven any more

    def take(self) -> list[str]:
        """The next routes in file order; none when all are taken or the evaluation stops."""
        with self._lock:
            if self.stopped or self.stop.is_set():
                return []
            count = min(CHUNK, math.ceil(len(self._todo) / self._workers))
            taken, self._todo = self._todo[:count], self._todo[count:]
            return taken

    def keep(self, route: str, record: Record) -> None:
        """Commit a final record."""
        write_json(self._out / RECORDS / _name(route), record)
        with self._lock:
            self._idle, self._driven = [], True
        self._tell(f"route {route}: {record['status']}, {record['scores'].get('score_composed')}")

    def done(self, asked: Sequence[str], attempt: Attempt, log: Path) -> None:
        """Take back what an attempt left undone.

        A call that drove nothing is not charged to its first route, which is put off; `retries` of them in a
        row stop the evaluation.  Only a route that is left alone with its calls, where others have ended, is
        given up for them.
        """
        rest = [name for name in asked if name not in attempt.records]
        culprit = attempt.culprit
        if culprit is None:
            return
        with self._lock:
            fact = {
                "route_id": culprit,
                "crash": attempt.crash.value,
                "reason": attempt.reason,
                "log": str(log.relative_to(self._out)),
            }
            self.crashes.append(fact)
            write_json(self._out / CRASHES, self.crashes)
            if attempt.drove and attempt.crash is not Crash.SET_UP:
                self._idle = []
                self._early[culprit] += 1
                attempts = self._early[culprit]
                hopeless = attempts >= self._retries
            else:
                self._idle.append(culprit)
                self._put_off[culprit] += not attempt.drove
                attempts = len(self._idle)
                alone = self._driven and not attempt.drove and set(self._idle) == {culprit}
                hopeless = alone and attempts >= self._retries
                if attempts >= self._retries and not alone:
                    self.stopped = f"{attempt.crash.value} {attempts} times: {attempt.reason} ({log})"
            if hopeless:
                rest.remove(culprit)
                self._idle = []
                content = {**fact, "attempts": attempts, "record": attempt.unfinished}
                write_json(self._out / GIVEN_UP / _name(culprit), content)
            self._todo = sorted(
                {*rest, *self._todo}, key=lambda name: (self._put_off[name], self._order[name])
            )
        self._tell(f"route {culprit}: {attempt.crash.value} ({attempt.reason}); log {log}")


def _listens(port: int) -> bool:
    with closing(socket.socket()) as client:
        client.settimeout(1.0)
        return client.connect_ex(("127.0.0.1", port)) == 0


def _await_server(process: subprocess.Popen[bytes], port: int, log: Path, patience: Patience) -> str:
    """Wait until the simulator listens; "" then, else why it never will."""
    until = time.monotonic() + patience.server_s
    while not _listens(port):
        if process.poll() is not None:
            return f"CARLA ended with exit code {process.returncode}: {last_line(log)}"
        if time.monotonic() > until:
            return f"CARLA does not listen on port {port} after {patience.server_s:g} s: {last_line(log)}"
        time.sleep(POLL_S)
    return ""


@dataclass(frozen=True)
class _Worker:
    """Drives runs of routes until the queue is empty, with its own ports and GPU."""

    checkout: Checkout
    driver: str
    routes: Path
    out: Path
    seed: int
    patience: Patience
    queue: _Queue
    slot: int
    gpu: int
    device: str

    def work(self) -> None:
        """Until nothing is left."""
        while ids := self.queue.take():
            folder = self.out / CALLS / f"{time.strftime('%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"
            folder.mkdir(parents=True)
            self.queue.done(ids, self._call(ids, folder), folder)

    def _call(self, ids: Sequence[str], folder: Path) -> Attempt:
        ports = free_ports(self.slot)
        checkpoint = folder / CHECKPOINT
        environment = {
            **evaluator_environment(self.checkout, self.routes, self.out / AGENT, checkpoint, ports),
            DEVICE: self.device,
        }
        command = evaluator_command(
            self.checkout, self.routes, ids, self.driver, checkpoint, ports, self.gpu, self.seed
        )
        keep, stop, cwd = self.queue.keep, self.queue.stop, self.checkout.folder
        if self.checkout.starts_carla:
            return run_attempt(command, environment, ids, folder, cwd, self.patience, keep, stop)
        log = folder / SERVER_LOG
        server = start(
            server_command(self.checkout, ports[0], self.gpu), environment, str(folder), log, folder
        )
        try:
            failure = _await_server(server, ports[0], log, self.patience)
            if failure:
                return Attempt({}, ids[0], Crash.NEVER_STARTED, failure, drove=False)
            return run_attempt(command, environment, ids, folder, cwd, self.patience, keep, stop, server)
        finally:
            end(server, str(folder))


def _begin(out: Path, settings: Mapping[str, Any], resume: bool) -> None:
    """Make `out` ready; with `resume`, records of the same settings stay.

    Raises:
        ValueError: the folder holds an evaluation with other settings.
    """
    path, wanted = out / PLAN, json.loads(json.dumps(settings))
    end(None, str(out / CALLS))  # what a killed supervisor left running
    if resume and path.is_file():
        found = json.loads(path.read_text())
        differing = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
        if differing:
            raise ValueError(
                f"{out}: holds an evaluation with another {' and '.join(differing)}; choose another folder "
                "or start it over with --resume false"
            )
    else:
        for old in (out / RECORDS).glob("*.json"):
            old.unlink()
        shutil.rmtree(out / CALLS, ignore_errors=True)
        write_json(path, settings)
    for old in (out / GIVEN_UP).glob("*.json"):  # going on means trying these again
        old.unlink()


def _take_over(out: Path, ids: Sequence[str]) -> None:
    """Commit what evaluators went on to finish after their supervisor was killed."""
    for checkpoint in sorted((out / CALLS).glob(f"*/{CHECKPOINT}")):
        for route, record in read_records(checkpoint).items():
            if route in ids and crash_of(record) is Crash.NONE and _committed(out, route) is None:
                write_json(out / RECORDS / _name(route), record)


def run_campaign(
    checkout: Checkout,
    driver: str,
    routes: Path,
    ids: Sequence[str],
    out: Path,
    *,
    workers: int = 1,
    gpus: Sequence[int] = (0,),
    retries: int = RETRIES,
    resume: bool = True,
    seed: int = 0,
    patience: Patience | None = None,
    device: str = "cpu",
    tell: Callable[[str], None] = print,
) -> Campaign:
    """Drive routes with the checkout's evaluator and our agent, and merge what comes of it.

    Args:
        checkout: as `find_checkout` gives it.
        driver: a checkpoint folder.
        routes: the route file.
        ids: its routes that are asked, in file order.
        out: folder of everything written.
        workers: evaluators, each with its own simulator, at a time.
        gpus: numbers of the graphics adapters, dealt out to the workers in turn.
        retries: after so many calls that end early over a route it is given up.
        resume: keep the records of a former call with the same settings.
        seed: of the traffic manager.
        patience: how long to wait for what.
        device: where the agents put the model's weights, as `load_driver` takes it.
        tell: hears one line for each route and each crash.

    A route that was given up keeps the record that the evaluator wrote of its crash, scored as it stands
    there; without one it is named in `unscored` and counts 0.

    Raises:
        RuntimeError: the evaluator or the agent cannot be started at all; what was driven stays.
        ValueError: the folder holds an evaluation with other settings.
    """
    began = time.monotonic()
    out = out.resolve()
    settings = {
        "world": "carla",
        "checkout": str(checkout.folder),
        "driver": driver,
        "driver_digest": tree_digest(Path(driver)),
        "routes": str(routes.resolve()),
        "routes_digest": hashlib.sha256(routes.read_bytes()).hexdigest(),
        "ids": list(ids),
        "seed": seed,
    }
    _begin(out, settings, resume)
    _take_over(out, ids)
    missing = [name for name in ids if _committed(out, name) is None]
    if missing != list(ids):
        tell(f"{len(ids) - len(missing)} of {len(ids)} routes are there already")
    queue = _Queue(missing, out, workers, retries, tell)
    crew = [
        _Worker(
            checkout, str(Path(driver).resolve()), routes.resolve(), out, seed, patience or Patience(), queue,
            slot, gpus[slot % len(gpus)], device,
        )
        for slot in range(workers)
    ]  # fmt: skip
    with ThreadPoolExecutor(workers) as pool:
        try:
            for future in [pool.submit(worker.work) for worker in crew]:
                future.result()
        except BaseException:  # an interrupt, too, must end the evaluators
            queue.stop.set()
            raise
    wall_s = time.monotonic() - began
    scored, unscored = _merge(out, ids)
    write_json(out / CRASHES, queue.crashes)
    write_json(out / "run.json", run_facts("evaluate", seed, settings | {"workers": workers}, wall_s))
    if queue.stopped:
        raise RuntimeError(f"stopped with {scored} of {len(ids)} routes driven: {queue.stopped}")
    return Campaign(out, len(ids), scored, unscored, tuple(queue.crashes), wall_s)


def _committed(out: Path, route: str) -> dict[str, Any] | None:
    path = out / RECORDS / _name(route)
    return json.loads(path.read_text()) if path.is_file() else None


def _merge(out: Path, ids: Sequence[str]) -> tuple[int, dict[str, str]]:
    """Write `results.json` and `merged.json` of all records; how many, and why others are missing."""
    records, unscored = [], {}
    for route in ids:
        record = _committed(out, route)
        given_up = out / GIVEN_UP / _name(route)
        if record is None and given_up.is_file():
            told = json.loads(given_up.read_text())
            record = told["record"]
            unscored[route] = f"given up after {told['attempts']} calls: {told['crash']}, {told['reason']}"
        if record is not None:
            unscored.pop(route, None)
            records.append(record)
        else:
            unscored.setdefault(route, "not driven")
    raw = [{**record, "index": index} for index, record in enumerate(records)]
    path = out / "results.json"
    write_json(path, {"_checkpoint": {"progress": [len(raw), len(ids)], "records": raw}})
    outcomes = read_results(path).outcomes
    whole = leaderboard(outcomes, len(ids))
    whole["_checkpoint"]["records"] = raw
    write_json(path, whole)
    united = merged(outcomes, len(ids))
    plain = [{key: value for key, value in one.items() if key != "index"} for one in raw]
    united["_checkpoint"]["records"] = sorted(plain, key=lambda one: one["route_id"], reverse=True)
    write_json(out / "merged.json", united)
    return len(raw), unscored
