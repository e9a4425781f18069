"""Options of dreaming compared: one dataset, one model, start frames held out and judged alike.

    python benchmarks/dream_options.py --takeovers DATASET [--model FOLDER] [--updates N] [--json FILE]

A seeded quarter of the attempts is held out: no start frame of theirs is learned from.  Whatever an option
trains with, the plan that drives is judged on them by the `pdm` reward over 4 s.  The default is trained
with more seeds too: a difference smaller than those between them is noise.  One option moves the model
itself, by adapters, in place of a head on the frozen one; some choose words in place of bending plans.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from takevla.bench.provenance import git_revision, machine
from takevla.dataset.reader import Dataset
from takevla.driver.vla.checkpoint import load_checkpoint
from takevla.driver.vla.named import shipped_base
from takevla.driver.vla.policy import VlaDriver
from takevla.driver.vla.residual import MOVING_MPS, ResidualHead, bend, mode
from takevla.learn.dream.calm import calm_scenes
from takevla.learn.dream.config import DreamConfig, MovingConfig, NoiseConfig
from takevla.learn.dream.dreamer import Dreamer, gains
from takevla.learn.dream.moving import GroupConfig, MovingDreams, driven_rewards
from takevla.learn.dream.reading import BaseReading, anchor_rows, read_frames
from takevla.learn.dream.rollouts import PlanRows, RollOuts
from takevla.learn.dream.scenes import CALM, DreamScene
from takevla.learn.dream.sift import true_scenes
from takevla.learn.dream.spoken import SpokenDreams, ToldFrames, opening_ids, read_openings
from takevla.scale import InProcess

Learned = Callable[[list[DreamScene], BaseReading], BaseReading]
HELD_OUT = 0.25  # share of the attempts
JUDGED_BY, JUDGED_S = "pdm", 4.0
MOVING_UPDATES = 150  # of 32 start frames each; the head's take all of them


@dataclass(frozen=True)
class Option:
    """One row of the table: settings that differ from the default."""

    name: str
    settings: dict[str, Any]
    seed_shift: int = 0


OPTIONS = (
    Option("default", {}),
    Option("default, second seed", {}, seed_shift=1),
    Option("default, third seed", {}, seed_shift=2),
    Option("group 8", {"group": 8}),
    Option("without calm driving", {"calm": 0}),
    Option("group 32", {"group": 32}),
    Option("horizon 2 s", {"horizon_s": 2.0}),
    Option("reward pdm", {"reward": "pdm"}),
    Option("reward paper", {"reward": "paper"}),
    Option("KL weight 0.01", {"kl_weight": 0.01}),
    Option("KL weight 0.01, reward pdm", {"kl_weight": 0.01, "reward": "pdm"}),
    Option("KL weight 0.3", {"kl_weight": 0.3}),
    Option("learning rate 5e-4", {"learning_rate": 5e-4}),
    Option("noise scheduled 0.6 to 0.2", {"noise": NoiseConfig("scheduled", 0.6, 0.2)}),
    Option("noise scheduled 1.0 to 0.3", {"noise": NoiseConfig("scheduled", 1.0, 0.3)}),
    Option("rank 1: along alone", {"modes": (1, 0)}),
    Option("rank 2: along alone", {"modes": (2, 0)}),
    Option("rank 2: 1 along, 1 across", {"modes": (1, 1)}),
    Option("rank 6: 3 along, 3 across", {"modes": (3, 3)}),
    Option("rank 3: across alone", {"modes": (0, 3)}),
    Option("dpo", {"method": "dpo"}),
    Option("adapters of rank 32 move", {"moving": MovingConfig(), "updates": MOVING_UPDATES}),
    Option("words", {"chooses": "words"}),
    Option("words, second seed", {"chooses": "words"}, seed_shift=1),
    Option("words, 200 updates, KL weight 0.02", {"chooses": "words", "updates": 200, "kl_weight": 0.02}),
    Option("words, reward pdm", {"chooses": "words", "reward": "pdm"}),
)


def held_out(
    scenes: Sequence[DreamScene], dataset: Dataset, seed: int
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """(S,) start frames whose attempt is held out."""
    episodes = dataset.column("episode")[[scene.frame_row for scene in scenes]]
    names = np.unique(episodes)
    chosen = np.random.default_rng([seed, 0x0]).permutation(names)[: max(1, round(HELD_OUT * len(names)))]
    return np.isin(episodes, chosen)


def rows_of(base: BaseReading, rows: np.ndarray[Any, Any]) -> BaseReading:
    """The reading of some of the frames."""
    kept = torch.from_numpy(np.flatnonzero(rows))
    true = None if base.true_words is None else base.true_words[rows]
    words = tuple(base.words[row] for row in kept.tolist())
    return BaseReading(base.route_ego[kept], base.waypoints_ego[kept], base.features[kept], true, words)


@dataclass(frozen=True)
class Study:
    """What all options share: start frames of each part with the model's reading, and ordinary frames."""

    dataset: Dataset
    model: Path
    parts: dict[str, tuple[list[DreamScene], BaseReading]]
    anchors: list[int]
    anchor: BaseReading


