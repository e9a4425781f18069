"""One training loop for pretraining and fine-tuning, that a kill cannot change the outcome of.

Which samples a step sees is fixed before the first step; all chance of a step comes from its number;
weights, optimizer moments and the step number are written together, atomically.  So a run that was
killed and started again ends with the very weights of one that was not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from takevla.driver.vla.config import TakeVLAConfig
from takevla.driver.vla.device import CPU, half_precision_on, to_device, torch_device
from takevla.driver.vla.inputs import image_inputs
from takevla.driver.vla.model import TakeVLA
from takevla.files import write_whole
from takevla.learn.augment import augment
from takevla.learn.objective import Losses, supervised_losses
from takevla.learn.replicas import Gradients, Replicas
from takevla.learn.samples import Batch, Samples, make_batch
from takevla.learn.settings import TrainConfig
from takevla.learn.shares import Shares, like, whole
from takevla.scale import keep_freed_memory, processes

STATE_FILE = "trainer.safetensors"
CURVES_FILE = "curves.json"


@dataclass(frozen=True)
class Point:
    """One point of the learning curves: means over the steps since the one before."""

    step: int
    learning_rate: float
    total: float
    words: float
    route: float
    waypoints: float
    sight: float = 0.0


class Trainer:
    """Trains `model`'s trainable weights on `samples` in the order that `draws` gives.

    Args:
        model: weights with `requires_grad` are moved, all others stay as they are.
        samples: the samples.
        draws: (steps * batch_size,) sample numbers; a rest that fills no batch is left out.
        config: how.
        out: folder for the state and the curves; a state found there is continued.
        device: where, as `torch_device` names it.  A state of one device is continued on any other.
    """

    def __init__(
        self,
        model: TakeVLA,
        samples: Samples,
        draws: NDArray[np.int64],
        config: TrainConfig,
        out: Path,
        device: str = CPU,
    ) -> None:
        self.model = model
        self.samples = samples
        self.config = config
        self.out = out
        self.steps = len(draws) // config.batch_size
        if self.steps == 0:
            raise ValueError(f"training: {len(draws)} draws do not fill one batch of {config.batch_size}")
        self.draws = draws[: self.steps * config.batch_size].reshape(self.steps, config.batch_size)
        if not any(value.requires_grad for value in model.parameters()):
            raise ValueError("training: no weight is trainable; unfreeze some or ask for LoRA")
        for name, value in model.named_parameters():
            if value.requires_grad and value.dtype.itemsize < torch.float32.itemsize:
                raise ValueError(
                    f"training: {name} is {value.dtype}, in which small steps are lost; "
                    "`takevla.driver.vla.lora.prepare` makes the weights that move float32"
                )
        among = processes()
        self.leads = among.leads
        where = torch_device(device)
        self.replicas: Gradients = (
            Replicas(to_device(model, where), config.parts)  # type: ignore[assignment]
            if among.size == 1
            else Shares(model, config.parts, among, where)
        )
        self.trained = {
            name: value for name, value in self.replicas.moved.named_parameters() if value.requires_grad
        }
        decayed = [value for value in self.trained.values() if value.ndim >= 2]
        others = [value for value in self.trained.values() if value.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": config.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            betas=config.betas,
            fused=True,
        )
        self.step = 0
        self.curves: list[Point] = []

    def run(self, stop_after: int | None = None, show: bool = True) -> list[Point]:
        """Train to the last step (or `stop_after`), from where the state in `out` left off."""
        torch.set_num_threads(self.replicas.threads)
        keep_freed_memory()
        self.out.mkdir(parents=True, exist_ok=True)
        self._resume()
        self.replicas.train(True)
        speaks = self.leads and self.step < self.steps
        trackers = _start_trackers(self.config.trackers, self.out) if speaks else []
        last = self.steps if stop_after is None else min(stop_after, self.steps)
        window: list[Losses] = []
        with _progress(show and self.leads) as progress:
            task = progress.add_task("training", total=self.steps, completed=self.step, loss="")
            while self.step < last:
                window.append(self.advance())
                progress.update(task, completed=self.step)
                if self.step % self.config.log_every == 0 or self.step == self.steps:
                    point = self._point(window)
                    window = []
                    self.curves.append(point)
                    progress.update(task, loss=f"loss {point.total:.3f}")
                    for tracker in trackers:
                        tracker.log(_numbers(point), step=point.step)
                if self.step % self.config.save_every == 0 or self.step == self.steps:
                    self._save()
        for tracker in trackers:
            tracker.finish()
        self.replicas.train(False)
        self.replicas.gather()
        return self.curves

    def advance(self) -> Losses:
        """One step of the optimizer."""
        config = self.config
        size = config.batch_size // config.parts

        def part_losses(model: nn.Module, part: int) -> Losses:
            seed = _seed(config.seed, self.step, part)
            torch.manual_seed(seed)  # dropout of adapters
            drawn = self.draws[self.step, part * size : (part + 1) * size]
            batch = make_batch(self.samples, drawn, self.model.config.pad_token_id)
            return batch_losses(model, batch, config, torch.Generator().manual_seed(seed))

        losses = self.replicas.backward(part_losses)
        norm = nn.utils.clip_grad_norm_(self.trained.values(), config.gradient_clip)
        if not math.isfinite(float(whole(norm))):
            raise ValueError(f"training: gradient not finite at step {self.step}; lower the learning rate")
        rate = learning_rate(config, self.step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return losses

    def _point(self, window: Sequence[Losses]) -> Point:
        def mean(name: str) -> float:
            return round(float(torch.stack([getattr(losses, name) for losses in window]).mean()), 6)

        rate = learning_rate(self.config, self.step - 1, self.steps)
        names = ("total", "words", "route", "waypoints", "sight")
        return Point(self.step, rate, *(mean(name) for name in names))

    def _save(self) -> None:
        tensors = {}
        for name, value in self.trained.items():
            tensors[f"weight.{name}"] = whole(value.detach()).cpu().contiguous()
            for key, moment in self.optimizer.state[value].items():
                tensors[f"moment.{key}.{name}"] = whole(moment).cpu()
        if not self.leads:
            return
        note = {"step": self.step, "plan": self._plan(), "curves": [_numbers(p) for p in self.curves]}
        beside = self.out / f"{STATE_FILE}.partial"
        save_file(tensors, beside, metadata={"takevla": json.dumps(note)})
        beside.replace(self.out / STATE_FILE)
        curves = self.out / f"{CURVES_FILE}.partial"
        curves.write_text(json.dumps([_numbers(point) for point in self.curves], indent=1) + "\n")
        curves.replace(self.out / CURVES_FILE)

    def _resume(self) -> None:
        path = self.out / STATE_FILE
        if not path.is_file():
            return
        with safe_open(path, framework="pt") as state:
            note = json.loads(state.metadata()["takevla"])
            if note["plan"] != self._plan():
                raise ValueError(
                    f"{path}: belongs to a training with other data or settings; choose another folder "
                    "or remove it"
                )
            with torch.no_grad():
                for name, value in self.trained.items():
                    value.copy_(like(value, state.get_tensor(f"weight.{name}")))
                    self.optimizer.state[value] = {
                        key: like(value, state.get_tensor(f"moment.{key}.{name}"))
                        for key in ("step", "exp_avg", "exp_avg_sq")
                    }
        self.step = int(note["step"])
        self.curves = [Point(**{**point, "step": int(point["step"])}) for point in note["curves"]]

    def _plan(self) -> str:
        """What must be equal for a state to be continued: order of samples, settings, weights' names."""
        settings = {key: str(value) for key, value in vars(self.config).items() if key not in _FREE}
        checksum = int(np.bitwise_xor.reduce(self.draws.ravel() * np.arange(1, self.draws.size + 1)))
        return json.dumps([self.draws.shape, checksum, settings, sorted(self.trained)], sort_keys=True)


