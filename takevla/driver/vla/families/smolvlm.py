"""SmolVLM: square tiles announced by row and column, then the whole picture in one more tile.

Its first checkpoints (SmolVLM-Instruct, -Base, -256M, -500M) call themselves Idefics3, whose structure it
has; SmolVLM2 has the name.
"""

from __future__ import annotations

import torch

from takevla.driver.vla.config import TakeVLAConfig

MODEL_TYPES = ("smolvlm", "idefics3")
PLACEHOLDER = "<image>"
AROUND, WHOLE = "<fake_token_around_image>", "<global-img>"


def tile_px(config: TakeVLAConfig) -> int:
    """Side of a tile: the image tower's own."""
    return int(config.backbone.vision_config.image_size)


def image_text(config: TakeVLAConfig) -> str:
    """The picture in words of the tokenizer.  A picture of one tile has no parts."""
    vision = config.backbone.vision_config
    side = int(vision.image_size) // int(vision.patch_size) // int(config.backbone.scale_factor)
    image = PLACEHOLDER * (side * side)
    text = ""
    if config.tiles > 1:
        for row in range(1, config.tile_rows + 1):
            for column in range(1, config.tile_columns + 1):
                text += f"{AROUND}<row_{row}_col_{column}>{image}"
            text += "\n"
        text += "\n"
    return f"{text}{AROUND}{WHOLE}{image}{AROUND}"


def image_tensors(tiles: torch.Tensor, whole: torch.Tensor) -> dict[str, torch.Tensor]:
    """`tiles` (B, tiles, 3, S, S) and the whole picture (B, 3, H, W), squeezed into one tile behind them."""
    side = tiles.shape[-1]
    squeezed = torch.nn.functional.interpolate(
        whole, (side, side), mode="bilinear", align_corners=False, antialias=True
    )[:, None]
    return {"pixel_values": squeezed if tiles.shape[1] == 1 else torch.cat([tiles, squeezed], dim=1)}
