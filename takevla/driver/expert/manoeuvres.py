"""The sideways course: who decides when the path is shifted, and back.

One `Course` a seat.  At most one shift is under way; it may be prolonged, and a new one starts from
where the old one has led.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from takevla.driver.expert import passing
from takevla.driver.expert.forecast import HALF_LATERAL, HALF_S, LATERAL, SPEED_S, TURNED, S
from takevla.driver.expert.passing import Cluster, View
from takevla.driver.expert.path import LaneChange
from takevla.driver.expert.shift import Shift, lane_gap
from takevla.driver.expert.speed import Constraint
from takevla.scene.actors import ActorKind, Cue
from takevla.scene.plan import Cause, Manoeuvre

OPEN_END_M = 1e5
EMERGENCY_BEHIND_M = 45.0
EMERGENCY_PASSED_M = 8.0
EMERGENCY_SLOW_SHARE = 0.55
INTRUDER_LOOK_M = 55.0
INTRUDER_AIR_M = 0.5
INTRUDER_HOLD_US = 3_000_000
EDGE_M = 0.75  # how far over its lane's edge the ego's side may go to make room
CHANGE_DECIDE_S = 1.2
PULL_BACK_M = 0.45  # a shift less far advanced than this may still be given up
WAIT_SPEED_MPS = 3.0
CHANGE_PATIENCE_US, CHANGE_LEAST_STRICT = 20e6, 0.3  # the same beside a lane to enter
PATIENCE_US = 35e6  # the gaps asked for beside an obstacle shrink to their least within this wait


@dataclass
class Course:
    """What one seat is doing sideways."""

    shift: Shift | None = None
    constraints: list[Constraint] = field(default_factory=list)  # of this plan
    top_mps: float = 1e9  # of this plan
    waiting: bool = False  # behind an obstacle, for a gap
    queued: bool = False  # behind others who wait there
    changes_decided: set[int] = field(default_factory=set)
    postponed: int = -1  # the lane change that waits for a gap
    giving_way: bool = False  # to an emergency vehicle
    aside: bool = False  # for intruders from the other direction
    intruder_us: int = 0


def steer_course(course: Course, view: View, time_us: int, waiting_us: int) -> Course:
    """Move the course on by one plan."""
    course.constraints = []
    course.top_mps = 1e9
    course.waiting = course.queued = False
    if (
        course.shift is not None
        and view.ego_s > course.shift.end_m + 1.0
        and abs(course.shift.offsets_m[-1]) < 0.05
    ):
        course.shift = None
    cluster = passing.find_cluster(view)
    if _give_way(course, view):
        return course
    if cluster is not None:
        _pass(course, view, cluster, waiting_us)
    if not course.waiting and (course.shift is None or course.aside):
        _make_room(course, view, time_us)
    _change_lanes(course, view, waiting_us)
    if course.shift is not None and course.shift.knots_m[0] - 10.0 < view.ego_s < course.shift.end_m:
        course.top_mps = min(course.top_mps, course.shift.top_mps)
    return course


def current_manoeuvre(course: Course, view: View) -> Manoeuvre:
    """The lateral word for what the ego is doing."""
    if course.waiting:
        return Manoeuvre.WAIT_FOR_GAP
    shift = course.shift
    if shift is not None and view.ego_s > shift.knots_m[0] - 5.0:
        if len(shift.knots_m) == 4 and view.ego_s > shift.knots_m[2]:
            return Manoeuvre.RETURN_TO_LANE
        return shift.manoeuvre
    for change in view.path.changes:
        if change.start_m - 8.0 < view.ego_s < change.end_m:
            return Manoeuvre.CHANGE_LANE
    return Manoeuvre.FOLLOW_ROUTE


def current_cause(course: Course, view: View, manoeuvre: Manoeuvre) -> tuple[Cause, int] | None:
    """For whom the ego is out of its line: (cause, row in the actors), or None."""
    ids = view.actors.id
    if course.shift is None:
        return None
    if manoeuvre in (Manoeuvre.GO_AROUND_LEFT, Manoeuvre.GO_AROUND_RIGHT):
        rows = np.flatnonzero(view.actors.valid & np.isin(ids, list(course.shift.members)))
        rows = rows[view.survey[rows, S] + view.survey[rows, HALF_S] > view.ego_s - view.half_length]
        if len(rows) == 0:
            return None
        row = int(rows[np.argmin(view.survey[rows, S])])
        bicycle = view.actors.kind[row] == ActorKind.BICYCLE
        return (Cause.BICYCLE if bicycle else Cause.OBSTACLE), row
    if manoeuvre == Manoeuvre.GIVE_WAY and course.shift.actor_id >= 0:
        rows = np.flatnonzero(view.actors.valid & (ids == course.shift.actor_id))
        if len(rows):
            return (Cause.EMERGENCY_VEHICLE if course.giving_way else Cause.ONCOMING), int(rows[0])
    return None


def _queue_before(view: View, cluster: Cluster) -> int:
    """Row of the last of those who stand or drive between the ego and the obstacles, -1 for nobody."""
    seen = view.survey
    between = view.moving & ~view.obstacle & (seen[:, S] > view.ego_s + view.half_length)
    between &= seen[:, S] < cluster.start_m
    between &= np.abs(seen[:, LATERAL]) < seen[:, HALF_LATERAL] + view.half_width
    rows = np.flatnonzero(between)
    return int(rows[np.argmin(seen[rows, S])]) if len(rows) else -1


def _pass(course: Course, view: View, cluster: Cluster, waiting_us: int) -> None:
    shift = course.shift
    tail = _queue_before(view, cluster) if abs(view.ego_lateral) < PULL_BACK_M else -1
    if tail >= 0:
        # They go first; but stand back from them, with room to swing out if they do not.
        course.waiting = course.queued = True
        if shift is not None and shift.members:
            course.shift = None
        gap = float(view.survey[tail, S] - view.survey[tail, HALF_S]) - view.ego_s - view.half_length
        speed = max(float(view.survey[tail, SPEED_S]), 0.0)
        course.constraints.append(
            Constraint(gap, speed, passing.WAIT_M, 0.5, Cause.LEADER, tail, 3.0, distance_m=max(gap, 0.0))
        )
        return
    if shift is not None and not course.aside and course.postponed < 0:
        ids = {int(view.actors.id[a]) for a in cluster.rows}
        if shift.members & ids:
            began = abs(view.ego_lateral) > PULL_BACK_M or view.ego_s > shift.knots_m[1] - 2.0
            if began or not shift.oncoming:
                passing.prolong(view, shift, cluster)
                return
            # Not out yet: what has come up since may still call it back.
            verdict = passing.decide(view, cluster, 0.7)
            if verdict.shift is None:
                course.shift = None
                _wait(course, view, cluster, verdict.blocker, verdict.oncoming)
            return
        if view.ego_s < shift.knots_m[-2]:
            passing.prolong(view, shift, cluster)
            if view.ego_s < shift.knots_m[1]:
                return
    patience = max(1.0 - waiting_us / PATIENCE_US, 0.0)
    verdict = passing.decide(view, cluster, patience)
    if verdict.shift is not None:
        course.shift = verdict.shift
        course.aside = False
        return
    _wait(course, view, cluster, verdict.blocker, verdict.oncoming)


def _wait(course: Course, view: View, cluster: Cluster, blocker: int, oncoming: bool) -> None:
    """Stand (or follow) behind a cluster with room to swing out."""
    course.waiting = True
    gap = cluster.start_m - view.ego_s - view.half_length
    actor = blocker if blocker >= 0 else cluster.rows[0]
    cause = Cause.ONCOMING if oncoming and blocker >= 0 else Cause.OBSTACLE
    course.constraints.append(
        Constraint(
            gap,
            cluster.speed_mps,
            min(passing.WAIT_M, max(gap, 3.0)) if view.speed < 0.5 else passing.WAIT_M,
            0.1,
            cause,
            actor,
            4.0 if gap > 6.0 else 7.0,
            waits=True,
            distance_m=max(gap, 0.0),
        )
    )


def _give_way(course: Course, view: View) -> bool:
    """Shift aside for an emergency vehicle from behind; True while the ego does so."""
    actors, seen = view.actors, view.survey
    blue = actors.valid & ((actors.cue & int(Cue.EMERGENCY)) != 0) & (actors.speed_mps > 2.0)
    blue &= np.abs(seen[:, TURNED]) < 0.8
    rows = np.flatnonzero(blue & (np.abs(seen[:, S] - view.ego_s) < EMERGENCY_BEHIND_M))
    behind = [int(a) for a in rows if seen[a, S] < view.ego_s + EMERGENCY_PASSED_M]
    if not behind:
        if course.giving_way:
            course.giving_way = False
            length = passing.swing_length(max(view.speed, 4.0), view.ego_lateral)
            course.shift = Shift(
                Manoeuvre.RETURN_TO_LANE,
                [view.ego_s + 1.0, view.ego_s + 1.0 + length],
                [view.ego_lateral, 0.0],
            )
        return False
    a = behind[0]
    if not course.giving_way:
        in_way = abs(seen[a, LATERAL] - view.ego_lateral) < seen[a, HALF_LATERAL] + view.half_width + 0.4
        if not in_way or seen[a, S] > view.ego_s:
            return False
        offset = _aside(view, a)
        length = passing.swing_length(view.speed, offset)
        course.shift = Shift(
            Manoeuvre.GIVE_WAY,
            [view.ego_s + 0.5, view.ego_s + 0.5 + length],
            [view.ego_lateral, offset],
            actor_id=int(actors.id[a]),
        )
        course.giving_way = True
    gap = float(view.ego_s - view.half_length - seen[a, S] - seen[a, HALF_S])
    if gap < 25.0 and abs(view.ego_lateral) > 1.0:
        # Slower than the emergency vehicle, or it never gets past.
        course.top_mps = max(EMERGENCY_SLOW_SHARE * view.target, 3.0)
    return True


def _aside(view: View, emergency: int) -> float:
    """Offset that leaves the emergency vehicle its lane: the lane to the right, to the left, or the edge."""
    at = view.window.start + 60
    path = view.path
    half = float(path.half_width[at])
    skip = np.zeros(len(view.actors), np.bool_)
    skip[emergency] = True
    for offset in (-2.0 * half, 2.0 * half):
        room = (
            float(path.right_m[at : at + 30].min()) if offset < 0 else float(path.left_m[at : at + 30].min())
        )
        if room < 1.0 or (offset > 0 and path.left_oncoming[at : at + 30].any()):
            continue
        band = np.full(path.x[view.window].shape[0], offset)
        row = lane_gap(
            view.survey, view.moving, skip, band, float(path.s[view.window.start]), 1.0, view.ego_s,
            view.half_length, view.half_width, view.speed, view.target, 0.7,
        )  # fmt: skip
        if row < 0:
            return offset
    return -(half - view.half_width + EDGE_M)


def _make_room(course: Course, view: View, time_us: int) -> None:
    """Move to the right edge while others come over the middle of the road."""
    seen = view.survey
    at = view.window.start + 60
    # One who stands because the ego is in his way is still coming.
    coming = view.moving & ~view.obstacle & (seen[:, SPEED_S] < 0.1) & (np.abs(seen[:, TURNED]) > 2.5)
    coming &= (seen[:, S] > view.ego_s - 3.0) & (seen[:, S] < view.ego_s + INTRUDER_LOOK_M)
    coming &= seen[:, LATERAL] > 0.3
    edge = seen[:, LATERAL] - seen[:, HALF_LATERAL]
    coming &= edge < view.half_width + INTRUDER_AIR_M
    rows = np.flatnonzero(coming)
    if len(rows) and not view.path.in_junction[at - 8 : at + 40].any():
        half = float(view.path.half_width[at])
        wish = float(edge[rows].min()) - view.half_width - INTRUDER_AIR_M
        offset = max(wish, -(half - view.half_width + EDGE_M))
        course.intruder_us = time_us
        if course.aside and course.shift is not None and offset > course.shift.offsets_m[-1] - 0.05:
            return
        length = passing.swing_length(max(view.speed, 4.0), offset - view.ego_lateral)
        course.shift = Shift(
            Manoeuvre.GIVE_WAY,
            [view.ego_s + 0.5, view.ego_s + 0.5 + length],
            [view.ego_lateral, offset],
            actor_id=int(view.actors.id[rows[np.argmin(edge[rows])]]),
        )
        course.aside = True
    elif course.aside and time_us - course.intruder_us > INTRUDER_HOLD_US:
        course.aside = False
        length = passing.swing_length(max(view.speed, 4.0), view.ego_lateral)
        course.shift = Shift(
            Manoeuvre.RETURN_TO_LANE, [view.ego_s + 1.0, view.ego_s + 1.0 + length], [view.ego_lateral, 0.0]
        )


def _change_lanes(course: Course, view: View, waiting_us: int) -> None:
    """Enter the route's next lane only into a gap; else stay, slow down, and try again."""
    strict = max(1.0 - waiting_us / CHANGE_PATIENCE_US, CHANGE_LEAST_STRICT)
    if course.postponed >= 0:
        change = view.path.changes[course.postponed]
        blocker = _change_blocker(view, change, True, strict)
        if blocker < 0 or view.ego_s > change.latest_m + 20.0:
            length = passing.swing_length(max(view.speed, 3.0), change.jump_m)
            course.shift = Shift(
                Manoeuvre.CHANGE_LANE,
                [view.ego_s + 0.5, view.ego_s + 0.5 + length],
                [view.ego_lateral, 0.0],
            )
            course.postponed = -1
            return
        _hold_back(course, view, change, blocker)
        return
    if course.shift is not None:
        return
    for k, change in enumerate(view.path.changes):
        if k in course.changes_decided or view.ego_s > change.s_m:
            continue
        if change.start_m > view.ego_s + max(6.0, CHANGE_DECIDE_S * view.speed):
            break
        blocker = _change_blocker(view, change, False, strict)
        if blocker < 0:
            course.changes_decided.add(k)
            return
        if view.ego_s < change.start_m - 1.0 and view.speed > 1.0:
            course.top_mps = max(0.8 * view.target, WAIT_SPEED_MPS)
            return
        course.changes_decided.add(k)
        course.postponed = k
        course.shift = Shift(
            Manoeuvre.CHANGE_LANE,
            [change.start_m, change.end_m, OPEN_END_M],
            [0.0, -change.jump_m, -change.jump_m],
        )
        _hold_back(course, view, change, blocker)
        return


