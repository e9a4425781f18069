"""The residual head and the dreams that it learns from: sample plans, roll them out, reward them, move it."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from takevla.driver.vla import residual
from takevla.driver.vla.residual import STILL, PlanDistribution, ResidualHead
from takevla.learn.dream import fans
from takevla.learn.dream.closed import ClosedDreams
from takevla.learn.dream.config import DreamConfig
from takevla.learn.dream.decisions import Decisions
from takevla.learn.dream.dpo import nearest_modes, preference_loss
from takevla.learn.dream.grpo import Advantages, adapt_kl_weight, clipped_loss, group_advantages
from takevla.learn.dream.reading import BaseReading
from takevla.learn.dream.reward import preset
from takevla.learn.dream.rollouts import PlanRows, rewards_of
from takevla.learn.dream.scenes import CALM, STEP_S, DreamScene
from takevla.learn.dream.simulate import Measures, measure, roll_out
from takevla.scale import Crew

Float = NDArray[np.float32]


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
        calm = torch.tensor([scene.trigger == CALM for scene in scenes])
        self._weight = torch.where(calm, config.calm_weight, 1.0)  # (S,) of the advantages
        self._taught = torch.nonzero(~calm).flatten()  # scenes in which the expert knows better
        pulled = config.method == "dpo" or config.expert_pull > 0.0
        self._pairs = self._preferences() if pulled and len(self._taught) else None

    def rewards(self, z: torch.Tensor) -> tuple[Float, Float]:
        """Reward and failure (`Reward.failed`) of latents z (S, G, M): both (S, G)."""
        route, waypoints = residual.bend(self.base.route_ego[:, None], self.base.waypoints_ego[:, None], z)
        words = self.base.true_words
        return rewards_of(self.crew, route.numpy(), waypoints.numpy(), words)

    def _preferences(self) -> torch.Tensor:
        """(T, 2, MODES) latents of the expert's plan and the policy's in the scenes of takeovers."""
        base, rows = self.base, self._taught
        plans = [self.scenes[row].expert_plan for row in rows.tolist()]
        wanted = [
            torch.from_numpy(np.stack([getattr(plan, name) for plan in plans]))
            for name in ("route_ego", "waypoints_ego")
        ]
        z = nearest_modes(base.route_ego[rows], base.waypoints_ego[rows], *wanted, moves=self.head.moves)
        with torch.no_grad():
            return torch.stack([z, residual.mode(self.start(base.features[rows]))], dim=1)

    def _preference(self) -> torch.Tensor:
        """DPO's loss: the expert's plan over the policy's.

        Both densities have the spread of the start: a wider one would tell the two plans less apart, and so
        pass for a preference without moving the plan that drives.
        """
        assert self._pairs is not None
        features = self.base.features[self._taught]
        with torch.no_grad():
            start = self._scattered(self.start(features))
            reference = residual.log_prob(start, self._pairs)
        density = residual.log_prob(PlanDistribution(self.head(features).mean, start.std), self._pairs)
        return preference_loss(
            density[:, 0], density[:, 1], reference[:, 0], reference[:, 1], beta=self.config.dpo_beta
        )

    def _objective(
        self, new: PlanDistribution, decisions: Decisions, old: torch.Tensor, advantages: Advantages,
        moved: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """The loss of the chosen method, the KL `moved` (S,) to the start included."""
        config = self.config
        if config.method == "dpo":
            return self._preference() + config.kl_weight * moved.mean()
        loss = clipped_loss(
            decisions.log_prob(new), old, advantages, moved, clip=config.clip, kl_weight=config.kl_weight
        )
        return loss if self._pairs is None else loss + config.expert_pull * self._preference()

    @torch.no_grad()
    def _dreamed(self) -> tuple[Decisions, torch.Tensor]:
        """What the policy, as it is, decides in the dreams of one update; the weight (S,) of each scene."""
        if self.closed is not None:
            chosen = self.closed.chosen(self.update)
            return self.closed.dream(chosen, self.config.closed.group, self._draw), self._weight[chosen]
        drawn = self._scattered(self.head(self.base.features))
        z = residual.sample(drawn, self.config.group, self.generator)
        taken = torch.ones(len(z), 1, dtype=torch.bool)
        return Decisions(self.base.features[:, None], z[:, None], taken, *self.rewards(z)), self._weight

    def _draw(self, features: torch.Tensor) -> torch.Tensor:
        """One plan for each row."""
        return residual.sample(self._scattered(self.head(features)), 1, self.generator)[:, 0]

    def _scattered(self, distribution: PlanDistribution) -> PlanDistribution:
        """What this update draws from: the spread learned or scheduled."""
        noise = self.config.noise
        if noise.kind == "learned":
            return distribution
        spread = torch.full_like(distribution.std, noise.std(self.update, self.config.updates))
        moving = distribution.std > STILL  # a mode that is left out stays so
        return PlanDistribution(distribution.mean, torch.where(moving, spread, distribution.std))

    def step(self) -> None:
        """Sample, roll out, reward, and move the head; one row is added to `curves`."""
        config, (decisions, weight) = self.config, self._dreamed()
        with torch.no_grad():
            old = self._scattered(decisions.distribution(self.head))
            start = self._scattered(decisions.distribution(self.start))
            calm = self._scattered(self.start(self.anchor))
            old_log_prob = decisions.log_prob(old)
        advantages = group_advantages(torch.from_numpy(decisions.rewards))
        spread = decisions.spread(advantages.weighed(weight))
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
                "std": float(old.std[..., self.head.moves].mean()),
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

        Over all start frames of open dreams, over `closed.judged` of closed ones; those of calm driving
        count apart.
        """
        rows = self._judged()
        if self.closed is not None:
            judged = rows
            before, after = (
                (result.rewards, result.failed)
                for result in (self.closed.dream(judged, 1, _mode_of(head)) for head in self._heads)
            )
        else:
            before, after = (
                self.rewards(_mode_of(head)(self.base.features)[:, None]) for head in self._heads
            )
        return gains([self.scenes[row] for row in rows], before, after)

    def _judged(self) -> list[int]:
        """Rows of the scenes that before and after are measured on."""
        return list(range(len(self.scenes))) if self.closed is None else self.closed.judged()

    @torch.no_grad()
    def fans(self, before: Sequence[float], after: Sequence[float]) -> list[dict[str, Any]]:
        """The scenes that `fans.shown_scenes` picks: surroundings, and what was tried before and after.

        `before` and `after` are the rewards of the plan that drives, as `before_after` has them.  Both
        heads draw with the same noise.
        """
        judged = self._judged()
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


def gains(
    scenes: Sequence[DreamScene], before: tuple[Float, Float], after: tuple[Float, Float]
) -> dict[str, Any]:
    """Reward and failure (S, 1) of the plan that drives, before and after: means, calm driving apart."""
    calm = np.array([scene.trigger == CALM for scene in scenes])

    def mean(values: Float, some: NDArray[np.bool_]) -> float | None:
        return float(values[some].mean()) if some.any() else None

    result: dict[str, Any] = {}
    for prefix, some in (("", ~calm), ("calm_", calm)):
        result[f"{prefix}scenes"] = int(some.sum())
        for when, (reward, failed) in (("before", before), ("after", after)):
            result[f"{prefix}reward_{when}"] = mean(reward, some)
            result[f"{prefix}failure_rate_{when}"] = mean(failed, some)
    for when, (reward, _) in (("before", before), ("after", after)):
        result[f"rewards_{when}"] = [round(float(value), 4) for value in reward[:, 0]]
    return result


def _mode_of(head: ResidualHead) -> Callable[[torch.Tensor], torch.Tensor]:
    """What drives: features (B, F) to the mode (B, MODES)."""
    return lambda features: residual.mode(head(features))
