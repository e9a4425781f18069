"""Low-rank adapters (PEFT) on the backbone, and which weights a training may move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from peft import LoraConfig, get_peft_model

from takevla.driver.vla.model import TakeVLA


@dataclass(frozen=True)
class Trainable:
    """Which weights move.

    With `lora_rank` 0 the backbone itself moves; otherwise it stays and adapters on all its linear
    layers move (SimLingo: rank 32, alpha 64, dropout 0.1; benchmark facts 2.1).  The encoders, queries
    and heads that driving adds move where `heads` is True.
    """

    lora_rank: int = 0
    lora_alpha: int = 64
    lora_dropout: float = 0.1
    vision: bool = True  # whether the image tower moves (without LoRA)
    heads: bool = True


def prepare(model: TakeVLA, trainable: Trainable) -> None:
    """Set `requires_grad` of every weight, adding adapters if asked for.  In place."""
    for name, weight in model.named_parameters():
        of_backbone = name.startswith("backbone.")
        of_vision = of_backbone and "vision" in name
        if of_backbone:
            moves = trainable.lora_rank == 0 and (trainable.vision or not of_vision)
        else:
            moves = trainable.heads
        weight.requires_grad_(moves)
    if trainable.lora_rank > 0:
        config = LoraConfig(
            r=trainable.lora_rank,
            lora_alpha=trainable.lora_alpha,
            lora_dropout=trainable.lora_dropout,
            target_modules="all-linear",
        )
        adapted: Any = get_peft_model(model.backbone, config)
        model.backbone = adapted


def merge(model: TakeVLA) -> None:
    """Fold adapters into the weights they adapt, so that the model is a plain one again.  In place."""
    backbone: Any = model.backbone
    if hasattr(backbone, "merge_and_unload"):
        model.backbone = backbone.merge_and_unload()
    model.requires_grad_(True)
