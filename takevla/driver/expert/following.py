"""What is in the ego's corridor now, and how to stay behind it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from takevla.driver.expert.forecast import HALF_LATERAL, HALF_S, LATERAL, SPEED_LATERAL, SPEED_S, TURNED, S
from takevla.driver.expert.passing import View
from takevla.driver.expert.speed import Constraint, standing_term
from takevla.scene.actors import ActorKind
from takevla.scene.plan import Cause

LOOK_M = 80.0  # (PDM-Lite)
MARGIN_M = 0.15  # less air beside the corridor than this and it is in it
LEADERS = 4  # the nearest so many bound the speed; who is hidden behind them does not
CROSSING_MPS = 1.2  # sideways speed of one who crosses and will be gone
CROSSING_NEAR_M = 8.0


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
        return [], led
    side = np.interp(seen[rows, S], ps, shift)
    inside = np.abs(seen[rows, LATERAL] - side) < seen[rows, HALF_LATERAL] + view.half_width + MARGIN_M
    gap = seen[rows, S] - seen[rows, HALF_S] - view.ego_s - view.half_length
    leaving = (
        (np.abs(seen[rows, SPEED_LATERAL]) > CROSSING_MPS)
        & (np.abs(seen[rows, TURNED]) > 0.6)
        & (gap > CROSSING_NEAR_M)
    )
    keep = inside & ~leaving
    rows, gap = rows[keep], gap[keep]
    order = np.argsort(gap, kind="stable")[:LEADERS]
    found = []
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
    return found, led
