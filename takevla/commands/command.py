"""What a command is, and what several of them share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser
from rich.console import Console

Arguments = Any  # a parsed namespace
OUT = Console(quiet=os.environ.get("RANK", "0") != "0")  # of a launch the first process speaks
Folders = list[Path] | Path  # several as "[a,b]" on the command line


@dataclass(frozen=True)
class Command:
    """A command: its line in the overview, its arguments, and what it does with them."""

    about: str
    arguments: Callable[[ArgumentParser], None]
    run: Callable[[Arguments], None]


def add_common(parser: ArgumentParser, workers: bool = True) -> None:
    """Add `--out`, `--seed` and, where work is spread over processes, `--workers` and where they run."""
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything that is drawn by chance")
    if workers:
        parser.add_argument("--workers", type=int, default=2, help="processes; they change only the time")
        parser.add_argument(
            "--executor", type=Literal["local", "ray"], default="local", help="where the processes run"
        )
        parser.add_argument(
            "--address", type=str, default="", help="of a Ray cluster; without, one is started here"
        )


def add_device(parser: ArgumentParser) -> None:
    """Add `--device`, for commands that load a model."""
    parser.add_argument(
        "--device", type=str, default="cpu", help="where the model's weights go: cpu, cuda, cuda:1, mps, auto"
    )


def placement(arguments: Arguments) -> dict[str, Any]:
    """The arguments `workers` and `cluster` of a stage."""
    from takevla.scale import ray_cluster

    return {"workers": arguments.workers, "cluster": ray_cluster(arguments.executor, arguments.address)}


def refuse_unused(
    arguments: Arguments, make: Callable[[ArgumentParser], None], names: Sequence[str], why: str
) -> None:
    """ValueError where one of the options `names` was given, which this call would drop; `make` adds them."""
    parser = ArgumentParser()
    make(parser)
    for name in names:
        if getattr(arguments, name) != parser.get_default(name):
            raise ValueError(f"--{name.replace('_', '-')}: {why}; leave it out")


def say_dataset(folder: Path) -> None:
    """Say what a dataset holds."""
    from takevla.dataset.reader import Dataset

    dataset = Dataset(folder)
    counts = f"{len(dataset.episodes)} episodes, {len(dataset)} frames, {len(dataset.takeovers)} takeovers"
    OUT.print(f"{folder}: {counts}")
