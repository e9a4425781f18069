"""Group-relative policy optimisation over dreams, as pure functions.

Shapes: S scenes, G plans sampled for each (the group).  All tensors are float32.
Source of the objective: GRPO (Shao et al. 2024, arXiv 2402.03300), clipped as PPO
(arXiv 1707.06347), with an analytic KL to the frozen supervised policy.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

DEGENERATE_SPREAD = 1e-4  # a group whose rewards differ by less teaches nothing


@dataclass(frozen=True, slots=True)
class Advantages:
    """Advantages per plan, and which scenes carry any."""

    values: Tensor  # (S, G), zero mean per scene, zero on degenerate scenes
    degenerate: Tensor  # (S,) bool: all plans of the group earn the same

    def weighed(self, weight: Tensor) -> Advantages:
        """With scenes that count by `weight` (S,), positive, in relation to each other."""
        return Advantages(self.values * (weight / weight.mean())[:, None], self.degenerate)


def _check(name: str, value: Tensor, shape: torch.Size) -> None:
    if value.shape != shape:
        raise ValueError(f"{name} has shape {tuple(value.shape)}, expected {tuple(shape)}")
    if not torch.isfinite(value).all():
        raise ValueError(f"{name} holds {int((~torch.isfinite(value)).sum())} values that are not finite")


def group_advantages(rewards: Tensor) -> Advantages:
    """Standardise rewards (S, G) within each scene's group; degenerate groups get zeros."""
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise ValueError(f"rewards need shape (scenes, group >= 2), got {tuple(rewards.shape)}")
    _check("rewards", rewards, rewards.shape)
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    spread = rewards.amax(dim=1) - rewards.amin(dim=1)
    degenerate = spread < DEGENERATE_SPREAD
    deviation = centred.pow(2).mean(dim=1, keepdim=True).sqrt()
    values = torch.where(degenerate[:, None], torch.zeros_like(centred), centred / deviation.clamp_min(1e-8))
    return Advantages(values=values, degenerate=degenerate)


def clipped_loss(
    log_prob: Tensor,
    old_log_prob: Tensor,
    advantages: Advantages,
    kl: Tensor,
    *,
    clip: float,
    kl_weight: float,
) -> Tensor:
    """The loss to minimise: minus the clipped surrogate plus `kl_weight` times the KL.

    `log_prob`, `old_log_prob` are (S, G), `kl` is (S,).  Degenerate scenes count in the KL alone,
    so a policy whose rewards are constant is left where it is.
    """
    _check("old_log_prob", old_log_prob, log_prob.shape)
    _check("log_prob", log_prob, log_prob.shape)
    _check("advantages", advantages.values, log_prob.shape)
    _check("kl", kl, log_prob.shape[:1])
    ratio = (log_prob - old_log_prob).exp()
    surrogate = torch.minimum(
        ratio * advantages.values, ratio.clamp(1.0 - clip, 1.0 + clip) * advantages.values
    )
    active = (~advantages.degenerate).sum().clamp_min(1)
    return -(surrogate.mean(dim=1).sum() / active) + kl_weight * kl.mean()


def adapt_kl_weight(
    weight: float, kl: float, target: float, *, low: float = 1e-4, high: float = 10.0
) -> float:
    """Raise the weight when the KL is above 1.5 x target, lower it below target / 1.5 (PPO section 4)."""
    if kl > 1.5 * target:
        weight *= 1.1
    elif kl < target / 1.5:
        weight /= 1.1
    return min(max(weight, low), high)
