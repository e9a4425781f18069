"""Intervals: determinism, pairing, seeds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from takevla.bench import statistics as stats

values = st.lists(st.floats(-100, 100), min_size=2, max_size=30)


@settings(max_examples=20, deadline=None)
@given(values)
def test_interval_is_deterministic_and_holds_the_mean(rows: list[float]) -> None:
    first, second = stats.interval(rows), stats.interval(rows)
    assert first == second
    assert first is not None
    assert first.low - 1e-9 <= first.mean <= first.high + 1e-9
    assert min(rows) - 1e-9 <= first.low
    assert first.high <= max(rows) + 1e-9


def test_interval_agrees_with_theory_for_many_values() -> None:
    rows = np.random.Generator(np.random.PCG64(0)).normal(5.0, 2.0, 400)
    found = stats.interval(rows)
    assert found is not None
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * 2.0 / 20, rel=0.1)


def test_routes_without_a_value_are_left_out_and_none_gives_none() -> None:
    found = stats.interval([1.0, float("nan"), 3.0])
    assert found is not None
    assert (found.mean, found.count) == (2.0, 2)
    assert stats.interval([float("nan")]) is None


def test_pairing_by_route_removes_what_routes_have_in_common() -> None:
    before = np.random.Generator(np.random.PCG64(1)).uniform(0, 100, 40)
    found = stats.paired_interval(before, before + 5.0)
    assert found is not None
    assert found.low == pytest.approx(5.0)
    assert found.high == pytest.approx(5.0)
    assert found.excludes_zero
    with pytest.raises(ValueError, match="differ in number"):
        stats.paired_interval([1.0], [1.0, 2.0])


def test_one_seed_equals_the_plain_interval_and_seeds_widen_it() -> None:
    generator = np.random.Generator(np.random.PCG64(2))
    rows = generator.uniform(0, 1, 50)
    assert stats.seeded_interval(rows[None]) == stats.interval(rows)
    apart = np.stack([rows, rows + 1.0, rows - 1.0])
    together = np.stack([rows, rows, rows])
    wide, narrow = stats.seeded_interval(apart), stats.seeded_interval(together)
    assert wide is not None
    assert narrow is not None
    assert wide.mean == pytest.approx(narrow.mean)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
