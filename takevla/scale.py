"""Many independent jobs: in this process, or on local processes.

An executor takes a function, a list of jobs and their names, and gives back one result per job, in the order
of the jobs, whatever order they finished in.  The function must be importable (module level), a job and its
result picklable.  Every job runs with one thread of BLAS, OpenMP and torch, so that its floats are the same
in one process and in eight.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, Self, TypeVar

from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from threadpoolctl import threadpool_limits

J = TypeVar("J")
R = TypeVar("R")
T = TypeVar("T")

Report = Callable[[float], None]  # a running job calls it with the share of it that is done, 0..1
Function = Callable[[J, Report], R]

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
ATTEMPTS = 3  # how often a job is tried whose worker dies under it
STOP_S = 5.0  # how long a worker that was told to stop may take before it is killed


@dataclass(frozen=True, slots=True)
class JobFailure:
    """A job without a result: the job's name and, in one line, why."""

    name: str
    reason: str
    attempts: int

    def __str__(self) -> str:
        tries = f" after {self.attempts} attempts" if self.attempts > 1 else ""
        return f"{self.name}: {self.reason}{tries}"


class Listener(Protocol):
    """What the caller of an executor is told while jobs run, in the caller's own process and thread."""

    def progress(self, index: int, share: float) -> None:
        """Job `index` is `share` (0..1) done."""
        ...

    def finished(self, index: int, result: Any) -> None:
        """Job `index` has ended with a result or a `JobFailure`; once per job, in the order they end."""
        ...


class Silent(Listener):
    """A listener that does nothing."""

    def progress(self, index: int, share: float) -> None:
        """Ignore."""

    def finished(self, index: int, result: Any) -> None:
        """Ignore."""


class Executor(Protocol):
    """Runs jobs and keeps their order."""

    def run(
        self,
        function: Function[J, R],
        jobs: Sequence[J],
        names: Sequence[str],
        listener: Listener | None = None,
    ) -> list[R | JobFailure]:
        """One result or `JobFailure` per job, in the order of `jobs`.

        An exception that `function` raises stops all work and is raised here, as itself when it is a
        `ValueError` or `FileNotFoundError` (bad input), else as a `RuntimeError` that names the job and
        carries the traceback.
        """
        ...


def groups(items: Sequence[T], size: int) -> list[tuple[T, ...]]:
    """Cut `items` in order into groups of at most `size` that differ in length by at most one.

    The number of groups is even (unless a single item is all there is), so that two workers share the work
    evenly.  It depends on `len(items)` and `size` alone: the number of workers changes nothing a job sees.
    """
    if size < 1:
        raise ValueError(f"group size must be at least 1, not {size}")
    if not items:
        return []
    count = -(-len(items) // size)
    count = min(count + count % 2, len(items))
    base, longer = divmod(len(items), count)
    result, start = [], 0
    for i in range(count):
        end = start + base + (i < longer)
        result.append(tuple(items[start:end]))
        start = end
    return result


def executor(workers: int) -> Executor:
    """In-process for one worker, local processes for more."""
    if workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    return InProcess() if workers == 1 else LocalProcesses(workers)


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit BLAS, OpenMP and torch of this process to one thread, and give back what was before."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    loaded = sys.modules.get("torch")
    threads = loaded.get_num_threads() if loaded else len(os.sched_getaffinity(0))
    # Read by libraries that are imported only while a job runs.
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    if loaded:
        loaded.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):  # libraries that are loaded already
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(threads)


class InProcess:
    """One job after the other, here."""

    def run(
        self,
        function: Function[J, R],
        jobs: Sequence[J],
        names: Sequence[str],
        listener: Listener | None = None,
    ) -> list[R | JobFailure]:
        """See `Executor.run`."""
        told = listener or Silent()
        results: list[R | JobFailure] = []
        with one_thread():
            for index, (job, name) in enumerate(zip(jobs, names, strict=True)):
                try:
                    result = function(job, lambda share, index=index: told.progress(index, share))  # type: ignore[misc]
                except (ValueError, FileNotFoundError):
                    raise
                except Exception as error:
                    raise RuntimeError(f"{name}: {_one_line(error)}") from error
                results.append(result)
                told.finished(index, result)
        return results


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    job: int  # index of the job it works on, -1 when idle


