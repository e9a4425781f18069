"""What a policy decided in dreams, in one shape for open and closed ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from takevla.driver.vla import residual
from takevla.driver.vla.residual import PlanDistribution, ResidualHead
from takevla.learn.dream.grpo import Advantages

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Decisions:
    """S scenes; in each the model was read K times and D plans were drawn at each reading.

    An open dream of G plans has K = 1, D = G; a closed one of G episodes with P plans each K = G P, D = 1,
    episode after episode.  Readings of episodes that ended early hold zeros and are not `taken`.
    """

    features: torch.Tensor  # (S, K, F)
    z: torch.Tensor  # (S, K, D, MODES)
    taken: torch.Tensor  # (S, K) bool
    rewards: Float  # (S, G)
    failed: Float  # (S, G) 1 where the reward calls it a failure

    def distribution(self, head: ResidualHead) -> PlanDistribution:
        """Of all readings, S K rows."""
        return head(self.features.flatten(0, 1))  # type: ignore[no-any-return]

    def log_prob(self, distribution: PlanDistribution) -> torch.Tensor:
        """(S, K D) exact log density of every plan drawn."""
        return residual.log_prob(distribution, self.z.flatten(0, 1)).reshape(len(self.z), -1)

    def kl(self, distribution: PlanDistribution, reference: PlanDistribution) -> torch.Tensor:
        """(S,) mean KL over the readings taken."""
        per = residual.kl(distribution, reference).reshape(self.taken.shape)
        return (per * self.taken).sum(1) / self.taken.sum(1).clamp_min(1)

    def spread(self, advantages: Advantages) -> Advantages:
        """The advantage of every plan drawn, (S, K D): that of the episode it belongs to, 0 if not taken."""
        rows, plans = self.z.shape[0], self.z.shape[1] * self.z.shape[2]
        values = advantages.values.repeat_interleave(plans // advantages.values.shape[1], dim=1)
        taken = self.taken[:, :, None].expand(*self.z.shape[:3]).reshape(rows, plans)
        return Advantages(values * taken, advantages.degenerate)


def in_turn(total: int, count: int, seed: int, update: int) -> list[int]:
    """The `count` of `total` rows that an update takes: each once before any comes again, by the seed."""
    count = min(count, total)
    if count == 0:
        return []
    per_round = total // count
    order = np.random.default_rng([seed, 0xC, update // per_round]).permutation(total)
    at = update % per_round * count
    return [int(row) for row in order[at : at + count]]
