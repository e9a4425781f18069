"""The dream's float32 kernels against the world's own functions and against shapely."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from shapely import affinity, box
from test_dream_scenes import STEPS, scene, straight

from takevla.learn.dream import simulate
from takevla.learn.dream.checks import TTC_OFFSETS, TTC_SPACING_STEPS
from takevla.learn.dream.comfort import smoothing
from takevla.learn.dream.kinematics import prolong, reach_points
from takevla.learn.dream.replay import drive_controls, drive_plans, replay_error
from takevla.learn.dream.reward import (
    comfort,
    driving_direction,
    lane_keeping,
    no_at_fault_collision,
    preset,
    progress,
    time_to_collision,
)
from takevla.learn.dream.scenes import JUNCTION, ONCOMING, courses
from takevla.learn.dream.simulate import Trajectories, measure, reactions, roll_out
from takevla.scene.plan import Plan


def bent(speed_mps: float, curvature: float, offset_m: float = 0.0) -> Plan:
    """A plan along an arc that begins beside the ego."""
    s = np.arange(1, 21)
    heading = curvature * s
    route = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1), axis=0)
    route[:, 1] += offset_m * np.minimum(s / 8.0, 1.0)
    ahead = np.minimum(speed_mps * 0.25 * np.arange(1, 11), 19.0)
    waypoints = np.stack([np.interp(ahead, s, route[:, 0]), np.interp(ahead, s, route[:, 1])], axis=1)
    return Plan(route.astype(np.float32), waypoints.astype(np.float32))


@pytest.mark.parametrize("curvature", [-0.08, -0.02, 0.0, 0.03, 0.1])
@pytest.mark.parametrize("speed", [0.0, 3.0, 7.0])
def test_a_dreamed_plan_drives_as_the_worlds_controller_and_bicycle_drive_it(speed, curvature):
    plan = bent(speed + 1.0, curvature, 0.5)
    dreamed = roll_out(scene(speed=speed), plan.route_ego[None], plan.waypoints_ego[None], 20).poses[0]
    exact = np.empty((21, 4))
    drive_plans(
        plan.route_ego[None].astype(np.float64), plan.waypoints_ego[None].astype(np.float64),
        np.zeros((1, 3)), np.zeros(1, np.int64), speed, 2, 0.05, exact,
    )  # fmt: skip
    assert np.hypot(*(dreamed[:, :2] - exact[:, :2]).T).max() < 0.05
    assert np.degrees(np.abs((dreamed[:, 2] - exact[:, 2] + np.pi) % (2 * np.pi) - np.pi)).max() < 0.5
    assert np.abs(dreamed[:, 3] - exact[:, 3]).max() < 0.01


def worlds_roll_out(here, plan: Plan, steps: int):
    """The world's controller and bicycle in float64 on the plan's route, prolonged along the road."""
    reach = max(
        reach_points(np.float32(here.ego_speed_mps), plan.waypoints_ego[None], 0.1 * steps),
        len(plan.route_ego),
    )
    line = np.empty((reach + 1, 2), np.float32)
    prolong(plan.route_ego, here.way, line)
    out = np.empty((steps + 1, 4))
    drive_plans(
        line[None, 1:].astype(np.float64), plan.waypoints_ego[None].astype(np.float64),
        np.zeros((1, 3)), np.zeros(1, np.int64), here.ego_speed_mps, 2, 0.05, out,
    )  # fmt: skip
    return out


@pytest.mark.parametrize(
    ("aside_m", "over_m"), [(0.0, 1.0), (3.0, 20.0), (12.0, 20.0), (-12.0, 20.0), (12.0, 8.0), (-12.0, 1.0)]
)
@pytest.mark.parametrize("curvature", [-0.08, 0.0, 0.1])
def test_four_seconds_follow_the_world_also_where_the_plan_leads_far_aside(aside_m, over_m, curvature):
    for speed in (0.0, 3.0, 8.0, 12.0):
        here, plan = scene(speed=speed), bent(speed + 1.0, curvature)
        aside = aside_m * np.minimum(np.arange(1, 21) / over_m, 1.0)
        plan = Plan(
            plan.route_ego + np.float32([0, 1]) * aside[:, None].astype(np.float32), plan.waypoints_ego
        )
        dreamed = roll_out(here, plan.route_ego[None], plan.waypoints_ego[None], STEPS).poses[0]
        exact = worlds_roll_out(here, plan, STEPS)
        assert np.hypot(*(dreamed[:, :2] - exact[:, :2]).T).max() < 0.2
        # float32 may switch throttle or brake a tick earlier or later; that passes
        assert np.abs(dreamed[-1, 3] - exact[-1, 3]) < 0.02


def test_a_lane_that_looks_for_its_route_leaves_its_neighbours_as_they_are():
    here, tame, wild = scene(speed=8.0), bent(8.0, 0.02), bent(8.0, -0.08, 12.0)
    alone = roll_out(here, tame.route_ego[None], tame.waypoints_ego[None], STEPS).poses[0]
    routes, waypoints = (
        np.stack([getattr(plan, name) for plan in (wild, tame, wild)])
        for name in ("route_ego", "waypoints_ego")
    )
    assert np.array_equal(roll_out(here, routes, waypoints, STEPS).poses[1], alone)


def test_a_record_made_by_controls_is_replayed_without_error_and_another_is_not():
    controls = np.tile([0.1, 0.6, 0.0], (40, 1))
    made = np.empty((41, 4))
    drive_controls(np.array([3.0, 4.0, 1.0]), 5.0, controls, made)
    assert replay_error(made[0, :3], 5.0, controls, made[:, :3]) == (0.0, 0.0)
    away_m, turned_deg = replay_error(made[0, :3], 5.0, controls * (1.2, 1.0, 1.0), made[:, :3])
    assert away_m > 0.05
    assert turned_deg > 0.5


def test_contacts_and_times_to_collision_are_those_that_shapely_finds():
    rng = np.random.default_rng(3)
    poses = np.zeros((24, STEPS + 1, 4), np.float32)
    t = 0.1 * np.arange(STEPS + 1)
    turn = rng.uniform(-0.3, 0.3, 24)
    poses[..., 2] = turn[:, None] * t
    poses[..., 3] = rng.uniform(1.0, 9.0, 24)[:, None]
    steps = 0.1 * poses[:, :-1, 3:] * np.stack([np.cos(poses[:, :-1, 2]), np.sin(poses[:, :-1, 2])], -1)
    poses[:, 1:, :2] = np.cumsum(steps, axis=1)
    here = scene(car=(14.0, 1.2, 2.0))
    found = measure(here, Trajectories.of(poses))

    def placed(x, y, heading, extent):
        length, width = extent
        whole = box(-length / 2, -width / 2, length / 2, width / 2)
        return affinity.translate(affinity.rotate(whole, heading, origin=(0, 0), use_radians=True), x, y)

    cars = [placed(*pose[0, :3], here.actor_extent_m[0]) for pose in here.actor_pose]
    for g in range(24):
        contact = near = math.inf
        for k in range(1, STEPS + 1):
            x, y, heading, v = poses[g, k]
            for offset in range(TTC_OFFSETS):
                later = k + offset * TTC_SPACING_STEPS
                if k + (TTC_OFFSETS - 1) * TTC_SPACING_STEPS > STEPS or near < math.inf:
                    break
                far = 0.1 * TTC_SPACING_STEPS * offset * v
                ego = placed(x + far * np.cos(heading), y + far * np.sin(heading), heading, here.ego_extent_m)
                dx, dy = here.actor_pose[later, 0, :2] - (x, y)
                forward = dx * np.cos(heading) + dy * np.sin(heading)
                if ego.intersects(cars[later]) and forward > np.cos(np.radians(30)) * np.hypot(dx, dy):
                    near = 0.1 * k
            if contact == math.inf and placed(x, y, heading, here.ego_extent_m).intersects(cars[k]):
                contact = 0.1 * k
        assert found.collision_s[g] == pytest.approx(contact, abs=1e-4)
        if contact == math.inf:  # beside the road the ego need not look only ahead
            assert found.ttc_s[g] <= near + 1e-4
    assert np.isfinite(found.collision_s).any()
    assert np.isinf(found.collision_s).any()


def _along(speed_mps: float, y_m: float = 0.0) -> Trajectories:
    poses = np.zeros((1, STEPS + 1, 4), np.float32)
    poses[0, :, 0], poses[0, :, 1] = 0.1 * speed_mps * np.arange(STEPS + 1), y_m
    poses[0, :, 3] = speed_mps
    return Trajectories.of(poses)


def test_no_at_fault_collision_is_0_for_a_car_half_for_a_static_thing_and_1_for_a_hit_from_behind():
    standing = scene(car=(20.0, 0.0, 0.0))
    assert no_at_fault_collision(measure(standing, _along(8.0))).value[0] == 0.0
    static = replace(standing, actor_static=np.ones(1, np.bool_))
    assert no_at_fault_collision(measure(static, _along(8.0))).value[0] == 0.5
    assert no_at_fault_collision(measure(scene(car=(-12.0, 0.0, 12.0)), _along(2.0))).value[0] == 1.0
    assert no_at_fault_collision(measure(scene(car=(20.0, 0.0, -5.0)), _along(0.0))).value[0] == 1.0


def _with_a_cone(here, x_m: float):
    """The scene with a static thing in the way too."""
    pose = np.concatenate([np.zeros_like(here.actor_pose), here.actor_pose], axis=1)
    pose[:, 0, 0] = x_m
    return replace(
        here,
        actor_pose=pose,
        actor_extent_m=np.repeat(here.actor_extent_m, 2, axis=0),
        actor_static=np.array([True, False]),
        actor_valid=np.ones((STEPS + 1, 2), np.bool_),
    )


def test_whoever_hits_a_cone_and_then_a_car_earns_nothing_and_the_cone_says_when_it_began():
    report = no_at_fault_collision(measure(_with_a_cone(scene(car=(25.0, 0.0, 0.0)), 14.0), _along(8.0)))
    assert report.value[0] == 0.0
    assert report.raw[0] == pytest.approx((14.0 - 0.5 * (4.9 + 4.6)) / 8.0, abs=0.1)
    alone = _with_a_cone(scene(car=(1e3, 0.0, 0.0)), 14.0)
    assert no_at_fault_collision(measure(alone, _along(8.0))).value[0] == 0.5


def test_time_to_collision_fails_within_a_second_of_a_leader_and_not_beside_one():
    assert time_to_collision(measure(scene(car=(12.0, 0.0, 0.0)), _along(2.0))).value[0] == 0.0
    assert time_to_collision(measure(scene(car=(16.0, 0.0, 2.0)), _along(2.0))).value[0] == 1.0
    assert time_to_collision(measure(scene(car=(10.0, 3.0, 0.0)), _along(4.0))).value[0] == 1.0


def test_time_to_collision_is_not_judged_where_a_second_ahead_is_beyond_the_record():
    touched_s = 3.8  # the alarm would come at 2.9 s, and the last instant that looks 0.9 s ahead is 3.1 s
    x_m = touched_s * 4.0 + 0.5 * (4.9 + 4.6)
    assert time_to_collision(measure(scene(car=(x_m, 0.0, 0.0)), _along(4.0))).raw[0] == pytest.approx(
        2.9, abs=0.11
    )
    assert time_to_collision(measure(scene(car=(x_m + 2.0, 0.0, 0.0)), _along(4.0))).value[0] == 1.0


def test_driving_direction_is_judged_by_metres_within_a_second_in_oncoming_lanes():
    here = scene()
    against = replace(here, raster=here.raster | np.uint8(ONCOMING))
    values = [driving_direction(measure(against, _along(speed))).value[0] for speed in (1.5, 4.0, 8.0)]
    assert values == [1.0, 0.5, 0.0]
    assert driving_direction(measure(here, _along(8.0))).value[0] == 1.0


def test_lane_keeping_fails_after_two_seconds_more_than_half_a_metre_beside_the_course():
    assert lane_keeping(measure(scene(), _along(8.0, 0.6))).value[0] == 0.0
    assert lane_keeping(measure(scene(), _along(8.0, 0.4))).value[0] == 1.0
    junction = replace(scene(), raster=scene().raster | np.uint8(JUNCTION))
    assert lane_keeping(measure(junction, _along(8.0, 0.6))).value[0] == 1.0


def test_progress_is_a_share_of_the_experts():
    here = scene(expert=straight(8.0))
    report = progress(measure(here, _along(4.0)))
    assert report.raw[0] == pytest.approx(16.0, abs=0.1)
    assert report.value[0] == pytest.approx(0.5, abs=0.03)


def test_comfort_holds_at_constant_speed_and_not_under_full_brake():
    here = scene()
    assert comfort(measure(here, _along(8.0))).value[0] == 1.0
    hard = Trajectories.of(np.zeros((1, STEPS + 1, 4), np.float32))
    hard.path[:, :, 3] = np.maximum(8.0 - 0.8 * np.arange(STEPS + 1), 0.0)[None, :, None]
    assert comfort(measure(here, hard)).value[0] == 0.0


def test_the_smoothing_keeps_a_parabola_and_gives_its_slope():
    t = 0.1 * np.arange(40)
    assert np.allclose(smoothing(40, 15, 0) @ (t**2), t**2, atol=1e-4)
    assert np.allclose(smoothing(40, 15, 1) @ (t**2), 2 * t, atol=1e-3)


def test_a_reacting_car_behind_brakes_for_the_ego_and_is_its_record_when_unhindered():
    here = scene(speed=2.0, car=(-15.0, 0.0, 9.0))
    reacting = replace(here, actor_reacts=np.ones(1, np.bool_))
    assert np.isfinite(measure(here, _along(2.0)).collision_s[0])
    assert np.isinf(measure(reacting, _along(2.0)).collision_s[0])
    crash = scene(car=(25.0, 0.0, 1.0))
    alone = measure(replace(crash, actor_reacts=np.ones(1, np.bool_)), _along(8.0))
    assert alone.collision_s[0] == measure(crash, _along(8.0)).collision_s[0]


@pytest.mark.parametrize("junk", [np.nan, 1e6, 12.0])
def test_a_car_that_could_react_but_follows_its_record_is_judged_by_its_record(
    monkeypatch: pytest.MonkeyPatch, junk: float
):
    def filled(shape: tuple[int, ...], kind: type[np.generic] = np.float64) -> np.ndarray:
        return np.full(shape, np.float64(junk)).astype(kind)

    crash = scene(car=(25.0, 0.0, 1.0))
    record = measure(crash, _along(8.0))
    assert np.isfinite(record.fault_s[0])
    # That module's numpy alone: a kernel compiled meanwhile must still find the real one.
    monkeypatch.setattr(simulate, "np", SimpleNamespace(**{**vars(np), "empty": filled}))
    reacts = measure(replace(crash, actor_reacts=np.ones(1, np.bool_)), _along(8.0))
    for name in ("collision_s", "collision_actor", "fault_s", "fault_static", "ttc_s"):
        assert getattr(reacts, name)[0] == getattr(record, name)[0], name


def test_a_replaying_car_keeps_its_record_until_it_would_drive_through_an_ego_that_diverged():
    here = scene(speed=8.0, car=(-15.0, 0.0, 8.0))
    yields = replace(here, actor_yields=np.ones(1, np.bool_))
    standing = _along(0.0)
    assert np.isfinite(measure(here, standing).collision_s[0])
    assert np.isinf(measure(yields, standing).collision_s[0])
    # Ahead at its own speed the ego is in nobody's way, and a car that reacts from afar would fall back.
    here = scene(speed=8.0, car=(-8.0, 0.0, 8.0))
    yields = replace(here, actor_yields=np.ones(1, np.bool_))
    reacts = replace(here, actor_reacts=np.ones(1, np.bool_))
    kept, left = (reactions(one, _along(8.0))[0, 0, :, 0, 0] for one in (yields, reacts))
    assert np.array_equal(kept, here.actor_pose[:, 0, 0])
    assert left[-1] < here.actor_pose[-1, 0, 0] - 1.0


def test_a_course_goes_straight_on_behind_the_record():
    pose = np.zeros((3, 1, 4), np.float32)
    pose[:, 0, 1] = [0.0, 1.0, 2.0]
    pose[:, 0, 2] = np.pi / 2
    table, logged = courses(pose)
    assert logged[0, :, 0].tolist() == [0.0, 1.0, 2.0]
    assert np.allclose(table[0, 20, :2], (0.0, 10.0), atol=1e-3)


def twice_the_progress(measures):
    """A term of a user's own."""
    report = progress(measures)
    return replace(report, value=2 * report.value)


def test_a_term_of_ones_own_joins_by_its_dotted_path():
    measures = measure(scene(), _along(4.0))
    _, reports = preset("pdm", {f"{__name__}.twice_the_progress": 1.0})(measures)
    assert reports["twice_the_progress"].value[0] == 2 * reports["progress"].value[0]
    with pytest.raises(ValueError, match=r"dream\.terms: 'nowhere\.at_all'"):
        preset("pdm", {"nowhere.at_all": 1.0})
