"""From what a user calls a checkpoint to its folder."""

from __future__ import annotations

from pathlib import Path

SHIPPED_BASE = "shipped"  # the base model that comes with the package
SHIPPED_POST_TRAINED = "shipped-takevla"  # and what the whole method made of it
_FOLDERS = {SHIPPED_BASE: "base", SHIPPED_POST_TRAINED: "takevla"}
_SHIPPED = Path(__file__).parent / "shipped"


def shipped_base() -> Path:
    """Folder of the shipped base model.  Raises FileNotFoundError where the package came without."""
    return _shipped(SHIPPED_BASE)


def _shipped(name: str) -> Path:
    folder = _SHIPPED / _FOLDERS[name]
    if not (folder / "model.safetensors").is_file():
        raise FileNotFoundError(
            f"{folder}: the package came without the model {name!r}; make one with `takevla pretrain` or "
            "`takevla run`"
        )
    return folder


def model_folder(name: str) -> Path:
    """The folder of a checkpoint, of a shipped model, or of a repository `owner/name` of the hub.

    A folder of that name goes first; the hub is asked only where there is no `owner` here either.

    Raises:
        FileNotFoundError: there is none of that name, here or there.
    """
    if name in _FOLDERS:
        return _shipped(name)
    folder = Path(name)
    if not folder.is_dir():
        from takevla.driver.vla.repository import is_repository, pull_checkpoint  # seconds to import

        if is_repository(name):
            return pull_checkpoint(name)
        raise FileNotFoundError(
            f"{name}: no such checkpoint folder; give 'shipped', 'shipped-takevla', a folder with "
            "config.json, or owner/name of the hub"
        )
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder}: no config.json; a checkpoint folder of takevla is wanted")
    return folder
