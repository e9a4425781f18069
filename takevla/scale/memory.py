"""Keep the memory that is freed, for its next use, and let the kernel serve it in large pages."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

# Of glibc's `mallopt`, see its manual page.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
_NEVER = -1
_GROW_BY = 64 << 20  # bytes
_MADV_HUGEPAGE = 14  # of Linux's `madvise`
_LARGE_PAGE = 2 << 20  # bytes
_AHEAD = 4 << 30  # bytes of addresses, not of memory


@cache  # of a process the first call does it all
def keep_freed_memory() -> None:
    """Let this process reuse what it frees; for processes that work on like tensors over and over.

    By default glibc gives large blocks back to the kernel and takes new ones page by page, zeroed: a
    step of fine-tuning on 32 samples took 88,000 page faults (`docs/scaling.md`, Processors).
    Where there is no glibc nothing happens.
    """
    libc: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(libc, "mallopt"):
        return
    for option, value in (
        (_MMAP_MAX, 0),
        (_TRIM_THRESHOLD, _NEVER),
        (_TOP_PAD, _GROW_BY),
        (_ARENA_MAX, 1),
    ):
        libc.mallopt(option, value)
    _take_large_pages(libc)


def _take_large_pages(libc: Any) -> None:
    """Advise the kernel to back the heap's next `_AHEAD` bytes with large pages once they are touched.

    The addresses are taken in one block, advised and freed, which leaves them to the heap.  Where the
    kernel grants neither the addresses nor large pages, nothing changes.
    """
    libc.malloc.restype = ctypes.c_void_p
    block = libc.malloc(ctypes.c_size_t(_AHEAD))
    if block is None:
        return
    start = -(-block // _LARGE_PAGE) * _LARGE_PAGE
    libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(block + _AHEAD - start), _MADV_HUGEPAGE)
    libc.free(ctypes.c_void_p(block))
