"""The hazard of every type really occurs: who ignores it is charged with it, the expert is not."""

from collections.abc import Iterable

import pytest
from made_up_outcomes import VEHICLE, outcome

from takevla.bench.drivers import BLIND, EXPERT, STRAIGHT, load_driver
from takevla.bench.hazards import HAZARDS, hazard_rows
from takevla.bench.suites import load_suite
from takevla.driver.closed_loop import Seat, drive
from takevla.world.embedded import EmbeddedWorld
from takevla.world.maps.atlas import load_town

# A flow of traffic may leave a gap in which who looks away slips through: on these types the second route.
SECOND_ROUTE = {"CrossingBicycleFlow", "HighwayExit", "PedestrianCrossing"}
STEP_US, LAST_US = 4_000_000, 40_000_000


def _worlds(names: Iterable[str], alone: bool) -> dict[str, EmbeddedWorld]:
    """A world of each type by name; `alone` leaves out the suite's traffic."""
    suite = load_suite("dev88")
    density = 0.0 if alone else suite.density
    found: dict[str, EmbeddedWorld] = {}
    wanted = {name: int(name in SECOND_ROUTE) for name in names}
    for task, seed in zip(suite.tasks, suite.seeds, strict=True):
        name = task.scenarios[0].type
        if wanted.get(name) == 0:
            found[name] = EmbeddedWorld(load_town(task.town), task, seed, density)
        if name in wanted:
            wanted[name] -= 1
    return found


def _charged(world: EmbeddedWorld) -> set[str]:
    record = world.record()
    return {key for key in HAZARDS[record.scenario_type].charges if record.infractions[key]}


@pytest.fixture(scope="module")
def ignoring() -> dict[str, EmbeddedWorld]:
    """Each type's world, driven by who ignores its hazard until it has struck."""
    result = {}
    for driver in (BLIND, STRAIGHT):
        worlds = _worlds((name for name, hazard in HAZARDS.items() if hazard.ignored_by == driver), True)
        seats = [Seat(k, world) for k, world in enumerate(worlds.values())]
        for until_us in range(STEP_US, LAST_US + 1, STEP_US):
            seats = [seat for seat in seats if not seat.world.finished and not _charged(seat.world)]
            drive(seats, load_driver(driver), until_us=until_us)
        result |= worlds
    return result


@pytest.fixture(scope="module")
def expert() -> dict[str, EmbeddedWorld]:
    worlds = _worlds(HAZARDS, False)
    drive([Seat(k, world) for k, world in enumerate(worlds.values())], load_driver(EXPERT), until_us=LAST_US)
    return worlds


@pytest.mark.parametrize("name", HAZARDS)
def test_who_ignores_the_hazard_is_charged_with_it(name: str, ignoring: dict[str, EmbeddedWorld]) -> None:
    record = ignoring[name].record()
    assert record.scenario_started, record.scenario_reason
    assert _charged(ignoring[name])


@pytest.mark.parametrize("name", HAZARDS)
def test_the_expert_is_not(name: str, expert: dict[str, EmbeddedWorld]) -> None:
    record = expert[name].record()
    assert record.scenario_started, record.scenario_reason
    assert not _charged(expert[name])


def test_a_row_counts_only_charges_of_the_hazards_own_kind() -> None:
    ignoring = [
        outcome("1", infractions={"collisions_vehicle": [VEHICLE]}),
        outcome("2", infractions={"red_light": ["ran"]}, scenario_started=False),
    ]
    (row,) = hazard_rows([outcome("1"), outcome("2", completion=50.0)], ignoring)
    assert (row.routes, row.started, row.struck) == (2, 1, ("1",))
    assert (row.ignored_failure_percent, row.expert_success_percent) == (50.0, 50.0)


def test_a_route_driven_by_one_of_the_two_only_is_named() -> None:
    with pytest.raises(ValueError, match="route 2 was not driven by both"):
        hazard_rows([outcome("1")], [outcome("1"), outcome("2")])
