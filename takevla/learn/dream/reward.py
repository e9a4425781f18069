"""What a dreamed trajectory earns: small typed terms over its measures.

A term takes the `Measures` of one scene's G trajectories and returns a contribution in [0, 1] or a
penalty, with the raw report it was made from.  Presets combine terms:

- `paper`: discounted closeness to the expert's trajectory, and collision (arXiv 2603.14972).
- `pdm`: gates times weighted terms with the definitions of NAVSIM's PDMS, and lights, driving direction and
  lane keeping as in its EPDMS (benchmark facts 4), and a small share for how long a failing plan endures.
  As in EPDMS a term on which the expert itself earns nothing counts 1.

A term of your own is any function with the signature of `RewardTerm`; the recipe names it by its dotted
path (`dream.terms`), with a weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module

import numpy as np
from numpy.typing import NDArray

from takevla.learn.dream.scenes import STEP_S
from takevla.learn.dream.simulate import Measures

Float = NDArray[np.float32]

CLOSENESS_SCALE_M = 2.0  # a mean deviation of this size earns 1/e
COLLISION_PENALTY = 1.0
ENDURANCE_WEIGHT = 0.25
SHORT_WRONG_WAY_M, LONG_WRONG_WAY_M = 2.0, 6.0  # driving direction (NAVSIM, benchmark facts 4)
STANDS_M, SETS_OFF_M = 1.0, 2.0  # a RESTART takeover: the policy gets no further, the expert at least so far
MIN_PROGRESS_M = 5.0  # below it progress is not judged (NAVSIM, benchmark facts 4)


@dataclass(frozen=True, slots=True)
class TermReport:
    """One term's answer for G trajectories."""

    value: Float  # (G,)
    raw: Float  # (G,) the quantity behind it, in the unit that the term's docstring names


RewardTerm = Callable[[Measures], TermReport]


def expert_closeness(measures: Measures) -> TermReport:
    """exp(-d / 2 m) of the discounted mean distance d (m, raw) to the expert's trajectory."""
    raw = measures.expert_distance_m
    return TermReport(np.exp(-raw / CLOSENESS_SCALE_M).astype(np.float32), raw)


def no_collision(measures: Measures) -> TermReport:
    """1 without any collision; raw is the time of the first one in s (inf: none)."""
    return TermReport(np.isinf(measures.collision_s).astype(np.float32), measures.collision_s)


def no_at_fault_collision(measures: Measures) -> TermReport:
    """NAVSIM NC: 1 without an at-fault collision, 0.5 with static things alone, else 0; raw: when, in s."""
    hit = np.isfinite(measures.fault_s)
    value = np.where(hit, np.where(measures.fault_static, 0.5, 0.0), 1.0)
    return TermReport(value.astype(np.float32), measures.fault_s)


def drivable_area(measures: Measures) -> TermReport:
    """NAVSIM DAC: 1 while every corner stays on the drivable area; raw is the time of leaving it in s."""
    return TermReport(np.isinf(measures.offroad_s).astype(np.float32), measures.offroad_s)


def driving_direction(measures: Measures) -> TermReport:
    """EPDMS DDC: 1 below 2 m within a second in oncoming lanes, 0.5 below 6 m, else 0; raw in m."""
    raw = measures.wrong_way_m
    value = np.where(raw < SHORT_WRONG_WAY_M, 1.0, np.where(raw < LONG_WRONG_WAY_M, 0.5, 0.0))
    return TermReport(value.astype(np.float32), raw)


def stop_lines(measures: Measures) -> TermReport:
    """EPDMS TLC, and stop signs: 1 unless a closed line is crossed; raw is the time of crossing in s."""
    return TermReport(np.isinf(measures.rule_s).astype(np.float32), measures.rule_s)


def time_to_collision(measures: Measures) -> TermReport:
    """NAVSIM TTC: 1 unless a collision lies within 1 s of constant motion; raw is when, in s."""
    return TermReport(np.isinf(measures.ttc_s).astype(np.float32), measures.ttc_s)


def progress(measures: Measures) -> TermReport:
    """NAVSIM EP: progress along the route over the best safe one's, here the expert's; raw in m."""
    best = max(float(measures.expert_progress_m), float(measures.safe_progress_m))
    if best <= MIN_PROGRESS_M:
        value = np.ones_like(measures.progress_m)
    else:
        value = np.clip(measures.progress_m / best, 0.0, 1.0)
    return TermReport(value.astype(np.float32), measures.progress_m)


def setting_off(measures: Measures) -> TermReport:
    """0 where the ego gets no further than 1 m while the expert gets at least 2 m, else 1; raw in m.

    That is the event of a RESTART takeover.  NAVSIM's progress does not judge so short a way, but in closed
    loop who stands now stands again with the next plan.
    """
    stands = (measures.progress_m < STANDS_M) & (measures.expert_progress_m > SETS_OFF_M)
    return TermReport(np.where(stands, 0.0, 1.0).astype(np.float32), measures.progress_m)


