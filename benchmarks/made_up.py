"""Training samples of the real shapes with nothing in them, for measurements of speed."""

import numpy as np

from takevla.learn.samples import Labels, Samples
from takevla.learn.sight import unknown_rows
from takevla.world.camera.rig import HEIGHT_PX, WIDTH_PX


def made_up_samples(count: int, words: tuple[int, ...], channels: int = 3, seed: int = 0) -> Samples:
    """`count` samples that all say `words` (token ids); pictures (HEIGHT_PX, WIDTH_PX, channels) of noise."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 255, (count, HEIGHT_PX, WIDTH_PX, channels), dtype=np.uint8)
    labels = Labels(
        speed_mps=rng.uniform(0, 10, count).astype(np.float32),
        target_points_ego=rng.normal(0, 10, (count, 2, 2)).astype(np.float32),
        option=rng.integers(1, 7, count),
        next_option=rng.integers(1, 7, count),
        route_ego=rng.normal(0, 1, (count, 20, 2)).astype(np.float32),
        waypoints_ego=rng.normal(0, 1, (count, 10, 2)).astype(np.float32),
        words=(words,) * count,
        says=np.ones(count, bool),
        acts=np.ones(count, bool),
        sight=unknown_rows(count),
    )
    return Samples(labels, lambda number: images[number])
