"""Getting past what stands in the way: which side, when, and how the path is shifted.

An obstacle is what will not drive on by itself: cones, boxes, vehicles with hazard or emergency lights,
parked ones, opened doors, and slow bicycles.  Obstacles that follow each other closely are passed as one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from takevla.driver.expert.forecast import HALF_LATERAL, HALF_S, LATERAL, SPEED_S, TURNED, S
from takevla.driver.expert.path import RoutePath
from takevla.driver.expert.shift import ONCOMING_RESERVE_M, Shift, lane_gap, oncoming_gap, time_to_go
from takevla.scene.actors import ActorKind, Actors, Cue
from takevla.scene.plan import Manoeuvre

F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

LOOK_M = 50.0  # obstacles farther ahead are left for later (PDM-Lite)
LOOK_S = 4.0  # but at speed look so many seconds ahead
CLEAR_M = 0.65  # air wanted beside an obstacle
CLEAR_LEAST_M = 0.35
CORRIDOR_MARGIN_M = 0.2  # less air than this and it stands in the way
CHAIN_M = 16.0  # obstacles closer to each other than this are passed in one go
STANDING_MPS = 0.5
BICYCLE_SLOW_MPS = 5.0
WAIT_M = 10.0  # where to wait before an obstacle: room to swing out
SWING_S = 1.9  # a shift takes about so long ...
SWING_LEAST_M, SWING_MOST_M = 9.0, 32.0  # ... within these lengths
TOP_ONCOMING_MPS = 50.0 / 3.6  # on the other direction's lane (PDM-Lite)
TOP_DOOR_MPS = 40.0 / 3.6
ONCOMING_BRAKES_M = 15.0  # what oncoming traffic is in the end asked to give way by braking
SWING_BACK_MOST_M = 14.0  # out of the other direction's lane
AROUND_M = 14.0  # before and behind an obstacle: where swinging out and back happens
CROSSING_PATIENCE = 0.55  # above it, no way around is driven through a junction on the other direction's lane
LANE_SLACK_M = 0.35  # how far the ego's side may reach over its lane's edge and count as inside
_STANDS = int(Cue.HAZARD | Cue.PARKED | Cue.EMERGENCY | Cue.DOOR_LEFT | Cue.DOOR_RIGHT)
_DOORS = int(Cue.DOOR_LEFT | Cue.DOOR_RIGHT)
DOOR_WIDTH_M = 0.9  # how far an opened door stands out
QUEUE_GIVE_UP_US = 8_000_000  # who has stood so long behind an obstacle is one of them
GIVE_UP_US = 20_000_000  # a leader that has stood so long, not for a light, is an obstacle


@dataclass(frozen=True, slots=True)
class Cluster:
    """Obstacles that are passed in one go, in path coordinates (m)."""

    start_m: float
    end_m: float
    left_m: float  # lateral of its left edge
    right_m: float
    rows: tuple[int, ...]
    speed_mps: float  # along the path, of the slowest to be passed
    doors: bool


@dataclass(frozen=True, slots=True)
class View:
    """What passing needs to know of the moment."""

    path: RoutePath
    window: slice
    actors: Actors
    survey: F64
    obstacle: Mask
    moving: Mask
    ego_s: float
    ego_lateral: float
    half_length: float
    half_width: float
    speed: float
    target: float  # speed the ego would drive here
    limit: float  # speed limit here


@dataclass(frozen=True, slots=True)
class Verdict:
    """What passing says: a shift to drive, or to wait behind `cluster` for `blocker`."""

    shift: Shift | None
    cluster: Cluster | None = None
    blocker: int = -1
    oncoming: bool = False


def obstacle_mask(actors: Actors, survey: F64, ps: F64, turning: Mask) -> Mask:
    """(A,) who will not drive on by itself, wherever it stands.

    Bicycles are none where the path turns: there they cross it.
    """
    kind, cue, speed = actors.kind, actors.cue, np.abs(actors.speed_mps)
    still = speed < STANDING_MPS
    thing = (kind >= ActorKind.CONE) & still
    parked = (kind < ActorKind.BICYCLE) & still & ((cue & _STANDS) != 0)
    at = np.clip(np.searchsorted(ps, survey[:, S]), 0, len(ps) - 1)
    along = (np.abs(survey[:, TURNED]) < 0.6) & ~turning[at] & ~turning[np.maximum(at - 12, 0)]
    bicycle = (kind == ActorKind.BICYCLE) & (speed < BICYCLE_SLOW_MPS) & along
    bicycle &= (cue & int(Cue.CROSSING)) == 0
    return np.asarray(actors.valid & (thing | parked | bicycle))


def widen_doors(actors: Actors, survey: F64) -> None:
    """Count opened doors as part of the box, in a survey."""
    rows = np.flatnonzero(actors.valid & ((actors.cue & _DOORS) != 0))
    for a in rows:
        same = math.cos(survey[a, TURNED]) >= 0.0
        left = bool(actors.cue[a] & Cue.DOOR_LEFT) == same
        survey[a, HALF_LATERAL] += DOOR_WIDTH_M / 2
        survey[a, LATERAL] += DOOR_WIDTH_M / 2 if left else -DOOR_WIDTH_M / 2


def find_cluster(view: View) -> Cluster | None:
    """The first group of obstacles that stand in the ego's unshifted way."""
    survey = view.survey
    look = max(LOOK_M, LOOK_S * view.speed)
    near = survey[:, S] - survey[:, HALF_S]
    far = survey[:, S] + survey[:, HALF_S]
    ahead = view.obstacle & (far > view.ego_s - view.half_length) & (near < view.ego_s + look + 40.0)
    inside = np.abs(survey[:, LATERAL]) < survey[:, HALF_LATERAL] + view.half_width + CORRIDOR_MARGIN_M
    rows = np.flatnonzero(ahead & inside)
    if len(rows) == 0:
        return None
    rows = rows[np.argsort(near[rows], kind="stable")]
    if near[rows[0]] > view.ego_s + look:
        return None
    chain = [int(rows[0])]
    end = float(far[rows[0]])
    for a in rows[1:]:
        if near[a] > end + CHAIN_M:
            break
        chain.append(int(a))
        end = max(end, float(far[a]))
    left = float((survey[chain, LATERAL] + survey[chain, HALF_LATERAL]).max())
    right = float((survey[chain, LATERAL] - survey[chain, HALF_LATERAL]).min())
    speed = float(max(survey[chain, SPEED_S].min(), 0.0))
    doors = bool((view.actors.cue[chain] & _DOORS).any())
    return Cluster(float(near[chain].min()), end, left, right, tuple(chain), speed, doors)


