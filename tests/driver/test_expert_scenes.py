"""The expert on small roads made by hand."""

import math

import numpy as np
import pytest
from hand_made import (
    HandWorld,
    Other,
    causes,
    observation,
    run,
    two_lane_road,
    two_way_road,
    wanted_speed,
)

from takevla.driver.expert import Expert
from takevla.driver.expert.margins import CAREFUL, ORDINARY, Margins
from takevla.scene.actors import ActorKind, Cue
from takevla.scene.plan import Action, Cause, Manoeuvre
from takevla.scene.road_map import Control, LightState

PERSON = (0.5, 0.6, 1.8)


def test_drives_at_the_share_of_the_limit_on_a_free_road():
    world = HandWorld(two_way_road())
    plans = run(world, Expert(), 8.0)
    assert world.speed == pytest.approx(0.72 * 13.9, rel=0.05)
    assert plans[-1].reason.cause == Cause.FREE_ROAD
    assert abs(world.y) < 0.05


@pytest.mark.parametrize("state", [LightState.RED, LightState.YELLOW])
def test_stands_before_the_line_of_a_light_that_it_can_stop_for(state):
    world = HandWorld(two_way_road(Control.SIGNAL), lights=(int(state),))
    plans = run(world, Expert(), 16.0)
    front = world.x + 2.45
    assert world.speed < 0.01
    assert 97.0 < front < 100.0
    assert plans[-1].reason.action == Action.REMAIN_STOPPED
    assert plans[-1].reason.cause in (Cause.RED_LIGHT, Cause.YELLOW_LIGHT)


def test_goes_on_when_the_light_turns_yellow_too_late_to_stop():
    world = HandWorld(two_way_road(Control.SIGNAL), lights=(0,), x=80.0, speed=9.5)
    expert = Expert()
    run(world, expert, 0.6)
    world.lights = (int(LightState.YELLOW),)
    run(world, expert, 2.0)
    assert world.x - 2.45 > 100.0


def test_starts_when_the_light_turns_green():
    world = HandWorld(two_way_road(Control.SIGNAL), lights=(2,), x=95.5, speed=0.0)
    expert = Expert()
    run(world, expert, 1.0)
    assert world.speed < 0.01
    world.lights = (0,)
    run(world, expert, 2.0)
    assert world.speed > 4.0


def test_remembers_a_stop_sign_that_it_has_honoured_and_forgets_on_reset():
    world = HandWorld(two_way_road(Control.STOP_SIGN))
    expert = Expert()
    run(world, expert, 20.0)
    assert world.x > 110.0  # it stood, and went on
    back = HandWorld(two_way_road(Control.STOP_SIGN), x=96.0, speed=0.0)
    expert.reset([0])
    first = run(back, expert, 0.2)[-1]
    assert first.reason.cause == Cause.STOP_SIGN
    assert first.reason.action == Action.REMAIN_STOPPED


def test_stands_at_least_a_second_at_a_stop_sign():
    world = HandWorld(two_way_road(Control.STOP_SIGN), x=90.0, speed=4.0)
    expert = Expert()
    stood = 0.0
    for _ in range(200):
        run(world, expert, 0.1)
        stood += 0.1 if world.speed < 0.1 else 0.0
    assert 1.0 < stood < 3.0


def test_follows_a_slow_leader_at_a_headway():
    world = HandWorld(two_way_road(), [Other(40.0, 0.0, speed=5.0)])
    plans = run(world, Expert(), 25.0)
    gap = world.others[0].x - 2.3 - world.x - 2.45
    assert not world.touched
    assert world.speed == pytest.approx(5.0, abs=0.3)
    assert 5.0 < gap < 12.0
    assert Cause.LEADER in causes(plans)
    assert plans[20].reason.actor_id in (-1, 1)


def test_brakes_for_a_pedestrian_who_walks_into_the_lane_and_names_him():
    walker = Other(60.0, -9.0, ActorKind.PEDESTRIAN, math.pi / 2, 1.4, int(Cue.CROSSING), PERSON)
    world = HandWorld(two_way_road(), [walker])
    plans = run(world, Expert(), 20.0)
    named = [plan.reason for plan in plans if plan.reason.cause == Cause.PEDESTRIAN]
    assert not world.touched
    assert named
    assert named[0].actor_id == 1
    assert named[0].actor_kind == ActorKind.PEDESTRIAN
    assert named[0].actor_position_ego[0] > 0.0
    assert world.x > 100.0


def test_expects_one_who_shows_that_he_will_cross_and_not_one_who_stands():
    def after(cue):
        walker = Other(80.0, -3.0, ActorKind.PEDESTRIAN, math.pi / 2, 0.0, int(cue), PERSON)
        world = HandWorld(two_way_road(), [walker])
        run(world, Expert(), 10.0)
        return world

    assert after(Cue.CROSSING).x < 80.0
    assert after(Cue.NONE).x > 85.0


