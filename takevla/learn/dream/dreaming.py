"""The dreaming stage: reinforcement of a frozen VLA's residual head in scenes rebuilt from takeovers.

The supervised model is read once per start frame; after that an update costs only vector arithmetic:
sample a group of plans per scene, roll them out, reward them, move the residual head.
"""

from __future__ import annotations

import copy
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from takevla.dataset.reader import Dataset
from takevla.driver.vla import residual
from takevla.driver.vla.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from takevla.driver.vla.model import NavigationInput
from takevla.driver.vla.policy import VlaDriver
from takevla.driver.vla.residual import LONGITUDINAL_MODES, PlanDistribution, ResidualHead
from takevla.driver.vla.tokenizer import decode_commentary
from takevla.learn.dream import fans
from takevla.learn.dream.audit import Audit, AuditLimits, audit, expert_is_safe, fails_as_recorded
from takevla.learn.dream.closed import ClosedConfig, ClosedDreams, names
from takevla.learn.dream.decisions import Decisions
from takevla.learn.dream.dpo import nearest_modes, preference_loss
from takevla.learn.dream.grpo import Advantages, adapt_kl_weight, clipped_loss, group_advantages
from takevla.learn.dream.noise import NoiseConfig
from takevla.learn.dream.reconstruct import Rebuilt, rebuild
from takevla.learn.dream.records import Records, camera_of
from takevla.learn.dream.reward import preset
from takevla.learn.dream.rollouts import PlanRows, RollOuts, rewards_of
from takevla.learn.dream.scenes import STEP_S, DreamScene
from takevla.learn.dream.simulate import Measures, measure, roll_out
from takevla.learn.dream.verdict import world_verdict
from takevla.learn.pretrain import BUCKET_WEIGHTS, STANDSTILL_WEIGHT, frame_strata
from takevla.learn.samples import common_rig
from takevla.scale import Crew, Executor, InProcess, processes
from takevla.scene.plan import ROUTE_POINTS, SPEED_WAYPOINTS
from takevla.takeover.triggers import TRIGGERS, checked_triggers
from takevla.world.maps.route_xml import RouteTask

Float = NDArray[np.float32]
READ_BATCH = 16  # frames per pass of the frozen model
EPISODE_ROLE = "other"  # frames where nothing was amiss; they anchor the policy
UNREPLAYED = "the record cannot be replayed"
STATE_FILE = "state.pt"
STATE_EVERY = 10  # updates between two saved states


@dataclass(frozen=True)
class DreamConfig:
    """How to dream.

    `kind`: `open` dreams roll one plan out for `horizon_s`; `closed` dreams go on with new frames and plans
    until the danger is past, as `closed` says (its `scenes` and `group` replace all scenes and `group`).
    Scenes: `starts_s` (s before the takeover at which dreams start), `horizon_s` (length of a dream),
    `reacting` (share of the moving vehicles that brake for the ego; the others replay their record),
    `triggers` (takeovers by others are not dreamed), `limits` (how true the dreams must be for learning to
    begin).
    Learning: `method` (`grpo`, or `dpo`: the expert's plan over the policy's, sharpened by `dpo_beta`),
    `reward` (preset), `terms` (terms of your own: dotted path to weight),
    `group` (plans per scene), `noise` (how far they scatter), `updates`, `passes` (gradient steps per
    update), `learning_rate`, `clip`.
    Trust: `kl_weight` of the KL to the policy that dreaming starts from, in the dreamed scenes; `anchors`,
    ordinary frames on which the policy is held near it too, by a weight that starts at `anchor_weight` and
    adapts so that their mean KL stays about `anchor_kl` (nats).
    """

    kind: Literal["open", "closed"] = "open"
    closed: ClosedConfig = field(default_factory=ClosedConfig)
    method: Literal["grpo", "dpo"] = "grpo"
    dpo_beta: float = 0.1
    reward: str = "pdm_expert"
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

    def __post_init__(self) -> None:
        if self.group < 2:
            raise ValueError(f"dream.group: {self.group} plans make no group; give 2 or more")
        if self.updates < 0 or self.passes < 1:
            raise ValueError("dream.updates must be at least 0 and dream.passes at least 1")
        if not 0.0 <= self.reacting <= 1.0:
            raise ValueError(f"dream.reacting: {self.reacting} is no share; give 0 to 1")
        if self.kind == "closed" and self.method != "grpo":
            raise ValueError(f"dream.method: {self.method} has no episodes; closed dreams learn by grpo")
        checked_triggers(self.triggers, "dream.triggers")
        preset(self.reward, self.terms)


