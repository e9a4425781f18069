"""What a run was made with: versions, seed, git revision, machine, wall time, as `run.json`."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("takevla", "torch", "transformers", "peft", "numpy", "numba", "panda3d", "pyarrow", "carla")
# The widest first; matrix products differ in their last bits, and in speed, from one to another.
INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "bf16", "asimd")


@cache
def versions() -> dict[str, str | None]:
    """Installed version of Python and of each of `PACKAGES`; None where not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


@cache
def git_revision() -> str | None:
    """Revision of the checkout this package is imported from, "+changes" when files differ; None outside
    git.
    """
    folder = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments],
                capture_output=True,
                text=True,
                timeout=10,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    revision = git("rev-parse", "HEAD")
    if revision is None or git("ls-files", "--error-unmatch", __file__) is None:
        return None  # an installed package that merely lies inside some other repository
    return revision + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")


@cache
def machine() -> dict[str, Any]:
    """Processor and its widest arithmetic, cores usable by this process, memory and operating system."""
    described = _cpuinfo()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    flags = described.get("flags", described.get("Features", "")).split()
    return {
        "system": platform.platform(),
        "processor": described.get("model name", platform.processor()),
        "instructions": next((one for one in INSTRUCTIONS if one in flags), None),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": memory,
    }


def machine_words(machine: Mapping[str, Any]) -> str:
    """What `machine` says of the processor, for people."""
    said = [machine.get("processor"), f"{machine.get('cores')} cores", machine.get("instructions")]
    return ", ".join(str(one) for one in said if one)


def _cpuinfo() -> dict[str, str]:
    """What Linux says of the first processor, empty elsewhere."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def run_facts(
    command: str, seed: int, settings: Mapping[str, Any], wall_s: float | None = None
) -> dict[str, Any]:
    """The content of `run.json`.  `settings` is whatever the command was told, as JSON values."""
    return {
        "command": command,
        "arguments": sys.argv[1:],
        "seed": seed,
        "settings": dict(settings),
        "versions": versions(),
        "git_revision": git_revision(),
        "machine": machine(),
        "finished": datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds"),
        "wall_s": wall_s,
    }


def tree_digest(path: Path) -> str:
    """SHA-256 over the names and bytes of a file or of all files below a folder, in order of name."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    for file in files:
        digest.update(str(file.relative_to(path)).encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
