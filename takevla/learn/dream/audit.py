"""Is the dream true?  The recorded driver must fail in it as in the world, and the expert must not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from takevla.learn.dream.scenes import STEP_S, DreamScene
from takevla.learn.dream.simulate import Measures, measure, roll_out
from takevla.scene.plan import Plan

CLOSE_TTC_S = 4.0  # a FOLLOW takeover shows as a contact, a time-to-collision alarm or a lost course
RESTART_PROGRESS_M = 1.0  # a policy that stands gets no further than this
EXPERT_SETS_OFF_M = 2.0  # while the expert gets at least this far


@dataclass(frozen=True, slots=True)
class Audit:
    """How true the dreams are; rates are None where there was nothing to judge.

    `recall_*` is the share of takeovers of that trigger whose recorded policy plan shows the same event
    in the dream; `expert_success` the share of start frames from which the expert's recorded plan stays
    free of fault.
    """

    scenes: int
    takeovers: int
    recall_collision: float | None
    recall_follow: float | None
    recall_restart: float | None
    recall_rule: float | None
    expert_success: float | None
    left_out: dict[str, int]

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)


def plan_measures(scene: DreamScene, plan: Plan, steps: int | None = None) -> Measures:
    """Measures of one plan rolled out for `steps` (default: as long as the record)."""
    trajectory = roll_out(scene, plan.route_ego[None], plan.waypoints_ego[None], steps or scene.steps)
    return measure(scene, trajectory)


def is_safe(measures: Measures) -> bool:
    """Whether the first trajectory hits nothing by its own fault, stays on the road and keeps the rules."""
    return bool(
        np.isinf(measures.fault_s[0]) and np.isinf(measures.offroad_s[0]) and np.isinf(measures.rule_s[0])
    )


def _collides(scene: DreamScene, policy: Measures) -> bool:
    return bool(np.isfinite(policy.collision_s[0]))


def _follows_badly(scene: DreamScene, policy: Measures) -> bool:
    alarm = np.isfinite(policy.collision_s[0]) or policy.ttc_s[0] < CLOSE_TTC_S
    return bool(alarm or policy.off_centre_s[0] > STEP_S or np.isfinite(policy.offroad_s[0]))


def _stands(scene: DreamScene, policy: Measures) -> bool:
    return bool(policy.progress_m[0] < RESTART_PROGRESS_M and policy.expert_progress_m > EXPERT_SETS_OFF_M)


def _breaks_rule(scene: DreamScene, policy: Measures) -> bool:
    return bool(np.isfinite(policy.rule_s[0]))


SAME_EVENT: dict[str, Callable[[DreamScene, Measures], bool]] = {
    "collision": _collides,
    "follow": _follows_badly,
    "restart": _stands,
    "rule": _breaks_rule,
}


def audit(scenes: Sequence[DreamScene], left_out: dict[str, int]) -> Audit:
    """Judge `scenes` (of one takeover the last start frame, nearest to the takeover, judges its recall)."""
    last = {scene.takeover: scene for scene in scenes}
    hits: dict[str, list[bool]] = {trigger: [] for trigger in SAME_EVENT}
    for scene in last.values():
        if scene.trigger in hits:
            hits[scene.trigger].append(
                SAME_EVENT[scene.trigger](scene, plan_measures(scene, scene.policy_plan))
            )
    safe = [is_safe(plan_measures(scene, scene.expert_plan)) for scene in scenes]

    def rate(values: list[bool]) -> float | None:
        return float(np.mean(values)) if values else None

    return Audit(
        scenes=len(scenes),
        takeovers=len(last),
        recall_collision=rate(hits["collision"]),
        recall_follow=rate(hits["follow"]),
        recall_restart=rate(hits["restart"]),
        recall_rule=rate(hits["rule"]),
        expert_success=rate(safe),
        left_out=dict(left_out),
    )
