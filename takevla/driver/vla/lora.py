"""Low-rank adapters (PEFT) on the backbone, and which weights a training may move."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from takevla.driver.vla.model import TakeVLA

DRIVING_FILE = "driving.safetensors"
VISION_MODULES = r".*\b(vision_tower|vision_model|visual)\..*"  # of the four families


@dataclass(frozen=True)
class Trainable:
    """Which weights move.

    With `lora_rank` 0 the backbone itself moves; otherwise it stays and adapters on all its linear
    layers move (SimLingo: rank 32, alpha 64, dropout 0.1; benchmark facts 2.1).  The encoders, queries
    and heads that driving adds move where `heads` is True.

    With `vision` False the image tower stays as it is, with or without adapters elsewhere;
    `whole_vision` moves all of it beside adapters on the rest, as SimLingo does.
    `gradient_checkpointing` reads the backbone twice and keeps fewer activations.
    """

    lora_rank: int = 0
    lora_alpha: int = 64
    lora_dropout: float = 0.1
    vision: bool = True
    whole_vision: bool = False
    heads: bool = True
    gradient_checkpointing: bool = False


def prepare(model: TakeVLA, trainable: Trainable) -> None:
    """Set `requires_grad` of every weight, adding adapters if asked for.  In place."""
    adapted = trainable.lora_rank > 0
    for name, weight in model.named_parameters():
        if not name.startswith("backbone."):
            moves = trainable.heads
        elif is_vision(name):
            moves = trainable.whole_vision if adapted else trainable.vision
        else:
            moves = not adapted
        weight.requires_grad_(moves)
    if trainable.gradient_checkpointing:
        enable: Any = model.backbone.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    if not adapted:
        return
    whole = trainable.vision and not trainable.whole_vision
    config = LoraConfig(
        r=trainable.lora_rank,
        lora_alpha=trainable.lora_alpha,
        lora_dropout=trainable.lora_dropout,
        target_modules="all-linear",
        exclude_modules=None if whole else VISION_MODULES,
    )
    moving = [weight for weight in model.backbone.parameters() if weight.requires_grad]
    wrapped: Any = get_peft_model(model.backbone, config)
    model.backbone = wrapped
    for weight in moving:  # PEFT stops every weight but its own
        weight.requires_grad_(True)


def is_vision(name: str) -> bool:
    """Whether a weight of this name belongs to the image tower."""
    return re.fullmatch(VISION_MODULES, name) is not None


def save_adapters(model: TakeVLA, folder: Path) -> None:
    """Adapters (PEFT's own files) and what driving adds (`DRIVING_FILE`), without the backbone.

    Weights of the image tower that moved whole are not among them.
    """
    if not isinstance(model.backbone, PeftModel):
        raise ValueError(f"{folder}: the model has no adapters; train it with lora_rank above 0")
    folder.mkdir(parents=True, exist_ok=True)
    model.backbone.save_pretrained(str(folder))
    added = {name: value for name, value in model.state_dict().items() if not name.startswith("backbone.")}
    save_file({name: value.contiguous() for name, value in added.items()}, folder / DRIVING_FILE)


def load_adapters(model: TakeVLA, folder: Path) -> None:
    """Put what `save_adapters` wrote on the model that it was trained from.  In place.

    Raises:
        FileNotFoundError: a file is missing in `folder`.
        ValueError: it was written for another model.
    """
    if not (folder / DRIVING_FILE).is_file():
        raise FileNotFoundError(f"{folder}: no {DRIVING_FILE}; a folder of adapters is wanted")
    added = load_file(folder / DRIVING_FILE)
    own = {
        name: value.shape for name, value in model.state_dict().items() if not name.startswith("backbone.")
    }
    strange = [
        name for name in sorted({*own, *added}) if name not in added or own.get(name) != added[name].shape
    ]
    if strange:
        raise ValueError(f"{folder / DRIVING_FILE}: {strange[0]} does not fit the model")
    model.load_state_dict(added, strict=False)
    wrapped: Any = PeftModel.from_pretrained(model.backbone, str(folder))
    model.backbone = wrapped


def merge(model: TakeVLA) -> None:
    """Fold adapters into the weights they adapt, so that the model is a plain one again.  In place."""
    backbone: Any = model.backbone
    if hasattr(backbone, "merge_and_unload"):
        model.backbone = backbone.merge_and_unload()
    model.requires_grad_(True)
