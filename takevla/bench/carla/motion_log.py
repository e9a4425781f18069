"""What an agent leaves behind of a route: Bench2Drive's motion log and the driver's words."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from takevla.files import write_json
from takevla.world.carla.frames import yaw_deg

METRIC_INFO = "metric_info.json"
WORDS = "commentary.jsonl"
BEAT_EVERY_S = 1.0  # wall time between signs of life


def sensed_motion(
    position_world: tuple[float, float], heading_rad: float, yaw_rate_radps: float, imu: Any
) -> dict[str, list[float]]:
    """One entry of `metric_info.json` from an agent's own senses, in CARLA's frame and degrees.

    For leaderboards whose base class does not read the hero actor (benchmark facts 1.7).  `imu` starts
    with the acceleration forward, right and up, gravity included.
    """
    yaw = math.radians(yaw_deg(heading_rad))
    forward, right = [math.cos(yaw), math.sin(yaw), 0.0], [-math.sin(yaw), math.cos(yaw), 0.0]
    ahead, aside = float(imu[0]), float(imu[1])
    return {
        "acceleration": [ahead * forward[0] + aside * right[0], ahead * forward[1] + aside * right[1], 0.0],
        "angular_velocity": [0.0, 0.0, 0.0 - math.degrees(yaw_rate_radps)],
        "forward_vector": forward,
        "right_vector": right,
        "location": [position_world[0], 0.0 - position_world[1], 0.0],
        "rotation": [0.0, 0.0, math.degrees(yaw)],
    }


class MotionLog:
    """Collects one route's motion and words, and gives signs of life."""

    def __init__(self, folder: Path | None, heartbeat: Path | None) -> None:
        self._folder, self._heartbeat = folder, heartbeat
        self._motion: dict[str, Mapping[str, Any]] = {}
        self._words: IO[str] | None = None
        self._beat_s = -math.inf
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._words = (folder / WORDS).open("w")

    def tick(self, step: int, motion: Mapping[str, Any]) -> None:
        """Add the motion of one tick."""
        if self._folder is not None:
            self._motion[str(step)] = motion
        now = time.monotonic()
        if self._heartbeat is not None and now - self._beat_s >= BEAT_EVERY_S:
            self._heartbeat.touch()
            self._beat_s = now

    def said(self, time_us: int, speed_mps: float, commentary: str) -> None:
        """Add what the driver said with a plan."""
        if self._words is not None:
            line = {"time_us": time_us, "speed_mps": round(speed_mps, 3), "commentary": commentary}
            self._words.write(json.dumps(line) + "\n")

    def close(self) -> None:
        """Write the motion log."""
        if self._words is not None:
            self._words.close()
            self._words = None
        if self._folder is not None and self._motion:
            write_json(self._folder / METRIC_INFO, self._motion)
            self._motion = {}
