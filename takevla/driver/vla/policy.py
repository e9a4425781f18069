"""`VlaDriver`: the VLA as a driver of many worlds in one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from takevla.driver.vla.device import CPU, half_precision_on, to_device
from takevla.driver.vla.inputs import frame_stack, image_inputs, navigation_inputs, pad_words
from takevla.driver.vla.lean import FLOAT32_PICTURES, ROWS, LeanReader, quickest_reader
from takevla.driver.vla.model import TakeVLA
from takevla.driver.vla.opening import OpeningHead
from takevla.driver.vla.residual import ResidualHead, bend, residual_features, while_moving
from takevla.driver.vla.tensors import Context, NavigationInput, PlanTensors
from takevla.driver.vla.tokenizer import decode_commentary, encode_commentary
from takevla.scene.plan import SPEED_WAYPOINTS, WAYPOINT_PERIOD_US, Observation, Plan
from takevla.world.camera.rig import Rig

PLAN_PERIOD_US = 250_000  # 4 Hz
# Un-sticking as SimLingo's agent does (benchmark facts 2.8): 800 ticks at rest, then 15 ticks of throttle.
STUCK_MPS = 0.1
STUCK_US = 40_000_000
CREEP_US = 750_000
CREEP_MPS = 3.0
OWN_WORDS = -1  # stands for no token: the commentary opens as the model and its head say
Prompter = Callable[[Observation], str]  # commentary to force upon the model for this observation


@dataclass
class Thought:
    """What one pass of the policy yields for B rows, before the residual."""

    words: torch.Tensor  # (B, W) int64, padded on the right
    plan: PlanTensors


@dataclass
class Openings:
    """What a model would say and plan for B rows, for each of A first words."""

    features: torch.Tensor  # (B, D) float32 hidden states behind the prompt
    speed_mps: torch.Tensor  # (B,) of the ego
    scores: torch.Tensor  # (B, A) float32 the model's own, of the openings' first words
    thoughts: list[Thought]  # A


class VlaDriver:
    """Drives by camera: says its commentary word by word, then plans.

    Args:
        model: in evaluation mode, on the device on which it shall drive; observations and plans stay on the
            CPU.
        tokenizer: the model's own.
        commentary: False plans without words (faster, no text).
        residual: a head learned in dreams; its mode bends the plan while the ego moves.
        opening: a head learned in dreams of words; it favours how the commentary opens.
        forced: commentary given instead of generated, for tests of whether words matter.
        period_us: time between plans.
        half_precision: bfloat16 matrix products (float32 sums and heads); None: where they are quicker.
        rig: the camera that the model was trained with, None for the default one.
    """

    needs_image = True
    needs_privilege = False

    def __init__(
        self,
        model: TakeVLA,
        tokenizer: PreTrainedTokenizerFast,
        commentary: bool = True,
        residual: ResidualHead | None = None,
        opening: OpeningHead | None = None,
        forced: Prompter | None = None,
        period_us: int = PLAN_PERIOD_US,
        half_precision: bool | None = None,
        name: str = "vla",
        rig: Rig | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.commentary = commentary
        self.residual = residual
        self.opening = opening
        self.forced = forced
        self.period_us = period_us
        self.half_precision = half_precision_on(model.device, half_precision)
        self.name = name
        self._reader = quickest_reader(model.backbone, self.half_precision)
        self._rows = ROWS if isinstance(self._reader, LeanReader) else 0  # of every batch; 0: any number
        self.rig = rig or Rig()
        self._still_since_us: dict[int, int] = {}  # by seat

    def reset(self, seats: Sequence[int]) -> None:
        """Forget since when these seats stand: the only thing that is remembered between plans."""
        for seat in seats:
            self._still_since_us.pop(seat, None)

    def plan(self, observations: Sequence[Observation]) -> list[Plan]:
        """One plan for each observation, in one batch.

        After `STUCK_US` at rest the waypoints creep along the planned route for `CREEP_US`.
        """
        if not observations:
            return []
        given = None
        if self.forced is not None:
            given = [self._encode(self.forced(item)) for item in observations]
        navigation = navigation_inputs(observations)
        thought = self.think(
            torch.from_numpy(frame_stack(observations, self.model.config.sees_past)),
            navigation,
            given,
        )
        route, waypoints = thought.plan.route_ego, thought.plan.waypoints_ego
        if self.residual is not None:
            with torch.inference_mode():
                features = residual_features(thought.plan.action_features)
                spare = -len(features) % self._rows if self._rows else 0
                features = functional.pad(features, (0, 0, 0, spare))
                z = self.residual(features).mean[: len(route)]
                route, waypoints = bend(route, waypoints, while_moving(z, navigation.speed_mps))
        stuck = [self._stuck(observation) for observation in observations]
        return [
            Plan(
                route_ego=route[row].numpy(),
                waypoints_ego=creeping(route[row].numpy()) if stuck[row] else waypoints[row].numpy(),
                commentary=decode_commentary(self.tokenizer, thought.words[row].tolist()),
            )
            for row in range(len(observations))
        ]

    def _stuck(self, observation: Observation) -> bool:
        """Whether this seat has stood for so long that it creeps now."""
        seat, now = observation.seat, observation.time_us
        since = self._still_since_us.get(seat, now)
        creeps = STUCK_US <= now - since < STUCK_US + CREEP_US
        if not creeps and (observation.speed_mps >= STUCK_MPS or now - since >= STUCK_US):
            since = now
        self._still_since_us[seat] = since
        return creeps

    @torch.inference_mode()
    def think(
        self,
        images: torch.Tensor,
        navigation: NavigationInput,
        given: Sequence[Sequence[int]] | None = None,
        opens: Sequence[int] | None = None,
    ) -> Thought:
        """Commentary and plan of a batch.

        `images` (B, H, W, 3) uint8, (B, H, W, 6) for a model that sees the past; `given` are token lists
        that replace the generated commentary; `opens` are first words that it goes on from, `OWN_WORDS`
        for a row that shall choose its own.
        The result is on the CPU.  Its action features are what a residual head is trained on.
        """
        rows = len(images)
        size = self._rows or rows
        parts = []
        for first in range(0, rows, size):
            some = slice(first, first + size)
            parts.append(
                self._think(
                    images[some],
                    navigation.rows(some),
                    None if given is None else given[some],
                    [] if opens is None else opens[some],
                )
            )
        return parts[0] if len(parts) == 1 else _joined(parts, self.model.config.pad_token_id)

    def _think(
        self,
        images: torch.Tensor,
        navigation: NavigationInput,
        given: Sequence[Sequence[int]] | None,
        opens: Sequence[int],
    ) -> Thought:
        """As `think` for no more rows than the reader takes at once; where they are fewer others fill up."""
        model, rows = self.model, len(images)
        spare = max(self._rows - rows, 0)
        device = model.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.half_precision):
            told = to_device(navigation.filled(spare), device)
            context = self._read(images, told)
            if given is not None:
                words = pad_words([*given, *[()] * spare], model.config.pad_token_id).to(device)
                model.listen(context, words)
            elif self.commentary:
                first = model.first_scores(context)
                if self.opening is not None:
                    first = self.opening.favoured(first, context.last_hidden, told.speed_mps)
                for row, token in enumerate(opens):
                    if token != OWN_WORDS:
                        first[row] = functional.one_hot(torch.tensor(token), first.shape[1])
                words = model.speak(context, first)
            else:
                words = torch.zeros(context.rows, 0, dtype=torch.long, device=device)
            plan = model.plan(context, words)
        return to_device(_first_rows(Thought(words, plan), rows), torch.device(CPU))

    def _read(self, images: torch.Tensor, navigation: NavigationInput) -> Context:
        """Read the prompt of `images`; in float32 black ones fill them up (see `lean`)."""
        rows = len(images)
        if self._rows and not self.half_precision:
            images = functional.pad(images, (0, 0, 0, 0, 0, 0, 0, -rows % FLOAT32_PICTURES))
        pictures = to_device(image_inputs(images, self.model.config), self.model.device)
        context = self.model.read_prompt(pictures, navigation, self._reader)
        context.seeing = rows
        return context

    @torch.inference_mode()
    def openings(self, images: torch.Tensor, navigation: NavigationInput, ids: Sequence[int]) -> Openings:
        """As `think`, for each of the tokens `ids` as the first word; what the head favours is left out."""
        model, rows, device = self.model, len(images), self.model.device
        spare = -rows % self._rows if self._rows else 0
        if self._rows and rows > self._rows:
            raise ValueError(f"{rows} rows; openings are read {self._rows} at a time")
        with torch.autocast(device.type, torch.bfloat16, enabled=self.half_precision):
            context = self._read(images, to_device(navigation.filled(spare), device))
            scores = model.first_scores(context).float()
            thoughts = []
            for token in ids:
                forced = functional.one_hot(torch.full((len(scores),), token), scores.shape[1]).to(scores)
                words = model.speak(context, forced)
                thoughts.append(_first_rows(Thought(words, model.plan(context, words)), rows))
                self._reader.rewind(context.cache, len(model.config.prompt_ids))
        hidden, speed_mps = context.last_hidden[:rows].float(), navigation.speed_mps
        return to_device(Openings(hidden, speed_mps, scores[:rows, list(ids)], thoughts), torch.device(CPU))

    def _encode(self, sentence: str) -> list[int]:
        return encode_commentary(self.tokenizer, sentence, self.model.config.max_words)


def _first_rows(thought: Thought, rows: int) -> Thought:
    """Without the rows that only fill the batch."""
    plan = thought.plan
    return Thought(
        thought.words[:rows],
        PlanTensors(plan.route_ego[:rows], plan.waypoints_ego[:rows], plan.action_features[:rows]),
    )


def _joined(parts: Sequence[Thought], pad_token_id: int) -> Thought:
    """Thoughts of several batches as one."""
    longest = max(one.words.shape[1] for one in parts)
    words = [
        functional.pad(one.words, (0, longest - one.words.shape[1]), value=pad_token_id) for one in parts
    ]
    plans = [one.plan for one in parts]
    return Thought(
        torch.cat(words),
        PlanTensors(
            torch.cat([one.route_ego for one in plans]),
            torch.cat([one.waypoints_ego for one in plans]),
            torch.cat([one.action_features for one in plans]),
        ),
    )


def creeping(route_ego: NDArray[np.float32]) -> NDArray[np.float32]:
    """Speed waypoints (10, 2) at `CREEP_MPS` along a planned route (20, 2)."""
    path = np.concatenate([np.zeros((1, 2), np.float32), route_ego])
    s = np.concatenate([[0.0], np.linalg.norm(np.diff(path, axis=0), axis=1).cumsum()])
    wanted = CREEP_MPS * WAYPOINT_PERIOD_US / 1e6 * np.arange(1, SPEED_WAYPOINTS + 1)
    along = [np.interp(wanted, s, path[:, axis]) for axis in range(2)]
    return np.stack(along, axis=1).astype(np.float32)
