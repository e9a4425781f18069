"""Making the suites: draw sites town by town, write routes in leaderboard XML.

Run `python -m takevla.bench.make_suite` to write every suite again; the same code and towns give
the same files.  With `--append` the routes that are there stay as they are, byte for byte, and only
those that a suite lacks are drawn and put behind them.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from takevla.bench.rules import RULES
from takevla.bench.sites import Generator, Rule, Way, find_site
from takevla.bench.suites import DEV_TOWNS, INDEX, SUITES_DIR
from takevla.scene.scene import Weather
from takevla.world.maps.atlas import ALDER_TOWNS, BIRCH_TOWNS, load_town
from takevla.world.maps.route_xml import RouteTask, ScenarioCall, read_routes, write_routes

SUITE_SEED = 2603
DENSITY = 8.0  # background vehicles per km of driving lane
TRAIN_PER_TYPE, DEV_PER_TYPE, VALIDATION_PER_TYPE = 24, 2, 5
TRAIN_APPENDED = 1  # drawn later, behind all others: data collected on the first ones stay valid
FREE_PER_TOWN = 4
MINI_ROUTES = 44


@dataclass(frozen=True)
class Plan:
    """One suite to make."""

    name: str
    towns: tuple[str, ...]
    per_type: int
    first_id: int
    training: bool
    appended: int = 0  # routes of each type at the end of the file, on top of `per_type`


PLANS = (
    Plan(
        "train",
        tuple(t for t in ALDER_TOWNS if t not in DEV_TOWNS),
        TRAIN_PER_TYPE,
        10_000,
        True,
        TRAIN_APPENDED,
    ),
    Plan("dev88", DEV_TOWNS, DEV_PER_TYPE, 20_000, False),
    Plan("val220", BIRCH_TOWNS, VALIDATION_PER_TYPE, 30_000, False),
)
# The ten hardest types: `hardest_types` of the expert's figures on dev88 (results/expert/dev88.json).
HARD_TYPES = (
    "InterurbanActorFlow",
    "InterurbanAdvancedActorFlow",
    "DynamicObjectCrossing",
    "EnterActorFlow",
    "AccidentTwoWays",
    "HazardAtSideLane",
    "VanillaNonSignalizedTurn",
    "OppositeVehicleRunningRedLight",
    "HighwayExit",
    "HazardAtSideLaneTwoWays",
)
FREE = Plan("train_free", PLANS[0].towns, FREE_PER_TOWN, 40_000, True)

# Share and range of each weather.  The camera is small: most routes are driven by day.
_DAY = (25.0, 80.0)
WEATHERS: tuple[tuple[float, dict[str, tuple[float, float]]], ...] = (
    (0.45, {"cloudiness": (0.0, 40.0), "sun_altitude_deg": _DAY}),
    (0.30, {"cloudiness": (50.0, 95.0), "sun_altitude_deg": _DAY, "wetness": (0.0, 30.0)}),
    (
        0.08,
        {
            "cloudiness": (80.0, 100.0),
            "precipitation": (20.0, 70.0),
            "precipitation_deposits": (30.0, 70.0),
            "wetness": (50.0, 100.0),
            "sun_altitude_deg": (25.0, 60.0),
        },
    ),
    (0.07, {"cloudiness": (0.0, 60.0), "sun_altitude_deg": (3.0, 14.0)}),
    (0.05, {"cloudiness": (0.0, 60.0), "sun_altitude_deg": (-40.0, -10.0)}),
    (0.05, {"cloudiness": (40.0, 80.0), "fog_density": (10.0, 30.0), "sun_altitude_deg": (25.0, 60.0)}),
)


def draw_weather(rng: Generator) -> Weather:
    """One weather, constant over the route."""
    shares = np.array([share for share, _ in WEATHERS])
    ranges = WEATHERS[int(rng.choice(len(WEATHERS), p=shares / shares.sum()))][1]
    drawn = {name: round(float(rng.uniform(*span)), 1) for name, span in ranges.items()}
    return Weather(**drawn, sun_azimuth_deg=round(float(rng.uniform(0.0, 360.0)), 1))


def make_suite(
    plan: Plan, types: Collection[str] = (), kept: Sequence[RouteTask] = ()
) -> tuple[list[RouteTask], dict[str, int]]:
    """Routes of a suite, grouped by type, and how many there are of each.

    With `types`, only routes of these are drawn; those of the others are taken from `kept`.
    A type's routes do not depend on the other types.
    """
    tasks: list[RouteTask] = []
    found: dict[str, int] = {}
    for number, (name, rule) in enumerate(RULES.items()):
        if types and name not in types:
            old = _of_type(kept, name)[: plan.per_type]
            tasks += old
            found[name] = len(old)
            continue
        entropy = np.random.SeedSequence([SUITE_SEED, plan.first_id, number])
        rng = np.random.Generator(np.random.PCG64(entropy))
        made = _routes_of_type(plan.towns, plan.per_type, name, rule, plan.first_id + 100 * number, rng, ())
        tasks += made
        found[name] = len(made)
    added = append_routes(plan, tasks)
    return tasks + added, {name: n + len(_of_type(added, name)) for name, n in found.items()}


def append_routes(plan: Plan, tasks: Sequence[RouteTask]) -> list[RouteTask]:
    """What `tasks` lack of the plan's routes, to be put behind them."""
    added: list[RouteTask] = []
    for number, (name, rule) in enumerate(RULES.items()):
        old = _of_type(tasks, name)
        lacking = plan.per_type + plan.appended - len(old)
        if lacking <= 0:
            continue
        entropy = np.random.SeedSequence([SUITE_SEED, plan.first_id, number, len(old)])
        rng = np.random.Generator(np.random.PCG64(entropy))
        first_id = max((int(task.id) + 1 for task in old), default=plan.first_id + 100 * number)
        added += _routes_of_type(plan.towns, lacking, name, rule, first_id, rng, old)
    return added


