"""Traffic lights: phases follow world time; a scenario may hold signals in one state."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from takevla.scene.road_map import LightState, RoadMap
from takevla.scene.scene import TICK_US

GREEN, YELLOW, RED = int(LightState.GREEN), int(LightState.YELLOW), int(LightState.RED)
OFF = int(LightState.OFF)


class LightProgram(NamedTuple):
    """When each of W windows of green opens: rows of (signal, cycle, open, green, yellow) in ticks."""

    windows: NDArray[np.int64]  # (W, 5)
    has_window: NDArray[np.int64]  # (S,) 0 for signals in no phase: they are off


def light_program(road_map: RoadMap) -> LightProgram:
    """The phases of a town in ticks."""

    def ticks(seconds: float) -> int:
        return round(seconds * 1e6 / TICK_US)

    rows: list[tuple[int, int, int, int, int]] = []
    has_window = np.zeros(len(road_map.signals), np.int64)
    for junction in road_map.junctions:
        cycle = sum(ticks(p.green_s) + ticks(p.yellow_s) + ticks(p.all_red_s) for p in junction.phases)
        opens = ticks(junction.offset_s)
        for phase in junction.phases:
            for signal in phase.signals:
                rows.append((signal, cycle, opens, ticks(phase.green_s), ticks(phase.yellow_s)))
                has_window[signal] = 1
            opens += ticks(phase.green_s) + ticks(phase.yellow_s) + ticks(phase.all_red_s)
    return LightProgram(np.array(rows, np.int64).reshape(-1, 5), has_window)


@njit(cache=True)
def set_lights(
    program: LightProgram,
    tick: int,
    light: NDArray[np.int64],
    forced: NDArray[np.int64],
    forced_until: NDArray[np.int64],
) -> None:
    """Write the state of every signal at `tick` into `light`; forced states end at `forced_until`."""
    for signal in range(light.shape[0]):
        light[signal] = RED if program.has_window[signal] else OFF
    for row in range(program.windows.shape[0]):
        signal, cycle, opens, green, yellow = program.windows[row]
        since = (tick - opens) % cycle
        if since < green:
            light[signal] = GREEN
        elif since < green + yellow:
            light[signal] = YELLOW
    for signal in range(light.shape[0]):
        if forced[signal] >= 0:
            if tick < forced_until[signal]:
                light[signal] = forced[signal]
            else:
                forced[signal] = -1
