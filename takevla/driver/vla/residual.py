"""The stochastic plan: a low-rank smooth Gaussian residual over a frozen plan.

A few latent numbers z ~ N(mean, std) bend the plan: the longitudinal modes move the speed waypoints
along their course, the lateral modes shift route and waypoints sideways.  Noise per waypoint does not
explore (it jitters); a handful of smooth modes does.  z is what the log-probability and the KL are
about, so both are exact.  Everything is float32 and pure; `ResidualHead` holds the only weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from takevla.driver.vla.settings import LATERAL_MODES, LONGITUDINAL_MODES, STD_CEILING, STD_FLOOR, STD_START
from takevla.scene.plan import ROUTE_POINTS, SPEED_WAYPOINTS

MODES = LONGITUDINAL_MODES + LATERAL_MODES

LONGITUDINAL_SCALE_M = 5.0  # displacement of the last waypoint (2.5 s) by a unit of the first mode
LATERAL_SCALE_M = 0.6  # sideways shift of the last route point by a unit of the first mode
LAST_ROUTE_S_M = float(ROUTE_POINTS)
STILL = 1e-3  # spread of a mode that is left out
MOVING_MPS = 0.5  # slower than this no head learned in dreams has a say


@dataclass(frozen=True)
class PlanDistribution:
    """Independent Gaussians of the modes.  Both (B, MODES) float32."""

    mean: torch.Tensor
    std: torch.Tensor


def longitudinal_basis() -> torch.Tensor:
    """(LONGITUDINAL_MODES, 10): displacement in m of each waypoint per unit of z.

    With u = t / 2.5 s the modes are u^2 (3 - u) / 2 (brake or speed up and keep it), u (a change of
    speed at once) and sin(pi u) u (give now, take later).
    """
    u = torch.arange(1, SPEED_WAYPOINTS + 1) / SPEED_WAYPOINTS
    rows = torch.stack([u * u * (3.0 - u) / 2.0, 0.5 * u, 0.5 * torch.sin(math.pi * u) * u])
    return LONGITUDINAL_SCALE_M * rows


def lateral_basis(s_m: torch.Tensor) -> torch.Tensor:
    """(..., LATERAL_MODES): sideways shift in m at arc length `s_m` per unit of z; zero at the ego."""
    u = (s_m / LAST_ROUTE_S_M).clamp(0.0, 1.0)
    smooth = u * u * (3.0 - 2.0 * u)
    shapes = [smooth, torch.sin(math.pi * u) * u * 2.0, 0.5 * torch.sin(2.0 * math.pi * u) * u]
    return LATERAL_SCALE_M * torch.stack(shapes, dim=-1)


def sample(distribution: PlanDistribution, count: int, generator: torch.Generator) -> torch.Tensor:
    """(B, count, MODES) draws of z."""
    rows, modes = distribution.mean.shape
    noise = torch.randn(rows, count, modes, generator=generator)
    return distribution.mean[:, None] + distribution.std[:, None] * noise


def mode(distribution: PlanDistribution) -> torch.Tensor:
    """(B, MODES): the most likely z, which is what drives."""
    return distribution.mean


def log_prob(distribution: PlanDistribution, z: torch.Tensor) -> torch.Tensor:
    """(B, G): exact log density of draws `z` (B, G, MODES)."""
    mean, std = distribution.mean[:, None], distribution.std[:, None]
    density = -0.5 * ((z - mean) / std) ** 2 - torch.log(std) - 0.5 * math.log(2.0 * math.pi)
    return density.sum(-1)


def kl(distribution: PlanDistribution, reference: PlanDistribution) -> torch.Tensor:
    """(B,): KL(distribution || reference) in nats."""
    ratio = distribution.std / reference.std
    shift = (distribution.mean - reference.mean) / reference.std
    return (0.5 * (ratio**2 + shift**2 - 1.0) - torch.log(ratio)).sum(-1)


def while_moving(z: torch.Tensor, speed_mps: torch.Tensor) -> torch.Tensor:
    """`z` (B, MODES) at speeds (B,), 0 where the ego stands: what drives then is the frozen plan.

    A dream ends after seconds.  It shows what a moment of standing saves, and not that one who takes back
    every plan to set off never goes, or goes when the light is red again.
    """
    return z * (speed_mps >= MOVING_MPS)[:, None]


def bend(
    route_ego: torch.Tensor, waypoints_ego: torch.Tensor, z: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The plans that `z` makes of the frozen ones.

    Args:
        route_ego: (..., 20, 2) m, ego frame.
        waypoints_ego: (..., 10, 2) m, ego frame.
        z: (..., MODES), leading shape that broadcasts with the plans'.

    Returns:
        Bent route and waypoints, of the broadcast leading shape.  z = 0 returns the plans unchanged.
        Displacements are tangential to the frozen route; along it no waypoint is pulled back behind
        the one before it, nor behind the ego.
    """
    route_s, route_heading = _course(route_ego)
    waypoint_s, _ = _course(waypoints_ego)
    heading = _heading_at(route_s, route_heading, waypoint_s)
    z_long, z_lat = z[..., :LONGITUDINAL_MODES], z[..., LONGITUDINAL_MODES:]
    wanted = waypoint_s + z_long @ longitudinal_basis()
    forward = wanted.clamp_min(0.0).cummax(-1).values - waypoint_s
    route_shift = (lateral_basis(route_s) * z_lat[..., None, :]).sum(-1)
    waypoint_shift = (lateral_basis(waypoint_s + forward) * z_lat[..., None, :]).sum(-1)
    bent_route = route_ego + route_shift[..., None] * _left(route_heading)
    bent_waypoints = (
        waypoints_ego + forward[..., None] * _ahead(heading) + waypoint_shift[..., None] * _left(heading)
    )
    return bent_route, bent_waypoints


