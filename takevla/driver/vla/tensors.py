"""What goes into `TakeVLA` and comes out of it: records of tensors, a row for each world."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch

from takevla.driver.vla import backbone as adapter


@dataclass
class NavigationInput:
    """What the prompt carries beside the picture.  B rows.

    `speed_known` False hides the speed, as training does at times against inertia.
    """

    speed_mps: torch.Tensor  # (B,) float32
    speed_known: torch.Tensor  # (B,) bool
    target_points_ego: torch.Tensor  # (B, 2, 2) float32 m
    option: torch.Tensor  # (B,) int64 RouteOption
    next_option: torch.Tensor  # (B,) int64 RouteOption

    def rows(self, some: slice) -> NavigationInput:
        """These rows alone."""
        return NavigationInput(*(getattr(self, field.name)[some] for field in fields(self)))

    def filled(self, spare: int) -> NavigationInput:
        """With `spare` rows more, copies of the first."""
        if spare == 0:
            return self
        columns = [getattr(self, field.name) for field in fields(self)]
        return NavigationInput(*(torch.cat([one, one[:1].expand(spare, *one.shape[1:])]) for one in columns))


@dataclass
class PlanTensors:
    """Plans of B rows and the hidden states they were read from."""

    route_ego: torch.Tensor  # (B, 20, 2) float32 m
    waypoints_ego: torch.Tensor  # (B, 10, 2) float32 m
    action_features: torch.Tensor  # (B, 30, D) float32, last hidden states of the queries


@dataclass
class TrainingOutput:
    """One teacher-forced pass."""

    word_logits: torch.Tensor  # (B, W + 1, V): scores of word 1 .. W and of what follows it
    plan: PlanTensors
    sight: torch.Tensor | None  # (B, image tokens, sight_outputs) for models that have that head


@dataclass
class Prompt:
    """A prompt before it is read."""

    embeddings: torch.Tensor  # (B, P, D)
    told: torch.Tensor  # (B, P) bool: tokens that are there for this row
    image_tokens: int  # of the whole batch
    sight: torch.Tensor | None  # (rows with a picture, image tokens of each, sight_outputs)
    deep: adapter.DeepImage | None  # places (B, P)


@dataclass
class Context:
    """A prompt that has been read: the cache and the hidden state from which the first word comes."""

    reader: adapter.Reader
    cache: Any  # the reader's
    last_hidden: torch.Tensor  # (B, D)
    told: torch.Tensor  # (B, P) bool: tokens of the prompt that are there for this row
    rows: int
    seeing: int  # rows with a picture; the others only fill the batch
