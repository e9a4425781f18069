"""The checkpoints that come with the package."""

from __future__ import annotations

from pathlib import Path

SHIPPED = Path(__file__).parent / "shipped"


def shipped_base() -> Path:
    """Folder of the shipped base model.  Raises FileNotFoundError where the package came without."""
    folder = SHIPPED / "base"
    if not (folder / "model.safetensors").is_file():
        raise FileNotFoundError(f"{folder}: no shipped base model; make one with `takevla pretrain`")
    return folder
