"""Comfort of dreamed trajectories: six limits on smoothed accelerations, jerks and turning."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from takevla.learn.dream.kinematics import LANES, PATH_HEADING, PATH_SPEED
from takevla.learn.dream.scenes import STEP_S

Float = NDArray[np.float32]

# Six limits and their smoothing (NAVSIM, benchmark facts 1.7 and 4).
LON_ACCELERATION_MPS2 = (-4.05, 2.40)
LAT_ACCELERATION_MPS2 = 4.89
JERK_MPS3, LON_JERK_MPS3 = 8.37, 4.13
YAW_RATE_RADPS, YAW_ACCELERATION_RADPS2 = 0.95, 1.93
ACCELERATION_WINDOW, JERK_WINDOW = 8, 15  # samples of the Savitzky-Golay filters of order 2

# Rows of a sample in the work arrays: as it is, and smoothed.
_LON, _LAT, _TURN, _ROWS = 0, 1, 2, 3
_SIZE, _FINE = 1, 2

f: Any = np.float32
_PER_STEP = f(1.0 / STEP_S)


@lru_cache(maxsize=32)
def smoothing(samples: int, window: int, derivative: int) -> Float:
    """(samples, samples) matrix of the Savitzky-Golay filter of order 2, `STEP_S` apart.

    Near the ends the nearest whole window is fitted.
    """
    window = min(window, samples)
    matrix = np.zeros((samples, samples))
    for row in range(samples):
        start = min(max(row - window // 2, 0), samples - window)
        at = (np.arange(start, start + window) - row) * STEP_S
        fit = np.linalg.pinv(np.vander(at, min(3, window), increasing=True))
        if derivative < len(fit):
            matrix[row, start : start + window] = fit[derivative]
    return matrix.astype(np.float32)


@lru_cache(maxsize=32)
def _weights(samples: int, window: int, derivative: int) -> Float:
    """(samples, window) of `smoothing`: the weights of the samples from `_start` on, 0 behind the last."""
    matrix = np.pad(smoothing(samples, window, derivative), ((0, 0), (0, window)))
    starts = [_start.py_func(row, window, samples) for row in range(samples)]  # type: ignore[no-untyped-call]
    return np.stack([matrix[row, start : start + window] for row, start in enumerate(starts)])


def comfort_share(path: Float, share: Float) -> None:
    """Fill `share` (B, LANES) of steps of `path` (B, T, PATH_ROWS, LANES) inside all six comfort limits."""
    samples = path.shape[1] - 1
    _shares(path, _weights(samples, ACCELERATION_WINDOW, 0), _weights(samples, JERK_WINDOW, 1), share)


@njit(inline="always")
def _start(t, window, samples):  # type: ignore[no-untyped-def]
    """First sample of the window about sample `t`."""
    return max(min(t - window // 2, samples - window), 0)


@njit(cache=True, fastmath=True, error_model="numpy")
def _shares(path, smooth, slope, share):  # type: ignore[no-untyped-def]
    """Fill `share` (B, LANES); `smooth` and `slope` are those of `_weights`."""
    samples = path.shape[1] - 1
    raw = np.zeros((samples + JERK_WINDOW) * _ROWS * LANES, np.float32)
    smoothed = np.zeros((samples + JERK_WINDOW) * _ROWS * LANES, np.float32)
    for b in range(path.shape[0]):
        for t in range(samples):
            now = raw[t * _ROWS * LANES :]
            for g in range(LANES):
                v, u = path[b, t + 1, PATH_SPEED, g], path[b, t, PATH_SPEED, g]
                turn = (path[b, t + 1, PATH_HEADING, g] - path[b, t, PATH_HEADING, g]) * _PER_STEP
                now[_TURN * LANES + g] = turn
                now[_LON * LANES + g] = (v - u) * _PER_STEP
                now[_LAT * LANES + g] = f(0.5) * (v + u) * turn
        for t in range(samples):
            before, now = (
                raw[_start(t, ACCELERATION_WINDOW, samples) * _ROWS * LANES :],
                smoothed[t * _ROWS * LANES :],
            )
            for g in range(LANES):
                along, across, turn = f(0.0), f(0.0), f(0.0)
                for k in range(ACCELERATION_WINDOW):
                    along += smooth[t, k] * before[(k * _ROWS + _LON) * LANES + g]
                    across += smooth[t, k] * before[(k * _ROWS + _LAT) * LANES + g]
                    turn += smooth[t, k] * before[(k * _ROWS + _TURN) * LANES + g]
                now[_LON * LANES + g] = along
                now[_SIZE * LANES + g] = math.sqrt(along * along + across * across)
                fine = (along > f(LON_ACCELERATION_MPS2[0])) & (along < f(LON_ACCELERATION_MPS2[1]))
                fine &= (abs(across) < f(LAT_ACCELERATION_MPS2)) & (abs(turn) < f(YAW_RATE_RADPS))
                now[_FINE * LANES + g] = f(1.0) if fine else f(0.0)
        for g in range(LANES):
            share[b, g] = f(0.0)
        for t in range(samples):
            first = _start(t, JERK_WINDOW, samples) * _ROWS * LANES
            before, after, now = raw[first:], smoothed[first:], smoothed[t * _ROWS * LANES :]
            for g in range(LANES):
                along, size, turn = f(0.0), f(0.0), f(0.0)
                for k in range(JERK_WINDOW):
                    along += slope[t, k] * after[(k * _ROWS + _LON) * LANES + g]
                    size += slope[t, k] * after[(k * _ROWS + _SIZE) * LANES + g]
                    turn += slope[t, k] * before[(k * _ROWS + _TURN) * LANES + g]
                fine = (abs(along) < f(LON_JERK_MPS3)) & (abs(size) < f(JERK_MPS3))
                fine &= abs(turn) < f(YAW_ACCELERATION_RADPS2)
                share[b, g] += now[_FINE * LANES + g] if fine else f(0.0)
        for g in range(LANES):
            share[b, g] /= f(samples)