def modes_between(waypoints_ego: torch.Tensor, origin_ego: torch.Tensor) -> torch.Tensor:
    """(B, MODES): the z, along alone, that brings the waypoints of plans `origin_ego` (B, 10, 2) nearest to
    others in how far along each gets, by least squares.  0 where they agree; carries a gradient.
    """
    forward = _course(waypoints_ego)[0] - _course(origin_ego)[0]
    along = forward @ torch.linalg.pinv(longitudinal_basis())
    return torch.nn.functional.pad(along, (0, LATERAL_MODES))


def _course(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Arc length from the ego and heading of the segment that ends in each point; both (..., N)."""
    steps = torch.diff(points, dim=-2, prepend=torch.zeros_like(points[..., :1, :]))
    return steps.norm(dim=-1).cumsum(-1), torch.atan2(steps[..., 1], steps[..., 0])


def _heading_at(route_s: torch.Tensor, route_heading: torch.Tensor, s_m: torch.Tensor) -> torch.Tensor:
    """The route's heading at arc lengths `s_m`; straight on behind its end."""
    index = torch.searchsorted(route_s.contiguous(), s_m.contiguous()).clamp_max(route_s.shape[-1] - 1)
    return torch.gather(route_heading, -1, index)


def _ahead(heading: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.cos(heading), torch.sin(heading)], dim=-1)


def _left(heading: torch.Tensor) -> torch.Tensor:
    return torch.stack([-torch.sin(heading), torch.cos(heading)], dim=-1)


class ResidualHead(nn.Module):
    """Features of a frozen `TakeVLA` (B, F) to the distribution of the modes.

    Its last layer starts at zero, so that the mode is the frozen plan itself and the spread
    `STD_START` everywhere.  Only the first `modes` (along, across) bend the plan; the others stay at zero,
    with a spread of `STILL`.
    """

    moves: torch.Tensor  # (MODES,) bool

    def __init__(
        self, features: int, width: int = 128, modes: tuple[int, int] = (LONGITUDINAL_MODES, LATERAL_MODES)
    ) -> None:
        super().__init__()
        number = torch.arange(MODES)
        across = number - LONGITUDINAL_MODES
        self.register_buffer("moves", torch.where(across < 0, number < modes[0], across < modes[1]))
        self.norm = nn.LayerNorm(features)
        self.inner = nn.Linear(features, width)
        self.outer = nn.Linear(width, 2 * MODES)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, features: torch.Tensor) -> PlanDistribution:
        """Distribution of z for each row of `features` (B, F) float32."""
        mean, spread = self.outer(torch.tanh(self.inner(self.norm(features)))).chunk(2, dim=-1)
        share = (STD_START - STD_FLOOR) / (STD_CEILING - STD_FLOOR)
        std = STD_FLOOR + (STD_CEILING - STD_FLOOR) * torch.sigmoid(spread + math.log(share / (1 - share)))
        return PlanDistribution(mean * self.moves, torch.where(self.moves, std, torch.full_like(std, STILL)))


def residual_features(action_features: torch.Tensor) -> torch.Tensor:
    """(B, 30, D) query states to what `ResidualHead` takes, (B, 2 D): mean route and mean speed query."""
    route, speed = action_features[:, :ROUTE_POINTS], action_features[:, ROUTE_POINTS:]
    return torch.cat([route.mean(1), speed.mean(1)], dim=-1)
