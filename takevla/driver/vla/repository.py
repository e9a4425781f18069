"""Checkpoint folders on the Hugging Face hub, whole: weights, tokenizer, rig and residual head."""

from __future__ import annotations

import json
import re
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

from takevla.driver.vla.checkpoint import FILES
from takevla.driver.vla.config import TakeVLAConfig

REPOSITORY = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")  # owner/name


def is_repository(name: str) -> bool:
    """Whether a name can be a repository's and no path: what is before its slash is not here."""
    return REPOSITORY.fullmatch(name) is not None and not Path(name.split("/")[0]).exists()


def pull_checkpoint(repository: str) -> Path:
    """Folder of the checkpoint `owner/name`, from the hub or from its copy in the cache of this machine.

    Raises:
        FileNotFoundError: no such repository, or the hub is out of reach and there is no copy.
    """
    try:
        return Path(huggingface_hub.snapshot_download(repository))
    except (OSError, ValueError, HTTPError) as error:
        raise FileNotFoundError(
            f"{repository}: no such checkpoint folder, and the hub does not give it ({_reason(error)}); "
            "give a folder with config.json, or owner/name of a repository that you may read"
        ) from error


def push_checkpoint(folder: Path, repository: str, private: bool = True) -> str:
    """Put the checkpoint in `folder` into the repository `owner/name`, made if missing; gives its address.

    Raises:
        FileNotFoundError, ValueError: `folder` holds no checkpoint, or `repository` is no owner/name.
        RuntimeError: the hub refuses or is out of reach.
    """
    for name in FILES:
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder}: no {name}; a checkpoint folder of takevla is wanted")
    kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    if kind != TakeVLAConfig.model_type:
        raise ValueError(f"{folder}: model_type is {kind!r}, not {TakeVLAConfig.model_type!r}")
    if REPOSITORY.fullmatch(repository) is None:
        raise ValueError(f"{repository!r}: must be owner/name")
    api = huggingface_hub.HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Checkpoint of TakeVLA")
    except (OSError, ValueError, HTTPError) as error:
        raise RuntimeError(
            f"{repository}: the hub does not take it ({_reason(error)}); log in with `hf auth login`"
        ) from error
    return str(address)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
