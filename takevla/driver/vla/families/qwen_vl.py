"""Qwen2.5-VL and Qwen3-VL: the whole picture as patches, positions in three dimensions.

A patch of `patch_size` pixels is repeated over `temporal_patch_size` frames; `merge`^2 patches become one
token.  Rotary positions of image tokens are (time, row, column) from where the picture starts; text goes on
behind the greatest of them (as `get_rope_index` of transformers numbers them).
"""

from __future__ import annotations

import torch

from takevla.driver.vla.config import TakeVLAConfig

MODEL_TYPES = ("qwen2_5_vl", "qwen3_vl")
PLACEHOLDER = "<|image_pad|>"


def tile_px(config: TakeVLAConfig) -> int:
    """Side of a tile when none is asked for: the multiple of the merged patch that is nearest to 448 px."""
    unit = _patch(config) * _merge(config)
    return max(1, round(448 / unit)) * unit


def grid(config: TakeVLAConfig) -> tuple[int, int]:
    """Rows and columns of patches of one picture, both multiples of the merge."""
    unit = _patch(config) * _merge(config)
    height, width = config.tile_rows * config.tile_px, config.tile_columns * config.tile_px
    if height % unit or width % unit:
        raise ValueError(f"tile_px {config.tile_px}: this backbone takes multiples of {unit} pixels")
    return height // _patch(config), width // _patch(config)


def image_text(config: TakeVLAConfig) -> str:
    """The picture in words of the tokenizer; its chat template has the marks around it."""
    rows, columns = grid(config)
    return PLACEHOLDER * (rows * columns // _merge(config) ** 2)


def image_tensors(whole: torch.Tensor, config: TakeVLAConfig) -> dict[str, torch.Tensor]:
    """Patches (B * rows * columns, 3 * time * p * p) and grids (B, 3) of pictures (B, 3, H, W)."""
    rows, columns = grid(config)
    merge, patch = _merge(config), _patch(config)
    time = int(config.backbone.vision_config.temporal_patch_size)
    count = whole.shape[0]
    cut = whole.reshape(count, 3, rows // merge, merge, patch, columns // merge, merge, patch)
    cut = cut.permute(0, 2, 5, 3, 6, 1, 4, 7)  # B, row, column, row and column in the merge, 3, p, p
    frames = cut[..., None, :, :].expand(*cut.shape[:6], time, patch, patch)
    grids = torch.tensor([[1, rows, columns]], device=whole.device).repeat(count, 1)
    return {"pixel_values": frames.reshape(count * rows * columns, -1), "image_grid_thw": grids}


def prompt_positions(config: TakeVLAConfig) -> torch.Tensor:
    """(3, P): time, row and column of each token of the prompt."""
    rows, columns = (side // _merge(config) for side in grid(config))
    picture = torch.stack(
        [
            torch.zeros(rows * columns, dtype=torch.long),
            torch.arange(rows).repeat_interleave(columns),
            torch.arange(columns).repeat(rows),
        ]
    )
    positions = torch.zeros(3, len(config.prompt_ids), dtype=torch.long)
    place, following = 0, 0
    while place < len(config.prompt_ids):
        if config.prompt_ids[place] == config.image_token_id:
            positions[:, place : place + rows * columns] = following + picture
            place, following = place + rows * columns, following + max(rows, columns)
        else:
            positions[:, place] = following
            place, following = place + 1, following + 1
    return positions


def _patch(config: TakeVLAConfig) -> int:
    return int(config.backbone.vision_config.patch_size)


def _merge(config: TakeVLAConfig) -> int:
    return int(config.backbone.vision_config.spatial_merge_size)
