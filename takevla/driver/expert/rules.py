"""Lights and stop signs: what the expert must stand for, and what it remembers of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from takevla.driver.expert.path import RoutePath
from takevla.driver.expert.speed import ROLL_STEP_S, Constraint
from takevla.scene.plan import Cause
from takevla.scene.road_map import Control, LightState

LOOK_M = 90.0
SIGNAL_S0_M = 1.5  # where to stand before the line of a light, from the bumper
STOP_S0_M = 0.8
HEADWAY_S = 0.1  # (PDM-Lite)
YELLOW_S = 3.0  # how long a yellow lasts, as everyone knows
YELLOW_RESERVE_S = 0.3
COMFORT_MPS2 = 3.2  # braking for a yellow beyond this is not comfortable
CANNOT_MPS2 = 7.5  # braking beyond this is not possible
KEEP_CLEAR_LOOK_M = 25.0
KEEP_CLEAR_M = 3.5  # room wanted behind the line on top of the ego's length
KEEP_CLEAR_MPS = 1.0  # a leader slower than this keeps the room taken
OVER_LINE_M = 1.0  # a bumper so far over the line has passed it
STAND_US = 1_250_000  # (PDM-Lite: 25 ticks)
STAND_MPS = 0.1
STOP_NEAR_M = 3.0  # standing so near to the line counts (PDM-Lite)


@dataclass
class RuleMemory:
    """What one seat remembers of the stop lines of its route, by their order on it."""

    cleared: set[int] = field(default_factory=set)  # stop signs that were honoured
    stood_us: int = 0  # how long it has stood at the sign it stands at
    yellow_since_us: dict[int, int] = field(default_factory=dict)
    through: set[int] = field(default_factory=set)  # lights that turned yellow too late to stop


def rule_constraints(
    memory: RuleMemory,
    path: RoutePath,
    lights: NDArray[np.int8],
    front_s: float,
    length_m: float,
    speed: float,
    time_us: int,
    elapsed_us: int,
    leaders: list[Constraint],
    travelled: NDArray[np.float64],
) -> list[Constraint]:
    """Where the ego must stand: one constraint for each line ahead that does not let it pass.

    `travelled` is how far it would get, at multiples of `ROLL_STEP_S`, if there were no rules.
    """
    found: list[Constraint] = []
    for k, point in enumerate(path.stop_points):
        gap = point.s_m - front_s
        # A car that stands over the line of a red light, its tail not yet across, stays there.
        over = length_m - 0.5 if speed < STAND_MPS else OVER_LINE_M
        if gap < -over or gap > LOOK_M:
            continue
        if point.control == Control.SIGNAL:
            state = int(lights[point.signal])
            if state in (LightState.GREEN, LightState.OFF):
                memory.yellow_since_us.pop(k, None)
                memory.through.discard(k)
                found += _keep_clear(gap, length_m, leaders)
                continue
            braking = speed * speed / (2.0 * max(gap - 0.3, 0.05))
            if state == LightState.YELLOW:
                since = memory.yellow_since_us.setdefault(k, time_us)
                left_s = YELLOW_S - (time_us - since) * 1e-6 - YELLOW_RESERVE_S
                step = min(max(int(left_s / ROLL_STEP_S), 0), len(travelled) - 1)
                in_time = bool(travelled[step] > gap + length_m)
                if in_time and (k in memory.through or braking > COMFORT_MPS2):
                    memory.through.add(k)
                    continue
                memory.through.discard(k)
                cause = Cause.YELLOW_LIGHT
            else:
                memory.through.discard(k)
                cause = Cause.RED_LIGHT
            if braking > CANNOT_MPS2 and speed > 2.0:
                continue
            found.append(
                Constraint(max(gap, 0.05), 0.0, SIGNAL_S0_M, HEADWAY_S, cause, distance_m=max(gap, 0.0))
            )
        elif point.control == Control.STOP_SIGN and k not in memory.cleared:
            if speed < STAND_MPS and gap < STOP_NEAR_M:
                memory.stood_us += elapsed_us
                if memory.stood_us >= STAND_US:
                    memory.cleared.add(k)
                    memory.stood_us = 0
                    continue
            found.append(
                Constraint(
                    max(gap, 0.05), 0.0, STOP_S0_M, HEADWAY_S, Cause.STOP_SIGN, distance_m=max(gap, 0.0)
                )
            )
    return found


def _keep_clear(gap: float, length_m: float, leaders: list[Constraint]) -> list[Constraint]:
    """Wait at a green light's line while there is no room behind it: its tail would stay in the way."""
    for leader in leaders:
        room = leader.gap_m - gap
        if 0.0 < gap < KEEP_CLEAR_LOOK_M and 0.0 < room < length_m + KEEP_CLEAR_M:
            if leader.speed_mps < KEEP_CLEAR_MPS:
                return [
                    Constraint(
                        gap,
                        0.0,
                        SIGNAL_S0_M,
                        HEADWAY_S,
                        leader.cause,
                        leader.actor,
                        waits=leader.cause == Cause.OBSTACLE,
                        distance_m=leader.gap_m,
                    )
                ]
            return []
    return []