def _of_type(tasks: Sequence[RouteTask], name: str) -> list[RouteTask]:
    return [task for task in tasks if task.scenarios[0].type == name]


def _routes_of_type(
    among: Sequence[str],
    most: int,
    name: str,
    rule: Rule,
    first_id: int,
    rng: Generator,
    old: Sequence[RouteTask],
) -> list[RouteTask]:
    """Up to `most` routes apart from the `old` ones, going round the towns in a drawn order."""
    towns = [among[i] for i in rng.permutation(len(among))]
    taken: dict[str, list[tuple[float, float]]] = {town: [] for town in towns}
    for task in old:
        x, y = task.scenarios[0].trigger_world[:2]
        taken[task.town].append((x, y))
    made: list[RouteTask] = []
    while len(made) < most and towns:
        for town in list(towns):
            if len(made) >= most:
                break
            site = find_site(load_town(town), name, rule, rng, taken[town])
            if site is None:
                towns.remove(town)
                continue
            taken[town].append((site.trigger_world[0], site.trigger_world[1]))
            call = ScenarioCall(f"{name}_1", name, site.trigger_world, site.parameters)
            weather = draw_weather(rng)
            made.append(
                RouteTask(str(first_id + len(made)), town, site.keypoints_world, (call,), ((0.0, weather),))
            )
    return made


FREE_RULE = Rule(
    Way.JUNCTION, lambda place, rng: {}, before_m=(100.0, 180.0), after_m=(180.0, 320.0), fastest_mps=60.0
)


