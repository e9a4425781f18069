"""Fine-tuning samples/s of this package's trainer against a plain Hugging Face Trainer loop.

    python benchmarks/train.py [--steps N] [--rounds N] [--threads N] [--json FILE]

Both train the shipped base on the same samples in batches of the same size with the same losses and
optimizer, in bfloat16 autocast (where the processor has it) and in float32, turn by turn within one run, each
turn in a process of its own; the ratio is what to compare.  The share is that of the peak of a plain bfloat16
or float32 matrix product on the same threads, measured beside them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from made_up import made_up_samples

from takevla.bench.provenance import git_revision, machine
from takevla.driver.vla.checkpoint import load_checkpoint
from takevla.driver.vla.device import half_precision_on
from takevla.driver.vla.model import TakeVLA
from takevla.driver.vla.named import model_folder
from takevla.driver.vla.tokenizer import encode_commentary
from takevla.learn.samples import Samples, make_batch
from takevla.learn.settings import TrainConfig
from takevla.learn.trainer import Trainer, batch_losses

SENTENCE = "slow to 4m/s passing left for the blocking car 20m ahead"
BATCH, SAMPLES = 32, 256
OWN, PLAIN = "own", "plain"
MATRIX = 1024  # side of the matrices of the peak
SEED = 0


class _Plain(transformers.Trainer):
    """What a user would write: a Trainer whose loss is the model's."""

    def __init__(self, config: TrainConfig, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._config, self._generator = config, torch.Generator().manual_seed(SEED)

    def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
        return batch_losses(model, inputs["batch"], self._config, self._generator).total


class _Numbers(torch.utils.data.Dataset):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, number: int) -> int:
        return number


def plain_rate(model: TakeVLA, samples: Samples, config: TrainConfig, steps: int, threads: int) -> float:
    """Samples/s of the Hugging Face loop."""
    torch.set_num_threads(threads)
    pad = model.config.pad_token_id
    with tempfile.TemporaryDirectory() as folder:
        settings = transformers.TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=BATCH,
            max_steps=steps,
            use_cpu=True,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            max_grad_norm=config.gradient_clip,
            adam_beta1=config.betas[0],
            adam_beta2=config.betas[1],
            optim="adamw_torch_fused",
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            remove_unused_columns=False,
            disable_tqdm=True,
            seed=SEED,
        )
        loop = _Plain(
            config, model=model, args=settings, train_dataset=_Numbers(),
            data_collator=lambda numbers: {"batch": make_batch(samples, np.array(numbers), pad)},
        )  # fmt: skip
        start = time.perf_counter()
        loop.train()
        return steps * BATCH / (time.perf_counter() - start)


def own_rate(model: TakeVLA, samples: Samples, config: TrainConfig, steps: int) -> float:
    """Samples/s of this package's trainer."""
    draws = np.random.default_rng(SEED).integers(0, SAMPLES, steps * BATCH)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(model, samples, draws, config, Path(folder))
        start = time.perf_counter()
        trainer.run(show=False)
        return steps * BATCH / (time.perf_counter() - start)


def turn(loop: str, config: TrainConfig, steps: int) -> float:
    """Samples/s of `steps` steps of a loop, from the shipped base."""
    model, samples = ready()
    if loop == OWN:
        return own_rate(model, samples, config, steps)
    return plain_rate(model, samples, config, steps, config.parts)


def ready() -> tuple[TakeVLA, Samples]:
    """The shipped base and made-up samples for it."""
    base = load_checkpoint(model_folder("shipped"))
    words = tuple(encode_commentary(base.tokenizer, SENTENCE, base.model.config.max_words))
    return base.model.train(), made_up_samples(SAMPLES, words, 6 if base.model.config.sees_past else 3)


def apart(loop: str, config: TrainConfig, steps: int) -> float:
    """`turn` in a fresh process, so that no loop inherits what another has set."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(turn, loop, config, steps).result()


def peak_flops(kind: torch.dtype, threads: int) -> float:
    """Floating-point operations/s of a plain matrix product."""
    torch.set_num_threads(threads)
    one = torch.randn(MATRIX, MATRIX, dtype=kind)
    spans = []
    for _ in range(8):
        start = time.perf_counter()
        one @ one
        spans.append(time.perf_counter() - start)
    return 2.0 * MATRIX**3 / min(spans)


def sample_flops(model: TakeVLA, samples: Samples, config: TrainConfig) -> float:
    """Operations of one sample's forward and backward pass, as torch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    batch = make_batch(samples, np.arange(2), model.config.pad_token_id)
    with FlopCounterMode(display=False) as counter:
        batch_losses(model, batch, config, torch.Generator().manual_seed(SEED)).total.backward()
    model.zero_grad(set_to_none=True)
    return counter.get_total_flops() / 2.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20, help="of the optimizer in each turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each loop")
    parser.add_argument("--threads", type=int, default=2, help="cores that each loop may use")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    model, samples = ready()
    figures: dict[str, Any] = {
        "machine": machine(), "git_revision": git_revision(), "threads": arguments.threads, "seed": SEED,
        "steps": arguments.steps, "rounds": arguments.rounds, "batch": BATCH,
    }  # fmt: skip
    best: dict[str, list[float]] = {OWN: [], PLAIN: []}
    precisions = [("bfloat16", True, torch.bfloat16), ("float32", False, torch.float32)]
    for name, half, kind in precisions if half_precision_on(torch.device("cpu")) else precisions[1:]:
        config = TrainConfig(
            batch_size=BATCH, half_precision=half, parts=arguments.threads, trackers=(), seed=SEED
        )
        flops = sample_flops(model, samples, config)
        peak = peak_flops(kind, arguments.threads)
        own, plain = [], []
        for _ in range(arguments.rounds):
            own.append(apart(OWN, config, arguments.steps))
            plain.append(apart(PLAIN, config, arguments.steps))
        best[OWN].append(statistics.median(own))
        best[PLAIN].append(statistics.median(plain))
        figures[name] = {
            "samples_per_s": round(best[OWN][-1], 2),
            "hugging_face_samples_per_s": round(best[PLAIN][-1], 2),
            "ratio": round(statistics.median(a / b for a, b in zip(own, plain, strict=True)), 3),
            "matmul_peak_gflops": round(peak / 1e9, 1),
            "sample_gflop": round(flops / 1e9, 3),
            "share_of_peak": round(best[OWN][-1] * flops / peak, 3),
            "hugging_face_share_of_peak": round(best[PLAIN][-1] * flops / peak, 3),
        }
    figures["ratio_of_best_precisions"] = round(max(best[OWN]) / max(best[PLAIN]), 3)
    print(json.dumps(figures, indent=1))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
