"""Pretraining: the base VLA from expert driving, balanced by bucket from the first step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from takevla.dataset.reader import Dataset
from takevla.driver.vla.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from takevla.driver.vla.device import CPU
from takevla.driver.vla.inputs import tiny_config
from takevla.driver.vla.lora import ADAPTERS_FOLDER, merge, prepare, save_adapters
from takevla.driver.vla.model import TakeVLA
from takevla.driver.vla.named import model_folder
from takevla.driver.vla.tokenizer import build_tokenizer
from takevla.driver.vla.vision import ConvVisionConfig
from takevla.learn.balance import check_buckets, demonstrated, frame_strata, weighted_draws
from takevla.learn.samples import Samples, common_rig, frame_samples, join_samples
from takevla.learn.settings import PretrainConfig
from takevla.learn.sight import SIGHT_OUTPUTS
from takevla.learn.trainer import Trainer, write_notes
from takevla.learn.validation import Validation, validate
from takevla.scale import processes
from takevla.takeover.commentary import corpus

MODEL_FOLDER = "model"


def pretrain(
    config: PretrainConfig, data: Path | Sequence[Path], out: Path, show: bool = True, device: str = CPU
) -> Path:
    """Train a VLA on expert frames and return the folder of its checkpoint.

    `data` is one dataset or several; frames of role "pretrain" without a steering burst ahead count.
    `device` says where it trains, as `torch_device` names it.
    Writes into `out`: the trainer's state and curves, `mixture.json` (the audit), `pretrain.json`
    (settings, data figures, validation), `model/` and, with LoRA, `adapters/`.  A killed run continues where
    it was.
    """
    datasets = [Dataset(path) for path in ([data] if isinstance(data, Path) else data)]
    check_buckets(config.bucket_weights, datasets)
    rig, checkpoint = common_rig(datasets), _beginning(config)
    model, tokenizer, words = checkpoint.model, checkpoint.tokenizer, checkpoint.model.config.max_words
    if model.compares:
        model.look_through(rig)
    torch.manual_seed(config.train.seed)
    prepare(model, config.trainable)
    side, past = model.config.tile_side, model.config.sees_past
    if past and not any(dataset.knows_past for dataset in datasets):
        raise ValueError(
            f"{datasets[0].path}: its frames keep no past pictures; collect anew, or set "
            "pretrain.sees_past: false"
        )
    parts, held, strata = [], [], []
    for dataset in datasets:
        frames, kept_out = _split(dataset, config.held_out_every)
        parts.append(frame_samples(dataset, frames, tokenizer, words, tile_side=side, past=past))
        strata.append(frame_strata(dataset, frames, config.bucket_weights, config.standstill_weight))
        if len(kept_out):
            some = _spaced(kept_out, config.held_out_frames)
            held.append(frame_samples(dataset, some, tokenizer, words, tile_side=side, past=past))
    samples = join_samples(parts)
    draws, audit = weighted_draws(strata, config.draws, config.max_repeats, config.train.seed)
    out.mkdir(parents=True, exist_ok=True)
    if processes().leads:
        audit.write(out / "mixture.json")
    trainer = Trainer(model, samples, draws, config.train, out, device)
    trainer.run(show=show)
    if config.trainable.lora_rank > 0 and trainer.leads:
        save_adapters(model, out / ADAPTERS_FOLDER)
    merge(model)
    if not trainer.leads:
        return out / MODEL_FOLDER
    save_checkpoint(out / MODEL_FOLDER, Checkpoint(model, tokenizer, rig=rig))
    validation = validate(model, tokenizer, join_samples(held)) if held else None
    write_notes(out / "pretrain.json", _notes(config, datasets, samples, validation))
    return out / MODEL_FOLDER


def _beginning(config: PretrainConfig) -> Checkpoint:
    """The model that training starts with."""
    if config.start is not None:
        found = load_checkpoint(model_folder(config.start))
        if config.sight and found.model.config.tile_side and not found.model.config.sight_outputs:
            torch.manual_seed(config.train.seed)
            found.model.add_sight(SIGHT_OUTPUTS)
        tower = getattr(found.model.config.backbone, "vision_config", None)
        if config.sees_past and isinstance(tower, ConvVisionConfig) and not found.model.compares:
            torch.manual_seed(config.train.seed)
            found.model.see_past(config.size.motion_reach)
        return found
    tokenizer = build_tokenizer(corpus())
    torch.manual_seed(config.train.seed)
    outputs = SIGHT_OUTPUTS if config.sight else 0
    return Checkpoint(
        TakeVLA(tiny_config(tokenizer, config.max_words, config.size, outputs, config.sees_past)), tokenizer
    )


def _split(dataset: Dataset, held_out_every: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Frames to train on and frames of the episodes kept for validation."""
    usable = demonstrated(dataset)
    if not usable.any():
        raise ValueError(
            f"{dataset.path}: no frame of role 'pretrain' in a successful episode; let the expert drive first"
        )
    _, episode = np.unique(dataset.column("episode").astype(str), return_inverse=True)
    kept_out = episode % held_out_every == held_out_every - 1
    return np.flatnonzero(usable & ~kept_out), np.flatnonzero(usable & kept_out)


def _spaced(frames: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    return frames[np.linspace(0, len(frames) - 1, min(count, len(frames))).astype(np.int64)]


def _notes(
    config: PretrainConfig, datasets: Sequence[Dataset], samples: Samples, validation: Validation | None
) -> dict[str, Any]:
    towns = sorted({town for dataset in datasets for town in dataset.episodes.column("town").to_pylist()})
    return {
        "recipe": asdict(config),
        "data": {
            "frames": len(samples),
            "episodes": sum(len(dataset.episodes) for dataset in datasets),
            "towns": towns,
        },
        "validation": asdict(validation) if validation else None,
    }
