"""A world restored at any tick goes on bit for bit, in every scenario type."""

import numpy as np
import pytest

from takevla.bench.suites import load_suite
from takevla.driver.blind import BlindDriver
from takevla.driver.closed_loop import Seat, drive
from takevla.scene.scene import TICK_US, Controls
from takevla.world.embedded import EmbeddedWorld, Snapshot
from takevla.world.maps.atlas import load_town
from takevla.world.scenarios.catalogue import SCENARIOS

EARLIEST, LATEST, FURTHER = 60, 320, 60  # ticks
DENSITY = 6.0


class Keeper:
    """Takes a snapshot at one tick, and keeps what was done after it."""

    def __init__(self, tick: int) -> None:
        self.tick = tick
        self.kept: Snapshot | None = None
        self.controls: list[Controls] = []
        self.after: list[bytes] = []

    def on_plan(self, seat, observation, plan) -> None:
        pass

    def on_tick(self, seat, ego, controls) -> None:
        if self.kept is not None:
            self.controls.append(controls)
            self.after.append(_bytes(seat.world))
        elif seat.world.time_us == self.tick * TICK_US:
            self.kept = seat.world.snapshot()

    def on_finish(self, seat) -> None:
        pass


def _bytes(world: EmbeddedWorld) -> bytes:
    state, courses = world.snapshot()
    moving = state._replace(samples=state.samples[-1:])
    return b"".join(column.tobytes() for column in moving) + repr(courses).encode()


def _world(name: str) -> EmbeddedWorld:
    suite = load_suite("dev88")
    task, seed = next(
        each for each in zip(suite.tasks, suite.seeds, strict=True) if each[0].scenarios[0].type == name
    )
    return EmbeddedWorld(load_town(task.town), task, seed, DENSITY)


@pytest.mark.parametrize("number", range(len(SCENARIOS)), ids=list(SCENARIOS))
def test_restore_at_a_random_tick_goes_on_bit_for_bit(number: int) -> None:
    tick = int(np.random.default_rng(number).integers(EARLIEST, LATEST))
    world = _world(list(SCENARIOS)[number])
    keeper = Keeper(tick)
    drive([Seat(0, world)], BlindDriver(), listeners=[keeper], until_us=(tick + FURTHER) * TICK_US)
    assert keeper.kept is not None
    assert len(set(keeper.after)) == len(keeper.after) >= 10
    for again in (world, _world(list(SCENARIOS)[number])):  # the same world, and one that was never driven
        again.restore(keeper.kept)
        for controls, expected in zip(keeper.controls, keeper.after, strict=True):
            again.tick(controls)
            assert _bytes(again) == expected
