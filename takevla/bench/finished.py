"""Finished routes of an evaluation on disk: one JSON file each, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from takevla.bench.outcome import RouteOutcome, TtcSummary
from takevla.files import read_json, write_json

PLAN = "plan.json"


@dataclass(frozen=True)
class FinishedRoute:
    """What came of a route: an outcome, or the reason for its absence."""

    outcome: RouteOutcome | None
    reason: str = ""
    words: Mapping[str, Any] | None = None  # with the expert in shadow, see `bench.words`


def _file(folder: Path, index: int) -> Path:
    return folder / f"route-{index:05d}.json"


def begin(folder: Path, plan: Mapping[str, Any], resume: bool) -> None:
    """Make `folder` ready for the routes of an evaluation with these settings.

    With `resume`, routes of an evaluation with the same settings are kept; without, they are removed.

    Raises:
        ValueError: there are routes of an evaluation with other settings to go on from.
    """
    path = folder / PLAN
    wanted = json.loads(json.dumps(plan))
    if resume and path.is_file():
        found = read_json(path, "remove the folder or choose another")
        if found != wanted:
            differing = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
            raise ValueError(
                f"{folder.parent}: holds an evaluation with another {' and '.join(differing)}; "
                "choose another folder or start it over without resuming"
            )
        return
    for old in folder.glob("route-*.json"):
        old.unlink()
    write_json(path, wanted)


def write_route(folder: Path, index: int, route: FinishedRoute) -> None:
    """Commit a route."""
    outcome = None if route.outcome is None else asdict(route.outcome)
    write_json(_file(folder, index), {"outcome": outcome, "reason": route.reason, "words": route.words})


def read_route(folder: Path, index: int) -> FinishedRoute | None:
    """A committed route, None where there is none."""
    path = _file(folder, index)
    if not path.is_file():
        return None
    content = read_json(path, "remove it, and the route is driven again")
    outcome = None if content["outcome"] is None else _outcome(content["outcome"])
    return FinishedRoute(outcome, content["reason"], content["words"])


def _outcome(row: Mapping[str, Any]) -> RouteOutcome:
    values = {field.name: row[field.name] for field in fields(RouteOutcome)}
    values["infractions"] = {name: tuple(messages) for name, messages in row["infractions"].items()}
    ttc = row["ttc"]
    values["ttc"] = ttc and TtcSummary(**(ttc | {"histogram": tuple(ttc["histogram"])}))
    return RouteOutcome(**values)
