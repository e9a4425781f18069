# mypy: disable-error-code="no-untyped-call"
"""The one place that knows how an image-text-to-text model of transformers is put together.

Everything here goes through the names that all of them share (`get_input_embeddings`,
`get_image_features`, `get_decoder`, `get_output_embeddings`), so that InternVL, Qwen-VL or SmolVLM
checkpoints serve as they are, wrapped by PEFT or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import AutoModelForImageTextToText, Cache, DynamicCache, PreTrainedModel

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


@dataclass
class ImageFeatures:
    """What the image tower made of all pictures of a batch, in order."""

    tokens: torch.Tensor  # (tokens, D), what stands at the image tokens' places
    deeper: list[torch.Tensor]  # of further layers (tokens, D), added in the first layers (Qwen3-VL)
    beneath: torch.Tensor | None  # (tiles, squares, F), what `vision.SightReader` reads (tiny models)


@dataclass
class DeepImage:
    """Image features that the language model adds in its first layers, and where."""

    places: torch.Tensor  # (B, L) bool
    layers: list[torch.Tensor]  # each (places, D)


def image_features(backbone: PreTrainedModel, images: Mapping[str, torch.Tensor]) -> ImageFeatures:
    """Embeddings of all image tokens of the batch.

    `images` is what the backbone's `get_image_features` takes: `pixel_values` (tiles, 3, S, S) and,
    for backbones of other sizes per image, their grids.
    """
    encode: Any = backbone.get_image_features
    features = encode(**images)
    deeper = [_flat(layer) for layer in getattr(features, "deepstack_features", None) or []]
    beneath = getattr(features, "hidden_states", None) or (None,)
    return ImageFeatures(_flat(getattr(features, "pooler_output", features)), deeper, beneath[0])


def _flat(features: Any) -> torch.Tensor:
    """Features of one tensor or a list of them, as (tokens, D)."""
    if isinstance(features, (list, tuple)):
        features = torch.cat([part.flatten(0, -2) for part in features])
    flat: torch.Tensor = features.flatten(0, -2)
    return flat


def read(
    backbone: PreTrainedModel,
    embeddings: torch.Tensor,
    visible: torch.Tensor,
    positions: torch.Tensor,
    cache: Cache | None = None,
    deep: DeepImage | None = None,
) -> torch.Tensor:
    """Hidden states (B, L, D) of the language model.

    `visible` is (B, L, past + L) bool: which keys each new token attends to; `positions` is (B, L), or
    (3, B, L) for backbones with positions in three dimensions.
    A `cache` is extended in place by the L new tokens.
    """
    blocked = torch.zeros(visible.shape, dtype=embeddings.dtype, device=embeddings.device)
    blocked = blocked.masked_fill(~visible, torch.finfo(embeddings.dtype).min)
    further = (
        {} if deep is None else {"visual_pos_masks": deep.places, "deepstack_visual_embeds": deep.layers}
    )
    output = _decoder(backbone)(
        inputs_embeds=embeddings,
        attention_mask=blocked[:, None],
        position_ids=positions,
        past_key_values=cache,
        use_cache=cache is not None,
        **further,
    )
    hidden: torch.Tensor = output.last_hidden_state
    return hidden


class Reader(Protocol):
    """What reads tokens behind a cache of its own kind."""

    def new_cache(self, rows: int, capacity: int) -> Any:
        """An empty cache for so many rows of at most `capacity` tokens."""
        ...

    def read(
        self,
        embeddings: torch.Tensor,
        visible: torch.Tensor,
        positions: torch.Tensor,
        cache: Any,
        deep: DeepImage | None = None,
    ) -> torch.Tensor:
        """Hidden states of new tokens, which the cache takes in; shapes as in `read`."""
        ...

    def skip(self, cache: Any, tokens: int) -> int:
        """Leave room for so many tokens that nobody may see; gives for how many there is now room."""
        ...

    def rewind(self, cache: Any, tokens: int) -> None:
        """Forget all but the first so many tokens of each row."""
        ...


@dataclass(frozen=True)
class BackboneReader:
    """Reads with transformers' own language model."""

    backbone: PreTrainedModel

    def new_cache(self, rows: int, capacity: int) -> Cache:
        """A cache that grows as needed."""
        return DynamicCache()

    def read(
        self,
        embeddings: torch.Tensor,
        visible: torch.Tensor,
        positions: torch.Tensor,
        cache: Any,
        deep: DeepImage | None = None,
    ) -> torch.Tensor:
        """See `read`."""
        return read(self.backbone, embeddings, visible, positions, cache, deep)

    def skip(self, cache: Cache, tokens: int) -> int:
        """None: the cache holds what was read."""
        return 0

    def rewind(self, cache: Cache, tokens: int) -> None:
        """See `Reader.rewind`."""
        cache.crop(tokens)


def _decoder(backbone: PreTrainedModel) -> Any:
    """The language model, without head and image tower; the same under PEFT's wrapper."""
    wrapper: Any = backbone
    bare: Any = wrapper.get_base_model() if hasattr(wrapper, "get_base_model") else wrapper
    return bare.get_decoder()


def word_logits(backbone: PreTrainedModel, hidden: torch.Tensor) -> torch.Tensor:
    """(..., D) hidden states to (..., V) scores of the next token."""
    logits: torch.Tensor = backbone.get_output_embeddings()(hidden)
    return logits
