"""From what a user calls a checkpoint to its folder."""

from __future__ import annotations

from pathlib import Path

SHIPPED_BASE = "shipped"  # the name of the base model that comes with the package
_SHIPPED = Path(__file__).parent / "shipped"


def shipped_base() -> Path:
    """Folder of the shipped base model.  Raises FileNotFoundError where the package came without."""
    folder = _SHIPPED / "base"
    if not (folder / "model.safetensors").is_file():
        raise FileNotFoundError(f"{folder}: no shipped base model; make one with `takevla pretrain`")
    return folder


def model_folder(name: str) -> Path:
    """The folder of a checkpoint, of the shipped base, or of a repository `owner/name` of the hub.

    A folder of that name goes first; the hub is asked only where there is no `owner` here either.

    Raises:
        FileNotFoundError: there is none of that name, here or there.
    """
    if name == SHIPPED_BASE:
        return shipped_base()
    folder = Path(name)
    if not folder.is_dir():
        from takevla.driver.vla.repository import is_repository, pull_checkpoint  # seconds to import

        if is_repository(name):
            return pull_checkpoint(name)
        raise FileNotFoundError(
            f"{name}: no such checkpoint folder; give 'shipped', a folder with config.json, or owner/name of "
            "the hub"
        )
    return folder
