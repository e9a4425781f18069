"""The loop itself: its stages, their order, their resume.

    run/recipe.json                    what was asked; a run directory belongs to one recipe
    run/base_eval/                     evaluation of the base
    run/rehearsal/                     dataset: the expert drives, for the pre-training share of the mixture
    run/starts/                        dataset: the expert sets off from standing starts, for the same
    run/rounds/<n>/takeovers/          dataset: the model drives, the expert takes over
    run/rounds/<n>/expert/             dataset: the expert drives instead, where that is the arm
    run/rounds/<n>/sft/, dream/        learning, each with model/
    run/final_eval/                    evaluation of the post-trained model
    run/report.html

A stage that has ended leaves `run.json` in its folder and is not run again.  One that was cut off goes on
where it stopped: every stage resumes by itself.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from takevla.bench.provenance import run_facts, tree_digest
from takevla.bench.suites import Suite, load_suite, refuse_for_training, refuse_learning
from takevla.dataset.schema import MANIFEST
from takevla.driver.expert.margins import ORDINARY
from takevla.driver.vla.checkpoint import read_rig
from takevla.driver.vla.named import model_folder
from takevla.files import read_json, write_json
from takevla.learn.dream.audit import UntrueDreamsError
from takevla.learn.sft import sft
from takevla.recipe import PLACEMENT, Recipe, RouteChoice, first_difference
from takevla.report.page import write_report
from takevla.report.terminal import before_after_table
from takevla.stage_work import (
    collect,
    demonstrate,
    demonstrate_starts,
    dream_stage,
    drive_suite,
)
from takevla.world.camera.rig import Rig

RUN_FILE = "run.json"
NOT_DREAMED = "not_dreamed"  # key of `before_after.json` where the audit refused
DREAMS = 2  # raised when dreams of the same settings learn something else: none of before is used again
BEHAVIOUR = 3  # raised when the world, takeovers or what is recorded change: no stage of before is used again


@dataclass(frozen=True)
class Stage:
    """One step of a run: a folder below the run directory, and the work that fills it.

    `key` is the hash of all that decides what comes of it, the keys of the stages that it reads among them:
    two stages of one key would be the same files.
    """

    title: str
    folder: str
    work: Callable[[Path], None]
    key: str


def stage_key(kind: str, *made_of: Any) -> str:
    """Hash of a kind of stage and what decides its outcome (dataclasses, plain values, other keys)."""
    plain = [asdict(one) if is_dataclass(one) and not isinstance(one, type) else one for one in made_of]
    text = json.dumps([kind, BEHAVIOUR, plain], sort_keys=True, default=str)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def chosen(choice: RouteChoice, turn: int = 0) -> Suite:
    """The suite of a choice, thinned to its number of routes, evenly and in order.

    Each `turn` takes the routes next to those of the one before: a later round meets others, as long as the
    suite has them.
    """
    suite = load_suite(choice.suite)
    total = len(suite.tasks)
    if not choice.routes or choice.routes >= total:
        return suite
    keep = sorted((round(k * total / choice.routes) + turn) % total for k in range(choice.routes))
    return replace(
        suite,
        tasks=tuple(suite.tasks[k] for k in keep),
        seeds=tuple(suite.seeds[k] for k in keep),
    )


def stages(recipe: Recipe, run: Path) -> list[Stage]:
    """Every stage of a recipe, in order.  What a stage reads, a former one has written.

    Without rounds that is the evaluation of the base alone.
    """
    model, seed = model_folder(recipe.base), recipe.seed
    model_key = tree_digest(model)
    result = [_evaluation(recipe, model, model_key, "evaluate the base model", "base_eval")]
    if recipe.rounds == 0:
        return result
    rehearsals = [Path(path) for path in recipe.rehearsal_data]
    learnt_keys = [tree_digest(path / MANIFEST) for path in rehearsals]
    if not rehearsals:
        result += _rehearsal_stages(recipe)
        rehearsals = [run / stage.folder for stage in result[1:]]
        learnt_keys = [stage.key for stage in result[1:]]
    takeovers: list[Path] = []
    taken_keys: list[str] = []
    extra: list[Path] = []
    for number in range(1, recipe.rounds + 1):
        here = f"rounds/{number}"
        drive_work = partial(_collect, recipe, model, number)
        turn = [f"turn {number - 1}"] if number > 1 else []
        key = stage_key(
            "takeovers", recipe.collect, recipe.takeover, recipe.world_seed + number, model_key, *turn
        )
        result.append(Stage(f"round {number}: drive and take over", f"{here}/takeovers", drive_work, key))
        takeovers.append(run / here / "takeovers")
        taken_keys.append(key)
        learnt_keys.append(key)
        if recipe.taught_by == "expert":
            key = stage_key("expert", recipe.collect, recipe.world_seed + number, *_expert_key(recipe), *turn)
            work = partial(_demonstrate_instead, recipe, number)
            result.append(Stage(f"round {number}: the expert drives instead", f"{here}/expert", work, key))
            extra.append(run / here / "expert")
            learnt_keys.append(key)
        tune = partial(_tune, recipe, model, rehearsals, list(takeovers), list(extra))
        model_key = stage_key("sft", recipe.sft, recipe.taught_by, seed, model_key, learnt_keys)
        result.append(Stage(f"round {number}: supervised fine-tuning", f"{here}/sft", tune, model_key))
        model = run / here / "sft" / "model"
        if recipe.dream.updates:
            work = partial(_dream, recipe, model, list(takeovers), number)
            dreamed = taken_keys if recipe.dream.recalls else taken_keys[-1:]
            model_key = stage_key("dream", DREAMS, recipe.dream, seed + number, model_key, *reversed(dreamed))
            result.append(Stage(f"round {number}: dream", f"{here}/dream", work, model_key))
            model = run / here / "dream" / "model"
    result.append(_evaluation(recipe, model, model_key, "evaluate the post-trained model", "final_eval"))
    return result


def _evaluation(recipe: Recipe, model: Path, model_key: str, title: str, folder: str) -> Stage:
    key = stage_key("evaluation", recipe.evaluate, recipe.seed, model_key)
    return Stage(title, folder, partial(_evaluate, recipe, model), key)


def _expert_key(recipe: Recipe) -> list[dict[str, Any]]:
    """What camera and margins add to the key of what the expert records: nothing where they are the usual."""
    rig, margins = read_rig(model_folder(recipe.base)), recipe.takeover.margins
    added = [] if rig == Rig() else [rig.settings()]
    return added if margins == ORDINARY else [*added, asdict(margins)]


def _rehearsal_stages(recipe: Recipe) -> list[Stage]:
    choice, seed, seen = recipe.rehearsal, recipe.world_seed, _expert_key(recipe)
    found = [
        Stage(
            "the expert drives for the pre-training buckets",
            "rehearsal",
            partial(_rehearse, recipe),
            stage_key("expert", choice, seed, *seen),
        )
    ]
    if recipe.starts_per_route:
        key = stage_key("starts", choice, recipe.starts_per_route, seed, *seen)
        found.append(Stage("the expert sets off, for the same", "starts", partial(_set_off, recipe), key))
    return found


def check_recipe(recipe: Recipe) -> None:
    """Nothing where suites, base and datasets of a recipe are there, before hours are spent on it.

    Raises:
        ValueError: an unknown suite, or one or a dataset of validation that would be learned from.
        FileNotFoundError: no such base or dataset.
    """
    model_folder(recipe.base)
    load_suite(recipe.evaluate.suite)
    if recipe.rounds:
        for choice in {recipe.collect.suite, recipe.rehearsal.suite}:
            refuse_for_training(load_suite(choice))
        refuse_learning(recipe.rehearsal_data)


def run_recipe(recipe: Recipe, run: Path, command: str, console: Console) -> Path:
    """Run or continue a recipe in the folder `run`; returns the path of the report.

    Raises:
        ValueError: `run` holds a run of another recipe, this one has no round, or `check_recipe` refuses it.
    """
    if recipe.rounds == 0:
        raise ValueError("rounds: 0 rounds are no run; `takevla evaluate` drives the base alone")
    check_recipe(recipe)
    _claim(recipe, run)
    began = time.monotonic()
    todo = stages(recipe, run)
    for number, stage in enumerate(todo, 1):
        folder = run / stage.folder
        label = f"[bold]{number}/{len(todo)}[/] {stage.title}"
        if (folder / RUN_FILE).is_file():
            console.print(f"{label}: done before")
            continue
        console.print(label)
        run_stage(stage, folder, recipe, command)
    walls = [read_json(run / stage.folder / RUN_FILE)["wall_s"] or 0.0 for stage in todo]
    write_json(run / RUN_FILE, run_facts(command, recipe.seed, recipe.to_json(), sum(walls)))
    report = write_report(run, run / "report.html")
    console.print(before_after_table(_metrics(run / "base_eval"), _metrics(run / "final_eval")))
    minutes = (time.monotonic() - began) / 60.0
    console.print(f"{minutes:.1f} minutes now, {sum(walls) / 60.0:.1f} in all stages. Report: {report}")
    return report


def run_stage(stage: Stage, folder: Path, recipe: Recipe, command: str) -> None:
    """Run or continue a stage; its `run.json` says that it has ended."""
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    stage.work(folder)
    if not (folder / RUN_FILE).is_file():
        wall_s = time.monotonic() - started
        facts = run_facts(f"{command}: {stage.title}", recipe.seed, recipe.to_json(), wall_s)
        write_json(folder / RUN_FILE, facts)


def _claim(recipe: Recipe, run: Path) -> None:
    path = run / "recipe.json"
    asked = recipe.to_json()
    if path.is_file():
        found = read_json(path)
        found, wanted = ({k: v for k, v in one.items() if k not in PLACEMENT} for one in (found, asked))
        differs = first_difference(found, wanted)
        if differs is not None:
            raise ValueError(
                f"{run}: holds a run whose recipe differs in '{differs}'; give another --out or remove it"
            )
        return
    run.mkdir(parents=True, exist_ok=True)
    write_json(path, asked)


def _metrics(folder: Path) -> Any:
    return read_json(folder / "metrics.json")


def _evaluate(recipe: Recipe, model: Path, folder: Path) -> None:
    suite, driver = chosen(recipe.evaluate), str(model.resolve())
    drive_suite(
        driver,
        suite,
        folder,
        seed=recipe.seed,
        workers=recipe.workers,
        cluster=recipe.cluster,
        device=recipe.device,
    )


def _rehearse(recipe: Recipe, folder: Path) -> None:
    demonstrate(
        [chosen(recipe.rehearsal)], folder, seed=recipe.world_seed, workers=recipe.workers,
        cluster=recipe.cluster, rig=read_rig(model_folder(recipe.base)), margins=recipe.takeover.margins,
    )  # fmt: skip


def _set_off(recipe: Recipe, folder: Path) -> None:
    demonstrate_starts(
        [chosen(recipe.rehearsal)], recipe.starts_per_route, folder, seed=recipe.world_seed,
        workers=recipe.workers, cluster=recipe.cluster, rig=read_rig(model_folder(recipe.base)),
        margins=recipe.takeover.margins,
    )  # fmt: skip


def _collect(recipe: Recipe, model: Path, number: int, folder: Path) -> None:
    suite = chosen(recipe.collect, number - 1)
    collect(
        model, suite, recipe.takeover, folder, seed=recipe.world_seed + number, workers=recipe.workers,
        cluster=recipe.cluster, device=recipe.device,
    )  # fmt: skip


def _demonstrate_instead(recipe: Recipe, number: int, folder: Path) -> None:
    demonstrate(
        [chosen(recipe.collect, number - 1)], folder, seed=recipe.world_seed + number, workers=recipe.workers,
        cluster=recipe.cluster, rig=read_rig(model_folder(recipe.base)), margins=recipe.takeover.margins,
    )  # fmt: skip


def _tune(
    recipe: Recipe,
    model: Path,
    rehearsals: list[Path],
    takeovers: list[Path],
    extra: list[Path],
    folder: Path,
) -> None:
    settings = replace(recipe.sft, train=replace(recipe.sft.train, seed=recipe.seed))
    sft(settings, model, rehearsals, takeovers, folder, extra_expert=extra, device=recipe.device)


def _dream(recipe: Recipe, model: Path, takeovers: list[Path], number: int, folder: Path) -> None:
    """Dream of the takeovers of all rounds, the last one's audited; where the audit refuses, say so and hand
    the fine-tuned model on as it is.
    """
    workers = recipe.workers if recipe.cluster else 1  # to start local ones takes as long as a round's dreams
    try:
        dream_stage(
            model, takeovers[-1], folder, recipe.dream, seed=recipe.seed + number, workers=workers,
            cluster=recipe.cluster, tasks=chosen(recipe.collect, number - 1).tasks, former=takeovers[:-1],
            device=recipe.device,
        )  # fmt: skip
    except UntrueDreamsError as refusal:
        Console(stderr=True).print(f"no dreams in round {number}: {refusal}", highlight=False)
        shutil.copytree(model, folder / "model", dirs_exist_ok=True)
        write_json(folder / "before_after.json", {NOT_DREAMED: str(refusal)})
