"""Made-up cells of a study for the tests of its figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from made_up_outcomes import random_outcomes

from takevla.bench.abilities import ABILITIES
from takevla.bench.leaderboard_json import leaderboard
from takevla.bench.metrics import metrics
from takevla.bench.words import WORDS_FILE, words_report
from takevla.files import write_json
from takevla.study.cell import StageFacts, make_cell

TYPES = sorted({name for types in ABILITIES.values() for name in types})
MACHINE = {"processor": "made up", "cores": 2}


def made_up_words(skill: float, generator: np.random.Generator) -> dict[str, Any]:
    count = int(generator.integers(60, 120))
    right = int(count * skill)
    hazards = [
        ["pedestrian", 2.0 * skill if generator.random() < skill else None, 1.0 + skill, 2.5]
        for _ in range(int(generator.integers(0, 3)))
    ]
    return {
        "instants": count,
        "spoken": count,
        "action_right": right,
        "cause_right": right,
        "both_right": right - 5,
        "bound": count // 2,
        "bound_both_right": right // 3,
        "takeovers": int(generator.poisson(2 * (1 - skill))),
        "hazards": hazards,
    }


def write_cell(results: Path, suite: str, arm: str, seed: int, skill: float) -> Path:
    """A cell of an evaluation that never was, made by the study's own code."""
    generator = np.random.Generator(np.random.PCG64(seed + 100))
    outcomes = random_outcomes(TYPES, skill, seed)
    folder = results.parent / "evaluations" / suite / arm / str(seed)
    write_json(folder / "metrics.json", metrics(outcomes, len(outcomes)))
    write_json(folder / "results.json", leaderboard(outcomes, len(outcomes)))
    words = {one.route_id: made_up_words(skill, generator) for one in outcomes}
    write_json(folder / WORDS_FILE, words_report(words, {one.route_id: 0.1 for one in outcomes}))
    facts = [
        StageFacts(stage, f"{stage}-{arm}-{seed}", 300.0, "0" * 40, MACHINE, "2026-01-01T00:00:00+00:00")
        for stage in ("base_eval", "rounds/1/sft", "final_eval")
    ]
    path = results / "arms" / suite / arm / f"{seed}.json"
    write_json(path, make_cell(arm, arm.replace("_", " "), seed, suite, facts, folder))
    return path
