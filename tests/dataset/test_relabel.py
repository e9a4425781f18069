"""Labels made again from the record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from short_drives import CONFIG, Drifter, allow, short_tasks

from takevla.dataset.collect import collect_takeovers
from takevla.dataset.reader import Dataset
from takevla.dataset.relabel import relabel
from takevla.scene.plan import Plan


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


class Stander(Drifter):
    """Stands at the start, for which nobody takes over at once."""

    def plan(self, observations):
        route = np.stack([np.arange(1, 21), np.zeros(20)], axis=1).astype(np.float32)
        return [Plan(route, np.zeros((10, 2), np.float32)) for _ in observations]


def test_scenes_of_calm_driving_are_kept_where_no_takeover_was(tmp_path):
    calm = tmp_path / "calm"
    collect_takeovers(short_tasks(1), Stander, "stander", calm, 3, allow, 1, replace(CONFIG, longest_s=1.0))
    relabel(calm, tmp_path / "again", 3.0)
    before, after = Dataset(calm), Dataset(tmp_path / "again", verify=True)
    assert len(before.takeovers) == 0
    episode = str(before.column("episode")[0])
    recorded = before.scenes(episode, 0, 1_000_000)
    assert recorded
    assert [one.time_us for one in after.scenes(episode, 0, 1_000_000)] == [one.time_us for one in recorded]
