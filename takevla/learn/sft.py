"""Supervised fine-tuning on takeovers: what should have been said before, and done after.

The mixture is audited: pre-training frames keep the old skill, frames before a takeover teach the
enhanced commentary (by language alone unless the recipe says otherwise: the expert was not driving
there, so its plan does not answer the model's own approach), frames of the takeover teach language
and action.  An expert who watches all along (a program, not a person) can teach more: what it would have
said and done where the model itself drove, as DAgger does; not within the window before a takeover, which is
the pre-takeover share's alone, also where that share is 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from takevla.dataset.mixture import Mixture
from takevla.dataset.reader import Dataset, numpy_column
from takevla.driver.vla.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from takevla.driver.vla.device import CPU
from takevla.driver.vla.lora import ADAPTERS_FOLDER, Trainable, merge, prepare, save_adapters
from takevla.learn.balance import (
    BUCKET_WEIGHTS,
    STANDSTILL_WEIGHT,
    check_buckets,
    demonstrated,
    frame_strata,
)
from takevla.learn.pool import Pool
from takevla.learn.pretrain import MODEL_FOLDER
from takevla.learn.samples import Samples, common_rig, frame_samples, join_samples
from takevla.learn.trainer import TrainConfig, Trainer, write_notes
from takevla.scale import processes
from takevla.scene.plan import SPEED_WAYPOINTS, Action
from takevla.takeover.triggers import checked_triggers

PRETRAINING, PRE_TAKEOVER, TAKEOVER, SHADOW = "pretraining", "pre_takeover", "takeover", "shadow"
EXTRA_EXPERT = "extra_expert"
# A takeover by FOLLOW shows ordinary driving for most of its length, one by COLLISION what is rare elsewhere.
TRIGGER_WEIGHTS: dict[str, float] = {"collision": 3.0, "rule": 2.0, "follow": 1.0, "restart": 1.0}


@dataclass(frozen=True)
class SftConfig:
    """The recipe of fine-tuning.

    Data: `draws` samples in all in the ratio pretraining : pre_takeover : takeover : shadow; a ratio of 0
    leaves a kind out.  Shadow frames are those that the model drove and that no takeover claims, with the
    plan and the words of the expert who watched.  Their share and that of pre-training are balanced by
    `bucket_weights` as pretraining is.
    `pre_takeover_acts` also learns the expert's plan before the takeover.
    `enhanced` False uses the plain commentary there.  Of the instants of a takeover at which the expert
    stands and stays one in `standing_every` is drawn, as demonstrations keep them: the others show the same.
    A frame of the model's own drives weighs, within its share, by how far its plan was off: by one of
    `error_weights` where the mean distance of its waypoints to the expert's, m, lies between two of
    `error_edges_m`, below the first, or above the last.
    `triggers` says in what ratio takeovers by each of them are drawn, however many there are; those of
    weight 0 teach nothing.
    Weights: `trainable` (LoRA or full, vision or not).
    """

    draws: int = 6_400
    pretraining_ratio: float = 0.7
    pre_takeover_ratio: float = 0.15
    takeover_ratio: float = 0.15
    shadow_ratio: float = 0.0
    bucket_weights: Mapping[str, float] = field(default_factory=lambda: dict(BUCKET_WEIGHTS))
    standstill_weight: float = STANDSTILL_WEIGHT
    pre_takeover_acts: bool = False
    enhanced: bool = True
    standing_every: int = 4
    error_edges_m: tuple[float, ...] = (0.5, 1.5)
    error_weights: tuple[float, ...] = (1.0, 1.0, 1.0)
    triggers: Mapping[str, float] = field(default_factory=lambda: dict(TRIGGER_WEIGHTS))
    max_repeats: int = 8
    trainable: Trainable = field(default_factory=Trainable)
    train: TrainConfig = field(default_factory=lambda: TrainConfig(learning_rate=5e-5, warmup_steps=30))

    def __post_init__(self) -> None:
        for name in ("draws", "max_repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"sft.{name}: {getattr(self, name)} must be at least 1")
        ratios = {"pretraining": self.pretraining_ratio} | _taught_ratios(self)
        for kind, ratio in ratios.items():
            if ratio < 0.0:
                raise ValueError(f"sft.{kind}_ratio: {ratio} is negative; 0 leaves a kind out")
        if not any(ratios.values()):
            raise ValueError("sft: every ratio is 0, so nothing is drawn; give one kind a share")
        if self.standing_every < 1:
            raise ValueError(f"sft.standing_every: {self.standing_every} must be at least 1; 1 draws all")
        edges, weights = self.error_edges_m, self.error_weights
        if len(weights) != len(edges) + 1 or list(edges) != sorted(edges) or min(weights) < 0.0:
            raise ValueError(
                f"sft.error_weights: {list(weights)} for error_edges_m {list(edges)}; give edges that grow, "
                "and one weight more than there are edges, none below 0"
            )
        checked_triggers([name for name, weight in self.triggers.items() if weight], "sft.triggers")


def sft(
    config: SftConfig,
    start: Path,
    pretraining: Path | Sequence[Path],
    takeovers: Path | Sequence[Path],
    out: Path,
    show: bool = True,
    extra_expert: Path | Sequence[Path] = (),
    device: str = CPU,
) -> Path:
    """Fine-tune the checkpoint `start` and return the folder of the new one.

    With `extra_expert`, datasets of the expert driving by himself, the takeovers only say how much is
    learnt: as many frames as they would give, or as could be drawn if they gave more, are taken of those
    instead, for their whole share of the mixture, balanced as those of pre-training are.  That is the control
    of a gain: as many frames and steps, no takeovers.
    `device` says where it trains, as `torch_device` names it.

    Writes into `out`: the trainer's state and curves, `mixture.json`, `sft.json`, `model/` and,
    with LoRA, `adapters/`.
    A killed run continues where it was.  A residual head of `start` is left behind: it was fitted to
    plans that fine-tuning moves.
    """
    rehearsed, taught, extra = _open(pretraining), _open(takeovers), _open(extra_expert)
    check_buckets(config.bucket_weights, [*rehearsed, *taught, *extra])
    rig = common_rig([*rehearsed, *taught, *extra])
    checkpoint = load_checkpoint(start)
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    torch.manual_seed(config.train.seed)
    prepare(model, config.trainable)
    words, side, past = model.config.max_words, model.config.tile_side, model.config.sees_past
    parts: list[Samples] = []
    pool = Pool()

    def add(
        kind: str, group: str, dataset: Dataset, frames: NDArray[np.int64], said: str, acts: bool = True
    ) -> None:
        first = sum(len(part) for part in parts)
        parts.append(frame_samples(dataset, frames, tokenizer, words, said, acts, side, past))
        for level, rows, weight in _by_error(config, dataset, frames):
            pool.add(kind, group, level, first + rows, weight)

    def add_balanced(kind: str, dataset: Dataset, frames: NDArray[np.int64]) -> None:
        first = sum(len(part) for part in parts)
        parts.append(frame_samples(dataset, frames, tokenizer, words, tile_side=side, past=past))
        strata = frame_strata(dataset, frames, config.bucket_weights, config.standstill_weight)
        errors = _by_error(config, dataset, frames) if kind == SHADOW else _unsplit(frames)
        for level, rows, weight in errors:
            for name in np.unique(strata.name[rows]):
                some = rows[strata.name[rows] == name]
                pool.add(kind, name, level, first + some, weight * float(strata.weight[some[0]]))

    for dataset in rehearsed:
        add_balanced(PRETRAINING, dataset, np.flatnonzero(demonstrated(dataset)))
    taken: Counter[str] = Counter()  # frames that the takeovers give, by kind
    urgent = "enhanced_commentary" if config.enhanced else "expert_commentary"
    for dataset in taught:
        if config.shadow_ratio > 0.0:
            watched = _frames(dataset, "other")
            taken[SHADOW] += len(watched)
            if not extra:
                add_balanced(SHADOW, dataset, watched)
        for trigger, weight in config.triggers.items():
            if weight <= 0.0:
                continue
            before, during = _taught_frames(dataset, trigger, config.standing_every)
            if not config.pre_takeover_acts:  # plain words are taught where enhanced ones would be
                before = before[dataset.column("enhanced_commentary")[before] != ""]
            taken.update({PRE_TAKEOVER: len(before), TAKEOVER: len(during)})
            if extra:
                continue
            add(PRE_TAKEOVER, trigger, dataset, before, urgent, config.pre_takeover_acts)
            add(TAKEOVER, trigger, dataset, during, "expert_commentary")
            for kind in (PRE_TAKEOVER, TAKEOVER):
                pool.weigh(kind, trigger, weight)
    kinds = {PRETRAINING: config.pretraining_ratio}
    if extra:
        kinds[EXTRA_EXPERT] = sum(_taught_ratios(config).values())
        given = sum(taken[kind] for kind, ratio in _taught_ratios(config).items() if ratio > 0.0)
        wanted = min(given, round(config.draws * kinds[EXTRA_EXPERT] / sum(kinds.values())))
        for dataset, frames in _extra_frames(extra, wanted, config.train.seed):
            add_balanced(EXTRA_EXPERT, dataset, frames)
    else:
        kinds |= _taught_ratios(config)
    samples, buckets = join_samples(parts), pool.buckets
    draws = _draws(config, buckets, pool.ratios(kinds), out)
    trainer = Trainer(model, samples, draws, config.train, out, device)
    trainer.run(show=show)
    if config.trainable.lora_rank > 0 and trainer.leads:
        save_adapters(model, out / ADAPTERS_FOLDER)
    merge(model)
    if trainer.leads:
        save_checkpoint(out / MODEL_FOLDER, Checkpoint(model, tokenizer, rig=rig))
    write_notes(
        out / "sft.json",
        {
            "recipe": asdict(config),
            "start": start.name,
            "frames": {bucket: len(rows) for bucket, rows in buckets.items()},
            "frames_of_takeovers": dict(taken),
            "trained_weights": int(sum(value.numel() for value in trainer.trained.values())),
        },
    )
    return out / MODEL_FOLDER


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


def _taught_ratios(config: SftConfig) -> dict[str, float]:
    """Ratios of the kinds that come from the model's own drives."""
    return {
        PRE_TAKEOVER: config.pre_takeover_ratio,
        TAKEOVER: config.takeover_ratio,
        SHADOW: config.shadow_ratio,
    }