def learned(study: Study, config: DreamConfig, seed: int) -> tuple[list[dict[str, float]], Learned]:
    """The curves of one option, and what turns a part's reading into the plans that then drive."""
    scenes, base = study.parts["train"]
    if config.method == "dpo" or not config.calm:
        amiss = np.array([scene.trigger != CALM for scene in scenes])
        scenes, base = [scene for scene in scenes if scene.trigger != CALM], rows_of(base, amiss)
    rewarded = RollOuts.of(scenes, config.reward, config.terms, config.horizon_s)
    if config.chooses == "words":
        return learned_to_say(study, scenes, rewarded, config, seed)
    if config.moving is None:
        with InProcess().crew(rewarded) as crew:
            dreamer = Dreamer(scenes, base, study.anchor.features, config, seed, crew)
            for _ in range(config.updates):
                dreamer.step()
        return dreamer.curves, lambda scenes, reading: bent(reading, dreamer.head)
    loaded = load_checkpoint(study.model)
    moving = MovingDreams(
        scenes, loaded.model, study.dataset, study.anchors, [*base.words, *study.anchor.words], rewarded,
        config.moving, GroupConfig.of(config), config.updates, seed,
    )  # fmt: skip
    for _ in range(config.updates):
        moving.step()
    driver = VlaDriver(moving.finish(), loaded.tokenizer)
    return moving.curves, lambda scenes, _: read_frames(
        driver, study.dataset, [scene.frame_row for scene in scenes]
    )


def learned_to_say(
    study: Study, scenes: list[DreamScene], rewarded: RollOuts, config: DreamConfig, seed: int
) -> tuple[list[dict[str, float]], Learned]:
    """As `learned`, for an option that chooses words."""
    loaded = load_checkpoint(study.model)
    driver = VlaDriver(loaded.model, loaded.tokenizer)

    def told(rows: Sequence[int]) -> ToldFrames:
        return read_openings(driver, study.dataset, rows)

    start, anchor = told([scene.frame_row for scene in scenes]), told(study.anchors)
    plans = (start.route_ego.numpy(), start.waypoints_ego.numpy())
    earned = rewarded(PlanRows(0, *plans, None), lambda _: None)
    dreams = SpokenDreams(scenes, start, earned, anchor, config, opening_ids(loaded.tokenizer), seed)
    for _ in range(config.updates):
        dreams.step()

    def drives(scenes: list[DreamScene], reading: BaseReading) -> BaseReading:
        found = told([scene.frame_row for scene in scenes])
        said, at = torch.from_numpy(dreams.said(found)), torch.arange(len(scenes))
        return replace(
            reading, route_ego=found.route_ego[at, said], waypoints_ego=found.waypoints_ego[at, said]
        )

    return dreams.curves, drives


@torch.no_grad()
def bent(reading: BaseReading, head: ResidualHead) -> BaseReading:
    """The plans of a frozen model with a head's most likely residual."""
    route, waypoints = bend(reading.route_ego, reading.waypoints_ego, mode(head(reading.features)))
    return replace(reading, route_ego=route, waypoints_ego=waypoints)