class LocalProcesses:
    """Spawned worker processes on this machine.

    A worker that dies (out of memory, killed, a crash in native code) is noticed at once; its job is tried
    again in a fresh worker, up to `attempts` times, and then given up as a `JobFailure`; the others go on.
    """

    def __init__(self, workers: int, attempts: int = ATTEMPTS) -> None:
        self.workers = workers
        self.attempts = attempts

    def run(
        self,
        function: Function[J, R],
        jobs: Sequence[J],
        names: Sequence[str],
        listener: Listener | None = None,
    ) -> list[R | JobFailure]:
        """See `Executor.run`."""
        if len(jobs) != len(names):
            raise ValueError(f"{len(jobs)} jobs but {len(names)} names")
        told = listener or Silent()
        results: dict[int, R | JobFailure] = {}
        tries = [0] * len(jobs)
        waiting = deque(range(len(jobs)))
        workers: list[_Worker] = []
        try:
            while len(results) < len(jobs):
                while len(workers) < min(self.workers, len(jobs) - len(results)):
                    workers.append(_start(function))
                for worker in [one for one in workers if one.job < 0]:
                    if waiting:
                        _give(worker, waiting, jobs, tries)
                # A dead worker's pipe reports end of file, so its sentinel need not be waited for as well.
                ready = wait([worker.pipe for worker in workers if worker.job >= 0])
                for worker in [one for one in workers if one.pipe in ready]:
                    index = worker.job
                    try:
                        kind, value = worker.pipe.recv()
                    except (EOFError, OSError):
                        workers.remove(worker)
                        death = _death(worker)
                        if tries[index] < self.attempts:
                            waiting.appendleft(index)
                        else:
                            results[index] = JobFailure(names[index], death, tries[index])
                            told.finished(index, results[index])
                        continue
                    if kind == "progress":
                        told.progress(index, value)
                    elif kind == "result":
                        worker.job = -1
                        results[index] = value
                        told.finished(index, value)
                    elif kind == "input":
                        raise value
                    else:
                        raise RuntimeError(f"{names[index]}: {value}")
        finally:
            _stop(workers)
        return [results[index] for index in range(len(jobs))]


def _give(worker: _Worker, waiting: deque[int], jobs: Sequence[Any], tries: list[int]) -> None:
    """Give an idle worker the next job; one that died while idle is noticed when its answer is awaited."""
    worker.job = waiting.popleft()
    tries[worker.job] += 1
    with suppress(BrokenPipeError, ConnectionResetError):
        worker.pipe.send(jobs[worker.job])


def _start(function: Function[Any, Any]) -> _Worker:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(function, there), daemon=True)
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))  # the child reads them when it imports
    try:
        process.start()
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    there.close()  # so that the worker's death closes the pipe
    return _Worker(process, here, -1)


def _work(function: Function[Any, Any], pipe: Connection) -> None:
    """The life of a worker: take a job, answer it, until the pipe closes."""
    # An interrupt from the terminal is the parent's to handle: it stops its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        try:
            answer = ("result", function(job, lambda share: pipe.send(("progress", share))))
        except (ValueError, FileNotFoundError) as error:
            answer = ("input", type(error)(*error.args))
        except Exception as error:
            answer = ("error", f"{_one_line(error)}\n{traceback.format_exc()}")
        try:
            pipe.send(answer)
        except (BrokenPipeError, ConnectionResetError):
            return  # whoever asked is gone


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _death(worker: _Worker) -> str:
    worker.process.join(STOP_S)
    code = worker.process.exitcode
    worker.pipe.close()
    if code is None:
        worker.process.kill()
        return "its worker closed its pipe"
    return f"its worker died ({f'signal {-code}' if code < 0 else f'exit code {code}'})"


def _stop(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.pipe.close()
        if worker.job >= 0:  # still busy: the caller gave up, so the result is not wanted
            worker.process.terminate()
    for worker in workers:
        worker.process.join(STOP_S)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


class Bar:
    """A listener that shows a progress bar with the time left.  Use as a context manager.

    `weights` says how much work each job is (routes, say); `show` False prints nothing.
    """

    def __init__(self, title: str, weights: Sequence[float], show: bool = True) -> None:
        self._weights = list(weights)
        self._shares = [0.0] * len(self._weights)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            disable=not show,
            transient=False,
        )
        self._task = self._bar.add_task(title, total=sum(self._weights) or 1.0)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def progress(self, index: int, share: float) -> None:
        """See `Listener`."""
        self._shares[index] = max(self._shares[index], min(share, 1.0))
        done = sum(weight * part for weight, part in zip(self._weights, self._shares, strict=True))
        self._bar.update(self._task, completed=done)

    def finished(self, index: int, result: Any) -> None:
        """See `Listener`."""
        self.progress(index, 1.0)
