"""The privileged expert: rules on the true scene, in the manner of PDM-Lite (benchmark facts 3).

Per plan and seat:

1. the route window, everyone in its path coordinates (`path`, `forecast.survey`);
2. sideways: obstacles, lane changes, emergency vehicles, intruders (`manoeuvres`, `passing`);
3. what bounds the speed: leaders, lights, stop signs (`following`, `rules`), and a first rollout;
4. forecasts of the others against that rollout: who is met, and who goes first (`yielding`);
5. the final rollout gives the waypoints, the shifted path the route, what binds the reason.

It reads scene records alone, and of other people's intent only the cues that an onlooker sees.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numba import njit
from numpy.typing import NDArray

from takevla.driver.expert import following, manoeuvres, passing, yielding
from takevla.driver.expert.forecast import HALF_S, S, survey
from takevla.driver.expert.margins import ORDINARY, Margins
from takevla.driver.expert.path import BEHIND, RoutePath, point_at, project
from takevla.driver.expert.rules import RuleMemory, rule_constraints
from takevla.driver.expert.shift import shift_curvature
from takevla.driver.expert.speed import (
    LIMIT_SHARE,
    ROLL_STEP_S,
    ROLL_STEPS,
    TOP_SPEED_MPS,
    Constraint,
    roll_out,
    speed_caps,
)
from takevla.scene.actors import ActorKind, Actors
from takevla.scene.plan import (
    ROUTE_POINTS,
    SPEED_WAYPOINTS,
    WAYPOINT_PERIOD_US,
    Action,
    Cause,
    Manoeuvre,
    Observation,
    Plan,
    Privileged,
    Reason,
)
from takevla.world.camera.rig import Rig

F64 = NDArray[np.float64]

PERIOD_US = 100_000
STILL_MPS = 0.1
LIFT_WAIT_US = 20_000_000  # after so long, waiting for those who stand is given up (un-sticking) ...
LIFTED_US = 5_000_000  # ... for so long
LIFT_AGAIN_US = 15_000_000
LIFTED_TOP_MPS = 4.0
STANDING_MPS = 0.3
STAY_M = 1.5
FADE_M = 8.0  # the ego's own sideways error fades from the waypoints over this distance


@dataclass
class Memory:
    """What the expert remembers of one seat."""

    path: RoutePath
    rules: RuleMemory = field(default_factory=RuleMemory)
    course: manoeuvres.Course = field(default_factory=manoeuvres.Course)
    time_us: int = -1
    still_us: int = 0  # how long the ego has stood
    waiting_us: int = 0  # how long it has stood to let others go
    lifted_until_us: int = -(10**12)  # until when it no longer waits for them
    blocker: int = -1  # id of the actor that bound it last while standing
    blocked_us: int = 0  # for how long
    given_up: set[int] = field(default_factory=set)  # ids of those it no longer expects to drive on


class Expert:
    """Privileged driver; a `takevla.driver.driver.Driver`."""

    name = "expert"
    needs_image = False
    rig = Rig()
    needs_privilege = True

    def __init__(self, period_us: int = PERIOD_US, margins: Margins = ORDINARY) -> None:
        self.period_us, self.margins = period_us, margins
        self._memory: dict[int, Memory] = {}

    def reset(self, seats: Sequence[int]) -> None:
        """Forget everything about these seats."""
        for seat in seats:
            self._memory.pop(seat, None)

    def plan(self, observations: Sequence[Observation]) -> list[Plan]:
        """One plan for each observation.

        Raises:
            ValueError: an observation without its privileged part.
        """
        return [self._plan_one(observation) for observation in observations]

    def _plan_one(self, observation: Observation) -> Plan:
        truth = observation.privileged
        if truth is None:
            raise ValueError("the expert needs privileged observations; observe with privileged=True")
        memory = self._memory.get(observation.seat)
        if memory is None or memory.path.route is not truth.route:
            memory = Memory(RoutePath(truth.road_map, truth.route))
            self._memory[observation.seat] = memory
        return plan_one(memory, truth, self.margins)


def plan_one(memory: Memory, truth: Privileged, margins: Margins) -> Plan:
    """The expert's plan for one scene; `memory` moves on."""
    scene, ego, actors = truth.scene, truth.scene.ego, truth.scene.actors
    path = memory.path
    speed = ego.speed_mps
    elapsed_us = 0 if memory.time_us < 0 else scene.time_us - memory.time_us
    memory.time_us = scene.time_us
    memory.still_us = memory.still_us + elapsed_us if speed < STILL_MPS else 0

    window = path.window(truth.route_index)
    px, py, ps = path.x[window], path.y[window], path.s[window]
    ego_x, ego_y = float(ego.position_world[0]), float(ego.position_world[1])
    ego_s, ego_lateral, along = project(px[40:90], py[40:90], ps[40:90], ego_x, ego_y)
    half_length, half_width = 0.5 * float(ego.extent_m[0]), 0.5 * float(ego.extent_m[1])
    front = ego_s + half_length
    seen = np.empty((len(actors), 7))
    survey(
        px, py, ps, actors.position_world, actors.heading_rad, actors.speed_mps, actors.extent_m,
        actors.valid, seen,
    )  # fmt: skip
    passing.widen_doors(actors, seen)
    obstacle = passing.obstacle_mask(actors, seen, ps, path.turning[window])
    give_up_us = passing.QUEUE_GIVE_UP_US if memory.course.queued else passing.GIVE_UP_US
    if memory.blocked_us > give_up_us:
        memory.given_up.add(memory.blocker)
    given_up = np.isin(actors.id, list(memory.given_up)) & (np.abs(actors.speed_mps) < STANDING_MPS)
    if given_up.any():
        obstacle |= actors.valid & given_up & (actors.kind < ActorKind.PEDESTRIAN)
    limit = path.limit[window]
    view = passing.View(
        path, window, actors, seen, obstacle, actors.valid & (actors.kind < ActorKind.PEDESTRIAN),
        ego_s, ego_lateral, half_length, half_width, speed,
        min(LIMIT_SHARE * float(limit[BEHIND]), TOP_SPEED_MPS), float(limit[BEHIND]),
    )  # fmt: skip
    course = manoeuvres.steer_course(memory.course, view, scene.time_us, memory.waiting_us)
    shift = course.shift.at(ps) if course.shift is not None else np.zeros(len(ps))

    bend = np.zeros(len(ps))
    if course.shift is not None:
        shift_curvature(shift, ps, bend)
    caps = np.empty(len(ps))
    top = min(course.top_mps, LIFTED_TOP_MPS) if scene.time_us < memory.lifted_until_us else course.top_mps
    allowed = np.minimum(limit, top / LIMIT_SHARE)
    if course.shift is not None and course.shift.oncoming:
        hurry = (ps > course.shift.knots_m[0]) & (ps < course.shift.knots_m[-2])
        fast = passing.passing_speed(view, True) / LIMIT_SHARE
        allowed = np.where(hurry, min(fast, course.shift.top_mps / LIMIT_SHARE), allowed)
    speed_caps(allowed, path.curvature[window], bend, path.turning[window], caps)
    leaders, led = following.leader_constraints(view, shift)
    constraints = leaders + course.constraints
    travelled, speeds = np.empty(ROLL_STEPS + 1), np.empty(ROLL_STEPS + 1)
    _roll(speed, ego_s, ps, caps, constraints, travelled, speeds)
    rules = rule_constraints(
        memory.rules, path, scene.lights, front, 2 * half_length, speed, scene.time_us, elapsed_us, leaders,
        travelled,
    )  # fmt: skip
    constraints += rules
    _roll(speed, ego_s, ps, caps, constraints, travelled, speeds)
    patience = yielding.patience(memory.waiting_us)
    met = yielding.meeting_constraints(truth, view, shift, travelled, led, patience, ego_x, ego_y, margins)
    if scene.time_us < memory.lifted_until_us:
        met = [c for c in met if not c.waits or abs(float(actors.speed_mps[c.actor])) > STANDING_MPS]
    constraints += met
    binding = _roll(speed, ego_s, ps, caps, constraints, travelled, speeds)

    held = constraints[binding] if binding >= 0 else None
    waits = speed < STILL_MPS and held is not None and held.waits
    if waits and memory.waiting_us > LIFT_WAIT_US and scene.time_us > memory.lifted_until_us + LIFT_AGAIN_US:
        memory.lifted_until_us = scene.time_us + LIFTED_US
    memory.waiting_us = memory.waiting_us + elapsed_us if waits else (memory.waiting_us if speed < 1.0 else 0)
    _note_blocker(memory, held, actors, speed, elapsed_us, bool(rules))
    route_ego, waypoints_ego = _geometry(px, py, ps, shift, ego_s, ego_x, ego_y, ego.heading_rad, travelled)
    reason = _reason(view, course, held, speeds, caps, along, ego_x, ego_y, ego.heading_rad)
    return Plan(route_ego, waypoints_ego, reason=reason)