_FREE = frozenset({"save_every", "log_every", "trackers"})  # settings that do not touch the weights


def batch_losses(model: nn.Module, batch: Batch, config: TrainConfig, generator: torch.Generator) -> Losses:
    """Losses of one batch after augmentation, on the model's device; `model` is a `TakeVLA`, perhaps wrapped
    for processes.
    """
    driving: Any = getattr(model, "module", model)
    shape: TakeVLAConfig = driving.config
    device = driving.device
    changed = augment(batch, config.augmentation, generator)
    images = to_device(image_inputs(changed.images, shape), device)
    there = to_device(changed.batch, device)
    with torch.autocast(
        device.type, torch.bfloat16, enabled=half_precision_on(device, config.half_precision)
    ):
        output = model(images, there.navigation, there.words, changed.words_heard.to(device))
    return supervised_losses(output, there, config.weights, shape.pad_token_id, shape.eos_token_id)


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """Rate of `step` of `steps`: linear rise, then cosine fall."""
    rise = min(1.0, (step + 1) / max(1, config.warmup_steps))
    done = min(1.0, max(0.0, (step - config.warmup_steps) / max(1, steps - config.warmup_steps)))
    fall = config.final_rate_share + (1.0 - config.final_rate_share) * 0.5 * (1.0 + math.cos(math.pi * done))
    return config.learning_rate * rise * fall


def _seed(seed: int, step: int, part: int) -> int:
    return int(np.random.SeedSequence([seed, step, part]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _numbers(point: Point) -> dict[str, float]:
    return dict(vars(point))


def _start_trackers(names: Sequence[str], out: Path) -> list[Any]:
    """Accelerate's trackers of these names, writing below `out`."""
    if not names:
        return []
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS  # type: ignore[import-untyped]

    started = []
    for name in names:
        kind: Any = LOGGER_TYPE_TO_CLASS.get(name)
        if kind is None:
            raise ValueError(f"trackers: {name!r} is not one of {sorted(LOGGER_TYPE_TO_CLASS)}")
        tracker = kind("takevla", logging_dir=out) if kind.requires_logging_directory else kind("takevla")
        if hasattr(tracker, "start"):
            tracker.start()
        started.append(tracker)
    return started


def _progress(show: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
        disable=not show,
    )


def write_notes(path: Path, notes: Mapping[str, Any]) -> None:
    """JSON beside a checkpoint, written whole, by the process that leads."""
    if not processes().leads:
        return
    write_whole(path, (json.dumps(notes, indent=1, sort_keys=True, default=str) + "\n").encode())
