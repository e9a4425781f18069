"""What fine-tuning learns from: samples of every kind that a recipe mixes, and how often each is drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from takevla.dataset.reader import Dataset, numpy_column
from takevla.driver.vla.config import TakeVLAConfig
from takevla.learn.balance import demonstrated, frame_strata
from takevla.learn.pool import Pool
from takevla.learn.samples import Samples, frame_samples, join_samples
from takevla.learn.settings import PRE_TAKEOVER, PRETRAINING, SHADOW, TAKEOVER, SftConfig
from takevla.scene.plan import SPEED_WAYPOINTS, Action

EXTRA_EXPERT = "extra_expert"
PLAIN, ENHANCED = "expert_commentary", "enhanced_commentary"


@dataclass(frozen=True)
class Lesson:
    """Frames of a collection that teach one thing."""

    kind: str
    trigger: str  # "" where the model drove on and an expert only watched
    frames: NDArray[np.int64]


class Gathering:
    """Samples as they are read from datasets, and the pool that they are drawn from.

    `taken` counts the frames that the takeovers give, by kind, also where they are not learned from.
    """

    def __init__(self, config: SftConfig, model: TakeVLAConfig, tokenizer: PreTrainedTokenizerFast) -> None:
        self.taken: Counter[str] = Counter()
        self._config, self._model, self._tokenizer = config, model, tokenizer
        self._parts: list[Samples] = []
        self._pool = Pool()
        self._kinds: dict[str, float] = {PRETRAINING: config.pretraining_ratio}

    def samples(self) -> Samples:
        """All samples, in the order in which they were read."""
        return join_samples(self._parts)

    def buckets(self) -> dict[str, NDArray[np.int64]]:
        """Numbers of the samples in each bucket, by its name."""
        return self._pool.buckets

    def ratios(self) -> dict[str, float]:
        """Ratio in which each bucket is drawn; ValueError where a kind with a ratio has no frame."""
        return self._pool.ratios(self._kinds)

    def rehearse(self, dataset: Dataset) -> None:
        """Demonstrations, which keep the old skill."""
        self._add_balanced(PRETRAINING, dataset, np.flatnonzero(demonstrated(dataset)))

    def teach(self, datasets: Sequence[Dataset]) -> None:
        """Takeovers, what was said before them, and the model's own drives that an expert watched."""
        config = self._config
        self._kinds |= config.taught_ratios
        for dataset in datasets:
            for lesson in lessons(config, dataset):
                self.taken[lesson.kind] += len(lesson.frames)
                if lesson.kind == SHADOW:
                    self._add_balanced(SHADOW, dataset, lesson.frames)
                else:
                    self._add(lesson, dataset)

    def teach_instead(self, datasets: Sequence[Dataset], extra: Sequence[Dataset]) -> None:
        """As many frames of `extra`, the expert driving by himself, as these takeovers would give, or as
        could be drawn if they gave more; balanced as demonstrations are.
        """
        config = self._config
        for dataset in datasets:
            for lesson in lessons(config, dataset):
                self.taken[lesson.kind] += len(lesson.frames)
        self._kinds[EXTRA_EXPERT] = share = sum(config.taught_ratios.values())
        given = sum(self.taken[kind] for kind, ratio in config.taught_ratios.items() if ratio > 0.0)
        wanted = min(given, round(config.draws * share / sum(self._kinds.values())))
        for dataset, frames in _extra_frames(extra, wanted, config.train.seed):
            self._add_balanced(EXTRA_EXPERT, dataset, frames)

    def _read(self, dataset: Dataset, frames: NDArray[np.int64], said: str = PLAIN, acts: bool = True) -> int:
        """Samples of these frames; gives the number of the first."""
        first = sum(len(part) for part in self._parts)
        words, side, past = self._model.max_words, self._model.tile_side, self._model.sees_past
        self._parts.append(frame_samples(dataset, frames, self._tokenizer, words, said, acts, side, past))
        return first

    def _add(self, lesson: Lesson, dataset: Dataset) -> None:
        """A takeover's frames, or those before it, in the share of its trigger."""
        config, before = self._config, lesson.kind == PRE_TAKEOVER
        first = self._read(
            dataset,
            lesson.frames,
            said=ENHANCED if before and config.enhanced else PLAIN,
            acts=config.pre_takeover_acts if before else True,
        )
        for level, rows, weight in _by_error(config, dataset, lesson.frames):
            self._pool.add(lesson.kind, lesson.trigger, level, first + rows, weight)
        self._pool.weigh(lesson.kind, lesson.trigger, config.triggers[lesson.trigger])

    def _add_balanced(self, kind: str, dataset: Dataset, frames: NDArray[np.int64]) -> None:
        """Ordinary driving, every situation in its share."""
        config, first = self._config, self._read(dataset, frames)
        strata = frame_strata(dataset, frames, config.bucket_weights, config.standstill_weight)
        errors = _by_error(config, dataset, frames) if kind == SHADOW else _unsplit(frames)
        for level, rows, weight in errors:
            for name in np.unique(strata.name[rows]):
                some = rows[strata.name[rows] == name]
                self._pool.add(kind, name, level, first + some, weight * float(strata.weight[some[0]]))


