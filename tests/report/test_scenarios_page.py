"""The page of the scenario types: its figures, its pictures, and when they are taken."""

import numpy as np
import pytest

from takevla.bench.hazards import HAZARDS, HazardRow
from takevla.bench.runner import world_seed
from takevla.bench.suites import load_suite
from takevla.driver.blind import BlindDriver
from takevla.driver.closed_loop import Seat, drive
from takevla.report.scenarios import BEFORE_PERSON_US, critical_us, page, picture, sentence_of, shown_task
from takevla.scene.scene import TICK_US
from takevla.world.camera import Camera
from takevla.world.criteria import Event
from takevla.world.embedded import EmbeddedWorld
from takevla.world.maps.atlas import load_town

SUITE = load_suite("dev88")


def _row(name: str, struck: tuple[str, ...], started: int = 2) -> HazardRow:
    return HazardRow(name, ("Overtaking",), "blind", ("collisions_vehicle",), 2, started, struck, 1)


def _task(name: str):
    return next(each for each in zip(SUITE.tasks, SUITE.seeds) if each[0].scenarios[0].type == name)


def test_every_type_has_one_sentence() -> None:
    for name in HAZARDS:
        assert sentence_of(name).endswith(".")


def test_the_picture_is_taken_shortly_before_the_hazard_strikes_and_looks_like_it() -> None:
    task, seed = _task("DynamicObjectCrossing")
    world = EmbeddedWorld(load_town(task.town), task, world_seed(0, seed), density=0.0)
    drive([Seat(0, world)], BlindDriver(), until_us=30_000_000)
    moment = critical_us(world, [], [])
    strike = next(tick for tick, event, _ in world.record().events if event == Event.COLLISION_PEDESTRIAN)
    assert moment == strike * TICK_US - BEFORE_PERSON_US
    camera = Camera()
    shot = picture(task, world_seed(0, seed), camera)
    assert shot.shape[0] == 2 * camera.rig.height
    assert shot.shape[1] > 2 * camera.rig.width + shot.shape[0]
    assert np.ptp(shot[:, : 2 * camera.rig.width]) > 100


def test_routes_on_which_the_hazard_struck_are_shown_first() -> None:
    own = [task for task in SUITE.tasks if task.scenarios[0].type == "Accident"]
    for task in own:
        assert shown_task(SUITE.tasks, _row("Accident", (task.id,))) is task


def test_the_page_has_figures_sentence_and_picture_of_each_type_and_names_what_did_not_start() -> None:
    rows = [_row("Accident", ("1", "2")), _row("ParkingExit", (), started=1)]
    text = page(rows, SUITE, 3, "abc", "scenarios")
    assert "| [Accident](#accident) | Overtaking | 2 | blind | collision | 100 | 50 |" in text
    assert "![ParkingExit](scenarios/ParkingExit.jpg)" in text
    assert "charged on 2 of 4 routes (50.0 %), and the expert succeeds on 2 (50.0 %)" in text
    assert "- ParkingExit: 1 of 2" in text
    assert "--suite dev88 --seed 3" in text
    assert sentence_of("Accident") in text


@pytest.mark.parametrize("name", ["YieldToEmergencyVehicle"])
def test_an_emergency_vehicle_is_shown_where_it_is_nearest(name: str) -> None:
    task, seed = _task(name)
    world = EmbeddedWorld(load_town(task.town), task, seed, density=0.0)
    assert critical_us(world, [0, 0, 0], [np.inf, 4.0, 9.0]) == 2 * TICK_US
