from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from takevla.takeover.monitor import TRANSITIONS, Event, Monitor, MonitorConfig, Phase, event, step

PERIOD_US = 250_000
CONFIG = MonitorConfig()
instants = st.lists(st.sampled_from([(True, False), (False, False), (False, True)]), min_size=1, max_size=120)


def drive(sequence: list[tuple[bool, bool]], config: MonitorConfig = CONFIG) -> list[Monitor]:
    states = [Monitor()]
    for k, (alarm, agreement) in enumerate(sequence):
        states.append(step(states[-1], k * PERIOD_US, alarm, agreement, config))
    return states


def test_the_table_answers_every_event_in_every_phase() -> None:
    assert set(TRANSITIONS) == set(product(Phase, Event))


@settings(max_examples=80, deadline=None)
@given(instants)
def test_takeovers_begin_with_an_alarm_and_only_then(sequence: list[tuple[bool, bool]]) -> None:
    states = drive(sequence)
    for (before, after), (alarm, _) in zip(pairwise(states), sequence, strict=True):
        if not before.expert_drives:
            assert after.expert_drives == alarm


@settings(max_examples=80, deadline=None)
@given(instants)
def test_takeovers_end_calm_after_their_least_time_or_at_their_greatest(
    sequence: list[tuple[bool, bool]],
) -> None:
    states = drive(sequence)
    for k, (before, after) in enumerate(pairwise(states)):
        if not before.expert_drives:
            continue
        lasted_s = (k * PERIOD_US - before.taken_since_us) / 1e6
        assert lasted_s <= CONFIG.greatest_s
        if after.expert_drives:
            assert after.taken_since_us == before.taken_since_us
            continue
        calm = sequence[k - round(CONFIG.calm_s * 1e6 / PERIOD_US) : k + 1]
        held = lasted_s >= CONFIG.least_s and all(one == (False, True) for one in calm)
        assert held or lasted_s == CONFIG.greatest_s


@pytest.mark.parametrize("config", [MonitorConfig(0.5, 0.25, 1.5), MonitorConfig(0.0, 0.0, 0.25)])
def test_all_short_histories_keep_the_invariants(config: MonitorConfig) -> None:
    for sequence in product([(True, False), (False, False), (False, True)], repeat=7):
        states = drive(list(sequence), config)
        for k, (before, after) in enumerate(pairwise(states)):
            what = event(before, k * PERIOD_US, *sequence[k], config)
            assert after.phase == TRANSITIONS[before.phase, what]
            assert (after.calm_since_us >= 0) == (after.phase == Phase.HANDING_BACK)
            assert (after.taken_since_us >= 0) == after.expert_drives


def test_after_the_greatest_time_a_lasting_alarm_begins_another_takeover() -> None:
    states = drive([(True, False)] * 90)
    starts = {state.taken_since_us for state in states if state.expert_drives}
    assert starts == {0, 81 * PERIOD_US}
