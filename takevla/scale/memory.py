"""Keep the memory that is freed, for its next use."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

# Of glibc's `mallopt`, see its manual page.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
_LARGEST = 2**31 - 1  # bytes
_GROW_BY = 64 << 20  # bytes


def keep_freed_memory() -> None:
    """Let this process reuse what it frees; for processes that work on like tensors over and over.

    By default glibc gives large blocks back to the kernel and takes new ones page by page, zeroed: a
    step of fine-tuning on 32 samples took 88,000 page faults (`docs/scaling.md`, Processors).
    Where there is no glibc nothing happens.
    """
    allocator: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(allocator, "mallopt"):
        return
    for option, value in (
        (_MMAP_MAX, 0),
        (_TRIM_THRESHOLD, _LARGEST),
        (_TOP_PAD, _GROW_BY),
        (_ARENA_MAX, 1),
    ):
        allocator.mallopt(option, value)
