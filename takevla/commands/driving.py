"""Driving and what is shown of it: `evaluate`, `scenarios`, `watch`, `report`, `doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser

from takevla.commands.bench2drive import add_bench2drive, evaluate_in_carla
from takevla.commands.command import (
    OUT,
    Arguments,
    Command,
    add_common,
    add_device,
    placement,
    refuse_unused,
)

if TYPE_CHECKING:
    from takevla.world.maps.route_xml import RouteTask

DRIVERS = "'expert', 'careful_expert', 'blind', 'shipped', 'shipped-takevla', or a checkpoint folder"


def _evaluate_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--driver", type=str, default="shipped", help=DRIVERS)
    parser.add_argument("--suite", type=str, default=None, help="suite to drive (default mini44)")
    parser.add_argument("--routes", type=Path, default=None, help="leaderboard route XML instead of a suite")
    parser.add_argument("--maps", type=Path, default=None, help="folder of the OpenDRIVE files of its towns")
    parser.add_argument(
        "--penalties", type=str, default="bench2drive", help="or leaderboard-2.0, leaderboard-2.1"
    )
    parser.add_argument(
        "--shadow",
        action="store_true",
        help="let the expert watch: are the words right, how early is a hazard met",
    )
    parser.add_argument("--resume", type=bool, default=True, help="go on with the results that are there")
    add_bench2drive(parser)
    add_common(parser)
    add_device(parser)


def _evaluate(arguments: Arguments) -> None:
    if arguments.world == "carla":
        refuse_unused(
            arguments, _evaluate_arguments, ("shadow", "penalties", "executor", "address", "maps"),
            "means nothing with --world carla",
        )  # fmt: skip
        evaluate_in_carla(arguments)
        return
    if arguments.world != "embedded" or arguments.bench2drive is not None:
        raise ValueError(
            f"--world {arguments.world}: must be embedded, or carla together with --bench2drive CHECKOUT"
        )
    refuse_unused(
        arguments, _evaluate_arguments, ("subset", "gpus", "stall", "retries", "python", "carla_root"),
        "is of --world carla",
    )  # fmt: skip
    from takevla.bench.drivers import driver_name
    from takevla.bench.runner import evaluate
    from takevla.bench.words import WORDS_FILE
    from takevla.report.terminal import metrics_table, words_table

    name, tasks, seeds, density = _routes(arguments)
    driver = driver_name(arguments.driver)
    done = evaluate(
        driver, tasks, arguments.out, seeds=seeds, density=density, seed=arguments.seed,
        resume=arguments.resume, maps_dir=arguments.maps, suite=name, penalties=arguments.penalties,
        shadow=arguments.shadow, device=arguments.device, **placement(arguments),
    )  # fmt: skip
    OUT.print(metrics_table(done.metrics, f"{Path(driver).name} on {name}"))
    if arguments.shadow:
        OUT.print(words_table(arguments.out / WORDS_FILE))
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
    parser.add_argument("--driver", type=str, default="expert", help=DRIVERS)
    parser.add_argument("--suite", type=str, default=None, help="suite of the route (default mini44)")
    parser.add_argument("--routes", type=Path, default=None, help="leaderboard route XML instead of a suite")
    parser.add_argument("--maps", type=Path, default=None, help="folder of the OpenDRIVE files of its towns")
    parser.add_argument("--out", type=Path, default=None, help="the clip to write, FILE.mp4")
    parser.add_argument("--rerun", type=Path, default=None, help="the Rerun recording to write, FILE.rrd")
    parser.add_argument("--seed", type=int, default=0, help="seed of the traffic, as of `takevla evaluate`")
    parser.add_argument("--seconds", type=float, default=0.0, help="stop after so much time; 0: whole route")
    add_device(parser)


def _watch(arguments: Arguments) -> None:
    from takevla.bench.drivers import load_driver
    from takevla.bench.runner import world_seed
    from takevla.report.clips import film_route
    from takevla.world.embedded import EmbeddedWorld
    from takevla.world.maps.atlas import load_town

    if (arguments.out is None) == (arguments.rerun is None):
        raise ValueError("give --out FILE.mp4 for a clip or --rerun FILE.rrd for a Rerun recording")
    name, tasks, seeds, density = _routes(arguments)
    found = next((k for k, task in enumerate(tasks) if task.id == arguments.route), None)
    if found is None:
        raise ValueError(
            f"no route {arguments.route} in {name}; ids run from {tasks[0].id} to {tasks[-1].id}"
        )
    task, seed = tasks[found], world_seed(arguments.seed, seeds[found])
    world = EmbeddedWorld(load_town(task.town, arguments.maps), task, seed, density)
    driver = load_driver(arguments.driver, device=arguments.device)
    if arguments.rerun is not None:
        from takevla.report.recording import record_route

        made = f"{arguments.rerun}: {record_route(world, driver, arguments.rerun, arguments.seconds)} plans"
    else:
        made = f"{arguments.out}: {film_route(world, driver, arguments.out, arguments.seconds)} frames"
    record = world.record()
    broken = [
        f"{len(rows)} {key}" for key, rows in record.infractions.items() if rows and "min_speed" not in key
    ]
    OUT.print(
        f"{made}, {record.duration_game_s:.1f} s of route {task.id} "
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
        refuse_unused(
            arguments, _report_arguments, ("asked", "metric_info", "routes", "penalties"), "is of --results"
        )
        page = write_report(arguments.run, arguments.run / "report.html", arguments.maps)
        OUT.print(f"report: {page}")
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
    parser.add_argument(
        "--carla", type=str, default=None, help="HOST:PORT of a CARLA server to examine instead"
    )


def _doctor(arguments: Arguments) -> None:
    from rich.table import Table

    from takevla.carla_doctor import examine_carla
    from takevla.doctor import Health, examine

    table = Table("", "what", "found", "mend", show_edge=False)
    marks = {Health.OK: "[green]ok[/]", Health.OPTIONAL: "[dim]optional[/]", Health.BROKEN: "[red]broken[/]"}
    findings = examine() if arguments.carla is None else examine_carla(arguments.carla)
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


DRIVING: dict[str, Command] = {
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
