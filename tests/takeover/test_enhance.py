import math
from dataclasses import replace

import numpy as np
import pytest

from takevla.scene.actors import ActorKind, Actors, Cue
from takevla.scene.plan import Action, Cause, Manoeuvre, Reason
from takevla.scene.scene import Controls, Ego, Scene, Weather
from takevla.takeover.enhance import enhanced, foreseen, urgent
from takevla.takeover.triggers import HEADWAY, Alarm, Trigger

FREE = Reason(Action.MAINTAIN, Manoeuvre.FOLLOW_ROUTE, Cause.FREE_ROAD, 8.0)
WALKER = Alarm(Trigger.COLLISION, "overlap", 1.2, Cause.PEDESTRIAN, 7, ActorKind.PEDESTRIAN)


def scene(x: float, y: float, cue: int = 0, speed: float = 0.0, heading: float = 0.0) -> Scene:
    """The ego at the origin with this heading and one pedestrian, id 7, at (x, y) of the world."""
    ego = Ego(np.zeros(3, np.float32), heading, 8.0, 0.0, 0.0, 0.0, Controls(), np.float32([4.9, 2.1, 1.5]))
    one = np.ones(1, np.float32)
    walker = Actors(
        np.array([7], np.int32),
        np.array([ActorKind.PEDESTRIAN], np.int8),
        np.zeros(1, np.int8),
        np.array([cue], np.int16),
        np.array([[x, y, 0.0]], np.float32),
        0 * one,
        speed * one,
        0 * one,
        0 * one,
        np.array([[0.6, 0.6, 1.8]], np.float32),
        np.zeros(1, np.int32),
        np.ones(1, np.bool_),
    )
    return Scene(0, "Alder01", ego, walker, np.zeros(0, np.int8), Weather())


def test_a_crossing_pedestrian_in_view_is_foreseen_with_place_and_time() -> None:
    known = foreseen(WALKER, FREE, scene(0.0, 15.0, Cue.CROSSING, 1.5, heading=math.pi / 2), lead_s=1.0)
    assert known is not None
    assert (known.cause, known.actor_id) == (Cause.PEDESTRIAN, 7)
    assert known.actor_position_ego == pytest.approx((15.0, 0.0), abs=1e-5)
    assert known.time_to_collision_s == pytest.approx(2.2)
    assert known.distance_m == pytest.approx(15.0 - 2.45, abs=1e-5)


@pytest.mark.parametrize(
    "at",
    [
        scene(15.0, -3.0),  # stands at the kerb as others do
        scene(-5.0, 0.0, Cue.CROSSING),
        scene(3.0, 9.0, Cue.CROSSING),  # beside the picture
        scene(90.0, 0.0, Cue.CROSSING),
    ],
)
def test_what_the_picture_cannot_show_is_not_foreseen(at: Scene) -> None:
    assert foreseen(WALKER, FREE, at, lead_s=1.0) is None
    assert foreseen(replace(WALKER, actor_id=99), FREE, at, lead_s=1.0) is None


def test_a_rule_is_foreseen_only_where_the_expert_names_a_light_or_sign() -> None:
    rule = Alarm(Trigger.RULE, "line", 1.0, Cause.RED_LIGHT)
    red = replace(FREE, cause=Cause.RED_LIGHT)
    assert foreseen(rule, FREE, scene(9.0, 0.0), 1.0) is None
    assert foreseen(rule, red, scene(9.0, 0.0), 1.0) == red


def test_a_restart_is_foreseen_only_where_the_expert_goes() -> None:
    restart = Alarm(Trigger.RESTART, "standing", 4.0, Cause.FREE_ROAD)
    stays = replace(FREE, action=Action.REMAIN_STOPPED, target_speed_mps=0.0)
    assert foreseen(restart, stays, scene(9.0, 0.0), 1.0) is None
    assert foreseen(restart, FREE, scene(9.0, 0.0), 1.0) == FREE


def said(reason: Reason, alarm: Alarm, speed: float, answer: Reason = FREE) -> str:
    return enhanced(urgent(reason, alarm, answer, speed), alarm, speed)


def test_slowing_is_as_hard_as_stopping_short_of_the_cause_takes() -> None:
    alarm = Alarm(Trigger.COLLISION, "overlap", 3.0, Cause.OBSTACLE, 7, ActorKind.CAR)
    far = replace(
        FREE, cause=Cause.OBSTACLE, actor_kind=ActorKind.CAR, distance_m=40.0, time_to_collision_s=4.0
    )
    near = replace(far, distance_m=10.0, time_to_collision_s=1.0)
    assert said(far, alarm, 8.0) == "slow to 6m/s now for the blocking car 40m ahead 3s to impact"
    assert said(near, alarm, 8.0) == "brake to 0m/s now for the blocking car 10m ahead 1s to impact"


def test_behind_a_leader_its_speed_is_enough() -> None:
    alarm = Alarm(Trigger.FOLLOW, HEADWAY, 0.6, Cause.LEADER, 7, ActorKind.CAR)
    leader = replace(FREE, cause=Cause.LEADER, actor_kind=ActorKind.CAR, distance_m=6.0, actor_speed_mps=6.0)
    assert said(leader, alarm, 8.0) == "slow to 6m/s now behind the car 5m ahead too close"


def test_where_the_expert_passes_the_words_do_not_brake() -> None:
    alarm = Alarm(Trigger.COLLISION, "overlap", 2.0, Cause.OBSTACLE, 7, ActorKind.CAR)
    blocked = replace(
        FREE, cause=Cause.OBSTACLE, actor_kind=ActorKind.CAR, distance_m=12.0, time_to_collision_s=2.0
    )
    around = replace(FREE, manoeuvre=Manoeuvre.GO_AROUND_LEFT)
    words = said(blocked, alarm, 8.0, around)
    assert words == "hold 8m/s now passing left for the blocking car 10m ahead 2s to impact"


def test_off_course_the_expert_keeps_his_words() -> None:
    alarm = Alarm(Trigger.FOLLOW, "lateral", 1.2, Cause.LEADER, 7, ActorKind.CAR)
    behind = replace(FREE, cause=Cause.LEADER, actor_kind=ActorKind.CAR, distance_m=12.0)
    assert said(behind, alarm, 8.0) == "hold 8m/s now behind the car 10m ahead off course"
