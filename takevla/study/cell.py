"""A cell of the table: the figures of one arm and one seed on a suite, small enough to keep in a repository.

Routes are columns, in the order of the suite, so that cells pair by route:

    {"arm", "title", "seed", "suite", "command", "git_revision", "machine", "stages": [...], "figures": {...},
     "routes": {"route_id": [...], "driving_score": [...], ...}, "routes_unscored": {...},
     "ttc_histogram": [...], "words": {...} or null, "dreams": [...]}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from takevla.bench.words import WORDS_FILE
from takevla.files import read_json
from takevla.report.compare import events

TICKS_PER_S = 20.0
CLOSE_S = 1.5  # a frame with a smaller time-to-collision has little margin
FIGURES = (
    "driving_score", "success_rate", "driving_score_scored", "success_rate_scored", "route_completion",
    "efficiency", "comfort", "comfort_si", "ttc_mean_s", "ttc_coverage", "routes_total", "routes_scored",
    "ability", "sim_s", "ttc_bin_s",
)  # fmt: skip
ROUTE_COLUMNS = frozenset({  # what `route_columns` writes
    "route_id", "town", "scenario_type", "driving_score", "success", "abilities_passed", "route_completion",
    "efficiency", "comfort", "comfort_si", "ttc_mean_s", "frames", "frames_on_course", "frames_close",
    "least_ttc_bin", "km", "events",
})  # fmt: skip
BASE = "base"  # the arm that all others are compared with
FULL = "takevla"  # the arm that is the whole method
ORDER = (  # of the tables; arms of other names come after these, by name
    BASE, "expert_frames", "dagger", "dagger_dpo", "dagger_dpo_2", "dagger_dpo_3", "language_plain",
    "language_enhanced", FULL, "takevla_2", "takevla_3", "no_pre_takeover", "takevla_closed",
    "takevla_dpo", "takevla_words", "ordinary_expert",
)  # fmt: skip
Cell = Mapping[str, Any]


def arm_order(name: str) -> tuple[int, str]:
    """Sorting key of arms in tables."""
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)


@dataclass(frozen=True)
class StageFacts:
    """What a stage was made with."""

    folder: str
    key: str
    wall_s: float | None
    git_revision: str | None
    machine: Mapping[str, Any]
    finished: str

    def to_json(self) -> dict[str, Any]:
        """Without the machine, which the cell names once."""
        wall_s = None if self.wall_s is None else round(self.wall_s, 1)
        return {
            "folder": self.folder, "key": self.key, "wall_s": wall_s,
            "git_revision": self.git_revision, "finished": self.finished,
        }  # fmt: skip


def make_cell(
    arm: str,
    title: str,
    seed: int,
    suite: str,
    facts: Sequence[StageFacts],
    evaluation: Path,
    dreams: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The figures of a cell from the folder of its last evaluation; `dreams` as `dream_facts` gives them."""
    metrics = read_json(evaluation / "metrics.json")
    results = read_json(evaluation / "results.json")
    words = evaluation / WORDS_FILE
    return {
        "arm": arm,
        "title": title,
        "seed": seed,
        "suite": suite,
        "command": f"takevla arms --arms '[{arm}]' --seeds '[{seed}]' --suite {suite.split('-')[0]}",
        "git_revision": facts[-1].git_revision,
        "machine": dict(facts[-1].machine),
        "stages": [one.to_json() for one in facts],
        "figures": {name: metrics[name] for name in FIGURES},
        "routes": route_columns(metrics, results),
        "routes_unscored": metrics["routes_unscored"],
        "ttc_histogram": histogram(metrics["per_route"]),
        "words": read_json(words) if words.is_file() else None,
        "dreams": list(dreams),
    }


def route_columns(metrics: Mapping[str, Any], results: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Routes with an outcome as columns."""
    records = results["_checkpoint"]["records"]
    columns: dict[str, list[Any]] = {}
    for row, record in zip(metrics["per_route"], records, strict=True):
        counts = row["ttc_histogram"] or []
        close = round(CLOSE_S / metrics["ttc_bin_s"])
        met = [k for k, count in enumerate(counts) if count]
        share = record["scores"]["score_route"] / 100.0
        values = {
            "route_id": str(row["route_id"]),
            "town": row["town"],
            "scenario_type": row["scenario_type"],
            "driving_score": row["driving_score"],
            "success": bool(row["success"]),
            "abilities_passed": row.get("abilities_passed"),
            "route_completion": row["route_completion"],
            "efficiency": _rounded(row["efficiency"], 3),
            "comfort": _rounded(row["comfort"], 3),
            "comfort_si": _rounded(row["comfort_si"], 3),
            "ttc_mean_s": _rounded(row["ttc_mean_s"], 4),
            "frames": round(row["sim_s"] * TICKS_PER_S),
            "frames_on_course": sum(counts),
            "frames_close": sum(counts[:close]),
            "least_ttc_bin": met[0] if met else None,
            "km": round(record["meta"]["route_length"] * share / 1000.0, 5),
            "events": events(row),
        }
        for name, value in values.items():
            columns.setdefault(name, []).append(value)
    return columns


def has_all(cell: Cell) -> bool:
    """Whether a cell has every column that cells are written with now."""
    return cell["routes"].keys() >= ROUTE_COLUMNS


def histogram(per_route: Sequence[Mapping[str, Any]]) -> list[int]:
    """Frames on a collision course by their least time-to-collision, over all routes."""
    rows = [row["ttc_histogram"] for row in per_route if row["ttc_histogram"]]
    return [sum(column) for column in zip(*rows, strict=True)]


def read_cells(folder: Path) -> dict[str, dict[int, Cell]]:
    """All cells of a suite's folder, by arm and seed."""
    found: dict[str, dict[int, Cell]] = {}
    for path in sorted(folder.glob("*/*.json")):
        cell = read_json(path)
        if not isinstance(cell, dict) or not cell.keys() >= {"arm", "seed", "suite", "figures", "routes"}:
            raise ValueError(f"{path}: no cell of a study; `takevla arms` writes those")
        if cell["arm"] != path.parent.name or str(cell["seed"]) != path.stem:
            raise ValueError(
                f"{path}: holds arm '{cell['arm']}', seed {cell['seed']}; a cell lies under its own name"
            )
        found.setdefault(cell["arm"], {})[int(cell["seed"])] = cell
    return found


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
