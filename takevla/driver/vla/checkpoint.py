# mypy: disable-error-code="no-untyped-call"
"""Checkpoints on disk: a folder with weights, configuration, tokenizer, camera rig, and what it dreamt.

`model.safetensors`, `config.json` and the tokenizer files are what transformers itself writes; `rig.json` is
the entry `rig` of the `meta.json` of the datasets it was trained on; `residual.safetensors` is there after
dreams that bend plans, `opening.safetensors` after those that choose words.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from takevla.driver.vla.config import TakeVLAConfig
from takevla.driver.vla.model import TakeVLA
from takevla.driver.vla.opening import OpeningHead
from takevla.driver.vla.residual import ResidualHead
from takevla.files import read_json, write_json
from takevla.world.camera.rig import Rig

RESIDUAL_FILE = "residual.safetensors"
OPENING_FILE = "opening.safetensors"
RIG_FILE = "rig.json"
Head = TypeVar("Head", bound=nn.Module)
Weights = dict[str, torch.Tensor]
FILES = ("config.json", "model.safetensors", "tokenizer.json")  # without which there is no checkpoint

transformers_logging.disable_progress_bar()  # a bar for one small file hides the ones that matter


@dataclass
class Checkpoint:
    """Everything that drives: the model, its tokenizer, the heads that it dreamt of, its camera."""

    model: TakeVLA
    tokenizer: PreTrainedTokenizerFast
    residual: ResidualHead | None = None
    rig: Rig = field(default_factory=Rig)
    opening: OpeningHead | None = None


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint into `folder` (made if missing).  Adapters must be merged before."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.model.save_pretrained(folder)
    checkpoint.tokenizer.save_pretrained(folder)
    write_json(folder / RIG_FILE, checkpoint.rig.settings())
    if checkpoint.residual is not None:
        save_file(checkpoint.residual.state_dict(), folder / RESIDUAL_FILE)
    if checkpoint.opening is not None:
        save_file(checkpoint.opening.state_dict(), folder / OPENING_FILE)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint in evaluation mode.

    Raises:
        FileNotFoundError: no such folder, or a file is missing in it.
        ValueError: the folder holds another kind of model, or weights of another shape.
    """
    for name in FILES:
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder}: no {name}; a checkpoint folder of takevla is wanted")
    settings = _settings(folder / "config.json")
    kind = settings.get("model_type")
    if kind != TakeVLAConfig.model_type:
        raise ValueError(
            f"{folder / 'config.json'}: model_type is {kind!r}, not {TakeVLAConfig.model_type!r}"
        )
    try:
        with _silent():  # transformers would print a table; one line of our own names the first misfit
            loaded: Any = TakeVLA.from_pretrained(
                folder,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                dtype=settings.get("backbone_dtype", TakeVLAConfig.backbone_dtype),
            )
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"{folder}: weights and config.json do not fit together ({_reason(error)})"
        ) from error
    model, found = loaded
    strange = [*found["missing_keys"], *found["unexpected_keys"], *found["mismatched_keys"]]
    if strange:
        raise ValueError(
            f"{folder / 'model.safetensors'}: {strange[0]} does not match config.json "
            f"({len(strange)} names in all); use the config.json it was saved with"
        )
    model.eval()
    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    except Exception as error:  # the tokenizers library raises plain ones
        raise ValueError(f"{folder}: its tokenizer cannot be read ({_reason(error)})") from error
    width = model.config.width
    residual = _head(folder / RESIDUAL_FILE, lambda _: ResidualHead(2 * width))
    opening = _head(folder / OPENING_FILE, lambda weights: OpeningHead(width, weights["ids"].tolist()))
    return Checkpoint(model, tokenizer, residual, read_rig(folder), opening)


def _head(path: Path, make: Callable[[Weights], Head]) -> Head | None:
    """The head whose weights lie there, None without any."""
    if not path.is_file():
        return None
    try:
        weights = load_file(path)
        head = make(weights)
        head.load_state_dict(weights)
    except (RuntimeError, KeyError, SafetensorError) as error:
        raise ValueError(f"{path}: does not fit config.json ({_reason(error)})") from error
    return head.eval()


def _settings(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds."""
    settings = read_json(path, "use the one the model was saved with")
    if not isinstance(settings, dict):
        raise ValueError(f"{path}: holds no object; use the one the model was saved with")
    return settings


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def read_rig(folder: Path) -> Rig:
    """The camera rig that the checkpoint in `folder` was trained with; the default one where it does not say.

    Raises:
        ValueError: its `rig.json` holds no rig.
    """
    path = folder / RIG_FILE
    if not path.is_file():
        return Rig()
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(settings, dict):
            raise ValueError(f"{type(settings).__name__} instead of an object")
        return Rig.of(settings)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path}: not a camera rig ({error}); copy `rig` of the dataset's meta.json"
        ) from None


@contextmanager
def _silent() -> Iterator[None]:
    """Keep transformers from logging."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