@dataclass(frozen=True)
class BaseReading:
    """What the frozen model makes of N frames: its plans and the residual head's features."""

    route_ego: torch.Tensor  # (N, 20, 2)
    waypoints_ego: torch.Tensor  # (N, 10, 2)
    features: torch.Tensor  # (N, F)
    true_words: Float | None = None  # (N,) 1 where the commentary names the expert's action and cause


def read_frames(driver: VlaDriver, dataset: Dataset, rows: Sequence[int]) -> BaseReading:
    """The frozen model's answer to frames of a dataset, in batches of `READ_BATCH`."""
    targets = dataset.column("target_points_ego").reshape(-1, 2, 2)
    speed, option, following = (dataset.column(name) for name in ("speed_mps", "option", "next_option"))
    width = 2 * driver.model.config.width
    parts = [(torch.zeros(0, ROUTE_POINTS, 2), torch.zeros(0, SPEED_WAYPOINTS, 2), torch.zeros(0, width))]
    spoken: list[str] = []
    for start in range(0, len(rows), READ_BATCH):
        some = list(rows[start : start + READ_BATCH])
        navigation = NavigationInput(
            speed_mps=torch.tensor(speed[some], dtype=torch.float32),
            speed_known=torch.ones(len(some), dtype=torch.bool),
            target_points_ego=torch.tensor(targets[some], dtype=torch.float32),
            option=torch.tensor(option[some], dtype=torch.long),
            next_option=torch.tensor(following[some], dtype=torch.long),
        )
        images = torch.from_numpy(np.stack([dataset.image(row) for row in some]))
        thought = driver.think(images, navigation)
        plan = thought.plan
        spoken += [decode_commentary(driver.tokenizer, row.tolist()) for row in thought.words]
        parts.append((plan.route_ego, plan.waypoints_ego, residual.residual_features(plan.action_features)))
    action, cause = dataset.column("expert_action")[rows], dataset.column("expert_cause")[rows]
    said = [names(words, int(a), int(c)) for words, a, c in zip(spoken, action, cause, strict=True)]
    route, waypoints, features = (torch.cat(column).clone() for column in zip(*parts, strict=True))
    return BaseReading(route, waypoints, features, np.array(said, np.float32))


def dream(
    checkpoint: Path,
    dataset: Dataset,
    out: Path,
    config: DreamConfig,
    *,
    seed: int,
    maps_dir: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    engine: Executor | None = None,
    tasks: Sequence[RouteTask] = (),
) -> Audit:
    """Train a residual head on the takeovers of `dataset` and write `out/model`.

    A checkpoint that has dreamt before goes on from its head, and the KL is to that policy.  Also writes
    `curves.json` (one row per update), `audit.json`, `before_after.json` (reward and failure rate of the
    plan that drives), and `fans.json` (what was tried in a few scenes before and after).  `engine` does the
    roll-outs of open dreams, this process if None; it changes no bit of the result.  Goes on from
    `out/state.pt` if a former call was cut off.  With the `tasks` that the dataset was collected on the
    embedded world is asked whether recorded plans fail there too (`verdict.py`).
    Raises ValueError when no scene can be dreamed, `UntrueDreamsError` when the dreams are less true than
    `config.limits` asks.
    """
    rebuilt = replayed_scenes(dataset, config, seed=seed, maps_dir=maps_dir)
    scenes, report = sifted(rebuilt, config)
    world = None
    if tasks:
        world = world_verdict(dataset, rebuilt.scenes, tasks, limits=config.limits, maps_dir=maps_dir)
    out.mkdir(parents=True, exist_ok=True)
    _write_json(out / "audit.json", report.to_json() | (world.to_json() if world else {}))
    config.limits.refuse(report, world.recalls() if world else {})
    if not scenes:
        reasons = ", ".join(f"{why}: {count}" for why, count in sorted(report.left_out.items()))
        raise ValueError(
            f"{dataset.path}: no takeover can be dreamed ({reasons or 'no takeovers'}); collect more"
        )
    loaded, rig = load_checkpoint(checkpoint), common_rig([dataset])
    driver = VlaDriver(loaded.model, loaded.tokenizer)
    rows = [scene.frame_row for scene in scenes] if config.kind == "open" else []
    base = read_frames(driver, dataset, rows)
    anchor = read_frames(driver, dataset, anchor_rows(dataset, config.anchors, seed))
    closed = None
    if config.kind == "closed":
        closed = ClosedDreams(
            dataset, scenes, driver, camera_of(dataset), config.closed,
            preset(config.reward, config.terms), Records(dataset, config.reacting, seed, maps_dir),
            least_s=config.horizon_s, seed=seed,
        )  # fmt: skip
    state = out / STATE_FILE
    with (engine or InProcess()).crew(
        RollOuts.of(scenes, config.reward, config.terms, config.horizon_s)
    ) as crew:
        dreamer = Dreamer(scenes, base, anchor.features, config, seed, crew, closed, loaded.residual)
        if state.exists():
            dreamer.load(state)
        while dreamer.update < config.updates:
            dreamer.step()
            progress(dreamer.update, config.updates)
            if dreamer.update % STATE_EVERY == 0 and processes().leads:
                dreamer.save(state)
        _write_json(out / "curves.json", dreamer.curves)
        judged = dreamer.before_after()
        _write_json(out / "before_after.json", judged)
        _write_json(out / "fans.json", dreamer.fans(judged["rewards_before"], judged["rewards_after"]))
    if processes().leads:
        save_checkpoint(out / "model", Checkpoint(loaded.model, loaded.tokenizer, dreamer.head, rig))
        state.unlink(missing_ok=True)
    return report