def decide(view: View, cluster: Cluster, patience: float) -> Verdict:
    """Pass the cluster now, or wait behind it.

    `patience` is 1 at first and falls as the wait grows: it scales the gaps asked for.
    """
    best_blocker = -1
    best_oncoming = False
    for offset, manoeuvre, oncoming in _options(view, cluster):
        if oncoming and patience > CROSSING_PATIENCE and _at_junction(view, cluster):
            continue
        shift = _shape(view, cluster, offset, manoeuvre, oncoming)
        if shift is None:
            continue
        blocker = _blocker(view, cluster, shift, offset, patience)
        if blocker < 0:
            return Verdict(shift, cluster)
        if best_blocker < 0:
            best_blocker, best_oncoming = blocker, oncoming
    return Verdict(None, cluster, best_blocker, best_oncoming)


def _at_junction(view: View, cluster: Cluster) -> bool:
    """Whether a way around the cluster would begin or end in a junction."""
    ps = view.path.s[view.window]
    beside = (ps > cluster.start_m - AROUND_M) & (ps < cluster.end_m + AROUND_M)
    return bool(view.path.in_junction[view.window][beside].any())


def _options(view: View, cluster: Cluster) -> list[tuple[float, Manoeuvre, bool]]:
    """Offsets worth trying, best first: within the lane, a lane of this direction, the other direction."""
    path = view.path
    base = view.window.start
    s = path.s[view.window]
    low = base + int(np.searchsorted(s, cluster.start_m - 5.0))
    high = max(base + int(np.searchsorted(s, cluster.end_m + 5.0)), low + 1)
    lanes = slice(low, min(high, len(path.s)))
    half_lane = float(path.half_width[lanes].min())
    left_room = float(path.left_m[lanes].min())
    right_room = float(path.right_m[lanes].min())
    any_oncoming = bool(path.left_oncoming[lanes].any())
    clear = CLEAR_M + (0.2 if cluster.doors or cluster.speed_mps > 0.3 else 0.0)
    left = cluster.left_m + view.half_width + clear
    right = cluster.right_m - view.half_width - clear
    inside = half_lane - view.half_width + LANE_SLACK_M
    tight = clear - CLEAR_LEAST_M
    found: list[tuple[float, Manoeuvre, bool]] = []
    if left - tight <= inside:
        found.append((min(left, inside), Manoeuvre.GO_AROUND_LEFT, False))
    if -right - tight <= inside:
        found.append((max(right, -inside), Manoeuvre.GO_AROUND_RIGHT, False))
    if found:
        found.sort(key=lambda option: abs(option[0]))
    one_lane = 2.0 * half_lane
    if left_room > 1.0 and not any_oncoming and left - tight <= left_room + 0.4:
        found.append((max(left, min(one_lane, left_room)), Manoeuvre.GO_AROUND_LEFT, False))
    if right_room > 1.0 and -right - tight <= right_room + 0.4:
        found.append((min(right, -min(one_lane, right_room)), Manoeuvre.GO_AROUND_RIGHT, False))
    if left_room > 1.0 and any_oncoming and left - tight <= left_room + 0.5:
        found.append((left, Manoeuvre.GO_AROUND_LEFT, True))
    return found


