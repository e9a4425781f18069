"""One attempt at a route, as it will rest in the dataset: frames, takeovers, scenes."""

from __future__ import annotations

import io
import math
from dataclasses import astuple, dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from takevla.scene.past import Past
from takevla.scene.plan import ROUTE_POINTS, SPEED_WAYPOINTS, Observation, Plan, Privileged, Reason
from takevla.scene.scene import Controls, Scene
from takevla.scene.sight import in_view
from takevla.takeover.commentary import commentary, planned_speed_mps
from takevla.takeover.enhance import enhanced, foreseen, urgent
from takevla.takeover.monitor import Phase
from takevla.takeover.triggers import Alarm
from takevla.world.camera.rig import MOUNT_M

JPEG_QUALITY: Final = 90
RETURN_M: Final = 8.0  # as the expert's own plan returns to its path
_NO_PLAN: Final = Plan(
    np.full((ROUTE_POINTS, 2), np.nan, np.float32), np.full((SPEED_WAYPOINTS, 2), np.nan, np.float32)
)
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CameraOffset:
    """Where the camera was when the picture was taken: moved to the left, turned to the left."""

    y_m: float = 0.0
    yaw_rad: float = 0.0


@dataclass
class Attempt:
    """Everything recorded of one attempt so far.  Frames come in order of time."""

    episode: str
    rows: list[Row] = field(default_factory=list)
    takeovers: list[Row] = field(default_factory=list)
    scenes: list[Scene] = field(default_factory=list)
    _truths: list[tuple[Scene, Reason]] = field(default_factory=list)
    _pictures: Past[NDArray[np.uint8]] = field(default_factory=Past)  # that its frames show

    def add_frame(
        self,
        observation: Observation,
        expert: Plan,
        policy: Plan | None,
        phase: Phase,
        role: str,
        takeover: str = "",
        offset: CameraOffset | None = None,
        mount_m: tuple[float, float, float] = MOUNT_M,
        steer_burst: bool = False,
    ) -> None:
        """Record one instant.

        `observation` holds the picture and the truth; `takeover` is the id of the one under way.  With
        an `offset` of the camera, whose mount is at `mount_m` from the ego's centre, everything in
        the ego frame is given in the frame of the ego that the camera seems to be mounted on.
        """
        if observation.privileged is None or observation.image is None or expert.reason is None:
            raise ValueError(
                "a recorded frame needs an image, the truth, and an expert's plan with its reason"
            )
        scene, reason = observation.privileged.scene, expert.reason
        past, recorded = observation.past_image, self._pictures.keep(observation.time_us, observation.image)
        shift, mount_x_m = offset or CameraOffset(), mount_m[0]
        seen = in_view(scene, observation.privileged.road_map, mount_m)
        seen[:, 1:3] = seen_from(seen[:, 1:3], shift, mount_x_m)
        seen[:, 4] -= shift.yaw_rad
        policy = policy or _NO_PLAN
        spoken = replace(reason, target_speed_mps=planned_speed_mps(expert))
        here = np.array([reason.actor_position_ego], np.float64)
        placed = replace(spoken, actor_position_ego=tuple(seen_from(here, shift, mount_x_m)[0].tolist()))
        self._truths.append((scene, spoken))
        self.rows.append(
            {
                "episode": self.episode,
                "frame": len(self.rows),
                "time_us": observation.time_us,
                "driver": "policy" if phase == Phase.AUTONOMOUS and policy is not _NO_PLAN else "expert",
                "phase": phase.name.lower(),
                "takeover": takeover,
                "role": role,
                "image": jpeg(observation.image),
                "past_image": b"" if past is None or past is recorded else jpeg(past),
                "speed_mps": observation.speed_mps,
                "target_points_ego": seen_from(observation.target_points_ego, shift, mount_x_m).ravel(),
                "option": observation.option,
                "next_option": observation.next_option,
                "position_world": scene.ego.position_world,
                "heading_rad": scene.ego.heading_rad,
                "camera_offset_y_m": shift.y_m,
                "camera_yaw_rad": shift.yaw_rad,
                "policy_route_ego": policy.route_ego.ravel(),
                "policy_waypoints_ego": policy.waypoints_ego.ravel(),
                "expert_route_ego": seen_from(expert.route_ego, shift, mount_x_m).ravel(),
                "expert_waypoints_ego": waypoints_seen_from(expert.waypoints_ego, shift, mount_x_m).ravel(),
                "policy_commentary": policy.commentary,
                "expert_commentary": commentary(placed, observation.speed_mps),
                "enhanced_commentary": "",
                "expert_action": int(reason.action),
                "expert_manoeuvre": int(reason.manoeuvre),
                "expert_cause": int(reason.cause),
                "expert_cause_distance_m": reason.distance_m,
                "expert_cause_kind": reason.actor_kind,
                "expert_actor_id": reason.actor_id,
                "expert_target_speed_mps": reason.target_speed_mps,
                "applied_controls": [],
                "steer_burst": steer_burst,
                "weather": astuple(scene.weather),
                "seen_ego": seen.ravel(),
            }
        )

    def add_controls(self, controls: Controls) -> None:
        """Record what was applied over one tick after the last frame."""
        if self.rows:
            self.rows[-1]["applied_controls"] += [controls.steer, controls.throttle, controls.brake]

    def begin_takeover(self, alarm: Alarm, answer: Reason, truth: Privileged, window_s: float) -> str:
        """Record that the expert takes over now, and label the frames of the window before.

        `answer` is the expert's reason at this instant.  Call it before the instant's frame is added.
        Returns the takeover's id.
        """
        scene, now = truth.scene, truth.scene.time_us
        takeover = f"{self.episode}-{len(self.takeovers)}"
        window_us = now - round(window_s * 1e6)
        window_start = now
        for row, (then, reason) in zip(reversed(self.rows), reversed(self._truths)):
            if row["time_us"] < window_us or row["role"] != "other":
                break
            window_start = row["time_us"]
            row |= {"role": "pre_takeover", "takeover": takeover}
            row["enhanced_commentary"] = _enhanced(alarm, answer, reason, then, row, now)
        self.takeovers.append(
            {
                "takeover": takeover,
                "episode": self.episode,
                "trigger": alarm.trigger.name.lower(),
                "detail": alarm.detail,
                "cause": alarm.cause.name.lower(),
                "cause_actor_id": alarm.actor_id,
                "cause_kind": alarm.actor_kind,
                "measure": alarm.measure,
                "window_start_us": window_start,
                "start_us": now,
                "end_us": -1,
                "end": "",
                "speed_mps": scene.ego.speed_mps,
                "position_world": scene.ego.position_world,
                "heading_rad": scene.ego.heading_rad,
                "route_index": truth.route_index,
            }
        )
        return takeover

    def end_takeover(self, time_us: int, how: str) -> None:
        """Record that the last takeover ended: "clear", "timeout" or "finished"."""
        self.takeovers[-1] |= {"end_us": time_us, "end": how}

    def kept_scenes(self, before_s: float, after_s: float, calm_period_us: int) -> list[Scene]:
        """All recorded scenes from `before_s` before to `after_s` after any takeover, and elsewhere those at
        multiples of `calm_period_us` (0: none).
        """
        spans = [(t["start_us"] - before_s * 1e6, t["end_us"] + after_s * 1e6) for t in self.takeovers]

        def kept(time_us: int) -> bool:
            near = any(low <= time_us <= high for low, high in spans)
            return near or (calm_period_us > 0 and time_us % calm_period_us == 0)

        return [scene for scene in self.scenes if kept(scene.time_us)]


