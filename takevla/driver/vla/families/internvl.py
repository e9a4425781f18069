"""InternVL: square tiles of one picture, each a fixed number of tokens between two marks."""

from __future__ import annotations

import torch

from takevla.driver.vla.config import TakeVLAConfig

MODEL_TYPE = "internvl"
PLACEHOLDER = "<IMG_CONTEXT>"  # what its chat template writes for a picture
START, END = "<img>", "</img>"


def tile_px(config: TakeVLAConfig) -> int:
    """Side of a tile: the image tower's own."""
    size = config.backbone.vision_config.image_size
    return int(size[0] if isinstance(size, (list, tuple)) else size)


def image_text(config: TakeVLAConfig) -> str:
    """The picture in words of the tokenizer: all tiles' tokens between the marks, without a thumbnail."""
    return START + PLACEHOLDER * (config.tiles * int(config.backbone.image_seq_length)) + END


def image_tensors(tiles: torch.Tensor, whole: torch.Tensor) -> dict[str, torch.Tensor]:
    """`tiles` is (B, tiles, 3, S, S) normalised; `whole`, the picture in one piece, is not used."""
    return {"pixel_values": tiles.flatten(0, 1)}
