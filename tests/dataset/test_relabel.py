"""Labels made again from the record."""

from __future__ import annotations

from pathlib import Path

import pytest
from short_drives import CONFIG, Drifter, allow, short_tasks

from takevla.dataset.collect import collect_takeovers
from takevla.dataset.reader import Dataset
from takevla.dataset.relabel import relabel


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("taken") / "data"
    collect_takeovers(short_tasks(4), Drifter, "drifter", out, 3, allow, 1, CONFIG)
    return out


def test_the_same_window_gives_the_same_labels(taken, tmp_path):
    relabel(taken, tmp_path / "again", 3.0)
    before, after = Dataset(taken), Dataset(tmp_path / "again", verify=True)
    assert len(before.takeovers) > 0
    assert before.frames.equals(after.frames)
    assert before.takeovers.equals(after.takeovers)
    assert before.image_bytes(0) == after.image_bytes(0)


def test_a_shorter_window_labels_fewer_frames_and_leaves_takeovers_alone(taken, tmp_path):
    relabel(taken, tmp_path / "short", 0.5)
    before, after = Dataset(taken), Dataset(tmp_path / "short")
    roles = [one.column("role") for one in (before, after)]
    assert 0 < (roles[1] == "pre_takeover").sum() < (roles[0] == "pre_takeover").sum()
    assert ((roles[0] == "takeover") == (roles[1] == "takeover")).all()


def test_a_window_longer_than_the_record_is_refused(taken, tmp_path):
    with pytest.raises(ValueError, match="window"):
        relabel(taken, tmp_path / "long", 30.0)
