"""Small checkpoints of the families that the model supports, saved as a hub's download would be."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    InternVLConfig,
    InternVLForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

FAMILIES = ("internvl", "qwen2_5_vl", "qwen3_vl", "smolvlm", "idefics3")
SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<|vision_start|>",
    "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", "<image>", "<fake_token_around_image>",
    "<global-img>",
    "<end_of_utterance>", *(f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2, 3)),
)  # fmt: skip
PICTURES = {
    "internvl": "<IMG_CONTEXT>\n",
    "qwen2_5_vl": "<|vision_start|><|image_pad|><|vision_end|>",
    "qwen3_vl": "<|vision_start|><|image_pad|><|vision_end|>",
    "smolvlm": "<image>",
    "idefics3": "<image>",
}
TEXT = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 2048,
}  # fmt: skip


def byte_tokenizer(family: str = "") -> PreTrainedTokenizerFast:
    """Bytes and special tokens, with the family's chat template."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    engine = Tokenizer(models.BPE({letter: index for index, letter in enumerate(letters)}, []))
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    end = "<end_of_utterance>" if family in ("smolvlm", "idefics3") else "<|im_end|>"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=engine,
        pad_token="<|endoftext|>",
        eos_token=end,
        additional_special_tokens=[word for word in SPECIAL if word not in ("<|endoftext|>", end)],
    )
    if family:
        tokenizer.chat_template = (
            "{% for m in messages %}<|im_start|>{{ m.role }}\n"
            "{% for c in m.content %}{% if c.type == 'image' %}"
            + PICTURES[family]
            + "{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
        )
    return tokenizer


def small_backbone(family: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    words = tokenizer.get_vocab()
    text = TEXT | {"vocab_size": len(tokenizer) + 8}
    torch.manual_seed(0)
    if family == "internvl":
        vision = {
            "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": [16, 16], "patch_size": [4, 4],
        }  # fmt: skip
        return InternVLForConditionalGeneration(
            InternVLConfig(
                vision_config=vision,
                text_config=text | {"model_type": "qwen2"},
                image_token_id=words["<IMG_CONTEXT>"],
                image_seq_length=4,
            )
        )
    if family in ("smolvlm", "idefics3"):
        vision = {
            "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 16, "patch_size": 4,
        }  # fmt: skip
        config, model = {
            "smolvlm": (SmolVLMConfig, SmolVLMForConditionalGeneration),
            "idefics3": (Idefics3Config, Idefics3ForConditionalGeneration),
        }[family]
        return model(
            config(
                vision_config=vision,
                text_config=text | {"model_type": "llama"},
                image_token_id=words["<image>"],
                scale_factor=2,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    ids = {
        "image_token_id": words["<|image_pad|>"], "video_token_id": words["<|video_pad|>"],
        "vision_start_token_id": words["<|vision_start|>"], "vision_end_token_id": words["<|vision_end|>"],
    }  # fmt: skip
    if family == "qwen2_5_vl":
        vision = {
            "depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "patch_size": 4,
            "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 32, "window_size": 16,
            "fullatt_block_indexes": [1],
        }  # fmt: skip
        text |= {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 1, 1]}}
        return Qwen2_5_VLForConditionalGeneration(
            Qwen2_5_VLConfig(vision_config=vision, text_config=text, **ids)
        )
    vision = {
        "depth": 3, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "patch_size": 4,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 32,
        "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1],
    }  # fmt: skip
    text |= {
        "head_dim": 8,
        "rope_parameters": {
            "rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 1, 1], "mrope_interleaved": True,
        },
    }  # fmt: skip
    return Qwen3VLForConditionalGeneration(Qwen3VLConfig(vision_config=vision, text_config=text, **ids))


def save_small_vlm(family: str, folder: Path) -> Path:
    """The folder of a small checkpoint of `family`, lively enough for its inputs to make a difference."""
    tokenizer = byte_tokenizer(family)
    model = small_backbone(family, tokenizer)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn(weight.shape))
    model.save_pretrained(folder)
    if family == "idefics3":  # as the first SmolVLM checkpoints lie on the hub
        template, tokenizer.chat_template = tokenizer.chat_template, None
        (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    tokenizer.save_pretrained(folder)
    return folder
