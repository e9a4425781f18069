"""Run a table of arms x seeds in pieces: each stage once, whichever arms need it, figures as they come.

    work/store/<kind>-<hash>/       a finished or begun stage, named by the hash of all that decides it
    work/runs/<arm>/<seed>/         a run directory of each cell, its stages links into the store
    results/arms/<suite>/<arm>/<seed>.json     the figures of a cell

A study that was stopped goes on where it was.  Several processes may work on one study: a stage that another
one is working on is waited for.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from takevla.files import read_json, write_json
from takevla.recipe import Recipe
from takevla.rounds import RUN_FILE, Stage, check_recipe, run_stage, stages
from takevla.study.arms import load_arm
from takevla.study.cell import StageFacts, has_all, make_cell
from takevla.study.dreams import dream_facts, is_dream

COMMAND = "takevla arms"


@dataclass(frozen=True)
class Study:
    """What is run: arms x seeds on a suite."""

    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    suite: str
    routes: int  # of the suite, evenly spread; 0 takes all
    recipes: Path  # folder of the arms
    work: Path
    results: Path
    workers: int
    minutes: float = 0.0  # no stage is begun later than this; 0 never stops


def cell_path(results: Path, suite: str, arm: str, seed: int) -> Path:
    """Where the figures of a cell lie."""
    return results / "arms" / suite / arm / f"{seed}.json"


def suite_label(study: Study) -> str:
    """Name of the suite in paths; a part of a suite never passes for the whole."""
    return f"{study.suite}-{study.routes}" if study.routes else study.suite


def run_study(study: Study, console: Console) -> tuple[int, int]:
    """Run what is missing, seed by seed; gives the numbers of finished and of all cells."""
    began = time.monotonic()
    arms = [load_arm(study.recipes, name) for name in study.arms]
    for arm in arms:
        check_recipe(arm.cell(0, study.suite, study.routes, study.workers))
    cells = [(arm, seed) for seed in study.seeds for arm in arms]
    done = 0
    for arm, seed in cells:
        path = cell_path(study.results, suite_label(study), arm.name, seed)
        recipe = arm.cell(seed, study.suite, study.routes, study.workers)
        run = study.work / "runs" / suite_label(study) / arm.name / str(seed)
        todo = _wanted(stages(recipe, run))
        if not _written(path, todo):
            for stage in todo:
                if not _within(study, began) and not _finished(study.work, stage):
                    console.print(f"{study.minutes:g} minutes are over; the same command goes on")
                    return done, len(cells)
                _once(study.work, run, stage, console, f"{arm.name}, seed {seed}", recipe)
            facts = [_facts(study.work, stage) for stage in todo]
            store = study.work / "store"
            dreams = [dream_facts(one.folder, store / one.key) for one in todo if is_dream(one.folder)]
            cell = make_cell(
                arm.name, recipe.name, seed, suite_label(study), facts, store / todo[-1].key, dreams
            )
            write_json(path, cell)
            console.print(f"{path}: written", highlight=False, soft_wrap=True)
        done += 1
    return done, len(cells)


def _wanted(found: list[Stage]) -> list[Stage]:
    """Without the evaluation of the base where more follows: that is a cell of its own arm."""
    return found[1:] or found


def _written(path: Path, todo: Sequence[Stage]) -> bool:
    """Whether a cell of these very stages is there, with all that a cell holds."""
    if not path.is_file():
        return False
    cell = read_json(path)
    return has_all(cell) and [one["key"] for one in cell["stages"]] == [stage.key for stage in todo]


def _within(study: Study, began: float) -> bool:
    return study.minutes <= 0.0 or time.monotonic() - began < 60.0 * study.minutes


def _finished(work: Path, stage: Stage) -> bool:
    return (work / "store" / stage.key / RUN_FILE).is_file()


def _once(work: Path, run: Path, stage: Stage, console: Console, label: str, recipe: Recipe) -> None:
    """Link the stage's folder into the store, and do its work unless it was done."""
    store = work / "store" / stage.key
    store.mkdir(parents=True, exist_ok=True)
    link = run / stage.folder
    link.parent.mkdir(parents=True, exist_ok=True)
    target = os.path.relpath(store.resolve(), link.parent.resolve())
    if link.is_symlink() and os.readlink(link) != target:
        link.unlink()  # the arm's recipe has changed since
    if not link.is_symlink():
        link.symlink_to(target, target_is_directory=True)
    with _alone(work / "store" / f"{stage.key}.lock"):
        if _finished(work, stage):
            return
        console.print(f"[bold]{label}[/] {stage.title}")
        run_stage(stage, link.resolve(), recipe, COMMAND)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock that dies with the process."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _facts(work: Path, stage: Stage) -> StageFacts:
    found = read_json(work / "store" / stage.key / RUN_FILE)
    return StageFacts(
        stage.folder, stage.key, found["wall_s"], found["git_revision"], found["machine"], found["finished"]
    )


def table(study: Study) -> Sequence[tuple[str, list[bool]]]:
    """For each arm, which seeds have their figures."""
    label = suite_label(study)
    return [
        (arm, [cell_path(study.results, label, arm, seed).is_file() for seed in study.seeds])
        for arm in study.arms
    ]
