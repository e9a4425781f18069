"""Is the dream true?  The recorded driver must fail in it as in the world, and the expert must not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np

from takevla.learn.dream.reward import setting_off
from takevla.learn.dream.scenes import STEP_S, DreamScene
from takevla.learn.dream.simulate import Measures, expert_trajectory, measure, roll_out
from takevla.scene.geometry import project_on_polyline
from takevla.scene.plan import Plan
from takevla.takeover.triggers import HEADWAY, LATERAL, STEER, TriggerConfig

CLOSE_TTC_S = 4.0  # a headway that fell short shows as a contact or an alarm of time-to-collision too
LASTS_S = 0.5
END_M = 0.01  # so near to a path's end a place is beyond it
BACKWARDS_STEPS = 10.0  # the expert's path is prolonged backwards by so many of its first steps
TRIGGERS = TriggerConfig()  # the thresholds that the takeovers were made with by default
ASKED_OF_WORLD = ("recall_collision", "recall_rule")  # limits of what the world says fails


class UntrueDreamsError(ValueError):
    """The dreams are less true than asked; nothing was learned from them."""


@dataclass(frozen=True, slots=True)
class DreamAudit:
    """How true the dreams are; rates are None where there was nothing to judge.

    `recall_*` is the share of takeovers of that trigger whose recorded policy plan shows the same event
    in the dream; `expert_success` the share of start frames from which the expert's recorded plans, followed
    one after another, stay free of fault; `replay_error_*` the greatest deviation of the replayed controls
    among the scenes that are not left out for it.
    """

    scenes: int
    takeovers: int
    recall_collision: float | None
    recall_follow: float | None
    recall_restart: float | None
    recall_rule: float | None
    expert_success: float | None
    replayed: float | None
    replay_error_m: float | None
    replay_error_deg: float | None
    left_out: dict[str, int]

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class AuditLimits:
    """How true dreams must be before anything is learned from them.

    A rate that could not be judged passes.  `recall_*`, `forecast_recall_*`, `expert_success` and `replayed`
    are least shares; `replay_error_m` and `replay_error_deg` say for one scene whether its record was
    replayed.  Where the embedded world was asked, `recall_*` judge the share of failures in the world that
    the dream shows.  Where it could not be, `forecast_recall_*` judge the share of COLLISION and RULE
    takeovers whose forecast comes true in the dream.
    """

    recall_collision: float = 0.9
    recall_follow: float = 0.8
    recall_restart: float = 0.8
    recall_rule: float = 0.8  # of a dozen or two: one miss moves it by several points
    forecast_recall_collision: float = 0.7
    forecast_recall_rule: float = 0.4
    expert_success: float = 0.95
    replayed: float = 0.95
    replay_error_m: float = 0.05
    replay_error_deg: float = 0.5

    def replays(self, scene: DreamScene) -> bool:
        """Whether the applied controls lead where the record went."""
        return scene.replay_error_m <= self.replay_error_m and scene.replay_error_deg <= self.replay_error_deg

    def broken(self, report: DreamAudit, world: Mapping[str, float]) -> list[str]:
        """One line for each least share that is not reached; `world` are the recalls by its word."""
        lines = []
        for limit in fields(self):
            if limit.name.startswith("replay_error"):
                continue
            rate = limit.name.removeprefix("forecast_")
            if limit.name in ASKED_OF_WORLD:
                found = world.get(rate)
            elif limit.name == rate:
                found = world.get(rate, getattr(report, rate))
            else:
                found = None if rate in world else getattr(report, rate)
            if found is not None and found < getattr(self, limit.name):
                lines.append(f"{limit.name} {found:.3g}, at least {getattr(self, limit.name):g}")
        return lines

    def refuse(self, report: DreamAudit, world: Mapping[str, float] | None = None) -> None:
        """`UntrueDreamsError` that names every limit broken."""
        lines = self.broken(report, world or {})
        if lines:
            raise UntrueDreamsError(
                f"the dreams are not true enough to learn from (dream.limits): {'; '.join(lines)}"
            )


def plan_measures(scene: DreamScene, plan: Plan, steps: int | None = None) -> Measures:
    """Measures of one plan rolled out for `steps` (default: as long as the record)."""
    return measure(
        scene, roll_out(scene, plan.route_ego[None], plan.waypoints_ego[None], steps or scene.steps)
    )


def expert_is_safe(scene: DreamScene) -> bool:
    """Whether the expert's recorded plans, one after another, stay free of fault in the dream."""
    return bool(measure(scene, expert_trajectory(scene, scene.steps)).safe[0])