def _roll(
    speed: float,
    ego_s: float,
    ps: F64,
    caps: F64,
    constraints: list[Constraint],
    travelled: F64,
    speeds: F64,
) -> int:
    rows = np.array(
        [(c.gap_m, c.speed_mps, c.s0_m, c.headway_s, c.hardest_mps2) for c in constraints], np.float64
    ).reshape(-1, 5)
    if speed < STILL_MPS:
        # Who stands near enough stays: no creeping up after every stop.
        near = (rows[:, 1] < STANDING_MPS) & (rows[:, 0] > rows[:, 2]) & (rows[:, 0] < rows[:, 2] + STAY_M)
        rows[near, 2] = rows[near, 0]
    return int(roll_out(speed, ego_s, float(ps[0]), caps, rows, travelled, speeds))


def _note_blocker(
    memory: Memory, held: Constraint | None, actors: Actors, speed: float, elapsed_us: int, ruled: bool
) -> None:
    """Keep time of one and the same vehicle before which the ego stands, but not in the queue of a light."""
    rows = np.flatnonzero(actors.valid & (actors.id == memory.blocker))
    if len(rows) == 0 or abs(float(actors.speed_mps[rows[0]])) > STANDING_MPS:
        memory.blocked_us = 0
    if held is None or held.cause != Cause.LEADER or held.actor < 0 or speed > STILL_MPS or ruled:
        return
    actor = int(actors.id[held.actor])
    memory.blocked_us = memory.blocked_us + elapsed_us if actor == memory.blocker else 0
    memory.blocker = actor


