"""Jobs on a Ray cluster: one actor a worker, a fresh one for each that dies.

Only jobs, their results and words on progress travel; datasets, checkpoints and pictures are read and written
by the workers themselves, on a file system that all machines share.  A job whose worker dies is given to
another, as on local processes; what it had committed before is found and not made twice.
"""

from __future__ import annotations

import logging
import os
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic

import ray
from ray.exceptions import RayError

import takevla
from takevla.scale.job import (
    ATTEMPTS,
    Crew,
    Function,
    J,
    JobFailure,
    Listener,
    R,
    Silent,
    failed,
    one_line,
    portable,
)
from takevla.scale.threads import one_thread

ASK_EVERY_S = 0.5  # between two questions after progress
IDLE = -1


class RayActors:
    """`workers` actors of one CPU each.

    A cluster with fewer free CPUs starts fewer of them now and the others as it grows; the jobs go to those
    that are there.
    """

    def __init__(self, workers: int, address: str = "", attempts: int = ATTEMPTS) -> None:
        self.workers = workers
        self.address = address
        self.attempts = attempts

    @contextmanager
    def crew(self, function: Function[J, R]) -> Iterator[Crew[J, R]]:
        """See `Executor.crew`."""
        _connect(self.workers, self.address)
        crew: _Actors[J, R] = _Actors(ray.put(function), self.workers, self.attempts)
        try:
            yield crew
        finally:
            for worker in crew.staff:
                ray.kill(worker.actor)


@dataclass
class _Worker:
    actor: Any
    answer: Any  # reference to what it works on: its start, or a job
    job: int = IDLE
    started: bool = False


class _Actors(Generic[J, R]):
    def __init__(self, function: Any, workers: int, attempts: int) -> None:
        self.function, self.workers, self.attempts = function, workers, attempts
        self.staff: list[_Worker] = []

    def run(
        self, jobs: Sequence[J], names: Sequence[str], listener: Listener | None = None
    ) -> list[R | JobFailure]:
        """See `Crew.run`."""
        if len(jobs) != len(names):
            raise ValueError(f"{len(jobs)} jobs but {len(names)} names")
        told = listener or Silent()
        results: dict[int, R | JobFailure] = {}
        tries = [0] * len(jobs)
        waiting = deque(range(len(jobs)))
        stillborn = 0  # actors in a row that died before they took a job
        while len(results) < len(jobs):
            while len(self.staff) < min(self.workers, len(jobs) - len(results)):
                self.staff.append(_start(self.function))
            for worker in [one for one in self.staff if one.started and one.job == IDLE]:
                if waiting:
                    worker.job = waiting.popleft()
                    tries[worker.job] += 1
                    worker.answer = worker.actor.work.remote(jobs[worker.job])
            awaited = {one.answer: one for one in self.staff if one.job != IDLE or not one.started}
            ready, _ = ray.wait(list(awaited), num_returns=1, timeout=ASK_EVERY_S)
            if not ready:
                _pass_on([one for one in self.staff if one.job != IDLE], told)
                continue
            worker = awaited[ready[0]]
            index = worker.job
            try:
                kind, value, shares = ray.get(worker.answer)
            except RayError as error:  # the worker, its machine or the way to it is gone
                self.staff.remove(worker)
                ray.kill(worker.actor)
                if index == IDLE:
                    stillborn += 1
                    if stillborn >= self.attempts:
                        raise RuntimeError(f"no worker starts on the cluster: {one_line(error)}") from error
                elif tries[index] < self.attempts:
                    waiting.appendleft(index)
                else:
                    results[index] = JobFailure(
                        names[index], f"its worker died ({type(error).__name__})", tries[index]
                    )
                    told.finished(index, results[index])
                continue
            stillborn = 0
            if kind == "version":
                if value != takevla.__version__:
                    raise RuntimeError(
                        f"a machine of the cluster has takevla {value}, this one {takevla.__version__}; "
                        "install the same on all"
                    )
                worker.started = True
                continue
            for share in shares:
                told.progress(index, share)
            if kind == "input":
                raise value
            if kind == "error":
                raise failed(names[index], value)
            worker.job = IDLE
            results[index] = value
            told.finished(index, value)
        return [results[index] for index in range(len(jobs))]


@ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0, concurrency_groups={"shares": 1})
class _Actor:
    """A worker.  Its jobs run on one thread, questions after progress are answered by another."""

    def __init__(self, function: Function[Any, Any], folder: str) -> None:
        os.chdir(folder)  # so that relative paths in jobs mean what they mean to the caller
        self._function = function
        self._shares: list[float] = []

    @ray.method(concurrency_group="shares")  # type: ignore[untyped-decorator]
    def version(self) -> tuple[str, str, list[float]]:
        return "version", takevla.__version__, []

    @ray.method(concurrency_group="shares")  # type: ignore[untyped-decorator]
    def shares(self) -> list[float]:
        told, self._shares = self._shares, []
        return told

    def work(self, job: Any) -> tuple[str, Any, list[float]]:
        try:
            with one_thread():
                kind, value = "result", self._function(job, lambda share: self._shares.append(share))
        except (ValueError, FileNotFoundError) as error:
            kind, value = "input", portable(error)
        except Exception as error:
            kind, value = "error", (one_line(error), traceback.format_exc())
        return kind, value, self.shares()


def _start(function: Any) -> _Worker:
    actor = _Actor.remote(function, os.getcwd())  # type: ignore[attr-defined]
    return _Worker(actor, actor.version.remote())


def _pass_on(workers: Sequence[_Worker], told: Listener) -> None:
    """Pass on what busy workers say of their progress; one that does not answer now is asked again later."""
    asked = {worker.actor.shares.remote(): worker for worker in workers}
    ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=ASK_EVERY_S) if asked else ([], [])
    for answer in ready:
        try:
            for share in ray.get(answer):
                told.progress(asked[answer].job, share)
        except RayError:
            continue  # it has died; its job's own answer tells


def _connect(workers: int, address: str) -> None:
    """Join the cluster at `address`, or start one here; a connection that stands is kept."""
    if ray.is_initialized():
        return
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False}
    try:
        if address:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(address="local", num_cpus=workers, **quiet)
    except ConnectionError as error:
        raise ValueError(f"no Ray cluster at {address!r}: {' '.join(str(error).split())[:200]}") from error
