# mypy: disable-error-code="no-untyped-call"
"""SimLingo's weights as a `TakeVLA`: names and shapes mapped, adapters folded in, axes turned.

A SimLingo state dict holds InternVL2-1B's image tower and language model with LoRA (rank 32, alpha 64),
two sets of queries, their heads, and a target-point encoder (benchmark facts 2.1; names as its released
checkpoint has them).  Its y axis points to the right; the encoder's input and the heads' output are turned
here, in the weights.

What differs from SimLingo's own run: pictures are resized bilinearly and not coded as JPEG before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers import InternVLConfig, InternVLVisionConfig, PreTrainedTokenizerFast, Qwen2Config

from takevla.driver.vla.config import TakeVLAConfig
from takevla.driver.vla.families import internvl
from takevla.driver.vla.model import SPEED_DIGITS, TakeVLA
from takevla.scene.plan import ROUTE_POINTS, SPEED_WAYPOINTS

LICENCE = (
    "SimLingo's weights and data are licensed by Wayve for non-commercial research only; what is made of "
    "them is bound by that licence. Bench2Drive is CC BY-NC-ND 4.0."
)
LORA_ALPHA = 64
TARGET_ID, SPEED_ID = -1, -2
WRAPPERS = ("module.", "model.")  # put before every name by DeepSpeed and Lightning
VISION = "vision_model.image_encoder.model."
LANGUAGE = "language_model.model.base_model.model."
DRIVING = "adaptors.driving."
TIED = ("adaptors.language.",)  # second names of the embedding table and the head
PROMPT = (
    "<|im_start|>user\n{picture}\nCurrent speed: {speed} m/s. Target waypoint: {targets}. "
    "What should the ego do next?<|im_end|><|im_start|>assistant\n"
)
FRONT = {  # SimLingo's encoder and heads to ours
    "wp_encoder.mlp.": "target_encoder.",
    DRIVING + "route_head.": "route_head.",
    DRIVING + "speed_wps_head.": "speed_head.",
}
BLOCK = {  # of one layer of the image tower
    "norm1.weight": "layernorm_before.weight",
    "norm1.bias": "layernorm_before.bias",
    "norm2.weight": "layernorm_after.weight",
    "norm2.bias": "layernorm_after.bias",
    "ls1": "lambda_1",
    "ls2": "lambda_2",
    "attn.proj.weight": "attention.projection_layer.weight",
    "attn.proj.bias": "attention.projection_layer.bias",
    "mlp.fc1.weight": "mlp.fc1.weight",
    "mlp.fc1.bias": "mlp.fc1.bias",
    "mlp.fc2.weight": "mlp.fc2.weight",
    "mlp.fc2.bias": "mlp.fc2.bias",
}
TOWER = {
    "vision_model.embeddings.class_embedding": "vision_tower.embeddings.cls_token",
    "vision_model.embeddings.position_embedding": "vision_tower.embeddings.position_embeddings",
    "vision_model.embeddings.patch_embedding.weight": (
        "vision_tower.embeddings.patch_embeddings.projection.weight"
    ),
    "vision_model.embeddings.patch_embedding.bias": (
        "vision_tower.embeddings.patch_embeddings.projection.bias"
    ),
    "mlp1.0.weight": "multi_modal_projector.layer_norm.weight",
    "mlp1.0.bias": "multi_modal_projector.layer_norm.bias",
    "mlp1.1.weight": "multi_modal_projector.linear_1.weight",
    "mlp1.1.bias": "multi_modal_projector.linear_1.bias",
    "mlp1.3.weight": "multi_modal_projector.linear_2.weight",
    "mlp1.3.bias": "multi_modal_projector.linear_2.bias",
}
UNUSED = ("speed_encoder.", "option_embedding.", "next_option_embedding.")  # ours; SimLingo has none
DIGITS = "0123456789"
Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class SimLingoSize:
    """InternVL2-1B's dimensions (OpenGVLab/InternVL2-1B, config.json); tests take smaller ones."""

    vision_width: int = 1024
    vision_inner: int = 4096
    vision_layers: int = 24
    vision_heads: int = 16
    image_px: int = 448
    patch_px: int = 14
    width: int = 896
    inner: int = 4864
    layers: int = 24
    heads: int = 14
    key_value_heads: int = 2
    rope_theta: float = 1_000_000.0
    head_width: int = 256
    max_words: int = 100


