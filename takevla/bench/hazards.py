"""Whether the hazard of each scenario type really occurs: what a driver who ignores it is charged with.

Each type is driven by one who ignores its hazard, in a town without background traffic so that nothing
else can be to blame, and by the expert in the suite's own traffic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from takevla.bench.abilities import abilities_of
from takevla.bench.drivers import BLIND, EXPERT, STRAIGHT
from takevla.bench.leaderboard_json import read_results
from takevla.bench.outcome import RouteOutcome
from takevla.bench.runner import evaluate
from takevla.bench.suites import Suite
from takevla.world.maps.route_xml import RouteTask
from takevla.world.scenarios.catalogue import SCENARIOS

COLLISIONS = frozenset(("collisions_layout", "collisions_pedestrian", "collisions_vehicle"))
_LEFT_THE_ROAD = COLLISIONS | {"outside_route_lanes", "route_dev", "vehicle_blocked"}


@dataclass(frozen=True)
class Hazard:
    """Who ignores the hazard of a type, and the infractions of which one shows that it was real."""

    ignored_by: str = BLIND  # of `drivers.BUILT_IN`
    charges: frozenset[str] = COLLISIONS


# In the last three the demand is the way itself: out of the parking bay, against a disturbance, round a turn.
_OTHERS = {
    "T_Junction": Hazard(charges=COLLISIONS | {"red_light"}),
    "VanillaNonSignalizedTurnEncounterStopsign": Hazard(charges=frozenset(("stop_infraction",))),
    "VanillaSignalizedTurnEncounterRedLight": Hazard(charges=frozenset(("red_light",))),
    "YieldToEmergencyVehicle": Hazard(charges=frozenset(("yield_emergency_vehicle_infractions",))),
    "ControlLoss": Hazard(STRAIGHT, _LEFT_THE_ROAD),
    "ParkingExit": Hazard(STRAIGHT, COLLISIONS),
    "VanillaSignalizedTurnEncounterGreenLight": Hazard(STRAIGHT, _LEFT_THE_ROAD),
}
HAZARDS: Mapping[str, Hazard] = MappingProxyType({name: _OTHERS.get(name, Hazard()) for name in SCENARIOS})


def struck(outcome: RouteOutcome) -> bool:
    """Whether the hazard of the route's type took place for the driver of this outcome."""
    return any(outcome.infractions.get(key) for key in HAZARDS[outcome.scenario_type].charges)


@dataclass(frozen=True)
class HazardRow:
    """One scenario type over a suite."""

    type: str
    abilities: tuple[str, ...]
    ignored_by: str
    charges: tuple[str, ...]
    routes: int  # driven by both
    started: int  # of these, routes whose scenario started under the driver who ignores it
    struck: tuple[str, ...]  # ids of the routes on which who ignores the hazard was charged with it
    expert_successes: int

    @property
    def ignored_failure_percent(self) -> float:
        """Routes on which the ignored hazard was charged, in %."""
        return 100.0 * len(self.struck) / self.routes

    @property
    def expert_success_percent(self) -> float:
        """The expert's successes, in %."""
        return 100.0 * self.expert_successes / self.routes


def hazard_rows(expert: Sequence[RouteOutcome], ignoring: Sequence[RouteOutcome]) -> list[HazardRow]:
    """A row for each type that has routes, in order of name.

    `ignoring` holds one outcome for each route that `expert` has, by the driver that `HAZARDS` names.

    Raises:
        ValueError: naming a route that only one of the two has.
    """
    lonely = {one.key for one in expert} ^ {one.key for one in ignoring}
    if lonely:
        raise ValueError(f"route {min(lonely)[0]} was not driven by both drivers")
    rows = []
    for name, hazard in HAZARDS.items():
        driven = [one for one in ignoring if one.scenario_type == name]
        if driven:
            rows.append(
                HazardRow(
                    name,
                    abilities_of(name),
                    hazard.ignored_by,
                    tuple(sorted(hazard.charges)),
                    len(driven),
                    sum(one.scenario_started for one in driven),
                    tuple(one.route_id for one in driven if struck(one)),
                    sum(one.success for one in expert if one.scenario_type == name),
                )
            )
    return rows


def measure_hazards(suite: Suite, out: Path, *, seed: int = 0, workers: int = 1) -> list[HazardRow]:
    """Drive a suite with both and compare; evaluations are kept in `out` and resumed there."""

    def driven(driver: str, chosen: Sequence[tuple[RouteTask, int]], density: float) -> list[RouteOutcome]:
        if not chosen:
            return []
        tasks, seeds = [task for task, _ in chosen], [one for _, one in chosen]
        done = evaluate(
            driver, tasks, out / driver, seeds=seeds, density=density, seed=seed, workers=workers,
            resume=True, suite=suite.name,
        )  # fmt: skip
        missing = done.metrics["scenarios_not_started"]
        found = read_results(out / driver / "results.json").outcomes
        return [replace(one, scenario_started=one.route_id not in missing) for one in found]

    routes = list(zip(suite.tasks, suite.seeds, strict=True))
    ignoring: list[RouteOutcome] = []
    for driver in (BLIND, STRAIGHT):
        chosen = [each for each in routes if HAZARDS[each[0].scenarios[0].type].ignored_by == driver]
        ignoring += driven(driver, chosen, 0.0)
    return hazard_rows(driven(EXPERT, routes, suite.density), ignoring)