def true_scenes(
    dataset: Dataset, config: DreamConfig, *, seed: int, maps_dir: Path | None = None
) -> tuple[list[DreamScene], Audit]:
    """The scenes that pass the audit one by one, and the audit of all; it counts those left out."""
    return sifted(replayed_scenes(dataset, config, seed=seed, maps_dir=maps_dir), config)


def replayed_scenes(
    dataset: Dataset, config: DreamConfig, *, seed: int, maps_dir: Path | None = None
) -> Rebuilt:
    """The scenes whose record can be replayed, true or not; the others are counted."""
    rebuilt = rebuild(
        dataset, starts_s=config.starts_s, horizon_s=config.horizon_s, reacting=config.reacting, seed=seed,
        maps_dir=maps_dir,
    )  # fmt: skip
    scenes = [scene for scene in rebuilt.scenes if config.limits.replays(scene)]
    left_out = Counter(rebuilt.left_out)
    left_out[UNREPLAYED] += len(rebuilt.scenes) - len(scenes)
    return Rebuilt(scenes, +left_out)


def sifted(rebuilt: Rebuilt, config: DreamConfig) -> tuple[list[DreamScene], Audit]:
    """The true scenes among those whose record can be replayed, and the audit of all."""
    left_out = Counter(rebuilt.left_out)
    last = {scene.takeover: scene for scene in rebuilt.scenes}
    untrue = {name for name, scene in last.items() if not fails_as_recorded(scene)}
    kept = []
    for scene in rebuilt.scenes:
        if not expert_is_safe(scene):
            left_out["the expert's plans fail in the dream"] += 1
        elif scene.takeover in untrue:
            left_out["the recorded failure does not show in the dream"] += 1
        elif scene.trigger not in config.triggers:
            left_out["a trigger that the recipe leaves out"] += 1
        else:
            kept.append(scene)
    return kept, audit(rebuilt.scenes, left_out, left_out[UNREPLAYED])


def anchor_rows(dataset: Dataset, count: int, seed: int) -> list[int]:
    """At most `count` of the policy's own ordinary frames, by the seed; rare situations as often as others.

    What dreams hardly show, passing an obstacle say, must be held as firmly as the free road.
    """
    rows = np.flatnonzero(
        (dataset.column("role") == EPISODE_ROLE) & np.isfinite(dataset.column("policy_route_ego")[:, 0])
    )
    if len(rows) == 0:
        return []
    strata = frame_strata(dataset, rows, BUCKET_WEIGHTS, STANDSTILL_WEIGHT)
    chance = np.random.default_rng([seed, 0xA])
    names = np.unique(strata.name)
    share = {name: 1.0 / (len(names) * int((strata.name == name).sum())) for name in names}
    weight = np.array([share[name] for name in strata.name])
    chosen = chance.choice(rows, min(count, len(rows)), replace=False, p=weight / weight.sum())
    return sorted(int(row) for row in chosen)


def _write_json(path: Path, content: object) -> None:
    if not processes().leads:
        return
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(beside, path)


