"""How the ego moves: a Lincoln MKZ 2020 at 20 Hz.

Kinematic bicycle and fitted longitudinal polynomials of the PDM-Lite expert (benchmark facts 3),
in REP-103 signs.  The polynomials give the speed one tick later, in km/h.  They were fitted on
town driving; above `FITTED_KMH` the acceleration at that speed is used.  Between no and full brake
the change of speed is scaled linearly, because the fit knows only the full pedal.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

TICK_S = 0.05
EGO_EXTENT_M = (2 * 2.4508, 2 * 1.0642, 2 * 0.7554)  # full length, width, height
FRONT_WHEELBASE_M = -0.0908
REAR_WHEELBASE_M = 1.4178
STEER_GAIN_RAD = 0.36848  # wheel angle at full lock
LEAST_THROTTLE = 0.3  # below it the fit holds the speed
FITTED_KMH = 80.0
BRAKE_FIT = np.array([9.317e-3, 8.210e-2, -2.838e-3, 5.066e-5, -4.904e-7, 2.444e-9, -4.914e-12])
THROTTLE_FIT = np.array(
    [0.963873, 4.3754e-4, -0.380193, 1.749501, 0.0916787, -0.0705462, -1.05996e-3, 6.71079e-4]
)


@njit(cache=True)
def next_speed(speed_mps: float, throttle: float, brake: float) -> float:
    """Speed one tick later; a pressed brake overrides the throttle.  Never negative."""
    kmh = min(speed_mps * 3.6, FITTED_KMH)
    if brake > 0.0:
        after = 0.0
        for i in range(BRAKE_FIT.shape[0] - 1, -1, -1):
            after = (after + BRAKE_FIT[i]) * kmh
        change = min(brake, 1.0) * (after - kmh)
    elif throttle >= LEAST_THROTTLE:
        t = min(throttle, 1.0)
        c = THROTTLE_FIT
        after = (
            kmh * (c[0] + kmh * c[1] + t * (c[4] + t * c[5]) + kmh * t * (c[6] + t * c[7]))
            + t * (c[2] + t * c[3])
        )  # fmt: skip
        change = after - kmh
    else:
        change = 0.0
    return max(0.0, speed_mps + change / 3.6)


@njit(cache=True)
def next_pose(
    x: float, y: float, heading: float, speed_mps: float, steer: float
) -> tuple[float, float, float]:
    """Pose one tick later at this speed; `steer` in [-1, 1], positive to the left."""
    wheel = STEER_GAIN_RAD * min(1.0, max(-1.0, steer))
    slip = math.atan(REAR_WHEELBASE_M / (FRONT_WHEELBASE_M + REAR_WHEELBASE_M) * math.tan(wheel))
    x += speed_mps * math.cos(heading + slip) * TICK_S
    y += speed_mps * math.sin(heading + slip) * TICK_S
    heading += speed_mps / REAR_WHEELBASE_M * math.sin(slip) * TICK_S
    return x, y, (heading + math.pi) % (2.0 * math.pi) - math.pi
