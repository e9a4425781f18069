"""The past picture as it would have been from where the ego is now, as far as its own way explains.

While the ego drives everything moves in its pictures, and what moves by itself hardly stands out.  The road
is flat and the ego knows how fast it is: what lay where in the past picture follows from that, for the road
exactly, and for what stands on it nearly.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch.nn import functional

from takevla.driver.vla.config import TakeVLAConfig
from takevla.scene.past import PAST_US

FAR_M = 40.0  # how far away everything is taken to be that is not road nearer than that


@torch.no_grad()
def carried(pixels: torch.Tensor, speed_mps: torch.Tensor, config: TakeVLAConfig) -> torch.Tensor:
    """Tiles (B * lenses, 6, S, S) whose past is looked up where an ego that went straight saw each place.

    Channels are those of `image_inputs`: the picture, and the difference of the past one.  `speed_mps` (B,).
    Rows whose past picture is the present one stay: there nothing is known of the past.
    """
    lenses, side = len(config.lens_yaws_deg), pixels.shape[-1]
    across, down, nearness, cos, sin, zoom = (
        part.to(pixels.device) for part in _rays(*_eye(config), side=side)
    )
    now, difference = pixels[:, :3].float(), pixels[:, 3:].float()
    remembers = difference.flatten(1).any(dim=1).reshape(-1, lenses).any(dim=1)
    way_m = (speed_mps.float().clamp_min(0.0) * (PAST_US * 1e-6) * remembers)[:, None, None, None]
    depth = 1.0 + nearness * cos * way_m  # of each place in the past, against that of now
    grid = torch.stack([zoom * (across + nearness * sin * way_m) / depth, zoom * down / depth], dim=-1)
    past = functional.grid_sample(
        now + difference, grid.flatten(0, 1), padding_mode="border", align_corners=False
    )
    looked_up = torch.where(remembers.repeat_interleave(lenses)[:, None, None, None], past - now, difference)
    return torch.cat([now, looked_up], dim=1).to(pixels.dtype)


def _eye(config: TakeVLAConfig) -> tuple[tuple[float, ...], tuple[float, ...], float]:
    return tuple(config.lens_yaws_deg), tuple(config.lens_fovs_deg), config.mount_height_m


@lru_cache(maxsize=8)
def _rays(
    yaws_deg: tuple[float, ...], fovs_deg: tuple[float, ...], height_m: float, side: int
) -> tuple[torch.Tensor, ...]:
    """Of each pixel the metres to the right (lenses, 1, side) and down (lenses, side, 1) per metre of depth,
    and one over its depth (lenses, side, side); of each lens, as (lenses, 1, 1), cosine and sine of its yaw
    and its focal length over half the side.
    """
    yaw = torch.tensor([math.radians(deg) for deg in yaws_deg])[:, None, None]
    half = torch.tensor([math.tan(0.5 * math.radians(deg)) for deg in fovs_deg])[:, None, None]
    middle = (torch.arange(side) + 0.5) * (2.0 / side) - 1.0
    across, down = half * middle, half * middle[:, None]
    nearness = torch.maximum(down / height_m, torch.sqrt(1.0 + across**2) / FAR_M)
    return across, down, nearness, torch.cos(yaw), torch.sin(yaw), 1.0 / half
