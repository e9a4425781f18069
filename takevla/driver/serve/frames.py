"""Between a simulator's rig frame and the driver's: routes, plans, and the picture of the driver's own rig.

The rig frame of AlpaSim has its origin on the ground below the rear axle; a driver's ego frame has it
below the centre of the box.  Both look forward along x with y to the left (benchmark facts 5).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from takevla.driver.closed_loop import TARGET_NEAREST_M
from takevla.scene.geometry import arc_length, points_at
from takevla.scene.plan import WAYPOINT_PERIOD_US, Plan
from takevla.scene.route import RouteOption
from takevla.scene.trace import TARGET_SPACING_M
from takevla.world.camera.rig import Rig
from takevla.world.dynamics import REAR_WHEELBASE_M

REAR_AXLE_TO_CENTRE_M = REAR_WHEELBASE_M  # of the model's own vehicle
TURN_RAD = math.radians(35.0)  # a stretch that bends by more is announced as a turn; our own choice
BEND_M = 12.0  # length over which a bend is measured
FAR_M = 60.0  # what is above the ground or farther away is taken to be at this distance
STANDING_M = 0.05  # between two waypoints; less leaves the heading as it was

Floats = NDArray[np.float64]
Projection = Callable[[Floats], tuple[Floats, NDArray[np.bool_]]]  # optical-frame points -> pixels, seen


def navigation(route_rig: Floats) -> tuple[NDArray[np.float32], int, int]:
    """Target points (2, 2) in the ego frame, the option that applies and the one after it.

    `route_rig` is the route ahead (N, 2 or 3), in m; AlpaSim fills a short one up with not-a-number, which is
    left out.  Targets lie where the down-sampled plan of the
    leaderboard would put them for an unnamed route: at each change of option and otherwise every
    `TARGET_SPACING_M`.  Without a route of two distinct points the driver is sent straight on.
    """
    line = np.asarray(route_rig, np.float64)[:, :2] - (REAR_AXLE_TO_CENTRE_M, 0.0)
    line = line[np.isfinite(line).all(axis=1)]
    arc = arc_length(line) if len(line) else np.zeros(1)
    if arc[-1] < 1.0:
        line, arc = np.array([[0.0, 0.0], [TARGET_SPACING_M, 0.0]]), np.array([0.0, TARGET_SPACING_M])
    here = float(arc[int(np.argmin(np.linalg.norm(line, axis=1)))])
    s_m = np.arange(here, max(arc[-1], here + 1.0), 1.0)
    options = _options(line, s_m)
    changes = here + 1.0 + np.flatnonzero(np.diff(options))
    spots: list[float] = []
    for end in [*changes.tolist(), float(arc[-1])]:
        start = spots[-1] if spots else here
        spots.extend(np.arange(start + TARGET_SPACING_M, end, TARGET_SPACING_M).tolist())
        spots.append(end)
    left = [spot for spot in spots if spot > here + TARGET_NEAREST_M] or [spots[-1]]
    chosen = [left[0], left[min(1, len(left) - 1)]]
    targets = points_at(line, np.array(chosen))
    named = [int(options[min(max(int(spot - here) - 1, 0), len(options) - 1)]) for spot in chosen]
    return targets.astype(np.float32), named[0], named[1]


def _options(line: Floats, s_m: Floats) -> NDArray[np.int8]:
    """The RouteOption of each place: LEFT or RIGHT where the line bends sharply, else LANE_FOLLOW."""
    before, after = points_at(line, s_m - BEND_M / 2), points_at(line, s_m + BEND_M / 2)
    there = points_at(line, s_m)
    first, second = there - before, after - there
    cross = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    bend = np.arctan2(cross, (first * second).sum(axis=1))
    options = np.full(len(s_m), int(RouteOption.LANE_FOLLOW), np.int8)
    options[bend > TURN_RAD] = int(RouteOption.LEFT)
    options[bend < -TURN_RAD] = int(RouteOption.RIGHT)
    return options


def plan_in_rig(plan: Plan) -> tuple[NDArray[np.int64], Floats]:
    """Times since the observation (11,) in µs and rig poses (11, 3) as x, y, heading.

    The first is the pose at the observation, the others are the speed waypoints.
    """
    centres = np.concatenate([np.zeros((1, 2)), plan.waypoints_ego.astype(np.float64)])
    headings = np.zeros(len(centres))
    for k in range(1, len(centres)):
        step = centres[k] - centres[k - 1]
        moved = float(np.linalg.norm(step)) > STANDING_M
        headings[k] = math.atan2(step[1], step[0]) if moved else headings[k - 1]
    back = REAR_AXLE_TO_CENTRE_M * np.stack([np.cos(headings), np.sin(headings)], axis=1)
    axle = centres - back
    axle[:, 0] += REAR_AXLE_TO_CENTRE_M
    times = np.arange(len(centres), dtype=np.int64) * WAYPOINT_PERIOD_US
    return times, np.column_stack([axle, headings])


@dataclass(frozen=True)
class SeenBy:
    """A camera of the simulator: where it sits in the rig and how it projects."""

    position_rig: Floats  # (3,) m
    rotation_rig: Floats  # (3, 3), optical axes (right, down, forward) as columns
    project: Projection


class Retina:
    """Paints the picture of the driver's rig from the pictures of a simulator's cameras.

    Each pixel of the rig looks at a spot on flat ground, or at `FAR_M` where the ground is farther or the
    ray goes up; the first camera that sees this spot gives its colour.  Where none does, it is black.
    """

    def __init__(self, rig: Rig, cameras: Mapping[str, SeenBy]) -> None:
        """Raises ValueError where the cameras see nothing of what the rig sees."""
        spots = _spots(rig)
        self._shape = (rig.height, rig.width, 3)
        self._taken: dict[str, tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]] = {}
        free = np.ones(len(spots), np.bool_)
        for name, camera in cameras.items():
            pixels, seen = camera.project((spots - camera.position_rig) @ camera.rotation_rig)
            rows = np.flatnonzero(seen & free)
            free[rows] = False
            column, row = np.floor(pixels[rows]).astype(np.int64).T
            self._taken[name] = (rows, row, column)
        self.coverage = 1.0 - float(free.mean())
        if self.coverage == 0.0:
            raise ValueError(
                f"cameras {sorted(cameras)} see nothing ahead of the ego; declare a front camera"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Cameras that contribute."""
        return tuple(name for name, taken in self._taken.items() if len(taken[0]))

    def paint(self, pictures: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """The (H, W, 3) picture; cameras without a picture yet stay black."""
        canvas = np.zeros((self._shape[0] * self._shape[1], 3), np.uint8)
        for name, (spots, row, column) in self._taken.items():
            picture = pictures.get(name)
            if picture is not None:
                height, width = picture.shape[:2]
                canvas[spots] = picture[np.minimum(row, height - 1), np.minimum(column, width - 1)]
        return canvas.reshape(self._shape)


def _spots(rig: Rig) -> Floats:
    """What each pixel of the rig looks at: (H * W, 3) in the simulator's rig frame, row by row."""
    eye = np.array([rig.mount_m[0] + REAR_AXLE_TO_CENTRE_M, rig.mount_m[1], rig.mount_m[2]])
    rays = np.empty((rig.height, rig.width, 3))
    down = (np.arange(rig.height) + 0.5 - rig.height / 2)[:, None]
    right = (np.arange(rig.lens_width) + 0.5 - rig.lens_width / 2)[None, :]
    for lens, (yaw_deg, focal_px) in enumerate(zip(rig.lens_yaws_deg, rig.focals_px, strict=True)):
        yaw = math.radians(yaw_deg)
        left = np.broadcast_to(-right / focal_px, (rig.height, rig.lens_width))
        columns = slice(lens * rig.lens_width, (lens + 1) * rig.lens_width)
        rays[:, columns, 0] = math.cos(yaw) - math.sin(yaw) * left
        rays[:, columns, 1] = math.sin(yaw) + math.cos(yaw) * left
        rays[:, columns, 2] = np.broadcast_to(-down / focal_px, left.shape)
    flat = rays.reshape(-1, 3)
    flat = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        reach = np.where(flat[:, 2] < 0.0, -eye[2] / flat[:, 2], FAR_M)
    return np.asarray(eye + np.minimum(reach, FAR_M)[:, None] * flat, np.float64)
