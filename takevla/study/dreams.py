"""What became of a cell's dreams: the small numbers of each dreaming stage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from takevla.files import read_json
from takevla.rounds import NOT_DREAMED

JUDGED = ("scenes", "reward_before", "reward_after", "failure_rate_before", "failure_rate_after")
CALM = tuple(f"calm_{name}" for name in JUDGED)
CURVES = ("step", "kl_scenes", "kl_anchor", "degenerate_groups", "std")  # of the last update
DREAM_FOLDER = "dream"


def dream_facts(stage: str, folder: Path) -> dict[str, Any]:
    """The numbers of the dreaming stage `stage` whose output lies in `folder`.

    `refused` is None, or why nothing was learned and the fine-tuned model drives as it is.
    """
    judged, audit = read_json(folder / "before_after.json"), read_json(folder / "audit.json")
    refused = judged.get(NOT_DREAMED)
    curves: list[Mapping[str, Any]] = [] if refused else read_json(folder / "curves.json")
    return {
        "stage": stage,
        "refused": refused,
        "audit": audit,
        "judged": {name: _rounded(judged.get(name)) for name in (*JUDGED, *CALM)} if not refused else {},
        "last_update": {name: _rounded(curves[-1].get(name)) for name in CURVES} if curves else {},
    }


def is_dream(stage: str) -> bool:
    """Whether a stage of this folder dreams."""
    return stage.rsplit("/", 1)[-1] == DREAM_FOLDER


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
