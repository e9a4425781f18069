"""Whom the ego meets, and who goes first: forecasts against its own rollout."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from takevla.driver.expert.forecast import (
    HALF_S,
    MOTION_STEPS,
    SPEED_S,
    STEP_S,
    STEPS,
    TURNED,
    WALK,
    WALK_STEPS,
    S,
    forecast,
    meeting,
)
from takevla.driver.expert.margins import Margins
from takevla.driver.expert.passing import View
from takevla.driver.expert.right_of_way import EGO_FIRST, EGO_LAST, RUNNER
from takevla.driver.expert.speed import HARD_BRAKING_MPS2, Constraint, standing_term
from takevla.scene.actors import ActorKind
from takevla.scene.plan import Cause, Privileged

F64 = NDArray[np.float64]

FORECASTS = 72
WALK_LATE_STEPS = 3  # gone before a walker where the ego cannot stop before the walker's way any more
COURTESY_MPS2 = 2.0  # how hard one with right of way is expected to brake for an ego before it
JUNCTION_LOOK_M = 45.0
NO_CREEP_M = 2.5
LINE_KEEP_M = 8.0  # a meeting so near behind the line is awaited at the line
STOP_SHORT_M = 1.2  # stand so far before the other's corridor
ASSERT_BELOW = 0.8  # patience below which the ego takes a gap that makes others brake ...
ASSERT_SEEN_S = (0.9, 0.3)  # ... so early, and so gently, at that patience and at the least
ASSERT_BRAKING_MPS2 = (2.5, 4.0)
LEAST_PATIENCE = 0.4
LEAST_BEFORE_STEPS = 4
START_LEAD_STEPS = 3  # from a standstill the car gains so much on the profile that it is asked to drive
IMPATIENCE_FROM_US, IMPATIENCE_TO_US = 6_000_000, 16_000_000


def _steps(seconds: float) -> int:
    return round(seconds / STEP_S)


def patience(waiting_us: int) -> float:
    """1 at first, falling to 0.4: the factor on the time gaps asked for."""
    part = (waiting_us - IMPATIENCE_FROM_US) / (IMPATIENCE_TO_US - IMPATIENCE_FROM_US)
    return 1.0 - (1.0 - LEAST_PATIENCE) * min(max(part, 0.0), 1.0)


def meeting_constraints(
    truth: Privileged,
    view: View,
    shift: F64,
    travelled: F64,
    led: NDArray[np.bool_],
    patient: float,
    ego_x: float,
    ego_y: float,
    margins: Margins,
) -> list[Constraint]:
    """Constraints for those whom the ego would meet if it drove as `travelled`."""
    scene, actors = truth.scene, truth.scene.actors
    if len(actors) == 0:
        return []
    path, ps = view.path, view.path.s[view.window]
    front = view.ego_s + view.half_length
    own, entry = _own_connectors(view, front)
    watched = actors.valid & ~led & (actors.kind <= ActorKind.PEDESTRIAN)
    rows = np.empty((FORECASTS, STEPS + 1, 4), np.float32)
    who = np.empty((FORECASTS, 4), np.int32)
    count = forecast(
        truth.road_map.arrays, scene.lights, path.x[view.window], path.y[view.window], ps, ego_x, ego_y, own,
        actors.kind, actors.cue, actors.position_world, actors.heading_rad, actors.speed_mps,
        actors.acceleration_mps2, actors.yaw_rate_radps, actors.extent_m, actors.lane, watched, rows, who,
    )  # fmt: skip
    if view.speed < 1.0:
        lead = np.minimum(np.arange(len(travelled)) + START_LEAD_STEPS, len(travelled) - 1)
        travelled = np.where(np.arange(len(travelled)) < START_LEAD_STEPS, travelled, travelled[lead])
    found: list[Constraint] = []
    for h in range(count):
        a, sort, first, steps = (int(value) for value in who[h])
        assertive = STEPS + 1
        if sort != WALK and patient < ASSERT_BELOW:
            push = (ASSERT_BELOW - patient) / (ASSERT_BELOW - LEAST_PATIENCE)
            seen_s = ASSERT_SEEN_S[0] + push * (ASSERT_SEEN_S[1] - ASSERT_SEEN_S[0])
            braking = ASSERT_BRAKING_MPS2[0] + push * (ASSERT_BRAKING_MPS2[1] - ASSERT_BRAKING_MPS2[0])
            assertive = int((seen_s + abs(float(actors.speed_mps[a])) / (2.0 * braking)) * 10.0)
        if sort == WALK:
            margin, horizon = margins.walker_m, WALK_STEPS
            behind, before = _steps(margins.walker_after_s), _steps(margins.walker_before_s)
        elif first == EGO_FIRST:
            margin, horizon = margins.beside_m, MOTION_STEPS
            behind = before = _steps(margins.alert_s)
        else:
            margin, behind, horizon = margins.beside_m, _steps(margins.after_s), STEPS
            before = max(int(_steps(margins.before_s) * patient), LEAST_BEFORE_STEPS)
            if first == RUNNER:
                before = _steps(margins.runner_s)
        step, stop_s, speed_s, ahead = meeting(
            rows[h], steps, shift, ps, view.ego_s, view.half_length, view.half_width, travelled,
            margin, behind, before, horizon, first != EGO_FIRST,
            0.0 if first == RUNNER else COURTESY_MPS2, assertive,
        )  # fmt: skip
        if step >= 0 and sort == WALK and stop_s - front < view.speed**2 / (2.0 * HARD_BRAKING_MPS2):
            # Too late to stop before the walker's way: better through, while that is possible.
            step, stop_s, speed_s, ahead = meeting(
                rows[h], steps, shift, ps, view.ego_s, view.half_length, view.half_width, travelled,
                margin, behind, WALK_LATE_STEPS, horizon, True, COURTESY_MPS2, assertive,
            )  # fmt: skip
        if step >= 0:
            constraint = _constraint(view, a, sort, first, stop_s, speed_s, ahead, front, entry)
            if constraint is not None:
                found.append(constraint)
    return found


def _own_connectors(view: View, front: float) -> tuple[NDArray[np.int32], float]:
    """Connectors the ego drives next, ended by -1, and s of the junction's entry (or of its stop line)."""
    lanes: list[int] = []
    entry = -np.inf
    for span in view.path.junctions:
        if span.end_m < view.ego_s - view.half_length or span.start_m > front + JUNCTION_LOOK_M:
            continue
        lanes.extend(span.lanes)
        if entry == -np.inf:
            entry = span.start_m
            for point in view.path.stop_points:
                if span.start_m - 12.0 < point.s_m < span.start_m + 6.0:
                    entry = point.s_m
    return np.array([*lanes, -1], np.int32), entry