def lessons(config: SftConfig, dataset: Dataset) -> list[Lesson]:
    """What a collection teaches by a recipe: first where an expert only watched, then by trigger the frames
    before and during its takeovers.
    """
    found = []
    if config.shadow_ratio > 0.0:
        found.append(Lesson(SHADOW, "", _frames(dataset, "other")))
    for trigger in (name for name, weight in config.triggers.items() if weight > 0.0):
        before, during = _taught_frames(dataset, trigger, config.standing_every)
        if not config.pre_takeover_acts:  # plain words are taught where enhanced ones would be
            before = before[dataset.column(ENHANCED)[before] != ""]
        found += [Lesson(PRE_TAKEOVER, trigger, before), Lesson(TAKEOVER, trigger, during)]
    return found


def _unsplit(frames: NDArray[np.int64]) -> list[tuple[str, NDArray[np.int64], float]]:
    return [("", np.arange(len(frames)), 1.0)]


def _by_error(
    config: SftConfig, dataset: Dataset, frames: NDArray[np.int64]
) -> list[tuple[str, NDArray[np.int64], float]]:
    """Levels of error at `frames` of the model's own drives: name, numbers of the frames, weight of each."""
    if len(set(config.error_weights)) == 1:
        return _unsplit(frames)
    own, wanted = (
        dataset.column(f"{who}_waypoints_ego")[frames].reshape(-1, SPEED_WAYPOINTS, 2)
        for who in ("policy", "expert")
    )
    apart_m = np.nan_to_num(np.linalg.norm(own - wanted, axis=-1).mean(axis=-1))
    level = np.searchsorted(config.error_edges_m, apart_m, side="right")
    names = ["right", *(f"{edge:g} m off" for edge in config.error_edges_m)]
    return [
        (name, np.flatnonzero(level == number), weight)
        for number, (name, weight) in enumerate(zip(names, config.error_weights, strict=True))
        if weight > 0.0
    ]


def _extra_frames(
    datasets: Sequence[Dataset], wanted: int, seed: int
) -> list[tuple[Dataset, NDArray[np.int64]]]:
    """Exactly `wanted` usable expert frames of all these datasets, drawn without replacement."""
    usable = [np.flatnonzero(demonstrated(dataset)) for dataset in datasets]
    found = sum(len(frames) for frames in usable)
    if found < wanted:
        raise ValueError(
            f"extra expert frames: {found} where the takeovers give {wanted}; collect on more routes"
        )
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, wanted])))
    kept = np.sort(generator.choice(found, wanted, replace=False))
    starts = np.cumsum([0, *(len(frames) for frames in usable)])
    return [
        (dataset, frames[kept[(kept >= start) & (kept < start + len(frames))] - start])
        for dataset, frames, start in zip(datasets, usable, starts[:-1], strict=True)
    ]


def _taught_frames(
    dataset: Dataset, trigger: str, standing_every: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Frames before and during the takeovers by a trigger."""
    table = dataset.takeovers
    names = numpy_column(table, "takeover")[numpy_column(table, "trigger").astype(str) == trigger]
    chosen = np.isin(dataset.column("takeover"), names)
    before, during = _frames(dataset, "pre_takeover"), _frames(dataset, "takeover")
    return before[chosen[before]], during[(chosen & telling(dataset, standing_every))[during]]


def telling(dataset: Dataset, standing_every: int) -> NDArray[np.bool_]:
    """Frames that show something new: of a stand within a takeover, the first and one in so many after it."""
    stands = dataset.column("expert_action") == int(Action.REMAIN_STOPPED)
    role, of = dataset.column("role"), dataset.column("takeover")
    number = np.arange(len(stands))
    alike = (role[1:] == role[:-1]) & (of[1:] == of[:-1])
    goes_on = np.concatenate([np.zeros(1, np.bool_), stands[1:] & stands[:-1] & alike])[: len(stands)]
    first = np.maximum.accumulate(np.where(goes_on, 0, number)) if len(number) else number
    return ~stands | ((number - first) % standing_every == 0)


def _frames(dataset: Dataset, role: str) -> NDArray[np.int64]:
    """Frames of this role that have an expert's plan."""
    usable = dataset.column("role") == role
    usable &= np.isfinite(dataset.column("expert_waypoints_ego")).all(axis=1)
    return np.flatnonzero(usable)
