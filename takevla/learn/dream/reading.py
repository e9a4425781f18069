"""What the frozen model makes of recorded frames: start frames of dreams, and ordinary ones that anchor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from takevla.dataset.reader import Dataset
from takevla.driver.vla import residual
from takevla.driver.vla.policy import VlaDriver
from takevla.driver.vla.tensors import NavigationInput
from takevla.driver.vla.tokenizer import decode_commentary
from takevla.learn.balance import evenly_drawn
from takevla.learn.dream.closed import names
from takevla.scene.plan import ROUTE_POINTS, SPEED_WAYPOINTS

Float = NDArray[np.float32]
READ_BATCH = 16  # frames per pass of the frozen model
EPISODE_ROLE = "other"  # frames where nothing was amiss; they anchor the policy


@dataclass(frozen=True)
class BaseReading:
    """What the frozen model makes of N frames: its plans and the residual head's features."""

    route_ego: torch.Tensor  # (N, 20, 2)
    waypoints_ego: torch.Tensor  # (N, 10, 2)
    features: torch.Tensor  # (N, F)
    true_words: Float | None = None  # (N,) 1 where the commentary names the expert's action and cause
    words: tuple[tuple[int, ...], ...] = ()  # N token lists of the commentary

    def joined(self, other: BaseReading) -> BaseReading:
        """These frames, and those of `other` after them."""
        known = [one.true_words for one in (self, other) if one.true_words is not None]
        return BaseReading(
            torch.cat([self.route_ego, other.route_ego]),
            torch.cat([self.waypoints_ego, other.waypoints_ego]),
            torch.cat([self.features, other.features]),
            np.concatenate(known) if len(known) == 2 else None,
            self.words + other.words,
        )


def read_frames(driver: VlaDriver, dataset: Dataset, rows: Sequence[int]) -> BaseReading:
    """The frozen model's answer to frames of a dataset, in batches of `READ_BATCH`."""
    width = 2 * driver.model.config.width
    parts = [(torch.zeros(0, ROUTE_POINTS, 2), torch.zeros(0, SPEED_WAYPOINTS, 2), torch.zeros(0, width))]
    words: list[tuple[int, ...]] = []
    for start in range(0, len(rows), READ_BATCH):
        some = list(rows[start : start + READ_BATCH])
        thought = driver.think(*frame_inputs(dataset, some, driver.model.config.sees_past))
        plan, pad = thought.plan, driver.model.config.pad_token_id
        words += [tuple(word for word in row if word != pad) for row in thought.words.tolist()]
        parts.append((plan.route_ego, plan.waypoints_ego, residual.residual_features(plan.action_features)))
    action, cause = dataset.column("expert_action")[rows], dataset.column("expert_cause")[rows]
    spoken = [decode_commentary(driver.tokenizer, list(row)) for row in words]
    said = [names(one, int(a), int(c)) for one, a, c in zip(spoken, action, cause, strict=True)]
    route, waypoints, features = (torch.cat(column).clone() for column in zip(*parts, strict=True))
    return BaseReading(route, waypoints, features, np.array(said, np.float32), tuple(words))


def frame_inputs(
    dataset: Dataset, rows: Sequence[int], sees_past: bool
) -> tuple[torch.Tensor, NavigationInput]:
    """Pictures (N, H, W, 3 or 6) uint8 of frames of a dataset, and what else a model is told there."""
    some = list(rows)
    targets = dataset.column("target_points_ego")[some].reshape(-1, 2, 2)
    speed, option, following = (dataset.column(name)[some] for name in ("speed_mps", "option", "next_option"))
    navigation = NavigationInput(
        speed_mps=torch.tensor(speed, dtype=torch.float32),
        speed_known=torch.ones(len(some), dtype=torch.bool),
        target_points_ego=torch.tensor(targets, dtype=torch.float32),
        option=torch.tensor(option, dtype=torch.long),
        next_option=torch.tensor(following, dtype=torch.long),
    )
    return torch.from_numpy(np.stack([dataset.pictures(row, sees_past) for row in some])), navigation


def anchor_rows(dataset: Dataset, count: int, seed: int, least_mps: float = 0.0) -> list[int]:
    """At most `count` of the policy's own ordinary frames of at least this speed, by the seed.

    Rare situations are as frequent as others: what dreams hardly show, passing an obstacle say, must be held
    as firmly as the free road.
    """
    rows = np.flatnonzero(
        (dataset.column("role") == EPISODE_ROLE)
        & np.isfinite(dataset.column("policy_route_ego")[:, 0])
        & (dataset.column("speed_mps") >= least_mps)
    )
    return [int(row) for row in evenly_drawn(dataset, rows, count, np.random.default_rng([seed, 0xA]))]
