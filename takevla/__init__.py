"""TakeVLA: post-train a vision-language-action driving model on its own mistakes."""

import hashlib
import os
from pathlib import Path

__version__ = "0.1.0"


def _own_kernel_cache() -> None:
    """Give numba a cache that belongs to the kernels as they are now.

    Its own check looks only at the file that defines a kernel, not at those it calls, so after an edit or
    a pull it could go on running old code.  Must run before numba is imported.
    """
    package = Path(__file__).parent
    if "NUMBA_CACHE_DIR" in os.environ or not os.access(package, os.W_OK):
        return
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        text = path.read_bytes()
        if b"njit" in text:
            digest.update(text)
    os.environ["NUMBA_CACHE_DIR"] = str(package / "__pycache__" / f"kernels-{digest.hexdigest()[:12]}")


_own_kernel_cache()
