"""The supervised objective: say the commentary, drive the plan."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from takevla.driver.vla.tensors import TrainingOutput
from takevla.learn.samples import Batch
from takevla.learn.settings import Weights
from takevla.learn.sight import sight_loss

IGNORED = -100  # torch's own mark of a target that does not count


@dataclass(frozen=True)
class Losses:
    """Scalars of one batch; `total` carries the gradient."""

    total: torch.Tensor
    words: torch.Tensor  # nats per token, over the samples that say
    route: torch.Tensor  # smooth L1 per point, over the samples that act
    waypoints: torch.Tensor
    sight: torch.Tensor  # of the image tokens, 0 for a model without that head


def supervised_losses(
    output: TrainingOutput, batch: Batch, weights: Weights, pad_token_id: int, eos_token_id: int
) -> Losses:
    """Cross-entropy of the words and smooth L1 of the plan.

    A sample that does not say contributes nothing to `words`, one that does not act nothing to
    `route` and `waypoints`; a batch without any of a kind gives zero there.
    """
    targets = word_targets(batch.words, pad_token_id, eos_token_id)
    targets[~batch.says] = IGNORED
    words = word_loss(output.word_logits, targets)
    acts = batch.acts.float()
    route = _smooth_l1(output.plan.route_ego, batch.route_ego, acts, weights.smooth_l1_beta_m)
    waypoints = _smooth_l1(output.plan.waypoints_ego, batch.waypoints_ego, acts, weights.smooth_l1_beta_m)
    sight = words.new_zeros(()) if output.sight is None else sight_loss(output.sight, batch.sight)
    total = weights.words * words + weights.route * route + weights.waypoints * waypoints
    return Losses(total + weights.sight * sight, words, route, waypoints, sight)


def word_loss(word_logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of scores (B, W + 1, V), nats per token of targets (B, W + 1) that is not `IGNORED`."""
    counted = (targets != IGNORED).sum().clamp_min(1)
    logits = word_logits.float().flatten(0, 1)
    summed = functional.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED, reduction="sum")
    return summed / counted


def word_targets(words: torch.Tensor, pad_token_id: int, eos_token_id: int) -> torch.Tensor:
    """(B, W) padded words to (B, W + 1) targets: each word, then the end, then `IGNORED`."""
    rows = words.shape[0]
    lengths = (words != pad_token_id).sum(dim=1)
    targets = torch.cat([words, words.new_full((rows, 1), pad_token_id)], dim=1)
    targets = targets.masked_fill(targets == pad_token_id, IGNORED)
    targets[torch.arange(rows, device=words.device), lengths] = eos_token_id
    return targets


def _smooth_l1(plan: torch.Tensor, label: torch.Tensor, acts: torch.Tensor, beta: float) -> torch.Tensor:
    """Summed over x and y, averaged over points and over the rows that act."""
    per_row = functional.smooth_l1_loss(plan, label, beta=beta, reduction="none").sum(-1).mean(-1)
    return (per_row * acts).sum() / acts.sum().clamp_min(1.0)
