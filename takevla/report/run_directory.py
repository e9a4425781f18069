"""What a run left on disk, as far as it is there.

run/base_eval/{results,metrics,run}.json
run/rounds/<n>/takeovers/                 a dataset
run/rounds/<n>/sft/{curves,audit}.json    and model/
run/rounds/<n>/dream/{curves,audit}.json  and model/
run/final_eval/{results,metrics,run}.json
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from takevla.dataset.reader import Dataset

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Training:
    """One stage of learning: curves as rows with a `step` (or `update`), and what it was fed."""

    curves: Rows
    audit: Mapping[str, Any]
    result: Mapping[str, Any]  # before_after.json of dreaming
    model: Path | None


@dataclass(frozen=True)
class Round:
    """One turn of the loop."""

    number: int
    takeovers: Dataset | None
    sft: Training | None
    dream: Training | None


@dataclass(frozen=True)
class Run:
    """Everything the report is made of.  What a run has not done is None or empty."""

    path: Path
    before: Mapping[str, Any] | None  # metrics.json of the base model
    after: Mapping[str, Any] | None  # and of the post-trained one
    facts: Mapping[str, Mapping[str, Any]]  # run.json by stage, in the order of the stages
    rounds: tuple[Round, ...]


def read_json(path: Path) -> Any:
    """Content of a JSON file, None where there is no such file; broken JSON is refused by name."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON ({error}); delete it and run its stage again") from error


def _training(path: Path) -> Training | None:
    curves, audit = read_json(path / "curves.json"), read_json(path / "audit.json")
    if curves is None and audit is None:
        return None
    rows = curves if isinstance(curves, list) else (curves or {}).get("rows", [])
    model = path / "model"
    result = read_json(path / "before_after.json") or {}
    return Training(rows, audit or {}, result, model if model.is_dir() else None)


def _round(path: Path) -> Round:
    takeovers = path / "takeovers"
    return Round(
        number=int(path.name),
        takeovers=Dataset(takeovers) if (takeovers / "manifest.json").is_file() else None,
        sft=_training(path / "sft"),
        dream=_training(path / "dream"),
    )


def read_run(path: Path) -> Run:
    """Read a run directory.  A folder that holds no part of a run is refused."""
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such run directory")
    folders = sorted(
        (one for one in (path / "rounds").glob("*") if one.name.isdigit()), key=lambda p: int(p.name)
    )
    stages = {"evaluation before": path / "base_eval"}
    for folder in folders:
        for stage in ("takeovers", "sft", "dream"):
            stages[f"round {folder.name}, {stage}"] = folder / stage
    stages["evaluation after"] = path / "final_eval"
    facts = {name: content for name, folder in stages.items() if (content := read_json(folder / "run.json"))}
    if whole := read_json(path / "run.json"):
        facts = {"whole run": whole} | facts
    run = Run(
        path=path,
        before=read_json(path / "base_eval" / "metrics.json"),
        after=read_json(path / "final_eval" / "metrics.json"),
        facts=facts,
        rounds=tuple(_round(folder) for folder in folders),
    )
    if not (run.before or run.after or run.rounds or facts):
        raise ValueError(f"{path}: no run directory: neither base_eval, rounds nor final_eval in it")
    return run
