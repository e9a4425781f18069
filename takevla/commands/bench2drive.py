"""`takevla evaluate --world carla`: the user's own Bench2Drive checkout drives our driver."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from takevla.commands.command import OUT, Arguments
from takevla.driver.vla.named import model_folder


def add_bench2drive(parser: ArgumentParser) -> None:
    """Add what `--world carla` needs."""
    parser.add_argument("--world", type=str, default="embedded", help="or carla, with --bench2drive")
    parser.add_argument("--bench2drive", type=Path, default=None, help="your checkout of Bench2Drive")
    parser.add_argument("--carla-root", type=Path, default=None, help="CARLA's folder (default $CARLA_ROOT)")
    parser.add_argument(
        "--python", type=str, default=sys.executable, help="interpreter that has the checkout's packages"
    )
    parser.add_argument("--subset", type=str, default=None, help="routes of the file, as 11,20-29")
    parser.add_argument("--gpus", type=list[int], default=[0], help="graphics adapters of the simulators")
    parser.add_argument(
        "--retries", type=int, default=3, help="calls that may crash over a route before it is given up"
    )
    parser.add_argument(
        "--stall", type=float, default=1200.0, help="wall seconds without any progress before a call is ended"
    )


def evaluate_in_carla(arguments: Arguments) -> None:
    """Drive, merge, and print all metrics."""
    from takevla.bench.carla.attempt import Patience
    from takevla.bench.carla.campaign import run_campaign
    from takevla.bench.carla.checkout import find_checkout
    from takevla.bench.carla.python_check import check_python
    from takevla.files import write_json
    from takevla.report.terminal import metrics_table, results_metrics
    from takevla.world.maps.route_xml import read_routes, select_routes

    if arguments.bench2drive is None:
        raise ValueError("--world carla needs --bench2drive CHECKOUT, the folder of your Bench2Drive")
    if arguments.suite is not None:
        raise ValueError("--suite names routes of the embedded world; give --routes FILE.xml or neither")
    if arguments.workers < 1 or arguments.retries < 1 or not arguments.gpus:
        raise ValueError("--workers and --retries must be at least 1, --gpus must name an adapter")
    checkout = find_checkout(arguments.bench2drive, arguments.carla_root, arguments.python)
    check_python(checkout)
    routes = arguments.routes or checkout.routes
    tasks = read_routes(routes)
    if arguments.subset:
        tasks = select_routes(tasks, arguments.subset)
    signal.signal(signal.SIGTERM, _interrupt)  # a job scheduler's way to say Ctrl-C
    done = run_campaign(
        checkout, str(model_folder(arguments.driver)), routes, [task.id for task in tasks], arguments.out,
        workers=arguments.workers, gpus=arguments.gpus, retries=arguments.retries, resume=arguments.resume,
        seed=arguments.seed, patience=Patience(start_s=arguments.stall, stall_s=arguments.stall),
        device=arguments.device,
        tell=lambda line: OUT.print(line, highlight=False, markup=False, soft_wrap=True),
    )  # fmt: skip
    # Scores stay the evaluator's; the metrics name what its penalties would be by the other tables.
    found, remarks = results_metrics(
        done.out / "results.json", done.asked, done.agent_files, routes, arguments.maps
    )
    found |= {"routes_unscored": dict(done.unscored), "wall_s": done.wall_s}
    write_json(done.out / "metrics.json", found)
    OUT.print(metrics_table(found, f"{Path(arguments.driver).name} on {routes.name} in CARLA"))
    for remark in (*remarks, *(f"route {name}: {why}" for name, why in done.unscored.items())):
        OUT.print(f"- {remark}", style="dim", markup=False, highlight=False, soft_wrap=True)
    if done.unscored:
        raise ValueError(f"{len(done.unscored)} of {done.asked} routes have no result and count 0")


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt
