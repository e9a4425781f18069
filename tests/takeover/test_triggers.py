import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from takevla.scene.actors import ActorKind, Actors, Cue
from takevla.scene.plan import Action, Cause, Manoeuvre, Plan, Privileged, Reason
from takevla.scene.road_map import Control, Lane, LaneKind, LightState, RoadMap, StopLine
from takevla.scene.route import Route
from takevla.scene.scene import Controls, Ego, Scene, Weather
from takevla.takeover.triggers import (
    Alarm,
    Trigger,
    TriggerConfig,
    Verdict,
    Watch,
    look,
    red_line_distance_m,
    steer_difference,
    watch,
)

CONFIG = TriggerConfig()
STOP_LINE_S_M = 120.0
START_S_M = 90.0  # where the ego stands on the straight road
EXTENT = np.array([4.9, 2.1, 1.5], np.float32)
FREE = Reason(Action.MAINTAIN, Manoeuvre.FOLLOW_ROUTE, Cause.FREE_ROAD, 8.0)


def straight_road() -> RoadMap:
    points = np.zeros((301, 3), np.float32)
    points[:, 0] = np.arange(301)
    ones = np.ones(301, np.float32)
    lane = Lane(0, 0, LaneKind.DRIVING, points, 0 * ones, 3.5 * ones, 14.0)
    return RoadMap("line", (lane,), stop_lines=(StopLine(0, STOP_LINE_S_M, Control.SIGNAL, 0),))


ROAD = straight_road()
ROUTE = Route(
    ROAD.lanes[0].points_world,
    np.zeros(301, np.float32),
    np.arange(301, dtype=np.float32),
    np.zeros(301, np.int32),
    np.full(301, 4, np.int8),
    np.full(301, 14.0, np.float32),
)


def plan(speed: float, turn_rad: float = 0.0, shift: float = 0.0, reason: Reason | None = None) -> Plan:
    """Constant speed along a straight line, turned and shifted to the left."""
    direction = np.array([math.cos(turn_rad), math.sin(turn_rad)])
    route = direction * np.arange(1, 21)[:, None] + (0.0, shift)
    waypoints = direction * (speed * 0.25 * np.arange(1, 11))[:, None]
    return Plan(route.astype(np.float32), waypoints.astype(np.float32), reason=reason)


def actors(*rows: dict[str, Any]) -> Actors:
    """Rows of x, y in the ego frame, heading, speed, kind, cue."""

    def column(name: str, default: float, kind: Any) -> NDArray[Any]:
        return np.array([row.get(name, default) for row in rows], kind)

    count = len(rows)
    position = np.zeros((count, 3), np.float32)
    position[:, 0] = START_S_M + column("x", 0.0, np.float32)
    position[:, 1] = column("y", 0.0, np.float32)
    walks = column("kind", 0, np.int8) == ActorKind.PEDESTRIAN
    extent = np.where(walks[:, None], np.float32([0.6, 0.6, 1.8]), EXTENT).astype(np.float32)
    return Actors(
        np.arange(10, 10 + count, dtype=np.int32),
        column("kind", 0, np.int8),
        np.zeros(count, np.int8),
        column("cue", 0, np.int16),
        position,
        column("heading", 0.0, np.float32),
        column("speed", 0.0, np.float32),
        np.zeros(count, np.float32),
        np.zeros(count, np.float32),
        extent,
        np.zeros(count, np.int32),
        np.ones(count, np.bool_),
    )


def scene(speed: float, others: Actors, light: LightState = LightState.GREEN, time_us: int = 0) -> Scene:
    position = np.array([START_S_M, 0.0, 0.0], np.float32)
    ego = Ego(position, 0.0, speed, 0.0, 0.0, 0.0, Controls(), EXTENT)
    return Scene(time_us, "line", ego, others, np.array([light], np.int8), Weather())


def judge(
    at: Scene, policy: Plan, expert: Plan, before: Watch | None = None, config: TriggerConfig = CONFIG
) -> tuple[Watch, Verdict]:
    truth = Privileged(at, ROAD, ROUTE, int(START_S_M))
    expert = replace(expert, reason=expert.reason or FREE)
    return watch(before or Watch(), look(truth, policy, expert, config), config)


