"""What works on this machine, what is missing, and the command that mends it."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

MIN_FREE_DISK_GB = 4.0  # a quickstart run with its datasets and checkpoints, with room to spare
BLANK_SPREAD = 1.0  # grey levels; any street scene has more
MIN_MEMORY_GB = 6.0  # two rollout workers and one training process


class Health(Enum):
    """How a check went."""

    OK = "ok"
    OPTIONAL = "optional"  # absent, and only some commands need it
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's answer; `mend` is a command or an instruction, empty when healthy."""

    subject: str
    health: Health
    detail: str
    mend: str = ""


def _python() -> Finding:
    version = platform.python_version()
    if sys.version_info[:2] in {(3, 11), (3, 12)}:
        return Finding("python", Health.OK, version)
    return Finding(
        "python", Health.BROKEN, f"{version}, needs 3.11 or 3.12", "make install PYTHON=python3.11"
    )


def _packages() -> Finding:
    requirements = {
        "torch": "2.13.0",
        "transformers": "5.23.0",
        "numba": "0.68.1",
        "panda3d": "1.10.16",
        "pyarrow": "26.0.1",
    }
    wrong = []
    for name, wanted in requirements.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found = "missing"
        if found.split("+")[0] != wanted:
            wrong.append(f"{name} {found} (wants {wanted})")
    if wrong:
        return Finding("packages", Health.BROKEN, "; ".join(wrong), "pip install --editable .")
    return Finding("packages", Health.OK, ", ".join(f"{name} {v}" for name, v in requirements.items()))


def _machine() -> Finding:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    detail = f"{cores} cores, {pages:.0f} GB memory, the VLA computes in {_arithmetic()}"
    if pages < MIN_MEMORY_GB:
        return Finding(
            "machine", Health.BROKEN, detail, f"use a machine with {MIN_MEMORY_GB:.0f} GB or --workers 1"
        )
    return Finding("machine", Health.OK, detail)


def _arithmetic() -> str:
    try:
        import torch

        from takevla.driver.vla.device import half_precision_on

        if half_precision_on(torch.device("cpu")):
            return "bfloat16"
    except ImportError:
        return "nothing: torch cannot be imported"
    return "float32 (the processor only imitates bfloat16)"


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    if free < MIN_FREE_DISK_GB:
        return Finding(
            "disk", Health.BROKEN, f"{free:.1f} GB free here", f"free {MIN_FREE_DISK_GB:.0f} GB or pass --out"
        )
    return Finding("disk", Health.OK, f"{free:.0f} GB free here")


def _temporary() -> Finding:
    try:
        with tempfile.NamedTemporaryFile():
            return Finding("temporary files", Health.OK, tempfile.gettempdir())
    except OSError as error:
        return Finding("temporary files", Health.BROKEN, str(error), "set TMPDIR to a folder you can write")


def _world_and_camera() -> Finding:
    mend = "pip install --force-reinstall panda3d==1.10.16"
    try:
        from takevla.bench.suites import load_suite
        from takevla.scene.scene import Controls
        from takevla.world.camera import Camera
        from takevla.world.embedded import EmbeddedWorld
        from takevla.world.maps.atlas import load_town

        task = load_suite("train").tasks[0]
        world = EmbeddedWorld(load_town(task.town), task, seed=0)
        world.tick(Controls())
        image = Camera().render(world.road_map, world.scene())
    except Exception as error:
        return Finding("world and camera", Health.BROKEN, f"{type(error).__name__}: {error}", mend)
    if image.std() < BLANK_SPREAD:
        return Finding("world and camera", Health.BROKEN, "the software renderer gives a blank picture", mend)
    return Finding("world and camera", Health.OK, f"software renderer, {image.shape[1]}x{image.shape[0]}")


def _model() -> Finding:
    try:
        from takevla.driver.vla.named import shipped_base

        path = shipped_base()
    except Exception as error:
        return Finding("base model", Health.BROKEN, str(error), "takevla pretrain --out models/base")
    return Finding("base model", Health.OK, path.name)


def _optional(module: str, extra: str, purpose: str) -> Finding:
    try:
        importlib.import_module(module)
    except ImportError:
        return Finding(
            module, Health.OPTIONAL, f"not installed ({purpose})", f"pip install 'takevla[{extra}]'"
        )
    return Finding(module, Health.OK, f"installed ({purpose})")


CHECKS: tuple[Callable[[], Finding], ...] = (
    _python,
    _packages,
    _machine,
    _disk,
    _temporary,
    _world_and_camera,
    _model,
    lambda: _optional("ray", "ray", "jobs on many machines"),
    lambda: _optional("carla", "carla", "a reference for the OpenDRIVE reader in tests"),
    lambda: _optional("carla_driver_interface", "alpasim", "`takevla serve --alpasim`"),
    lambda: _optional("gymnasium", "gym", "the environment takevla/Drive-v0"),
    lambda: _optional("rerun", "rerun", "`takevla watch --rerun`"),
)


def examine() -> list[Finding]:
    """Run every check; a check that breaks is a finding, never an exception."""
    return [check() for check in CHECKS]
