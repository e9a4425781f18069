"""Dreams that move the model itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_dream_scenes import scene, straight
from tiny_vla import tiny_model, write_frames

from takevla.dataset.reader import Dataset
from takevla.driver.vla import residual
from takevla.driver.vla.model import TakeVLA
from takevla.driver.vla.settings import Trainable
from takevla.learn.dream.config import DreamConfig, MovingConfig
from takevla.learn.dream.moving import GroupConfig, MovingDreams
from takevla.learn.dream.rollouts import RollOuts

WHOLE = Trainable()
WORDS = [[5, 6, 7], [5, 8]]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Dataset(write_frames(tmp_path_factory.mktemp("frames") / "data", {"other": 8}))


def _dreams(
    dataset: Dataset, *, trainable: Trainable = WHOLE, updates: int = 30, hold_weight: float = 1.0
) -> MovingDreams:
    scenes = [replace(scene(speed=4.0, expert=straight(8.0)), frame_row=row) for row in range(4)]
    config = DreamConfig(reward="paper", kl_weight=0.0, anchor_weight=0.01)
    moving = MovingConfig(trainable, scenes=2, anchors=2, learning_rate=2e-3, hold_weight=hold_weight)
    rewarded = RollOuts.of(scenes, config.reward, config.terms, config.horizon_s)
    words = [WORDS[k % 2] for k in range(8)]
    return MovingDreams(
        scenes,
        tiny_model(),
        dataset,
        [4, 5, 6, 7],
        words,
        rewarded,
        moving,
        GroupConfig.of(config),
        updates,
        0,
    )


def _weights(model: TakeVLA) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def test_how_far_a_plan_was_bent_along_its_way_is_found_again():
    plan = straight(8.0)
    route, waypoints = (torch.from_numpy(points)[None] for points in (plan.route_ego, plan.waypoints_ego))
    z = torch.tensor([[-0.4, 0.3, 0.1, 0.0, 0.0, 0.0]])
    _, bent = residual.bend(route, waypoints, z)
    assert torch.allclose(residual.modes_between(bent, waypoints), z, atol=1e-4)
    assert (residual.modes_between(waypoints, waypoints) == 0.0).all()


def test_at_the_first_step_the_policy_is_the_model_as_it_was(dataset):
    dreams = _dreams(dataset)
    places = list(range(8))
    policy = dreams.distribution(dreams._read(places), places)
    assert policy.mean.abs().max() < 0.02  # bfloat16 products in batches of another size
    assert (policy.std[:, residual.LONGITUDINAL_MODES :] == residual.STILL).all()


def test_a_reward_that_says_nothing_moves_nothing(dataset, monkeypatch):
    dreams = _dreams(dataset, hold_weight=0.0)
    monkeypatch.setattr(
        dreams, "_rewards", lambda chosen, z: (np.ones(z.shape[:2], np.float32), np.zeros(z.shape[:2]))
    )
    dreams.anchor_weight = 0.0
    before = _weights(dreams.model)
    dreams.step()
    assert all(torch.equal(value, before[name]) for name, value in dreams.model.named_parameters())
    assert dreams.curves[-1]["degenerate_groups"] == 1.0


@pytest.mark.parametrize("trainable", [WHOLE, Trainable(lora_rank=8, lora_dropout=0.0)])
def test_the_model_comes_nearer_to_what_earns_more_and_is_a_plain_model_again(dataset, trainable):
    dreams = _dreams(dataset, trainable=trainable, updates=25)
    for _ in range(25):
        dreams.step()
    rewards = [row["reward"] for row in dreams.curves]
    assert np.mean(rewards[-6:]) > np.mean(rewards[:6]) + 0.02
    names = set(tiny_model().state_dict())
    assert set(dreams.finish().state_dict()) == names


def test_moving_dreams_that_were_cut_off_go_on_to_the_same_weights(dataset, tmp_path: Path):
    through, first, second = (_dreams(dataset, updates=4) for _ in range(3))
    for _ in range(4):
        through.step()
    for _ in range(2):
        first.step()
    first.save(tmp_path / "state.pt")
    second.load(tmp_path / "state.pt")
    for _ in range(2):
        second.step()
    for name, value in through.model.named_parameters():
        assert torch.equal(value, dict(second.model.named_parameters())[name]), name
    with pytest.raises(ValueError, match="other dream settings"):
        _dreams(dataset, updates=5).load(tmp_path / "state.pt")


def test_only_open_grpo_moves_the_model():
    with pytest.raises(ValueError, match=r"dream\.moving"):
        DreamConfig(kind="closed", moving=MovingConfig())
    with pytest.raises(ValueError, match=r"dream\.moving\.scenes"):
        MovingConfig(scenes=0)
