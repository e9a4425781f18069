"""Where a model's weights lie, and how its inputs get there.

Pictures are prepared and changed at random on the CPU, whatever the device, so that what a model sees does
not depend on it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast

import torch
from torch import nn

CPU = "cpu"
AUTO = "auto"
KINDS = ("cuda", "mps")  # in the order in which `AUTO` looks for them
Value = TypeVar("Value")


def torch_device(name: str) -> torch.device:
    """The device of this name: "cpu", "cuda", "cuda:1", "mps", or "auto" for the first that is there.

    Under `accelerate launch`, "cuda" without a number is the process's own GPU.

    Raises:
        ValueError: no such device, or none on this machine.
    """
    if name == AUTO:
        name = next((kind for kind in KINDS if _count(kind)), CPU)
    kind, _, number = name.partition(":")
    if kind not in (CPU, *KINDS) or (number and not number.isdigit()):
        raise ValueError(f"device {name!r}: give cpu, cuda, cuda:NUMBER, mps or auto")
    if kind == "cuda" and not number:
        number = os.environ.get("LOCAL_RANK", "")
    if kind != CPU and int(number or 0) >= _count(kind):
        raise ValueError(f"device {name!r}: torch {torch.__version__} finds {_count(kind)} here; give cpu")
    return torch.device(kind, int(number)) if number else torch.device(kind)


def half_precision_on(device: torch.device, asked: bool | None = None) -> bool:
    """Whether matrix products are made in bfloat16 on `device`: as `asked`, or (None) where that is quicker.

    A processor without AVX-512 (or Arm's BF16) only imitates it: a convolution takes sixty times as long.
    """
    if asked is not None:
        return asked
    if device.type != CPU:
        return True
    onednn: Any = torch.backends.mkldnn  # untyped
    return bool(onednn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _count(kind: str) -> int:
    """How many devices of a kind there are."""
    return torch.cuda.device_count() if kind == "cuda" else int(torch.backends.mps.is_available())


def to_device(value: Value, device: torch.device) -> Value:
    """A tensor, or a mapping, list or dataclass of them, on `device`; what is there already is not copied.

    A model is moved in place.
    """
    if isinstance(value, (torch.Tensor, nn.Module)):
        movable: Any = value  # transformers' own signature of `to` hides its argument
        return cast(Value, movable.to(device))
    if isinstance(value, Mapping):
        return cast(Value, {key: to_device(one, device) for key, one in value.items()})
    if isinstance(value, list):
        return cast(Value, [to_device(one, device) for one in value])
    if is_dataclass(value):
        kind: Any = type(value)
        return cast(Value, kind(*(to_device(getattr(value, one.name), device) for one in fields(value))))
    return value
