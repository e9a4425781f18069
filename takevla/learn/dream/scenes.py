"""Dream scenes: what a takeover looked like, rebuilt in vector space around the ego.

One `DreamScene` is a start frame of a recorded attempt and the seconds after it.  Everything is in
the frame of the ego at the start (x forward, y left), so that float32 keeps millimetres in any town.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from takevla.scene.plan import Plan

STEP_S = 0.1  # spacing of the recorded scenes, and of every check
CELL_M = 0.5  # side of a cell of the drivable-area raster
RASTER_BEHIND_M, RASTER_AHEAD_M, RASTER_SIDE_M = 20.0, 100.0, 60.0
DRIVABLE, ONCOMING = 1, 2  # bits of the raster


@dataclass(frozen=True)
class DreamScene:
    """T recorded instants (`STEP_S` apart, the first is the start), A other actors."""

    takeover: str  # id of the takeover it was rebuilt from
    trigger: str
    frame_row: int  # row of the start frame in the dataset's frames table
    ego_speed_mps: float
    ego_steer: float  # applied at the start
    ego_extent_m: NDArray[np.float32]  # (2,) full length, width
    actor_pose: NDArray[np.float32]  # (T, A, 4) x, y, heading, speed
    actor_extent_m: NDArray[np.float32]  # (A, 2) full length, width
    actor_static: NDArray[np.bool_]  # (A,) cones, barriers, boxes
    actor_valid: NDArray[np.bool_]  # (T, A)
    route: NDArray[np.float32]  # (R, 2) the dense route from a little behind the ego
    stop_lines: NDArray[np.float32]  # (L, 4) end points x0, y0, x1, y1 on the route's lanes
    stop_closed: NDArray[np.bool_]  # (T, L) red now, or a stop sign that has not been honoured
    stop_is_sign: NDArray[np.bool_]  # (L,) a stand before the line opens it
    raster: NDArray[np.uint8]  # (rows along y, columns along x) bits DRIVABLE, ONCOMING
    policy_plan: Plan  # as recorded at the start frame
    expert_plan: Plan

    @property
    def steps(self) -> int:
        """T - 1, how many steps the record can be dreamed for."""
        return len(self.actor_pose) - 1
