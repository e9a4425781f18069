"""`words.json` of an evaluation with the expert in shadow: what was said against what he would have said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from takevla.bench.statistics import seeded_ratio

WORDS_FILE = "words.json"
Words = Mapping[str, Any]  # of one route, as `takeover.precaution.route_words` gives it
Float = NDArray[np.float64]

# name: (unit, what it is).  Each is a sum over routes divided by another.
WORD_FIGURES: dict[str, tuple[str, str]] = {
    "action_right": ("%", "instants whose words name the expert's action"),
    "cause_right": ("%", "instants whose words name the expert's cause"),
    "both_right": ("%", "instants whose words name both"),
    "bound_both_right": ("%", "the same where something bounds the expert's speed"),
    "takeovers_per_km": ("1/km", "takeovers that the monitor would have called for"),
    "words_lead_s": ("s", "right words before the conflict of a hazard, 0 where there were none"),
    "braking_lead_s": ("s", "first braking before the conflict of a hazard, 0 where there was none"),
    "braking_answer_s": ("s", "the same, counted at the earliest from when the expert names the hazard"),
    "expert_lead_s": ("s", "the expert names the hazard before its conflict"),
    "hazards_named": ("%", "hazards that right words answered before the conflict"),
}
_LEADS = {"words_lead_s": 1, "braking_lead_s": 2, "expert_lead_s": 3}


def parts(words: Words, km: float, name: str) -> tuple[float, float]:
    """Numerator and denominator that a route adds to a figure of `WORD_FIGURES`."""
    hazards: Sequence[Sequence[Any]] = words["hazards"]
    if name == "takeovers_per_km":
        return float(words["takeovers"]), km
    if name == "braking_answer_s":
        return sum(min(braking or 0.0, expert) for _, _, braking, expert in hazards), float(len(hazards))
    if name in _LEADS:
        return sum(row[_LEADS[name]] or 0.0 for row in hazards), float(len(hazards))
    if name == "hazards_named":
        return 100.0 * sum(row[1] is not None for row in hazards), float(len(hazards))
    return 100.0 * words[name], float(words["bound" if name.startswith("bound") else "instants"])


def words_report(routes: Mapping[str, Words], km: Mapping[str, float]) -> dict[str, Any]:
    """The content of `words.json`: every figure with its interval over routes, and the routes themselves."""
    figures: dict[str, Any] = {}
    for name, (unit, meaning) in WORD_FIGURES.items():
        pairs = np.array([parts(words, km[route], name) for route, words in routes.items()], np.float64)
        found = seeded_ratio(pairs[None, :, 0], pairs[None, :, 1]) if len(pairs) else None
        figures[name] = {
            "mean": found and round(found.mean, 4),
            "interval_95": found and [round(found.low, 4), round(found.high, 4)],
            "unit": unit,
            "meaning": meaning,
        }
    return {
        "figures": figures,
        "hazards": sum(len(words["hazards"]) for words in routes.values()),
        "routes": dict(routes),
    }
