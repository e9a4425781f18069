"""The command line: thin.  Every command parses, calls one function of a room, and says what came of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser
from rich.console import Console

if TYPE_CHECKING:
    from takevla.world.maps.route_xml import RouteTask

Arguments = Any  # a parsed namespace
OUT = Console()
ERR = Console(stderr=True)


@dataclass(frozen=True)
class Command:
    """A command: its line in the overview, its arguments, and what it does with them."""

    about: str
    arguments: Callable[[ArgumentParser], None]
    run: Callable[[Arguments], None]


def main(argv: list[str] | None = None) -> int:
    """Entry point; the exit code is 0 only on success, 2 for bad input."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in {"-h", "--help", "help"}:
        OUT.print(_overview(), highlight=False, soft_wrap=True)
        return 0 if words else 2
    if words[0] in {"-V", "--version"}:
        from takevla import __version__

        OUT.print(__version__, highlight=False)
        return 0
    name = words[0]
    if name not in COMMANDS:
        ERR.print(
            f"takevla: no command '{name}'; there are {', '.join(COMMANDS)}", highlight=False, soft_wrap=True
        )
        return 2
    command = COMMANDS[name]
    parser = ArgumentParser(prog=f"takevla {name}", description=command.about, exit_on_error=False)
    try:
        command.arguments(parser)
        command.run(parser.instantiate(parser.parse_args(_with_recipe(name, words[1:]))))
    except KeyboardInterrupt:
        ERR.print(f"takevla {name}: interrupted; the same command goes on where it stopped")
        return 130
    except (
        ValueError,
        FileNotFoundError,
        NotADirectoryError,
        IsADirectoryError,
        PermissionError,
        RuntimeError,
    ) as error:
        return _refuse(name, _message(error), error)
    except Exception as error:
        if type(error).__name__ != "ArgumentError":
            raise
        return _refuse(name, str(error), error)
    return 0


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}"
    return str(error)


def _refuse(name: str, message: str, error: Exception) -> int:
    """One line on standard error; the traceback where TAKEVLA_DEBUG is set."""
    if os.environ.get("TAKEVLA_DEBUG"):
        raise error
    line = " ".join(message.split())
    ERR.print(f"takevla {name}: {line}", highlight=False, markup=False, soft_wrap=True)
    return 2


def _with_recipe(name: str, words: list[str]) -> list[str]:
    """`takevla run RECIPE.yaml ...` names its recipe first."""
    if name == "run" and words and not words[0].startswith("-"):
        return ["--recipe", words[0], *words[1:]]
    return words


def _overview() -> str:
    width = max(len(name) for name in COMMANDS)
    lines = ["takevla COMMAND [--help]", ""]
    return "\n".join(lines + [f"  {name:<{width}}  {command.about}" for name, command in COMMANDS.items()])


