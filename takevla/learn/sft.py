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
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from takevla.dataset.mixture import Mixture
from takevla.dataset.reader import Dataset, numpy_column
from takevla.driver.vla.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from takevla.driver.vla.device import CPU
from takevla.driver.vla.lora import ADAPTERS_FOLDER, merge, prepare, save_adapters
from takevla.learn.balance import check_buckets, demonstrated, frame_strata
from takevla.learn.pool import Pool
from takevla.learn.pretrain import MODEL_FOLDER
from takevla.learn.samples import Samples, common_rig, frame_samples, join_samples
from takevla.learn.settings import PRE_TAKEOVER, PRETRAINING, SHADOW, TAKEOVER, SftConfig
from takevla.learn.trainer import Trainer, write_notes
from takevla.scale import processes
from takevla.scene.plan import SPEED_WAYPOINTS, Action

EXTRA_EXPERT = "extra_expert"


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
        kinds[EXTRA_EXPERT] = sum(config.taught_ratios.values())
        given = sum(taken[kind] for kind, ratio in config.taught_ratios.items() if ratio > 0.0)
        wanted = min(given, round(config.draws * kinds[EXTRA_EXPERT] / sum(kinds.values())))
        for dataset, frames in _extra_frames(extra, wanted, config.train.seed):
            add_balanced(EXTRA_EXPERT, dataset, frames)
    else:
        kinds |= config.taught_ratios
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
