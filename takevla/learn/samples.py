"""Training samples: frames with what is to be said and done in them, and batches made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from takevla.dataset.reader import Dataset
from takevla.driver.vla.inputs import pad_words
from takevla.driver.vla.tensors import NavigationInput
from takevla.driver.vla.tokenizer import encode_commentary
from takevla.learn.sight import sight_rows, unknown_rows
from takevla.scene.plan import ROUTE_POINTS, SPEED_WAYPOINTS
from takevla.world.camera.rig import Rig

TILE_SIDE = 4  # image tokens along a side of a tile of the default size
ImageSource = Callable[[int], NDArray[np.uint8]]  # sample number to its (H, W, 3 or 6) RGB frame


@dataclass(frozen=True)
class Labels:
    """N samples without their images, as struct-of-arrays.

    A sample teaches language where `says`, and the plan where `acts`.
    """

    speed_mps: NDArray[np.float32]  # (N,)
    target_points_ego: NDArray[np.float32]  # (N, 2, 2) m
    option: NDArray[np.int64]  # (N,) RouteOption
    next_option: NDArray[np.int64]  # (N,) RouteOption
    route_ego: NDArray[np.float32]  # (N, 20, 2) m
    waypoints_ego: NDArray[np.float32]  # (N, 10, 2) m
    words: tuple[tuple[int, ...], ...]  # N token lists without the end token
    says: NDArray[np.bool_]  # (N,)
    acts: NDArray[np.bool_]  # (N,)
    sight: NDArray[np.float16]  # (N, ROWS, ROW) what there is to be seen, see `takevla.learn.sight`

    def __len__(self) -> int:
        return len(self.speed_mps)


@dataclass(frozen=True)
class Samples:
    """Labels and where their images come from."""

    labels: Labels
    image: ImageSource

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class Batch:
    """B samples as tensors, before augmentation."""

    images: torch.Tensor  # (B, H, W, C) uint8, C is 3, or 6 with the past picture
    navigation: NavigationInput
    words: torch.Tensor  # (B, W) int64, padded on the right
    route_ego: torch.Tensor  # (B, 20, 2) float32
    waypoints_ego: torch.Tensor  # (B, 10, 2) float32
    says: torch.Tensor  # (B,) bool
    acts: torch.Tensor  # (B,) bool
    sight: torch.Tensor  # (B, ROWS, ROW) float16


def frame_samples(
    dataset: Dataset,
    frames: NDArray[np.int64],
    tokenizer: PreTrainedTokenizerFast,
    max_words: int,
    commentary: str = "expert_commentary",
    acts: bool = True,
    tile_side: int = TILE_SIDE,
    past: bool = False,
) -> Samples:
    """Samples of these frames of a dataset, labelled with the expert's plan.

    Args:
        dataset: the collected frames; images are decoded when a batch asks for them.
        frames: indices into `dataset.frames`.
        tokenizer: the model's; a word it does not know raises `ValueError`.
        max_words: longest commentary in tokens.
        commentary: column with the sentence to be said; frames where it is empty teach no language.
        acts: whether the expert's plan is a label, or these frames teach language alone.
        tile_side: image tokens along a side of the model's square tiles, 0 for a model without any.
        past: whether the model sees the past picture too.
    """
    sentences = dataset.frames.column(commentary).take(frames).to_pylist()
    spelled = {sentence: _spell(sentence, tokenizer, max_words) for sentence in dict.fromkeys(sentences)}
    words = tuple(spelled[sentence] for sentence in sentences)
    count = len(frames)
    labels = Labels(
        speed_mps=dataset.column("speed_mps")[frames].astype(np.float32),
        target_points_ego=dataset.column("target_points_ego")[frames].reshape(count, 2, 2).astype(np.float32),
        option=dataset.column("option")[frames].astype(np.int64),
        next_option=dataset.column("next_option")[frames].astype(np.int64),
        route_ego=_points(dataset.column("expert_route_ego")[frames], ROUTE_POINTS),
        waypoints_ego=_points(dataset.column("expert_waypoints_ego")[frames], SPEED_WAYPOINTS),
        words=words,
        says=np.array([bool(row) for row in words], bool),
        acts=np.full(count, acts),
        sight=_sight(dataset, frames, tile_side),
    )
    return Samples(labels, lambda number: dataset.pictures(int(frames[number]), past))


def join_samples(parts: Sequence[Samples]) -> Samples:
    """All samples of `parts` behind one another."""
    starts = np.cumsum([0, *(len(part) for part in parts)])

    def image(number: int) -> NDArray[np.uint8]:
        part = int(np.searchsorted(starts, number, side="right")) - 1
        return parts[part].image(number - int(starts[part]))

    columns: dict[str, Any] = {}
    for column in fields(Labels):
        values = [getattr(part.labels, column.name) for part in parts]
        if column.name == "words":
            columns[column.name] = tuple(row for value in values for row in value)
        else:
            columns[column.name] = np.concatenate(values)
    return Samples(Labels(**columns), image)


def make_batch(samples: Samples, numbers: NDArray[np.int64], pad_token_id: int) -> Batch:
    """The samples of these numbers as tensors."""
    labels = samples.labels
    return Batch(
        images=torch.from_numpy(np.stack([samples.image(int(number)) for number in numbers])),
        navigation=NavigationInput(
            speed_mps=torch.from_numpy(labels.speed_mps[numbers]),
            speed_known=torch.ones(len(numbers), dtype=torch.bool),
            target_points_ego=torch.from_numpy(labels.target_points_ego[numbers]),
            option=torch.from_numpy(labels.option[numbers]),
            next_option=torch.from_numpy(labels.next_option[numbers]),
        ),
        words=pad_words([labels.words[int(number)] for number in numbers], pad_token_id),
        route_ego=torch.from_numpy(labels.route_ego[numbers]),
        waypoints_ego=torch.from_numpy(labels.waypoints_ego[numbers]),
        says=torch.from_numpy(labels.says[numbers]),
        acts=torch.from_numpy(labels.acts[numbers]),
        sight=torch.from_numpy(labels.sight[numbers]),
    )


def common_rig(datasets: Sequence[Dataset]) -> Rig:
    """The camera rig that all of these datasets were recorded with.

    Raises:
        ValueError: they differ, or one remembers no rig.
    """
    rigs: list[Rig] = []
    for dataset in datasets:
        try:
            rigs.append(Rig.of(dataset.meta["rig"]))
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(f"{dataset.path / 'meta.json'}: no camera rig ({error})") from error
        if rigs[-1] != rigs[0]:
            raise ValueError(
                f"{dataset.path}: recorded with another camera rig than {datasets[0].path}; a model has one "
                "rig: train on datasets whose `rig` in meta.json is the same"
            )
    return rigs[0]


def _sight(dataset: Dataset, frames: NDArray[np.int64], tile_side: int) -> NDArray[np.float16]:
    """What there is to be seen in these frames; unknown where the dataset was written without it."""
    if not tile_side or "seen_ego" not in dataset.frames.column_names:
        return unknown_rows(len(frames))
    rig = Rig.of(dataset.meta["rig"])
    return sight_rows(dataset.frames.column("seen_ego").take(frames), rig, tile_side)


def _points(flat: NDArray[np.float32], points: int) -> NDArray[np.float32]:
    plans = np.ascontiguousarray(flat.reshape(len(flat), points, 2), np.float32)
    if not np.isfinite(plans).all():
        row = int(np.flatnonzero(~np.isfinite(plans).all(axis=(1, 2)))[0])
        raise ValueError(
            f"sample {row}: the expert's plan is not finite; frames without one cannot be learnt"
        )
    return plans


def _spell(sentence: str, tokenizer: PreTrainedTokenizerFast, max_words: int) -> tuple[int, ...]:
    ids = encode_commentary(tokenizer, sentence, max_words)
    if tokenizer.unk_token_id in ids:
        raise ValueError(
            f"commentary {sentence!r}: a word is not in the model's vocabulary; train from a tokenizer "
            "that was made from this grammar"
        )
    return tuple(ids)