def _change_blocker(view: View, change: LaneChange, over: bool, strict: float) -> int:
    """Row of whoever keeps the ego from a lane change; `over`: the path has gone over already."""
    s = view.path.s[view.window]
    band = np.where(s < change.s_m, change.jump_m, 0.0)
    skip = (
        np.abs(view.survey[:, LATERAL] - np.where(view.survey[:, S] < change.s_m, 0.0, -change.jump_m)) < 1.2
    )
    top = view.target if over or view.speed > 2.0 else 6.0
    return int(
        lane_gap(
            view.survey, view.moving, skip, band, float(s[0]), 1.0, view.ego_s, view.half_length,
            view.half_width, view.speed, top, strict,
        )
    )  # fmt: skip


def _hold_back(course: Course, view: View, change: LaneChange, blocker: int) -> None:
    seen = view.survey[blocker]
    course.top_mps = min(course.top_mps, max(float(seen[SPEED_S]) - 1.5, WAIT_SPEED_MPS))
    gap = change.latest_m - 12.0 - view.ego_s - view.half_length
    if gap > -8.0:
        course.constraints.append(
            Constraint(
                max(gap, 0.1), 0.0, 1.0, 0.1, Cause.YIELD, blocker, 5.0, waits=True, distance_m=max(gap, 0.0)
            )
        )
