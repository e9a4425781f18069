"""The controller: tracking, ageing of plans, signs, exact resume."""

import math

import numpy as np
import pytest
from hand_made import plan_of_speed

from takevla.driver.controller import Controller, desired_speed
from takevla.scene.plan import Plan
from takevla.scene.scene import Controls, Ego
from takevla.world.dynamics import EGO_EXTENT_M, next_pose, next_speed


def ego(x=0.0, y=0.0, heading=0.0, speed=0.0):
    position = np.array([x, y, 0.0], np.float32)
    return Ego(position, heading, speed, 0.0, 0.0, 0.0, Controls(), np.array(EGO_EXTENT_M, np.float32))


def junction_turn(radius):
    """20 m straight, a quarter circle to the left, 40 m straight; points 0.1 m apart."""
    s = np.arange(0.0, 20.0, 0.1)
    straight = np.stack([s, 0 * s], 1)
    a = np.arange(0.0, math.pi / 2, 0.1 / radius)
    arc = np.stack([20 + radius * np.sin(a), radius * (1 - np.cos(a))], 1)
    after = np.stack([np.full(400, 20.0 + radius), radius + np.arange(0.0, 40.0, 0.1)], 1)
    return np.concatenate([straight, arc, after])


def worst_error(radius, speed, plan_every):
    path = junction_turn(radius)
    controller = Controller()
    x = y = heading = 0.0
    v = speed
    worst = 0.0
    waypoints = np.stack([speed * 0.25 * np.arange(1, 11), np.zeros(10)], 1).astype(np.float32)
    for k in range(int((30 + 1.6 * radius) / speed / 0.05)):
        nearest = int(np.argmin(np.hypot(*(path - [x, y]).T)))
        worst = max(worst, float(np.hypot(*(path[nearest] - [x, y]))))
        if k % plan_every == 0:
            ahead = path[nearest + 10 : nearest + 210 : 10] - [x, y]
            c, s = math.cos(heading), math.sin(heading)
            route = ahead @ np.array([[c, -s], [s, c]])
            controller.follow(Plan(route.astype(np.float32), waypoints), ego(x, y, heading, v))
        controls = controller.control(ego(x, y, heading, v))
        x, y, heading = next_pose(x, y, heading, v, controls.steer)
        v = next_speed(v, controls.throttle, controls.brake)
    return worst


@pytest.mark.parametrize(("radius", "speed"), [(9.0, 5.0), (12.0, 6.0), (20.0, 8.0), (40.0, 12.0)])
def test_keeps_within_a_foot_of_the_line_in_turns_with_four_plans_a_second(radius, speed):
    assert worst_error(radius, speed, plan_every=5) < 0.3


def test_a_plan_four_times_a_second_steers_as_well_as_one_every_tick():
    assert worst_error(12.0, 6.0, 5) == pytest.approx(worst_error(12.0, 6.0, 1), abs=0.05)


def test_steers_left_when_the_route_lies_to_the_left():
    route = np.stack([np.arange(1.0, 21.0), 0.1 * np.arange(1.0, 21.0)], 1).astype(np.float32)
    controller = Controller()
    controller.follow(Plan(route, plan_of_speed(5.0).waypoints_ego), ego(speed=5.0))
    assert controller.control(ego(speed=5.0)).steer > 0.0


def test_brakes_when_it_should_stand_or_is_far_too_fast_and_holds_speed_otherwise():
    def first(now, wanted):
        controller = Controller()
        controller.follow(plan_of_speed(wanted), ego(speed=now))
        return controller.control(ego(speed=now))

    assert first(3.0, 0.2).brake == 1.0
    assert first(6.0, 5.0).brake == 1.0
    assert first(5.2, 5.0).brake == 0.0
    assert first(5.2, 5.0).throttle < 0.3
    assert first(3.0, 5.0).throttle == 1.0


def test_brakes_without_a_plan():
    assert Controller().control(ego(speed=5.0)).brake == 1.0


def test_desired_speed_slides_along_the_waypoints_as_the_plan_ages():
    steps = np.cumsum(np.arange(1.0, 11.0)) * 0.1
    waypoints = np.stack([steps, np.zeros(10)], 1)
    speeds = [desired_speed(waypoints, age) for age in np.arange(0.0, 2.6, 0.05)]
    assert speeds[0] == pytest.approx((steps[2] - steps[0]) * 2)
    assert (np.diff(speeds) >= -1e-9).all()


def test_restored_controller_continues_bit_identically():
    generator = np.random.default_rng(3)

    def drive(controller, start, ticks):
        out = []
        for k in range(start, start + ticks):
            controls = controller.control(ego(0.3 * k, 0.01 * k, 0.002 * k, 5.0 + 0.1 * (k % 7)))
            out.append((controls.steer, controls.throttle, controls.brake))
        return out

    route = np.cumsum(generator.uniform(0.0, 1.0, (20, 2)), axis=0).astype(np.float32)
    controller = Controller()
    controller.follow(Plan(route, plan_of_speed(6.0).waypoints_ego), ego(speed=5.0))
    drive(controller, 0, 9)
    state = controller.snapshot()
    straight = drive(controller, 9, 9)
    other = Controller()
    other.restore(state)
    assert drive(other, 9, 9) == straight


def test_refuses_a_plan_that_is_not_finite():
    plan = plan_of_speed(5.0)
    plan.route_ego[3, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        Controller().follow(plan, ego())
