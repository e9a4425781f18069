# mypy: disable-error-code="no-untyped-call"
"""The one place that knows how an image-text-to-text model of transformers is put together.

Everything here goes through the names that all of them share (`get_input_embeddings`,
`get_image_features`, `get_decoder`, `get_output_embeddings`), so that InternVL, Qwen-VL or SmolVLM
checkpoints serve as they are, wrapped by PEFT or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, Cache, PreTrainedModel

from takevla.driver.vla.config import TakeVLAConfig


def build_backbone(config: TakeVLAConfig) -> PreTrainedModel:
    """A freshly initialised backbone of this configuration."""
    model: PreTrainedModel = AutoModelForImageTextToText.from_config(
        config.backbone_config, attn_implementation=config.attention
    )
    return model


def embed_tokens(backbone: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """(B, L) token ids to (B, L, D) embeddings."""
    table: Any = backbone.get_input_embeddings()
    embeddings: torch.Tensor = table(ids)
    return embeddings


def image_features(backbone: PreTrainedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Embeddings of all image tokens of the batch in order, (tokens, D).

    `images` is what the backbone's `get_image_features` takes: `pixel_values` (tiles, 3, S, S) and,
    for backbones of other sizes per image, their grids.
    """
    encode: Any = backbone.get_image_features
    features = encode(**images)
    pooled = getattr(features, "pooler_output", features)
    if isinstance(pooled, (list, tuple)):
        pooled = torch.cat([part.flatten(0, -2) for part in pooled])
    flat: torch.Tensor = pooled.flatten(0, -2)
    return flat


def read(
    backbone: PreTrainedModel,
    embeddings: torch.Tensor,
    visible: torch.Tensor,
    positions: torch.Tensor,
    cache: Cache | None = None,
) -> torch.Tensor:
    """Hidden states (B, L, D) of the language model.

    `visible` is (B, L, past + L) bool: which keys each new token attends to; `positions` is (B, L).
    A `cache` is extended in place by the L new tokens.
    """
    blocked = torch.zeros(visible.shape, dtype=embeddings.dtype, device=embeddings.device)
    blocked = blocked.masked_fill(~visible, torch.finfo(embeddings.dtype).min)
    output = backbone.get_decoder()(
        inputs_embeds=embeddings,
        attention_mask=blocked[:, None],
        position_ids=positions,
        past_key_values=cache,
        use_cache=cache is not None,
    )
    hidden: torch.Tensor = output.last_hidden_state
    return hidden


def word_logits(backbone: PreTrainedModel, hidden: torch.Tensor) -> torch.Tensor:
    """(..., D) hidden states to (..., V) scores of the next token."""
    logits: torch.Tensor = backbone.get_output_embeddings()(hidden)
    return logits
