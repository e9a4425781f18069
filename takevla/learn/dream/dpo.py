"""Direct preference optimisation in dreams: the expert's plan is preferred to the policy's own.

A baseline to GRPO behind the same step of `Dreamer`: pairs (expert plan over policy plan) of the frames
before takeovers, as in TakeAD; the loss is that of Rafailov et al. 2023 (arXiv 2305.18290) over the
exact log-probabilities of the residual's modes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from takevla.driver.vla import residual

DESCENT_STEPS, DESCENT_RATE = 120, 0.05
Z_LIMIT = 3.0  # a preferred plan farther out than this cannot be reached by the residual


def nearest_modes(
    route: Tensor,
    waypoints: Tensor,
    wanted_route: Tensor,
    wanted_waypoints: Tensor,
    *,
    moves: Tensor | None = None,
) -> Tensor:
    """(S, MODES): the z that bends plans (S, 20, 2), (S, 10, 2) nearest to the wanted ones.

    `moves` (MODES,) bool says which modes may bend them, all if None; the others stay 0.
    """
    free = torch.ones(residual.MODES) if moves is None else moves.float()
    with torch.enable_grad():
        z = torch.zeros(len(route), residual.MODES, requires_grad=True)
        descent = torch.optim.Adam([z], lr=DESCENT_RATE)
        for _ in range(DESCENT_STEPS):
            bent_route, bent_waypoints = residual.bend(route, waypoints, z * free)
            away = (bent_route - wanted_route).pow(2).mean() + (bent_waypoints - wanted_waypoints).pow(
                2
            ).mean()
            descent.zero_grad()
            (away * len(route)).backward()  # type: ignore[no-untyped-call]
            descent.step()
    return z.detach().clamp(-Z_LIMIT, Z_LIMIT) * free


def preference_loss(
    preferred: Tensor,
    rejected: Tensor,
    reference_preferred: Tensor,
    reference_rejected: Tensor,
    *,
    beta: float,
) -> Tensor:
    """Mean of -log sigmoid(beta x margin), log-probabilities (S,); log 2 where policy and reference agree."""
    for name, value in (("preferred", preferred), ("rejected", rejected)):
        if value.shape != reference_preferred.shape or not torch.isfinite(value).all():
            raise ValueError(f"{name} has shape {tuple(value.shape)} or values that are not finite")
    margin = (preferred - reference_preferred) - (rejected - reference_rejected)
    return -torch.nn.functional.logsigmoid(beta * margin).mean()
