"""Options of dreaming compared: one dataset, one model, start frames held out and judged alike.

    python benchmarks/dream_options.py --takeovers DATASET [--model FOLDER] [--updates N] [--json FILE]

A seeded quarter of the attempts is held out: no start frame of theirs is learned from.  Whatever an option
trains with, the plan that drives is judged on them by the `pdm` reward over 4 s.  The default is trained
with a second seed too: a difference smaller than that between the two is noise.  What it would cost to move
the base as well (LoRA), which open dreams do not do, is measured as passes of the model.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from takevla.bench.provenance import git_revision, machine
from takevla.dataset.reader import Dataset
from takevla.driver.vla.checkpoint import load_checkpoint
from takevla.driver.vla.lora import Trainable, prepare
from takevla.driver.vla.policy import VlaDriver
from takevla.driver.vla.residual import ResidualHead
from takevla.driver.vla.shipped import shipped_base
from takevla.learn.dream.calm import calm_scenes
from takevla.learn.dream.config import DreamConfig
from takevla.learn.dream.dreamer import Dreamer
from takevla.learn.dream.dreaming import true_scenes
from takevla.learn.dream.noise import NoiseConfig
from takevla.learn.dream.reading import READ_BATCH, BaseReading, anchor_rows, read_frames
from takevla.learn.dream.rollouts import RollOuts
from takevla.learn.dream.scenes import CALM, DreamScene
from takevla.learn.samples import frame_samples, make_batch
from takevla.learn.trainer import TrainConfig, batch_losses
from takevla.scale import InProcess

HELD_OUT = 0.25  # share of the attempts
JUDGED_BY, JUDGED_S = "pdm", 4.0
LORA_RANK, TIMED_BATCHES = 32, 4


@dataclass(frozen=True)
class Option:
    """One row of the table: settings that differ from the default."""

    name: str
    settings: dict[str, Any]
    seed_shift: int = 0


OPTIONS = (
    Option("default", {}),
    Option("default, second seed", {}, seed_shift=1),
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
    words = None if base.true_words is None else base.true_words[rows]
    return BaseReading(base.route_ego[kept], base.waypoints_ego[kept], base.features[kept], words)


def judged(
    scenes: list[DreamScene], base: BaseReading, anchor: torch.Tensor, head: ResidualHead, seed: int
) -> dict[str, Any]:
    """Before and after on start frames, by the one judge."""
    config = DreamConfig(reward=JUDGED_BY, horizon_s=JUDGED_S)
    with InProcess().crew(RollOuts.of(scenes, JUDGED_BY, {}, JUDGED_S)) as crew:
        judge = Dreamer(scenes, base, anchor, config, seed, crew)
        judge.head = head
        return judge.before_after()


def compared(
    option: Option, config: DreamConfig, parts: dict[str, tuple[list[DreamScene], BaseReading]],
    anchor: torch.Tensor, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Train one option and judge it."""
    config, seed = replace(config, **option.settings), seed + option.seed_shift
    scenes, base = parts["train"]
    if config.method == "dpo" or not config.calm:
        amiss = np.array([scene.trigger != CALM for scene in scenes])
        scenes, base = [scene for scene in scenes if scene.trigger != CALM], rows_of(base, amiss)
    start, start_cpu = time.perf_counter(), time.process_time()
    with InProcess().crew(RollOuts.of(scenes, config.reward, config.terms, config.horizon_s)) as crew:
        dreamer = Dreamer(scenes, base, anchor, config, seed, crew)
        for _ in range(config.updates):
            dreamer.step()
    wall_s, cpu_s = time.perf_counter() - start, time.process_time() - start_cpu
    row: dict[str, Any] = {"option": option.name, "seed": seed, "wall_s": wall_s, "cpu_s": cpu_s}
    for name, (some, reading) in parts.items():
        result = judged(some, reading, anchor, dreamer.head, seed)
        row[name] = {key: value for key, value in result.items() if not key.startswith("rewards_")}
    last = dreamer.curves[-1]
    row["degenerate_groups"] = float(np.mean([one["degenerate_groups"] for one in dreamer.curves]))
    return row | {key: last[key] for key in ("kl_scenes", "kl_anchor", "std")}


def passes_of_lora(
    driver: VlaDriver, dataset: Dataset, rows: list[int], config: DreamConfig
) -> dict[str, Any]:
    """CPU seconds per start frame of a reading, and of a gradient step that moves adapters of the base."""
    timed = rows[: TIMED_BATCHES * READ_BATCH]
    start = time.process_time()
    read_frames(driver, dataset, timed)
    reading_s = (time.process_time() - start) / len(timed)
    prepare(driver.model, Trainable(lora_rank=LORA_RANK))
    model, training = driver.model, TrainConfig()
    samples = frame_samples(
        dataset, np.array(timed), driver.tokenizer, model.config.max_words, past=model.config.sees_past
    )
    generator = torch.Generator().manual_seed(0)
    start = time.process_time()
    for first in range(0, len(timed), READ_BATCH):
        numbers = np.arange(first, min(first + READ_BATCH, len(timed)))
        batch = make_batch(samples, numbers, model.config.pad_token_id)
        batch_losses(model, batch, training, generator).total.backward()  # type: ignore[no-untyped-call]
    step_s = (time.process_time() - start) / len(timed)
    return {
        "start_frames": len(rows),
        "passes_per_update_frozen": 0,
        "passes_per_update_lora": len(rows) * (1 + config.passes),  # the draw, and each gradient step
        "cpu_s_per_reading": reading_s,
        "cpu_s_per_gradient_pass": step_s,
        "cpu_s_per_update_lora": len(rows) * (reading_s + config.passes * step_s),
    }


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
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dataset, config = Dataset(arguments.takeovers), DreamConfig(updates=arguments.updates)
    loaded = load_checkpoint(arguments.model or shipped_base())
    driver = VlaDriver(loaded.model, loaded.tokenizer)
    scenes, audit = true_scenes(dataset, config, seed=arguments.seed)
    takeovers = len({scene.takeover for scene in scenes})
    scenes += calm_scenes(
        dataset, config.calm, horizon_s=config.horizon_s, reacting=config.reacting, limits=config.limits,
        seed=arguments.seed,
    )  # fmt: skip
    rows = [scene.frame_row for scene in scenes]
    base = read_frames(driver, dataset, rows)
    anchor = read_frames(driver, dataset, anchor_rows(dataset, config.anchors, arguments.seed)).features
    apart = held_out(scenes, dataset, arguments.seed)
    parts = {
        name: ([scene for scene, kept in zip(scenes, mask, strict=True) if kept], rows_of(base, mask))
        for name, mask in (("train", ~apart), ("held_out", apart))
    }
    result: dict[str, Any] = {
        "machine": machine(), "git_revision": git_revision(), "seed": arguments.seed,
        "updates": config.updates, "takeovers": takeovers,
        "start_frames": {name: len(part[0]) for name, part in parts.items()},
        "recall_collision": audit.recall_collision, "options": [],
    }  # fmt: skip
    for option in OPTIONS:
        result["options"].append(compared(option, config, parts, anchor, arguments.seed))
        print(json.dumps(result["options"][-1]), flush=True)
    result["lora"] = passes_of_lora(driver, dataset, rows, config)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))
    print(json.dumps(result["lora"], indent=1))


if __name__ == "__main__":
    main()
