# mypy: disable-error-code="no-untyped-call"
"""A `TakeVLA` around any image-text-to-text checkpoint of transformers, from the hub or a folder.

The backbone's tokenizer and chat template stay its own.  The prompt is one user turn: the picture, then a
sentence with places for target points, speed and route option; the commentary is the assistant's turn.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)
from transformers.utils.hub import CHAT_TEMPLATE_FILE, LEGACY_PROCESSOR_CHAT_TEMPLATE_FILE, cached_file

from takevla.driver.vla.checkpoint import Checkpoint, save_checkpoint
from takevla.driver.vla.config import IMAGENET_MEAN, IMAGENET_STD, TARGET_POINTS, TakeVLAConfig
from takevla.driver.vla.families.family import SUPPORTED, image_text, tile_px
from takevla.driver.vla.model import TakeVLA
from takevla.driver.vla.settings import VLM_DTYPES, VlmSettings
from takevla.driver.vla.simlingo import simlingo_model
from takevla.world.camera.rig import SIMLINGO_RIG

TARGET_ID, SPEED_ID, OPTION_ID = -1, -2, -3  # places of the prompt that are no token of the vocabulary
PLACES = {"{target}": [TARGET_ID] * TARGET_POINTS, "{speed}": [SPEED_ID], "{option}": [OPTION_ID]}
REQUEST = "Target points: {target} Speed: {speed} Route: {option} What should the ego do next?"
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}{{ picture }}\n{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
HEAD_WIDTH = 256
DTYPES = {name: getattr(torch, name) for name in VLM_DTYPES}


def import_vlm(source: str, settings: VlmSettings) -> Checkpoint:
    """The checkpoint of a driving model around `source`, a hub id or a folder.

    Raises:
        ValueError: a family that is not known, or weights that do not fit the configuration.
        FileNotFoundError: no such folder, or nothing of that name in reach.
    """
    try:
        backbone_config = AutoConfig.from_pretrained(source)
    except OSError as error:
        raise FileNotFoundError(f"{source}: no such checkpoint here or on the hub") from error
    if backbone_config.model_type not in SUPPORTED:
        raise ValueError(
            f"{source}: model_type {backbone_config.model_type!r} is not one of {', '.join(SUPPORTED)}"
        )
    tokenizer = _tokenizer(source)
    if not tokenizer.chat_template:
        tokenizer.chat_template = _template(source)
    if not tokenizer.chat_template:
        print(f"{source}: has no chat template; its prompt is written in ChatML", file=sys.stderr)
    config = vlm_config(source, backbone_config, tokenizer, settings)
    backbone = _backbone(source, DTYPES[settings.dtype], config.attention)
    torch.manual_seed(settings.seed)
    model = TakeVLA(config)
    model.backbone = backbone
    model.eval()
    return Checkpoint(model, tokenizer)


def _tokenizer(source: str) -> Any:
    """The tokenizer at a hub id or in a folder."""
    try:
        return AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FileNotFoundError(f"{source}: no tokenizer here or on the hub ({reason})") from error


def _template(source: str) -> str | None:
    """The chat template in a file of its own, which transformers reads for a processor alone, or None."""
    for name in (CHAT_TEMPLATE_FILE, LEGACY_PROCESSOR_CHAT_TEMPLATE_FILE):
        path = cached_file(
            source, name, _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False, _raise_exceptions_for_gated_repo=False,
        )  # fmt: skip
        if path is None:
            continue
        text = Path(path).read_text(encoding="utf-8")
        if not name.endswith(".json"):
            return text
        try:
            return str(json.loads(text)["chat_template"])
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: holds no `chat_template` ({error!r}); copy it anew") from None
    return None


def _backbone(source: str, dtype: torch.dtype, attention: str) -> Any:
    """The model at a hub id or in a folder, with all of its weights."""
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            source, dtype=dtype, attn_implementation=attention, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{source}: its weights cannot be read ({reason})") from error
    model, found = loaded
    missing = sorted(found["missing_keys"])
    if missing:
        raise ValueError(f"{source}: {len(missing)} weights are missing, first {missing[0]}")
    return model


def vlm_config(
    source: str,
    backbone_config: PreTrainedConfig,
    tokenizer: PreTrainedTokenizerFast,
    settings: VlmSettings,
) -> TakeVLAConfig:
    """The configuration of a `TakeVLA` around a backbone of this configuration."""
    mean, std = _normalisation(source)
    config = TakeVLAConfig(
        backbone_config=backbone_config,
        backbone_dtype=settings.dtype,
        tile_rows=settings.tile_rows,
        tile_columns=settings.tile_columns,
        bottom_crop=settings.bottom_crop,
        image_mean=mean,
        image_std=std,
        target_token_id=TARGET_ID,
        speed_token_id=SPEED_ID,
        option_token_id=OPTION_ID,
        max_words=settings.max_words,
        head_width=HEAD_WIDTH,
    )
    config.tile_px = settings.tile_px or tile_px(config)
    placeholder, picture = image_text(config)
    config.image_token_id = _token(tokenizer, placeholder, source)
    config.eos_token_id = _end_of_turn(tokenizer, source)
    pad = tokenizer.pad_token_id
    config.pad_token_id = int(config.eos_token_id if pad is None else pad)
    chat = chat_text(tokenizer, placeholder, REQUEST)
    if chat.count(placeholder) != 1:
        raise ValueError(f"{source}: its chat template does not write {placeholder} once for a picture")
    config.prompt_ids = tuple(prompt_tokens(tokenizer, chat.replace(placeholder, picture)))
    return config


def chat_text(tokenizer: PreTrainedTokenizerFast, placeholder: str, request: str) -> str:
    """One user turn of a picture and `request`, and the beginning of the answer, by the tokenizer's template,
    in ChatML where it has none.
    """
    content = [{"type": "image"}, {"type": "text", "text": request}]
    further = {} if tokenizer.chat_template else {"chat_template": CHATML, "picture": placeholder}
    template: Any = tokenizer.apply_chat_template
    text = template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True, **further
    )
    return str(text)


def prompt_tokens(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Tokens of `text`, with the ids of `PLACES` where it names one."""
    for name, ids in PLACES.items():
        if name in text:
            before, after = text.split(name, 1)
            return [*prompt_tokens(tokenizer, before), *ids, *prompt_tokens(tokenizer, after)]
    tokens: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return tokens


