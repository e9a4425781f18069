"""TakeVLA: post-train a vision-language-action driving model on its own mistakes."""

import hashlib
import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from takevla.bench.drivers import load_driver
    from takevla.bench.runner import evaluate
    from takevla.bench.suites import load_suite
    from takevla.dataset.lerobot import export_lerobot
    from takevla.dataset.reader import Dataset
    from takevla.driver.closed_loop import Seat, drive
    from takevla.report.clips import film_route
    from takevla.report.recording import record_route
    from takevla.scene.plan import Observation, Plan
    from takevla.world.camera import Camera
    from takevla.world.embedded import EmbeddedWorld
    from takevla.world.maps.atlas import load_town

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

_API = {  # name -> module; imported when first asked for, so that `import takevla` stays fast
    "Camera": "takevla.world.camera",
    "Dataset": "takevla.dataset.reader",
    "EmbeddedWorld": "takevla.world.embedded",
    "Observation": "takevla.scene.plan",
    "Plan": "takevla.scene.plan",
    "Seat": "takevla.driver.closed_loop",
    "drive": "takevla.driver.closed_loop",
    "evaluate": "takevla.bench.runner",
    "export_lerobot": "takevla.dataset.lerobot",
    "film_route": "takevla.report.clips",
    "load_driver": "takevla.bench.drivers",
    "load_suite": "takevla.bench.suites",
    "load_town": "takevla.world.maps.atlas",
    "record_route": "takevla.report.recording",
}
__all__ = [
    "Camera",
    "Dataset",
    "EmbeddedWorld",
    "Observation",
    "Plan",
    "Seat",
    "drive",
    "evaluate",
    "export_lerobot",
    "film_route",
    "load_driver",
    "load_suite",
    "load_town",
    "record_route",
]


def __getattr__(name: str) -> Any:
    """A name of the API, from the room where it lives."""
    if name not in _API:
        raise AttributeError(f"module 'takevla' has no attribute {name!r}")
    return getattr(importlib.import_module(_API[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_API})
