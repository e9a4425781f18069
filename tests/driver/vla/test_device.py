"""A GPU is not at hand: `.to` of a device that is not there marks a tensor instead of moving it."""

import dataclasses

import numpy as np
import pytest
import torch
from tiny_vla import GO, observations, tiny_model, tiny_tokenizer, write_frames

from takevla.bench.drivers import load_driver
from takevla.dataset.reader import Dataset
from takevla.driver.vla.checkpoint import Checkpoint, save_checkpoint
from takevla.driver.vla.device import half_precision_on, torch_device
from takevla.driver.vla.inputs import navigation_inputs
from takevla.driver.vla.lean import LeanReader, quickest_reader
from takevla.driver.vla.model import TakeVLA
from takevla.driver.vla.policy import VlaDriver
from takevla.learn.samples import frame_samples
from takevla.learn.settings import TrainConfig
from takevla.learn.trainer import Trainer

THERE = torch.device("cuda", 1)


class Marked(torch.Tensor):
    """A tensor that was sent to `THERE`, and what comes of it."""


def tensors(value: object) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return [one for part in value.values() for one in tensors(part)]
    if dataclasses.is_dataclass(value):
        return [one for part in vars(value).values() for one in tensors(part)]
    return []


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Models are said to be on `THERE`, and take only what was sent there; names of what was asked for."""
    asked: set[str] = set()
    to, autocast = torch.Tensor.to, torch.autocast

    def send(tensor: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        if args == (THERE,):
            return tensor.as_subclass(Marked)
        return (
            tensor.as_subclass(torch.Tensor)
            if args == (torch.device("cpu"),)
            else to(tensor, *args, **kwargs)
        )

    def place(model: TakeVLA, where: torch.device) -> TakeVLA:
        asked.add(f"model to {where}")
        return model

    def cast(kind: str, *args: object, **kwargs: object) -> torch.autocast:
        asked.add(f"autocast {kind}")
        return autocast("cpu", *args, **kwargs)

    def watched(name: str):
        method = getattr(TakeVLA, name)

        def call(model: TakeVLA, *args: object) -> object:
            found = [one for value in args for one in tensors(value)]
            assert all(isinstance(one, Marked) for one in found), name
            asked.add(name)
            return method(model, *args)

        return call

    monkeypatch.setattr(torch.Tensor, "to", send)
    monkeypatch.setattr(torch, "autocast", cast)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(TakeVLA, "to", place)
    monkeypatch.setattr(TakeVLA, "device", property(lambda model: THERE))
    monkeypatch.setattr(TakeVLA, "read_prompt", watched("read_prompt"))
    monkeypatch.setattr(TakeVLA, "forward", watched("forward"))
    return asked


@pytest.mark.parametrize("forced", [None, lambda seen: GO])
def test_observations_go_to_the_models_device_and_plans_come_back(elsewhere, forced, monkeypatch) -> None:
    heard = []
    listen = TakeVLA.listen
    monkeypatch.setattr(
        TakeVLA, "listen", lambda model, at, words: heard.append(words) or listen(model, at, words)
    )
    driver = VlaDriver(tiny_model(), tiny_tokenizer(), forced=forced)
    thought = driver.think(
        torch.zeros(3, 32, 96, 3, dtype=torch.uint8),
        navigation_inputs(observations(3)),
        None if forced is None else [[5, 6]] * 3,
    )
    assert {"read_prompt", "autocast cuda"} <= elsewhere
    assert all(isinstance(words, Marked) for words in heard)
    assert bool(heard) == (forced is not None)
    found = [*tensors(thought.plan), thought.words]
    assert not any(isinstance(one, Marked) for one in found)
    assert len(driver.plan(observations(2))) == 2


@pytest.mark.parametrize("parts", [1, 2])
def test_batches_go_to_the_device_of_the_training(elsewhere, parts, tmp_path) -> None:
    samples = frame_samples(
        Dataset(write_frames(tmp_path / "data", {"pretrain": 16})), np.arange(16), tiny_tokenizer(), 16
    )
    config = TrainConfig(batch_size=8, parts=parts, save_every=2, log_every=2, trackers=())
    trainer = Trainer(tiny_model(), samples, np.arange(16), config, tmp_path / "out", "cuda:1")
    trainer.run(show=False)
    assert {"model to cuda:1", "forward", "autocast cuda"} <= elsewhere


def test_a_driver_is_loaded_onto_its_device(elsewhere, tmp_path) -> None:
    save_checkpoint(tmp_path, Checkpoint(tiny_model(), tiny_tokenizer()))
    load_driver(str(tmp_path), device="cuda:1")
    assert "model to cuda:1" in elsewhere


def test_a_state_is_continued_by_a_training_that_is_told_another_device(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    samples = frame_samples(
        Dataset(write_frames(tmp_path / "data", {"pretrain": 16})), np.arange(16), tiny_tokenizer(), 16
    )
    config = TrainConfig(batch_size=8, save_every=1, log_every=1, trackers=())
    whole, parts = tiny_model(), tiny_model()
    Trainer(whole, samples, np.arange(16), config, tmp_path / "whole").run(show=False)
    Trainer(parts, samples, np.arange(16), config, tmp_path / "parts").run(stop_after=1, show=False)
    Trainer(parts, samples, np.arange(16), config, tmp_path / "parts", "auto").run(show=False)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name])


def test_the_lean_reader_is_for_the_cpu_alone() -> None:
    backbone = tiny_model().backbone
    assert isinstance(quickest_reader(backbone, True), LeanReader)
    assert not isinstance(quickest_reader(backbone.to("meta"), True), LeanReader)


def test_devices_are_found_by_name(monkeypatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    found = {name: str(torch_device(name)) for name in ("cpu", "cuda", "cuda:1", "auto")}
    assert found == {"cpu": "cpu", "cuda": "cuda", "cuda:1": "cuda:1", "auto": "cuda"}
    for name in ("cuda:2", "mps", "tpu", "cuda:x", ""):
        with pytest.raises(ValueError, match=f"device '{name}'") as caught:
            torch_device(name)
        assert "\n" not in str(caught.value)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert str(torch_device("auto")) == "cuda:1"
    assert str(torch_device("cuda:0")) == "cuda:0"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert str(torch_device("auto")) == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert str(torch_device("auto")) == "mps"


def test_half_precision_is_as_asked_and_else_what_the_device_is_quick_in(monkeypatch):
    assert half_precision_on(torch.device("cuda"))
    for quick in (True, False):
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda quick=quick: quick)
        assert half_precision_on(torch.device("cpu")) is quick
        assert half_precision_on(torch.device("cpu"), not quick) is not quick
        driver = VlaDriver(tiny_model(), tiny_tokenizer())
        assert driver.half_precision is quick
        assert all(np.isfinite(plan.waypoints_ego).all() for plan in driver.plan(observations(2)))
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not half_precision_on(torch.device("cpu"))
