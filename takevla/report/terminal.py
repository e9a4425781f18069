"""Tables for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from takevla.bench.abilities import ABILITIES, abilities_of
from takevla.bench.comfort import comfort, read_metric_info
from takevla.bench.judge import first_junction_percent
from takevla.bench.leaderboard_json import read_results
from takevla.bench.metrics import metrics
from takevla.bench.outcome import RouteOutcome
from takevla.bench.scores import penalty_table, rescored
from takevla.bench.statistics import Interval
from takevla.files import read_json
from takevla.report.compare import Figure, ability_figures, figures
from takevla.world.maps.atlas import load_town
from takevla.world.maps.route_xml import RouteTask, read_routes, trace_task

_STYLE = {"better": "green", "worse": "red", "unclear": "dim"}


def _value(found: Interval | None, digits: int) -> str:
    if found is None:
        return "not measured"
    return f"{found.mean:.{digits}f}  [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def _difference(figure: Figure) -> Text:
    found = figure.difference
    if found is None:
        return Text("-")
    d = figure.digits
    text = f"{found.mean:+.{d}f}  [{found.low:+.{d}f}, {found.high:+.{d}f}]"
    return Text(text, style=_STYLE[figure.verdict])


def before_after_table(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Table:
    """Figures of two `metrics.json` side by side, 95 % intervals, differences paired by route."""
    table = Table(title="Before and after, 95 % intervals", title_justify="left")
    table.add_column("figure")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right")
    table.add_column("difference, paired by route", justify="right")
    for group in (figures(before, after), ability_figures(before, after)):
        for figure in group:
            unit = f", {figure.unit}" if figure.unit else ""
            table.add_row(
                f"{figure.name}{unit}",
                _value(figure.before, figure.digits),
                _value(figure.after, figure.digits),
                _difference(figure),
            )
        table.add_section()
    for name, one in (("before", before), ("after", after)):
        if one:
            table.add_row(f"Routes scored / asked, {name}", f"{one['routes_scored']} / {one['routes_total']}")
    return table


def metrics_table(found: Mapping[str, Any], title: str) -> Table:
    """All figures of one `metrics.json`."""
    table = Table(title=title, title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")

    def row(name: str, value: float | None, key: str, digits: int = 2, unit: str = "") -> None:
        low_high = found["interval_95"].get(key)
        table.add_row(
            name,
            "not recorded" if value is None else f"{value:.{digits}f}{unit}",
            f"{low_high[0]:.{digits}f} .. {low_high[1]:.{digits}f}" if low_high and value is not None else "",
        )

    asked, scored = found["routes_total"], found["routes_scored"]
    table.add_row("Routes scored / asked", f"{scored} / {asked}")
    if "penalty_table" in found:
        table.add_row("Penalty table", found["penalty_table"])
    row("Driving score, over routes asked", found["driving_score"], "driving_score")
    row("Driving score, over routes scored", found["driving_score_scored"], "driving_score_scored")
    for name, value in found["driving_score_by_table"].items():
        row(f"  with the {name} penalties", value, "")
    row("Success rate, over routes asked", found["success_rate"], "success_rate", 2, " %")
    row("Success rate, over routes scored", found["success_rate_scored"], "success_rate_scored", 2, " %")
    row("Route completion", found["route_completion"], "", 2, " %")
    table.add_section()
    for name in (*ABILITIES, "mean"):
        value, low_high = found["ability"][name], found["interval_95"].get("ability", {}).get(name)
        routes = f" ({found['ability_routes'][name]} routes)" if name != "mean" else ""
        table.add_row(
            f"Ability: {name.replace('_', ' ')}{routes}",
            "no routes" if value is None else f"{value:.2f} %",
            f"{low_high[0]:.2f} .. {low_high[1]:.2f}" if low_high else "",
        )
    table.add_section()
    row("Efficiency", found["efficiency"], "efficiency", 2, " %")
    row("Comfort, official rule", found["comfort"], "comfort", 2, " %")
    row("Comfort, SI rule", found["comfort_si"], "comfort_si", 2, " %")
    row(f"Average TTC, cap {found['ttc_cap_s']:g} s", found["ttc_mean_s"], "ttc_mean_s", 2, " s")
    row("  frames on a collision course", found["ttc_coverage"], "", 3)
    table.add_row("Simulated time", f"{found['sim_s']:.0f} s")
    if found["wall_s"] is not None:
        table.add_row("Wall time", f"{found['wall_s']:.0f} s")
    return table


def words_table(path: Path) -> Table:
    """The figures of a `words.json`."""
    report = read_json(path)
    table = Table("expert in shadow", "value", "95 % interval", "", show_edge=False)
    for name, row in report["figures"].items():
        if row["mean"] is not None:
            low, high = row["interval_95"]
            value = f"{row['mean']:.2f} {row['unit']}"
            table.add_row(name.replace("_", " "), value, f"{low:.2f} to {high:.2f}", row["meaning"])
    table.caption = f"{report['hazards']} hazards on {len(report['routes'])} routes"
    return table


def results_metrics(
    path: Path,
    asked: int | None = None,
    metric_info: Path | None = None,
    routes: Path | None = None,
    maps_dir: Path | None = None,
    penalties: str | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """(metrics, remarks) of a leaderboard or merged result file, ours or from CARLA.

    Args:
        path: the result file.
        asked: number of routes asked, where the file does not say it.
        metric_info: folder of `<save_name>/metric_info.json` as Bench2Drive agents write them; gives comfort.
        routes: the route file that was driven; gives the extra rule of Traffic Signs and the number asked.
        maps_dir: OpenDRIVE files of its towns.
        penalties: name of a penalty table by which all scores are computed anew; None takes the file's.

    The remarks name what the file cannot tell and where it disagrees with the rules.
    """
    remarks: list[str] = []
    tasks = read_routes(routes) if routes is not None else None
    file = read_results(path, asked if asked is not None or tasks is None else len(tasks))
    outcomes = list(file.outcomes)
    if metric_info is not None:
        outcomes = [_with_comfort(one, metric_info) for one in outcomes]
        logs = [_motion_log(one, metric_info) for one in outcomes]
        missing = [path for path in logs if not path.is_file()]
        if missing:
            remarks.append(f"no motion log of {len(missing)} of {len(outcomes)} routes, first {missing[0]}")
    if tasks is not None:
        outcomes = _with_junctions(outcomes, tasks, maps_dir, remarks)
    if penalties is not None:
        outcomes = [rescored(one, penalty_table(penalties)) for one in outcomes]
    found = metrics(outcomes, file.asked, penalties=penalties or "as recorded")
    found["ttc_mean_s"] = found["ttc_coverage"] = None
    recomputed = found["driving_score_by_table"]["bench2drive"]
    if penalties is not None:
        remarks.append(f"all driving scores are computed anew by the {penalties} table")
    elif not math.isclose(recomputed, found["driving_score"], abs_tol=1e-3):
        by_table = found["driving_score_by_table"].items()
        remarks.append(
            f"the recorded driving score is {found['driving_score']:.4f}; from the infractions it is "
            + ", ".join(f"{value:.4f} ({name})" for name, value in by_table)
        )
    stated = file.recorded.get("driving score", file.recorded.get("score_composed"))
    if (
        penalties is None
        and stated is not None
        and not math.isclose(stated, found["driving_score"], abs_tol=1e-3)
    ):
        remarks.append(f"the file states a driving score of {stated:.4f}, its records give the value above")
    if file.asked != len(outcomes):
        remarks.append(f"{file.asked - len(outcomes)} of {file.asked} routes have no record and count 0")
    if tasks is None:
        remarks.append("Traffic Signs is plain success: its extra rule needs the route file and its maps")
    if found["comfort"] is None:
        remarks.append("comfort needs motion logs, which the file does not hold")
    remarks.append("time-to-collision needs the other actors, which the file does not hold")
    return found, remarks


def _motion_log(outcome: RouteOutcome, folder: Path) -> Path:
    return folder / outcome.extra.get("save_name", "") / "metric_info.json"


def _with_comfort(outcome: RouteOutcome, folder: Path) -> RouteOutcome:
    path = _motion_log(outcome, folder)
    if not path.is_file():
        return outcome
    motion = read_metric_info(path)
    return replace(outcome, comfort=comfort(motion, "official"), comfort_si=comfort(motion, "si"))


def _with_junctions(
    outcomes: Sequence[RouteOutcome],
    tasks: Sequence[RouteTask],
    maps_dir: Path | None,
    remarks: list[str],
) -> list[RouteOutcome]:
    """Outcomes that know where their route meets its first junction, for those that the rule concerns."""
    by_id = {task.id: task for task in tasks}
    result = []
    for outcome in outcomes:
        task = by_id.get(outcome.route_id)
        if task is None:
            remarks.append(f"route {outcome.route_id} is not in the route file")
        elif not outcome.success and "Traffic_Signs" in abilities_of(outcome.scenario_type):
            try:
                road_map = load_town(task.town, maps_dir)
                share = first_junction_percent(trace_task(road_map, task), road_map)
                outcome = replace(outcome, junction_percent=share)
            except (ValueError, FileNotFoundError) as error:
                remarks.append(f"route {outcome.route_id}: {error}; Traffic Signs counts plain success")
        result.append(outcome)
    return result


def print_results(
    path: Path,
    asked: int | None = None,
    metric_info: Path | None = None,
    routes: Path | None = None,
    maps_dir: Path | None = None,
    penalties: str | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Print all metrics of a result file (see `results_metrics`); gives them back as in `metrics.json`."""
    out = console or Console()
    found, remarks = results_metrics(path, asked, metric_info, routes, maps_dir, penalties)
    out.print(metrics_table(found, str(path)))
    for remark in remarks:
        out.print(f"- {remark}", style="dim", markup=False, highlight=False)
    return found