def passing_speed(view: View, oncoming: bool) -> float:
    """Speed driven beside what is passed; in the other direction's lane the limit is used up."""
    return min(view.limit, TOP_ONCOMING_MPS) if oncoming else view.target


def swing_length(speed: float, offset: float) -> float:
    """Metres that a smooth sideways move takes."""
    wish = max(SWING_LEAST_M, SWING_S * speed) * (0.5 + 0.5 * min(abs(offset) / 3.0, 1.3))
    return min(wish, SWING_MOST_M)


def _shape(view: View, cluster: Cluster, offset: float, manoeuvre: Manoeuvre, oncoming: bool) -> Shift | None:
    """The course around a cluster; None where the ego stands too close to swing out."""
    top = TOP_DOOR_MPS if cluster.doors else TOP_ONCOMING_MPS if oncoming else 1e9
    passing = min(passing_speed(view, oncoming), top)
    now = view.ego_lateral
    full = cluster.start_m - view.half_length - 1.5
    length = swing_length(max(view.speed, min(passing, 6.0)), offset - now)
    start = full - length
    if start < view.ego_s + 0.5:
        start = view.ego_s + 0.5
        least = math.sqrt(6.0 * abs(offset - now) * 4.6) if abs(offset - now) > 0.3 else 1.0
        full = max(full, start + min(least, length))
        if full > cluster.start_m + 1.0 and abs(offset - now) > 1.0:
            full = max(cluster.start_m - view.half_length + 0.5, start + 5.5)
    end = cluster.end_m
    if cluster.speed_mps > 0.3:
        closing = max(passing - cluster.speed_mps, 1.0)
        end += cluster.speed_mps * (end - view.ego_s + 2.0 * view.half_length + 6.0) / closing
    back = max(end + view.half_length + 1.5, full + 1.0)
    home = back + min(swing_length(passing, offset), SWING_BACK_MOST_M if oncoming else SWING_MOST_M)
    return Shift(
        manoeuvre,
        [start, full, back, home],
        [now if start <= view.ego_s + 0.6 else 0.0, offset, offset, 0.0],
        oncoming,
        int(view.actors.id[cluster.rows[0]]),
        top,
        {int(view.actors.id[a]) for a in cluster.rows},
    )


