"""Settings of the driving model that name no weight: they are read without torch."""

from __future__ import annotations

from dataclasses import dataclass

# Smooth modes by which the residual head may bend a plan (`takevla.driver.vla.residual`).
LONGITUDINAL_MODES = 3
LATERAL_MODES = 3
STD_FLOOR = 0.1  # of a mode; below it no plan of a group differs enough to be ranked
STD_CEILING = 1.5
STD_START = 0.6
VLM_DTYPES = ("float32", "bfloat16")  # of a backbone's weights


@dataclass(frozen=True)
class TinySize:
    """Dimensions of the tiny model; the defaults are the shipped base's (6.4 M parameters).

    A tile of 128 px becomes 8x8 features of stride 16 and, after the shuffle, 16 tokens.
    """

    tile_px: int = 128  # side of a square tile, a multiple of 32; the camera frame is three of them
    stem_width: int = 24
    stage_widths: tuple[int, ...] = (48, 96, 160)  # of the image tower
    stage_blocks: tuple[int, ...] = (0, 1, 2)
    motion_reach: int = 8  # columns of 4 px, of a model that sees the past
    width: int = 256  # of the language model
    inner_width: int = 768
    layers: int = 5
    heads: int = 4
    key_value_heads: int = 2

    @property
    def image_tokens(self) -> int:
        """Tokens of one tile: features of stride 16, shuffled 2x2."""
        return (self.tile_px // 32) ** 2


@dataclass(frozen=True)
class Trainable:
    """Which weights move.

    With `lora_rank` 0 the backbone itself moves; otherwise it stays and adapters on all its linear
    layers move (SimLingo: rank 32, alpha 64, dropout 0.1; benchmark facts 2.1).  The encoders, queries
    and heads that driving adds move where `heads` is True.

    With `vision` False the image tower stays as it is, with or without adapters elsewhere;
    `whole_vision` moves all of it beside adapters on the rest, as SimLingo does.
    `gradient_checkpointing` reads the backbone twice and keeps fewer activations.
    """

    lora_rank: int = 0
    lora_alpha: int = 64
    lora_dropout: float = 0.1
    vision: bool = True
    whole_vision: bool = False
    heads: bool = True
    gradient_checkpointing: bool = False


@dataclass(frozen=True)
class VlmSettings:
    """How the backbone is to be used.

    Picture: `tile_rows` x `tile_columns` tiles of `tile_px` (0: what suits the backbone), after `bottom_crop`
    of the height is cut off.  SimLingo's for a 1024x512 camera is 1 x 2 of 448 with 0.3 (benchmark facts
    2.1); the embedded world's three lenses are 1 x 3.
    Weights: `dtype` of the backbone; what driving adds stays float32.
    """

    tile_rows: int = 1
    tile_columns: int = 3
    tile_px: int = 0
    bottom_crop: float = 0.0
    max_words: int = 64
    dtype: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("tile_rows", 1), ("tile_columns", 1), ("tile_px", 0), ("max_words", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"vlm.{name}: {getattr(self, name)} must be at least {least}")
        if not 0.0 <= self.bottom_crop < 1.0:
            raise ValueError(f"vlm.bottom_crop: {self.bottom_crop} is no share to cut off; give 0 to below 1")
        if self.dtype not in VLM_DTYPES:
            raise ValueError(f"vlm.dtype: {self.dtype!r} is not one of {', '.join(VLM_DTYPES)}")
