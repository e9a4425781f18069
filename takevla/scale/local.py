"""Jobs in this process, or on local processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic

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
from takevla.scale.memory import keep_freed_memory
from takevla.scale.threads import THREAD_VARIABLES, one_thread

STOP_S = 5.0  # how long a worker that was told to stop may take before it is killed


class InProcess:
    """One job after the other, here."""

    @contextmanager
    def crew(self, function: Function[J, R]) -> Iterator[Crew[J, R]]:
        """See `Executor.crew`."""
        yield _Here(function)


class _Here(Generic[J, R]):
    def __init__(self, function: Function[J, R]) -> None:
        self._function = function

    def run(
        self, jobs: Sequence[J], names: Sequence[str], listener: Listener | None = None
    ) -> list[R | JobFailure]:
        """See `Crew.run`."""
        told = listener or Silent()
        results: list[R | JobFailure] = []
        with one_thread():
            for index, (job, name) in enumerate(zip(jobs, names, strict=True)):
                try:
                    result = self._function(job, lambda share, index=index: told.progress(index, share))  # type: ignore[misc]
                except (ValueError, FileNotFoundError):
                    raise
                except Exception as error:
                    raise RuntimeError(f"{name}: {one_line(error)}") from error
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

    @contextmanager
    def crew(self, function: Function[J, R]) -> Iterator[Crew[J, R]]:
        """See `Executor.crew`."""
        crew = _Processes(function, self.workers, self.attempts)
        try:
            yield crew
        finally:
            _stop(crew.staff)


class _Processes(Generic[J, R]):
    def __init__(self, function: Function[J, R], workers: int, attempts: int) -> None:
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
        workers = self.staff
        while len(results) < len(jobs):
            while len(workers) < min(self.workers, len(jobs) - len(results)):
                workers.append(_start(self.function))
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
                    raise failed(names[index], value)
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
    keep_freed_memory()
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        try:
            answer = ("result", function(job, lambda share: pipe.send(("progress", share))))
        except (ValueError, FileNotFoundError) as error:
            answer = ("input", portable(error))
        except Exception as error:
            answer = ("error", (one_line(error), traceback.format_exc()))
        try:
            pipe.send(answer)
        except (BrokenPipeError, ConnectionResetError):
            return  # whoever asked is gone


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
