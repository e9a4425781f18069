"""Dreams that choose words: which action a commentary opens with, by what the plan that follows earns.

The words of a driver decide its plan, and imitation makes it say what is most probable, whatever a mistake
costs.  Here the policy is over the few ways to open (`driver.vla.opening`).  For each start frame the model
completes every opening and plans upon it, once; the plans are rolled out and rewarded, once (in closed dreams
it drives on from there by its own words, `ClosedDreams.branches`).  After that
the expected reward of a policy is a sum and needs no sampling: the group of a scene is all that can be said,
each weighed by its probability, and the advantage of an opening is its reward less the policy's mean.  It is
not divided by the group's spread, so that a scene in which all is well moves nothing (Dr. GRPO,
arXiv 2503.20783).

The policy is held near the model's own by a KL in the dreamed scenes and by the adaptive one on ordinary
frames, as that of plans is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from takevla.dataset.reader import Dataset
from takevla.driver.vla.opening import OpeningHead
from takevla.driver.vla.policy import VlaDriver
from takevla.driver.vla.residual import MOVING_MPS
from takevla.learn.dream import fans
from takevla.learn.dream.closed import ClosedDreams
from takevla.learn.dream.config import DreamConfig
from takevla.learn.dream.dreamer import gains
from takevla.learn.dream.grpo import DEGENERATE_SPREAD, adapt_kl_weight
from takevla.learn.dream.reading import READ_BATCH, frame_inputs
from takevla.learn.dream.reward import preset
from takevla.learn.dream.scenes import CALM, STEP_S, DreamScene
from takevla.learn.dream.simulate import measure, roll_out
from takevla.scene.plan import ROUTE_POINTS, SPEED_WAYPOINTS
from takevla.takeover.commentary import ACTION_WORDS

Float = NDArray[np.float32]
ACTIONS = len(ACTION_WORDS)
ADAM_EPS = 1e-5  # above the rounding of a gradient that is zero


@dataclass(frozen=True)
class ToldFrames:
    """What the frozen model would say at N frames, for each of the A openings."""

    features: torch.Tensor  # (N, D)
    speed_mps: torch.Tensor  # (N,)
    scores: torch.Tensor  # (N, A)
    route_ego: torch.Tensor  # (N, A, 20, 2)
    waypoints_ego: torch.Tensor  # (N, A, 10, 2)


def opening_ids(tokenizer: PreTrainedTokenizerFast) -> tuple[int, ...]:
    """First token of each of `ACTION_WORDS`; ValueError where two actions begin with the same one."""
    ids = tuple(tokenizer.encode(words, add_special_tokens=False)[0] for words in ACTION_WORDS)
    if len(set(ids)) < len(ids):
        raise ValueError("tokenizer: two actions of the commentary begin with the same token; dream of plans")
    return ids


def read_openings(driver: VlaDriver, dataset: Dataset, rows: Sequence[int]) -> ToldFrames:
    """The frozen model's openings at frames of a dataset, in batches of `READ_BATCH`."""
    width, ids = driver.model.config.width, opening_ids(driver.tokenizer)
    parts = [
        (
            torch.zeros(0, width),
            torch.zeros(0),
            torch.zeros(0, ACTIONS),
            torch.zeros(0, ACTIONS, ROUTE_POINTS, 2),
            torch.zeros(0, ACTIONS, SPEED_WAYPOINTS, 2),
        )
    ]
    for start in range(0, len(rows), READ_BATCH):
        some = list(rows[start : start + READ_BATCH])
        told = driver.openings(*frame_inputs(dataset, some, driver.model.config.sees_past), ids)
        plans = [thought.plan for thought in told.thoughts]
        route = torch.stack([plan.route_ego for plan in plans], dim=1)
        waypoints = torch.stack([plan.waypoints_ego for plan in plans], dim=1)
        parts.append((told.features, told.speed_mps, told.scores, route, waypoints))
    return ToldFrames(*(torch.cat(column).clone() for column in zip(*parts, strict=True)))