def _enhanced(alarm: Alarm, answer: Reason, reason: Reason, scene: Scene, row: Row, now_us: int) -> str:
    known = foreseen(alarm, reason, scene, (now_us - row["time_us"]) / 1e6)
    if known is None:
        return ""
    speed = float(row["speed_mps"])
    return enhanced(urgent(known, alarm, answer, speed), alarm, speed)


def seen_from(points_ego: NDArray[Any], offset: CameraOffset, mount_x_m: float) -> NDArray[np.float32]:
    """Points (N, 2) of the ego frame in the frame of the ego that a shifted camera seems to sit on."""
    cos, sin = math.cos(offset.yaw_rad), math.sin(offset.yaw_rad)
    x = points_ego[:, 0] - mount_x_m * (1.0 - cos)
    y = points_ego[:, 1] - offset.y_m + mount_x_m * sin
    return np.stack([cos * x + sin * y, cos * y - sin * x], axis=1).astype(np.float32)


def waypoints_seen_from(
    waypoints_ego: NDArray[Any], offset: CameraOffset, mount_x_m: float
) -> NDArray[np.float32]:
    """`seen_from` for a plan's waypoints, which begin where the ego is.

    The sideways step to the shifted ego fades over `RETURN_M` of the way, so that a plan to stand
    stands, and one to drive returns to the path.
    """
    seen = seen_from(waypoints_ego, offset, mount_x_m)
    origin = seen_from(np.zeros((1, 2), np.float32), offset, mount_x_m)
    steps = np.diff(waypoints_ego, axis=0, prepend=np.zeros((1, 2), np.float32))
    driven = np.cumsum(np.hypot(steps[:, 0], steps[:, 1]))
    keep = np.maximum(0.0, 1.0 - driven / RETURN_M)
    return (seen - keep[:, None] * origin).astype(np.float32)


def jpeg(image: NDArray[np.uint8]) -> bytes:
    """JPEG of an (H, W, 3) image; full colour resolution, because a far lamp is few pixels wide."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()
