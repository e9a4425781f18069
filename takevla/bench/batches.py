"""Finished batches of an evaluation on disk: one JSON file each, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from takevla.bench.leaderboard_json import write_json
from takevla.bench.outcome import RouteOutcome, TtcSummary

PLAN = "plan.json"


@dataclass(frozen=True)
class BatchResult:
    """What came of a batch: an outcome or the reason for its absence, for each route in order."""

    outcomes: tuple[RouteOutcome | None, ...]
    reasons: tuple[str, ...]  # "" where there is an outcome
    wall_s: float
    words: tuple[Mapping[str, Any] | None, ...] = ()  # with the expert in shadow, see `bench.words`


def _file(folder: Path, index: int) -> Path:
    return folder / f"batch-{index:05d}.json"


def begin(folder: Path, plan: Mapping[str, Any], resume: bool) -> None:
    """Make `folder` ready for the batches of an evaluation with these settings.

    With `resume`, batches of an evaluation with the same settings are kept; without, they are removed.

    Raises:
        ValueError: there are batches of an evaluation with other settings to go on from.
    """
    path = folder / PLAN
    wanted = json.loads(json.dumps(plan))
    if resume and path.is_file():
        try:
            found = json.loads(path.read_text())
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: not JSON ({error}); remove the folder or choose another") from error
        if found != wanted:
            differing = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
            raise ValueError(
                f"{folder.parent}: holds an evaluation with another {' and '.join(differing)}; "
                "choose another folder or start it over without resuming"
            )
        return
    for old in folder.glob("batch-*.json"):
        old.unlink()
    write_json(path, wanted)


def write_batch(folder: Path, index: int, result: BatchResult) -> None:
    """Commit one batch."""
    rows = [None if one is None else asdict(one) for one in result.outcomes]
    content = {"outcomes": rows, "reasons": list(result.reasons), "wall_s": result.wall_s}
    write_json(_file(folder, index), content | {"words": list(result.words)})


def read_batch(folder: Path, index: int) -> BatchResult | None:
    """A committed batch, None where there is none."""
    path = _file(folder, index)
    if not path.is_file():
        return None
    content = json.loads(path.read_text())
    outcomes = tuple(None if row is None else _outcome(row) for row in content["outcomes"])
    return BatchResult(outcomes, tuple(content["reasons"]), content["wall_s"], tuple(content["words"]))


def _outcome(row: Mapping[str, Any]) -> RouteOutcome:
    values = {field.name: row[field.name] for field in fields(RouteOutcome)}
    values["infractions"] = {name: tuple(messages) for name, messages in row["infractions"].items()}
    ttc = row["ttc"]
    values["ttc"] = ttc and TtcSummary(**(ttc | {"histogram": tuple(ttc["histogram"])}))
    return RouteOutcome(**values)
