"""Dreams that choose words: the expected reward, the head, and the driver that obeys it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_dream_scenes import scene, straight
from tiny_vla import observations, tiny_model, tiny_tokenizer, write_frames

from takevla.dataset.reader import Dataset
from takevla.driver.vla.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from takevla.driver.vla.inputs import frame_stack, navigation_inputs
from takevla.driver.vla.opening import OpeningHead
from takevla.driver.vla.policy import OWN_WORDS, VlaDriver
from takevla.learn.dream.config import DreamConfig, MovingConfig
from takevla.learn.dream.reading import frame_inputs
from takevla.learn.dream.scenes import CALM
from takevla.learn.dream.spoken import (
    ACTIONS,
    SpokenDreams,
    ToldFrames,
    expected_loss,
    kl_of,
    opening_ids,
    read_openings,
)
from takevla.takeover.commentary import ACTION_WORDS

BRAKE = list(ACTION_WORDS).index("brake to")


def _told(frames: int, seed: int = 0) -> ToldFrames:
    chance = torch.Generator().manual_seed(seed)
    return ToldFrames(
        torch.randn(frames, 16, generator=chance),
        torch.full((frames,), 4.0),
        torch.randn(frames, ACTIONS, generator=chance),
        torch.zeros(frames, ACTIONS, 20, 2),
        torch.zeros(frames, ACTIONS, 10, 2),
    )


def _dreams(rewards: np.ndarray, config: DreamConfig, calm: int = 0) -> SpokenDreams:
    frames = len(rewards)
    scenes = [
        replace(scene(speed=4.0, expert=straight(8.0)), trigger=CALM if row < calm else "collision")
        for row in range(frames)
    ]
    earned = (rewards.astype(np.float32), (rewards < 0.5).astype(np.float32))
    return SpokenDreams(scenes, _told(frames), earned, _told(32, 1), config, tuple(range(ACTIONS)), 0)


def test_the_gradient_of_the_expected_reward_is_that_of_finite_differences():
    chance = torch.Generator().manual_seed(3)
    scores, start, rewards = (torch.randn(5, ACTIONS, generator=chance).double() for _ in range(3))
    start, weight = torch.log_softmax(start, 1), torch.tensor([1.0, 2.0, 1.0, 0.5, 3.0]).double()
    scores.requires_grad_(True)

    def value(given: torch.Tensor) -> torch.Tensor:
        """The objective itself: the reward that is expected, less what the KL costs."""
        log_share = torch.log_softmax(given, 1)
        earned = ((log_share.exp() * rewards).sum(1) * weight / weight.mean()).mean()
        return -earned + 0.3 * kl_of(log_share, start).mean()

    loss, _ = expected_loss(torch.log_softmax(scores, 1), start, rewards, weight, 0.3)
    loss.backward()
    step = 1e-6
    for row, column in ((0, 0), (1, 4), (4, 5)):
        moved = torch.zeros_like(scores)
        moved[row, column] = step
        with torch.no_grad():
            slope = (value(scores + moved) - value(scores - moved)) / (2 * step)
        assert float(scores.grad[row, column]) == pytest.approx(float(slope), abs=1e-7)


def test_what_is_not_finite_or_of_another_shape_is_refused():
    share = torch.log_softmax(torch.zeros(2, ACTIONS), 1)
    with pytest.raises(ValueError, match="rewards"):
        expected_loss(share, share, torch.full((2, ACTIONS), torch.nan), torch.ones(2), 0.1)
    with pytest.raises(ValueError, match="start"):
        expected_loss(share, share[:1], torch.zeros(2, ACTIONS), torch.ones(2), 0.1)


def test_a_reward_that_says_nothing_moves_nothing_and_the_first_kl_is_zero():
    dreams = _dreams(np.ones((8, ACTIONS)), DreamConfig(chooses="words"))
    before = {name: value.clone() for name, value in dreams.head.state_dict().items()}
    dreams.step()
    for name, value in dreams.head.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=1e-5, rtol=0.0)
    assert dreams.curves[0]["degenerate_groups"] == 1.0
    assert dreams.curves[0]["kl_scenes"] == pytest.approx(0.0, abs=1e-6)


def test_what_earns_more_is_said_and_calm_scenes_count_apart():
    rewards = np.zeros((64, ACTIONS))
    rewards[:, BRAKE] = 1.0
    config = DreamConfig(
        chooses="words", kl_weight=0.0, anchor_weight=1e-4, anchor_kl=10.0, learning_rate=0.02
    )
    dreams = _dreams(rewards, config, calm=16)
    for _ in range(60):
        dreams.step()
    before, after = dreams.chosen()
    assert (after == BRAKE).mean() > 0.9 > (before == BRAKE).mean()
    found = dreams.before_after()
    assert (found["scenes"], found["calm_scenes"]) == (48, 16)
    assert found["failure_rate_after"] < 0.1 < found["failure_rate_before"]
    assert dreams.curves[-1]["reward"] > dreams.curves[0]["reward"] + 0.3


def test_a_firm_hand_keeps_the_words():
    rewards = np.zeros((64, ACTIONS))
    rewards[:, BRAKE] = 1.0
    dreams = _dreams(rewards, DreamConfig(chooses="words", kl_weight=100.0))
    for _ in range(30):
        dreams.step()
    assert dreams.curves[-1]["kl_scenes"] < 0.01


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Dataset(write_frames(tmp_path_factory.mktemp("frames") / "data", {"other": 6}))


def test_the_opening_that_the_model_prefers_leads_to_what_it_would_have_said(dataset):
    driver = VlaDriver(tiny_model(), tiny_tokenizer())
    inputs = frame_inputs(dataset, range(6), driver.model.config.sees_past)
    ids = opening_ids(driver.tokenizer)
    own, told = driver.think(*inputs), driver.openings(*inputs, ids)
    for row, words in enumerate(own.words.tolist()):
        for number, thought in enumerate(told.thoughts):
            assert int(thought.words[row, 0]) == ids[number]
            if words and words[0] == ids[number]:
                torch.testing.assert_close(thought.plan.waypoints_ego[row], own.plan.waypoints_ego[row])
    alone = [driver.openings(*frame_inputs(dataset, [row], False), ids) for row in range(6)]
    for row, one in enumerate(alone):
        assert torch.equal(one.scores[0], told.scores[row])
        assert torch.equal(one.thoughts[BRAKE].plan.route_ego[0], told.thoughts[BRAKE].plan.route_ego[row])


def test_frames_are_read_in_batches(dataset):
    driver = VlaDriver(tiny_model(), tiny_tokenizer())
    told = read_openings(driver, dataset, range(6))
    assert told.features.shape == (6, driver.model.config.width)
    assert told.waypoints_ego.shape == (6, ACTIONS, 10, 2)
    assert read_openings(driver, dataset, []).scores.shape == (0, ACTIONS)


def test_a_driver_opens_as_its_head_says_and_a_fresh_head_changes_nothing(tmp_path: Path):
    model, tokenizer = tiny_model(), tiny_tokenizer()
    ids = opening_ids(tokenizer)
    head = OpeningHead(model.config.width, ids)
    seen = [
        replace(one, speed_mps=speed) for one, speed in zip(observations(3), (2.0, 5.0, 0.1), strict=True)
    ]
    inputs = torch.from_numpy(frame_stack(seen)), navigation_inputs(seen)
    plain = VlaDriver(model, tokenizer).think(*inputs)
    fresh = VlaDriver(model, tokenizer, opening=head).think(*inputs)
    assert torch.equal(plain.words, fresh.words)
    with torch.no_grad():
        head.outer.bias[BRAKE] = 1e3
    save_checkpoint(tmp_path / "model", Checkpoint(model, tokenizer, opening=head))
    read = load_checkpoint(tmp_path / "model")
    driver = VlaDriver(read.model, read.tokenizer, opening=read.opening)
    said = driver.think(*inputs).words
    assert (said[:2, 0] == ids[BRAKE]).all()
    assert said[2, 0] == plain.words[2, 0]  # it stands: its own words
    assert all(plan.commentary.startswith("brake") for plan in driver.plan(seen)[:2])


def test_some_rows_are_told_how_to_open_and_the_others_choose(dataset):
    driver = VlaDriver(tiny_model(), tiny_tokenizer())
    inputs = frame_inputs(dataset, range(6), driver.model.config.sees_past)
    ids = opening_ids(driver.tokenizer)
    own, told = driver.think(*inputs), driver.openings(*inputs, ids)
    opens = [ids[BRAKE], OWN_WORDS] * 3
    mixed = driver.think(*inputs, opens=opens)
    for row, token in enumerate(opens):
        wanted = own if token == OWN_WORDS else told.thoughts[BRAKE]
        assert torch.equal(mixed.plan.waypoints_ego[row], wanted.plan.waypoints_ego[row])
        said = [word for word in mixed.words[row].tolist() if word != driver.model.config.pad_token_id]
        assert said == [w for w in wanted.words[row].tolist() if w != driver.model.config.pad_token_id]


def test_only_grpo_chooses_words():
    assert DreamConfig(kind="closed", chooses="words").closed.hold_s > 0.0
    for settings in (
        {"method": "dpo"},
        {"expert_pull": 1.0},
        {"moving": MovingConfig()},
    ):
        with pytest.raises(ValueError, match=r"dream\.chooses"):
            DreamConfig(chooses="words", **settings)