def fails_as_recorded(scene: DreamScene) -> bool:
    """Whether the recorded policy's plan shows the event that the takeover was for."""
    same = SAME_EVENT.get(scene.trigger)
    return same is None or same(scene, plan_measures(scene, scene.policy_plan))


def _collides(scene: DreamScene, policy: Measures) -> bool:
    return bool(np.isfinite(policy.collision_s[0]))


def _follows_badly(scene: DreamScene, policy: Measures) -> bool:
    """The event of the trigger's detail: a short headway while closing (or what comes of it, a contact or an
    alarm of time-to-collision), or a course as far beside the expert's as the trigger asks, or off the road.
    Without a detail either of them.
    """
    alarm = np.isfinite(policy.collision_s[0]) or policy.ttc_s[0] < CLOSE_TTC_S
    closes = bool(alarm or _closes_in(scene, policy))
    if scene.detail == HEADWAY:
        return closes
    least_m = TRIGGERS.steer_apart_m if scene.detail == STEER else TRIGGERS.lateral_error_m
    lost = bool(np.isfinite(policy.offroad_s[0]) or _beside(scene, policy) > least_m)
    return lost if scene.detail in (STEER, LATERAL) else lost or closes


def _beside(scene: DreamScene, policy: Measures) -> float:
    """How far the ego is, from `LASTS_S` on, to the side of the path that the expert plans at the start (m).

    The trigger measured it against the expert's path of the moment.  Where the expert would be led from
    there says less: he starts beside his own path too, and comes back.  A plan that comes back by then has
    lost nothing.
    """
    path = scene.expert_plan.route_ego.astype(np.float64)
    path = np.concatenate([path[:1] - BACKWARDS_STEPS * (path[1:2] - path[:1]), path])
    length = float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())
    later = policy.trajectories.poses[0, round(LASTS_S / STEP_S) :, :2]
    feet = [project_on_polyline(path, x, y)[:2] for x, y in later]
    return max((abs(side) for along, side in feet if 0.0 < along < length - END_M), default=0.0)


def _closes_in(scene: DreamScene, policy: Measures) -> bool:
    """Whether the headway to a vehicle ahead falls below the trigger's while the ego closes on it."""
    ego, other = policy.trajectories.poses[0][:, None], scene.actor_pose
    dx, dy = other[..., 0] - ego[..., 0], other[..., 1] - ego[..., 1]
    ahead = dx * np.cos(ego[..., 2]) + dy * np.sin(ego[..., 2])
    aside = np.abs(dy * np.cos(ego[..., 2]) - dx * np.sin(ego[..., 2]))
    gap = ahead - 0.5 * (scene.ego_extent_m[0] + scene.actor_extent_m[:, 0])
    inside = aside < 0.5 * (scene.ego_extent_m[1] + scene.actor_extent_m[:, 1])
    closing = ego[..., 3] - other[..., 3] >= TRIGGERS.closing_mps
    near = (ahead > 0.0) & (gap < TRIGGERS.headway_s * ego[..., 3])
    return bool((scene.actor_valid & inside & closing & near).any())


def _stands(scene: DreamScene, policy: Measures) -> bool:
    return bool(setting_off(policy).value[0] == 0.0)


def _breaks_rule(scene: DreamScene, policy: Measures) -> bool:
    return bool(np.isfinite(policy.rule_s[0]))


SAME_EVENT: dict[str, Callable[[DreamScene, Measures], bool]] = {
    "collision": _collides,
    "follow": _follows_badly,
    "restart": _stands,
    "rule": _breaks_rule,
}


def audit(scenes: Sequence[DreamScene], left_out: Mapping[str, int], unreplayed: int = 0) -> DreamAudit:
    """Judge `scenes` (of one takeover the last start frame, nearest to the takeover, judges its recall)."""
    last = {scene.takeover: scene for scene in scenes}
    hits: dict[str, list[bool]] = {trigger: [] for trigger in SAME_EVENT}
    for scene in last.values():
        if scene.trigger in hits:
            hits[scene.trigger].append(fails_as_recorded(scene))

    def rate(values: list[bool]) -> float | None:
        return float(np.mean(values)) if values else None

    return DreamAudit(
        scenes=len(scenes),
        takeovers=len(last),
        recall_collision=rate(hits["collision"]),
        recall_follow=rate(hits["follow"]),
        recall_restart=rate(hits["restart"]),
        recall_rule=rate(hits["rule"]),
        expert_success=rate([expert_is_safe(scene) for scene in scenes]),
        replayed=len(scenes) / (len(scenes) + unreplayed) if scenes or unreplayed else None,
        replay_error_m=max((scene.replay_error_m for scene in scenes), default=None),
        replay_error_deg=max((scene.replay_error_deg for scene in scenes), default=None),
        left_out=dict(left_out),
    )
