"""Where frames lie in the feature space of the model: t-SNE of its action features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from takevla.dataset.reader import Dataset
from takevla.driver.vla.checkpoint import load_checkpoint
from takevla.driver.vla.policy import VlaDriver
from takevla.learn.dream.reading import read_frames
from takevla.scale import one_thread

FRAMES_PER_ROLE = 120  # drawn at random; enough to see clusters, seconds to compute
ITERATIONS = 500
PERPLEXITY = 30.0
ROLES = {
    "pretrain": "pre-training",
    "other": "driven well by the policy",
    "pre_takeover": "before a takeover",
    "takeover": "under the expert",
}


@dataclass(frozen=True)
class Embedding:
    """N frames on the plane: points (N, 2) without unit, and the name of each frame's group."""

    points: NDArray[np.float64]
    groups: tuple[str, ...]


def chosen_rows(roles: NDArray[np.object_], seed: int) -> list[int]:
    """Up to `FRAMES_PER_ROLE` rows of each role of `ROLES`, drawn by `seed`, in order."""
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 0x75E])))
    rows: list[int] = []
    for role in ROLES:
        found = np.flatnonzero(roles == role)
        rows += sorted(int(row) for row in generator.permutation(found)[:FRAMES_PER_ROLE])
    return rows


def embed(checkpoint: Path, datasets: Sequence[Dataset], seed: int) -> Embedding | None:
    """t-SNE of the features that the model at `checkpoint` has of frames of each role.

    None when there are too few frames to place (t-SNE needs three times its perplexity) or all are alike.
    """
    parts = []
    groups: list[str] = []
    for dataset in datasets:
        roles = dataset.column("role")
        rows = chosen_rows(roles, seed)
        parts.append((dataset, rows))
        groups += [ROLES[str(roles[row])] for row in rows]
    if len(groups) < 3 * PERPLEXITY:
        return None
    loaded = load_checkpoint(checkpoint)
    driver = VlaDriver(loaded.model, loaded.tokenizer, commentary=False)
    with one_thread():  # threads that spin for each other crawl when the machine is busy
        read = [read_frames(driver, dataset, rows).features for dataset, rows in parts if rows]
        features = np.concatenate([one.float().numpy() for one in read])
        spread = features.std(axis=0)
        if not spread.max() > 0.0:  # also when not a number; scikit-learn's tree crashes on such input
            return None
        scaled = (features - features.mean(axis=0)) / np.where(spread > 0.0, spread, 1.0)
        placed = TSNE(perplexity=PERPLEXITY, init="pca", max_iter=ITERATIONS, random_state=seed)
        points = placed.fit_transform(scaled)
    return Embedding(points.astype(np.float64), tuple(groups))