def compared(option: Option, config: DreamConfig, study: Study, seed: int) -> dict[str, Any]:
    """Train one option and judge it, before and after, on the start frames of each part by the one judge."""
    config, seed = replace(config, **option.settings), seed + option.seed_shift
    start, start_cpu = time.perf_counter(), time.process_time()
    curves, drives = learned(study, config, seed)
    wall_s, cpu_s = time.perf_counter() - start, time.process_time() - start_cpu
    row: dict[str, Any] = {"option": option.name, "seed": seed, "wall_s": wall_s, "cpu_s": cpu_s}
    for name, (scenes, reading) in study.parts.items():
        judge = RollOuts.of(scenes, JUDGED_BY, {}, JUDGED_S)
        result = gains(scenes, *(driven_rewards(judge, one) for one in (reading, drives(scenes, reading))))
        row[name] = {key: value for key, value in result.items() if not key.startswith("rewards_")}
    row["degenerate_groups"] = float(np.mean([one["degenerate_groups"] for one in curves]))
    return row | {key: curves[-1][key] for key in ("kl_scenes", "kl_anchor", "std") if key in curves[-1]}


def table(result: dict[str, Any]) -> str:
    """The rows as Markdown."""
    lines = [
        "| option | reward held out | failures held out | calm reward, failures held out | reward trained on "
        "| degenerate groups | KL dreamed | KL ordinary | CPU s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    before = result["options"][0]
    shown = [("before", before, "before", "", "", "", "")]
    for row in result["options"]:
        found = [f"{row[key]:.2f}" for key in ("degenerate_groups", "kl_scenes")]
        shown.append((row["option"], row, "after", *found, f"{row['kl_anchor']:.3f}", f"{row['cpu_s']:.0f}"))
    for name, row, when, *rest in shown:
        held, train = row["held_out"], row["train"]
        figures = [
            f"{held[f'reward_{when}']:.3f}", f"{100 * held[f'failure_rate_{when}']:.1f} %",
            f"{held[f'calm_reward_{when}']:.3f}, {100 * held[f'calm_failure_rate_{when}']:.1f} %",
            f"{train[f'reward_{when}']:.3f}",
        ]  # fmt: skip
        lines.append("| " + " | ".join([name, *figures, *rest]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--takeovers", type=Path, required=True, help="dataset of takeovers")
    parser.add_argument("--model", type=Path, help="checkpoint folder; the shipped base if none is given")
    parser.add_argument("--updates", type=int, default=DreamConfig().updates)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="options whose name holds this; none: all")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dataset, config = Dataset(arguments.takeovers), DreamConfig(updates=arguments.updates)
    model = arguments.model or shipped_base()
    loaded = load_checkpoint(model)
    driver = VlaDriver(loaded.model, loaded.tokenizer)
    scenes, audit = true_scenes(dataset, config, seed=arguments.seed)
    takeovers = len({scene.takeover for scene in scenes})
    scenes += calm_scenes(
        dataset, config.calm, horizon_s=config.horizon_s, reacting=config.reacting, limits=config.limits,
        seed=arguments.seed, least_mps=MOVING_MPS,
    )  # fmt: skip
    rows = [scene.frame_row for scene in scenes]
    base = read_frames(driver, dataset, rows)
    apart = held_out(scenes, dataset, arguments.seed)
    kept_out = dataset.column("episode")[[row for row, out in zip(rows, apart, strict=True) if out]]
    found = anchor_rows(dataset, config.anchors, arguments.seed, MOVING_MPS)
    anchors = [row for row in found if dataset.column("episode")[row] not in set(kept_out)]
    parts = {
        name: ([scene for scene, kept in zip(scenes, mask, strict=True) if kept], rows_of(base, mask))
        for name, mask in (("train", ~apart), ("held_out", apart))
    }
    study = Study(dataset, model, parts, anchors, read_frames(driver, dataset, anchors))
    result: dict[str, Any] = {
        "machine": machine(), "git_revision": git_revision(), "seed": arguments.seed,
        "updates": config.updates, "takeovers": takeovers,
        "start_frames": {name: len(part[0]) for name, part in parts.items()},
        "recall_collision": audit.recall_collision, "options": [],
    }  # fmt: skip
    for option in (one for one in OPTIONS if arguments.only in one.name):
        result["options"].append(compared(option, config, study, arguments.seed))
        print(json.dumps(result["options"][-1]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    main()
