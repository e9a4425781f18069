"""Hazards and their leads, on made-up instants."""

import numpy as np

from takevla.scene.plan import Action, Cause
from takevla.takeover.precaution import LOOK_BACK_S, Instant, Shadowed, hazards, route_words

FREE, WALKER = (Action.MAINTAIN, Cause.FREE_ROAD), (Action.STOP, Cause.PEDESTRIAN)


def drive(words_from_s: float, brakes_from_s: float, named_s: tuple[float, float] = (4.0, 8.0)) -> Shadowed:
    instants = []
    for k in range(48):
        time_s = k / 4.0
        named = named_s[0] <= time_s <= named_s[1]
        said = WALKER if words_from_s <= time_s <= named_s[1] else FREE
        instants.append(Instant(k * 250_000, said, WALKER if named else FREE, 7 if named else -1))
    braking = [k * 50_000 for k in range(240) if brakes_from_s <= k / 20.0 <= 8.0]
    return Shadowed(instants, braking, takeovers=1)


def ttc(least_s: float, at_s: float = 7.5) -> np.ndarray:
    values = np.full(240, np.inf, np.float32)
    values[round(at_s * 20)] = least_s
    return values


def test_leads_are_counted_back_from_the_tick_of_least_time_to_collision():
    (found,) = hazards(drive(5.0, 6.0), ttc(0.8))
    assert (found.words_s, found.braking_s, found.expert_s) == (2.5, 1.5, 3.5)
    assert found.cause == Cause.PEDESTRIAN


def test_a_hazard_that_came_to_nothing_is_none():
    assert hazards(drive(5.0, 6.0), ttc(4.0)) == []
    assert hazards(drive(5.0, 6.0), ttc(0.5, at_s=11.0)) == []


def test_answers_after_the_conflict_or_to_another_cause_do_not_count():
    (late,) = hazards(drive(7.75, 7.75), ttc(0.0))
    assert late.words_s is None
    assert late.braking_s is None
    other = drive(5.0, 6.0)
    wrong = [
        Instant(one.time_us, (Action.STOP, Cause.RED_LIGHT), one.expert, one.actor_id)
        for one in other.instants
    ]
    (found,) = hazards(Shadowed(wrong, other.braking_us), ttc(0.8))
    assert found.words_s is None


def test_leads_look_back_only_so_far():
    (found,) = hazards(drive(0.0, 0.0, named_s=(0.0, 8.0)), ttc(0.5))
    assert found.words_s == found.braking_s == found.expert_s == LOOK_BACK_S


def test_words_count_against_the_expert_at_every_instant():
    words = route_words(drive(5.0, 6.0), ttc(0.8))
    assert words["instants"] == 48
    assert words["bound"] == 17
    assert words["bound_both_right"] == 13
    assert words["both_right"] == words["action_right"] == 48 - 4
    assert words["takeovers"] == 1
