"""Gradients of one batch by the processes of an `accelerate launch`, each with its share of the parts.

Which parts there are, and the chance in each, do not depend on who works on them, so two processes give the
result of one within the rounding of sums.  Weights are whole in every process (DDP), or, where accelerate was
told `--use_fsdp`, sharded (FSDP2, `fully_shard`); sharded weights are gathered to be saved, so that a state
of one kind is continued by any other.
"""

from __future__ import annotations

import copy
import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from takevla.driver.vla.device import to_device
from takevla.driver.vla.model import TakeVLA
from takevla.learn.objective import Losses
from takevla.learn.replicas import PartLosses
from takevla.scale import Processes

SHARDING_VARIABLE = "ACCELERATE_USE_FSDP"  # set by `accelerate launch --use_fsdp`


class Shares:
    """One process's share of the parts, on its `device`; the process group averages the gradients."""

    def __init__(self, model: TakeVLA, count: int, among: Processes, device: torch.device) -> None:
        if count % among.size:
            raise ValueError(
                f"training: {count} parts cannot be shared by {among.size} processes; "
                f"set train.parts to a multiple of {among.size}"
            )
        own = count // among.size
        self._parts = range(among.rank * own, (among.rank + 1) * own)
        self._model = model
        if device.type == "cuda":
            torch.cuda.set_device(device)
        self.threads = 1
        self.moved: nn.Module
        self._called: nn.Module
        if os.environ.get(SHARDING_VARIABLE, "").lower() == "true":
            self.moved = self._called = _sharded(to_device(copy.deepcopy(model), device), among.size)
        else:
            # Weights that a batch does not reach are left without a gradient, as in one process.
            self.moved = to_device(model, device)
            self._called = DistributedDataParallel(
                model, forward_sync_buffers=False, find_unused_parameters=True
            )

    def backward(self, part_losses: PartLosses) -> Losses:
        """See `Gradients.backward`."""
        done = []
        for part in self._parts:
            with self._quiet(part != self._parts[-1]):
                losses = part_losses(self._called, part)
                (losses.total / len(self._parts)).backward()  # type: ignore[no-untyped-call]
            done.append(torch.stack([value.detach() for value in vars(losses).values()]))
        mean = torch.stack(done).mean(dim=0)
        dist.all_reduce(mean)
        return Losses(*(mean / dist.get_world_size()))

    def _quiet(self, more_to_come: bool) -> AbstractContextManager[None]:
        """Gradients are exchanged once, after the last part."""
        if isinstance(self._called, FSDPModule):
            self._called.set_requires_gradient_sync(not more_to_come)
        elif more_to_come:
            silent: AbstractContextManager[None] = cast(DistributedDataParallel, self._called).no_sync()
            return silent
        return nullcontext()

    def train(self, mode: bool) -> None:
        """See `Gradients.train`."""
        self._called.train(mode)
        self._model.train(mode)

    def gather(self) -> None:
        """See `Gradients.gather`."""
        if self.moved is self._model:
            return
        with torch.no_grad():
            for home, moved in zip(self._model.parameters(), self.moved.parameters(), strict=True):
                home.copy_(whole(moved.detach()))


def _sharded(model: TakeVLA, size: int) -> nn.Module:
    """The model with every transformer layer, and then the rest, sharded over all processes.  In place."""
    mesh = init_device_mesh(model.device.type, (size,))
    for part in list(model.modules()):
        if isinstance(part, nn.ModuleList):
            for layer in part:
                fully_shard(layer, mesh=mesh)
    sharded: Any = fully_shard(model, mesh=mesh)
    return cast(nn.Module, sharded)


def whole(value: torch.Tensor) -> torch.Tensor:
    """A sharded tensor put together, by all processes at once; any other as it is."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def like(weight: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """`value` on the device of `weight`, and sharded as it is, where it has its shape; the step count of an
    optimizer stays whole.
    """
    value = value.to(weight.device)
    if isinstance(weight, DTensor) and value.shape == weight.shape:
        return distribute_tensor(value, weight.device_mesh, weight.placements)
    return value