def alarm(at: Scene, policy: Plan, expert: Plan) -> Alarm | None:
    return judge(at, policy, expert)[1].alarm


def test_nothing_fires_and_both_agree_on_a_free_road() -> None:
    verdict = judge(scene(8.0, actors()), plan(8.0), plan(8.0))[1]
    assert verdict.alarm is None
    assert verdict.agreement


def test_a_car_that_stands_ahead_is_a_collision_unless_the_policy_brakes() -> None:
    ahead = scene(8.0, actors({"x": 16.0}))
    found = alarm(ahead, plan(8.0), plan(0.0))
    assert found is not None
    assert (found.trigger, found.cause, found.actor_id) == (Trigger.COLLISION, Cause.LEADER, 10)
    assert found.measure == pytest.approx((16.0 - 4.9) / 8.0, abs=0.1)
    assert alarm(ahead, plan(0.0), plan(0.0)) is None


def test_a_crossing_pedestrian_is_a_collision_and_one_who_stands_beside_is_none() -> None:
    walker = {"x": 12.0, "y": -3.0, "heading": math.pi / 2, "kind": ActorKind.PEDESTRIAN}
    crossing = scene(8.0, actors(walker | {"speed": 2.0, "cue": Cue.CROSSING}))
    found = alarm(crossing, plan(8.0), plan(0.0))
    assert found is not None
    assert (found.trigger, found.cause) == (Trigger.COLLISION, Cause.PEDESTRIAN)
    assert alarm(scene(8.0, actors(walker)), plan(8.0), plan(0.0)) is None


def test_what_the_expert_would_hit_as_hard_is_no_alarm() -> None:
    assert alarm(scene(8.0, actors({"x": 16.0})), plan(8.0), plan(8.0)) is None


def test_a_follower_from_behind_is_no_collision_of_the_ego() -> None:
    assert alarm(scene(2.0, actors({"x": -9.0, "speed": 12.0})), plan(2.0), plan(6.0)) is None


def test_crossing_a_red_line_is_a_rule_alarm_and_stopping_before_it_is_none() -> None:
    red = scene(10.0, actors(), LightState.RED)
    stops = plan(0.0, reason=Reason(Action.STOP, Manoeuvre.FOLLOW_ROUTE, Cause.RED_LIGHT, 0.0, 27.5))
    far = replace(red, ego=replace(red.ego, position_world=np.array([106.0, 0, 0], np.float32)))
    near = Privileged(far, ROAD, ROUTE, 106)
    assert red_line_distance_m(near) == pytest.approx(STOP_LINE_S_M - 106.0 - 2.45, abs=0.01)
    found = watch(Watch(), look(near, plan(10.0), stops, CONFIG), CONFIG)[1].alarm
    assert found is not None
    assert (found.trigger, found.cause) == (Trigger.RULE, Cause.RED_LIGHT)
    assert watch(Watch(), look(near, plan(0.0), stops, CONFIG), CONFIG)[1].alarm is None
    green = replace(near, scene=replace(far, lights=np.array([LightState.GREEN], np.int8)))
    assert math.isinf(red_line_distance_m(green))


def test_a_stop_sign_that_the_expert_honours_is_a_rule_alarm() -> None:
    reason = Reason(Action.STOP, Manoeuvre.FOLLOW_ROUTE, Cause.STOP_SIGN, 0.0, distance_m=9.0)
    found = alarm(scene(8.0, actors()), plan(8.0), plan(0.0, reason=reason))
    assert found is not None
    assert (found.trigger, found.cause) == (Trigger.RULE, Cause.STOP_SIGN)


