"""Jobs shared by the processes of one `accelerate launch` (or `torchrun`), which all run the same program."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic

from takevla.scale.job import Crew, Function, J, JobFailure, Listener, R, Silent
from takevla.scale.threads import one_thread


@dataclass(frozen=True)
class Processes:
    """A process among those that were launched together."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks; the others only work."""
        return self.rank == 0


def processes() -> Processes:
    """The processes of this launch; one alone where nothing launched several.

    They are joined by gloo and, where there are GPUs, by NCCL for what lies on those.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return Processes()
    import torch
    import torch.distributed as dist
    from accelerate import PartialState  # type: ignore[import-untyped]

    if torch.cuda.is_available() and not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl")
    joined = not PartialState._shared_state
    state = PartialState(cpu=True)
    if joined:
        atexit.register(state.destroy_process_group)  # gloo aborts a process that leaves with it open
    return Processes(state.process_index, state.num_processes)


class Launched:
    """Every process calls with the same jobs, does its share, and gets the results of all."""

    def __init__(self, among: Processes) -> None:
        self.among = among

    @contextmanager
    def crew(self, function: Function[J, R]) -> Iterator[Crew[J, R]]:
        """See `Executor.crew`."""
        yield _Share(function, self.among)


class _Share(Generic[J, R]):
    def __init__(self, function: Function[J, R], among: Processes) -> None:
        self._function, self._among = function, among

    def run(
        self, jobs: Sequence[J], names: Sequence[str], listener: Listener | None = None
    ) -> list[R | JobFailure]:
        """See `Crew.run`.  An error ends this process, and with it the launch."""
        import torch.distributed

        told = listener or Silent()
        mine = range(self._among.rank, len(jobs), self._among.size)
        with one_thread():
            done = {
                index: self._function(jobs[index], lambda share, index=index: told.progress(index, share))  # type: ignore[misc]
                for index in mine
            }
        shares: list[Any] = [None] * self._among.size
        torch.distributed.all_gather_object(shares, done)
        results: list[R | JobFailure] = [
            shares[index % self._among.size][index] for index in range(len(jobs))
        ]
        for index, result in enumerate(results):
            told.finished(index, result)
        return results
