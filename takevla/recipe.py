"""The typed configuration of a whole run: one frozen dataclass, from YAML and the command line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from takevla.driver.vla.named import SHIPPED_BASE
from takevla.learn.dream.config import DreamConfig
from takevla.learn.settings import SftConfig, TrainConfig
from takevla.scale import RayCluster, ray_cluster
from takevla.takeover.shadow import TakeoverConfig

PLACEMENT = frozenset({"workers", "executor", "address", "device"})  # where it runs, not what


@dataclass(frozen=True)
class RouteChoice:
    """Which routes a stage drives.

    Args:
        suite: name of a suite.
        routes: how many of them, spread evenly over the suite; 0 takes all.
    """

    suite: str = "train"
    routes: int = 0

    def __post_init__(self) -> None:
        if self.routes < 0:
            raise ValueError(f"routes: {self.routes} is negative; 0 takes all routes of the suite")


def _tiny_sft() -> SftConfig:
    return SftConfig(
        draws=8_000, pretraining_ratio=0.35, pre_takeover_ratio=0.1, takeover_ratio=0.25, shadow_ratio=0.3,
        max_repeats=16, train=TrainConfig(learning_rate=4e-4, warmup_steps=30),
    )  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """A whole run, from a base model to a report.  The defaults are the quickstart's.

    Args:
        name: how the report names the run.
        base: checkpoint folder of the model to post-train, "shipped", or owner/name of the hub.
        seed: of everything that is drawn by chance.
        data_seed: of the worlds in which data is collected; None is `seed`.  Arms of a study share it, and
            with it what the same model drives in its first round.
        workers: processes for driving and dreaming; they change nothing but the time it takes.
        executor: where they run: "local" on this machine, "ray" on a Ray cluster (extra `ray`).
        address: of the Ray cluster; empty starts one on this machine.
        device: of the model's weights in every stage: "cpu", "cuda", "cuda:1", "mps", or "auto".
        rounds: turns of the loop: drive, take over, fine-tune, dream; 0, in a study, is the base itself.
        rehearsal: routes that the expert drives, for the pre-training share of the mixture.
        starts_per_route: standing starts along each rehearsal route, added to that share; 0 leaves them out.
        rehearsal_data: datasets of expert driving that take the place of both.
        collect: routes that the model drives with the expert in shadow.
        taught_by: `takeovers`, or `expert`, the control: fine-tuning sees as many frames of the expert
            driving the same routes by himself instead of them.
        takeover: triggers, monitor and windows.
        sft: supervised fine-tuning; the mixture and learning rate (4e-4) are those of the tiny model.
        dream: reinforcement in rebuilt scenes; `dream.updates` 0 leaves it out.
        evaluate: validation routes, driven before and after.
    """

    name: str = "takevla"
    base: str = SHIPPED_BASE
    seed: int = 0
    data_seed: int | None = None
    workers: int = 2
    executor: Literal["local", "ray"] = "local"
    address: str = ""
    device: str = "cpu"
    rounds: int = 1
    rehearsal: RouteChoice = field(default_factory=lambda: RouteChoice("train", 44))
    starts_per_route: int = 3
    rehearsal_data: tuple[Path, ...] = ()
    collect: RouteChoice = field(default_factory=lambda: RouteChoice("train", 88))
    taught_by: Literal["takeovers", "expert"] = "takeovers"
    takeover: TakeoverConfig = field(default_factory=TakeoverConfig)
    sft: SftConfig = field(default_factory=_tiny_sft)
    dream: DreamConfig = field(default_factory=DreamConfig)
    evaluate: RouteChoice = field(default_factory=lambda: RouteChoice("mini44"))

    def __post_init__(self) -> None:
        if self.rounds < 0:
            raise ValueError(f"rounds: {self.rounds} is negative; give the number of turns of the loop")
        if self.taught_by == "expert" and self.dream.updates:
            raise ValueError("taught_by: without takeovers there are no dreams; set dream.updates to 0")
        if self.workers < 1:
            raise ValueError(f"workers: {self.workers}; at least one process drives")

    @property
    def world_seed(self) -> int:
        """Seed of the worlds in which data is collected."""
        return self.seed if self.data_seed is None else self.data_seed

    @property
    def cluster(self) -> RayCluster | None:
        """Where the workers run; None is this machine."""
        return ray_cluster(self.executor, self.address)

    def to_json(self) -> dict[str, Any]:
        """Plain values, paths as text."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self), default=str))
        return plain


def first_difference(one: dict[str, Any], other: dict[str, Any], prefix: str = "") -> str | None:
    """Dotted name of the first key in which two recipes differ, None if they are the same."""
    for key in sorted(one.keys() | other.keys()):
        a, b = one.get(key), other.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found = first_difference(a, b, f"{prefix}{key}.")
            if found:
                return found
        elif a != b:
            return f"{prefix}{key}"
    return None
