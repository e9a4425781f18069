"""Listeners that turn a drive into attempts: of a watched policy, and of the expert alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from takevla.driver.closed_loop import Camera, Seat
from takevla.scene.past import Past
from takevla.scene.plan import WAYPOINT_PERIOD_US, Action, Observation, Plan
from takevla.scene.scene import Controls, Ego, Scene
from takevla.takeover.attempt import Attempt, CameraOffset
from takevla.takeover.monitor import Phase

_OFFSET_STREAM: Final = 0xCA3  # names the generator of camera offsets


@dataclass(frozen=True)
class OffsetConfig:
    """How far the camera is moved in expert attempts, so that a student learns to return."""

    share: float = 0.6  # of the frames
    y_m: float = 0.5  # standard deviation
    yaw_rad: float = 0.10  # standard deviation
    cut: float = 2.5  # standard deviations at which both are cut off


class TakeoverRecorder:
    """Records controls and scenes of attempts whose frames a `ShadowedDriver` records."""

    def __init__(self, attempts: Mapping[int, Attempt], scene_period_us: int) -> None:
        self._attempts, self._period_us = attempts, scene_period_us

    def on_plan(self, seat: Seat, observation: Observation, plan: Plan) -> None:
        """Keep the scene that the first tick starts from."""
        attempt = self._attempts[seat.index]
        if not attempt.scenes and observation.privileged is not None:
            attempt.scenes.append(observation.privileged.scene)

    def on_tick(self, seat: Seat, ego: Ego, controls: Controls) -> None:
        """Keep the controls, and the scene when it is due."""
        attempt = self._attempts[seat.index]
        attempt.add_controls(controls)
        if seat.world.time_us % self._period_us == 0:
            attempt.scenes.append(seat.world.scene())

    def on_finish(self, seat: Seat) -> None:
        """Nothing is left to record."""


class DemonstrationRecorder:
    """Records attempts that an expert drives from start to end, through a camera that wanders.

    `seeds` gives each seat the seed of its camera offsets; `mount_m` is where the camera sits from
    the ego's centre.  While the ego stands and stays, one instant in `standing_every` is recorded:
    the others show the same.
    """

    def __init__(
        self,
        camera: Camera,
        attempts: Mapping[int, Attempt],
        seeds: Mapping[int, int],
        offsets: OffsetConfig,
        mount_m: tuple[float, float, float],
        standing_every: int,
    ) -> None:
        self._camera, self._attempts, self._offsets, self._mount_m = camera, attempts, offsets, mount_m
        self._standing_every = standing_every
        self._stood = dict.fromkeys(seeds, 0)  # instants in a row
        self._scenes: dict[int, Past[Scene]] = {seat: Past() for seat in seeds}
        self._random = {
            seat: np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, _OFFSET_STREAM])))
            for seat, seed in seeds.items()
        }

    def on_plan(self, seat: Seat, observation: Observation, plan: Plan) -> None:
        """Take the picture and record the frame."""
        truth = observation.privileged
        if truth is None:
            raise ValueError("demonstrations need privileged observations")
        before = self._scenes[seat.index].keep(observation.time_us, truth.scene)
        stays = plan.reason is not None and plan.reason.action == Action.REMAIN_STOPPED
        stood = self._stood[seat.index] + 1 if stays else 0
        self._stood[seat.index] = stood
        if stood and stood % self._standing_every != 1 % self._standing_every:
            return
        offset = self._offset(seat.index)
        pictures = [
            self._camera.render(truth.road_map, scene, offset.y_m, offset.yaw_rad)
            for scene in (truth.scene, before)
        ]
        self._attempts[seat.index].add_frame(
            replace(observation, image=pictures[0], past_image=pictures[1]),
            plan,
            None,
            Phase.AUTONOMOUS,
            "pretrain",
            offset=offset,
            mount_m=self._mount_m,
            steer_burst=seat.wheel_pushed_near(observation.time_us, WAYPOINT_PERIOD_US),
        )

    def on_tick(self, seat: Seat, ego: Ego, controls: Controls) -> None:
        """Keep the controls."""
        self._attempts[seat.index].add_controls(controls)

    def on_finish(self, seat: Seat) -> None:
        """Nothing is left to record."""

    def _offset(self, seat: int) -> CameraOffset:
        random, config = self._random[seat], self._offsets
        moved = random.random() < config.share
        y, yaw = np.clip(random.standard_normal(2), -config.cut, config.cut) * (config.y_m, config.yaw_rad)
        return CameraOffset(float(y), float(yaw)) if moved else CameraOffset()
