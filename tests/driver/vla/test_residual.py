import numpy as np
import pytest
import torch

from takevla.driver.vla import residual
from takevla.driver.vla.residual import MODES, PlanDistribution, ResidualHead


def _plans(rows=4, speed=6.0, curvature=0.02):
    torch.manual_seed(0)
    bend = torch.randn(rows, 1) * curvature / 2
    s = torch.arange(1.0, 21.0)
    route = torch.stack([s.expand(rows, -1), bend * s**2], dim=-1)
    along = speed * 0.25 * torch.arange(1.0, 11.0)
    return route, torch.stack([along.expand(rows, -1), bend * along**2], dim=-1)


def _distribution(rows=4):
    torch.manual_seed(1)
    return PlanDistribution(torch.randn(rows, MODES), torch.rand(rows, MODES) + 0.2)


def test_log_probability_is_that_of_torch_distributions():
    distribution = _distribution()
    z = residual.sample(distribution, 5, torch.Generator().manual_seed(0))
    normal = torch.distributions.Normal(distribution.mean[:, None], distribution.std[:, None])
    torch.testing.assert_close(residual.log_prob(distribution, z), normal.log_prob(z).sum(-1))


def test_kl_is_that_of_torch_distributions_and_zero_against_itself():
    one, two = _distribution(), PlanDistribution(torch.zeros(4, MODES), torch.ones(4, MODES))
    wanted = torch.distributions.kl_divergence(
        torch.distributions.Normal(one.mean, one.std), torch.distributions.Normal(two.mean, two.std)
    ).sum(-1)
    torch.testing.assert_close(residual.kl(one, two), wanted)
    assert torch.equal(residual.kl(one, one), torch.zeros(4))


def test_gradient_of_the_log_probability_agrees_with_finite_differences():
    mean = torch.randn(2, MODES, dtype=torch.float64, requires_grad=True)
    std = (torch.rand(2, MODES, dtype=torch.float64) + 0.3).requires_grad_(True)
    z = torch.randn(2, 3, MODES, dtype=torch.float64)

    def density(mean, std):
        return residual.log_prob(PlanDistribution(mean, std), z)

    assert torch.autograd.gradcheck(density, (mean, std))


def test_a_new_head_drives_the_frozen_plan_itself():
    head = ResidualHead(16)
    distribution = head(torch.randn(4, 16))
    assert torch.equal(residual.mode(distribution), torch.zeros(4, MODES))
    torch.testing.assert_close(distribution.std, torch.full((4, MODES), residual.STD_START))
    route, waypoints = _plans()
    bent_route, bent_waypoints = residual.bend(route, waypoints, residual.mode(distribution))
    assert torch.equal(bent_route, route)
    torch.testing.assert_close(bent_waypoints, waypoints)


def test_modes_that_are_left_out_never_bend_the_plan_and_a_saved_head_remembers_them():
    head = ResidualHead(16, modes=(2, 0))
    torch.nn.init.normal_(head.outer.weight, std=10.0)
    found = head(torch.randn(8, 16))
    left = torch.tensor([False, False, True, True, True, True])
    assert torch.equal(found.mean[:, left], torch.zeros(8, 4))
    assert (found.std[:, left] == residual.STILL).all()
    assert (found.mean[:, ~left] != 0.0).all()
    again = ResidualHead(16)
    again.load_state_dict(head.state_dict())
    assert torch.equal(again.moves, ~left)


def test_the_spread_stays_between_floor_and_ceiling():
    head = ResidualHead(16)
    torch.nn.init.normal_(head.outer.weight, std=100.0)
    std = head(torch.randn(64, 16)).std
    assert std.min() >= residual.STD_FLOOR
    assert std.max() <= residual.STD_CEILING


def test_samples_have_the_distribution_s_moments_and_are_reproducible():
    distribution = _distribution(1)
    z = residual.sample(distribution, 20_000, torch.Generator().manual_seed(3))
    torch.testing.assert_close(z.mean(1), distribution.mean, atol=0.05, rtol=0.0)
    torch.testing.assert_close(z.std(1), distribution.std, atol=0.05, rtol=0.0)
    again = residual.sample(distribution, 20_000, torch.Generator().manual_seed(3))
    assert torch.equal(z, again)


@pytest.mark.parametrize("speed", [0.0, 3.0, 15.0])
def test_longitudinal_modes_never_pull_a_waypoint_backwards(speed):
    route, waypoints = _plans(rows=1, speed=speed, curvature=0.0)
    straight = 3.0 * torch.randn(200, MODES, generator=torch.Generator().manual_seed(0))
    straight[:, residual.LONGITUDINAL_MODES :] = 0.0
    _, bent = residual.bend(route.expand(200, -1, -1), waypoints.expand(200, -1, -1), straight)
    assert (torch.diff(bent[..., 0], prepend=torch.zeros(200, 1), dim=-1) >= -1e-3).all()


def test_first_longitudinal_mode_brakes_and_first_lateral_mode_shifts_left():
    route, waypoints = _plans(rows=1, curvature=0.0)
    z = torch.zeros(1, MODES)
    z[0, 0] = -1.0
    _, slower = residual.bend(route, waypoints, z)
    assert slower[0, -1, 0] < waypoints[0, -1, 0] - 1.0
    z = torch.zeros(1, MODES)
    z[0, residual.LONGITUDINAL_MODES] = 1.0
    lefter, moved = residual.bend(route, waypoints, z)
    assert lefter[0, -1, 1] > route[0, -1, 1] + 0.4
    assert moved[0, -1, 1] > waypoints[0, -1, 1]
    assert abs(float(lefter[0, 0, 1] - route[0, 0, 1])) < 0.05


def test_a_group_of_draws_bends_as_each_draw_alone():
    route, waypoints = _plans(rows=2)
    z = torch.randn(2, 6, MODES)
    group_route, group_waypoints = residual.bend(route[:, None], waypoints[:, None], z)
    alone_route, alone_waypoints = residual.bend(route[1:], waypoints[1:], z[1:, 4])
    torch.testing.assert_close(group_route[1, 4], alone_route[0])
    torch.testing.assert_close(group_waypoints[1, 4], alone_waypoints[0])


def test_a_parked_plan_can_be_told_to_set_off_along_the_route():
    route, _ = _plans(rows=1)
    parked = torch.zeros(1, 10, 2)
    z = torch.zeros(1, MODES)
    z[0, 0] = 1.0
    _, moved = residual.bend(route, parked, z)
    assert moved[0, -1, 0] > 1.0
    assert np.all(np.diff(moved[0, :, 0].numpy()) >= 0)


def test_a_head_has_no_say_while_the_ego_stands() -> None:
    z = torch.ones(3, MODES)
    found = residual.while_moving(z, torch.tensor([0.0, 0.49, 0.5]))
    assert torch.equal(found[:, 0], torch.tensor([0.0, 0.0, 1.0]))
