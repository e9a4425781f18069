"""A program for the processes of `accelerate launch --use_fsdp`.

Shares jobs among them, trains the tiny model sharded for four steps (OUT/sharded), and with whole weights to
the end (OUT/whole); trains a VLM with a bfloat16 backbone sharded, in each of the ways of VLM_WAYS (OUT/vlm-0
and so on); dreams of the takeovers with the model of a folder (OUT/dream).
Usage: launched_training.py DATA TAKEOVERS MODEL VLM OUT
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tiny_vla import tiny_model, tiny_tokenizer

from takevla.dataset.reader import Dataset
from takevla.driver.vla.checkpoint import load_checkpoint
from takevla.driver.vla.lora import merge, prepare
from takevla.driver.vla.settings import Trainable
from takevla.learn.dream import rollouts
from takevla.learn.dream.audit import AuditLimits
from takevla.learn.dream.config import DreamConfig
from takevla.learn.samples import frame_samples
from takevla.learn.settings import TrainConfig
from takevla.learn.shares import SHARDING_VARIABLE
from takevla.learn.trainer import Trainer
from takevla.scale import Launched, processes
from takevla.stage_work import dream_stage

CONFIG = TrainConfig(
    batch_size=8, learning_rate=3e-3, warmup_steps=2, parts=2, save_every=2, log_every=2, trackers=()
)

DREAMS = DreamConfig(
    updates=3, group=4, anchors=8, limits=AuditLimits(*[0.0] * 8, replay_error_m=1e3, replay_error_deg=360.0)
)


VLM_WAYS = (Trainable(), Trainable(lora_rank=2, lora_dropout=0.0, whole_vision=True))


def halve(job: int, report: object) -> tuple[float, int]:
    return job / 2, processes().rank


def train(data: Path, out: Path, stop_after: int | None) -> None:
    dataset = Dataset(data)
    samples = frame_samples(dataset, np.arange(len(dataset)), tiny_tokenizer(), 16)
    model = tiny_model()
    Trainer(model, samples, np.arange(48), CONFIG, out).run(stop_after=stop_after, show=False)
    if processes().leads:
        save_file(
            {name: value.contiguous() for name, value in model.named_parameters()},
            out / "weights.safetensors",
        )


def train_vlm(data: Path, start: Path, way: Trainable, out: Path) -> None:
    dataset, checkpoint = Dataset(data), load_checkpoint(start)
    model = checkpoint.model
    samples = frame_samples(dataset, np.arange(len(dataset)), checkpoint.tokenizer, model.config.max_words)
    torch.manual_seed(0)
    prepare(model, way)
    Trainer(model, samples, np.arange(16), CONFIG, out).run(show=False)
    merge(model)
    if processes().leads:
        save_file(
            {name: value.contiguous() for name, value in model.named_parameters()},
            out / "weights.safetensors",
        )


if __name__ == "__main__":
    data, takeovers, model, vlm, out = (Path(word) for word in sys.argv[1:])
    among = processes()
    with Launched(among).crew(halve) as crew:
        assert crew.run(range(5), [""] * 5) == [(job / 2, job % among.size) for job in range(5)]
    train(data, out / "sharded", 4)
    for number, way in enumerate(VLM_WAYS):
        train_vlm(data, vlm, way, out / f"vlm-{number}")
    os.environ.pop(SHARDING_VARIABLE)
    train(data, out / "whole", None)
    rollouts.SCENES_IN_A_JOB = 1  # so that there is work for two
    dream_stage(model, takeovers, out / "dream", DREAMS, seed=0)
