"""What a run left on disk, as far as it is there.

run/base_eval/{results,metrics,run}.json
run/rehearsal/, run/starts/                  datasets
run/rounds/<n>/takeovers/, expert/           datasets
run/rounds/<n>/sft/{curves,mixture}.json     and model/
run/rounds/<n>/dream/{curves,audit,fans}.json   and model/
run/final_eval/{results,metrics,run}.json
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from takevla import files
from takevla.dataset.reader import Dataset

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Training:
    """One stage of learning: curves as rows with a `step` (or `update`)."""

    curves: Rows
    audit: Mapping[str, Any]  # of the mixture that fine-tuning was fed, or of how true the dreams are
    result: Mapping[str, Any]  # sft.json, or before_after.json of dreaming
    model: Path | None
    fans: Rows = ()  # fans.json of dreaming


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
    rehearsal: Dataset | None  # pre-training frames
    rounds: tuple[Round, ...]


def _read_json(path: Path) -> Any:
    """Content of a JSON file, None where there is no such file; broken JSON is refused by name."""
    return files.read_json(path, "delete it and run its stage again") if path.is_file() else None


def _training(path: Path, audit: str, result: str) -> Training | None:
    curves, judged = _read_json(path / "curves.json"), _read_json(path / audit)
    if curves is None and judged is None:
        return None
    model = path / "model"
    return Training(
        curves or [],
        judged or {},
        _read_json(path / result) or {},
        model if model.is_dir() else None,
        _read_json(path / "fans.json") or (),
    )


def _dataset(path: Path) -> Dataset | None:
    return Dataset(path) if (path / "manifest.json").is_file() else None


def _round(path: Path) -> Round:
    return Round(
        number=int(path.name),
        takeovers=_dataset(path / "takeovers"),
        sft=_training(path / "sft", "mixture.json", "sft.json"),
        dream=_training(path / "dream", "audit.json", "before_after.json"),
    )


def read_run(path: Path) -> Run:
    """Read a run directory.  A folder that holds no part of a run is refused."""
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such run directory")
    folders = sorted(
        (one for one in (path / "rounds").glob("*") if one.name.isdigit()), key=lambda p: int(p.name)
    )
    stages = {
        "evaluation before": path / "base_eval",
        "the expert drives": path / "rehearsal",
        "the expert sets off": path / "starts",
    }
    for folder in folders:
        for stage in ("takeovers", "expert", "sft", "dream"):
            stages[f"round {folder.name}, {stage}"] = folder / stage
    stages["evaluation after"] = path / "final_eval"
    facts = {name: content for name, folder in stages.items() if (content := _read_json(folder / "run.json"))}
    if whole := _read_json(path / "run.json"):
        facts = {"whole run": whole} | facts
    run = Run(
        path=path,
        before=_read_json(path / "base_eval" / "metrics.json"),
        after=_read_json(path / "final_eval" / "metrics.json"),
        facts=facts,
        rehearsal=_dataset(path / "rehearsal"),
        rounds=tuple(_round(folder) for folder in folders),
    )
    if not (run.before or run.after or run.rounds or facts):
        raise ValueError(f"{path}: no run directory: neither base_eval, rounds nor final_eval in it")
    return run
