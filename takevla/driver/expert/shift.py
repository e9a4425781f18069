"""Sideways shifts of the path: their shape, and whether the traffic beside leaves room for one."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

from takevla.driver.expert.forecast import HALF_LATERAL, HALF_S, LATERAL, SPEED_S, S
from takevla.scene.plan import Manoeuvre

F64 = NDArray[np.float64]

ENTER_ACCELERATION_MPS2 = 2.0  # what the ego is counted on when it picks up speed in a gap
OTHERS_BRAKING_MPS2 = 1.5  # what a follower in the lane entered may be asked for
OTHERS_REACTION_S = 1.0
GAP_LEAST_M = 2.5
PUSH_BELOW = 0.5  # strictness below which the ego pushes in: it and others are asked for more, sooner
PASS_ACCELERATION_MPS2 = 4.0  # and when it passes with the other direction's lane free: the car gives 6
ONCOMING_RESERVE_M = 10.0  # left to an oncoming car when the ego is back (PDM-Lite), scaled by patience
SWING_OUT_S = 0.8  # who is past the ego's nose within this time is not in its way
BAND_MARGIN_M = 0.3


@dataclass
class Shift:
    """A decided sideways course: offsets at knots along the path, smooth in between.

    Before the first knot the offset is the first value, after the last the last one.
    """

    manoeuvre: Manoeuvre
    knots_m: list[float]  # s, increasing
    offsets_m: list[float]  # positive left
    oncoming: bool = False  # it leads over a lane of the other direction
    actor_id: int = -1  # whom it is for
    top_mps: float = 1e9
    members: set[int] = field(default_factory=set)  # ids of what is passed

    def at(self, s: F64) -> F64:
        """Offsets at increasing s."""
        return smooth_knots(np.array(self.knots_m), np.array(self.offsets_m), np.asarray(s, np.float64))

    def value(self, s: float) -> float:
        """The offset at one s."""
        return float(self.at(np.array([s]))[0])

    @property
    def end_m(self) -> float:
        """Where it is over."""
        return self.knots_m[-1]


@njit(cache=True)
def smooth_knots(knots: F64, values: F64, s: F64) -> F64:
    """Piecewise values with zero slope at every knot (cubic smoothstep)."""
    out = np.empty(s.shape[0])
    n = knots.shape[0]
    for i in range(s.shape[0]):
        if s[i] <= knots[0]:
            out[i] = values[0]
            continue
        if s[i] >= knots[n - 1]:
            out[i] = values[n - 1]
            continue
        k = 0
        while s[i] > knots[k + 1]:
            k += 1
        t = (s[i] - knots[k]) / max(knots[k + 1] - knots[k], 1e-6)
        out[i] = values[k] + (values[k + 1] - values[k]) * t * t * (3.0 - 2.0 * t)
    return out


@njit(cache=True)
def shift_curvature(shift: F64, s: F64, out: F64) -> None:
    """Absolute second derivative of a shift: the curvature that it adds to the path."""
    n = shift.shape[0]
    out[:] = 0.0
    for i in range(2, n - 2):
        h = 0.5 * (s[i + 2] - s[i - 2])
        out[i] = abs(shift[i + 2] - 2.0 * shift[i] + shift[i - 2]) / max(h * h, 1e-3)


@njit(cache=True)
def lane_gap(
    survey: F64,
    moving: NDArray[np.bool_],
    skip: NDArray[np.bool_],
    band: F64,
    s0: float,
    spacing: float,
    ego_s: float,
    half_length: float,
    half_width: float,
    speed: float,
    top: float,
    strict: float,
) -> int:
    """Row of the actor that forbids moving into a band of the same direction, -1 if it is free.

    The ego picks up speed towards `top`; those behind may be asked to brake gently after a reaction
    time; those ahead must leave room to slow down behind them.

    `survey` (A, 7) holds the actors, `moving` (A,) says which are vehicles, `skip` (A,) whom to ignore;
    `band` (n,) is the lateral of the band's middle at s0 + i * spacing; `strict` scales the distances.
    """
    n = band.shape[0]
    push = max(1.0, PUSH_BELOW / strict)
    for a in range(survey.shape[0]):
        if skip[a] or not moving[a] or survey[a, S] > 1e5:
            continue
        i = min(max(int((survey[a, S] - s0) / spacing), 0), n - 1)
        if abs(survey[a, LATERAL] - band[i]) > survey[a, HALF_LATERAL] + half_width + BAND_MARGIN_M:
            continue
        gap = survey[a, S] - ego_s
        reach = half_length + survey[a, HALF_S]
        v = survey[a, SPEED_S]
        if gap > 0.0:
            closing = max(speed - v, 0.0)
            if gap - reach < strict * (GAP_LEAST_M + closing * 0.5 + closing * closing / 5.0):
                return a
            continue
        if -gap - reach > 60.0:
            continue
        # Behind: roll both out until the ego is as fast.
        ego, ego_v, other, other_v = 0.0, speed, gap, v
        t = 0.0
        while t < 6.0:
            if ego - other - reach < strict * GAP_LEAST_M:
                return a
            if t > OTHERS_REACTION_S / push:
                other_v = max(other_v - push * OTHERS_BRAKING_MPS2 * 0.25, min(other_v, ego_v))
            ego_v = min(ego_v + push * ENTER_ACCELERATION_MPS2 * 0.25, max(top, speed))
            ego += ego_v * 0.25
            other += other_v * 0.25
            t += 0.25
            if other_v <= ego_v:
                break
    return -1


@njit(cache=True)
def time_to_go(distance: float, speed: float, top: float) -> float:
    """Seconds for a distance when picking up speed towards `top`."""
    v, d, t = speed, 0.0, 0.0
    while d < distance and t < 60.0:
        v = min(v + PASS_ACCELERATION_MPS2 * 0.1, max(top, 1.0))
        d += v * 0.1
        t += 0.1
    return t


@njit(cache=True)
def oncoming_gap(
    survey: F64,
    moving: NDArray[np.bool_],
    skip: NDArray[np.bool_],
    offset: float,
    ego_s: float,
    half_width: float,
    half_length: float,
    clear_s: float,
    seconds: float,
    reserve: float,
) -> int:
    """Row of the actor whose coming forbids to use the other direction's lane, -1 if it is free.

    The ego is back in its lane, at `clear_s`, after `seconds`, and wants `reserve` metres left then.
    """
    for a in range(survey.shape[0]):
        if skip[a] or not moving[a] or survey[a, S] > 1e5 or survey[a, S] < ego_s - 4.0:
            continue
        if abs(survey[a, LATERAL] - offset) > survey[a, HALF_LATERAL] + half_width + BAND_MARGIN_M:
            continue
        v = survey[a, SPEED_S]
        if v > 0.5 and survey[a, S] > ego_s:
            continue  # drives on ahead
        if v < -2.0 and survey[a, S] + survey[a, HALF_S] + v * SWING_OUT_S < ego_s + half_length:
            continue  # gone before the ego is out
        then = survey[a, S] + min(v, 0.0) * (seconds + 0.3) - survey[a, HALF_S]
        if then < clear_s + reserve:
            return a
    return -1
