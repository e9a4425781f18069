"""Held starts: the ego stands on, though the plan goes, and sets off afterwards."""

import numpy as np

from takevla.dataset.holds import Holder, Holds
from takevla.driver.closed_loop import Seat
from takevla.scene.plan import Observation, Plan
from takevla.scene.scene import TICK_US


def plan_at(speed_mps):
    steps = speed_mps * 0.25 * np.arange(1, 11)
    route = np.stack([np.arange(1.0, 21.0), np.zeros(20)], 1)
    return Plan(route.astype(np.float32), np.stack([steps, np.zeros(10)], 1).astype(np.float32))


def seen(time_us, speed_mps):
    return Observation(0, time_us, speed_mps, np.zeros((2, 2), np.float32), 4, 4, None, None)


def held(speed_mps, planned_mps, share=1.0, seed=3):
    seat = Seat(0, None)
    Holder(Holds(share=share, lasts_s=(1.0, 2.0)), {0: seed}).on_plan(
        seat, seen(5_000_000, speed_mps), plan_at(planned_mps)
    )
    return seat


def test_a_start_is_held_for_a_while():
    (burst,) = held(0.0, 6.0).bursts
    assert burst.brake == 1.0
    assert burst.start_us == 5_000_000
    assert 1_000_000 <= burst.end_us - burst.start_us <= 2_000_000
    assert (burst.end_us - burst.start_us) % TICK_US == 0


def test_who_drives_or_stays_is_not_held():
    assert not held(3.0, 6.0).bursts
    assert not held(0.0, 0.2).bursts
    assert not held(0.0, 6.0, share=0.0).bursts


def test_the_next_start_is_free_for_a_time():
    seat, holder = Seat(0, None), Holder(Holds(share=1.0, apart_s=4.0), {0: 1})
    for time_us in (1_000_000, 2_000_000, 4_750_000):
        holder.on_plan(seat, seen(time_us, 0.0), plan_at(6.0))
    assert len(seat.bursts) == 1
    holder.on_plan(seat, seen(5_000_000, 0.0), plan_at(6.0))
    assert len(seat.bursts) == 2


def test_the_same_seed_holds_the_same():
    assert held(0.0, 6.0).bursts == held(0.0, 6.0).bursts
    assert held(0.0, 6.0).bursts != held(0.0, 6.0, seed=4).bursts
