"""One thread for a job, so that its floats are the same in one process and in eight."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit BLAS, OpenMP and torch of this process to one thread, and give back what was before."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    loaded = sys.modules.get("torch")
    threads = loaded.get_num_threads() if loaded else len(os.sched_getaffinity(0))
    # Read by libraries that are imported only while a job runs.
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    if loaded:
        loaded.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):  # libraries that are loaded already
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(threads)
