"""Open-loop figures of a model on frames it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerFast

from takevla.driver.vla.model import TakeVLA
from takevla.driver.vla.policy import VlaDriver
from takevla.driver.vla.tokenizer import decode_commentary
from takevla.learn.samples import Samples, make_batch
from takevla.scene.plan import WAYPOINT_PERIOD_US
from takevla.takeover.commentary import parse

BATCH = 32


@dataclass(frozen=True)
class Validation:
    """Means over the frames.  The model drives by its own words, not by the label's."""

    frames: int
    route_error_m: float  # distance of route points from the expert's
    waypoint_error_m: float  # distance of speed waypoints from the expert's
    final_speed_error_mps: float  # absolute, over the last half second of the plan
    action_right: float  # share of sentences whose action is the expert's
    manoeuvre_right: float
    cause_right: float
    sentence_right: float  # share of sentences that are the expert's word by word


def validate(model: TakeVLA, tokenizer: PreTrainedTokenizerFast, samples: Samples) -> Validation:
    """Drive every sample open loop and compare with its label."""
    driver = VlaDriver(model, tokenizer)
    model.train(False)
    rows: list[tuple[float, ...]] = []
    for start in range(0, len(samples), BATCH):
        numbers = np.arange(start, min(start + BATCH, len(samples)))
        batch = make_batch(samples, numbers, model.config.pad_token_id)
        thought = driver.think(batch.images, batch.navigation)
        route = (thought.plan.route_ego - batch.route_ego).norm(dim=-1).mean(-1)
        waypoints = (thought.plan.waypoints_ego - batch.waypoints_ego).norm(dim=-1).mean(-1)
        speed = _final_speed(thought.plan.waypoints_ego.numpy()) - _final_speed(batch.waypoints_ego.numpy())
        for row in range(len(numbers)):
            said = decode_commentary(tokenizer, thought.words[row].tolist())
            wanted = decode_commentary(tokenizer, batch.words[row].tolist())
            rows.append(
                (
                    float(route[row]),
                    float(waypoints[row]),
                    abs(float(speed[row])),
                    *_agreement(said, wanted),
                    float(said == wanted),
                )
            )
    means = np.mean(np.array(rows), axis=0)
    return Validation(len(rows), *(round(float(value), 4) for value in means))


def _final_speed(
    waypoints: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    moved: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = np.linalg.norm(
        waypoints[:, -1] - waypoints[:, -3], axis=-1
    )
    return moved / (2 * WAYPOINT_PERIOD_US / 1e6)


def _agreement(said: str, wanted: str) -> tuple[float, float, float]:
    """Whether action, manoeuvre and cause agree; a sentence outside the grammar agrees in nothing."""
    try:
        found, label = parse(said), parse(wanted)
    except ValueError:
        return 0.0, 0.0, 0.0
    return float(found[0] == label[0]), float(found[1] == label[1]), float(found[2] == label[2])
