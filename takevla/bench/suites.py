"""Suites: named lists of routes with scenarios, seeds and traffic density, as files of this package.

`suites/<name>.xml` holds routes in the leaderboard's format; `suites/suites.json` says what each
suite is.  A suite may be a selection of another's routes.  Training never sees a validation town:
`refuse_for_training` is what every command that drives for training asks, `refuse_learning` every command
that learns from datasets.  Of other benchmarks' routes they know nothing; those are held out by the user's
own file of them, which `refuse_held_out` takes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from takevla.dataset.reader import Dataset
from takevla.world.maps.route_xml import RouteTask, read_routes

SUITES_DIR = Path(__file__).parent / "suites"
INDEX = SUITES_DIR / "suites.json"

DEV_TOWNS = ("Alder37", "Alder38", "Alder39", "Alder40")  # left out of training: choices are made here
VALIDATION_FAMILY = "Birch"
SAME_START_M = 2.0  # routes of one town that begin so near are taken for the same


@dataclass(frozen=True)
class Suite:
    """Routes to drive, one seed each, in a fixed order."""

    name: str
    tasks: tuple[RouteTask, ...]
    seeds: tuple[int, ...]  # of the worlds, one for each task
    density: float  # background vehicles, as `EmbeddedWorld` takes it
    training: bool  # whether training may use it


def suite_names() -> tuple[str, ...]:
    """Names that `load_suite` knows."""
    return tuple(sorted(_index()))


def load_suite(name: str) -> Suite:
    """The suite of that name.

    Raises:
        ValueError: naming the suites there are, or a route that a selection names and its source lacks.
    """
    index = _index()
    if name not in index:
        raise ValueError(f"no suite named {name!r}; there are {', '.join(sorted(index))}")
    entry = index[name]
    tasks = _tasks(entry.get("of", name))
    seeds = {task.id: seed_of(task.id) for task in tasks}
    if "routes" in entry:
        by_id = {task.id: task for task in tasks}
        missing = [route for route in entry["routes"] if route not in by_id]
        if missing:
            raise ValueError(
                f"{INDEX.name}: suite {name!r} selects route {missing[0]} that {entry['of']!r} lacks"
            )
        tasks = tuple(by_id[route] for route in entry["routes"])
    return Suite(
        name, tasks, tuple(seeds[task.id] for task in tasks), float(entry["density"]), bool(entry["training"])
    )


def seed_of(route_id: str) -> int:
    """The world's seed of a route: its number, so that a selection drives the same worlds."""
    return int(route_id) % (1 << 31)


def is_validation_town(town: str) -> bool:
    """Whether nothing may be trained on this town."""
    return town.startswith(VALIDATION_FAMILY) or town in DEV_TOWNS


def refuse_for_training(subject: Suite | Sequence[RouteTask]) -> None:
    """Nothing where training may use all these routes.

    Raises:
        ValueError: naming the first route that belongs to validation, and why.
    """
    if isinstance(subject, Suite) and not subject.training:
        raise ValueError(
            f"suite {subject.name!r} is for validation; train on 'train' or on routes of your own"
        )
    held_out = _held_out()
    for task in subject.tasks if isinstance(subject, Suite) else subject:
        if is_validation_town(task.town):
            raise ValueError(
                f"route {task.id} lies in {task.town}, a validation town; training must not use it: "
                "take routes of other Alder towns or of your own maps"
            )
        if (task.town, task.id, _start(task)) in held_out:
            raise ValueError(
                f"route {task.id} of {task.town} is a validation route; training must not use it"
            )


def refuse_learning(datasets: Path | Sequence[Path]) -> None:
    """Nothing where training may learn from all of these datasets.

    Raises:
        ValueError: naming a dataset, and the validation town that it was driven in.
    """
    for path in [datasets] if isinstance(datasets, Path) else datasets:
        barred = sorted(
            town
            for town in set(Dataset(path).episodes.column("town").to_pylist())
            if is_validation_town(town)
        )
        if barred:
            raise ValueError(
                f"{path}: was driven in {barred[0]}, a validation town; training must not use it: "
                "collect on 'train' or on maps of your own"
            )


def refuse_held_out(tasks: Sequence[RouteTask], held_out: Sequence[RouteTask], where: str) -> None:
    """Nothing where no task is one of the routes that are kept for testing, whatever their ids.

    Args:
        tasks: what is to be driven for training.
        held_out: routes to keep out of it.
        where: whence they are, for the message.

    Raises:
        ValueError: naming the first task that begins where a held-out route of the same town begins.
    """
    for task in tasks:
        for other in held_out:
            gap_m = float(np.hypot(*(task.keypoints_world[0, :2] - other.keypoints_world[0, :2])))
            if _plain_town(task) == _plain_town(other) and gap_m <= SAME_START_M:
                raise ValueError(
                    f"route {task.id} of {task.town} begins where route {other.id} of {where} does, which is "
                    "held out: take it out of the route file"
                )


def _plain_town(task: RouteTask) -> str:
    return task.town.removesuffix("_Opt")  # CARLA's layered form of the same town


@lru_cache(maxsize=1)
def _held_out() -> frozenset[tuple[str, str, tuple[float, float]]]:
    """Every validation route by town, id and start, also where its town is no validation town."""
    names = {entry.get("of", name) for name, entry in _index().items() if not entry["training"]}
    return frozenset((task.town, task.id, _start(task)) for name in names for task in _tasks(name))


def _start(task: RouteTask) -> tuple[float, float]:
    return round(float(task.keypoints_world[0, 0]), 1), round(float(task.keypoints_world[0, 1]), 1)


@lru_cache(maxsize=8)
def _tasks(name: str) -> tuple[RouteTask, ...]:
    return tuple(read_routes(SUITES_DIR / f"{name}.xml"))


@lru_cache(maxsize=1)
def _index() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(INDEX.read_text(encoding="utf-8"))
    return found
