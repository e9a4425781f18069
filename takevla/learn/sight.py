"""What the image tokens should know: which road users and lamps lie in their part of the picture.

An auxiliary task, as in TransFuser (Chitta et al. 2022): each image token says what has its middle in the
token's square of the picture, how far away it is and how it moves over ground, in the ego's frame.  It is
learned beside words and plan from labels that only training has.  Towers that compare the past picture tell
their answers to the words, when driving too (`takevla.driver.vla.vision.SightReader`); of others they are
read by nobody.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch.nn import functional

from takevla.scene.actors import ActorKind
from takevla.scene.road_map import LightState
from takevla.scene.sight import FIELDS, LAMP_KIND, UNSEEN_KIND
from takevla.world.camera.rig import Rig

CLASSES: Final = ("vehicle", "bicycle", "pedestrian", "obstacle", "green lamp", "yellow lamp", "red lamp")
MOTION: Final = 4  # ln of the distance over 10 m, velocity ahead and to the left and speed over 3 m/s
SIGHT_OUTPUTS: Final = len(CLASSES) + MOTION
ROWS: Final = 24  # sightings of a frame that are kept, nearest first; a thing counts once per lens
ROW: Final = 2 + MOTION  # cell, class, motion
NOTHING, UNKNOWN = -1, -2  # cell of an empty row, and of a frame without labels
RARE_WEIGHT: Final = 4.0  # of a square that holds something, against one that does not
MOTION_WEIGHT: Final = 1.0  # of the mean over what is seen, beside the sum over classes in the mean square
NEAR_M, FAST_MPS = 10.0, 3.0
_CLASS_OF: Final[dict[int, int]] = {
    **{kind: 0 for kind in ActorKind if kind < ActorKind.BICYCLE},
    ActorKind.BICYCLE: 1,
    ActorKind.PEDESTRIAN: 2,
    **{kind: 3 for kind in ActorKind if kind >= ActorKind.CONE},
    LAMP_KIND + LightState.GREEN: 4,
    LAMP_KIND + LightState.YELLOW: 5,
    LAMP_KIND + LightState.RED: 6,
}


def sight_rows(seen: pa.ChunkedArray, rig: Rig, side: int) -> NDArray[np.float16]:
    """(N, ROWS, ROW) of the column `seen_ego` of N frames: cell, class and motion of each sighting.

    `side` is the number of tokens along a side of a lens's tile; cells run tile by tile, row by row, as
    the model's image tokens do.  A thing of `UNSEEN_KIND` says that nobody knows what was to be seen.
    """
    lists = seen.combine_chunks()
    lists = pa.concat_arrays(lists.chunks) if isinstance(lists, pa.ChunkedArray) else lists
    things = lists.flatten().to_numpy(zero_copy_only=False).reshape(-1, FIELDS)
    counts = np.diff(lists.offsets.to_numpy()) // FIELDS
    frame = np.repeat(np.arange(len(lists)), counts)
    parts = []
    for lens, (yaw_deg, fov_deg) in enumerate(zip(rig.lens_yaws_deg, rig.lens_fovs_deg, strict=True)):
        eye = Rig(rig.lens_width, rig.height, rig.mount_m, (yaw_deg,), (fov_deg,))
        pixels, inside = eye.project(things[:, 1:4])
        at = np.flatnonzero(inside)
        column, row = (pixels[at] * side / np.array([rig.lens_width, rig.height])).astype(np.int64).T
        parts.append(np.stack([at, lens * side * side + row * side + column], axis=1))
    at, cell = np.concatenate(parts).T
    relative = things[at, 1:3] - np.array(rig.mount_m[:2])
    away = np.maximum(np.hypot(relative[:, 0], relative[:, 1]), 1.0)
    class_of = np.full(128, NOTHING)
    class_of[list(_CLASS_OF)] = list(_CLASS_OF.values())
    heading, speed = things[at, 4], things[at, 5]
    fast = speed / FAST_MPS
    motion = [np.log(away / NEAR_M), fast * np.cos(heading), fast * np.sin(heading), fast]
    rows = np.stack([cell, class_of[things[at, 0].astype(np.int64)], *motion], axis=1)
    order = np.lexsort((away, frame[at]))
    found = frame[at][order]
    rank = np.arange(len(found)) - np.searchsorted(found, found)
    kept = rank < ROWS
    result = np.full((len(lists), ROWS, ROW), NOTHING, np.float16)
    result[found[kept], rank[kept]] = rows[order][kept]
    result[frame[things[:, 0] == UNSEEN_KIND]] = UNKNOWN
    return result


def unknown_rows(frames: int) -> NDArray[np.float16]:
    """Rows of frames of a dataset without sightings."""
    return np.full((frames, ROWS, ROW), UNKNOWN, np.float16)


def sight_loss(answer: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Mean over cells of the cross-entropy of every class, and over the cells that hold something of the
    smooth L1 of the nearest thing's motion.

    `answer` (B, cells, SIGHT_OUTPUTS), `rows` (B, ROWS, ROW).  Frames without labels count nothing.
    """
    answer, rows = answer.float(), rows.float()
    known = (rows[:, 0, 0] != UNKNOWN).float()
    present = torch.zeros_like(answer[..., : len(CLASSES)])
    motion = torch.zeros_like(answer[..., len(CLASSES) :])
    for number in reversed(range(rows.shape[1])):  # the nearest comes last and stays
        batch = torch.nonzero(rows[:, number, 0] >= 0).flatten()
        cell = rows[batch, number, 0].long()
        present[batch, cell, rows[batch, number, 1].long()] = 1.0
        motion[batch, cell] = rows[batch, number, 2:]
    weight = 1.0 + (RARE_WEIGHT - 1.0) * present
    named = functional.binary_cross_entropy_with_logits(
        answer[..., : len(CLASSES)], present, weight, reduction="none"
    )
    off = functional.smooth_l1_loss(answer[..., len(CLASSES) :], motion, reduction="none").sum(-1)
    held = present.amax(-1) * known[:, None]
    named_mean = (named.sum(-1).mean(-1) * known).sum() / known.sum().clamp_min(1.0)
    return named_mean + MOTION_WEIGHT * (off * held).sum() / held.sum().clamp_min(1.0)
