"""t-SNE of frames in a model's feature space."""

from pathlib import Path

import numpy as np
import torch
from made_up_run import write_takeovers

from takevla.dataset.reader import Dataset
from takevla.driver.vla.checkpoint import Checkpoint, save_checkpoint
from takevla.driver.vla.inputs import tiny_config
from takevla.driver.vla.model import TakeVLA
from takevla.driver.vla.tokenizer import build_tokenizer
from takevla.report.embedding import ROLES, chosen_rows, embed


def test_frames_of_every_role_are_placed_the_same_way_each_time(tmp_path: Path) -> None:
    write_takeovers(tmp_path / "data", episodes=4)
    write_takeovers(tmp_path / "rehearsal", episodes=1, rehearsal=True)
    torch.manual_seed(0)
    tokenizer = build_tokenizer(["slow down to 2 m/s .", "maintain your speed ."])
    save_checkpoint(tmp_path / "model", Checkpoint(TakeVLA(tiny_config(tokenizer, max_words=3)), tokenizer))
    datasets = [Dataset(tmp_path / "rehearsal"), Dataset(tmp_path / "data")]
    first = embed(tmp_path / "model", datasets, seed=0)
    assert first is not None
    assert first.points.shape == (120, 2)
    assert np.isfinite(first.points).all()
    assert set(first.groups) == set(ROLES.values())
    again = embed(tmp_path / "model", datasets, seed=0)
    assert again is not None
    np.testing.assert_array_equal(first.points, again.points)


def test_too_few_frames_are_not_placed(tmp_path: Path) -> None:
    write_takeovers(tmp_path, episodes=1)
    assert embed(tmp_path / "no-model-is-read", [Dataset(tmp_path)], seed=0) is None


def test_rows_are_drawn_by_seed_and_capped_by_role() -> None:
    roles = np.array(["other"] * 500 + ["takeover"] * 50, object)
    rows = chosen_rows(roles, 0)
    assert len(rows) == 120 + 50
    assert rows == chosen_rows(roles, 0) != chosen_rows(roles, 1)
