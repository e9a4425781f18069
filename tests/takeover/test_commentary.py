import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from takevla.scene.actors import ActorKind
from takevla.scene.plan import Action, Cause, Manoeuvre, Reason
from takevla.takeover.commentary import commentary, corpus, parse
from takevla.takeover.enhance import enhanced, urgent
from takevla.takeover.triggers import HEADWAY, Alarm, Trigger

coordinate = st.floats(-60.0, 60.0)
distance = st.one_of(st.just(math.inf), st.floats(0.0, 200.0))
reasons = st.builds(
    Reason,
    action=st.sampled_from(Action),
    manoeuvre=st.sampled_from(Manoeuvre),
    cause=st.sampled_from(Cause),
    target_speed_mps=st.floats(0.0, 40.0),
    distance_m=distance,
    actor_id=st.integers(-1, 5),
    actor_kind=st.sampled_from([-1, *ActorKind]),
    actor_position_ego=st.tuples(coordinate, coordinate),
    actor_speed_mps=st.floats(0.0, 30.0),
    time_to_collision_s=st.one_of(st.just(math.inf), st.floats(0.0, 10.0)),
)
speeds = st.floats(0.0, 40.0)
alarms = st.builds(
    Alarm,
    st.sampled_from(Trigger),
    st.sampled_from([HEADWAY, "overlap", "steer"]),
    st.floats(0.0, 4.0),
    st.sampled_from(Cause),
)
WORDS = frozenset(word for sentence in corpus() for word in sentence.split())


@settings(max_examples=80, deadline=None)
@given(reasons, speeds)
def test_parse_inverts_commentary(reason: Reason, speed: float) -> None:
    assert parse(commentary(reason, speed)) == (reason.action, reason.manoeuvre, reason.cause)


@settings(max_examples=80, deadline=None)
@given(reasons, alarms, speeds)
def test_parse_inverts_enhanced_commentary(reason: Reason, alarm: Alarm, speed: float) -> None:
    assert parse(enhanced(reason, alarm, speed)) == (reason.action, reason.manoeuvre, reason.cause)


@settings(max_examples=80, deadline=None)
@given(reasons, reasons, alarms, speeds)
def test_sentences_are_short_and_made_of_the_corpus(
    reason: Reason, answer: Reason, alarm: Alarm, speed: float
) -> None:
    plain = commentary(reason, speed).split()
    urgent_words = enhanced(urgent(reason, alarm, answer, speed), alarm, speed).split()
    assert len(plain) <= 14
    assert len(urgent_words) <= 16
    assert {*plain, *urgent_words} <= WORDS


@settings(max_examples=80, deadline=None)
@given(reasons, reasons, alarms, speeds)
def test_urgency_never_asks_for_more_speed_before_a_danger(
    reason: Reason, answer: Reason, alarm: Alarm, speed: float
) -> None:
    asked = urgent(reason, alarm, answer, speed)
    if alarm.trigger in (Trigger.COLLISION, Trigger.RULE):
        assert asked.target_speed_mps <= reason.target_speed_mps
        passes = answer.manoeuvre in (Manoeuvre.GO_AROUND_LEFT, Manoeuvre.GO_AROUND_RIGHT)
        assert passes or asked.action in (Action.REMAIN_STOPPED, Action.STOP, Action.DECELERATE)
    assert asked.cause == reason.cause


def test_commentary_names_action_speed_cause_and_place() -> None:
    reason = Reason(
        Action.DECELERATE,
        Manoeuvre.FOLLOW_ROUTE,
        Cause.PEDESTRIAN,
        target_speed_mps=3.8,
        distance_m=9.0,
        actor_id=3,
        actor_kind=ActorKind.PEDESTRIAN,
        actor_position_ego=(8.0, -4.0),
        time_to_collision_s=1.4,
    )
    assert commentary(reason, 7.0) == "slow to 4m/s for the pedestrian 10m right"
    alarm = Alarm(Trigger.COLLISION, "overlap", 1.4, Cause.PEDESTRIAN, 3, ActorKind.PEDESTRIAN)
    words = enhanced(urgent(reason, alarm, reason, 7.0), alarm, 7.0)
    assert words == "brake to 0m/s now for the pedestrian 10m right 1.5s to impact"


def test_the_vocabulary_stays_small() -> None:
    assert len(WORDS) < 100


@pytest.mark.parametrize(
    "text", ["", "fly away", "slow to", "slow to 7m/s on the free road", "hold 4m/s because"]
)
def test_parse_refuses_what_the_grammar_does_not_say(text: str) -> None:
    with pytest.raises(ValueError, match="commentary"):
        parse(text)