def _constraint(
    view: View,
    a: int,
    sort: int,
    first: int,
    stop_s: float,
    speed_s: float,
    ahead: float,
    front: float,
    entry: float,
) -> Constraint | None:
    seen = view.survey[a]
    kind = int(view.actors.kind[a])
    gap_now = float(seen[S] - seen[HALF_S]) - front
    turned = abs(float(seen[TURNED]))
    if sort == WALK:
        gap = stop_s - front
        if gap < -1.0 and gap_now < 0.0:
            return None  # beside the ego already
        return Constraint(
            max(gap, 0.05), 0.0, 2.0, 0.2, Cause.PEDESTRIAN, a, waits=True, distance_m=max(gap_now, 0.0)
        )
    if kind == ActorKind.BICYCLE:
        cause = Cause.BICYCLE
    elif turned > 2.4:
        cause = Cause.ONCOMING
    elif first == EGO_LAST:
        cause = Cause.YIELD
    else:
        cause = Cause.CROSSING_VEHICLE
    if turned < 0.9 and float(seen[SPEED_S]) > 1.0 and speed_s > 1.0 and gap_now > 0.5:
        # Ahead and about to drive in front of the ego: follow it.
        s0, headway = standing_term(kind)
        if kind != ActorKind.BICYCLE:
            cause = Cause.MERGING_VEHICLE
        return Constraint(gap_now, float(seen[SPEED_S]), s0, 0.6 * headway, cause, a, 5.0, distance_m=gap_now)
    stand = stop_s - STOP_SHORT_M
    if first != EGO_FIRST and front < entry + 0.5 and stand < entry + LINE_KEEP_M:
        stand = min(stand, entry)
    gap = stand - front
    if gap < -2.0 and ahead < 0.0:
        return None  # in the other's way already, which would hit its tail: clear it
    if first != EGO_FIRST and view.speed < 0.1 and front > entry + 0.5 and gap < NO_CREEP_M:
        gap = 0.0  # no creeping into the way of those it waits for
    return Constraint(max(gap, 0.05), 0.0, 0.6, 0.1, cause, a, waits=True, distance_m=max(gap, 0.0))
