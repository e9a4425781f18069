"""Low-rank adapters (PEFT) on the backbone, and which weights a training may move."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from takevla.driver.vla.model import TakeVLA
from takevla.driver.vla.settings import Trainable

ADAPTERS_FOLDER = "adapters"  # beside the merged model of a training
DRIVING_FILE = "driving.safetensors"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")  # PEFT's names
BACKBONE = "backbone."
VISION_MODULES = r".*\b(vision_tower|vision_model|visual)\..*"  # of the four families


def prepare(model: TakeVLA, trainable: Trainable) -> None:
    """Set `requires_grad` of every weight, adding adapters if asked for.  In place.

    Weights that move become float32 whatever the backbone's dtype, since small steps are lost in bfloat16;
    so do those that stay but work between them.  `merge` brings the backbone's dtype back.
    """
    adapted = trainable.lora_rank > 0
    for name, weight in model.named_parameters():
        if not name.startswith(BACKBONE):
            moves = trainable.heads
        elif is_vision(name):
            moves = trainable.whole_vision if adapted else trainable.vision
        else:
            moves = not adapted
        weight.requires_grad_(moves)
    kept = _kept(model, trainable)
    _cast((weight for weight in model.parameters() if weight not in kept), torch.float32)
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
    """Adapters (PEFT's own files), and in `DRIVING_FILE` what driving adds and every weight of the backbone
    that moved beside them, in the backbone's dtype.
    """
    if not isinstance(model.backbone, PeftModel):
        raise ValueError(f"{folder}: the model has no adapters; train it with lora_rank above 0")
    folder.mkdir(parents=True, exist_ok=True)
    model.backbone.save_pretrained(str(folder))
    added = {name: value for name, value in model.state_dict().items() if not name.startswith(BACKBONE)}
    moved = {
        BACKBONE + name: weight.detach().to(_dtype(model))
        for name, weight in model.backbone.get_base_model().named_parameters()
        if weight.requires_grad and "lora_" not in name
    }
    tensors = {name: value.contiguous() for name, value in (added | moved).items()}
    save_file(tensors, folder / DRIVING_FILE, metadata={"takevla": json.dumps({"moved": sorted(moved)})})


def load_adapters(model: TakeVLA, folder: Path) -> None:
    """Put what `save_adapters` wrote on the model that it was trained from.  In place.

    A model without the sight head that pretraining added gets it.  After an error the model is in between:
    load it anew.

    Raises:
        FileNotFoundError: a file is missing in `folder`.
        ValueError: it was written for another model, or something that was trained is not in it.
    """
    for name in (DRIVING_FILE, *ADAPTER_FILES):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder}: no {name}; a folder of adapters is wanted")
    path = folder / DRIVING_FILE
    try:
        with safe_open(path, framework="pt") as file:
            note = (file.metadata() or {}).get("takevla")
        added = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: cannot be read ({error}); copy it anew") from None
    if note is None:
        raise ValueError(f"{path}: does not say which weights moved; save the adapters anew")
    if "sight_head.2.bias" in added and not model.config.sight_outputs:
        model.add_sight(len(added["sight_head.2.bias"]))
    own = {name: value.shape for name, value in model.state_dict().items()}
    wanted = {name for name in own if not name.startswith(BACKBONE)} | set(json.loads(note)["moved"])
    for name in sorted(wanted | added.keys()):
        if name not in wanted or name not in own:
            raise ValueError(f"{path}: {name} does not fit the model")
        if name not in added:
            raise ValueError(f"{path}: {name} is missing; save the adapters anew")
        if added[name].shape != own[name]:
            raise ValueError(f"{path}: {name} does not fit the model")
    model.load_state_dict(added, strict=False)
    _load_peft(model, folder)


def _load_peft(model: TakeVLA, folder: Path) -> None:
    """Wrap the backbone with the adapters in PEFT's files, all of them.  In place."""
    path = folder / ADAPTER_FILES[-1]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of missing weights, which are named below
            wrapped: Any = PeftModel.from_pretrained(model.backbone, str(folder))
        saved = load_file(path)
    except (RuntimeError, ValueError, TypeError, KeyError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: does not fit the model ({reason})") from error
    wanted = get_peft_model_state_dict(wrapped, save_embedding_layers=False).keys()
    if strange := sorted(saved.keys() - wanted):
        raise ValueError(f"{path}: {strange[0]} does not fit the model")
    if missing := sorted(wanted - saved.keys()):
        raise ValueError(f"{path}: {missing[0]} is missing; save the adapters anew")
    model.backbone = wrapped


def merge(model: TakeVLA) -> None:
    """Fold adapters into the weights they adapt, so that the model is a plain one again, in its backbone's
    own dtype.  In place.
    """
    backbone: Any = model.backbone
    if hasattr(backbone, "merge_and_unload"):
        model.backbone = backbone.merge_and_unload()
    _cast(model.backbone.parameters(), _dtype(model))
    model.requires_grad_(True)


def _kept(model: TakeVLA, trainable: Trainable) -> set[nn.Parameter]:
    """Weights that may stay in the backbone's dtype: all of it behind adapters, the language model and its
    output layer behind an image tower that moves; none where the backbone itself moves.
    """
    backbone: Any = model.backbone
    if trainable.lora_rank == 0:
        return set()
    if not trainable.whole_vision:
        return set(backbone.parameters())
    return {*backbone.get_decoder().parameters(), *backbone.get_output_embeddings().parameters()}


def _dtype(model: TakeVLA) -> torch.dtype:
    """The backbone's own."""
    dtype: torch.dtype = getattr(torch, model.config.backbone_dtype)
    return dtype


def _cast(weights: Iterable[nn.Parameter], dtype: torch.dtype) -> None:
    """Weights of this dtype, in place: one that two modules share stays shared."""
    for weight in weights:
        weight.data = weight.data.to(dtype)
