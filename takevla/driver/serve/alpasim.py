"""A driver as the policy of AlpaSim: its egodriver service over gRPC (extra `alpasim`).

The contract (benchmark facts 5): poses are local to rig with x forward, y left, z up and the origin on the
ground below the rear axle; times are integer microseconds; routes come in the rig frame of their own
instant.  `carla-driver-interface` speaks the protocol and keeps the sessions; here observations become
those of a `Driver`, for all sessions in one batch, and plans go back.
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from takevla.driver.driver import Driver
from takevla.driver.serve.batcher import Batcher
from takevla.driver.serve.frames import Retina, SeenBy, navigation, plan_in_rig
from takevla.driver.serve.lenses import Picture, Pinhole, Radial, fisheye
from takevla.scene.past import Past
from takevla.scene.plan import Observation

try:
    from carla_driver_interface.driver import BaseDriver, DriveContext, DriveResult, SessionState
    from carla_driver_interface.geometry import Pose, Trajectory
    from carla_driver_interface.server import serving
except ImportError as error:
    raise ValueError(
        "AlpaSim's protocol is not installed; mend it with: pip install 'takevla[alpasim]'"
    ) from error

Client = Literal["alpasim", "carla"]  # who is on the other end: it decides the two opaque byte fields
MOST_SESSIONS = 32  # calls that are served at once, and the largest batch
LOG = logging.getLogger(__name__)


class AlpasimPolicy(BaseDriver):
    """What `carla-driver-interface` serves: sessions in, plans out, one batch for all sessions."""

    def __init__(self, driver: Driver) -> None:
        """A service for `driver`.

        Raises:
            ValueError: the driver needs the privileged scene, which AlpaSim does not hand out.
        """
        if driver.needs_privilege:
            raise ValueError(
                f"driver {driver.name!r} needs the true scene; AlpaSim sends cameras and routes only"
            )
        self.name = f"takevla-{driver.name}"
        self.batcher = Batcher(driver, MOST_SESSIONS)
        self._rig = driver.rig
        self._needs_image = driver.needs_image
        self._numbers = itertools.count()
        self._seats: dict[str, tuple[int, Retina | None]] = {}
        self._pictures: dict[int, Past[NDArray[np.uint8]]] = {}
        self._lock = threading.Lock()

    def on_session_start(self, session: SessionState) -> None:
        """Refuses, before the first frame, cameras that it cannot drive by."""
        retina = None
        if self._needs_image:
            cameras = {name: _seen_by(name, camera) for name, camera in session.cameras.items()}
            retina = Retina(self._rig, cameras)
            LOG.info("session %s sees %.0f %% of the rig through %s", session.uuid, 100 * retina.coverage,
                     ", ".join(retina.names))  # fmt: skip
        with self._lock:
            seat = next(self._numbers)
            self._seats[session.uuid] = (seat, retina)
            self._pictures[seat] = Past()
        self.batcher.reset(seat)

    def on_session_close(self, session: SessionState) -> None:
        """Forgets the seat."""
        with self._lock:
            known = self._seats.pop(session.uuid, None)
            if known is None:  # its start was refused
                return
            seat, _ = known
            del self._pictures[seat]
        self.batcher.reset(seat)

    def drive(self, ctx: DriveContext) -> DriveResult:
        """The plan of one session; concurrent calls of other sessions share its batch."""
        with self._lock:
            seat, retina = self._seats[ctx.session.uuid]
            memory = self._pictures[seat]
        observation = _observation(ctx, seat, retina, memory)
        plan = self.batcher.plan(observation)
        LOG.info("session %s at %.2f s: %s", ctx.session.uuid, ctx.time_now_us * 1e-6, plan.commentary)
        trajectory = Trajectory.empty()
        for after_us, (x, y, heading) in zip(*plan_in_rig(plan), strict=True):
            trajectory.append(
                ctx.time_now_us + int(after_us), Pose.from_xyz_yaw(float(x), float(y), 0.0, float(heading))
            )
        scalars = {
            "speed_mps": observation.speed_mps,
            "option": float(observation.option),
            "largest_batch": float(self.batcher.largest_batch),
        }
        return DriveResult(trajectory_in_rig=trajectory, debug_scalars=scalars)


def _observation(
    ctx: DriveContext, seat: int, retina: Retina | None, memory: Past[NDArray[np.uint8]]
) -> Observation:
    """What the driver gets of a session at `time_now_us`."""
    session = ctx.session
    with session.lock:
        route = np.array(session.route_waypoints_in_rig, np.float64)
        route_us = session.route_timestamp_us
        state = session.latest_dynamic_state()
        speed = 0.0 if state is None else float(state.linear_velocity.x)
        frames = {name: session.latest_frame(name) for name in (retina.names if retina else ())}
        then = session.ego_trajectory.interpolate(route_us) if len(route) else None
        now = session.ego_trajectory.interpolate(ctx.time_now_us) if len(route) else None
    if then is not None and now is not None and len(route):
        route = now.inverse().transform_points(then.transform_points(route))
    targets, option, following = navigation(route)
    image = past = None
    if retina is not None:
        pictures: dict[str, NDArray[np.uint8]] = {
            name: frame.as_array() for name, frame in frames.items() if frame is not None
        }
        image = retina.paint(pictures)
        past = memory.keep(ctx.time_now_us, image)
    return Observation(seat, ctx.time_now_us, speed, targets, option, following, image, past_image=past)


def _seen_by(name: str, camera: Any) -> SeenBy:
    """A declared camera as the retina takes it; ValueError where its model is not known."""
    pose = Pose.from_proto(camera.rig_to_camera)
    spec = camera.intrinsics
    kind = spec.WhichOneof("camera_param")
    if kind is None:
        raise ValueError(f"camera {name!r} declares no intrinsics")
    values = getattr(spec, kind)
    picture = Picture(
        spec.resolution_w, spec.resolution_h, values.principal_point_x, values.principal_point_y
    )
    lens: Pinhole | Radial
    if kind == "opencv_pinhole_param":
        focal = (values.focal_length_x, values.focal_length_y)
        lens = Pinhole(
            picture, focal, tuple(values.radial_coeffs), tuple(values.tangential_coeffs),
            tuple(values.thin_prism_coeffs),
        )  # fmt: skip
    elif kind == "opencv_fisheye_param":
        focal = (values.focal_length_x, values.focal_length_y)
        lens = fisheye(picture, focal, tuple(values.radial_coeffs), values.max_angle or math.pi / 2)
    elif kind == "ftheta_param" and len(values.angle_to_pixeldist_poly):
        lens = Radial(picture, tuple(values.angle_to_pixeldist_poly), values.max_angle or math.pi / 2)
    else:
        raise ValueError(
            f"camera {name!r}: intrinsics {kind} without a polynomial from angle to pixels are not supported"
        )
    return SeenBy(np.asarray(pose.position), np.asarray(pose.rotation_matrix), lens.project)


@contextmanager
def alpasim_server(
    driver: Driver, port: int = 0, host: str = "127.0.0.1", client: Client = "alpasim"
) -> Iterator[tuple[int, AlpasimPolicy]]:
    """Serve for the length of the block; gives the bound port (of 0, a free one) and the policy."""
    policy = AlpasimPolicy(driver)
    try:
        with serving(policy, port, host, MOST_SESSIONS, client) as bound:
            yield bound, policy
    finally:
        policy.batcher.close()