def _blocker(view: View, cluster: Cluster, shift: Shift, offset: float, patience: float) -> int:
    """Row of whoever keeps the ego from this shift, -1 for nobody."""
    skip = np.zeros(len(view.actors), np.bool_)
    skip[list(cluster.rows)] = True
    s = view.path.s[view.window]
    band = shift.at(s)
    # Something else that stands on the shifted course.
    survey = view.survey
    still = view.actors.valid & ~skip & (np.abs(view.actors.speed_mps) < STANDING_MPS)
    still &= (survey[:, S] > view.ego_s + view.half_length) & (survey[:, S] < shift.knots_m[2] + 3.0)
    rows = np.flatnonzero(still)
    if len(rows):
        course = np.interp(survey[rows, S], s, band)
        hit = np.abs(survey[rows, LATERAL] - course) < survey[rows, HALF_LATERAL] + view.half_width + 0.2
        if hit.any():
            return int(rows[np.argmax(hit)])
    half_lane = float(view.path.half_width[view.window.start + 60])
    if abs(offset) + view.half_width <= half_lane + LANE_SLACK_M + 0.05:
        return -1  # stays in its lane
    passing = min(passing_speed(view, shift.oncoming), shift.top_mps)
    if shift.oncoming:
        clear = shift.knots_m[2] + 0.6 * (shift.knots_m[3] - shift.knots_m[2])
        seconds = time_to_go(clear - view.ego_s, view.speed, passing_speed(view, True))
        reserve = ONCOMING_RESERVE_M * patience - ONCOMING_BRAKES_M * (1.0 - patience)
        row = oncoming_gap(
            survey, view.moving, skip, offset, view.ego_s, view.half_width, view.half_length,
            clear + view.half_length, seconds, reserve,
        )  # fmt: skip
        if row >= 0:
            return row
        return lane_gap(
            survey, view.moving, skip | (survey[:, SPEED_S] < 0.5), np.full(len(s), offset), s[0], 1.0,
            view.ego_s, view.half_length, view.half_width, view.speed, passing, 0.8,
        )  # fmt: skip
    return lane_gap(
        survey, view.moving, skip, np.full(len(s), offset), s[0], 1.0,
        view.ego_s, view.half_length, view.half_width, view.speed, passing, max(patience, 0.4),
    )  # fmt: skip


def prolong(view: View, shift: Shift, cluster: Cluster) -> None:
    """Keep a shift going when what is passed reaches farther than was known."""
    if len(shift.knots_m) != 4 or view.ego_s > shift.knots_m[2]:
        return
    offset = shift.offsets_m[1]
    side = 1.0 if offset > 0 else -1.0
    edge = cluster.left_m if side > 0 else -cluster.right_m
    if (
        cluster.start_m > shift.knots_m[2] + CHAIN_M
        or edge + view.half_width + CLEAR_LEAST_M > side * offset + 0.2
    ):
        return
    end = cluster.end_m + view.half_length + 1.5
    if cluster.speed_mps > 0.3:
        closing = max(max(view.speed, 4.0) - cluster.speed_mps, 1.0)
        ahead = max(cluster.end_m - view.ego_s + view.half_length + 2.0, 0.0)
        end += cluster.speed_mps * ahead / closing
    if end > shift.knots_m[2]:
        length = shift.knots_m[3] - shift.knots_m[2]
        shift.knots_m[2] = end
        shift.knots_m[3] = end + length
        shift.members |= {int(view.actors.id[a]) for a in cluster.rows}
