# mypy: disable-error-code="no-untyped-call"
"""SimLingo's weights as a `TakeVLA`: names and shapes mapped, adapters folded in, axes turned.

A SimLingo state dict holds InternVL2-1B's image tower and language model with LoRA (rank 32, alpha 64),
two sets of queries, their heads, and a target-point encoder (benchmark facts 2.1; names as its released
checkpoint has them).  Its y axis points to the right; the encoder's input and the heads' output are turned
here, in the weights.

What differs from SimLingo's own run: the speed stands in the prompt with two digits before the point
("05.0"), because the prompt has a fixed length; pictures are resized bilinearly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from transformers import InternVLConfig, InternVLVisionConfig, PreTrainedTokenizerFast, Qwen2Config

from takevla.driver.vla.config import TakeVLAConfig
from takevla.driver.vla.families import internvl
from takevla.driver.vla.model import SPEED_DIGITS, TakeVLA

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
        plain = name.replace(".base_layer.", ".")
        if plain != name:
            stem = name.removesuffix("base_layer.weight")
            if name.endswith(".weight"):
                down, up = (_needed(state, f"{stem}lora_{part}.default.weight") for part in "AB")
                value = value.float() + LORA_ALPHA / down.shape[0] * up.float() @ down.float()
        folded[plain] = value.float()
    return folded


def map_weights(found: Mapping[str, torch.Tensor], layers: int) -> Weights:
    """Folded SimLingo weights under the names of `TakeVLA`; `layers` of the image tower.

    Raises ValueError with the first name that is missing or that has no place in the model.
    """
    left = dict(found)

    def take(name: str) -> torch.Tensor:
        value = _needed(left, name)
        del left[name]
        return value

    mapped: Weights = {}
    for theirs, ours in TOWER.items():
        mapped[f"backbone.model.{ours}"] = take(VISION + theirs)
    for layer in range(layers):
        block = f"{VISION}vision_model.encoder.layers.{layer}."
        own = f"backbone.model.vision_tower.encoder.layer.{layer}."
        for theirs, ours in BLOCK.items():
            mapped[own + ours] = take(block + theirs)
        for part in ("weight", "bias"):
            joined = take(f"{block}attn.qkv.{part}").chunk(3)
            for letter, value in zip("qkv", joined, strict=True):
                mapped[f"{own}attention.{letter}_proj.{part}"] = value.clone()
    for name in [name for name in left if name.startswith(LANGUAGE)]:
        rest = name.removeprefix(LANGUAGE)
        ours = rest if rest.startswith("lm_head.") else f"model.language_model.{rest.removeprefix('model.')}"
        mapped[f"backbone.{ours}"] = take(name)
    queries = [take(f"{DRIVING}query_embeds_{kind}") for kind in ("wps", "speed")]
    mapped["queries"] = torch.cat(queries, dim=1)
    for before, own in FRONT.items():
        for name in [name for name in left if name.startswith(before)]:
            mapped[own + name.removeprefix(before)] = take(name)
    if left:
        raise ValueError(f"SimLingo checkpoint: {min(left)} has no place in the model ({len(left)} in all)")
    _turn(mapped)
    return mapped


def simlingo_model(
    state: Mapping[str, torch.Tensor], tokenizer: PreTrainedTokenizerFast, size: SimLingoSize | None = None
) -> TakeVLA:
    """The driving model of a SimLingo state dict, in evaluation mode.

    `tokenizer` is InternVL2-1B's.  Raises ValueError with the first name that is missing, has no place, or
    has another shape.
    """
    size = size or SimLingoSize()
    found = read_state(state)
    table = _needed(found, f"{LANGUAGE}model.embed_tokens.weight")
    model = TakeVLA(simlingo_config(tokenizer, size, table.shape[0]))
    mapped = map_weights(found, size.vision_layers)
    own = model.state_dict()
    unused = ("speed_encoder.", "option_embedding.", "next_option_embedding.")
    for name in own:
        if name in mapped and own[name].numel() == mapped[name].numel():
            mapped[name] = mapped[name].reshape(own[name].shape)
        elif name in mapped:
            raise ValueError(
                f"SimLingo checkpoint: {name} has shape {tuple(mapped[name].shape)}, "
                f"not {tuple(own[name].shape)}"
            )
        elif not name.startswith(unused):
            raise ValueError(f"SimLingo checkpoint: nothing for {name}")
    strange = sorted(set(mapped) - set(own))
    if strange:
        raise ValueError(f"SimLingo checkpoint: {strange[0]} has no place in the model")
    model.load_state_dict(mapped, strict=False)
    model.eval()
    return model


def simlingo_config(
    tokenizer: PreTrainedTokenizerFast, size: SimLingoSize, vocabulary_size: int
) -> TakeVLAConfig:
    """Two tiles of a picture cut by 30 %, SimLingo's heads, queries right behind the words."""
    words = tokenizer.get_vocab()
    image = words[internvl.PLACEHOLDER]
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
        pad_token_id=int(tokenizer.pad_token_id),
        eos_token_id=words["<|im_end|>"],
        speed_digit_ids=tuple(words[str(digit)] for digit in range(10)),
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


def _needed(found: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    if name not in found:
        raise ValueError(f"SimLingo checkpoint: {name} is missing")
    return found[name]
