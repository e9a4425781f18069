"""Supervised fine-tuning on takeovers: what should have been said before, and done after.

The mixture is audited: pre-training frames keep the old skill, frames before a takeover teach the
enhanced commentary (by language alone unless the recipe says otherwise: the expert was not driving
there, so its plan does not answer the model's own approach), frames of the takeover teach language
and action.  An expert who watches all along (a program, not a person) can teach more: what it would have
said and done where the model itself drove, as DAgger does; not within the window before a takeover, which is
the pre-takeover share's alone, also where that share is 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from takevla.dataset.mixture import Mixture
from takevla.dataset.reader import Dataset
from takevla.driver.vla.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from takevla.driver.vla.device import CPU
from takevla.driver.vla.lora import ADAPTERS_FOLDER, merge, prepare, save_adapters
from takevla.learn.balance import check_buckets
from takevla.learn.gather import Gathering
from takevla.learn.pretrain import MODEL_FOLDER
from takevla.learn.samples import common_rig
from takevla.learn.settings import SftConfig
from takevla.learn.trainer import Trainer, write_notes
from takevla.scale import processes


def sft(
    config: SftConfig,
    start: Path,
    pretraining: Path | Sequence[Path],
    takeovers: Path | Sequence[Path],
    out: Path,
    show: bool = True,
    extra_expert: Path | Sequence[Path] = (),
    device: str = CPU,
) -> Path:
    """Fine-tune the checkpoint `start` and return the folder of the new one.

    With `extra_expert`, datasets of the expert driving by himself, the takeovers only say how much is
    learnt: as many frames as they would give, or as could be drawn if they gave more, are taken of those
    instead, for their whole share of the mixture, balanced as those of pre-training are.  That is the control
    of a gain: as many frames and steps, no takeovers.
    `device` says where it trains, as `torch_device` names it.

    Writes into `out`: the trainer's state and curves, `mixture.json`, `sft.json`, `model/` and,
    with LoRA, `adapters/`.
    A killed run continues where it was.  A residual head of `start` is left behind: it was fitted to
    plans that fine-tuning moves.
    """
    rehearsed, taught, extra = _open(pretraining), _open(takeovers), _open(extra_expert)
    check_buckets(config.bucket_weights, [*rehearsed, *taught, *extra])
    rig = common_rig([*rehearsed, *taught, *extra])
    checkpoint = load_checkpoint(start)
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    torch.manual_seed(config.train.seed)
    prepare(model, config.trainable)
    gathering = Gathering(config, model.config, tokenizer)
    for dataset in rehearsed:
        gathering.rehearse(dataset)
    if extra:
        gathering.teach_instead(taught, extra)
    else:
        gathering.teach(taught)
    buckets = gathering.buckets()
    draws = _draws(config, buckets, gathering.ratios(), out)
    trainer = Trainer(model, gathering.samples(), draws, config.train, out, device)
    trainer.run(show=show)
    if config.trainable.lora_rank > 0 and trainer.leads:
        save_adapters(model, out / ADAPTERS_FOLDER)
    merge(model)
    if trainer.leads:
        save_checkpoint(out / MODEL_FOLDER, Checkpoint(model, tokenizer, rig=rig))
    write_notes(
        out / "sft.json",
        {
            "recipe": asdict(config),
            "start": start.name,
            "frames": {bucket: len(rows) for bucket, rows in buckets.items()},
            "frames_of_takeovers": dict(gathering.taken),
            "trained_weights": int(sum(value.numel() for value in trainer.trained.values())),
        },
    )
    return out / MODEL_FOLDER


def _draws(
    config: SftConfig, members: Mapping[str, NDArray[np.int64]], ratios: Mapping[str, float], out: Path
) -> NDArray[np.int64]:
    """The order of samples, with its audit written to `out`."""
    mixture = Mixture(members, ratios, config.train.seed, max_repeats=config.max_repeats)
    order, audit = mixture.drawn(config.draws)
    out.mkdir(parents=True, exist_ok=True)
    if processes().leads:
        audit.write(out / "mixture.json")
        if audit.draws < config.draws:
            Console(stderr=True).print(
                f"sft.draws: {config.draws} are asked, {audit.draws} can be drawn with sft.max_repeats "
                f"{config.max_repeats}; it learns from those",
                highlight=False,
            )
    return order


def _open(paths: Path | Sequence[Path]) -> list[Dataset]:
    return [Dataset(path) for path in ([paths] if isinstance(paths, Path) else paths)]