def _draws(
    config: SftConfig, members: Mapping[str, NDArray[np.int64]], ratios: Mapping[str, float], out: Path
) -> NDArray[np.int64]:
    """The order of samples, with its audit written to `out`."""
    mixture = Mixture(members, ratios, config.train.seed, max_repeats=config.max_repeats)
    order, audit = mixture.drawn(config.draws)
    out.mkdir(parents=True, exist_ok=True)
    if processes().leads:
        audit.write(out / "mixture.json")
        if audit.draws < config.draws:
            Console(stderr=True).print(
                f"sft.draws: {config.draws} are asked, {audit.draws} can be drawn with sft.max_repeats "
                f"{config.max_repeats}; it learns from those",
                highlight=False,
            )
    return order


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
    return before[chosen[before]], during[(chosen & _telling(dataset, standing_every))[during]]


def _telling(dataset: Dataset, standing_every: int) -> NDArray[np.bool_]:
    """Frames that show something new: of a stand within a takeover, the first and one in so many after it."""
    stands = dataset.column("expert_action") == int(Action.REMAIN_STOPPED)
    role, of = dataset.column("role"), dataset.column("takeover")
    number = np.arange(len(stands))
    alike = (role[1:] == role[:-1]) & (of[1:] == of[:-1])
    goes_on = np.concatenate([np.zeros(1, np.bool_), stands[1:] & stands[:-1] & alike])[: len(stands)]
    first = np.maximum.accumulate(np.where(goes_on, 0, number)) if len(number) else number
    return ~stands | ((number - first) % standing_every == 0)


def _open(paths: Path | Sequence[Path]) -> list[Dataset]:
    return [Dataset(path) for path in ([paths] if isinstance(paths, Path) else paths)]


def _frames(dataset: Dataset, role: str) -> NDArray[np.int64]:
    """Frames of this role that have an expert's plan."""
    usable = dataset.column("role") == role
    usable &= np.isfinite(dataset.column("expert_waypoints_ego")).all(axis=1)
    return np.flatnonzero(usable)