def comfort(measures: Measures) -> TermReport:
    """NAVSIM C: 1 while all six limits hold (`simulate`); raw is the share of steps inside them."""
    raw = measures.comfort_share
    return TermReport((raw >= 1.0).astype(np.float32), raw)


def lane_keeping(measures: Measures) -> TermReport:
    """EPDMS LK: 1 unless more than 0.5 m beside the expert's route for 2 s on end; raw that time in s.

    Junctions do not count.
    """
    return TermReport((measures.off_centre_s < 2.0).astype(np.float32), measures.off_centre_s)


def endurance(measures: Measures) -> TermReport:
    """Share of the dream before the first failure (fault, off the road, closed line); raw is its time in s.

    A gate alone gives every failing plan the same reward; this ranks them, so that a group in which all
    fail still teaches to fail later.
    """
    first = np.minimum(np.minimum(measures.fault_s, measures.offroad_s), measures.rule_s)
    horizon_s = (measures.trajectories.path.shape[1] - 1) * STEP_S
    return TermReport(np.minimum(first / horizon_s, 1.0).astype(np.float32), first)


def true_words(measures: Measures) -> TermReport:
    """Share (raw) of the sentences whose action and cause are the expert's; 1 where nobody speaks.

    No preset holds it; ask for it by `dream.terms: {takevla.learn.dream.reward.true_words: 2.0}`.  In an open
    dream the words are said before the plan is drawn, so the term is the same for a whole group and moves
    no advantage.  In a closed dream the plans lead to other frames and so to other words: the term
    prefers driving whose frames the model reads rightly.  It never changes what is said to a frame.
    """
    if measures.words is None:
        said = np.ones_like(measures.progress_m)
    else:
        said = measures.words
    return TermReport(said, said)


@dataclass(frozen=True)
class Reward:
    """Product of `gates` times the weighted mean of `terms`, minus `penalties`.

    With `forgive`, a gate or term on which the expert's own trajectory earns 0 counts 1 (EPDMS).
    """

    gates: tuple[RewardTerm, ...]
    terms: tuple[tuple[float, RewardTerm], ...]
    penalties: tuple[tuple[float, RewardTerm], ...] = ()
    forgive: bool = False

    def __call__(self, measures: Measures) -> tuple[Float, dict[str, TermReport]]:
        """Total (G,) and each term's report by its function name."""
        reports: dict[str, TermReport] = {}

        def value(term: RewardTerm) -> Float:
            report = term(measures)
            if self.forgive and measures.expert is not None and _expert_value(term, measures.expert) == 0.0:
                report = TermReport(np.ones_like(report.value), report.raw)
            reports[term.__name__] = report
            return report.value

        weights = sum(weight for weight, _ in self.terms)
        total = sum((weight * value(term) for weight, term in self.terms), np.zeros(1, np.float32)) / weights
        for gate in self.gates:
            total = total * value(gate)
        for weight, term in self.penalties:
            total = total - weight * (1.0 - value(term))
        return np.asarray(total, np.float32), reports

    def failed(self, measures: Measures, reports: Mapping[str, TermReport]) -> NDArray[np.bool_]:
        """(G,) fault, off the road, a closed line crossed, or a gate at 0 in `reports`, those of a call."""
        failed = ~measures.safe
        for gate in self.gates:
            failed = failed | (reports[gate.__name__].value == 0.0)
        return failed


def _expert_value(term: RewardTerm, expert: Measures) -> float:
    if term not in expert.memory:
        expert.memory[term] = float(term(expert).value[0])
    return expert.memory[term]


_PDM = Reward(
    gates=(no_at_fault_collision, drivable_area, driving_direction, stop_lines),
    terms=((5.0, time_to_collision), (5.0, progress), (2.0, comfort), (2.0, lane_keeping)),
    penalties=((ENDURANCE_WEIGHT, endurance),),
    forgive=True,
)
PRESETS: dict[str, Reward] = {
    "paper": Reward(
        gates=(), terms=((1.0, expert_closeness),), penalties=((COLLISION_PENALTY, no_collision),)
    ),
    "pdm": _PDM,
    "pdm_expert": replace(
        _PDM, gates=(*_PDM.gates, setting_off), terms=(*_PDM.terms, (10.0, expert_closeness))
    ),
}


def preset(name: str, terms: Mapping[str, float] | None = None) -> Reward:
    """The reward of that name, with terms of your own added: dotted path to weight.

    ValueError names the presets there are, or the path that leads to no function.
    """
    if name not in PRESETS:
        raise ValueError(f"dream.reward: no preset '{name}'; there are {', '.join(sorted(PRESETS))}")
    added = tuple((weight, _term_at(path)) for path, weight in (terms or {}).items())
    return replace(PRESETS[name], terms=PRESETS[name].terms + added)


def _term_at(path: str) -> RewardTerm:
    module, _, name = path.rpartition(".")
    try:
        term: RewardTerm = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"dream.terms: '{path}' leads to no function ({error})") from error
    return term