def read_state(state: Mapping[str, torch.Tensor]) -> Weights:
    """The state dict without wrappers before its names, adapters folded into what they adapt."""
    for wrapper in WRAPPERS:
        if all(name.startswith(wrapper) for name in state):
            state = {name.removeprefix(wrapper): value for name, value in state.items()}
    folded: Weights = {}
    for name, value in state.items():
        if ".lora_" in name or name.startswith(TIED) or name.startswith(VISION + "language_model."):
            continue
        if not isinstance(value, torch.Tensor):
            raise ValueError(f"{name} is no tensor but a {type(value).__name__}")
        plain = name.replace(".base_layer.", ".")
        if plain != name and name.endswith(".weight"):
            stem = name.removesuffix("base_layer.weight")
            down, up = (_needed(state, f"{stem}lora_{part}.default.weight") for part in "AB")
            if down.shape != (up.shape[-1], value.shape[-1]) or up.shape[0] != value.shape[0]:
                shapes = " and ".join(str(tuple(part.shape)) for part in (down, up))
                raise ValueError(
                    f"{stem}lora_A and lora_B have shapes {shapes}, not those of an adapter to it"
                )
            value = value.float() + LORA_ALPHA / down.shape[0] * up.float() @ down.float()
        folded[plain] = value.float()
    return folded


def map_weights(found: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], layers: int) -> Weights:
    """Folded SimLingo weights under the names of `own`, a `TakeVLA`'s; `layers` of the image tower.

    Raises ValueError with the first name that is missing, that has another shape, or no place in the model.
    """
    left = dict(found)
    mapped: Weights = {}

    def take(theirs: str, shape: Sequence[int]) -> torch.Tensor:
        value = _needed(left, theirs)
        if _extents(value.shape) != _extents(shape):
            raise ValueError(f"{theirs} has shape {tuple(value.shape)}, not {tuple(shape)}")
        del left[theirs]
        return value.reshape(tuple(shape))

    def move(theirs: str, ours: str) -> None:
        if ours not in own:
            raise ValueError(f"{theirs} has no place in the model")
        mapped[ours] = take(theirs, own[ours].shape)

    for theirs, ours in TOWER.items():
        move(VISION + theirs, f"backbone.model.{ours}")
    for layer in range(layers):
        block = f"{VISION}vision_model.encoder.layers.{layer}."
        tower = f"backbone.model.vision_tower.encoder.layer.{layer}."
        for theirs, ours in BLOCK.items():
            move(block + theirs, tower + ours)
        for part in ("weight", "bias"):
            names = [f"{tower}attention.{letter}_proj.{part}" for letter in "qkv"]
            rows, *columns = own[names[0]].shape
            joined = take(f"{block}attn.qkv.{part}", (3 * rows, *columns)).chunk(3)
            mapped |= {name: value.clone() for name, value in zip(names, joined, strict=True)}
    for name in [name for name in left if name.startswith(LANGUAGE)]:
        rest = name.removeprefix(LANGUAGE)
        ours = rest if rest.startswith("lm_head.") else f"model.language_model.{rest.removeprefix('model.')}"
        move(name, f"backbone.{ours}")
    width = own["queries"].shape[-1]
    counts = {"wps": ROUTE_POINTS, "speed": SPEED_WAYPOINTS}
    queries = [take(f"{DRIVING}query_embeds_{kind}", (1, count, width)) for kind, count in counts.items()]
    mapped["queries"] = torch.cat(queries, dim=1).reshape(own["queries"].shape)
    for before, after in FRONT.items():
        for name in [name for name in left if name.startswith(before)]:
            move(name, after + name.removeprefix(before))
    if left:
        raise ValueError(f"{min(left)} has no place in the model ({len(left)} in all)")
    for name in own:
        if name not in mapped and not name.startswith(UNUSED):
            raise ValueError(f"nothing for our {name} is in it")
    _turn(mapped)
    return mapped