def make_free_suite(plan: Plan) -> list[RouteTask]:
    """Longer routes without a scenario, for variety: turns, lights, signs, highways."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([SUITE_SEED, plan.first_id])))
    tasks: list[RouteTask] = []
    ways = (Way.LEFT, Way.RIGHT, Way.JUNCTION, Way.MERGE)
    for town in plan.towns:
        taken: list[tuple[float, float]] = []
        for way in ways[: plan.per_type]:
            rule = replace(FREE_RULE, way=way)
            site = find_site(load_town(town), "", rule, rng, taken)
            if site is None:
                continue
            taken.append((site.trigger_world[0], site.trigger_world[1]))
            weather = draw_weather(rng)
            number = str(plan.first_id + len(tasks))
            tasks.append(RouteTask(number, town, site.keypoints_world, (), ((0.0, weather),)))
    return tasks


def hardest_types(per_route: Sequence[Mapping[str, Any]], count: int = 10) -> tuple[str, ...]:
    """Types of least mean driving score in `per_route` of a metrics file; of equals, of least mean TTC."""
    rows: dict[str, list[tuple[float, float]]] = {}
    for route in per_route:
        ttc = route["ttc_mean_s"]
        row = (route["driving_score"], math.inf if ttc is None else ttc)
        rows.setdefault(route["scenario_type"], []).append(row)
    means = {name: tuple(np.mean(found, axis=0).tolist()) for name, found in rows.items()}
    return tuple(sorted(means, key=lambda name: (*means[name], name))[:count])


def select_mini(tasks: Sequence[RouteTask], size: int = MINI_ROUTES) -> list[str]:
    """One route of each type, then second routes and so on, until there are `size`."""
    by_type: dict[str, list[str]] = {}
    for task in tasks:
        by_type.setdefault(task.scenarios[0].type, []).append(task.id)
    rounds = max((len(ids) for ids in by_type.values()), default=0)
    ordered = [ids[i] for i in range(rounds) for ids in by_type.values() if i < len(ids)]
    return sorted(ordered[:size], key=int)


def write_suites(
    folder: Path = SUITES_DIR, types: Collection[str] = (), append: bool = False
) -> dict[str, dict[str, int]]:
    """Write all suites, draw again only `types`, or only `append` what is lacking.

    Returns how many routes of each type each suite has.
    """
    folder.mkdir(exist_ok=True)
    counts: dict[str, dict[str, int]] = {}
    index: dict[str, dict[str, object]] = {}
    for plan in PLANS:
        kept = read_routes(folder / f"{plan.name}.xml") if types or append else []
        if append:
            tasks = kept + append_routes(plan, kept)
            counts[plan.name] = {name: len(_of_type(tasks, name)) for name in RULES}
        else:
            tasks, counts[plan.name] = make_suite(plan, types, kept)
        write_routes(folder / f"{plan.name}.xml", tasks)
        index[plan.name] = {"training": plan.training, "density": DENSITY, "seed": SUITE_SEED}
        if plan.name == "val220":
            of_val: dict[str, object] = {
                "of": plan.name, "training": False, "density": DENSITY, "seed": SUITE_SEED,
            }  # fmt: skip
            index["mini44"] = {**of_val, "routes": select_mini(tasks)}
            hard = [task.id for task in tasks if task.scenarios[0].type in HARD_TYPES]
            index["hard10"] = {**of_val, "routes": hard}
    if not types and not append:
        write_routes(folder / f"{FREE.name}.xml", make_free_suite(FREE))
    index[FREE.name] = {"training": True, "density": DENSITY, "seed": SUITE_SEED}
    text = json.dumps(index, indent=1, sort_keys=True)
    (folder / INDEX.name).write_text(text + "\n", encoding="utf-8")
    return counts


def main(arguments: Sequence[str] | None = None) -> int:
    """Write all suites and print the number of routes of each type."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=SUITES_DIR, help="folder to write to")
    parser.add_argument("--append", action="store_true", help="keep every route, draw what is lacking")
    parser.add_argument("--types", nargs="*", default=[], choices=sorted(RULES), help="draw only these again")
    chosen = parser.parse_args(arguments)
    for suite, found in write_suites(chosen.out, chosen.types, chosen.append).items():
        print(suite, sum(found.values()), {name: n for name, n in found.items() if n == 0} or "all types")
    return 0


if __name__ == "__main__":
    sys.exit(main())