def _common(parser: ArgumentParser, out: str | None, workers: bool = True) -> None:
    if out is None:
        parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    else:
        parser.add_argument("--out", type=Path, default=Path(out), help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything that is drawn by chance")
    if workers:
        parser.add_argument(
            "--workers", type=int, default=2, help="local processes; they change only the time"
        )


# --- run, quickstart --------------------------------------------------------------------------------


def _recipe_arguments(out: str) -> Callable[[ArgumentParser], None]:
    def add(parser: ArgumentParser) -> None:
        from takevla.recipe import Recipe

        parser.add_argument("--recipe", action="config", help="YAML file with any of the settings below")
        parser.add_argument("--out", type=Path, default=Path(out), help="the run's folder")
        parser.add_class_arguments(Recipe)

    return add


def _run(command: str) -> Callable[[Arguments], None]:
    def work(arguments: Arguments) -> None:
        from dataclasses import fields

        from takevla.recipe import Recipe
        from takevla.rounds import run_recipe

        recipe = Recipe(**{one.name: getattr(arguments, one.name) for one in fields(Recipe)})
        run_recipe(recipe, arguments.out, f"takevla {command}", OUT)

    return work


# --- single stages ----------------------------------------------------------------------------------


def _demonstrate_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--suite", type=list[str], default=["train", "train_free"], help="suites to drive")
    parser.add_argument(
        "--starts", type=int, default=0, help="standing starts per route instead of whole routes"
    )
    _common(parser, None)


def _demonstrate(arguments: Arguments) -> None:
    from takevla.bench.suites import load_suite
    from takevla.rounds import demonstrate, demonstrate_starts

    suites = [load_suite(name) for name in arguments.suite]
    how = {"seed": arguments.seed, "workers": arguments.workers}
    if arguments.starts:
        demonstrate_starts(suites, arguments.starts, arguments.out, **how)
    else:
        demonstrate(suites, arguments.out, **how)
    _say_dataset(arguments.out)


def _collect_arguments(parser: ArgumentParser) -> None:
    from takevla.takeover.shadow import TakeoverConfig

    parser.add_argument("--model", type=str, default="shipped", help="checkpoint folder, or 'shipped'")
    parser.add_argument("--suite", type=str, default="train", help="suite to drive")
    parser.add_argument(
        "--routes", type=int, default=0, help="how many of its routes, evenly spread; 0 for all"
    )
    _common(parser, None)
    parser.add_class_arguments(TakeoverConfig, "takeover")


def _collect(arguments: Arguments) -> None:
    from takevla.recipe import RouteChoice
    from takevla.rounds import chosen, collect

    suite = chosen(RouteChoice(arguments.suite, arguments.routes))
    model = _model_folder(arguments.model)
    collect(model, suite, arguments.takeover, arguments.out, seed=arguments.seed, workers=arguments.workers)
    _say_dataset(arguments.out)


def _label_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--takeovers", type=Path, required=True, help="dataset of takeovers")
    parser.add_argument(
        "--window", type=float, default=3.0, help="seconds before a takeover that get a label"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the new dataset")


def _label(arguments: Arguments) -> None:
    from takevla.dataset.relabel import relabel

    done = relabel(arguments.takeovers, arguments.out, arguments.window)
    OUT.print(
        f"{arguments.out}: {done.takeovers} takeovers, {done.frames} frames before them, "
        f"{done.enhanced} with an enhanced commentary"
    )


def _pretrain_arguments(parser: ArgumentParser) -> None:
    from takevla.learn.pretrain import PretrainConfig

    parser.add_argument("--recipe", action="config", help="YAML file with any of the settings below")
    parser.add_argument("--data", type=list[Path], required=True, help="datasets of expert driving")
    _common(parser, None, workers=False)
    parser.add_class_arguments(PretrainConfig, "pretrain")


def _pretrain(arguments: Arguments) -> None:
    from takevla.learn.pretrain import pretrain

    config = arguments.pretrain
    config = replace(config, train=replace(config.train, seed=arguments.seed))
    OUT.print(f"model: {pretrain(config, arguments.data, arguments.out)}")


def _sft_arguments(parser: ArgumentParser) -> None:
    from takevla.learn.sft import SftConfig

    parser.add_argument("--recipe", action="config", help="YAML file with any of the settings below")
    parser.add_argument(
        "--model", type=str, default="shipped", help="checkpoint folder to start from, or 'shipped'"
    )
    parser.add_argument("--rehearsal", type=list[Path], required=True, help="datasets of expert driving")
    parser.add_argument("--takeovers", type=list[Path], required=True, help="datasets of takeovers")
    _common(parser, None, workers=False)
    parser.add_class_arguments(SftConfig, "sft")


def _sft(arguments: Arguments) -> None:
    from takevla.learn.sft import sft

    config = replace(arguments.sft, train=replace(arguments.sft.train, seed=arguments.seed))
    start = _model_folder(arguments.model)
    OUT.print(f"model: {sft(config, start, arguments.rehearsal, arguments.takeovers, arguments.out)}")


def _dream_arguments(parser: ArgumentParser) -> None:
    from takevla.learn.dream.dreaming import DreamConfig

    parser.add_argument("--recipe", action="config", help="YAML file with any of the settings below")
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder to start from")
    parser.add_argument("--takeovers", type=Path, required=True, help="dataset of takeovers")
    parser.add_argument("--maps", type=Path, default=None, help="folder of OpenDRIVE files of its towns")
    parser.add_argument("--audit", action="store_true", help="only say how true the dreams are")
    _common(parser, None, workers=False)
    parser.add_class_arguments(DreamConfig, "dream")


def _dream(arguments: Arguments) -> None:
    from takevla.rounds import audit_stage, dream_stage

    if arguments.audit:
        report = audit_stage(
            arguments.takeovers, arguments.out, arguments.dream, seed=arguments.seed, maps_dir=arguments.maps
        )
        OUT.print(report.to_json())
        arguments.dream.limits.refuse(report)
        return
    audit = dream_stage(
        arguments.model, arguments.takeovers, arguments.out, arguments.dream,
        seed=arguments.seed, maps_dir=arguments.maps,
    )  # fmt: skip
    OUT.print(audit.to_json())
    OUT.print(f"model: {arguments.out / 'model'}")


def _evaluate_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--driver", type=str, default="shipped", help="'expert', 'blind', 'shipped', or a checkpoint folder"
    )
    parser.add_argument("--suite", type=str, default=None, help="suite to drive (default mini44)")
    parser.add_argument("--routes", type=Path, default=None, help="leaderboard route XML instead of a suite")
    parser.add_argument("--maps", type=Path, default=None, help="folder of the OpenDRIVE files of its towns")
    parser.add_argument(
        "--penalties", type=str, default="bench2drive", help="or leaderboard-2.0, leaderboard-2.1"
    )
    parser.add_argument("--resume", type=bool, default=True, help="go on with the results that are there")
    _common(parser, None)


def _evaluate(arguments: Arguments) -> None:
    from takevla.bench.runner import evaluate
    from takevla.report.terminal import metrics_table

    name, tasks, seeds, density = _routes(arguments)
    driver = _driver_name(arguments.driver)
    done = evaluate(
        driver, tasks, arguments.out, seeds=seeds, density=density, seed=arguments.seed,
        workers=arguments.workers, resume=arguments.resume, maps_dir=arguments.maps, suite=name,
        penalties=arguments.penalties,
    )  # fmt: skip
    OUT.print(metrics_table(done.metrics, f"{Path(driver).name} on {name}"))
    without = done.metrics["scenarios_not_started"]
    if without:
        OUT.print(f"{len(without)} of {len(tasks)} routes ran without their scenario:")
    for route, note in without.items():
        OUT.print(f"  route {route}: {note}", highlight=False, markup=False)
    OUT.print(f"results: {arguments.out / 'results.json'}, metrics: {arguments.out / 'metrics.json'}")
    if done.unscored:
        route, reason = next(iter(done.unscored.items()))
        raise ValueError(f"{len(done.unscored)} of {len(tasks)} routes not driven, first {route}: {reason}")


def _watch_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("route", type=str, help="id of the route")
    parser.add_argument(
        "--driver", type=str, default="expert", help="'expert', 'blind', 'shipped', or a checkpoint folder"
    )
    parser.add_argument("--suite", type=str, default=None, help="suite of the route (default mini44)")
    parser.add_argument("--routes", type=Path, default=None, help="leaderboard route XML instead of a suite")
    parser.add_argument("--maps", type=Path, default=None, help="folder of the OpenDRIVE files of its towns")
    parser.add_argument("--out", type=Path, required=True, help="the clip to write, FILE.mp4")
    parser.add_argument("--seed", type=int, default=0, help="seed of the traffic, as of `takevla evaluate`")
    parser.add_argument("--seconds", type=float, default=0.0, help="stop after so much time; 0: whole route")


def _watch(arguments: Arguments) -> None:
    from takevla.bench.drivers import load_driver
    from takevla.bench.runner import world_seed
    from takevla.report.clips import film_route
    from takevla.world.embedded import EmbeddedWorld
    from takevla.world.maps.atlas import load_town

    name, tasks, seeds, density = _routes(arguments)
    found = next((k for k, task in enumerate(tasks) if task.id == arguments.route), None)
    if found is None:
        raise ValueError(
            f"no route {arguments.route} in {name}; ids run from {tasks[0].id} to {tasks[-1].id}"
        )
    task, seed = tasks[found], world_seed(arguments.seed, seeds[found])
    world = EmbeddedWorld(load_town(task.town, arguments.maps), task, seed, density)
    driver = load_driver(_driver_name(arguments.driver))
    frames = film_route(world, driver, arguments.out, arguments.seconds)
    record = world.record()
    broken = [
        f"{len(rows)} {key}" for key, rows in record.infractions.items() if rows and "min_speed" not in key
    ]
    OUT.print(
        f"{arguments.out}: {frames} frames, {record.duration_game_s:.1f} s of route {task.id} "
        f"({record.scenario_type or 'no scenario'}), {driver.name}: "
        f"{record.status if world.finished else 'cut short'}, {', '.join(broken) or 'no infraction'}",
        highlight=False,
        soft_wrap=True,
    )


def _scenarios_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--suite", type=str, default="val220", help="suite to drive")
    parser.add_argument("--out", type=Path, default=Path("docs/scenarios.md"), help="the page to write")
    parser.add_argument(
        "--json", type=Path, default=Path("results/scenarios.json"), help="file of the figures"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("runs/scenarios"), help="folder of the evaluations; resumed there"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the evaluations")
    parser.add_argument("--workers", type=int, default=2, help="local processes; they change only the time")


def _scenarios(arguments: Arguments) -> None:
    from takevla.bench.suites import load_suite
    from takevla.report.scenarios import write_page

    rows = write_page(
        load_suite(arguments.suite), arguments.out, arguments.json, arguments.work,
        seed=arguments.seed, workers=arguments.workers,
    )  # fmt: skip
    OUT.print(f"{arguments.out}: {len(rows)} types; figures: {arguments.json}")


def _report_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--run", type=Path, default=None, help="run directory to make the HTML report of")
    parser.add_argument("--results", type=Path, default=None, help="any leaderboard or merged result file")
    parser.add_argument(
        "--asked", type=int, default=None, help="routes asked; those without a record count 0"
    )
    parser.add_argument("--metric-info", type=Path, default=None, help="folder of the agent's motion logs")
    parser.add_argument("--routes", type=Path, default=None, help="route XML, for the rule of Traffic_Signs")
    parser.add_argument(
        "--penalties",
        type=str,
        default=None,
        help="score anew: bench2drive, leaderboard-2.0, leaderboard-2.1",
    )
    parser.add_argument("--maps", type=Path, default=None, help="folder of the OpenDRIVE files of its towns")


def _report(arguments: Arguments) -> None:
    from takevla.report.page import write_report
    from takevla.report.terminal import print_results

    if (arguments.run is None) == (arguments.results is None):
        raise ValueError("give --run DIR for the report of a run or --results FILE.json for a result file")
    if arguments.run is not None:
        OUT.print(f"report: {write_report(arguments.run, arguments.run / 'report.html')}")
    else:
        print_results(
            arguments.results,
            arguments.asked,
            arguments.metric_info,
            arguments.routes,
            arguments.maps,
            arguments.penalties,
            OUT,
        )


def _doctor_arguments(parser: ArgumentParser) -> None:
    """Takes none."""


def _doctor(arguments: Arguments) -> None:
    from rich.table import Table

    from takevla.doctor import Health, examine

    table = Table("", "what", "found", "mend", show_edge=False)
    marks = {Health.OK: "[green]ok[/]", Health.OPTIONAL: "[dim]optional[/]", Health.BROKEN: "[red]broken[/]"}
    findings = examine()
    for finding in findings:
        table.add_row(marks[finding.health], finding.subject, finding.detail, finding.mend)
    OUT.print(table)
    broken = [finding.subject for finding in findings if finding.health == Health.BROKEN]
    if broken:
        raise ValueError(f"{len(broken)} broken: {', '.join(broken)}; the table says how to mend them")


def _routes(arguments: Arguments) -> tuple[str, Sequence[RouteTask], Sequence[int], float]:
    """Name, tasks, seeds and density of `--suite` or `--routes`."""
    from takevla.bench.suites import load_suite
    from takevla.world.embedded import DENSITY_PER_KM
    from takevla.world.maps.route_xml import read_routes

    if arguments.suite and arguments.routes:
        raise ValueError("--suite and --routes exclude each other; give one of them")
    if arguments.routes is not None:
        tasks = read_routes(arguments.routes)
        return arguments.routes.name, tasks, [0] * len(tasks), DENSITY_PER_KM
    suite = load_suite(arguments.suite or "mini44")
    return suite.name, suite.tasks, suite.seeds, suite.density


def _driver_name(name: str) -> str:
    from takevla.bench.drivers import BUILT_IN

    return name if name in BUILT_IN else str(_model_folder(name))


def _model_folder(name: str) -> Path:
    from takevla.driver.vla.shipped import shipped_base

    if name == "shipped":
        return shipped_base()
    folder = Path(name)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{name}: no such checkpoint folder; give 'shipped' or a folder with config.json"
        )
    return folder


COMMANDS: dict[str, Command] = {
    "quickstart": Command(
        "the whole loop, small, on the embedded world, with a report at the end",
        _recipe_arguments("runs/quickstart"),
        _run("quickstart"),
    ),
    "run": Command(
        "the whole loop as a recipe says: takevla run RECIPE.yaml",
        _recipe_arguments("runs/takevla"),
        _run("run"),
    ),
    "demonstrate": Command("collect expert driving for pretraining", _demonstrate_arguments, _demonstrate),
    "pretrain": Command("train the base model on expert driving", _pretrain_arguments, _pretrain),
    "collect": Command(
        "let a model drive, the expert take over, and record it", _collect_arguments, _collect
    ),
    "label": Command(
        "label a collection anew, with another window before takeovers", _label_arguments, _label
    ),
    "sft": Command("fine-tune a model on takeovers", _sft_arguments, _sft),
    "dream": Command("reinforce a model in scenes rebuilt from takeovers", _dream_arguments, _dream),
    "evaluate": Command(
        "drive a suite or a route file in closed loop and score it", _evaluate_arguments, _evaluate
    ),
    "scenarios": Command(
        "the page of the scenario types, with pictures and figures", _scenarios_arguments, _scenarios
    ),
    "watch": Command("film a route: camera, bird's eye, plan, words, events", _watch_arguments, _watch),
    "report": Command(
        "the HTML report of a run, or all metrics of a result file", _report_arguments, _report
    ),
    "doctor": Command(
        "what works on this machine, what is missing, and the mend", _doctor_arguments, _doctor
    ),
}


def _say_dataset(folder: Path) -> None:
    from takevla.dataset.reader import Dataset

    dataset = Dataset(folder)
    counts = f"{len(dataset.episodes)} episodes, {len(dataset)} frames, {len(dataset.takeovers)} takeovers"
    OUT.print(f"{folder}: {counts}")


if __name__ == "__main__":
    raise SystemExit(main())
