"""The closed loop: many worlds and one driver."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hand_made import HandWorld, Other, two_lane_road, two_way_road

from takevla.driver.closed_loop import Burst, BurstSchedule, Seat, advance, drive, observe
from takevla.driver.expert import Expert
from takevla.scene.actors import ActorKind, Cue
from takevla.scene.road_map import Control
from takevla.scene.scene import TICK_US


class Log:
    """A listener that keeps all it hears."""

    def __init__(self):
        self.plans, self.ticks, self.finished = [], [], []

    def on_plan(self, seat, observation, plan):
        self.plans.append((seat.index, observation.time_us, plan))

    def on_tick(self, seat, ego, controls):
        self.ticks.append((seat.index, controls))

    def on_finish(self, seat):
        self.finished.append(seat.index)


class OneColour:
    """A camera that shows where it stands."""

    def render(self, road_map, scene, offset_y_m=0.0, yaw_offset_rad=0.0):
        return np.full((2, 4, 3), round(10 * offset_y_m + 100 * yaw_offset_rad), np.uint8)


class Blind:
    """A driver that wants an image."""

    name, needs_image, needs_privilege, period_us = "blind", True, False, 250_000

    def reset(self, seats):
        pass

    def plan(self, observations):
        raise AssertionError("never asked")


def worlds():
    walker = Other(90.0, -5.0, ActorKind.PEDESTRIAN, math.pi / 2, 1.2, int(Cue.CROSSING), (0.5, 0.6, 1.8))
    return [
        HandWorld(two_way_road(), [walker], end_m=150.0),
        HandWorld(two_lane_road(), [Other(80.0, 0.0, cue=int(Cue.HAZARD))], end_m=150.0),
        HandWorld(two_way_road(Control.STOP_SIGN), end_m=130.0),
    ]


def test_each_seat_drives_the_same_alone_and_in_a_batch():
    together = worlds()
    drive([Seat(k, world) for k, world in enumerate(together)], Expert())
    for k, alone in enumerate(worlds()):
        drive([Seat(k, alone)], Expert())
        assert (alone.x, alone.y, alone.speed, alone.time_us) == (
            together[k].x,
            together[k].y,
            together[k].speed,
            together[k].time_us,
        )


def test_seats_that_wait_for_others_to_finish_drive_the_same():
    together, later = worlds(), worlds()
    drive([Seat(k, world) for k, world in enumerate(together)], Expert())
    made = []

    def seats():
        for k, world in enumerate(later):
            made.append([one.finished for one in later[:k]])
            yield Seat(k, world)

    drive(seats(), Expert(), at_most=1)
    assert made == [[], [True], [True, True]]  # none is made before its turn
    assert [(one.x, one.y, one.time_us) for one in later] == [(one.x, one.y, one.time_us) for one in together]


def test_listeners_hear_every_plan_tick_and_end():
    log = Log()
    world = HandWorld(two_way_road(), end_m=60.0)
    drive([Seat(7, world)], Expert(period_us=250_000), listeners=[log])
    ticks = world.time_us // TICK_US
    assert len(log.ticks) == ticks
    assert len(log.plans) == math.ceil(ticks / 5)
    assert [time for _, time, _ in log.plans] == list(range(0, world.time_us, 250_000))
    assert log.finished == [7]


def test_stops_at_the_time_asked_for():
    world = HandWorld(two_way_road())
    drive([Seat(0, world)], Expert(), until_us=2_000_000)
    assert world.time_us == 2_000_000


def test_a_burst_pushes_the_wheel_and_the_driver_recovers():
    plain, pushed = HandWorld(two_way_road()), HandWorld(two_way_road())
    burst = Burst(2_000_000, 2_500_000, steer=0.3)
    drive([Seat(0, plain)], Expert(), until_us=2_500_000)
    seat = Seat(0, pushed, bursts=(burst,))
    drive([seat], Expert(), until_us=2_500_000)
    assert abs(pushed.y - plain.y) > 0.05
    expert = Expert()
    drive([seat], expert, until_us=8_000_000)
    assert abs(pushed.y) < 0.15


def test_a_burst_brings_the_ego_to_rest_and_the_driver_sets_off_again():
    world = HandWorld(two_way_road())
    seat = Seat(0, world, bursts=(Burst(2_000_000, 5_000_000, brake=1.0),))
    drive([seat], Expert(), until_us=5_000_000)
    assert world.speed < 0.01
    drive([seat], Expert(), until_us=8_000_000)
    assert world.speed > 3.0


def test_frames_before_and_in_a_push_of_the_wheel_are_marked():
    seat = Seat(0, HandWorld(two_way_road()), bursts=(Burst(5_000_000, 5_400_000, steer=0.2),))
    assert seat.wheel_pushed_near(3_500_000, 2_000_000)
    assert seat.wheel_pushed_near(5_200_000, 2_000_000)
    assert not seat.wheel_pushed_near(2_500_000, 2_000_000)
    assert not seat.wheel_pushed_near(5_400_000, 2_000_000)
    braked = Seat(0, HandWorld(two_way_road()), bursts=(Burst(5_000_000, 5_400_000, brake=1.0),))
    assert not braked.wheel_pushed_near(5_200_000, 2_000_000)


def test_burst_schedules_come_from_their_seed_and_do_not_overlap():
    bursts = BurstSchedule(5).bursts(120_000_000)
    assert bursts == BurstSchedule(5).bursts(120_000_000)
    assert bursts != BurstSchedule(6).bursts(120_000_000)
    wheel, brake = [b for b in bursts if b.steer], [b for b in bursts if b.brake]
    assert wheel
    assert brake
    for pushes in (wheel, brake):
        assert all(a.end_us < b.start_us for a, b in itertools.pairwise(pushes))
    assert all(burst.start_us % TICK_US == 0 for burst in bursts)


def test_a_moved_camera_changes_the_image_and_nothing_else():
    world = HandWorld(two_way_road())
    seat = Seat(0, world)
    straight = observe(world, seat, OneColour(), privileged=False)
    moved = observe(world, seat, OneColour(), privileged=False, offset_y_m=0.5, yaw_offset_rad=0.1)
    assert (straight.image == 0).all()
    assert (moved.image == 15).all()
    assert np.array_equal(straight.target_points_ego, moved.target_points_ego)
    assert straight.privileged is None


def test_target_points_lie_ahead_in_the_ego_frame():
    world = HandWorld(two_way_road(), x=40.0, heading=math.pi / 2)
    seen = observe(world, Seat(0, world), None, privileged=False)
    # The route runs east; the ego looks north, so that what is ahead lies to its right.
    assert (seen.target_points_ego[:, 1] < -7.0).all()
    assert np.abs(seen.target_points_ego[:, 0]).max() < 0.01
    assert seen.target_points_ego[1, 1] < seen.target_points_ego[0, 1]


def test_advance_uses_the_seats_own_controller():
    world = HandWorld(two_way_road(), speed=5.0)
    seat = Seat(0, world)
    advance(seat, 10)
    assert world.speed < 3.0  # no plan yet: it brakes


def test_refuses_what_cannot_be_driven():
    world = HandWorld(two_way_road())
    with pytest.raises(ValueError, match="camera"):
        drive([Seat(0, world)], Blind())
    with pytest.raises(ValueError, match="multiple"):
        drive([Seat(0, world)], Expert(period_us=70_000))
    with pytest.raises(ValueError, match="share"):
        drive([Seat(0, world), replace(Seat(0, world))], Expert())
