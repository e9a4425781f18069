"""The language model of the tiny backbone read for driving on a CPU, in few and small steps.

A sentence is some ten passes of one token a row.  On a model this small transformers then spends its time
between the matrix products and on casting weights; here weights are joined and in the products' precision
from the start and the cache has its full length.  The arithmetic is that of transformers' Qwen2: under
bfloat16 autocast float32 residual stream, norms, rotations and softmax, bfloat16 products; else float32.

A row's result does not depend on the other rows, to the bit, as long as their number stays the same:
products of another shape may add up in another order.  Hence `ROWS`, and hence `skip`, which gives the
queries the same place whatever the longest sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from takevla.driver.vla.backbone import BackboneReader, DeepImage, Reader

ROWS = 16  # of a batch, filled up where fewer drive
# The pictures of a batch are filled up to a multiple of this in float32, where fewer may meet other kernels.
FLOAT32_PICTURES = 8


@dataclass
class _Layer:
    """Weights of a decoder layer: norms float32, the others in the precision of products."""

    norm: torch.Tensor  # (D,)
    qkv: torch.Tensor  # ((heads + 2 kv heads) * H, D), queries, keys, values
    qkv_bias: torch.Tensor
    out: torch.Tensor  # (D, heads * H)
    inner_norm: torch.Tensor  # (D,)
    gate_up: torch.Tensor  # (2 F, D)
    down: torch.Tensor  # (D, F)


class LeanCache:
    """Keys and values of the tokens read so far, of all layers."""

    def __init__(self, shape: tuple[int, int, int, int, int], dtype: torch.dtype) -> None:
        """`shape`: layers, rows, key-value heads, capacity, head width."""
        self.keys = torch.zeros(shape, dtype=dtype)
        self.values = torch.zeros(shape, dtype=dtype)
        self.length = 0


class LeanReader:
    """Reads as `BackboneReader` does, from a copy of the weights: made anew when they change."""

    def __init__(self, backbone: PreTrainedModel, dtype: torch.dtype = torch.bfloat16) -> None:
        self._dtype = dtype  # of the products
        decoder: Any = backbone
        decoder = decoder.get_decoder()
        config = decoder.config
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._head_width = config.hidden_size // config.num_attention_heads
        self._eps = float(config.rms_norm_eps)
        with torch.no_grad():
            self._layers = [_layer(one, dtype) for one in decoder.layers]
            self._norm = decoder.norm.weight.detach().clone()
            positions = torch.arange(config.max_position_embeddings)[None]
            cos, sin = decoder.rotary_emb(torch.zeros(1), positions)
        half = self._head_width // 2
        self._cos, self._sin = cos[0, :, None, :half], sin[0, :, None, :half]  # (positions, 1, H / 2) float32

    def new_cache(self, rows: int, capacity: int) -> LeanCache:
        """An empty cache for `capacity` tokens a row."""
        return LeanCache((len(self._layers), rows, self._kv_heads, capacity, self._head_width), self._dtype)

    def read(
        self,
        embeddings: torch.Tensor,
        visible: torch.Tensor,
        positions: torch.Tensor,
        cache: Any,
        deep: DeepImage | None = None,
    ) -> torch.Tensor:
        """Hidden states (B, L, D) float32 of new tokens; see `backbone.read`."""
        assert isinstance(cache, LeanCache)
        assert deep is None
        with torch.autocast("cpu", enabled=False):
            hidden = embeddings.float()
            start, end = cache.length, cache.length + hidden.shape[1]
            cos, sin = self._cos[positions], self._sin[positions]
            blocked = torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)
            for number, layer in enumerate(self._layers):
                keys, values = cache.keys[number], cache.values[number]
                hidden = hidden + self._attend(
                    layer, self._normed(hidden, layer.norm), cos, sin, blocked, keys, values, start, end
                )
                gate, up = functional.linear(self._normed(hidden, layer.inner_norm), layer.gate_up).chunk(
                    2, dim=-1
                )
                hidden = hidden + functional.linear(functional.silu(gate) * up, layer.down)
            cache.length = end
            return functional.rms_norm(hidden, self._norm.shape, self._norm, self._eps)

    def skip(self, cache: LeanCache, tokens: int) -> int:
        """Leave zeros where no token was said."""
        cache.length += tokens
        return tokens

    def rewind(self, cache: LeanCache, tokens: int) -> None:
        """Forget all but the first so many tokens; what is skipped again must be zero."""
        cache.keys[..., tokens:, :] = 0.0
        cache.values[..., tokens:, :] = 0.0
        cache.length = tokens

    def _normed(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(hidden, weight.shape, weight, self._eps).to(self._dtype)

    def _attend(
        self, layer: _Layer, normed: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor,
        blocked: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, start: int, end: int,
    ) -> torch.Tensor:  # fmt: skip
        """Attention of new tokens `start` to `end`, whose keys and values join the cache."""
        rows, count, _ = normed.shape
        heads, kv_heads, width = self._heads, self._kv_heads, self._head_width
        joined = functional.linear(normed, layer.qkv, layer.qkv_bias).view(rows, count, -1, width)
        first, second = joined[:, :, : heads + kv_heads].float().chunk(2, dim=-1)
        turned = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(self._dtype)
        keys[:, :, start:end] = turned[:, :, heads:].transpose(1, 2)
        values[:, :, start:end] = joined[:, :, heads + kv_heads :].transpose(1, 2)
        queries = turned[:, :, :heads].transpose(1, 2).reshape(rows, kv_heads, -1, width)
        scores = torch.matmul(queries, keys[:, :, :end].transpose(2, 3)) * width**-0.5
        scores = scores.view(rows, heads, count, end) + blocked[:, None]
        shares = scores.softmax(dim=-1).to(self._dtype).view(rows, kv_heads, -1, end)
        read = torch.matmul(shares, values[:, :, :end]).view(rows, heads, count, width)
        return functional.linear(read.transpose(1, 2).reshape(rows, count, -1), layer.out)


def _layer(layer: Any, dtype: torch.dtype) -> _Layer:
    """Copy and join the weights of one of transformers' Qwen2 layers."""
    attention, mlp = layer.self_attn, layer.mlp
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    return _Layer(
        layer.input_layernorm.weight.detach().clone(),
        torch.cat([one.weight for one in projections]).detach().to(dtype),
        torch.cat([one.bias for one in projections]).detach().to(dtype),
        attention.o_proj.weight.detach().to(dtype, copy=True),
        layer.post_attention_layernorm.weight.detach().clone(),
        torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]).detach().to(dtype),
        mlp.down_proj.weight.detach().to(dtype, copy=True),
    )


def quickest_reader(backbone: PreTrainedModel, half_precision: bool) -> Reader:
    """`LeanReader` for a plain float32 Qwen2 on a CPU, else `BackboneReader`."""
    decoder: Any = backbone
    decoder = decoder.get_decoder() if not hasattr(decoder, "get_base_model") else None
    if decoder is None or decoder.config.model_type != "qwen2":
        return BackboneReader(backbone)
    weight = decoder.norm.weight
    plain = decoder.config.rope_parameters["rope_type"] == "default" and not decoder.config.use_sliding_window
    if not plain or weight.device.type != "cpu" or weight.dtype != torch.float32:
        return BackboneReader(backbone)
    return LeanReader(backbone, torch.bfloat16 if half_precision else torch.float32)