def test_a_short_headway_is_an_alarm_only_while_closing() -> None:
    def found(leader_speed: float, policy_speed: float) -> Alarm | None:
        at = scene(8.0, actors({"x": 10.9, "speed": leader_speed}))
        return alarm(at, plan(policy_speed), plan(6.0))

    close = found(6.0, 8.0)
    assert close is not None
    assert (close.trigger, close.detail) == (Trigger.FOLLOW, "headway")
    assert close.measure == pytest.approx(6.0 / 8.0, abs=0.05)
    assert found(7.8, 8.0) is None
    assert found(6.0, 6.0) is None


def test_being_beside_the_path_is_a_follow_alarm_at_once() -> None:
    found = alarm(scene(8.0, actors()), plan(8.0), plan(8.0, shift=1.2))
    assert found is not None
    assert (found.trigger, found.detail) == (Trigger.FOLLOW, "lateral")
    assert found.measure == pytest.approx(1.2, abs=1e-6)
    assert alarm(scene(8.0, actors()), plan(8.0), plan(8.0, shift=0.8)) is None


def test_steering_apart_is_a_follow_alarm_after_its_time_and_never_in_agreement() -> None:
    before, fired = Watch(), []
    for time_us in range(0, 1_000_000, 250_000):
        at = scene(8.0, actors(), time_us=time_us)
        before, verdict = judge(at, plan(8.0, turn_rad=0.15), plan(8.0), before)
        fired.append(verdict.alarm is not None)
        assert not verdict.agreement
    assert fired == [False, False, True, True]


def test_steering_apart_that_leads_nowhere_is_no_alarm_and_no_disagreement() -> None:
    before = Watch()
    for time_us in range(0, 1_000_000, 250_000):
        at = scene(1.5, actors(), time_us=time_us)
        sure = replace(plan(1.5), reason=FREE)
        sight = look(Privileged(at, ROAD, ROUTE, 0), plan(1.5, turn_rad=0.15), sure, CONFIG)
        assert steer_difference(sight) > CONFIG.steer_difference
        before, verdict = watch(before, sight, CONFIG)
        assert verdict.alarm is None
        assert verdict.agreement


def test_standing_though_the_expert_goes_is_a_restart_after_both_times() -> None:
    before, fired = Watch(), []
    for second in range(8):
        goes = plan(3.0) if second >= 3 else plan(0.0)
        at = scene(0.0, actors(), time_us=second * 1_000_000)
        before, verdict = judge(at, plan(0.0), goes, before)
        fired.append(verdict.alarm.trigger if verdict.alarm else None)
    assert fired == [None] * 5 + [Trigger.RESTART] * 3


@pytest.mark.parametrize(
    ("manoeuvre", "cause", "past"),
    [
        (Manoeuvre.FOLLOW_ROUTE, Cause.FREE_ROAD, True),
        (Manoeuvre.FOLLOW_ROUTE, Cause.RED_LIGHT, True),
        (Manoeuvre.WAIT_FOR_GAP, Cause.ONCOMING, False),
        (Manoeuvre.FOLLOW_ROUTE, Cause.OBSTACLE, False),
        (Manoeuvre.RETURN_TO_LANE, Cause.FREE_ROAD, False),
        (Manoeuvre.GIVE_WAY, Cause.YIELD, False),
    ],
)
def test_two_that_wait_alike_do_not_agree_before_the_danger_is_past(
    manoeuvre: Manoeuvre, cause: Cause, past: bool
) -> None:
    alike = plan(4.0, reason=replace(FREE, manoeuvre=manoeuvre, cause=cause))
    assert judge(scene(4.0, actors()), plan(4.0), alike)[1].agreement == past
    by_agreement = replace(CONFIG, until_past=False)
    assert judge(scene(4.0, actors()), plan(4.0), alike, config=by_agreement)[1].agreement


def test_different_speeds_are_no_agreement() -> None:
    assert not judge(scene(8.0, actors()), plan(8.0), plan(4.0))[1].agreement


def test_an_expert_without_reason_is_refused() -> None:
    truth = Privileged(scene(0.0, actors()), ROAD, ROUTE, 0)
    with pytest.raises(ValueError, match="must be an expert"):
        look(truth, plan(0.0), plan(0.0), CONFIG)
