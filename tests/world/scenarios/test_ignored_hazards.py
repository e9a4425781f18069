"""The hazard really occurs: who ignores it collides or breaks a rule."""

import pytest
from blind_driver import BlindDriver

from takevla.bench.suites import load_suite
from takevla.driver.closed_loop import Seat, drive
from takevla.world.embedded import EmbeddedWorld
from takevla.world.maps.atlas import load_town
from takevla.world.record import MIN_SPEED_KEY

# What the driver who ignores everything is charged with, on the first route of the type in `dev88`.
CHARGES = {
    "Accident": "collisions_vehicle",
    "ConstructionObstacle": "collisions_layout",
    "DynamicObjectCrossing": "collisions_pedestrian",
    "HardBreakRoute": "collisions_vehicle",
    "OppositeVehicleRunningRedLight": "collisions_vehicle",
    "ParkedObstacleTwoWays": "collisions_vehicle",
    "ParkingCrossingPedestrian": "collisions_pedestrian",
    "StaticCutIn": "collisions_vehicle",
    "VanillaNonSignalizedTurnEncounterStopsign": "stop_infraction",
    "VanillaSignalizedTurnEncounterRedLight": "red_light",
    "YieldToEmergencyVehicle": "yield_emergency_vehicle_infractions",
}
UNTIL_US = 40_000_000


@pytest.fixture(scope="module")
def blind_worlds() -> dict[str, EmbeddedWorld]:
    suite = load_suite("dev88")
    seats: list[Seat] = []
    worlds: dict[str, EmbeddedWorld] = {}
    for task, seed in zip(suite.tasks, suite.seeds, strict=True):
        name = task.scenarios[0].type
        if name in CHARGES and name not in worlds:
            worlds[name] = EmbeddedWorld(load_town(task.town), task, seed, density=0.0)
            seats.append(Seat(len(seats), worlds[name]))
    drive(seats, BlindDriver(), until_us=UNTIL_US)
    return worlds


@pytest.mark.parametrize("name", sorted(CHARGES))
def test_a_driver_who_ignores_the_hazard_is_charged(
    name: str, blind_worlds: dict[str, EmbeddedWorld]
) -> None:
    record = blind_worlds[name].record()
    assert record.scenario_started, record.scenario_reason
    charged = {key for key, rows in record.infractions.items() if rows and key != MIN_SPEED_KEY}
    assert CHARGES[name] in charged
