"""The expert's speed: car-following terms rolled out into an anticipating profile.

Whatever bounds the speed is a *constraint*: something ahead at a gap, moving at a speed, behind
which the ego wants to stay `s0 + T v`.  The intelligent driver model (IDM) of each, and a speed cap
along the path, are integrated together, so that a profile anticipates a leader that drives on and
a bend that comes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from takevla.scene.actors import ActorKind
from takevla.scene.plan import Cause

F64 = NDArray[np.float64]

LIMIT_SHARE = 0.72  # target speed over speed limit (PDM-Lite, benchmark facts 3)
TOP_SPEED_MPS = 20.0  # (PDM-Lite)
ACCELERATION_MPS2 = 3.0  # IDM's free acceleration: within what passengers accept, below the car's 7
COMFORT_BRAKING_MPS2 = 3.0
HARD_BRAKING_MPS2 = 7.0  # what the brake gives at town speeds
LATERAL_MPS2 = 2.8  # accepted in bends
TURN_SPEED_MPS = 7.5  # highest speed on a turning connector
ROLL_STEP_S = 0.1
ROLL_STEPS = 80
_EXPONENT = 4.0


@dataclass(frozen=True, slots=True)
class Constraint:
    """Something that bounds the speed.  `gap_m` counts from the ego's front bumper."""

    gap_m: float
    speed_mps: float
    s0_m: float
    headway_s: float
    cause: Cause
    actor: int = -1  # row in the scene's actors, -1 for none
    hardest_mps2: float = HARD_BRAKING_MPS2  # braking that this constraint may ask for
    waits: bool = False  # it asks to wait for others, and impatience may lift it
    distance_m: float = math.nan  # to name in the reason; the gap if not given


def standing_term(kind: int) -> tuple[float, float]:
    """(s0, T) behind an actor of this kind, m and s.

    Wider than PDM-Lite's (4 m, 0.25 s): the takeover monitor calls less than 0.8 s unsafe.
    """
    if kind == ActorKind.PEDESTRIAN:
        return 3.5, 0.3
    if kind == ActorKind.BICYCLE:
        return 3.0, 0.9
    return 3.0, 1.0


@njit(cache=True)
def idm(speed: float, cap: float, gap: float, other: float, s0: float, headway: float, hard: float) -> float:
    """IDM acceleration (m/s^2) behind one thing, not below -`hard`."""
    if speed <= cap:
        free = ACCELERATION_MPS2 * (1.0 - (speed / max(cap, 0.1)) ** _EXPONENT)
    else:
        free = -min(COMFORT_BRAKING_MPS2, 2.0 * (speed - cap))
    if gap > 1e5:
        return free
    wish = s0 + max(
        0.0,
        speed * headway
        + speed * (speed - other) / (2.0 * math.sqrt(ACCELERATION_MPS2 * COMFORT_BRAKING_MPS2)),
    )
    if gap <= 0.1:
        return -hard
    follow = ACCELERATION_MPS2 * (1.0 - (wish / gap) ** 2)
    return max(min(free, follow), -hard)


@njit(cache=True)
def roll_out(
    speed: float, s: float, cap_s0: float, caps: F64, constraints: F64, travelled: F64, speeds: F64
) -> int:
    """Integrate the profile; returns the row of the constraint that binds first, -1 for none.

    Args:
        speed: now, m/s.
        s: ego on the path, m.
        cap_s0: s of `caps[0]`; caps are 1 m apart.
        caps: (n,) highest speed along the path.
        constraints: (C, 5) gap, speed, s0, headway, hardest braking.
        travelled: (ROLL_STEPS + 1,) filled with metres travelled at multiples of `ROLL_STEP_S`.
        speeds: (ROLL_STEPS + 1,) filled with speeds.
    """
    travelled[0] = 0.0
    speeds[0] = speed
    d = 0.0
    v = speed
    binding = -1
    n = caps.shape[0]
    for k in range(ROLL_STEPS):
        t = k * ROLL_STEP_S
        i = int(s + d - cap_s0)
        cap = caps[min(max(i, 0), n - 1)]
        lowest = idm(v, cap, 1e9, 0.0, 0.0, 0.0, HARD_BRAKING_MPS2)
        free = lowest
        row = -1
        for j in range(constraints.shape[0]):
            gap = constraints[j, 0] + constraints[j, 1] * t - d
            a = idm(v, cap, gap, constraints[j, 1], constraints[j, 2], constraints[j, 3], constraints[j, 4])
            if a < lowest - 1e-9:
                lowest = a
                row = j
        # What binds is judged over the first second: a leader a little too far to matter yet still
        # is what the ego will slow down for.
        if binding < 0 and k <= 10 and row >= 0 and lowest < free - 0.3:
            binding = row
        next_v = max(v + lowest * ROLL_STEP_S, 0.0)
        d += 0.5 * (v + next_v) * ROLL_STEP_S
        v = next_v
        travelled[k + 1] = d
        speeds[k + 1] = v
    return binding


@njit(cache=True)
def speed_caps(
    limit: F64, curvature: F64, shift_curvature: F64, turning: NDArray[np.bool_], out: F64
) -> None:
    """Highest speed at each path point: limit share, bends, turns; slowed down to in comfort.

    Arrays are (n,) at 1 m; `shift_curvature` is what a sideways shift adds.
    """
    n = limit.shape[0]
    for i in range(n):
        v = min(LIMIT_SHARE * limit[i], TOP_SPEED_MPS)
        bend = math.sqrt(LATERAL_MPS2 / max(curvature[i] + shift_curvature[i], 1e-4))
        v = min(v, max(bend, 2.5))
        if turning[i]:
            v = min(v, TURN_SPEED_MPS)
        out[i] = v
    for i in range(n - 2, -1, -1):
        reachable = math.sqrt(out[i + 1] ** 2 + 2.0 * 2.0)  # braking at 2 m/s^2 over 1 m
        if out[i] > reachable:
            out[i] = reachable