@njit(cache=True)
def _geometry_kernel(
    px: F64, py: F64, ps: F64, shift: F64, ego_s: float, x: float, y: float, heading: float,
    travelled: F64, every: float, route: F64, waypoints: F64,
) -> None:  # fmt: skip
    c, s = math.cos(heading), math.sin(heading)
    for i in range(route.shape[0]):
        qx, qy = point_at(px, py, ps, shift, ego_s + i + 1.0)
        route[i, 0] = c * (qx - x) + s * (qy - y)
        route[i, 1] = -s * (qx - x) + c * (qy - y)
    qx, qy = point_at(px, py, ps, shift, ego_s)
    off_x, off_y = x - qx, y - qy
    for k in range(waypoints.shape[0]):
        at = (k + 1) * every
        i = int(at)
        part = at - i
        d = travelled[i] + part * (travelled[i + 1] - travelled[i])
        qx, qy = point_at(px, py, ps, shift, ego_s + d)
        keep = max(0.0, 1.0 - d / FADE_M)
        qx += keep * off_x
        qy += keep * off_y
        waypoints[k, 0] = c * (qx - x) + s * (qy - y)
        waypoints[k, 1] = -s * (qx - x) + c * (qy - y)


def _geometry(
    px: F64, py: F64, ps: F64, shift: F64, ego_s: float, x: float, y: float, heading: float, travelled: F64
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    route, waypoints = np.empty((ROUTE_POINTS, 2)), np.empty((SPEED_WAYPOINTS, 2))
    every = WAYPOINT_PERIOD_US * 1e-6 / ROLL_STEP_S
    _geometry_kernel(px, py, ps, shift, ego_s, x, y, heading, travelled, every, route, waypoints)
    return route.astype(np.float32), waypoints.astype(np.float32)


def _action(speed: float, speeds: F64) -> Action:
    soon, later = float(speeds[10]), float(speeds[20])
    if speed < STILL_MPS and soon < 0.5:
        return Action.REMAIN_STOPPED
    if later < 0.5 and speed >= STILL_MPS:
        return Action.STOP
    if soon < speed - 0.5:
        return Action.DECELERATE
    if soon > speed + 0.5:
        return Action.ACCELERATE
    return Action.MAINTAIN


def _reason(
    view: passing.View,
    course: manoeuvres.Course,
    held: Constraint | None,
    speeds: F64,
    caps: F64,
    along: float,
    x: float,
    y: float,
    heading: float,
) -> Reason:
    """Name what binds."""
    speed = view.speed
    action = _action(speed, speeds)
    target = float(speeds[25])
    manoeuvre = manoeuvres.current_manoeuvre(course, view)
    if held is None:
        aside = manoeuvres.current_cause(course, view, manoeuvre)
        if aside is not None:
            cause, actor = aside
            return _with_actor(Reason(action, manoeuvre, cause, target), view, actor, x, y, heading)
        i = min(int(view.ego_s - view.path.s[view.window.start]) + 3, len(caps) - 1)
        slower = float(caps[i : i + 25].min()) < 0.75 * view.target
        cause = Cause.JUNCTION if slower else Cause.FREE_ROAD
        return Reason(action, manoeuvre, cause, target)
    if held.cause in (Cause.YIELD, Cause.ONCOMING) and manoeuvre == Manoeuvre.FOLLOW_ROUTE and held.waits:
        manoeuvre = Manoeuvre.GIVE_WAY
    distance = held.gap_m if math.isnan(held.distance_m) else held.distance_m
    closing = speed - held.speed_mps
    ttc = held.gap_m / closing if closing > 0.1 else math.inf
    reason = Reason(action, manoeuvre, held.cause, target, distance, time_to_collision_s=ttc)
    return reason if held.actor < 0 else _with_actor(reason, view, held.actor, x, y, heading)


def _with_actor(reason: Reason, view: passing.View, row: int, x: float, y: float, heading: float) -> Reason:
    actors = view.actors
    dx = float(actors.position_world[row, 0]) - x
    dy = float(actors.position_world[row, 1]) - y
    c, s = math.cos(heading), math.sin(heading)
    gap = abs(float(view.survey[row, S]) - view.ego_s) - float(view.survey[row, HALF_S]) - view.half_length
    return replace(
        reason,
        distance_m=reason.distance_m if math.isfinite(reason.distance_m) else max(gap, 0.0),
        actor_id=int(actors.id[row]),
        actor_kind=int(actors.kind[row]),
        actor_position_ego=(c * dx + s * dy, -s * dx + c * dy),
        actor_speed_mps=float(actors.speed_mps[row]),
    )
