"""Speed of the tiny VLA: training samples/s, milliseconds per driving step.

    python benchmarks/vla.py [--threads N] [--json FILE]

Ratios within one run are what to compare; figures of other machines, or of this one while it is busy,
are not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from made_up import made_up_samples

from takevla.driver.vla.device import half_precision_on
from takevla.driver.vla.inputs import tiny_config
from takevla.driver.vla.model import TakeVLA
from takevla.driver.vla.policy import VlaDriver
from takevla.driver.vla.tokenizer import build_tokenizer, encode_commentary
from takevla.learn.settings import TrainConfig
from takevla.learn.trainer import Trainer
from takevla.scene.plan import Observation
from takevla.takeover.commentary import corpus
from takevla.world.camera.rig import HEIGHT_PX, WIDTH_PX

SENTENCE = "slow to 4m/s passing left for the blocking car 20m ahead"


def _seconds(work: Callable[[], object], repeats: int) -> float:
    work()
    spans = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        spans.append(time.perf_counter() - start)
    return statistics.median(spans)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--steps", type=int, default=8, help="repeats of each measurement")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    tokenizer = build_tokenizer(corpus())
    model = TakeVLA(tiny_config(tokenizer))
    words = tuple(encode_commentary(tokenizer, SENTENCE, 16))
    figures: dict[str, object] = {
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": arguments.threads,
        "parameters": sum(weight.numel() for weight in model.parameters()),
    }
    model.train(False)
    rng = np.random.default_rng(0)
    for batch in (1, 16):
        seen = [
            Observation(
                seat,
                0,
                5.0,
                np.ones((2, 2), np.float32),
                4,
                4,
                rng.integers(0, 255, (HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8),
            )
            for seat in range(batch)
        ]
        for name, driver in (
            ("plan", VlaDriver(model, tokenizer, commentary=False)),
            (f"plan_and_{len(words)}_words", _speaking(model, tokenizer, len(words))),
        ):
            spent = _seconds(lambda d=driver, s=seen: d.plan(s), arguments.steps)
            figures[f"ms_batch_{batch}_{name}"] = round(1000 * spent, 1)
    rows = 32
    precisions = [("bfloat16", True), ("float32", False)]
    for name, half in precisions if half_precision_on(torch.device("cpu")) else precisions[1:]:
        config = TrainConfig(
            batch_size=rows, half_precision=half, parts=arguments.threads, trackers=(), log_every=400
        )
        samples = made_up_samples(rows, words)
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(model, samples, np.tile(np.arange(rows), 400), config, Path(folder))
            model.train()
            spent = _seconds(trainer.advance, arguments.steps)
        figures[f"training_samples_per_s_{name}"] = round(rows / spent, 1)
    print(json.dumps(figures, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def _speaking(model: TakeVLA, tokenizer: object, count: int) -> VlaDriver:
    """A driver that always says `count` words, whatever the untrained model would stop at."""

    class Talker(TakeVLA):
        def speak(self, context, first=None):  # type: ignore[no-untyped-def]
            said = []
            for _ in range(count):
                said.append(torch.full((context.rows,), 20))
                self._hear(context, said)
            return torch.stack(said, dim=1)

    talker = Talker(model.config)
    talker.load_state_dict(model.state_dict())
    talker.train(False)
    return VlaDriver(talker, tokenizer)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
