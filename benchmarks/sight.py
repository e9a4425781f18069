"""What do the image tokens know?  The sight task's answers on frames of a dataset, by kind of road user.

    python benchmarks/sight.py --data DATASET [--model NAME] [--frames N] [--seed S] [--json FILE]

Of every road user within `--within` metres that is the nearest of its token: how often the token names it,
how far off its speed and its velocity across the ego's way are (beside them what the median, and what
nothing, would be off by), and how well the answers tell who moves from who stands, and who crosses from who
does not (area under the ROC curve; 0.5 is chance).  With `--rest` only frames at which the ego stands count:
there all motion in the picture is that of others.
Use a dataset that the model was not trained on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from takevla.dataset.reader import Dataset
from takevla.driver.vla.checkpoint import Checkpoint, load_checkpoint
from takevla.driver.vla.device import half_precision_on
from takevla.driver.vla.inputs import image_inputs
from takevla.driver.vla.named import model_folder
from takevla.files import write_json
from takevla.learn.samples import frame_samples, make_batch
from takevla.learn.sight import CLASSES, FAST_MPS, NEAR_M

ROAD_USERS = ("vehicle", "bicycle", "pedestrian")
MOVES_MPS, CROSSES_MPS = 1.0, 1.0
REST_MPS = 0.5
BATCH = 32
Float = NDArray[np.float32]


@torch.inference_mode()
def answers(checkpoint: Checkpoint, dataset: Dataset, frames: NDArray[np.int64]) -> tuple[Float, Float]:
    """What the tokens say (N, tokens, SIGHT_OUTPUTS), and what is true (N, ROWS, ROW)."""
    model, config = checkpoint.model, checkpoint.model.config  # as loaded: in evaluation mode
    said, true = [], []
    for first in range(0, len(frames), BATCH):
        some = frames[first : first + BATCH]
        samples = frame_samples(
            dataset, some, checkpoint.tokenizer, config.max_words,
            tile_side=config.tile_side, past=config.sees_past,
        )  # fmt: skip
        batch = make_batch(samples, np.arange(len(some)), config.pad_token_id)
        with torch.autocast("cpu", torch.bfloat16, enabled=half_precision_on(torch.device("cpu"))):
            output = model(image_inputs(batch.images, config), batch.navigation, batch.words)
        said.append(output.sight.float().numpy())
        true.append(batch.sight.float().numpy())
    return np.concatenate(said), np.concatenate(true)


def nearest(said: Float, true: Float, name: str) -> tuple[Float, Float]:
    """Answers (K, SIGHT_OUTPUTS) and rows of the things of this class that are the nearest of their token."""
    found, rows = [], []
    for answer, things in zip(said, true, strict=True):
        taken: set[int] = set()
        for row in things[things[:, 0] >= 0]:
            cell = int(row[0])
            if cell not in taken and CLASSES[int(row[1])] == name:
                found.append(answer[cell])
                rows.append(row)
            taken.add(cell)
    return np.array(found, np.float32).reshape(-1, said.shape[-1]), np.array(rows, np.float32).reshape(-1, 6)


def told_apart(score: Float, yes: NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve; None where all are alike."""
    if yes.all() or not yes.any():
        return None
    return round(float((score[yes][:, None] > score[~yes][None]).mean()), 3)


def judged(answer: Float, rows: Float, number: int) -> dict[str, Any]:
    """The figures of one class, the `number`th."""
    ahead, left, speed = (FAST_MPS * answer[:, len(CLASSES) + k] for k in (1, 2, 3))
    true_left, true_speed = FAST_MPS * rows[:, 4], FAST_MPS * rows[:, 5]
    crosses = np.abs(true_left) > CROSSES_MPS
    return {
        "count": len(rows),
        "named": round(float((answer[:, number] > 0).mean()), 3),
        "speed_off_mps": round(float(np.abs(speed - true_speed).mean()), 2),
        "speed_off_by_median_mps": round(float(np.abs(true_speed - np.median(true_speed)).mean()), 2),
        "moves_auc": told_apart(np.hypot(ahead, left), true_speed > MOVES_MPS),
        "crossing": int(crosses.sum()),
        "across_off_mps": round(float(np.abs(left - true_left).mean()), 2),
        "across_off_by_nothing_mps": round(float(np.abs(true_left).mean()), 2),
        "crosses_auc": told_apart(np.abs(left), crosses),
        "side_right": round(float((np.sign(left) == np.sign(true_left))[crosses].mean()), 3)
        if crosses.any()
        else None,
    }


def main() -> None:
    """Read, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="shipped")
    parser.add_argument("--frames", type=int, default=1600)
    parser.add_argument("--within", type=float, default=30.0, help="metres")
    parser.add_argument("--rest", action="store_true", help="only frames at which the ego stands")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    checkpoint, dataset = load_checkpoint(model_folder(asked.model)), Dataset(asked.data)
    if not checkpoint.model.config.sight_outputs:
        raise SystemExit(f"{asked.model}: has no sight head; train it with pretrain.sight")
    usable = np.isfinite(dataset.column("expert_waypoints_ego")).all(axis=1)
    if asked.rest:
        usable &= dataset.column("speed_mps") < REST_MPS
    frames = np.flatnonzero(usable)
    chance = np.random.default_rng(asked.seed)
    frames = np.sort(chance.choice(frames, min(asked.frames, len(frames)), replace=False))
    said, true = answers(checkpoint, dataset, frames)
    content: dict[str, Any] = {
        "model": asked.model, "data": asked.data.name, "frames": len(frames), "within_m": asked.within,
        "rest": asked.rest, "seed": asked.seed,
    }  # fmt: skip
    for name in ROAD_USERS:
        answer, rows = nearest(said, true, name)
        near = NEAR_M * np.exp(rows[:, 2]) < asked.within
        if near.any():
            content[name] = judged(answer[near], rows[near], CLASSES.index(name))
    print(json.dumps(content, indent=1))
    if asked.json:
        write_json(asked.json, content)


if __name__ == "__main__":
    main()
