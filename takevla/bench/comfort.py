"""Comfort (smoothness): the share of one-second chunks in which all of six limits hold (benchmark facts 1.7).

Two variants by name.  `official` repeats Bench2Drive's tool with its quirks: the yaw rate is in degrees per
second against a limit in radians, is "unwrapped" as if it were an angle, and stands in for the yaw
acceleration; derivatives assume 0.1 s between samples, whatever the samples' rate, and are taken of already
smoothed values. `si` is what the limits mean: radians, the true period, the derivative of the yaw rate.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import savgol_filter

CHUNK = 20  # samples
WINDOW = 7  # samples of the Savitzky-Golay filter
ORDER = 2  # its polynomial order
OFFICIAL_PERIOD_S = 0.1
MAX_LON_ACCELERATION = 2.40  # m/s^2; all limits: nuPlan's, benchmark facts 1.7
MIN_LON_ACCELERATION = -4.05  # m/s^2
MAX_LAT_ACCELERATION = 4.89  # m/s^2
MAX_JERK = 8.37  # m/s^3, of the magnitude of the acceleration
MAX_LON_JERK = 4.13  # m/s^3
MAX_YAW_ACCELERATION = 1.93  # rad/s^2
MAX_YAW_RATE = 0.95  # rad/s

Samples = NDArray[np.float64]  # of one chunk, or (chunks, samples)
Passed = NDArray[np.bool_]  # one a chunk


@dataclass(frozen=True)
class Motion:
    """How the ego moved over T equally spaced samples."""

    lon_acceleration_mps2: Samples  # (T,)
    lat_acceleration_mps2: Samples  # (T,)
    yaw_rate_radps: Samples  # (T,)
    period_s: float


def _smooth(values: Samples, delta_s: float = 1.0, derivative: int = 0) -> Samples:
    """Savitzky-Golay along the last axis."""
    window = min(WINDOW, values.shape[-1])
    if window <= ORDER:
        raise ValueError(f"comfort needs at least {ORDER + 1} samples, not {values.shape[-1]}")
    return savgol_filter(values, window, ORDER, deriv=derivative, delta=delta_s)


def _inside(values: Samples, low: float, high: float) -> Passed:
    return np.all((values > low) & (values < high), axis=-1)


def _official(lon: Samples, lat: Samples, yaw_rate: Samples) -> Passed:
    degrees = np.degrees(yaw_rate)
    turns = np.zeros_like(degrees)
    turns[:, 1:] = np.cumsum(np.round(np.diff(degrees) / (2.0 * np.pi)), axis=-1)
    rate = _smooth(degrees - 2.0 * np.pi * turns)
    smooth_lon = _smooth(lon)
    jerk = _smooth(_smooth(np.hypot(lon, lat)), OFFICIAL_PERIOD_S, 1)
    return (
        _inside(smooth_lon, MIN_LON_ACCELERATION, MAX_LON_ACCELERATION)
        & _inside(_smooth(lat), -MAX_LAT_ACCELERATION, MAX_LAT_ACCELERATION)
        & _inside(jerk, -MAX_JERK, MAX_JERK)
        & _inside(_smooth(smooth_lon, OFFICIAL_PERIOD_S, 1), -MAX_LON_JERK, MAX_LON_JERK)
        & _inside(rate, -MAX_YAW_ACCELERATION, MAX_YAW_ACCELERATION)
        & _inside(rate, -MAX_YAW_RATE, MAX_YAW_RATE)
    )


def _si(lon: Samples, lat: Samples, yaw_rate: Samples, period_s: float) -> Passed:
    return (
        _inside(_smooth(lon), MIN_LON_ACCELERATION, MAX_LON_ACCELERATION)
        & _inside(_smooth(lat), -MAX_LAT_ACCELERATION, MAX_LAT_ACCELERATION)
        & _inside(_smooth(np.hypot(lon, lat), period_s, 1), -MAX_JERK, MAX_JERK)
        & _inside(_smooth(lon, period_s, 1), -MAX_LON_JERK, MAX_LON_JERK)
        & _inside(_smooth(yaw_rate, period_s, 1), -MAX_YAW_ACCELERATION, MAX_YAW_ACCELERATION)
        & _inside(_smooth(yaw_rate), -MAX_YAW_RATE, MAX_YAW_RATE)
    )


def comfort(motion: Motion, variant: str) -> float | None:
    """Share 0..1 of chunks within all limits; `variant` is "official" or "si".

    Chunks have `CHUNK` samples in `official` and last one second in `si`.  A shorter last one is dropped; a
    route of at most one chunk is judged whole.  None for a route too short to judge.
    """
    lon, lat, rate = motion.lon_acceleration_mps2, motion.lat_acceleration_mps2, motion.yaw_rate_radps
    if variant == "official":
        size = CHUNK
    elif variant == "si":
        size = round(1.0 / motion.period_s)
    else:
        raise ValueError(f"comfort variant must be official or si, not {variant!r}")
    count = len(lon)
    if count <= ORDER:
        return None
    whole = count // size * size if count > size else count
    lon, lat, rate = (one[:whole].reshape(-1, min(size, whole)) for one in (lon, lat, rate))
    passed = _official(lon, lat, rate) if variant == "official" else _si(lon, lat, rate, motion.period_s)
    return float(passed.mean())


def read_metric_info(path: Path, period_s: float = 0.05) -> Motion:
    """The `metric_info.json` that a Bench2Drive agent writes in CARLA, as a `Motion`.

    CARLA's frame is left-handed with angles in degrees: right and clockwise become left and
    counter-clockwise.
    """
    try:
        steps = list(json.loads(path.read_text()).values())
        acceleration = np.array([step["acceleration"][:2] for step in steps], np.float64)
        forward = np.array([step["forward_vector"][:2] for step in steps], np.float64)
        right = np.array([step["right_vector"][:2] for step in steps], np.float64)
        yaw_rate = np.array([step["angular_velocity"][2] for step in steps], np.float64)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}: not a metric_info.json ({error})") from error
    return Motion(
        lon_acceleration_mps2=(acceleration * forward).sum(axis=1),
        lat_acceleration_mps2=-(acceleration * right).sum(axis=1),
        yaw_rate_radps=-np.radians(yaw_rate),
        period_s=period_s,
    )
