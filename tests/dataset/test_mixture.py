import json
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from takevla.dataset.mixture import Mixture

MEMBERS = {"all": np.arange(1000), "rare": np.arange(0, 1000, 20), "half": np.arange(500)}
RATIOS = {"all": 0.5, "rare": 0.1, "half": 0.4}


def test_actual_ratios_are_the_asked_ones_while_buckets_last() -> None:
    _, audit = Mixture(MEMBERS, RATIOS, seed=1, epoch_draws=400).drawn(2000)
    assert audit.draws == 2000
    for row in audit.buckets:
        assert row.actual_ratio == pytest.approx(row.asked_ratio, abs=1e-12)


def test_the_default_epoch_is_as_long_as_its_scarcest_bucket_allows() -> None:
    assert Mixture(MEMBERS, RATIOS, seed=0).epoch_draws == 500


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 1500), st.integers(1, 4))
def test_no_frame_twice_in_an_epoch_and_none_above_the_cap(seed: int, draws: int, cap: int) -> None:
    counts: Counter[int] = Counter()
    mixture = Mixture(MEMBERS, RATIOS, seed, epoch_draws=draws, max_repeats=cap)
    for epoch in islice(mixture.epochs(), 30):
        assert len(np.unique(epoch.frames)) == len(epoch.frames)
        counts.update(epoch.frames.tolist())
        for k, name in enumerate(mixture.names):
            assert np.isin(epoch.frames[epoch.buckets == k], MEMBERS[name]).all()
    assert max(counts.values()) <= cap


def test_the_audit_counts_exactly_what_is_drawn(tmp_path: Path) -> None:
    mixture = Mixture(MEMBERS, RATIOS, seed=3, epoch_draws=300, max_repeats=3)
    epochs = list(islice(mixture.epochs(), 4))
    frames = np.concatenate([epoch.frames for epoch in epochs])
    buckets = np.concatenate([epoch.buckets for epoch in epochs])
    mixture.audit(epochs).write(tmp_path / "audit.json")
    audit = json.loads((tmp_path / "audit.json").read_text())
    assert audit["draws"] == len(frames)
    assert audit["distinct"] == len(np.unique(frames))
    assert audit["most_repeats"] == max(Counter(frames.tolist()).values()) <= 3
    for k, row in enumerate(audit["buckets"]):
        mine = frames[buckets == k]
        assert (row["draws"], row["distinct"]) == (len(mine), len(np.unique(mine)))
        assert row["most_repeats"] == max(Counter(mine.tolist()).values())


def test_frames_of_a_bucket_are_used_evenly() -> None:
    mixture = Mixture({"all": np.arange(100)}, {"all": 1.0}, seed=0, epoch_draws=30)
    counts = Counter(np.concatenate([e.frames for e in islice(mixture.epochs(), 10)]).tolist())
    assert set(counts.values()) == {3}


def test_draws_are_cut_where_enough_are_drawn_and_audited_as_they_are() -> None:
    mixture = Mixture(MEMBERS, RATIOS, seed=7, epoch_draws=200)
    order, audit = mixture.drawn(450)
    epochs = np.concatenate([epoch.frames for epoch in islice(mixture.epochs(), 3)])
    np.testing.assert_array_equal(order, epochs[:450])
    assert (audit.draws, audit.epochs, audit.distinct) == (450, 3, len(np.unique(order)))


def test_where_no_more_may_be_drawn_there_are_fewer() -> None:
    order, audit = Mixture({"all": np.arange(10)}, {"all": 1.0}, seed=0, max_repeats=2).drawn(50)
    assert len(order) == audit.draws == 20


def test_another_seed_draws_other_frames() -> None:
    one, other = (next(Mixture(MEMBERS, RATIOS, seed=s, epoch_draws=100).epochs()) for s in (0, 1))
    assert set(one.frames.tolist()) != set(other.frames.tolist())


@pytest.mark.parametrize(
    ("ratios", "words"),
    [({"none": 1.0}, "no such bucket"), ({"all": 0.0}, "positive"), ({"void": 1.0}, "no frame")],
)
def test_what_cannot_be_drawn_is_refused(ratios: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Mixture(MEMBERS | {"void": np.zeros(0)}, ratios, seed=0)
