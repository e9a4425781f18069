"""Dreams that move the model itself, by adapters or whole, and not a head beside it.

The policy is the model's own plan with the residual's smooth Gaussian around it, along the way alone.  The
plans of the model as it was are the origin: how far along its way the moved model gets, in the residual's
modes, is the mean of the distribution, so log-probability and KL are as exact as the head's.  Each update
reads a few start frames with gradient, draws a group of plans at each, and rewards them as any open dream's.

What a reward of speed says nothing about is held: the words that the model said, which its plan follows, and
its route, in dreamed and in ordinary frames; on the ordinary ones its speed too, by the adaptive KL.

Cost: `scenes` + `anchors` passes with gradient an update, where the head needs none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from takevla.dataset.reader import Dataset
from takevla.driver.vla import residual
from takevla.driver.vla.device import CPU, half_precision_on, to_device
from takevla.driver.vla.inputs import image_inputs, pad_words
from takevla.driver.vla.lora import merge, prepare
from takevla.driver.vla.model import TakeVLA
from takevla.driver.vla.residual import MODES, STILL, PlanDistribution
from takevla.driver.vla.settings import LONGITUDINAL_MODES, STD_START
from takevla.driver.vla.tensors import TrainingOutput
from takevla.learn.dream import fans
from takevla.learn.dream.config import DreamConfig, MovingConfig
from takevla.learn.dream.decisions import in_turn
from takevla.learn.dream.grpo import adapt_kl_weight, clipped_loss, group_advantages
from takevla.learn.dream.reading import READ_BATCH, BaseReading, frame_inputs
from takevla.learn.dream.reward import preset
from takevla.learn.dream.rollouts import PlanRows, RollOuts
from takevla.learn.dream.scenes import CALM, STEP_S, DreamScene
from takevla.learn.dream.simulate import measure, roll_out
from takevla.learn.objective import word_loss, word_targets

Float = NDArray[np.float32]
GRADIENT_CLIP = 1.0


@dataclass(frozen=True)
class GroupConfig:
    """What moving dreams share with those of the head (`DreamConfig` says what each means)."""

    group: int
    clip: float
    kl_weight: float
    anchor_weight: float
    anchor_kl: float
    calm_weight: float
    std: tuple[float, float] = (STD_START, STD_START)  # of the first and the last update

    @classmethod
    def of(cls, config: DreamConfig) -> Self:
        """The shared settings of a stage; a spread that the head would learn stays where it starts."""
        noise = config.noise
        std = (noise.start, noise.end) if noise.kind == "scheduled" else (STD_START, STD_START)
        return cls(
            config.group, config.clip, config.kl_weight, config.anchor_weight, config.anchor_kl,
            config.calm_weight, std,
        )  # fmt: skip


class MovingDreams:
    """A model that learns in open dreams itself.  One `step` is one update."""

    def __init__(
        self,
        scenes: Sequence[DreamScene],
        model: TakeVLA,
        dataset: Dataset,
        anchors: Sequence[int],
        words: Sequence[Sequence[int]],
        rewarded: RollOuts,
        config: MovingConfig,
        shared: GroupConfig,
        updates: int,
        seed: int,
    ) -> None:
        """`anchors` are rows of ordinary frames; `words` the token lists that the model says at the start
        frames and then at those, in this order; `rewarded` holds the same `scenes`.
        """
        prepare(model, config.trainable)
        model.train(False)  # nothing drops out: the first ratio is 1
        self.scenes, self.model, self.config, self.shared = list(scenes), model, config, shared
        self.updates, self._seed, self._rewarded = updates, seed, rewarded
        self._dataset, self._words = dataset, [list(row) for row in words]
        self._rows = [scene.frame_row for scene in scenes] + list(anchors)
        self._moved = {name: one for name, one in model.named_parameters() if one.requires_grad}
        self.optimiser = torch.optim.Adam(self._moved.values(), lr=config.learning_rate)
        self.generator = torch.Generator().manual_seed(seed)
        self.anchor_weight, self.update = shared.anchor_weight, 0
        self.curves: list[dict[str, float]] = []
        calm = torch.tensor([scene.trigger == CALM for scene in self.scenes])
        self._weight = torch.where(calm, shared.calm_weight, 1.0)
        self.origin_route, self.origin_waypoints = self._origin()

    def step(self) -> None:
        """Read, draw, roll out, reward, and move the model; one row is added to `curves`."""
        scenes, shared = len(self.scenes), self.shared
        chosen = in_turn(scenes, self.config.scenes, self._seed, self.update)
        held = in_turn(len(self._rows) - scenes, self.config.anchors, self._seed, self.update)
        places = chosen + [scenes + row for row in held]
        output = self._read(places)
        distribution = self.distribution(output, places)
        dreamed, ordinary = (
            PlanDistribution(distribution.mean[part], distribution.std[part])
            for part in (slice(None, len(chosen)), slice(len(chosen), None))
        )
        drawn = PlanDistribution(dreamed.mean.detach(), dreamed.std)
        z = residual.sample(drawn, shared.group, self.generator)
        rewards, failed = self._rewards(chosen, z)
        advantages = group_advantages(torch.from_numpy(rewards))
        moved, kept = residual.kl(dreamed, _origin_of(dreamed)), residual.kl(ordinary, _origin_of(ordinary))
        divergence = kept.mean() if held else torch.zeros(())
        hold = self._hold(output, places)
        weighed = advantages.weighed(self._weight[chosen])
        loss = clipped_loss(
            residual.log_prob(dreamed, z), residual.log_prob(drawn, z), weighed, moved,
            clip=shared.clip, kl_weight=shared.kl_weight,
        )  # fmt: skip
        loss = loss + self.anchor_weight * divergence + self.config.hold_weight * hold
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(self._moved.values(), GRADIENT_CLIP)
        self.optimiser.step()
        self.anchor_weight = adapt_kl_weight(self.anchor_weight, float(divergence.detach()), shared.anchor_kl)
        self.update += 1
        self.curves.append(
            {
                "step": self.update,
                "reward": float(rewards.mean()),
                "reward_best": float(rewards.max(axis=1).mean()),
                "failure_rate": float(failed.mean()),
                "kl_scenes": float(moved.mean().detach()),
                "kl_anchor": float(divergence.detach()),
                "anchor_weight": self.anchor_weight,
                "degenerate_groups": float(advantages.degenerate.float().mean()),
                "std": self._std,
                "hold": float(hold.detach()),
            }
        )

    def distribution(self, output: TrainingOutput, places: Sequence[int]) -> PlanDistribution:
        """The policy at the frames `places`: how far along its way the model now gets, and the spread."""
        mean = residual.modes_between(output.plan.waypoints_ego, self.origin_waypoints[places])
        std = torch.full_like(mean, STILL)
        std[:, :LONGITUDINAL_MODES] = self._std
        return PlanDistribution(mean, std)

    @property
    def _std(self) -> float:
        first, last = self.shared.std
        return first + (last - first) * min(self.update / max(self.updates - 1, 1), 1.0)

    def _rewards(self, chosen: Sequence[int], z: torch.Tensor) -> tuple[Float, Float]:
        """Reward and failure (S, G) of latents z (S, G, MODES) about the plans of the model as it was."""
        route, waypoints = residual.bend(
            self.origin_route[chosen, None], self.origin_waypoints[chosen, None], z
        )
        jobs = [
            PlanRows(row, route[k, None].numpy(), waypoints[k, None].numpy(), None)
            for k, row in enumerate(chosen)
        ]
        found = [self._rewarded(job, lambda _: None) for job in jobs]
        rewards, failed = (np.concatenate(part) for part in zip(*found, strict=True))
        return rewards, failed

    def _hold(self, output: TrainingOutput, places: Sequence[int]) -> torch.Tensor:
        """What the reward says nothing about: words and route as they were."""
        config = self.model.config
        targets = word_targets(self._said(places), config.pad_token_id, config.eos_token_id)
        route = functional.smooth_l1_loss(output.plan.route_ego, self.origin_route[places])
        return word_loss(output.word_logits, targets) + route

    def _said(self, places: Sequence[int]) -> torch.Tensor:
        return pad_words([self._words[place] for place in places], self.model.config.pad_token_id)

    def _read(self, places: Sequence[int]) -> TrainingOutput:
        """One pass over these frames, the model's own first words given; the output is on the CPU."""
        config, device = self.model.config, self.model.device
        images, navigation = frame_inputs(self._dataset, [self._rows[k] for k in places], config.sees_past)
        inputs = to_device(image_inputs(images, config), device)
        with torch.autocast(device.type, torch.bfloat16, enabled=half_precision_on(device)):
            output: TrainingOutput = self.model(
                inputs, to_device(navigation, device), self._said(places).to(device)
            )
        return to_device(output, torch.device(CPU))

    @torch.no_grad()
    def _origin(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Routes (N, 20, 2) and waypoints (N, 10, 2) of the model as it is now."""
        parts = []
        for first in range(0, len(self._rows), READ_BATCH):
            plan = self._read(range(first, min(first + READ_BATCH, len(self._rows)))).plan
            parts.append((plan.route_ego, plan.waypoints_ego))
        route, waypoints = (torch.cat(column) for column in zip(*parts, strict=True))
        return route, waypoints

    def finish(self) -> TakeVLA:
        """The model with its adapters folded in."""
        merge(self.model)
        return self.model

    def save(self, path: Path) -> None:
        """Everything that the next update depends on, atomically."""
        beside = path.with_suffix(".tmp")
        torch.save(
            {
                "weights": {name: one.detach() for name, one in self._moved.items()},
                "optimiser": self.optimiser.state_dict(),
                "generator": self.generator.get_state(),
                "anchor_weight": self.anchor_weight,
                "update": self.update,
                "curves": self.curves,
                "config": self._asked(),
            },
            beside,
        )
        os.replace(beside, path)

    def load(self, path: Path) -> None:
        """Go on from `save`; ValueError if it was written with another configuration."""
        state: dict[str, Any] = torch.load(path, weights_only=True)
        if state["config"] != self._asked():
            raise ValueError(f"{path}: written with other dream settings; remove it or give another --out")
        with torch.no_grad():
            for name, one in self._moved.items():
                one.copy_(state["weights"][name])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        self.anchor_weight = state["anchor_weight"]
        self.update, self.curves = state["update"], state["curves"]

    def _asked(self) -> str:
        return json.dumps([asdict(self.config), asdict(self.shared), self.updates, self._seed])


def driven_rewards(rewarded: RollOuts, read: BaseReading) -> tuple[Float, Float]:
    """Reward and failure (S, 1) of the plans that a model makes of the start frames, the first of `read`."""
    count = len(rewarded.scenes)
    route, waypoints = read.route_ego[:count, None].numpy(), read.waypoints_ego[:count, None].numpy()
    words = None if read.true_words is None else read.true_words[:count]
    return rewarded(PlanRows(0, route, waypoints, words), lambda _: None)


def fan_around(
    scene: DreamScene, row: int, readings: Sequence[BaseReading], config: DreamConfig, seed: int
) -> dict[str, Any]:
    """The plan of start frame `row` and a group around it, before and after (`readings`), to look at."""
    steps, reward = round(config.horizon_s / STEP_S), preset(config.reward, config.terms)
    spread = torch.full((1, MODES), STILL)
    spread[:, :LONGITUDINAL_MODES] = GroupConfig.of(config).std[1]
    around = PlanDistribution(torch.zeros(1, MODES), spread)
    z = residual.sample(around, config.group, torch.Generator().manual_seed(seed))[0]
    z = torch.cat([torch.zeros(1, MODES), z])
    content = fans.surroundings(scene, steps)
    for name, read in zip(("before", "after"), readings, strict=True):
        route, waypoints = residual.bend(read.route_ego[row, None], read.waypoints_ego[row, None], z)
        tried = measure(scene, roll_out(scene, route.numpy(), waypoints.numpy(), steps))
        content[name] = fans.fan(tried, reward)
    return content


def _origin_of(distribution: PlanDistribution) -> PlanDistribution:
    """The policy that dreaming starts from, at the same frames."""
    return PlanDistribution(torch.zeros_like(distribution.mean), distribution.std)
