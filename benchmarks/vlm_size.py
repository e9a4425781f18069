"""Parameters and bytes of InternVL3-1B as a backbone, counted on the meta device from its configuration.

`python benchmarks/vlm_size.py [--json FILE]`.  Nothing is downloaded and no weight is made.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from transformers import InternVLConfig

from takevla.driver.vla.config import TakeVLAConfig
from takevla.driver.vla.lora import is_vision, prepare
from takevla.driver.vla.model import TakeVLA
from takevla.driver.vla.settings import Trainable

# config.json of OpenGVLab/InternVL3-1B-hf on the hub.  Embedding table and output layer are apart: its
# model.safetensors has 1.88 GB in bfloat16, and with one table for both it would have 1.60 GB.
VISION = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "attention_bias": True,
    "image_size": [448, 448],
    "patch_size": [14, 14],
}
TEXT = {
    "model_type": "qwen2",
    "vocab_size": 151674,
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
}
IMAGE_TOKEN = 151667
LORA_RANK = 32
BFLOAT16, FLOAT32 = 2, 4


def internvl3_1b() -> TakeVLA:
    """The driving model around InternVL3-1B, without weights."""
    backbone = InternVLConfig(
        vision_config=VISION, text_config=TEXT, image_token_id=IMAGE_TOKEN, tie_word_embeddings=False
    )
    with torch.device("meta"):
        return TakeVLA(TakeVLAConfig(backbone_config=backbone, tile_px=448, tile_columns=2))


def measure() -> dict[str, int]:
    """Counts of weights, and bytes that they take (activations apart)."""
    model = internvl3_1b()
    sizes = {name: weight.numel() for name, weight in model.named_parameters()}
    backbone = sum(size for name, size in sizes.items() if name.startswith("backbone."))
    vision = sum(size for name, size in sizes.items() if is_vision(name))
    added = sum(sizes.values()) - backbone
    with torch.device("meta"):
        prepare(model, Trainable(lora_rank=LORA_RANK))
    adapters = sum(w.numel() for name, w in model.named_parameters() if "lora_" in name)
    language = sum(
        w.numel() for name, w in model.named_parameters() if "lora_" in name and "language_model" in name
    )
    frozen, moving = backbone * BFLOAT16 + added * FLOAT32, adapters + added
    text = model.config.backbone.get_text_config()
    head = text.hidden_size // text.num_attention_heads
    cache = 2 * text.num_hidden_layers * text.num_key_value_heads * head * BFLOAT16  # keys and values
    return {
        "backbone": backbone,
        "vision": vision,
        "language_and_projector": backbone - vision,
        "driving_parts": added,
        "lora_all_linears": adapters,
        "lora_language_only": language,
        "inference_bytes_bf16": frozen,
        "cache_bytes_per_token_bf16": cache,
        # adapters and driving parts in float32 with gradient and two moments beside the frozen backbone
        "lora_training_bytes": backbone * BFLOAT16 + moving * 4 * FLOAT32,
        "full_training_bytes_float32": (backbone + added) * 4 * FLOAT32,
    }


def main() -> None:
    """Print the figures and, if asked, write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=None, help="file for the figures")
    figures = measure()
    text = json.dumps(figures, indent=1)
    print(text)
    arguments = parser.parse_args()
    if arguments.json is not None:
        arguments.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