def _token(tokenizer: PreTrainedTokenizerFast, word: str, source: str) -> int:
    found = tokenizer.get_vocab().get(word)
    if found is None:
        raise ValueError(f"{source}: its tokenizer has no token {word}")
    return int(found)


def _end_of_turn(tokenizer: PreTrainedTokenizerFast, source: str) -> int:
    """What ends the assistant's turn."""
    vocabulary = tokenizer.get_vocab()
    for word in ("<end_of_utterance>", "<|im_end|>"):
        if word in vocabulary:
            return int(vocabulary[word])
    if tokenizer.eos_token_id is None:
        raise ValueError(f"{source}: its tokenizer names no end of a turn")
    return int(tokenizer.eos_token_id)


def _normalisation(source: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Pixel mean and deviation of the checkpoint's image processor; ImageNet's where it has none."""
    try:
        processor: Any = AutoImageProcessor.from_pretrained(source, backend="pil")
    except (OSError, ValueError, json.JSONDecodeError):
        return IMAGENET_MEAN, IMAGENET_STD
    return tuple(processor.image_mean), tuple(processor.image_std)


def import_simlingo(file: Path, tokenizer_source: str, out: Path) -> None:
    """Write the checkpoint folder `out` of a SimLingo state dict (`pytorch_model.pt`).

    Raises:
        FileNotFoundError: no such file, or no such tokenizer.
        ValueError: no state dict, or one that does not fit.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; give SimLingo's pytorch_model.pt")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError, KeyError) as error:
        raise ValueError(f"{file}: not a file of weights alone") from error
    if not isinstance(state, dict):
        raise ValueError(f"{file}: holds no state dict but a {type(state).__name__}")
    tokenizer = _tokenizer(tokenizer_source)
    try:
        model = simlingo_model(state.get("state_dict", state), tokenizer)
    except ValueError as error:
        raise ValueError(f"{file}: no SimLingo checkpoint as released: {error}") from error
    save_checkpoint(out, Checkpoint(model, tokenizer, rig=SIMLINGO_RIG))
