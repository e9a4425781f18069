"""Dreams over hand-made scenes: what is measured, what it earns, what is learned from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from takevla.driver.vla.residual import ResidualHead, bend
from takevla.driver.vla.settings import STD_CEILING, STD_FLOOR
from takevla.learn.dream.audit import AuditLimits, audit, fails_as_recorded, plan_measures
from takevla.learn.dream.config import DreamConfig, NoiseConfig
from takevla.learn.dream.dreamer import Dreamer
from takevla.learn.dream.fans import shown_scenes
from takevla.learn.dream.reading import BaseReading
from takevla.learn.dream.reward import PRESETS, preset, setting_off
from takevla.learn.dream.rollouts import RollOuts
from takevla.learn.dream.scenes import (
    CALM,
    CELL_M,
    DRIVABLE,
    RASTER_AHEAD_M,
    RASTER_BEHIND_M,
    RASTER_SIDE_M,
    DreamScene,
)
from takevla.learn.dream.simulate import Trajectories, measure, roll_out
from takevla.scale import InProcess
from takevla.scene.plan import Plan

STEPS = 40
EGO = np.array([4.9, 2.1], np.float32)
CAR = np.array([[4.6, 1.9]], np.float32)


def straight(speed_mps: float, decelerate_mps2: float = 0.0) -> Plan:
    """A plan straight ahead at a speed, or braking from it."""
    route = np.stack([np.arange(1, 21), np.zeros(20)], axis=1).astype(np.float32)
    t = 0.25 * np.arange(1, 11)
    stop = speed_mps / decelerate_mps2 if decelerate_mps2 else np.inf
    reach = np.minimum(t, stop)
    x = speed_mps * reach - 0.5 * decelerate_mps2 * reach**2
    return Plan(route, np.stack([x, np.zeros(10)], axis=1).astype(np.float32))


def scene(
    *,
    speed: float = 8.0,
    car: tuple[float, float, float] | None = None,
    line_x: float | None = None,
    sign: bool = False,
    policy: Plan | None = None,
    expert: Plan | None = None,
) -> DreamScene:
    """A straight road 7 m wide; perhaps a car (x, y, speed along x) and a closed stop line."""
    columns, rows = round((RASTER_BEHIND_M + RASTER_AHEAD_M) / CELL_M), round(2 * RASTER_SIDE_M / CELL_M)
    raster = np.zeros((rows, columns), np.uint8)
    low, high = round((RASTER_SIDE_M - 3.5) / CELL_M), round((RASTER_SIDE_M + 3.5) / CELL_M)
    raster[low:high] = DRIVABLE
    x, y, v = car or (1e3, 0.0, 0.0)
    pose = np.zeros((STEPS + 1, 1, 4), np.float32)
    pose[:, 0, 0] = x + v * 0.1 * np.arange(STEPS + 1)
    pose[:, 0, 1], pose[:, 0, 3] = y, v
    line = line_x if line_x is not None else 1e3
    return DreamScene(
        takeover="t",
        trigger="collision",
        frame_row=0,
        ego_speed_mps=speed,
        ego_extent_m=EGO,
        actor_pose=pose,
        actor_extent_m=CAR,
        actor_static=np.zeros(1, np.bool_),
        actor_valid=np.ones((STEPS + 1, 1), np.bool_),
        route=np.stack([np.arange(-5, 100), np.zeros(105)], axis=1).astype(np.float32),
        stop_lines=np.array([[line, 1.75, line, -1.75]], np.float32),
        stop_closed=np.ones((STEPS + 1, 1), np.bool_),
        stop_is_sign=np.array([sign]),
        raster=raster,
        policy_plan=policy or straight(speed),
        expert_plan=expert or straight(speed, 4.0),
    )


def test_a_plan_at_speed_keeps_its_speed_and_its_line():
    plan = straight(8.0)
    path = roll_out(scene(), plan.route_ego[None], plan.waypoints_ego[None], STEPS).poses
    assert path[0, -1, 0] == pytest.approx(32.0, abs=2.0)
    assert abs(path[0, :, 1]).max() < 0.05


def test_a_row_of_a_batch_rolls_out_as_it_would_alone():
    plans = [straight(8.0), straight(4.0), straight(8.0, 5.0)]
    routes, waypoints = np.stack([p.route_ego for p in plans]), np.stack([p.waypoints_ego for p in plans])
    together = roll_out(scene(), routes, waypoints, STEPS).poses
    for row in range(3):
        assert np.array_equal(
            together[row],
            roll_out(scene(), routes[row : row + 1], waypoints[row : row + 1], STEPS).poses[0],
        )


def test_a_plan_that_passes_an_obstacle_goes_on_past_it_as_the_expert_did():
    t = 0.1 * np.arange(STEPS + 1)
    passing = np.zeros((STEPS + 1, 4), np.float32)
    passing[:, 0], passing[:, 1], passing[:, 3] = 8.0 * t, np.clip(0.5 * (8.0 * t - 4.0), 0.0, 2.6), 8.0
    here = scene(car=(27.0, -1.0, 0.0))
    alike = replace(here, expert_trajectory=passing)
    route = np.stack([np.arange(1, 21), np.clip(0.5 * (np.arange(1, 21) - 4.0), 0.0, 2.6)], axis=1)
    plan = Plan(route.astype(np.float32), straight(8.0).waypoints_ego)
    assert np.isfinite(plan_measures(here, plan).collision_s[0])  # led back to the middle of the lane
    assert np.isinf(plan_measures(alike, plan).collision_s[0])
    near = replace(scene(car=(18.0, -1.0, 0.0)), expert_trajectory=passing)
    assert np.isfinite(plan_measures(near, straight(8.0)).collision_s[0])  # the plan itself does not pass
    assert alike.way[-1, 0] > passing[-1, 0] + 50.0
    standing = replace(here, expert_trajectory=passing * 0.0)
    assert np.array_equal(standing.way, here.route)


def test_to_stand_where_the_expert_sets_off_earns_nothing_and_where_he_stays_it_is_right():
    going, staying = (scene(speed=0.0, expert=straight(speed)) for speed in (3.0, 0.0))
    still, slow = straight(0.0), straight(2.0)
    for here, plan, value in ((going, still, 0.0), (going, slow, 1.0), (staying, still, 1.0)):
        measures = plan_measures(here, plan)
        assert setting_off(measures).value[0] == value
        total, reports = PRESETS["pdm_expert"](measures)
        assert reports["setting_off"].raw[0] == measures.progress_m[0]
        assert (total[0] == 0.0) == (value == 0.0)
        assert PRESETS["pdm"](measures)[0][0] > 0.0  # NAVSIM does not judge so short a way


def test_driving_on_hits_the_standing_car_and_braking_does_not():
    here = scene(car=(25.0, 0.0, 0.0))
    on, braked = plan_measures(here, straight(8.0)), plan_measures(here, straight(8.0, 4.0))
    contact_m = 25.0 - 0.5 * (4.9 + 4.6)
    assert on.fault_s[0] == pytest.approx(contact_m / 8.0, abs=0.25)
    assert on.collision_actor[0] == 0
    assert on.ttc_s[0] < on.fault_s[0]
    assert braked.safe[0]
    assert not on.safe[0]


def test_being_hit_from_behind_is_a_collision_but_not_the_egos_fault():
    here = scene(speed=2.0, car=(-12.0, 0.0, 12.0))
    measures = plan_measures(here, straight(2.0))
    assert np.isfinite(measures.collision_s[0])
    assert np.isinf(measures.fault_s[0])


def test_leaving_the_road_is_noticed():
    here = scene()
    plan = straight(8.0)
    swerve = replace(
        plan, route_ego=plan.route_ego + np.linspace(0, 8, 20, dtype=np.float32)[:, None] * (0, 1)
    )
    assert np.isfinite(plan_measures(here, swerve).offroad_s[0])
    assert np.isinf(plan_measures(here, plan).offroad_s[0])


def test_a_red_line_must_not_be_crossed_and_a_sign_only_after_a_stand():
    assert np.isfinite(plan_measures(scene(line_x=15.0), straight(8.0)).rule_s[0])
    assert np.isinf(plan_measures(scene(line_x=15.0), straight(8.0, 4.0)).rule_s[0])
    here = scene(line_x=15.0, sign=True)
    x = np.concatenate([np.linspace(0, 11.5, 15), np.full(6, 11.5), np.linspace(11.5, 25, 20)])
    stop_and_go = np.zeros((1, 41, 4), np.float32)
    stop_and_go[0, :, 0] = x
    stop_and_go[0, 1:, 3] = np.diff(x) / 0.1
    rolling = stop_and_go.copy()
    rolling[0, :, 3] = np.maximum(rolling[0, :, 3], 1.0)
    assert np.isinf(measure(here, Trajectories.of(stop_and_go)).rule_s[0])
    assert np.isfinite(measure(here, Trajectories.of(rolling)).rule_s[0])


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_prefers_braking_before_a_standing_car_to_hitting_it(name):
    here = scene(car=(25.0, 0.0, 0.0))
    plans = [straight(8.0), straight(8.0, 4.0)]
    path = roll_out(
        here, np.stack([p.route_ego for p in plans]), np.stack([p.waypoints_ego for p in plans]), STEPS
    )
    total, reports = preset(name)(measure(here, path))
    assert total[1] > total[0] + 0.1
    assert all(report.value.shape == (2,) for report in reports.values())


def test_an_unknown_preset_is_refused_by_name():
    with pytest.raises(ValueError, match="no preset 'fast'"):
        preset("fast")


def test_the_audit_finds_the_recorded_failure_and_the_experts_success():
    report = audit([scene(car=(25.0, 0.0, 0.0))], {})
    assert report.recall_collision == 1.0
    assert report.expert_success == 1.0
    assert report.recall_rule is None


def _dreamer(scenes: list[DreamScene], head: ResidualHead | None = None, **settings: object) -> Dreamer:
    plan = straight(8.0)
    features = torch.randn(len(scenes), 8, generator=torch.Generator().manual_seed(0))
    base = BaseReading(
        torch.from_numpy(np.stack([plan.route_ego] * len(scenes))),
        torch.from_numpy(np.stack([plan.waypoints_ego] * len(scenes))),
        features,
    )
    anchor = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
    config = DreamConfig(**settings)  # type: ignore[arg-type]
    with InProcess().crew(RollOuts.of(scenes, config.reward, config.terms, config.horizon_s)) as crew:
        return Dreamer(scenes, base, anchor, config, seed=0, crew=crew, head=head)


def test_dreaming_learns_to_brake_before_a_standing_car():
    dreamer = _dreamer([scene(car=(34.0, 0.0, 0.0))], kl_weight=0.001, learning_rate=5e-3)
    before = dreamer.before_after()["reward_after"]
    weights = {name: value.clone() for name, value in dreamer.head.named_parameters()}
    for _ in range(40):
        dreamer.step()
    result = dreamer.before_after()
    assert result["reward_before"] == before  # the frozen plan itself has not moved
    assert result["reward_after"] > before + 0.1
    assert all(not torch.equal(value, weights[name]) for name, value in dreamer.head.named_parameters())


@pytest.mark.parametrize("detail", ["lateral", "steer"])
@pytest.mark.parametrize(("beside_m", "shows"), [(0.0, False), (1.3, True)])
def test_a_lost_course_shows_where_the_plan_stays_beside_the_experts_path(beside_m, shows, detail):
    here = replace(scene(car=(25.0, 0.0, 0.0)), trigger="follow", detail=detail)  # to hit it is another event
    route = here.expert_plan.route_ego + np.float32([0.0, beside_m])
    assert fails_as_recorded(replace(here, expert_plan=replace(here.expert_plan, route_ego=route))) == shows


def test_the_scene_of_median_gain_is_shown_for_each_trigger_with_fans_before_and_after():
    scenes = [scene(), scene(), scene(), replace(scene(), trigger="follow")]
    assert shown_scenes(scenes, np.array([0.5, 0.1, 0.3, -0.2], np.float32)) == [2, 3]
    (shown,) = _dreamer([scene(car=(25.0, 0.0, 0.0))], group=2, horizon_s=1.0).fans([0.0], [0.0])
    assert shown["before"] == shown["after"]  # nothing has been learned yet
    assert len(shown["before"]["paths"]) == len(shown["before"]["reward"]) == 3
    assert shown["before"]["terms"]["no_at_fault_collision"] == 1.0
    assert shown["actors"][0][:2] == [25.0, 0.0]


def test_a_constant_reward_changes_nothing(monkeypatch):
    dreamer = _dreamer([scene()])
    monkeypatch.setattr(
        dreamer, "rewards", lambda z: (np.ones(z.shape[:2], np.float32), np.zeros(z.shape[:2], np.float32))
    )
    before = {name: value.clone() for name, value in dreamer.head.named_parameters()}
    dreamer.step()
    assert dreamer.curves[-1]["degenerate_groups"] == 1.0
    for name, value in dreamer.head.named_parameters():
        assert torch.allclose(value, before[name], atol=1e-6)


def test_dreams_that_were_cut_off_go_on_to_the_same_weights(tmp_path):
    scenes = [scene(car=(25.0, 0.0, 0.0)), scene(line_x=20.0)]
    straight_run, first, second = (_dreamer(scenes) for _ in range(3))
    for _ in range(4):
        straight_run.step()
    for _ in range(2):
        first.step()
    first.save(tmp_path / "state.pt")
    second.load(tmp_path / "state.pt")
    for _ in range(2):
        second.step()
    for a, b in zip(straight_run.head.parameters(), second.head.parameters(), strict=True):
        assert torch.equal(a, b)
    assert second.curves == straight_run.curves


def test_dreams_less_true_than_the_limits_are_refused_by_name():
    missed = scene(car=(25.0, 0.0, 0.0), policy=straight(8.0, 4.0))
    report = audit([missed], {})
    assert report.recall_collision == 0.0
    with pytest.raises(ValueError, match=r"forecast_recall_collision 0, at least 0\.7"):
        AuditLimits().refuse(report)
    AuditLimits(forecast_recall_collision=0.0).refuse(report)
    with pytest.raises(ValueError, match=r"replayed 0\.5, at least 0\.95"):
        AuditLimits(forecast_recall_collision=0.0).refuse(audit([missed], {}, unreplayed=1))


def test_where_the_world_was_asked_its_word_is_judged_and_not_the_forecast():
    report = audit([scene(car=(25.0, 0.0, 0.0), policy=straight(8.0, 4.0))], {})
    AuditLimits().refuse(report, {"recall_collision": 0.95})
    with pytest.raises(ValueError, match=r"\(dream\.limits\): recall_collision 0\.85, at least 0\.9$"):
        AuditLimits().refuse(report, {"recall_collision": 0.85})


def test_a_record_that_leads_elsewhere_is_no_scene_to_dream():
    here = scene()
    assert AuditLimits().replays(replace(here, replay_error_m=0.04, replay_error_deg=0.4))
    assert not AuditLimits().replays(replace(here, replay_error_m=0.06))
    assert not AuditLimits().replays(replace(here, replay_error_deg=0.6))


def test_a_front_that_rests_beyond_a_closed_line_has_broken_nothing_and_driving_on_breaks_it():
    here = scene(line_x=1.0)
    standing = np.zeros((1, 41, 4), np.float32)
    leaving = standing.copy()
    leaving[0, :, 0] = np.linspace(0.0, 8.0, 41)
    leaving[0, 1:, 3] = 2.0
    assert np.isinf(measure(here, Trajectories.of(standing)).rule_s[0])
    assert np.isfinite(measure(here, Trajectories.of(leaving)).rule_s[0])


def test_a_preference_moves_the_plan_and_not_how_far_plans_scatter():
    dreamer = _dreamer([scene(car=(34.0, 0.0, 0.0), expert=straight(8.0, 3.0))], method="dpo")
    dreamer._preference().backward()
    mean, spread = dreamer.head.outer.bias.grad.chunk(2)
    assert mean.abs().max() > 0.0
    assert not spread.any()


def test_preferences_pull_the_plan_towards_the_experts():
    here = scene(car=(34.0, 0.0, 0.0), expert=straight(8.0, 3.0))
    dreamer = _dreamer([here], method="dpo", kl_weight=0.0, learning_rate=5e-3)
    before = dreamer.before_after()
    for _ in range(30):
        dreamer.step()
    after = dreamer.before_after()
    assert after["reward_after"] > before["reward_after"] + 0.1


def test_the_experts_plan_pulls_beside_the_reward_in_takeovers_and_not_in_calm_driving(monkeypatch):
    here = scene(car=(34.0, 0.0, 0.0), expert=straight(8.0, 3.0))
    moved = {}
    for name, scenes in (("takeover", [here, here]), ("calm", [replace(here, trigger=CALM)] * 2)):
        dreamer = _dreamer(scenes, expert_pull=1.0, kl_weight=0.0, learning_rate=5e-3, passes=1)
        alike = lambda z: (np.ones(z.shape[:2], np.float32), np.zeros(z.shape[:2], np.float32))  # noqa: E731
        monkeypatch.setattr(dreamer, "rewards", alike)  # so that GRPO itself moves nothing
        head = {key: value.clone() for key, value in dreamer.head.named_parameters()}
        for _ in range(3):
            dreamer.step()
        moved[name] = max(
            float((value - head[key]).detach().abs().max()) for key, value in dreamer.head.named_parameters()
        )
    assert moved["takeover"] > 1e-3
    assert moved["calm"] < 1e-6


@pytest.mark.parametrize("noise", [NoiseConfig(), NoiseConfig("scheduled", start=0.3)])
def test_the_preference_starts_at_log_2_however_plans_scatter(noise):
    dreamer = _dreamer([scene(car=(34.0, 0.0, 0.0), expert=straight(8.0, 3.0))], method="dpo", noise=noise)
    assert float(dreamer._preference().detach()) == pytest.approx(np.log(2.0), abs=1e-5)


def test_the_preferred_plan_is_the_nearest_in_the_modes_that_move():
    here = scene(expert=straight(8.0, 3.0))
    along, both = (_dreamer([here], method="dpo", modes=modes) for modes in ((1, 0), (3, 3)))
    z = along._preferences()[0, 0]
    assert (z[1:] == 0.0).all()
    wanted = torch.from_numpy(here.expert_plan.waypoints_ego)

    def away(z: torch.Tensor) -> float:
        _, waypoints = bend(along.base.route_ego[0], along.base.waypoints_ego[0], z)
        return float((waypoints - wanted).norm())

    cut = both._preferences()[0, 0].clone()
    cut[1:] = 0.0  # of the nearest in all modes the first alone
    assert away(z) < away(cut) - 0.01


def test_a_gate_at_0_is_a_failure_though_nothing_was_hit():
    here = scene(speed=0.0, policy=straight(0.0), expert=straight(6.0))
    waits = measure(
        here, roll_out(here, here.policy_plan.route_ego[None], here.policy_plan.waypoints_ego[None], STEPS)
    )
    for name, fails in (("pdm", False), ("pdm_expert", True)):
        reward = preset(name)
        assert bool(reward.failed(waits, reward(waits)[1])[0]) == fails
    assert waits.safe[0]


def test_closed_dreams_have_no_plan_to_be_pulled_to():
    with pytest.raises(ValueError, match=r"dream\.expert_pull"):
        DreamConfig(kind="closed", expert_pull=0.5)


def _dreamt_head() -> ResidualHead:
    """A head that has learned something."""
    first = _dreamer([scene(car=(34.0, 0.0, 0.0))], learning_rate=5e-3)
    for _ in range(5):
        first.step()
    return first.head


@pytest.mark.parametrize("noise", [NoiseConfig(), NoiseConfig("scheduled", start=0.9)])
def test_a_policy_that_has_dreamt_goes_on_from_its_head_with_ratio_one_and_kl_zero(noise):
    head = _dreamt_head()
    again = _dreamer([scene(car=(34.0, 0.0, 0.0))], head=head, passes=1, noise=noise)
    decided, _ = again._dreamed()
    new, start = (decided.distribution(one) for one in (again.head, again.start))
    assert torch.equal(decided.log_prob(new), decided.log_prob(start))
    assert new.mean.abs().max() > 0.01  # it is not the supervised policy
    again.step()
    assert again.curves[0]["kl_scenes"] == again.curves[0]["kl_anchor"] == 0.0
    learned = [torch.equal(a, b) for a, b in zip(head.parameters(), again.head.parameters(), strict=True)]
    assert not all(learned)
    for a, b in zip(head.parameters(), again.start.parameters(), strict=True):
        assert torch.equal(a, b)  # neither the head given nor the reference has moved


def test_before_is_what_the_head_given_drives():
    head = _dreamt_head()
    here = [scene(car=(34.0, 0.0, 0.0))]
    judged = _dreamer(here, head=head).before_after()
    assert judged["reward_before"] == judged["reward_after"]
    assert judged["reward_before"] != _dreamer(here).before_after()["reward_before"]


def test_a_scheduled_spread_goes_straight_from_start_to_end_and_is_what_plans_are_drawn_with():
    noise = NoiseConfig("scheduled", start=0.8, end=0.2)
    assert [noise.std(update, 4) for update in range(4)] == pytest.approx([0.8, 0.6, 0.4, 0.2])
    dreamer = _dreamer([scene(car=(25.0, 0.0, 0.0))], noise=noise, updates=3, group=512, modes=(3, 3))
    spreads = []
    for _ in range(3):
        spreads.append(float(dreamer._dreamed()[0].z.std(dim=2).mean()))
        dreamer.step()
    assert spreads == pytest.approx([0.8, 0.5, 0.2], rel=0.05)
    assert [row["std"] for row in dreamer.curves] == pytest.approx([0.8, 0.5, 0.2])


@pytest.mark.parametrize("std", [STD_FLOOR / 2, STD_CEILING * 2])
def test_a_spread_beyond_floor_or_ceiling_is_refused_by_name(std):
    with pytest.raises(ValueError, match=r"dream\.noise\.end: .* floor and ceiling"):
        NoiseConfig(end=std)