def simlingo_model(
    state: Mapping[str, torch.Tensor], tokenizer: PreTrainedTokenizerFast, size: SimLingoSize | None = None
) -> TakeVLA:
    """The driving model of a SimLingo state dict, in evaluation mode.

    `tokenizer` is InternVL2-1B's.  Raises ValueError with the first name that is missing, has no place, or
    has another shape, or that the tokenizer lacks.
    """
    size = size or SimLingoSize()
    found = read_state(state)
    table = _needed(found, f"{LANGUAGE}model.embed_tokens.weight")
    model = TakeVLA(simlingo_config(tokenizer, size, table.shape[0]))
    model.load_state_dict(map_weights(found, model.state_dict(), size.vision_layers), strict=False)
    model.eval()
    return model


def simlingo_config(
    tokenizer: PreTrainedTokenizerFast, size: SimLingoSize, vocabulary_size: int
) -> TakeVLAConfig:
    """Two tiles of a picture cut by 30 %, SimLingo's heads, queries right behind the words."""
    words = tokenizer.get_vocab()
    missing = [word for word in (internvl.PLACEHOLDER, "<|im_end|>", *DIGITS) if word not in words]
    if missing:
        raise ValueError(f"the tokenizer has no token {missing[0]}; give InternVL2-1B's")
    if len(tokenizer) > vocabulary_size:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} tokens, the table of embeddings {vocabulary_size}; "
            "give InternVL2-1B's"
        )
    image, end = words[internvl.PLACEHOLDER], words["<|im_end|>"]
    vision = InternVLVisionConfig(
        hidden_size=size.vision_width,
        intermediate_size=size.vision_inner,
        num_hidden_layers=size.vision_layers,
        num_attention_heads=size.vision_heads,
        attention_bias=True,
        image_size=[size.image_px] * 2,
        patch_size=[size.patch_px] * 2,
        use_mean_pooling=True,
    )
    text = Qwen2Config(
        vocab_size=vocabulary_size,
        hidden_size=size.width,
        intermediate_size=size.inner,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.key_value_heads,
        rope_parameters={"rope_type": "default", "rope_theta": size.rope_theta},
        tie_word_embeddings=False,
    )
    tokens = (size.image_px // size.patch_px // 2) ** 2
    config = TakeVLAConfig(
        backbone_config=InternVLConfig(
            vision_config=vision,
            text_config=text,
            image_token_id=image,
            image_seq_length=tokens,
            tie_word_embeddings=False,
        ),
        tile_rows=1,
        tile_columns=2,
        tile_px=size.image_px,
        bottom_crop=0.3,
        image_token_id=image,
        target_token_id=TARGET_ID,
        speed_token_id=SPEED_ID,
        option_token_id=-3,
        pad_token_id=end if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id),
        eos_token_id=end,
        speed_digit_ids=tuple(words[digit] for digit in DIGITS),
        max_words=size.max_words,
        queries_follow_words=True,
        deep_heads=True,
        route_from_ego=True,
        head_width=size.head_width,
        target_scale_m=1.0,
    )
    config.prompt_ids = tuple(_prompt(tokenizer, internvl.image_text(config)))
    return config


def _prompt(tokenizer: PreTrainedTokenizerFast, picture: str) -> list[int]:
    def spell(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
        return ids

    first, rest = PROMPT.format(picture=picture, speed="\0", targets="\1").split("\0")
    second, third = rest.split("\1")
    speed = [*[SPEED_ID] * (SPEED_DIGITS - 1), *spell("."), SPEED_ID]
    return [*spell(first), *speed, *spell(second), TARGET_ID, TARGET_ID, *spell(third)]


def _turn(mapped: Weights) -> None:
    """From y to the right to y to the left: what enters and what leaves.  In place."""
    mirror = torch.tensor([1.0, -1.0])
    mapped["target_encoder.0.weight"] = _needed(mapped, "target_encoder.0.weight") * mirror
    for last in ("route_head.4.weight", "speed_head.2.weight"):
        mapped[last] = _needed(mapped, last) * mirror[:, None]


def _extents(shape: Sequence[int]) -> list[int]:
    """A shape without its ones: SimLingo and we put them in other places."""
    return [extent for extent in shape if extent != 1]


def _needed(found: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    if name not in found:
        raise ValueError(f"{name} is missing")
    return found[name]