def expected_loss(
    log_share: torch.Tensor,
    start: torch.Tensor,
    rewards: torch.Tensor,
    weight: torch.Tensor,
    kl_weight: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss to minimise, and the mean KL to the policy at the start, in nats.

    Minus the expected reward, as an advantage over the policy's present mean, plus `kl_weight` times the KL.

    Args:
        log_share: (S, A) log-probabilities of the openings under the policy.
        start: (S, A) the same at the start.
        rewards: (S, A).
        weight: (S,) of the scenes.
        kl_weight: reward that a nat of KL costs.
    """
    for name, value in (("start", start), ("rewards", rewards)):
        if value.shape != log_share.shape or not torch.isfinite(value).all():
            raise ValueError(f"{name}: finite values of shape {tuple(log_share.shape)} are needed")
    share = log_share.exp()
    mean = (share.detach() * rewards).sum(1, keepdim=True)
    gain = (share * (rewards - mean)).sum(1) * ~degenerate(rewards)
    moved = kl_of(log_share, start).mean()
    return -(gain * weight / weight.mean()).mean() + kl_weight * moved, moved


def degenerate(rewards: torch.Tensor) -> torch.Tensor:
    """(S,) bool: whatever is said earns the same."""
    return rewards.amax(1) - rewards.amin(1) < DEGENERATE_SPREAD


def kl_of(log_share: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """(S,) KL(policy || start) of log-probabilities (S, A), nats."""
    return (log_share.exp() * (log_share - start)).sum(1)


class SpokenDreams:
    """The opening head and the dreams it learns from.  One `step` is one update."""

    def __init__(
        self,
        scenes: Sequence[DreamScene],
        told: ToldFrames,
        earned: tuple[Float, Float],
        anchor: ToldFrames,
        config: DreamConfig,
        ids: tuple[int, ...],
        seed: int,
        head: OpeningHead | None = None,
    ) -> None:
        """`told` is of the start frames and `earned` its rewards and failures (S, A); `anchor` is of ordinary
        frames.  `head` is the policy to start from, None for the model's own words; it is copied.
        """
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.head = OpeningHead(told.features.shape[1], ids)
        if head is not None:
            self.head.load_state_dict(head.state_dict())
        self.config, self.scenes = config, list(scenes)
        self._told, self._anchor = told, anchor
        self._rewards, self._failed = (torch.from_numpy(np.asarray(one, np.float32)) for one in earned)
        self._start = [self._log_share(frames).detach() for frames in (told, anchor)]
        calm = torch.tensor([scene.trigger == CALM for scene in scenes])
        self._weight = torch.where(calm, config.calm_weight, 1.0)
        self.optimiser = torch.optim.Adam(self.head.parameters(), lr=config.learning_rate, eps=ADAM_EPS)
        self.anchor_weight, self.update = config.anchor_weight, 0
        self.curves: list[dict[str, float]] = []

    def _log_share(self, frames: ToldFrames) -> torch.Tensor:
        """(N, A) log-probabilities of the openings under the policy."""
        return torch.log_softmax(frames.scores + self.head(frames.features, frames.speed_mps), dim=1)

    def step(self) -> None:
        """`passes` gradient steps on the expected reward; one row is added to `curves`."""
        config = self.config
        for _ in range(config.passes):
            log_share = self._log_share(self._told)
            loss, moved = expected_loss(
                log_share, self._start[0], self._rewards, self._weight, config.kl_weight
            )
            held = torch.zeros(())
            if len(self._anchor.features):
                moving = (self._anchor.speed_mps >= MOVING_MPS).float()  # where it stands the head is silent
                apart = kl_of(self._log_share(self._anchor), self._start[1])
                held = (apart * moving).sum() / moving.sum().clamp_min(1.0)
            self.optimiser.zero_grad()
            (loss + self.anchor_weight * held).backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
        self.anchor_weight = adapt_kl_weight(self.anchor_weight, float(held.detach()), config.anchor_kl)
        self.update += 1
        share = log_share.detach().exp()
        self.curves.append(
            {
                "step": self.update,
                "reward": float((share * self._rewards).sum(1).mean()),
                "reward_best": float(self._rewards.amax(1).mean()),
                "failure_rate": float((share * self._failed).sum(1).mean()),
                "kl_scenes": float(moved.detach()),
                "kl_anchor": float(held.detach()),
                "anchor_weight": self.anchor_weight,
                "degenerate_groups": float(degenerate(self._rewards).float().mean()),
            }
        )

    @torch.no_grad()
    def said(self, frames: ToldFrames) -> NDArray[np.int64]:
        """(N,) number of the opening that the policy now chooses at each frame."""
        return self._log_share(frames).argmax(1).numpy()

    def chosen(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(S,) number of the opening that is said at each start frame, before and after."""
        return self._start[0].argmax(1).numpy(), self.said(self._told)

    def before_after(self) -> dict[str, Any]:
        """Reward and failure rate of the plans that follow what is said, before and after."""
        at = np.arange(len(self.scenes))
        rewards, failed = self._rewards.numpy(), self._failed.numpy()
        before, after = ((rewards[at, said][:, None], failed[at, said][:, None]) for said in self.chosen())
        return gains(self.scenes, before, after)

    def fans(self, rises: Float, closed: ClosedDreams | None = None) -> list[dict[str, Any]]:
        """The scenes that `fans.shown_scenes` picks by the rise (S,) in reward: what comes of all openings.

        That of the opening that is said comes first, before and after.  `closed` are the dreams that were
        driven, if they were; its scenes are these.
        """
        steps, reward = round(self.config.horizon_s / STEP_S), preset(self.config.reward, self.config.terms)
        shown = []
        for row in fans.shown_scenes(self.scenes, rises):
            scene = self.scenes[row] if closed is None else closed.record(row).scene
            content = fans.surroundings(scene, steps if closed is None else scene.steps)
            for when, said in zip(("before", "after"), self.chosen(), strict=True):
                order = [int(said[row]), *(k for k in range(ACTIONS) if k != said[row])]
                if closed is None:
                    told = (self._told.route_ego, self._told.waypoints_ego)
                    route, waypoints = (plans[row, order].numpy() for plans in told)
                    tried = measure(scene, roll_out(scene, route, waypoints, steps))
                else:
                    tried = closed.opened(row, [int(self.head.ids[k]) for k in order])
                content[when] = fans.fan(tried, reward)
            shown.append(content)
        return shown
