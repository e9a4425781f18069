import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from tiny_vla import tiny_tokenizer

from takevla.driver.vla.backbone import image_features
from takevla.driver.vla.inputs import tiny_config
from takevla.driver.vla.model import SIGHT_CLASSES, TakeVLA
from takevla.driver.vla.settings import TinySize
from takevla.learn.sight import (
    CLASSES,
    NOTHING,
    ROW,
    ROWS,
    SIGHT_OUTPUTS,
    UNKNOWN,
    sight_loss,
    sight_rows,
    unknown_rows,
)  # fmt: skip
from takevla.scene.actors import ActorKind
from takevla.scene.road_map import LightState
from takevla.scene.sight import LAMP_KIND, UNSEEN_KIND
from takevla.world.camera.rig import Rig

SIDE = 4


def _rows(*frames):
    lists = [np.array(frame, np.float32).ravel().tolist() for frame in frames]
    return sight_rows(pa.chunked_array([pa.array(lists, pa.list_(pa.float32()))]), Rig(), SIDE)


def test_a_thing_straight_ahead_is_in_the_wide_tiles_seam_and_in_the_long_lens():
    rows = _rows([(ActorKind.PEDESTRIAN, 18.5, 0.1, 0.9, math.pi / 2, 1.0)])
    cells = sorted(rows[0, rows[0, :, 0] >= 0, 0].astype(int).tolist())
    assert cells == [2 * SIDE + 3, 2 * SIDE * SIDE + 2 * SIDE + 1]  # below the middle row of both
    name, *motion = rows[0, 0, 1:]
    assert CLASSES[int(name)] == "pedestrian"
    assert motion == pytest.approx([math.log(2.0), 0.0, 1 / 3, 1 / 3], abs=2e-3)


def test_lamps_are_named_by_their_state_and_empty_frames_hold_nothing():
    red = _rows([(LAMP_KIND + LightState.RED, 30.0, 0.0, 5.0, math.pi, 0.0)], [])
    assert {CLASSES[int(name)] for name in red[0, red[0, :, 0] >= 0, 1]} == {"red lamp"}
    assert (red[1] == NOTHING).all()


def test_frames_of_which_nothing_is_known_are_not_empty_ones():
    unknown = [(UNSEEN_KIND, 0.0, 0.0, 0.0, 0.0, 0.0)]
    rows = _rows(unknown, [(ActorKind.CAR, 18.5, 4.0, 0.7, 0.0, 5.0)], unknown)
    assert (rows[[0, 2]] == unknown_rows(2)).all()
    assert (rows[1, 0] != UNKNOWN).any()


def test_the_nearest_come_first_and_no_more_than_are_kept():
    many = [(ActorKind.CAR, 5.0 + k, 0.5, 0.7, 0.0, 0.0) for k in range(40)][::-1]
    rows = _rows(many)[0]
    assert rows.shape == (ROWS, ROW)
    assert (np.diff(rows[:, 2].astype(np.float32)) >= 0).all()


def test_the_loss_falls_to_nothing_for_the_right_answer_and_ignores_frames_without_labels():
    rows = torch.from_numpy(
        np.concatenate([_rows([(ActorKind.CAR, 18.5, 4.0, 0.7, 0.0, 5.0)]), unknown_rows(1)])
    )
    right = torch.full((2, 3 * SIDE * SIDE, SIGHT_OUTPUTS), -30.0)
    for cell, name, *motion in rows[0][rows[0, :, 0] >= 0].tolist():
        right[0, int(cell), int(name)] = 30.0
        right[0, int(cell), len(CLASSES) :] = torch.tensor(motion)
    assert float(sight_loss(right, rows)) == pytest.approx(0.0, abs=1e-5)
    wrong = right.clone()
    wrong[1] = 30.0
    assert float(sight_loss(wrong, rows)) == pytest.approx(0.0, abs=1e-5)
    wrong[0] = -right[0]
    assert float(sight_loss(wrong, rows)) > 1.0
    assert (rows[1] == UNKNOWN).all()


def test_an_image_token_sees_its_own_part_of_the_picture():
    torch.manual_seed(0)
    model = TakeVLA(tiny_config(tiny_tokenizer(), size=TinySize(stem_width=8, stage_widths=(8, 8, 16))))
    tiles = torch.rand(3, 3, 128, 128, requires_grad=True)
    tokens = image_features(model.backbone, {"pixel_values": tiles}).tokens
    side = model.config.tile_side
    assert (side, len(tokens)) == (SIDE, 3 * SIDE * SIDE)
    for tile, row, column in ((0, 0, 3), (1, 3, 0), (2, 0, 3)):
        (weight,) = torch.autograd.grad(
            tokens[tile * side * side + row * side + column].sum(), tiles, retain_graph=True
        )
        blocks = weight.abs().sum(1).reshape(3, side, 32, side, 32).sum((2, 4))
        share = blocks[tile] / blocks.sum()
        assert float(share.sum()) == pytest.approx(1.0)  # and nothing of the other lenses
        assert float((share.sum(1) * torch.arange(4)).sum()) == pytest.approx(row, abs=1.2)
        assert float((share.sum(0) * torch.arange(4)).sum()) == pytest.approx(column, abs=1.2)


def test_the_model_knows_how_many_of_the_outputs_are_classes():
    assert len(CLASSES) == SIGHT_CLASSES
