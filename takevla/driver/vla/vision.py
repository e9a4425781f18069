# mypy: disable-error-code="no-untyped-call"
"""A small convolutional image tower that InternVL can carry in place of its vision transformer.

Trained from scratch on some hundred thousand frames, convolutions find lamps and lane marks where a
patch embedding does not.  Tiles stay square, so that InternVL's pixel shuffle applies unchanged.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

TILES_AT_ONCE = 24  # read when nothing is learned
EARLY = 4  # layers until a quarter of the tile's resolution
SHIFT_ROWS = 1  # by which the past picture is searched upwards and downwards, at that resolution
SHARPNESS = 60.0  # of the choice among shifts, at the beginning
FOUND = 5  # channels of `Motion.shift`
READER_WIDTH = 256
OUTSIDE = 6.0  # of which no answer on motion is told
GAIN = 3.0  # by which likeness is told louder


class ConvVisionConfig(PreTrainedConfig):
    """Widths and depths of the tower; `stage_widths[i]` follows `i + 2` halvings of the tile.

    With `motion_reach` the tower takes six channels, a picture and what a past one differs by, and looks
    for each place's past up to so many columns of four pixels to either side.
    """

    model_type = "takevla_conv_vision"
    base_config_key = "vision_config"

    image_size: int = 128  # px, side of a tile
    num_channels: int = 3
    stem_width: int = 24
    stage_widths: tuple[int, ...] = (48, 96, 160)
    stage_blocks: tuple[int, ...] = (0, 1, 2)
    motion_reach: int = 0
    motion_apart: bool = False  # what is found of motion is handed on beside the features, not added to them
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


class Motion(nn.Module):
    """Where each place of a picture lay in the past one: features beside the tower's last.

    The early features of both pictures are compared at every shift within reach, as FlowNetC does
    (Dosovitskiy et al. 2015).  The mean shift by a sharp softmax, how alike the two are there and how much
    more than in the same place are what convolutions read, beside the present features.  Given every
    similarity as it is, or the difference of both pictures, they learn within the same time hardly more
    than that something has changed (`docs/tried.md`).
    """

    def __init__(self, width: int, reach: int, stage_widths: tuple[int, ...]) -> None:
        super().__init__()
        self.reach = reach
        self.sharpness = nn.Parameter(torch.tensor(SHARPNESS))
        layers: list[nn.Module] = []
        channels = width + FOUND
        for stage_width in stage_widths:
            layers += [nn.Conv2d(channels, stage_width, 3, stride=2, padding=1), nn.ReLU()]
            channels = stage_width
        self.layers = nn.Sequential(*layers)
        self.last = nn.Conv2d(channels, channels, 1)
        self.norm = _ChannelNorm(channels)

    def forward(self, now: torch.Tensor, past: torch.Tensor) -> torch.Tensor:
        """Early features (B, C, H, W) of both pictures to (B, stage_widths[-1], H / 4, W / 4)."""
        found = self.shift(now, past).to(now.dtype)
        output: torch.Tensor = self.norm(self.last(self.layers(torch.cat([now, found], dim=1))))
        return output

    def shift(self, now: torch.Tensor, past: torch.Tensor) -> torch.Tensor:
        """(B, FOUND, H, W): mean shift across (4 is the reach) and in rows, likeness there,
        what it gains over that of the same place, and the shift across as far as it gains.
        """
        alike = self.similarity(now, past).float()
        share = torch.softmax(alike * self.sharpness, dim=-1)
        columns = torch.arange(-self.reach, self.reach + 1, device=now.device) * (4.0 / self.reach)
        rows = torch.arange(-SHIFT_ROWS, SHIFT_ROWS + 1, device=now.device)
        across = (share * columns.repeat(len(rows))).sum(-1)
        down = (share * rows.repeat_interleave(len(columns))).sum(-1)
        best = alike.amax(-1)
        gain = GAIN * (best - alike[..., alike.shape[-1] // 2])
        return torch.stack([across, down, best, gain, across * gain], dim=1)

    def similarity(self, now: torch.Tensor, past: torch.Tensor) -> torch.Tensor:
        """(B, H, W, shifts) cosines of each place's features with those of the past at every shift, each
        the mean over the place and its neighbours.

        Shifts run row by row from the upper left; beyond the picture nothing is alike.
        """
        reach, (height, width) = self.reach, now.shape[-2:]
        here, there = (_direction(features) for features in (now, past))
        found = []
        for row in range(-SHIFT_ROWS, SHIFT_ROWS + 1):
            above, below = max(-row, 0), max(row, 0)
            shifted = functional.pad(there, (0, 0, reach, reach, above, below))[:, below : below + height]
            whole = here @ shifted.transpose(2, 3)  # (B, H, W, W + 2 reach): each with all of its row
            skewed = functional.pad(whole.flatten(2), (0, width)).unflatten(2, (width, -1))
            found.append(skewed[..., : 2 * reach + 1])
        alike = torch.cat(found, dim=-1).permute(0, 3, 1, 2)
        pooled = functional.avg_pool2d(alike, 3, stride=1, padding=1, count_include_pad=False)
        return pooled.permute(0, 2, 3, 1)


def _direction(features: torch.Tensor) -> torch.Tensor:
    """(B, H, W, C) of unit length, without what the whole tile has in common."""
    last = features.permute(0, 2, 3, 1)
    return functional.normalize(last - last.mean((1, 2), keepdim=True), dim=-1)


class SightReader(nn.Module):
    """What a tower that compares says of each image token: which things are there and how they move.

    It is trained on the sight task alone, and its answers are added to what the language model reads, so
    that words and plan need not find out by themselves how four squares of features show motion.
    """

    def __init__(self, features: int, outputs: int, classes: int, width: int) -> None:
        super().__init__()
        self.classes = classes
        self.layers = nn.Sequential(
            nn.Linear(4 * features + 2, READER_WIDTH),
            nn.SiLU(),
            nn.Linear(READER_WIDTH, READER_WIDTH),
            nn.SiLU(),
            nn.Linear(READER_WIDTH, outputs),
        )
        self.tell = nn.Linear(outputs, width)

    def forward(self, beneath: torch.Tensor, speed: torch.Tensor) -> torch.Tensor:
        """(B, tokens, outputs) of the tower's squares (tiles, (2 n)^2, F), n^2 tokens of 2 x 2 to a tile, and
        the ego's speed (B, 2), as the prompt tells it.
        """
        tiles, squares, features = beneath.shape
        side = math.isqrt(squares) // 2
        fours = (
            beneath.view(tiles, side, 2, side, 2, features).transpose(2, 3).reshape(tiles, side * side, -1)
        )
        tokens = fours.reshape(len(speed), -1, 4 * features)
        told = speed[:, None].expand(-1, tokens.shape[1], -1).to(tokens.dtype)
        answer: torch.Tensor = self.layers(torch.cat([tokens, told], dim=-1))
        return answer

    def told(self, answer: torch.Tensor) -> torch.Tensor:
        """(B, tokens, width) to be added to the image tokens' embeddings; answers are not learned by it."""
        answer = answer.detach().float()
        there = torch.sigmoid(answer[..., : self.classes])
        motion = answer[..., self.classes :].clamp(-OUTSIDE, OUTSIDE) * there.amax(-1, keepdim=True)
        output: torch.Tensor = self.tell(torch.cat([there, motion], dim=-1))
        return output


