"""The AlpaSim service, driven by the loop that `carla-driver-interface` ships."""

from __future__ import annotations

import io
import pickle
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from PIL import Image

from takevla.scene.plan import Observation, Plan
from takevla.world.camera.rig import Rig

pytest.importorskip("carla_driver_interface")
from carla_driver_interface import protocol as wire
from carla_driver_interface.geometry import Pose, Trajectory, waypoints_to_proto
from carla_driver_interface.testing import FakeCamera, FakeLoop, render_road

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


def _alpasim_session(port: int, steps: int, offset_m: float) -> tuple[list[float], list[dict[str, object]]]:
    """A session as AlpaSim's runtime sends it, at 10 Hz on a straight lane; lateral offsets and debug words.

    No revision is declared; times are those of a recording; poses come in between the steps, two at once;
    a route has twenty points 4 m apart and, where it ends sooner, not-a-number; `renderer_data` is the
    renderer's own; the debug bytes are a pickled dictionary.
    """
    start_us, step_us, uuid = 1_690_000_000_123_456, 100_000, "a"
    offsets, debug = [], []
    pose, before, speed = Pose.from_xyz_yaw(500.0, offset_m, 0.0, 0.0), None, 5.0
    with grpc.insecure_channel(f"localhost:{port}") as channel:
        driver = wire.EgodriverServiceStub(channel)
        request = wire.DriveSessionRequest(session_uuid=uuid, random_seed=7)
        request.debug_info.scene_id = "clipgt-1"
        request.rollout_spec.vehicle.available_cameras.extend(eye.available_camera() for eye in EYES)
        driver.start_session(request)
        for step in range(steps):
            now_us = start_us + step * step_us
            known = Trajectory([now_us], [pose])
            if before is not None:
                known = Trajectory(
                    [now_us - step_us // 2, now_us], [before.interpolate(now_us - 50_000), pose]
                )
            motion = wire.RolloutEgoTrajectory(session_uuid=uuid, trajectory=known.to_proto())
            for _ in known.timestamps_us:
                motion.dynamic_states.append(wire.DynamicState(linear_velocity=wire.Vec3(x=speed)))
            driver.submit_egomotion_observation(motion)
            ahead = np.stack([pose.position[0] + 4.0 * np.arange(20), np.zeros(20), np.zeros(20)], axis=1)
            ahead = pose.inverse().transform_points(ahead)
            ahead[10:] = np.nan  # the recording ends there
            route = wire.Route(timestamp_us=now_us, waypoints=waypoints_to_proto(ahead))
            driver.submit_route(wire.RouteRequest(session_uuid=uuid, route=route))
            for eye in EYES:
                jpeg = io.BytesIO()
                Image.fromarray(render_road(eye, pose)).save(jpeg, "JPEG")
                image = wire.RolloutCameraImage(session_uuid=uuid)
                image.camera_image.logical_id = eye.logical_id
                image.camera_image.frame_start_us, image.camera_image.frame_end_us = now_us - 30_000, now_us
                image.camera_image.image_bytes = jpeg.getvalue()
                driver.submit_image_observation(image)
            asked = wire.DriveRequest(session_uuid=uuid, time_now_us=now_us, time_query_us=now_us + step_us)
            asked.renderer_data = b"\x0a\xffneither CARLA's nor ours"
            answer = driver.drive(asked)
            assert not answer.terminate_session
            debug.append(pickle.loads(answer.debug_info.unstructured_debug_info))
            plan = Trajectory.from_proto(answer.trajectory)
            following = plan.interpolate(now_us + step_us)
            before = Trajectory([now_us, now_us + step_us], [pose, following])
            speed = float(np.linalg.norm(following.position - pose.position)) / 0.1
            pose = following
            offsets.append(float(pose.position[1]))
        driver.close_session(wire.DriveSessionCloseRequest(session_uuid=uuid))
    return offsets, debug


def test_a_session_as_alpasim_sends_it_is_driven_along_its_lane() -> None:
    driver = ToTarget()
    with alpasim_server(driver) as (port, _):
        offsets, debug = _alpasim_session(port, 20, 1.0)
    assert np.isfinite(offsets).all()
    assert abs(offsets[-1]) < abs(offsets[5]) < 1.0  # toward the lane's centre
    assert [one.time_us for one in driver.asked] == [1_690_000_000_123_456 + 100_000 * k for k in range(20)]
    first = driver.asked[0]
    np.testing.assert_allclose(first.target_points_ego[-1], [36.0 - 1.42, -1.0], atol=0.05)  # the last known
    assert first.image is not None
    assert first.image[30, 60, 2] > 180  # the sky: cameras are declared by their optical frame
    assert all(one.speed_mps == pytest.approx(5.0, abs=0.1) for one in driver.asked)
    assert debug[0]["policy_name"] == "takevla-to-target"
    assert debug[-1]["scalars"]["speed_mps"] == pytest.approx(5.0, abs=0.1)
    assert driver.forgotten == [0, 0]


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
