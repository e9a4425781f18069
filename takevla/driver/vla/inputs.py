"""From camera frames and navigation to the tensors that `TakeVLA` takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from takevla.driver.vla.config import TARGET_POINTS, TakeVLAConfig, tiny_backbone
from takevla.driver.vla.families.family import image_tensors
from takevla.driver.vla.settings import TinySize
from takevla.driver.vla.tensors import NavigationInput
from takevla.driver.vla.tokenizer import END, IMAGE, OPTION, PAD, SAY, SPEED, TARGET, TILE
from takevla.scene.plan import Observation


def tiny_config(
    tokenizer: PreTrainedTokenizerFast,
    max_words: int = 16,
    size: TinySize | None = None,
    sight_outputs: int = 0,
    sees_past: bool = False,
) -> TakeVLAConfig:
    """The configuration of the tiny model for this word-level tokenizer.

    The camera frame is three square tiles side by side, one for each lens, each announced by a tile token.
    """
    size = size or TinySize()
    vocabulary = tokenizer.get_vocab()
    columns = 3
    tile = [TILE, *[IMAGE] * size.image_tokens]
    prompt = [*tile * columns, *[TARGET] * TARGET_POINTS, SPEED, OPTION, SAY]
    return TakeVLAConfig(
        backbone_config=tiny_backbone(size, len(tokenizer), vocabulary[IMAGE], sees_past, sight_outputs > 0),
        attention="eager",  # faster than sdpa for some eighty tokens in bfloat16 on a CPU
        tile_columns=columns,
        tile_px=size.tile_px,
        sees_past=sees_past,
        prompt_ids=tuple(vocabulary[word] for word in prompt),
        image_token_id=vocabulary[IMAGE],
        target_token_id=vocabulary[TARGET],
        speed_token_id=vocabulary[SPEED],
        option_token_id=vocabulary[OPTION],
        pad_token_id=vocabulary[PAD],
        eos_token_id=vocabulary[END],
        max_words=max_words,
        head_width=size.width,
        sight_outputs=sight_outputs,
    )


def image_inputs(images: torch.Tensor, config: TakeVLAConfig) -> dict[str, torch.Tensor]:
    """(B, H, W, C) uint8 frames to what the backbone takes: for InternVL, normalised tiles `pixel_values`
    (B * tiles, C, S, S) float32.

    C is 3, or 6 for a model that `sees_past`: the present and, behind it, the past picture, which becomes
    its difference from the present.  Tiles run row by row.  Frames are cut below by `bottom_crop`; of
    another size than the tile grid, they are resized to it.
    """
    channels = 6 if config.sees_past else 3
    if images.ndim != 4 or images.shape[-1] != channels:
        raise ValueError(
            f"camera frames have shape {tuple(images.shape)}; the model takes (B, H, W, {channels}) RGB"
        )
    if config.bottom_crop > 0.0:
        images = images[:, : images.shape[1] - int(images.shape[1] * config.bottom_crop)]
    side = config.tile_px
    height, width = config.tile_rows * side, config.tile_columns * side
    mean = torch.tensor(config.image_mean) * 255.0
    scale = 1.0 / (torch.tensor(config.image_std) * 255.0)
    frames = images.float()
    pixels = (frames[..., :3] - mean) * scale
    if config.sees_past:
        pixels = torch.cat([pixels, (frames[..., 3:] - frames[..., :3]) * scale], dim=-1)
    pixels = pixels.permute(0, 3, 1, 2)
    if pixels.shape[-2:] != (height, width):
        pixels = torch.nn.functional.interpolate(
            pixels, (height, width), mode="bilinear", align_corners=False, antialias=True
        )
    rows = pixels.shape[0]
    tiles = pixels.reshape(rows, channels, config.tile_rows, side, config.tile_columns, side)
    tiles = tiles.permute(0, 2, 4, 1, 3, 5).reshape(rows, config.tiles, channels, side, side)
    return image_tensors(tiles, pixels, config)


def navigation_inputs(observations: Sequence[Observation]) -> NavigationInput:
    """Speed, target points and options of these observations as a batch."""
    return NavigationInput(
        speed_mps=torch.tensor([item.speed_mps for item in observations], dtype=torch.float32),
        speed_known=torch.ones(len(observations), dtype=torch.bool),
        target_points_ego=torch.from_numpy(
            np.stack([np.asarray(item.target_points_ego, np.float32) for item in observations])
        ),
        option=torch.tensor([int(item.option) for item in observations]),
        next_option=torch.tensor([int(item.next_option) for item in observations]),
    )


def frame_stack(observations: Sequence[Observation], past: bool = False) -> NDArray[np.uint8]:
    """The camera frames of these observations, (B, H, W, 3), with `past` (B, H, W, 6).

    An observation that knows no past shows its present twice.  Raises where one has no picture.
    """
    frames = []
    for item in observations:
        if item.image is None:
            raise ValueError(f"seat {item.seat}: the VLA drives by camera, but no image was rendered")
        before = item.image if item.past_image is None else item.past_image
        frames.append(np.concatenate([item.image, before], axis=-1) if past else item.image)
    return np.stack(frames)


def pad_words(rows: Sequence[Sequence[int]], pad_token_id: int) -> torch.Tensor:
    """Token lists of any length to (B, W) int64, padded on the right; W is the longest row."""
    longest = max((len(row) for row in rows), default=0)
    words = torch.full((len(rows), longest), pad_token_id, dtype=torch.long)
    for index, row in enumerate(rows):
        words[index, : len(row)] = torch.tensor(list(row), dtype=torch.long)
    return words
