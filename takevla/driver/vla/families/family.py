"""The family of a backbone, and what the model asks of it."""

from __future__ import annotations

import torch

from takevla.driver.vla.config import TakeVLAConfig
from takevla.driver.vla.families import internvl, qwen_vl, smolvlm

SUPPORTED = (internvl.MODEL_TYPE, *qwen_vl.MODEL_TYPES, *smolvlm.MODEL_TYPES)


def family_of(config: TakeVLAConfig) -> str:
    """`model_type` of the backbone.  Raises ValueError where no family of that name is known here."""
    kind = str(config.backbone.model_type)
    if kind not in SUPPORTED:
        raise ValueError(f"backbone: model_type {kind!r} is not one of {', '.join(SUPPORTED)}")
    return kind


def tile_px(config: TakeVLAConfig) -> int:
    """Side in pixels of a tile that suits the backbone."""
    kind = family_of(config)
    if kind == internvl.MODEL_TYPE:
        return internvl.tile_px(config)
    return smolvlm.tile_px(config) if kind in smolvlm.MODEL_TYPES else qwen_vl.tile_px(config)


def image_text(config: TakeVLAConfig) -> tuple[str, str]:
    """What the chat template writes for a picture, and what stands there in the prompt."""
    kind = family_of(config)
    if kind == internvl.MODEL_TYPE:
        return internvl.PLACEHOLDER, internvl.image_text(config)
    if kind in smolvlm.MODEL_TYPES:
        return smolvlm.PLACEHOLDER, smolvlm.image_text(config)
    return qwen_vl.PLACEHOLDER, qwen_vl.image_text(config)


def image_tensors(tiles: torch.Tensor, whole: torch.Tensor, config: TakeVLAConfig) -> dict[str, torch.Tensor]:
    """What the backbone's `get_image_features` takes.

    `tiles` is (B, tiles, 3, S, S), row by row; `whole` is (B, 3, rows * S, columns * S); both normalised.
    """
    kind = family_of(config)
    if kind == internvl.MODEL_TYPE:
        return internvl.image_tensors(tiles, whole)
    if kind in smolvlm.MODEL_TYPES:
        return smolvlm.image_tensors(tiles, whole)
    return qwen_vl.image_tensors(whole, config)


def prompt_positions(config: TakeVLAConfig) -> torch.Tensor:
    """Rotary positions of the prompt's tokens: (P,), or (3, P) for families with three dimensions."""
    if family_of(config) in qwen_vl.MODEL_TYPES:
        return qwen_vl.prompt_positions(config)
    return torch.arange(len(config.prompt_ids))
