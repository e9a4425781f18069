"""Dream scenes: what a takeover looked like, rebuilt in vector space around the ego.

One `DreamScene` is a start frame of a recorded attempt and the seconds after it.  Everything is in
the frame of the ego at the start (x forward, y left), so that float32 keeps millimetres in any town.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from takevla.learn.dream.kinematics import prolong
from takevla.scene.plan import Plan

CALM = "calm"  # stands for the trigger of scenes in which nothing was amiss (`calm.py`)
STEP_S = 0.1  # spacing of the recorded scenes, and of every check
CELL_M = 0.5  # side of a cell of the drivable-area raster
RASTER_BEHIND_M, RASTER_AHEAD_M, RASTER_SIDE_M = 20.0, 100.0, 60.0
DRIVABLE, ONCOMING, JUNCTION = 1, 2, 4  # bits of the raster
COURSE_SPACING_M = 0.5  # of the tables of actors' paths
COURSE_BEYOND_M = 65.0  # length of a table behind the last recorded pose; an actor looks 60 m ahead
WAY_SPACING_M = 1.0  # as the points of routes
LEAST_WAY_M = 3.0  # an expert who gets no further shows no way
STILL_M = 1e-3  # between two instants of who stands
LANE_SHIFT = 3  # the bits above tell neighbouring lanes apart


class SceneArrays(NamedTuple):
    """A scene as the kernels take it: contiguous, half extents, cosines and sines; all float32 but flags."""

    ego: NDArray[np.float32]  # (2,) half length, half width
    actors: NDArray[np.float32]  # (T, A, 5) x, y, cos, sin, speed
    valid: NDArray[np.bool_]  # (T, A)
    extent: NDArray[np.float32]  # (A, 2) half length, half width
    static: NDArray[np.bool_]  # (A,)
    slot: NDArray[np.int64]  # (A,) row among the actors that react, -1: replays
    course: NDArray[np.float32]  # (R, N, 4) x, y, cos, sin every `COURSE_SPACING_M` of those that react
    logged: NDArray[np.float32]  # (R, T, 2) arc length on its course and speed, as recorded
    late: NDArray[np.bool_]  # (R,) reacts only where its record would drive through the ego


@dataclass(frozen=True, eq=False)
class DreamScene:
    """T recorded instants (`STEP_S` apart, the first is the start), A other actors."""

    takeover: str  # id of the takeover it was rebuilt from
    trigger: str  # or `CALM`
    frame_row: int  # row of the start frame in the dataset's frames table
    ego_speed_mps: float
    ego_extent_m: NDArray[np.float32]  # (2,) full length, width
    actor_pose: NDArray[np.float32]  # (T, A, 4) x, y, heading, speed
    actor_extent_m: NDArray[np.float32]  # (A, 2) full length, width
    actor_static: NDArray[np.bool_]  # (A,) cones, barriers, boxes
    actor_valid: NDArray[np.bool_]  # (T, A)
    route: NDArray[np.float32]  # (R, 2) the dense route from a little behind the ego
    stop_lines: NDArray[np.float32]  # (L, 4) end points x0, y0, x1, y1 on the route's lanes
    stop_closed: NDArray[np.bool_]  # (T, L) red now, or a stop sign that has not been honoured
    stop_is_sign: NDArray[np.bool_]  # (L,) a stand before the line opens it
    raster: NDArray[np.uint8]  # (rows along y, columns along x) DRIVABLE, ONCOMING, JUNCTION, lane
    policy_plan: Plan  # as recorded at the start frame
    expert_plan: Plan
    expert_trajectory: NDArray[np.float32] = field(  # (T, 4) the expert's recorded plans, one after another;
        default_factory=lambda: np.zeros((0, 4), np.float32)  # empty: roll out `expert_plan` alone
    )
    actor_reacts: NDArray[np.bool_] = field(  # (A,) brakes for an ego ahead on its course; else replays
        default_factory=lambda: np.zeros(0, np.bool_)  # empty: every actor replays
    )
    actor_yields: NDArray[np.bool_] = field(  # (A,) replays unless its record would drive through the ego
        default_factory=lambda: np.zeros(0, np.bool_)  # empty: none
    )
    actor_id: NDArray[np.int32] = field(  # (A,) ids in the record; empty where nothing is drawn of it
        default_factory=lambda: np.zeros(0, np.int32)
    )
    detail: str = ""  # of the trigger: "headway", "lateral", "steer", "overlap", "standing", "line"
    replay_error_m: float = 0.0  # of the applied controls, driven again from the start to the end
    replay_error_deg: float = 0.0

    @property
    def steps(self) -> int:
        """T - 1, how many steps the record can be dreamed for."""
        return len(self.actor_pose) - 1

    @cached_property
    def way(self) -> NDArray[np.float32]:
        """(N, 2) the line that a plan goes on along behind its end, a point every metre.

        It is the expert's path, and behind that the route.  A plan's route ends after 20 m, long before a
        dream does, and in closed loop the next plans would lead on.  Along the lanes alone a plan that passes
        an obstacle would be led back into it.
        """
        path = self.expert_trajectory[:, :2].astype(np.float64)
        steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
        moved = np.concatenate([np.ones(min(len(path), 1), np.bool_), steps > STILL_M])
        path = path[moved]
        s = np.concatenate([[0.0], np.linalg.norm(np.diff(path, axis=0), axis=1).cumsum()])
        if s[-1] < LEAST_WAY_M:
            return self.route
        at = np.arange(0.0, s[-1], WAY_SPACING_M)
        known = np.stack([np.interp(at, s, path[:, axis]) for axis in range(2)], axis=1).astype(np.float32)
        line = np.empty((len(known) + len(self.route), 2), np.float32)
        prolong(known, self.route, line)
        return line

    @cached_property
    def arrays(self) -> SceneArrays:
        """The scene for the kernels, made once."""
        pose = self.actor_pose
        actors = np.stack(
            [pose[..., 0], pose[..., 1], np.cos(pose[..., 2]), np.sin(pose[..., 2]), pose[..., 3]], axis=-1
        )
        reacts = self.actor_reacts if len(self.actor_reacts) else np.zeros(pose.shape[1], np.bool_)
        yields = self.actor_yields if len(self.actor_yields) else np.zeros(pose.shape[1], np.bool_)
        rows = np.flatnonzero(reacts | yields)
        slot = np.full(pose.shape[1], -1, np.int64)
        slot[rows] = np.arange(len(rows))
        course, logged = courses(pose[:, rows])
        return SceneArrays(
            ego=np.ascontiguousarray(self.ego_extent_m / 2, np.float32),
            actors=np.ascontiguousarray(actors, np.float32),
            valid=np.ascontiguousarray(self.actor_valid),
            extent=np.ascontiguousarray(self.actor_extent_m / 2, np.float32),
            static=np.ascontiguousarray(self.actor_static),
            slot=slot,
            course=course,
            logged=logged,
            late=~reacts[rows],
        )

    @cached_property
    def memory(self) -> dict[Any, Any]:
        """What was worked out of this scene once and for all, by what it is."""
        return {}


def courses(pose: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Paths of recorded actors (T, R, 4) as tables (R, N, 4) of x, y, cos, sin, and (R, T, 2) arc, speed.

    Before its first and behind its last recorded pose an actor goes straight on.
    """
    steps = np.diff(pose[..., :2].astype(np.float64), axis=0)
    arc = np.concatenate([np.zeros((1, pose.shape[1])), np.linalg.norm(steps, axis=-1).cumsum(0)])
    points = math.ceil((float(arc[-1].max(initial=0.0)) + COURSE_BEYOND_M) / COURSE_SPACING_M) + 1
    table = np.empty((pose.shape[1], points, 4), np.float32)
    at = COURSE_SPACING_M * np.arange(points)
    for row in range(pose.shape[1]):
        moved = np.concatenate([[True], np.diff(arc[:, row]) > 1e-4])
        known, line = arc[moved, row], pose[moved, row].astype(np.float64)
        heading = np.interp(at, known, np.unwrap(line[:, 2]))
        beyond = np.maximum(at - known[-1], 0.0)
        table[row, :, 0] = np.interp(at, known, line[:, 0]) + beyond * np.cos(heading)
        table[row, :, 1] = np.interp(at, known, line[:, 1]) + beyond * np.sin(heading)
        table[row, :, 2], table[row, :, 3] = np.cos(heading), np.sin(heading)
    logged = np.stack([arc.T, pose[..., 3].T], axis=-1).astype(np.float32)
    return table, np.ascontiguousarray(logged)
