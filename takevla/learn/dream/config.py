"""How to dream: the settings of the stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from takevla.driver.vla.settings import LONGITUDINAL_MODES, STD_CEILING, STD_FLOOR, STD_START, Trainable
from takevla.learn.dream.audit import AuditLimits
from takevla.learn.dream.reward import preset
from takevla.takeover.triggers import TRIGGERS, checked_triggers
from takevla.world.dynamics import TICK_S


@dataclass(frozen=True)
class ClosedConfig:
    """How closed dreams go on.

    `replan_s` between plans (a multiple of the tick, 0.05 s); `longest_s`, the greatest length of an episode;
    an update dreams `scenes` start frames, drawn without replacement until all were drawn, with `group`
    episodes of each; `judged` start frames, evenly spread, say what was gained before and after.
    Of dreams of words: `starts` start frames at most, evenly spread; `hold_s` for which an opening is held;
    `least_share` that the model must give to an opening for it to be dreamed (one that is not counts as
    the worst of those that are: it would hardly be said, and teaches hardly anything).
    """

    replan_s: float = 0.5
    longest_s: float = 10.0
    scenes: int = 4
    group: int = 8
    judged: int = 32
    starts: int = 800
    hold_s: float = 1.0
    least_share: float = 0.02

    def __post_init__(self) -> None:
        ticks = self.replan_s / TICK_S
        if ticks < 1.0 - 1e-6 or abs(ticks - round(ticks)) > 1e-6:
            raise ValueError(f"dream.closed.replan_s: {self.replan_s} is no multiple of {TICK_S} s")
        if min(self.scenes, self.judged, self.starts) < 1:
            raise ValueError("dream.closed.scenes, judged and starts must be at least 1")
        if not 0.0 <= self.least_share < 1.0 or self.hold_s <= 0.0:
            raise ValueError(
                f"dream.closed: least_share {self.least_share} must be from 0 to below 1, "
                f"hold_s {self.hold_s} above 0"
            )
        if self.group < 2:
            raise ValueError(f"dream.closed.group: {self.group} episodes make no group; give 2 or more")


@dataclass(frozen=True)
class MovingConfig:
    """How dreams move the model.

    `trainable` weights (adapters by default) move by Adam at `learning_rate`.  An update dreams `scenes`
    start frames, drawn without replacement until all were drawn, and holds `anchors` ordinary frames;
    `hold_weight` is that of the words (nats a token) and of the route (smooth L1, m).
    """

    trainable: Trainable = field(default_factory=lambda: Trainable(lora_rank=32, lora_dropout=0.0))
    scenes: int = 32
    anchors: int = 32
    learning_rate: float = 1e-4
    hold_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.scenes < 1 or self.anchors < 0:
            raise ValueError("dream.moving.scenes must be at least 1 and dream.moving.anchors at least 0")


@dataclass(frozen=True)
class NoiseConfig:
    """Where the spread of sampled plans comes from.

    `learned`: the head says it for each frame and mode.  `scheduled`: it is the same for all, going from
    `start` at the first update to `end` at the last in a straight line (standard deviations of the modes,
    units of z).  The schedule explores and is no part of the policy: the reference scatters alike, so that
    the KL is about the means alone.
    """

    kind: Literal["learned", "scheduled"] = "learned"
    start: float = STD_START
    end: float = 0.2

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            value = getattr(self, name)
            if not STD_FLOOR <= value <= STD_CEILING:
                raise ValueError(
                    f"dream.noise.{name}: {value} is outside {STD_FLOOR} to {STD_CEILING}, floor and ceiling"
                )

    def std(self, update: int, updates: int) -> float:
        """The scheduled spread of update number `update`, from 0, of `updates`."""
        share = min(update / max(updates - 1, 1), 1.0)
        return self.start + share * (self.end - self.start)


@dataclass(frozen=True)
class DreamConfig:
    """How to dream.

    `kind`: `open` dreams roll one plan out for `horizon_s`; `closed` dreams go on with new frames and plans
    until the danger is past, as `closed` says (its `scenes` and `group` replace all scenes and `group`).
    `chooses`: `plans` lets a head bend the model's plan, `words` one choose how its commentary opens (by
    `grpo`; `group`, `noise`, `modes` and `clip` then mean nothing: all openings are tried).
    `moving`: open dreams move the model itself as it says, and no head beside it.
    Scenes: `calm` (so many start frames of calm driving at most, beside those of takeovers; DPO has none: its
    pairs are of takeovers) and `calm_weight` (how much the advantages of each count against those of a
    takeover's: calm driving is much more frequent than mistakes are), `starts_s` (s before the takeover at
    which dreams start; open dreams of a head leave out those at which the ego stands), `horizon_s` (length
    of a dream), `reacting` (share of the moving vehicles that brake for the ego; the others replay theirs),
    `triggers` (takeovers by others are not dreamed), `limits` (how true the dreams must be for learning to
    begin).
    Learning: `method` (`grpo`, or `dpo`: the expert's plan over the policy's, sharpened by `dpo_beta`),
    `expert_pull` (weight of DPO's loss beside that of open GRPO; 0: reward alone),
    `reward` (preset), `terms` (terms of your own: dotted path to weight), `modes` (how many of the residual's
    modes along and across may bend a plan; a head that dreamt before keeps its own),
    `group` (plans per scene), `noise` (how far they scatter), `updates`, `passes` (gradient steps per
    update), `learning_rate`, `clip`.
    Trust: `kl_weight` of the KL to the policy that dreaming starts from, in the dreamed scenes; `anchors`,
    ordinary frames on which the policy is held near it too, by a weight that starts at `anchor_weight` and
    adapts so that their mean KL stays about `anchor_kl` (nats).
    """

    kind: Literal["open", "closed"] = "open"
    closed: ClosedConfig = field(default_factory=ClosedConfig)
    chooses: Literal["plans", "words"] = "plans"
    moving: MovingConfig | None = None
    method: Literal["grpo", "dpo"] = "grpo"
    dpo_beta: float = 0.1
    expert_pull: float = 0.0
    reward: str = "pdm_expert"
    calm: int = 1024
    calm_weight: float = 2.0
    starts_s: tuple[float, ...] = (2.0, 1.25, 0.5, 0.0)
    horizon_s: float = 4.0
    reacting: float = 1.0
    triggers: tuple[str, ...] = TRIGGERS
    limits: AuditLimits = field(default_factory=AuditLimits)
    terms: dict[str, float] = field(default_factory=dict)
    modes: tuple[int, int] = (LONGITUDINAL_MODES, 0)
    group: int = 16
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    updates: int = 60
    passes: int = 2
    learning_rate: float = 2e-3
    clip: float = 0.2
    anchors: int = 512
    kl_weight: float = 0.1
    anchor_weight: float = 0.2
    anchor_kl: float = 0.03

    @property
    def leaves_rest_out(self) -> bool:
        """Whether a start at which the ego stands shows nothing: the one plan of an open dream is the frozen
        model's own there, whatever the head says (`driver.vla.residual.while_moving`).
        """
        return self.kind == "open" and self.moving is None

    @property
    def recalls(self) -> bool:
        """Whether takeovers of earlier rounds are dreamed again beside the new ones: by open dreams that bend
        plans.
        """
        return self.leaves_rest_out and self.chooses == "plans"

    def __post_init__(self) -> None:
        if self.group < 2:
            raise ValueError(f"dream.group: {self.group} plans make no group; give 2 or more")
        if not self.horizon_s > 0.0:
            raise ValueError(f"dream.horizon_s: {self.horizon_s} s hold no dream; give 2 to 4")
        if not self.starts_s or min(self.starts_s) < 0.0:
            raise ValueError(
                f"dream.starts_s: {list(self.starts_s)}; give times before the takeover, s, one at least"
            )
        if self.anchors < 0:
            raise ValueError(f"dream.anchors: {self.anchors} is negative; 0 leaves ordinary frames out")
        if self.calm < 0:
            raise ValueError(f"dream.calm: {self.calm} is negative; 0 leaves calm driving out")
        if self.calm_weight <= 0.0:
            raise ValueError(
                f"dream.calm_weight: {self.calm_weight} must be above 0; dream.calm: 0 leaves it out"
            )
        if self.updates < 0 or self.passes < 1:
            raise ValueError("dream.updates must be at least 0 and dream.passes at least 1")
        if not 0.0 <= self.reacting <= 1.0:
            raise ValueError(f"dream.reacting: {self.reacting} is no share; give 0 to 1")
        if self.kind == "closed" and self.method != "grpo":
            raise ValueError(f"dream.method: {self.method} has no episodes; closed dreams learn by grpo")
        if self.expert_pull < 0.0:
            raise ValueError(f"dream.expert_pull: {self.expert_pull} is negative; 0 leaves it out")
        if self.expert_pull > 0.0 and (self.kind == "closed" or self.method != "grpo"):
            raise ValueError(
                f"dream.expert_pull: {self.expert_pull} stands beside open GRPO alone; frames of closed "
                "dreams have no plan of the expert, and DPO is nothing but that pull"
            )
        if self.moving is not None and (self.kind != "open" or self.method != "grpo" or self.expert_pull):
            raise ValueError(
                "dream.moving: only open dreams by grpo, without expert_pull, move the model itself"
            )
        if self.chooses == "words" and (self.method != "grpo" or self.expert_pull or self.moving is not None):
            raise ValueError("dream.chooses: words are chosen by grpo, without expert_pull and moving")
        checked_triggers(self.triggers, "dream.triggers")
        preset(self.reward, self.terms)
