"""Closed dreams: how decisions share a return, which start frames an update takes, how drivers are ranked."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from takevla.driver import controller
from takevla.driver.controller import STATE_SIZE
from takevla.driver.vla import residual
from takevla.driver.vla.residual import MODES, ResidualHead
from takevla.learn.dream import closed
from takevla.learn.dream.closed import ClosedDreams, names
from takevla.learn.dream.config import ClosedConfig, DreamConfig
from takevla.learn.dream.decisions import Decisions
from takevla.learn.dream.grpo import clipped_loss, group_advantages
from takevla.learn.dream.rank import rank_correlation
from takevla.learn.dream.records import between, next_index, start_index
from takevla.learn.dream.replay import drive_plans, follow_plan
from takevla.scene.actors import Actors
from takevla.scene.scene import Controls, Ego, Scene, Weather

FEATURES = 8


def decisions(scenes: int = 2, group: int = 3, plans: int = 4) -> Decisions:
    chance = torch.Generator().manual_seed(0)
    taken = torch.ones(scenes, group * plans, dtype=torch.bool)
    taken[0, plans - 1] = False  # the first episode ended one plan early
    features = torch.randn(scenes, group * plans, FEATURES, generator=chance) * taken[..., None]
    z = torch.randn(scenes, group * plans, 1, MODES, generator=chance)
    rewards = np.arange(scenes * group, dtype=np.float32).reshape(scenes, group)
    return Decisions(features, z, taken, rewards, np.zeros_like(rewards))


def test_every_plan_of_an_episode_gets_its_advantage_and_none_that_was_not_drawn():
    made = decisions()
    advantages = group_advantages(torch.from_numpy(made.rewards))
    spread = made.spread(advantages).values.reshape(2, 3, 4)
    assert torch.equal(spread[1], advantages.values[1, :, None].expand(3, 4))
    assert spread[0, 0, 3] == 0.0
    assert (spread[0, 0, :3] == advantages.values[0, 0]).all()


def test_at_the_first_step_the_ratio_is_one_and_the_kl_zero_and_absent_plans_pull_nothing():
    made, head = decisions(), ResidualHead(FEATURES)
    distribution = made.distribution(head)
    density = made.log_prob(distribution)
    assert torch.allclose(density[1, 0], residual.log_prob(head(made.features[1, :1]), made.z[1, :1])[0, 0])
    moved = made.kl(distribution, made.distribution(head))
    assert torch.equal(moved, torch.zeros(2))
    spread = made.spread(group_advantages(torch.from_numpy(made.rewards)))
    density = density.detach().requires_grad_(True)
    clipped_loss(density, density.detach(), spread, moved.detach(), clip=0.2, kl_weight=0.0).backward()
    assert density.grad is not None
    assert density.grad[0, 3] == 0.0
    assert (density.grad[1] != 0.0).any()


def test_each_start_frame_is_dreamed_once_before_any_comes_again():
    def of(seed: int) -> list[list[int]]:
        dreams = object.__new__(ClosedDreams)
        dreams.scenes, dreams.config, dreams._seed = [None] * 12, ClosedConfig(scenes=4), seed
        return [dreams.chosen(update) for update in range(6)]

    drawn = of(0)
    for once in (drawn[:3], drawn[3:]):
        assert sorted(row for rows in once for row in rows) == list(range(12))
    assert drawn == of(0)
    assert drawn != of(1)


def test_one_plan_followed_in_pieces_of_time_is_the_recorded_plan_driven():
    route = np.stack([np.arange(1.0, 21.0), np.linspace(0.0, 2.0, 20)], axis=1)
    waypoints = np.stack([2.0 * np.arange(1.0, 11.0), np.zeros(10)], axis=1)
    whole = np.empty((11, 4))
    drive_plans(route[None], waypoints[None], np.zeros((1, 3)), np.zeros(1, np.int64), 6.0, 2, 0.05, whole)
    pose, out = np.array([0.0, 0.0, 0.0, 6.0]), np.empty((10, 4))
    follow_plan(np.zeros(STATE_SIZE), route, waypoints, pose, 2, 0.05, out)
    np.testing.assert_array_equal(out, whole[1:])


def test_plans_age_in_closed_dreams_by_the_drivers_own_tick():
    assert closed.TICK_S == controller.TICK_S  # to the bit: 0.05 written out is another number


def test_the_route_index_is_the_last_point_passed():
    along = np.arange(10.0)
    route = SimpleNamespace(
        points_world=np.stack([along, np.zeros(10), np.zeros(10)], axis=1),
        heading_rad=np.zeros(10), s_m=along,
    )  # fmt: skip
    assert start_index(route, np.array([3.4, 0.5])) == 3
    assert start_index(route, np.array([3.6, 0.5])) == 3
    assert next_index(route, 3, np.array([5.2, 0.0]), 4) == 5
    assert next_index(route, 3, np.array([9.0, 0.0]), 4) == 7


def test_words_are_true_where_action_and_cause_are_the_experts():
    words = "brake to 0m/s for the red light 20m ahead"
    assert names(words, 1, 5)
    assert not names(words, 1, 3)
    assert not names(words, 3, 5)
    assert not names("", 1, 5)


def test_rank_correlation_is_one_for_the_same_order_and_minus_one_for_the_reverse():
    dreamed = np.arange(12.0).reshape(4, 3)
    assert rank_correlation(np.stack([dreamed, dreamed**3], axis=-1)) == pytest.approx(1.0)
    assert rank_correlation(np.stack([dreamed, -dreamed], axis=-1)) == pytest.approx(-1.0)
    assert np.isnan(rank_correlation(np.stack([dreamed, np.ones((4, 3))], axis=-1)))


def test_settings_that_make_no_closed_dream_are_refused():
    with pytest.raises(ValueError, match="closed dreams learn by grpo"):
        DreamConfig(kind="closed", method="dpo")
    with pytest.raises(ValueError, match=r"0\.12 is no multiple"):
        ClosedConfig(replan_s=0.12)
    with pytest.raises(ValueError, match="make no group"):
        ClosedConfig(group=1)
    for settings in ({"starts": 0}, {"hold_s": 0.0}, {"least_share": 1.0}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            ClosedConfig(**settings)


def _scene(time_us: int, ids: list[int], x: list[float], heading: list[float]) -> Scene:
    """Actors on a line, some metres apart."""
    count = len(ids)
    still = np.zeros(count, np.float32)
    actors = Actors(
        id=np.array(ids, np.int32), kind=np.zeros(count, np.int8), role=np.zeros(count, np.int8),
        cue=np.zeros(count, np.int16),
        position_world=np.stack([np.array(x, np.float32), still, still], axis=1),
        heading_rad=np.array(heading, np.float32), speed_mps=still, acceleration_mps2=still,
        yaw_rate_radps=still, extent_m=np.ones((count, 3), np.float32), lane=np.zeros(count, np.int32),
        valid=np.ones(count, np.bool_),
    )  # fmt: skip
    ego = Ego(np.zeros(3, np.float32), 0.0, 0.0, 0.0, 0.0, 0.0, Controls(), np.ones(3, np.float32))
    return Scene(time_us, "Alder01", ego, actors, np.zeros(0, np.int8), Weather())


def test_between_two_records_actors_are_halfway_and_one_that_left_stays():
    first = _scene(0, [7, 3, 9], [0.0, 10.0, 50.0], [3.1, 0.2, 0.0])
    second = _scene(100_000, [3, 7], [12.0, 1.0], [0.4, -3.1])
    middle = between(first, second, 0.5)
    assert middle.time_us == 50_000
    assert middle.actors.position_world[:, 0].tolist() == [0.5, 11.0, 50.0]
    assert abs(middle.actors.heading_rad[0]) == pytest.approx(np.pi, abs=0.01)  # the short way round
    assert middle.actors.heading_rad[1] == pytest.approx(0.3)
