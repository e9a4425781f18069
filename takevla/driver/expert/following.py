"""What is in the ego's corridor now, and how to stay behind it."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from takevla.driver.expert.forecast import HALF_LATERAL, HALF_S, LATERAL, SPEED_LATERAL, SPEED_S, TURNED, S
from takevla.driver.expert.passing import View
from takevla.driver.expert.path import point_at
from takevla.driver.expert.speed import Constraint, standing_term
from takevla.scene.actors import ActorKind
from takevla.scene.geometry import boxes_overlap
from takevla.scene.plan import Cause

LOOK_M = 80.0  # (PDM-Lite)
MARGIN_M = 0.15  # less air beside the corridor than this and it is in it
BESIDE_M = -0.5
LEADERS = 4  # the nearest so many bound the speed; who is hidden behind them does not
CROSSING_MPS = 1.2  # sideways speed of one who crosses and will be gone
CROSSING_NEAR_M = 8.0
SWEEP_M = 14.0  # so far the ego's box is swept along its path
SWEEP_STEP_M = 0.7
SWEEP_NEAR_M = 20.0
SWEEP_SLOW_MPS = 1.5  # faster ones are left to the forecasts
SWEEP_AIR_M = 0.12
SWEEP_S0_M = 0.8


def leader_constraints(view: View, shift: NDArray[np.float64]) -> tuple[list[Constraint], NDArray[np.bool_]]:
    """Constraints behind what the shifted corridor holds ahead, and a mask (A,) of their actors."""
    seen = view.survey
    led = np.zeros(len(view.actors), np.bool_)
    ps = view.path.s[view.window]
    ahead = (seen[:, S] > view.ego_s + 1.0) & (
        seen[:, S] - seen[:, HALF_S] < view.ego_s + view.half_length + LOOK_M
    )
    rows = np.flatnonzero(ahead & view.actors.valid)
    if len(rows) == 0:
        return _contacts(view, shift, led), led
    side = np.interp(seen[rows, S], ps, shift)
    gap = seen[rows, S] - seen[rows, HALF_S] - view.ego_s - view.half_length
    # Who is beside the ego already is left behind by going on, unless they touch.
    margin = np.where(gap < BESIDE_M, 0.0, MARGIN_M)
    inside = np.abs(seen[rows, LATERAL] - side) < seen[rows, HALF_LATERAL] + view.half_width + margin
    leaving = (
        (np.abs(seen[rows, SPEED_LATERAL]) > CROSSING_MPS)
        & (np.abs(seen[rows, TURNED]) > 0.6)
        & (gap > CROSSING_NEAR_M)
    )
    keep = inside & ~leaving
    rows, gap = rows[keep], gap[keep]
    order = np.argsort(gap, kind="stable")[:LEADERS]
    found: list[Constraint] = []
    for k in order:
        a = int(rows[k])
        led[a] = True
        kind = int(view.actors.kind[a])
        s0, headway = standing_term(kind)
        speed = float(seen[a, SPEED_S])
        if view.obstacle[a]:
            cause = Cause.BICYCLE if kind == ActorKind.BICYCLE else Cause.OBSTACLE
        elif kind == ActorKind.PEDESTRIAN:
            cause = Cause.PEDESTRIAN
            speed = max(speed, 0.0)
        elif kind == ActorKind.BICYCLE:
            cause = Cause.BICYCLE
        elif speed < -1.0:
            cause = Cause.ONCOMING
        else:
            cause = Cause.LEADER
        found.append(
            Constraint(float(gap[k]), speed, s0, headway, cause, a, distance_m=max(float(gap[k]), 0.0))
        )
    found += _contacts(view, shift, led)
    return found, led


def _contacts(view: View, shift: NDArray[np.float64], led: NDArray[np.bool_]) -> list[Constraint]:
    """Constraints before those whom the ego's turning or shifting box would touch; marks them as led."""
    actors, window = view.actors, view.path.window_of(view.window)
    touch = np.empty(len(actors))
    sweep(
        *window, shift, view.ego_s, 2.0 * view.half_length, 2.0 * view.half_width, actors.position_world,
        actors.heading_rad, actors.extent_m, actors.speed_mps, actors.valid & ~led, touch,
    )  # fmt: skip
    found = []
    for a in np.flatnonzero(touch < SWEEP_M):
        led[a] = True
        kind = int(actors.kind[a])
        if view.obstacle[a]:
            cause = Cause.OBSTACLE
        elif kind == ActorKind.PEDESTRIAN:
            cause = Cause.PEDESTRIAN
        else:
            cause = Cause.BICYCLE if kind == ActorKind.BICYCLE else Cause.LEADER
        gap = max(float(touch[a]) - SWEEP_STEP_M, 0.05)
        found.append(Constraint(gap, 0.0, SWEEP_S0_M, 0.1, cause, int(a), distance_m=gap))
    return found


@njit(cache=True)
def sweep(
    px: NDArray[np.float64],
    py: NDArray[np.float64],
    ps: NDArray[np.float64],
    shift: NDArray[np.float64],
    ego_s: float,
    length: float,
    width: float,
    position: NDArray[np.float32],
    heading: NDArray[np.float32],
    extent: NDArray[np.float32],
    speed: NDArray[np.float32],
    watched: NDArray[np.bool_],
    touch: NDArray[np.float64],
) -> None:
    """Fill `touch` (A,) with the metres after which the ego's box, driven along the path, touches an actor.

    `inf` for those who move, are far, are not touched within `SWEEP_M`, or are touched already.
    """
    x0, y0 = point_at(px, py, ps, shift, ego_s)
    steps = int(SWEEP_M / SWEEP_STEP_M)
    poses = np.empty((steps, 3))
    for k in range(steps):
        s = ego_s + k * SWEEP_STEP_M
        poses[k, 0], poses[k, 1] = point_at(px, py, ps, shift, s)
        ax, ay = point_at(px, py, ps, shift, s - 0.5)
        bx, by = point_at(px, py, ps, shift, s + 0.5)
        poses[k, 2] = math.atan2(by - ay, bx - ax)
    for a in range(position.shape[0]):
        touch[a] = np.inf
        if not watched[a] or abs(speed[a]) > SWEEP_SLOW_MPS:
            continue
        if (position[a, 0] - x0) ** 2 + (position[a, 1] - y0) ** 2 > SWEEP_NEAR_M * SWEEP_NEAR_M:
            continue
        for k in range(steps):
            if boxes_overlap(
                poses[k, 0], poses[k, 1], poses[k, 2], length, width + 2.0 * SWEEP_AIR_M,
                position[a, 0], position[a, 1], heading[a], extent[a, 0], extent[a, 1],
            ):  # fmt: skip
                if k > 0:
                    touch[a] = k * SWEEP_STEP_M
                break
