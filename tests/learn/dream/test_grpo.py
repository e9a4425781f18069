"""Group-relative policy optimisation: what must hold whatever is dreamed."""

from __future__ import annotations

import pytest
import torch

from takevla.driver.vla import residual
from takevla.driver.vla.residual import MODES, PlanDistribution
from takevla.learn.dream.dpo import nearest_modes, preference_loss
from takevla.learn.dream.grpo import adapt_kl_weight, clipped_loss, group_advantages


def _distribution(scenes: int, seed: int = 0) -> PlanDistribution:
    generator = torch.Generator().manual_seed(seed)
    return PlanDistribution(
        0.3 * torch.randn(scenes, MODES, generator=generator),
        0.3 + 0.5 * torch.rand(scenes, MODES, generator=generator),
    )


def test_advantages_have_zero_mean_and_unit_spread_per_scene():
    rewards = torch.rand(5, 16, generator=torch.Generator().manual_seed(1))
    advantages = group_advantages(rewards)
    assert torch.allclose(advantages.values.mean(1), torch.zeros(5), atol=1e-6)
    assert torch.allclose(advantages.values.pow(2).mean(1), torch.ones(5), atol=1e-5)
    assert not advantages.degenerate.any()


def test_a_group_of_equal_rewards_is_degenerate_and_carries_no_advantage():
    rewards = torch.stack([torch.full((8,), 0.7), torch.linspace(0, 1, 8)])
    advantages = group_advantages(rewards)
    assert advantages.degenerate.tolist() == [True, False]
    assert torch.equal(advantages.values[0], torch.zeros(8))


def test_scenes_count_by_their_weight_in_relation_to_each_other():
    advantages = group_advantages(torch.rand(3, 8, generator=torch.Generator().manual_seed(3)))
    assert torch.equal(advantages.weighed(torch.full((3,), 2.0)).values, advantages.values)
    twice = advantages.weighed(torch.tensor([1.0, 1.0, 4.0]))
    assert torch.allclose(twice.values, advantages.values * torch.tensor([0.5, 0.5, 2.0])[:, None])
    assert torch.equal(twice.degenerate, advantages.degenerate)


def test_the_first_step_has_ratio_one_and_kl_zero():
    old = _distribution(4)
    z = residual.sample(old, 16, torch.Generator().manual_seed(2))
    log_prob = residual.log_prob(old, z)
    kl = residual.kl(old, old)
    assert torch.allclose(kl, torch.zeros(4), atol=1e-6)
    advantages = group_advantages(torch.rand(4, 16, generator=torch.Generator().manual_seed(3)))
    loss = clipped_loss(log_prob, log_prob, advantages, kl, clip=0.2, kl_weight=1.0)
    assert float(loss) == pytest.approx(0.0, abs=1e-6)  # ratio one times advantages of zero mean


def test_the_gradient_agrees_with_finite_differences():
    old = _distribution(3)
    z = residual.sample(old, 8, torch.Generator().manual_seed(4)).double()
    rewards = torch.rand(3, 8, generator=torch.Generator().manual_seed(5)).double()
    advantages = group_advantages(rewards)
    std = old.std.double()
    old_double = PlanDistribution(old.mean.double(), std)
    reference = residual.log_prob(old_double, z)

    def loss(mean: torch.Tensor) -> torch.Tensor:
        new = PlanDistribution(mean, std)
        return clipped_loss(
            residual.log_prob(new, z),
            reference,
            advantages,
            residual.kl(new, old_double),
            clip=0.2,
            kl_weight=0.1,
        )

    mean = (old.mean.double() + 0.01).requires_grad_()
    assert torch.autograd.gradcheck(loss, (mean,), eps=1e-6, atol=1e-5)


def test_a_scene_of_a_batch_moves_as_it_would_alone():
    old = _distribution(3)
    z = residual.sample(old, 8, torch.Generator().manual_seed(6))
    rewards = torch.rand(3, 8, generator=torch.Generator().manual_seed(7))
    reference = residual.log_prob(old, z)

    def gradient(rows: list[int]) -> torch.Tensor:
        mean = old.mean[rows].clone().requires_grad_()
        new = PlanDistribution(mean, old.std[rows])
        base = PlanDistribution(old.mean[rows], old.std[rows])
        loss = clipped_loss(
            residual.log_prob(new, z[rows]), reference[rows], group_advantages(rewards[rows]),
            residual.kl(new, base), clip=0.2, kl_weight=0.1,
        )  # fmt: skip
        loss.backward()
        assert mean.grad is not None
        return mean.grad * len(rows)

    assert torch.allclose(gradient([0, 1, 2])[1], gradient([1])[0], atol=1e-6)


def test_the_clip_stops_a_plan_from_pulling_further():
    rewards = torch.tensor([[0.0, 1.0]])
    advantages = group_advantages(rewards)
    log_prob = torch.tensor([[0.0, 1.0]], requires_grad=True)  # ratio e > 1.2 on the better plan
    loss = clipped_loss(log_prob, torch.zeros(1, 2), advantages, torch.zeros(1), clip=0.2, kl_weight=0.0)
    loss.backward()
    assert log_prob.grad is not None
    assert float(log_prob.grad[0, 1]) == 0.0
    assert float(log_prob.grad[0, 0]) != 0.0


def test_wrong_shapes_and_values_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="group >= 2"):
        group_advantages(torch.zeros(3, 1))
    with pytest.raises(ValueError, match="not finite"):
        group_advantages(torch.full((2, 4), float("nan")))
    advantages = group_advantages(torch.rand(2, 4))
    with pytest.raises(ValueError, match="shape"):
        clipped_loss(
            torch.zeros(2, 4), torch.zeros(2, 3), advantages, torch.zeros(2), clip=0.2, kl_weight=0.0
        )


def test_the_kl_weight_follows_the_kl():
    assert adapt_kl_weight(0.1, kl=1.0, target=0.1) > 0.1
    assert adapt_kl_weight(0.1, kl=0.01, target=0.1) < 0.1
    assert adapt_kl_weight(0.1, kl=0.1, target=0.1) == 0.1


def test_the_preference_loss_starts_at_log_2_and_falls_as_the_preferred_plan_gains():
    reference = torch.tensor([0.3, -1.0])
    even = preference_loss(reference, reference, reference, reference, beta=0.1)
    assert float(even) == pytest.approx(0.6931, abs=1e-4)
    assert preference_loss(reference + 1.0, reference, reference, reference, beta=0.1) < even


def test_the_modes_that_made_a_plan_are_found_again():
    route = torch.stack([torch.arange(1.0, 21.0), torch.zeros(20)], dim=-1)[None]
    waypoints = torch.stack([1.5 * torch.arange(1.0, 11.0), torch.zeros(10)], dim=-1)[None]
    z = torch.tensor([[0.4, 0.0, 0.2, -0.5, 0.3, 0.0]])
    bent = residual.bend(route, waypoints, z)
    found = nearest_modes(route, waypoints, *bent)
    for wanted, again in zip(bent, residual.bend(route, waypoints, found), strict=True):
        assert (wanted - again).abs().max() < 0.1
