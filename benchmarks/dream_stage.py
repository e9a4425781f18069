"""Wall time of a dreaming stage: 300 scenes x 16 plans x 100 updates, by roll-outs, reward and head.

    python benchmarks/dream_stage.py [TAKEOVERS] [--workers N] [--json FILE]

The scenes are those that pass the audit of a takeover dataset, or without one made up: bends with
20 actors, a quarter of them reacting.  Features of the frozen model are made up, its plan is the recorded
one.  Roll-outs and reward run in `--workers` processes, as in a stage; how their time parts is measured
in this process on the plans of one update.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import dream
import numpy as np
import torch

from takevla.bench.provenance import git_revision, machine
from takevla.dataset.reader import Dataset
from takevla.driver.vla import residual
from takevla.driver.vla.inputs import tiny_config
from takevla.driver.vla.tokenizer import build_tokenizer
from takevla.learn.dream.config import DreamConfig
from takevla.learn.dream.dreamer import Dreamer
from takevla.learn.dream.reading import BaseReading
from takevla.learn.dream.reward import preset
from takevla.learn.dream.rollouts import RollOuts
from takevla.learn.dream.scenes import STEP_S, DreamScene
from takevla.learn.dream.sift import true_scenes
from takevla.learn.dream.simulate import measure, roll_out
from takevla.scale import executor
from takevla.takeover.commentary import corpus

SCENES, GROUP, UPDATES, ANCHORS, SEED = 300, 16, 100, 256, 0


def made_up_scenes(count: int, steps: int) -> list[DreamScene]:
    """Scenes of the benchmark of speed, each with its own actors; a quarter of these react."""
    scenes = []
    for number in range(count):
        rng = np.random.default_rng([SEED, number])
        here = dream.scene(steps)
        pose = here.actor_pose.copy()
        pose[:, :, 0] += rng.uniform(-5, 5, dream.ACTORS)
        pose[:, :, 1] += rng.normal(0, 0.5, dream.ACTORS)
        reacts = rng.random(dream.ACTORS) < 0.25
        scenes.append(replace(here, takeover=str(number), actor_pose=pose, actor_reacts=reacts))
    return scenes


def reading(scenes: list[DreamScene], width: int) -> tuple[BaseReading, torch.Tensor]:
    """Made-up features with the recorded plans, and features of ordinary frames."""
    generator = torch.Generator().manual_seed(SEED)
    route, waypoints = (
        torch.from_numpy(np.stack([getattr(scene.policy_plan, name) for scene in scenes]))
        for name in ("route_ego", "waypoints_ego")
    )
    features = torch.randn(len(scenes), width, generator=generator)
    return BaseReading(route, waypoints, features), torch.randn(ANCHORS, width, generator=generator)


class Timed(Dreamer):
    """A dreamer that notes how long it waits for roll-outs and rewards."""

    waited_s = 0.0

    def rewards(self, z: torch.Tensor) -> Any:
        """As the dreamer's."""
        start = time.perf_counter()
        found = super().rewards(z)
        self.waited_s += time.perf_counter() - start
        return found


def parts(scenes: list[DreamScene], base: BaseReading, config: DreamConfig) -> tuple[float, float]:
    """CPU seconds that the roll-outs and the measures and reward of one update take in one process."""
    steps, reward = round(config.horizon_s / STEP_S), preset(config.reward)
    z = 0.6 * torch.randn(
        len(scenes), config.group, residual.MODES, generator=torch.Generator().manual_seed(1)
    )
    routes, waypoints = (
        bent.numpy() for bent in residual.bend(base.route_ego[:, None], base.waypoints_ego[:, None], z)
    )
    start = time.process_time()
    rolled = [roll_out(*row, steps) for row in zip(scenes, routes, waypoints, strict=True)]
    between = time.process_time()
    for scene, trajectories in zip(scenes, rolled, strict=True):
        reward(measure(scene, trajectories))
    return between - start, time.process_time() - between


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("takeovers", type=Path, nargs="?", help="dataset; made-up scenes without one")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    config = DreamConfig(group=GROUP, updates=UPDATES, anchors=ANCHORS)
    start = time.perf_counter()
    if arguments.takeovers is None:
        scenes = made_up_scenes(SCENES, round(config.horizon_s / STEP_S))
    else:
        scenes = true_scenes(Dataset(arguments.takeovers), config, seed=SEED)[0][:SCENES]
    rebuilt_s = time.perf_counter() - start
    base, anchor = reading(scenes, 2 * tiny_config(build_tokenizer(corpus())).width)
    rollouts = RollOuts.of(scenes, config.reward, config.terms, config.horizon_s)
    with executor(arguments.workers).crew(rollouts) as crew:
        dreamer = Timed(scenes, base, anchor, config, SEED, crew)
        dreamer.step()  # compiles, starts the workers and measures the experts
        dreamer.waited_s, start = 0.0, time.perf_counter()
        for _ in range(UPDATES):
            dreamer.step()
        total_s = time.perf_counter() - start
    parts(scenes, base, config)
    rolling_s, rewarding_s = (
        min(spent) for spent in zip(*(parts(scenes, base, config) for _ in range(5)), strict=True)
    )
    share = rolling_s / (rolling_s + rewarding_s)
    content: dict[str, Any] = {
        "command": "python benchmarks/dream_stage.py" + (" TAKEOVERS" if arguments.takeovers else ""),
        "scenes": len(scenes), "made_up": arguments.takeovers is None, "plans": GROUP, "updates": UPDATES,
        "horizon_s": config.horizon_s, "workers": arguments.workers, "rebuilding_s": round(rebuilt_s, 2),
        "stage_s": round(total_s, 2),
        "roll_out_s": round(dreamer.waited_s * share, 2),
        "reward_s": round(dreamer.waited_s * (1.0 - share), 2),
        "head_s": round(total_s - dreamer.waited_s, 2),
        "one_core_update": {"roll_out_s": round(rolling_s, 4), "reward_s": round(rewarding_s, 4)},
        "git_revision": git_revision(), "machine": machine(),
    }  # fmt: skip
    print(json.dumps(content, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