def test_drives_on_past_a_person_who_stands_beside_it_but_not_into_one_in_front():
    def after(x, y):
        walker = Other(x, y, ActorKind.PEDESTRIAN, math.pi / 2, 0.0, int(Cue.NONE), PERSON)
        world = HandWorld(two_way_road(), [walker], x=50.0, speed=0.0)
        run(world, Expert(), 4.0)
        return world

    assert after(51.7, -1.45).x > 60.0
    assert not after(51.7, -1.45).touched
    assert after(54.0, -0.8).x < 51.5


def test_a_careful_expert_brakes_for_a_walker_before_whom_the_ordinary_one_passes():
    def after(margins):
        walker = Other(40.0, -8.9, ActorKind.PEDESTRIAN, math.pi / 2, 1.4, int(Cue.CROSSING), PERSON)
        world = HandWorld(two_way_road(), [walker], speed=10.0)
        run(world, Expert(margins=margins), 4.0)
        assert not world.touched
        return world

    assert after(ORDINARY).x > after(CAREFUL).x + 3.0


def test_margins_below_zero_are_refused():
    with pytest.raises(ValueError, match=r"margins\.before_s"):
        Margins(before_s=-1.0)


def test_passes_a_parked_obstacle_over_the_free_lane_beside_and_returns():
    world = HandWorld(two_lane_road(), [Other(90.0, 0.0, cue=int(Cue.HAZARD))])
    expert = Expert()
    plans = run(world, expert, 24.0)
    words = {plan.reason.manoeuvre for plan in plans}
    assert not world.touched
    assert world.x > 150.0
    assert abs(world.y) < 0.2
    assert {Manoeuvre.GO_AROUND_LEFT, Manoeuvre.RETURN_TO_LANE} <= words
    assert any(
        plan.reason.cause == Cause.OBSTACLE and plan.reason.actor_id == 1
        for plan in plans
        if plan.reason.manoeuvre == Manoeuvre.GO_AROUND_LEFT
    )


def test_waits_for_a_gap_in_the_lane_beside():
    row = [Other(20.0 + 14.0 * k, 3.5, speed=8.0, lane=1) for k in range(-6, 6)]
    world = HandWorld(two_lane_road(), [Other(70.0, 0.0, cue=int(Cue.HAZARD)), *row], speed=6.0)
    plans = run(world, Expert(), 40.0)
    assert not world.touched
    assert any(plan.reason.manoeuvre == Manoeuvre.WAIT_FOR_GAP for plan in plans)
    assert world.x > 100.0


def test_waits_for_oncoming_traffic_before_it_uses_its_lane():
    coming = Other(170.0, 3.5, heading=math.pi, speed=8.0, lane=1)
    world = HandWorld(two_way_road(), [Other(80.0, 0.0, cue=int(Cue.HAZARD)), coming])
    plans = run(world, Expert(), 40.0)
    assert not world.touched
    assert any(plan.reason.cause == Cause.ONCOMING for plan in plans)
    assert world.x > 110.0


def test_moves_aside_for_an_emergency_vehicle_behind_and_lets_it_pass():
    blue = Other(-25.0, 0.0, ActorKind.AMBULANCE, speed=14.0, cue=int(Cue.EMERGENCY), lane=0)
    world = HandWorld(two_lane_road(), [blue])
    plans = run(world, Expert(), 15.0)
    assert not world.touched
    assert blue.x > world.x + 10.0
    assert Cause.EMERGENCY_VEHICLE in causes(plans)


def test_plans_are_the_same_alone_and_in_a_batch():
    def worlds():
        walker = Other(60.0, -5.0, ActorKind.PEDESTRIAN, math.pi / 2, 1.4, int(Cue.CROSSING), PERSON)
        return [
            HandWorld(two_way_road(), [walker]),
            HandWorld(two_lane_road(), [Other(50.0, 0.0, cue=int(Cue.HAZARD))]),
            HandWorld(two_way_road(Control.SIGNAL), lights=(2,), x=60.0),
        ]

    together = Expert().plan([observation(world, k) for k, world in enumerate(worlds())])
    for k, world in enumerate(worlds()):
        alone = Expert().plan([observation(world, k)])[0]
        assert np.array_equal(alone.route_ego, together[k].route_ego)
        assert np.array_equal(alone.waypoints_ego, together[k].waypoints_ego)
        assert alone.reason == together[k].reason


def test_waypoints_are_where_the_ego_will_be():
    world = HandWorld(two_way_road(), [Other(60.0, 0.0, speed=4.0)], speed=9.0)
    expert = Expert()
    plan = run(world, expert, 1.0)[-1]
    start = world.x - world.speed * 0.05
    expected = plan.waypoints_ego[7, 0]
    run(world, expert, 2.0)
    assert world.x - start == pytest.approx(expected, abs=1.5)


def test_consecutive_plans_agree():
    world = HandWorld(two_way_road(Control.SIGNAL), lights=(2,))
    speeds = [wanted_speed(plan) for plan in run(world, Expert(), 12.0)]
    assert np.abs(np.diff(speeds)).max() < 1.5


def test_refuses_an_observation_without_the_truth():
    from dataclasses import replace

    blind = replace(observation(HandWorld(two_way_road())), privileged=None)
    with pytest.raises(ValueError, match="privileged"):
        Expert().plan([blind])
