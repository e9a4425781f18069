# mypy: disable-error-code="no-untyped-call"
"""A small convolutional image tower that InternVL can carry in place of its vision transformer.

Trained from scratch on some hundred thousand frames, convolutions find lamps and lane marks where a
patch embedding does not.  Tiles stay square, so that InternVL's pixel shuffle applies unchanged.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

TILES_AT_ONCE = 24  # read when nothing is learned


class ConvVisionConfig(PreTrainedConfig):
    """Widths and depths of the tower; `stage_widths[i]` follows `i + 2` halvings of the tile."""

    model_type = "takevla_conv_vision"
    base_config_key = "vision_config"

    image_size: int = 128  # px, side of a tile
    num_channels: int = 3
    stem_width: int = 24
    stage_widths: tuple[int, ...] = (48, 96, 160)
    stage_blocks: tuple[int, ...] = (0, 1, 2)
    initializer_range: float = 0.02

    @property
    def hidden_size(self) -> int:
        """Width of the features handed on, read by InternVL's projector."""
        return int(self.stage_widths[-1])


class _ChannelNorm(nn.Module):
    """Layer norm over the channels of (B, C, H, W): the row of a batch does not depend on the others."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        channels_last: torch.Tensor = self.norm(features.permute(0, 2, 3, 1))
        return channels_last.permute(0, 3, 1, 2)


class _Residual(nn.Module):
    """Two 3x3 convolutions with a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _ChannelNorm(width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        inner = torch.relu(self.first(self.norm(features)))
        output: torch.Tensor = features + self.second(inner)
        return output


class ConvVisionModel(PreTrainedModel):
    """(B, 3, S, S) tiles to (B, (S / 16)^2, hidden_size) features in row-major order."""

    config_class = ConvVisionConfig
    main_input_name = "pixel_values"

    def __init__(self, config: ConvVisionConfig) -> None:
        super().__init__(config)
        layers: list[nn.Module] = [
            nn.Conv2d(config.num_channels, config.stem_width, 3, stride=2, padding=1),
            nn.ReLU(),
        ]
        width = config.stem_width
        for stage_width, blocks in zip(config.stage_widths, config.stage_blocks, strict=True):
            layers += [nn.Conv2d(width, stage_width, 3, stride=2, padding=1), nn.ReLU()]
            layers += [_Residual(stage_width) for _ in range(blocks)]
            width = stage_width
        self.layers = nn.Sequential(*layers)
        side = config.image_size // 2 ** (1 + len(config.stage_widths))
        self.position_embeddings = nn.Parameter(torch.zeros(1, side * side, width))
        self.norm = nn.LayerNorm(width)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, ConvVisionModel):
            nn.init.normal_(module.position_embeddings, std=self.config.initializer_range)
        if isinstance(module, _Residual):
            nn.init.zeros_(module.second.weight)

    def forward(self, pixel_values: torch.Tensor, **_: Any) -> BaseModelOutputWithPooling:
        """Features of each tile; `pixel_values` is (B, 3, S, S)."""
        pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
        if torch.is_grad_enabled():
            features = self.layers(pixel_values)
        else:  # so that what a layer hands on stays in the cache
            features = torch.cat([self.layers(some) for some in pixel_values.split(TILES_AT_ONCE)])
        tokens = features.permute(0, 2, 3, 1).flatten(1, 2)
        return BaseModelOutputWithPooling(last_hidden_state=self.norm(tokens) + self.position_embeddings)


AutoConfig.register(ConvVisionConfig.model_type, ConvVisionConfig)
AutoModel.register(ConvVisionConfig, ConvVisionModel)