class ConvVisionModel(PreTrainedModel):
    """(B, 3 or 6, S, S) tiles to (B, (S / 16)^2, hidden_size) features in row-major order.

    With `motion_apart` it also hands on, as the only one of `hidden_states`, these and as many of `Motion`.
    """

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
        self.motion = self._new_motion() if config.motion_reach else None
        self.post_init()

    def _new_motion(self) -> Motion:
        widths = self.config.stage_widths
        return Motion(widths[0], self.config.motion_reach, tuple(widths[1:]))

    @torch.no_grad()
    def see_motion(self, reach: int, apart: bool) -> None:
        """Compare with the past picture from now on, beside what the tower handed on before.

        A stem that took the difference of both as channels of its own goes on without them.
        """
        old, new = self.layers[0], nn.Conv2d(3, self.config.stem_width, 3, stride=2, padding=1)
        new.load_state_dict(
            {name: value[:, :3] if value.ndim > 1 else value for name, value in old.state_dict().items()}
        )
        self.layers[0] = new
        self.config.num_channels, self.config.motion_reach, self.config.motion_apart = 3, reach, apart
        self.motion = self._new_motion()
        self.motion.apply(self._init_weights)

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
        elif isinstance(module, Motion):
            nn.init.constant_(module.sharpness, SHARPNESS)

    def forward(self, pixel_values: torch.Tensor, **_: Any) -> BaseModelOutputWithPooling:
        """Features of each tile; `pixel_values` is (B, 3, S, S), (B, 6, S, S) where the past is seen too."""
        pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
        if torch.is_grad_enabled():
            tokens = self._read(pixel_values)
        else:  # so that what a layer hands on stays in the cache
            tokens = torch.cat([self._read(some) for some in pixel_values.split(TILES_AT_ONCE)])
        placed = tokens[..., : self.config.hidden_size] + self.position_embeddings
        if self.motion is None:
            return BaseModelOutputWithPooling(last_hidden_state=placed)
        moved = tokens[..., self.config.hidden_size :]
        if not self.config.motion_apart:
            return BaseModelOutputWithPooling(last_hidden_state=placed + moved)
        return BaseModelOutputWithPooling(
            last_hidden_state=placed, hidden_states=(torch.cat([placed, moved], dim=-1),)
        )

    def _read(self, tiles: torch.Tensor) -> torch.Tensor:
        """(B, (S / 16)^2, hidden_size) without the place in the tile; behind it as much of `motion`."""
        if self.motion is None:
            features: torch.Tensor = self.norm(_tokens(self.layers(tiles)))
            return features
        now = tiles[:, :3]
        both = self.layers[:EARLY](torch.cat([now, now + tiles[:, 3:]]))
        early, past = both.chunk(2)
        features = self.norm(_tokens(self.layers[EARLY:](early)))
        return torch.cat([features, _tokens(self.motion(early, past))], dim=-1)


def _tokens(features: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) to (B, H * W, C)."""
    return features.permute(0, 2, 3, 1).flatten(1, 2)


AutoConfig.register(ConvVisionConfig.model_type, ConvVisionConfig)
AutoModel.register(ConvVisionConfig, ConvVisionModel)