class Dreamer:
    """The residual head, its optimiser and the dreams it learns from.  One `step` is one update."""

    def __init__(
        self,
        scenes: list[DreamScene],
        base: BaseReading,
        anchor: torch.Tensor,
        config: DreamConfig,
        seed: int,
        crew: Crew[PlanRows, tuple[Float, Float]],
        closed: ClosedDreams | None = None,
        head: ResidualHead | None = None,
    ) -> None:
        """`base` is of the start frames (of none for `closed`), `anchor` (N, F) of ordinary ones.

        `head` is the policy to start from, None for the supervised one; it is copied.
        """
        self.closed = closed
        self.scenes = scenes
        self.base = base
        self.anchor = anchor
        self.config = config
        self.crew = crew
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.head = (
                copy.deepcopy(head) if head else ResidualHead(base.features.shape[1], modes=config.modes)
            )
        self.start = copy.deepcopy(self.head).requires_grad_(False)  # what the KL is to
        self.optimiser = torch.optim.Adam(self.head.parameters(), lr=config.learning_rate)
        self.generator = torch.Generator().manual_seed(seed)
        self.anchor_weight = config.anchor_weight
        self.update = 0
        self.curves: list[dict[str, float]] = []
        self._pairs = self._preferences() if config.method == "dpo" else None

    def rewards(self, z: torch.Tensor) -> tuple[Float, Float]:
        """Reward and failure (1 where a gate is broken) of latents z (S, G, M): both (S, G)."""
        route, waypoints = residual.bend(self.base.route_ego[:, None], self.base.waypoints_ego[:, None], z)
        words = self.base.true_words
        return rewards_of(self.crew, route.numpy(), waypoints.numpy(), words)

    def _preferences(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(S, 2, MODES) latents of the expert's plan and the policy's; their log-probabilities (S, 2)."""
        wanted = [
            torch.from_numpy(np.stack([getattr(scene.expert_plan, name) for scene in self.scenes]))
            for name in ("route_ego", "waypoints_ego")
        ]
        z = nearest_modes(self.base.route_ego, self.base.waypoints_ego, *wanted) * self.head.moves
        with torch.no_grad():
            start = self.start(self.base.features)
            pairs = torch.stack([z, residual.mode(start)], dim=1)
            return pairs, residual.log_prob(start, pairs)

    def _objective(
        self, new: PlanDistribution, decisions: Decisions, old: torch.Tensor, advantages: Advantages,
        moved: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """The loss of the chosen method, the KL `moved` (S,) to the start included."""
        config = self.config
        if self._pairs is None:
            return clipped_loss(
                decisions.log_prob(new), old, advantages, moved, clip=config.clip, kl_weight=config.kl_weight
            )
        pairs, reference = self._pairs
        density = residual.log_prob(new, pairs)
        loss = preference_loss(
            density[:, 0], density[:, 1], reference[:, 0], reference[:, 1], beta=config.dpo_beta
        )
        return loss + config.kl_weight * moved.mean()

    @torch.no_grad()
    def _dreamed(self) -> Decisions:
        """What the policy, as it is, decides in the dreams of one update."""
        if self.closed is not None:
            return self.closed.dream(self.closed.chosen(self.update), self.config.closed.group, self._draw)
        drawn = self._scattered(self.head(self.base.features))
        z = residual.sample(drawn, self.config.group, self.generator)
        taken = torch.ones(len(z), 1, dtype=torch.bool)
        return Decisions(self.base.features[:, None], z[:, None], taken, *self.rewards(z))

    def _draw(self, features: torch.Tensor) -> torch.Tensor:
        """One plan for each row."""
        return residual.sample(self._scattered(self.head(features)), 1, self.generator)[:, 0]

    def _scattered(self, distribution: PlanDistribution) -> PlanDistribution:
        """What this update draws from: the spread learned or scheduled."""
        return self.config.noise.applied(distribution, self.update, self.config.updates)

    def step(self) -> None:
        """Sample, roll out, reward, and move the head; one row is added to `curves`."""
        config, decisions = self.config, self._dreamed()
        with torch.no_grad():
            old = self._scattered(decisions.distribution(self.head))
            start = self._scattered(decisions.distribution(self.start))
            calm = self._scattered(self.start(self.anchor))
            old_log_prob = decisions.log_prob(old)
        advantages = group_advantages(torch.from_numpy(decisions.rewards))
        spread = decisions.spread(advantages)
        divergence = torch.zeros(())
        for _ in range(config.passes):
            new = self._scattered(decisions.distribution(self.head))
            held = self._anchor_kl(calm)
            moved = decisions.kl(new, start)
            loss = self._objective(new, decisions, old_log_prob, spread, moved) + self.anchor_weight * held
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            divergence = held.detach()
        self.anchor_weight = adapt_kl_weight(self.anchor_weight, float(divergence), config.anchor_kl)
        self.update += 1
        self.curves.append(
            {
                "step": self.update,
                "reward": float(decisions.rewards.mean()),
                "reward_best": float(decisions.rewards.max(axis=1).mean()),
                "failure_rate": float(decisions.failed.mean()),
                "kl_scenes": float(moved.mean().detach()),
                "kl_anchor": float(divergence),
                "anchor_weight": self.anchor_weight,
                "degenerate_groups": float(advantages.degenerate.float().mean()),
                "std": float(old.std.mean()),
            }
        )

    def _anchor_kl(self, start: PlanDistribution) -> torch.Tensor:
        """Mean KL to `start` on the ordinary frames; zero where the record has none."""
        if len(self.anchor) == 0:
            return torch.zeros(())
        return residual.kl(self._scattered(self.head(self.anchor)), start).mean()

    @torch.no_grad()
    def before_after(self) -> dict[str, Any]:
        """Reward and failure rate of the plan that drives: the mode of the start, and of the head.

        Over all start frames of open dreams, over `closed.judged` of closed ones.
        """
        if self.closed is not None:
            judged = self.closed.judged()
            before, after = (
                (result.rewards, result.failed)
                for result in (self.closed.dream(judged, 1, _mode_of(head)) for head in self._heads)
            )
        else:
            before, after = (
                self.rewards(_mode_of(head)(self.base.features)[:, None]) for head in self._heads
            )
        return {
            "scenes": len(before[0]),
            "reward_before": float(before[0].mean()),
            "reward_after": float(after[0].mean()),
            "failure_rate_before": float(before[1].mean()),
            "failure_rate_after": float(after[1].mean()),
            "rewards_before": [round(float(value), 4) for value in before[0][:, 0]],
            "rewards_after": [round(float(value), 4) for value in after[0][:, 0]],
        }

    @torch.no_grad()
    def fans(self, before: Sequence[float], after: Sequence[float]) -> list[dict[str, Any]]:
        """The scenes that `fans.shown_scenes` picks: surroundings, and what was tried before and after.

        `before` and `after` are the rewards of the plan that drives, as `before_after` has them.  Both
        heads draw with the same noise.
        """
        judged = list(range(len(self.scenes))) if self.closed is None else self.closed.judged()
        gains = np.array(after, np.float32) - np.array(before, np.float32)
        shown = fans.shown_scenes([self.scenes[row] for row in judged], gains)
        return [self._fan(judged[place]) for place in shown]

    def _fan(self, row: int) -> dict[str, Any]:
        reward = preset(self.config.reward, self.config.terms)
        if self.closed is not None:
            record = self.closed.record(row)
            content = fans.surroundings(record.scene, record.scene.steps)
        else:
            content = fans.surroundings(self.scenes[row], round(self.config.horizon_s / STEP_S))
        for name, head in zip(("before", "after"), self._heads, strict=True):
            content[name] = fans.fan(self._tried(row, head), reward)
        return content

    def _tried(self, row: int, head: ResidualHead) -> Measures:
        """The plan that drives and a group drawn by `head` at one start frame."""
        generator = torch.Generator().manual_seed(self.update)

        def draw(features: torch.Tensor) -> torch.Tensor:
            return residual.sample(self._scattered(head(features)), 1, generator)[:, 0]

        if self.closed is not None:
            return self.closed.tried(row, _mode_of(head), draw)
        distribution = self._scattered(head(self.base.features[row : row + 1]))
        sampled = residual.sample(distribution, self.config.group, generator)[0]
        z = torch.cat([residual.mode(distribution), sampled])
        route, waypoints = residual.bend(
            self.base.route_ego[row, None], self.base.waypoints_ego[row, None], z
        )
        scene, steps = self.scenes[row], round(self.config.horizon_s / STEP_S)
        return measure(scene, roll_out(scene, route.numpy(), waypoints.numpy(), steps))

    @property
    def _heads(self) -> tuple[ResidualHead, ResidualHead]:
        """Before and after."""
        return self.start, self.head

    def save(self, path: Path) -> None:
        """Everything that the next update depends on, atomically."""
        beside = path.with_suffix(".tmp")
        torch.save(
            {
                "head": self.head.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "generator": self.generator.get_state(),
                "anchor_weight": self.anchor_weight,
                "update": self.update,
                "curves": self.curves,
                "config": json.dumps(asdict(self.config)),
            },
            beside,
        )
        os.replace(beside, path)

    def load(self, path: Path) -> None:
        """Go on from `save`; ValueError if it was written with another configuration."""
        state = torch.load(path, weights_only=True)
        if state["config"] != json.dumps(asdict(self.config)):
            raise ValueError(f"{path}: written with other dream settings; remove it or give another --out")
        self.head.load_state_dict(state["head"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        self.anchor_weight = state["anchor_weight"]
        self.update, self.curves = state["update"], state["curves"]


def _mode_of(head: ResidualHead) -> Callable[[torch.Tensor], torch.Tensor]:
    """What drives: features (B, F) to the mode (B, MODES)."""
    return lambda features: residual.mode(head(features))
