"""The memory of what was seen half a second ago."""

from takevla.scene.past import Past


def _kept(period_ms: int, upto: int) -> list[int]:
    past: Past[int] = Past()
    return [past.keep(1000 * period_ms * k, k) for k in range(upto)]


def test_at_four_hertz_it_is_what_was_seen_two_instants_before():
    assert _kept(250, 6) == [0, 0, 0, 1, 2, 3]


def test_at_other_rates_it_is_the_latest_that_is_old_enough():
    assert _kept(500, 4) == [0, 0, 1, 2]
    assert _kept(200, 6) == [0, 0, 0, 0, 1, 2]
    assert _kept(1000, 3) == [0, 0, 1]


def test_what_is_too_old_says_nothing():
    assert _kept(1100, 3) == [0, 1, 2]


def test_the_same_instant_replaces_and_time_set_back_forgets():
    past: Past[str] = Past()
    past.keep(0, "a")
    assert past.keep(500_000, "b") == "a"
    assert past.keep(500_000, "c") == "a"
    assert past.keep(1_000_000, "d") == "c"
    assert past.keep(250_000, "e") == "e"
