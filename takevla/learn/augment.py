"""What is done to a batch so that the model does not lean on what will not hold on the road.

Pictures vary in exposure, colour and noise.  The speed is at times hidden and at times off: in
expert data the present speed predicts the next so well that a model given it exactly learns to go on
as it goes and never to start or stop ("inertia").
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from takevla.learn.samples import Batch
from takevla.learn.settings import Augmentation


@dataclass
class AugmentedBatch:
    """A batch with float pictures in [0, 255] and the rows that hear their commentary."""

    batch: Batch
    images: torch.Tensor  # (B, H, W, 3 or 6) float32
    words_heard: torch.Tensor  # (B,) bool


def augment(batch: Batch, how: Augmentation, generator: torch.Generator) -> AugmentedBatch:
    """Change `batch` at random; the same generator state gives the same result."""
    rows = batch.images.shape[0]

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(rows, *shape, generator=generator)

    def spread(*shape: int) -> torch.Tensor:
        return 2.0 * uniform(*shape) - 1.0

    images = batch.images.float()
    frames = images.shape[-1] // 3
    if frames > 1:
        unknown = uniform() < how.unknown_past_share
        images[unknown] = images[unknown][..., :3].repeat(1, 1, 1, frames)
    changed = (uniform(1, 1, 1) < how.picture_share).float()
    gain = 1.0 + changed * (how.contrast * spread(1, 1, 1) + how.colour * spread(1, 1, 3))
    gain = gain.repeat(1, 1, 1, frames)  # the same for both pictures
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    shift = mean * (1.0 - gain) + changed * how.brightness * spread(1, 1, 1)
    images = images * gain + shift
    strength = how.noise * uniform(1, 1, 1)
    for row in torch.nonzero(uniform() < how.noise_share).flatten().tolist():
        images[row] += strength[row] * torch.randn(images.shape[1:], generator=generator)
    images.clamp_(0.0, 255.0)

    navigation = batch.navigation
    noise = torch.randn(rows, 2, generator=generator)
    speed = navigation.speed_mps * (1.0 + how.speed_noise_relative * noise[:, 0])
    speed = (speed + how.speed_noise_mps * noise[:, 1]).clamp_min(0.0)
    targets = navigation.target_points_ego
    targets = targets + how.target_noise_m * torch.randn(targets.shape, generator=generator)
    navigation = replace(
        navigation,
        speed_mps=speed,
        speed_known=uniform() >= how.hidden_speed_share,
        target_points_ego=targets,
    )
    heard = uniform() >= how.unheard_share
    return AugmentedBatch(replace(batch, navigation=navigation), images, heard)
