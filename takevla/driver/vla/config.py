# mypy: disable-error-code="no-untyped-call"
"""Configuration of the driving model: the backbone's own plus what driving adds."""

from __future__ import annotations

import math
from typing import Any

from transformers import AutoConfig, InternVLConfig, PreTrainedConfig, Qwen2Config
from transformers.configuration_utils import SubConfigSpec

from takevla.driver.vla.settings import TinySize
from takevla.driver.vla.vision import ConvVisionConfig
from takevla.scene.plan import ROUTE_POINTS, SPEED_WAYPOINTS

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # InternVL's own pixel normalisation
IMAGENET_STD = (0.229, 0.224, 0.225)
TARGET_POINTS = 2


class TakeVLAConfig(PreTrainedConfig):
    """What fixes a `TakeVLA`.

    Image: a camera frame is cut into `tile_rows` x `tile_columns` square tiles of `tile_px`.  A model that
    `sees_past` also gets how the frame differs from that of 0.5 s before; where it knows its lenses (one to a
    tile, `lens_yaws_deg` to the left) the past is looked up where the ego saw it (`odometry.carried`).
    Prompt: `prompt_ids` is one token sequence for every frame; at the places of `image_token_id`,
    `target_token_id`, `speed_token_id` and `option_token_id` embeddings of this frame are put in.
    Ids below 0 are places that no token of the backbone's vocabulary takes.  With `speed_digit_ids` (the
    tokens of 0 to 9) the speed is written in digits: tens, ones and tenths of m/s at three places, of which
    the tens' is not there below 10 m/s.
    Words: a commentary has at most `max_words` tokens and ends with `eos_token_id`.
    Action: `route_queries` + `speed_queries` learned tokens follow, at fixed positions, or, where
    `queries_follow_words`, behind the last word and the end token.  `deep_heads` are SimLingo's layers
    (benchmark facts 2.1); with `route_from_ego` the route's first point is the ego itself, and the plan
    starts at the second.
    """

    model_type = "takevla"
    sub_configs_defaults = {  # noqa: RUF012
        "backbone_config": SubConfigSpec(config_class=AutoConfig, model_type="internvl")
    }

    backbone_config: dict[str, Any] | PreTrainedConfig | None = None
    attention: str = "sdpa"  # transformers' name of the attention implementation
    backbone_dtype: str = "float32"  # of its weights on disk and in memory; what driving adds is float32
    tile_rows: int = 1
    tile_columns: int = 3
    tile_px: int = 128
    bottom_crop: float = 0.0  # share of the picture's height cut off below (bonnet)
    sees_past: bool = False  # the picture of 0.5 s before too (tiny tower only)
    lens_yaws_deg: tuple[float, ...] = ()
    lens_fovs_deg: tuple[float, ...] = ()  # across
    mount_height_m: float = 2.0  # of the camera above the road
    image_mean: tuple[float, ...] = IMAGENET_MEAN
    image_std: tuple[float, ...] = IMAGENET_STD
    prompt_ids: tuple[int, ...] = ()
    image_token_id: int = 0
    target_token_id: int = 0
    speed_token_id: int = 0
    option_token_id: int = 0
    speed_digit_ids: tuple[int, ...] = ()
    pad_token_id: int = 0
    eos_token_id: int = 0
    max_words: int = 16
    route_queries: int = ROUTE_POINTS
    speed_queries: int = SPEED_WAYPOINTS
    queries_follow_words: bool = False
    deep_heads: bool = False
    route_from_ego: bool = False
    head_width: int = 256
    sight_outputs: int = 0  # per image token, learned beside words and plan; 0 without
    target_scale_m: float = 20.0  # target points are divided by it before they are encoded
    speed_scale_mps: float = 10.0
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        if isinstance(self.backbone_config, dict):
            self.backbone_config = _typed(self.backbone_config)
        super().__post_init__(**kwargs)

    @property
    def backbone(self) -> Any:
        """The backbone's own configuration."""
        if not isinstance(self.backbone_config, PreTrainedConfig):
            raise ValueError("config.json: backbone_config is missing; save the model again with it")
        return self.backbone_config

    @property
    def width(self) -> int:
        """Width of the language model's hidden states."""
        return int(self.backbone.get_text_config().hidden_size)

    @property
    def tile_side(self) -> int:
        """Image tokens along a side of a lens's square tile; 0 where tokens are laid out otherwise."""
        if self.backbone.model_type != "internvl":  # others read the picture as one, or more than its tiles
            return 0
        tokens = self.prompt_ids.count(self.image_token_id)
        side = math.isqrt(tokens // self.tiles)
        return side if self.tile_rows == 1 and tokens == self.tiles * side * side else 0

    @property
    def tiles(self) -> int:
        """Tiles per camera frame."""
        return self.tile_rows * self.tile_columns


def _typed(settings: dict[str, Any]) -> PreTrainedConfig:
    """The configuration of these settings, nested ones by their own `model_type`.

    InternVL alone would read any nested image tower as its own.
    """
    read: dict[str, Any] = {
        key: _typed(value) if isinstance(value, dict) and value.get("model_type") else value
        for key, value in settings.items()
    }
    config: PreTrainedConfig = AutoConfig.for_model(read.pop("model_type"), **read)
    return config


def tiny_backbone(
    size: TinySize, vocabulary: int, image_token_id: int, sees_past: bool = False, sight: bool = False
) -> InternVLConfig:
    """InternVL of a few million parameters: convolutional tower, pixel shuffle, small Qwen2.

    With `sight` something else than the language model reads what the tower finds of motion.
    """
    if size.tile_px % 32 or size.tile_px <= 0:
        raise ValueError(f"tile_px {size.tile_px}: must be a positive multiple of 32")
    if sees_past and size.motion_reach < 1:
        raise ValueError(
            f"motion_reach {size.motion_reach}: a model that sees the past needs 1 column or more; to do "
            "without the past set pretrain.sees_past: false"
        )
    vision = ConvVisionConfig(
        image_size=size.tile_px,
        stem_width=size.stem_width,
        stage_widths=size.stage_widths,
        stage_blocks=size.stage_blocks,
        motion_reach=size.motion_reach if sees_past else 0,
        motion_apart=sees_past and sight,
    )
    text = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=size.width,
        intermediate_size=size.inner_width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.key_value_heads,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        use_sliding_window=False,
    )
    return InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=image_token_id,
        image_seq_length=size.image_tokens,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )
