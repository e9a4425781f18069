"""The AlpaSim service, driven by the loop that `carla-driver-interface` ships."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from takevla.scene.plan import Observation, Plan
from takevla.world.camera.rig import Rig

pytest.importorskip("carla_driver_interface")
from carla_driver_interface.testing import FakeCamera, FakeLoop

from takevla.bench.drivers import load_driver
from takevla.driver.serve.alpasim import alpasim_server
from takevla.driver.serve.batcher import Batcher

EYES = [
    FakeCamera("left", width=96, height=64, yaw_left_deg=32.5, fov_deg=70.0),
    FakeCamera("right", width=96, height=64, yaw_left_deg=-32.5, fov_deg=70.0),
]


class ToTarget:
    """Drives at 5 m/s on a curve to the first target point, and remembers what it was asked."""

    name = "to-target"
    needs_image = True
    rig = Rig()
    needs_privilege = False
    period_us = 250_000

    def __init__(self) -> None:
        self.asked: list[Observation] = []
        self.batches: list[int] = []
        self.forgotten: list[int] = []
        self.entered = threading.Event()
        self.gate: threading.Event | None = None

    def reset(self, seats: Sequence[int]) -> None:
        self.forgotten.extend(seats)

    def plan(self, observations: Sequence[Observation]) -> list[Plan]:
        self.entered.set()
        if self.gate is not None:
            self.gate.wait(20)
        self.batches.append(len(observations))
        self.asked.extend(observations)
        return [self._plan(one) for one in observations]

    def _plan(self, one: Observation) -> Plan:
        x, y = (float(value) for value in one.target_points_ego[0])
        bend = 2.0 * y / (x * x + y * y)
        s = np.arange(1, 21, dtype=np.float32)
        along = 1.25 * s[:10]
        return Plan(np.stack([s, 0.5 * bend * s**2], 1), np.stack([along, 0.5 * bend * along**2], 1))


def test_the_fake_loop_is_driven_along_its_lane_in_metres_and_microseconds() -> None:
    driver = ToTarget()
    with (
        alpasim_server(driver, client="carla") as (port, _),
        FakeLoop(f"localhost:{port}", EYES, initial_speed_mps=5.0, initial_lateral_offset_m=1.0) as loop,
    ):
        result = loop.run(20)
    assert result.steps == 20
    assert result.ego.positions[-1, 0] == pytest.approx(9.5, abs=0.3)  # 5 m/s for 1.9 s
    offsets = np.abs(result.lateral_offsets_m)
    assert offsets[-1] < offsets[5] < offsets[0]  # toward the target on the lane's centre
    assert [one.time_us for one in driver.asked] == [100_000 * k for k in range(20)]
    for k, one in enumerate(driver.asked):  # the picture of half a second before, at first the first
        assert one.past_image is driver.asked[max(k - 5, 0)].image
    assert driver.asked[-1].speed_mps == pytest.approx(5.0, abs=0.1)
    picture = driver.asked[0].image
    assert picture is not None
    assert picture.shape == (128, 384, 3)
    assert picture[30, 60, 2] > 180  # the sky above
    assert picture[0, 60].max() == 0  # higher than the declared cameras see
    assert picture[90, 60].max() < 130  # and the road or its verge below
    assert result.debug[0] is not None
    assert result.debug[0].policy_name == "takevla-to-target"
    assert driver.forgotten == [0, 0]  # at the start and at the end of the session


def test_sessions_at_once_are_driven_as_each_alone() -> None:
    starts = (-1.0, 0.0, 1.0)

    def run(port: int, offset: float) -> list[float]:
        with FakeLoop(f"localhost:{port}", EYES, initial_lateral_offset_m=offset) as loop:
            return [float(y) for y in loop.run(8).lateral_offsets_m]

    with alpasim_server(ToTarget(), client="carla") as (port, _):
        alone = [run(port, offset) for offset in starts]
        with ThreadPoolExecutor(len(starts)) as threads:
            together = list(threads.map(run, [port] * len(starts), starts))
    assert together == alone
    assert alone[0] != alone[1]


def test_who_waits_while_a_batch_is_planned_shares_the_next_one() -> None:
    driver = ToTarget()
    driver.gate = threading.Event()
    asked = [Observation(seat, 0, 5.0, np.full((2, 2), 20.0, np.float32), 4, 4, None) for seat in range(4)]
    with Batcher(driver) as batcher, ThreadPoolExecutor(4) as threads:
        first = threads.submit(batcher.plan, asked[0])
        while not driver.entered.is_set():
            driver.entered.wait(0.01)
        others = [threads.submit(batcher.plan, one) for one in asked[1:]]
        while batcher._waiting.qsize() < len(others):
            driver.entered.wait(0.01)
        driver.gate.set()
        assert len([first.result(), *[one.result() for one in others]]) == 4
    assert driver.batches == [1, 3]
    assert batcher.largest_batch == 3


def test_cameras_that_see_nothing_ahead_and_privileged_drivers_are_refused() -> None:
    with (
        alpasim_server(ToTarget(), client="carla") as (port, _),
        FakeLoop(f"localhost:{port}", [FakeCamera("rear", yaw_left_deg=180.0)]) as loop,
        pytest.raises(grpc.RpcError) as refused,
    ):
        loop.run(1)
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "see nothing ahead" in refused.value.details()
    with pytest.raises(ValueError, match="needs the true scene"), alpasim_server(load_driver("expert")):
        pass
