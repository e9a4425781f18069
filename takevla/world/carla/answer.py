"""What an agent answers to the CARLA leaderboard each tick."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from typing import Any

from takevla.scene.scene import Controls
from takevla.world.carla.frames import Pedals, pedals_carla


@dataclass
class PlainControl:
    """The fields of `carla.VehicleControl` that are set here, for machines without the client."""

    steer: float
    throttle: float
    brake: float
    manual_gear_shift: bool = False  # the leaderboard sets it on every answer


@cache
def _control_type() -> Any:
    try:
        return importlib.import_module("carla").VehicleControl
    except ModuleNotFoundError as error:
        if error.name != "carla":
            raise
        return PlainControl


def vehicle_control(controls: Controls) -> Pedals:
    """A `carla.VehicleControl` where the client is installed, else a `PlainControl`."""
    answer: Pedals = _control_type()(**pedals_carla(controls))
    return answer
