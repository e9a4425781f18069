"""Small files: written whole or not at all, and named when they cannot be read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def read_json(path: Path, mend: str = "remove it and make it anew") -> Any:
    """Content of a JSON file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is broken; names the file and the `mend`.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}); {mend}") from None


def write_json(path: Path, content: Any) -> None:
    """JSON of `content`, which holds finite numbers alone; folders that are missing are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def write_whole(path: Path, content: Any) -> None:
    """Write bytes or a buffer beside and rename, so that `path` holds all of it or what it held before."""
    beside = path.with_name(f"{path.name}.partial")  # what a killed writer left is written over
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
