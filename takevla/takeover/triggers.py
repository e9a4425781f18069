"""Triggers: when, and because of what, the expert must take over.

`watch` looks at one instant of one world, given the plans of the policy that drives (or would) and
of the expert in shadow, and remembers from instant to instant only the times in `Watch`:

- COLLISION: under the policy's plan the ego overlaps an actor within the forecast, and under the
  expert's plan it does not, or only much slower.
- RULE: under the policy's plan the ego's front crosses, within the forecast, a red light's stop line
  or a line that the expert means to stop at, and under the expert's plan it does not.
- FOLLOW: the headway to the leader is below the least while the ego closes on it and would go on
  faster than the expert; or the steering that both plans ask for differs for a while and leads the ego
  off the expert's path; or the ego is too far beside that path.
- RESTART: the ego stands though the expert would go.

The defaults are this project's own: the paper's are not public.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Final

import numpy as np

from takevla.scene.actors import ActorKind, Cue
from takevla.scene.geometry import project_on_polyline
from takevla.scene.plan import WAYPOINT_PERIOD_US, Action, Cause, Manoeuvre, Plan, Privileged, Reason
from takevla.scene.road_map import Control, LightState
from takevla.scene.scene import Scene
from takevla.takeover.forecast import F64, actors_ego, first_contact, plan_forecast

LINE_AHEAD_M: Final = 40.0  # stop lines farther along the route are out of reach of a forecast
ALIGNED_RAD: Final = math.radians(35.0)  # heading error of a leader (PDM-Lite's bound, benchmark facts 3)
ONCOMING_RAD: Final = math.radians(135.0)  # heading error above which a vehicle comes towards the ego
HEADWAY: Final = "headway"  # the detail of FOLLOW that is about a leader and not about the course
LATERAL, STEER = "lateral", "steer"  # those about the course
RULE_CAUSES: Final = (Cause.RED_LIGHT, Cause.YELLOW_LIGHT, Cause.STOP_SIGN)
# Thresholds that mean something below 0, too.
SIGNED: Final = (
    "line_margin_m",
    "closing_mps",
    "faster_than_expert_mps",
    "agree_speed_mps",
)  # may be negative
LEAST_FORECAST_S, MOST_FORECAST_S = 0.1, 10.0  # of a plan of 2.5 s
_STOPPING: Final = (Action.REMAIN_STOPPED, Action.STOP, Action.DECELERATE)


class Trigger(IntEnum):
    """Why the expert takes over."""

    FOLLOW = 0  # closes on the leader beyond a safe gap, or leaves the course
    COLLISION = 1  # overlap predicted within the forecast
    RESTART = 2  # stands though the expert would go
    RULE = 3  # is about to cross a stop line that it must stop at


TRIGGERS: Final = tuple(one.name.lower() for one in Trigger)  # as datasets and recipes name them


def checked_triggers(names: Sequence[str], where: str) -> None:
    """Refuse names of triggers that there are not.

    Raises:
        ValueError: names the setting `where` and the triggers there are.
    """
    unknown = sorted(set(names) - set(TRIGGERS))
    if unknown or not names:
        raise ValueError(f"{where}: {unknown or 'empty'}; choose among {', '.join(TRIGGERS)}")


@dataclass(frozen=True)
class TriggerConfig:
    """Thresholds of all triggers."""

    forecast_s: float = 2.0  # horizon of the collision and stop-line forecasts
    slower_contact_mps: float = 2.0  # the expert's contact counts as better when it is this much slower
    line_margin_m: float = 0.5  # beyond the stop line before it counts as crossed
    line_speed_mps: float = 1.0  # slower than this at the line the ego is about to stop
    steer_difference: float = 0.2  # of full lock
    steer_for_s: float = 0.3
    steer_speed_mps: float = 1.0  # below this speed steering does not matter yet
    steer_apart_m: float = 1.0  # beside the expert's path at the forecast's end; less corrects itself
    lateral_error_m: float = 1.0
    headway_s: float = 0.8
    closing_mps: float = 1.0  # faster than the leader by this much is closing
    faster_than_expert_mps: float = 0.5  # planned speed after one second above the expert's
    follow_speed_mps: float = 2.0  # below this speed headways say nothing
    standing_mps: float = 0.1
    standing_s: float = 4.0
    expert_goes_mps: float = 1.0  # the expert's planned speed that means "go"
    expert_goes_s: float = 2.0
    agree_speed_mps: float = 2.0  # planned speeds after one second that differ less agree
    until_past: bool = True  # no agreement while the expert deals with what must be passed or waited for

    def __post_init__(self) -> None:
        least, most = LEAST_FORECAST_S, MOST_FORECAST_S
        if not least <= self.forecast_s <= most:
            raise ValueError(f"takeover.triggers.forecast_s: {self.forecast_s}; give {least} to {most} s")
        for one in fields(self):
            value = getattr(self, one.name)
            if not value >= (-math.inf if one.name in SIGNED else 0.0):
                what = "no number" if one.name in SIGNED else "not 0 or more"
                raise ValueError(f"takeover.triggers.{one.name}: {value} is {what}")


# Causes of the expert's speed that leave no decision open.
GO_ON: Final = frozenset({Cause.FREE_ROAD, Cause.LEADER, Cause.RED_LIGHT, Cause.YELLOW_LIGHT, Cause.JUNCTION})


@dataclass(frozen=True, slots=True)
class Alarm:
    """A trigger that fired, with what it saw."""

    trigger: Trigger
    detail: str  # "overlap", "line", "headway", "steer", "lateral" or "standing"
    measure: float  # s until contact or crossing, headway s, standing s, m beside the path, steer difference
    cause: Cause
    actor_id: int = -1
    actor_kind: int = -1


@dataclass(frozen=True, slots=True)
class Watch:
    """Since when conditions hold; -1 where they do not."""

    steer_since_us: int = -1
    standing_since_us: int = -1
    expert_goes_since_us: int = -1


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `watch` says about an instant."""

    alarm: Alarm | None
    agreement: bool  # policy and expert want the same, so that a hand-back is smooth


@dataclass(frozen=True)
class Sight:
    """One instant: the truth and both plans, with their forecasts."""

    truth: Privileged
    policy: Plan
    expert: Plan
    reason: Reason
    policy_forecast: F64
    expert_forecast: F64

    @property
    def scene(self) -> Scene:
        """The scene of the instant."""
        return self.truth.scene


def look(truth: Privileged, policy: Plan, expert: Plan, config: TriggerConfig) -> Sight:
    """Forecast both plans.  `expert` must have a reason."""
    if expert.reason is None:
        raise ValueError("triggers need a plan with a reason; the shadow driver must be an expert")
    speed = truth.scene.ego.speed_mps
    return Sight(
        truth,
        policy,
        expert,
        expert.reason,
        plan_forecast(policy, speed, config.forecast_s),
        plan_forecast(expert, speed, config.forecast_s),
    )


def watch(before: Watch, sight: Sight, config: TriggerConfig) -> tuple[Watch, Verdict]:
    """Judge one instant.  The most dangerous alarm wins: COLLISION, RULE, FOLLOW, RESTART."""
    now, ego = sight.scene.time_us, sight.scene.ego
    steer = steer_difference(sight)
    planned_policy, planned_expert = planned_speed_mps(sight.policy), planned_speed_mps(sight.expert)
    goes = final_speed_mps(sight.expert) > config.expert_goes_mps
    turning = (
        steer > config.steer_difference
        and ego.speed_mps > config.steer_speed_mps
        and forecast_apart_m(sight) > config.steer_apart_m
    )
    after = Watch(
        _since(before.steer_since_us, turning, now),
        _since(before.standing_since_us, ego.speed_mps < config.standing_mps, now),
        _since(before.expert_goes_since_us, goes, now),
    )
    alarm = collision(sight, config) or rule(sight, config) or headway(sight, config)
    if alarm is None:
        alarm = _off_course(sight, after, steer, config) or _standing(sight, after, config)
    agreement = (
        alarm is None
        and not turning
        and abs(planned_policy - planned_expert) <= config.agree_speed_mps
        and not (config.until_past and is_busy(sight.reason))
    )
    return after, Verdict(alarm, agreement)


def is_busy(reason: Reason) -> bool:
    """Whether the expert deals with something that will not go on by itself.

    Two that both wait behind an obstacle agree, but the danger is not past: what matters comes then.
    """
    return reason.manoeuvre != Manoeuvre.FOLLOW_ROUTE or reason.cause not in GO_ON


def collision(sight: Sight, config: TriggerConfig) -> Alarm | None:
    """COLLISION, detail "overlap"."""
    contact = first_contact(sight.policy_forecast, sight.scene)
    if contact is None:
        return None
    better = first_contact(sight.expert_forecast, sight.scene)
    if better is not None and better.speed_mps > contact.speed_mps - config.slower_contact_mps:
        return None
    actors = sight.scene.actors
    kind = int(actors.kind[contact.actor])
    cause = actor_cause(sight.scene, contact.actor)
    return Alarm(Trigger.COLLISION, "overlap", contact.time_s, cause, int(actors.id[contact.actor]), kind)


def rule(sight: Sight, config: TriggerConfig) -> Alarm | None:
    """RULE, detail "line"."""
    cause, distance = Cause.RED_LIGHT, red_line_distance_m(sight.truth)
    reason = sight.reason
    if reason.cause in RULE_CAUSES and reason.action in _STOPPING and reason.distance_m < distance:
        cause, distance = reason.cause, reason.distance_m
    if not 0.0 <= distance < LINE_AHEAD_M:
        return None
    crossing = _crossing_s(sight.policy_forecast, distance, config)
    if crossing is None or _crossing_s(sight.expert_forecast, distance, config) is not None:
        return None
    return Alarm(Trigger.RULE, "line", crossing, cause)


def headway(sight: Sight, config: TriggerConfig) -> Alarm | None:
    """FOLLOW, detail "headway"."""
    ego = sight.scene.ego
    if ego.speed_mps < config.follow_speed_mps:
        return None
    if planned_speed_mps(sight.policy) < planned_speed_mps(sight.expert) + config.faster_than_expert_mps:
        return None
    found = leader(sight.scene, sight.policy)
    if found is None:
        return None
    row, gap = found
    actors = sight.scene.actors
    time_s = gap / ego.speed_mps
    if time_s >= config.headway_s or ego.speed_mps - float(actors.speed_mps[row]) < config.closing_mps:
        return None
    return Alarm(Trigger.FOLLOW, HEADWAY, time_s, Cause.LEADER, int(actors.id[row]), int(actors.kind[row]))


def _off_course(sight: Sight, since: Watch, steer: float, config: TriggerConfig) -> Alarm | None:
    reason = sight.reason
    lateral = lateral_error_m(sight)
    if lateral > config.lateral_error_m and sight.scene.ego.speed_mps > config.standing_mps:
        return Alarm(Trigger.FOLLOW, LATERAL, lateral, reason.cause, reason.actor_id, reason.actor_kind)
    if _lasted(since.steer_since_us, sight.scene.time_us, config.steer_for_s):
        return Alarm(Trigger.FOLLOW, STEER, steer, reason.cause, reason.actor_id, reason.actor_kind)
    return None


def _standing(sight: Sight, since: Watch, config: TriggerConfig) -> Alarm | None:
    now, reason = sight.scene.time_us, sight.reason
    if not _lasted(since.standing_since_us, now, config.standing_s):
        return None
    if not _lasted(since.expert_goes_since_us, now, config.expert_goes_s):
        return None
    stood_s = (now - since.standing_since_us) / 1e6
    return Alarm(Trigger.RESTART, "standing", stood_s, reason.cause, reason.actor_id, reason.actor_kind)


def steer_difference(sight: Sight) -> float:
    """Difference of the first steering commands of both plans, share of full lock."""
    return abs(float(sight.policy_forecast[0, 4]) - float(sight.expert_forecast[0, 4]))


def forecast_apart_m(sight: Sight) -> float:
    """How much farther beside the expert's path the policy's plan leads than the expert's own."""
    path = np.concatenate([np.zeros((1, 2)), np.asarray(sight.expert.route_ego, np.float64)])
    policy, expert = (
        abs(float(project_on_polyline(path, one[-1, 0], one[-1, 1])[1]))
        for one in (sight.policy_forecast, sight.expert_forecast)
    )
    return policy - expert


def lateral_error_m(sight: Sight) -> float:
    """Distance of the ego from the expert's path, prolonged backwards."""
    ahead = np.asarray(sight.expert.route_ego, np.float64)
    step = ahead[1] - ahead[0]
    length = math.hypot(step[0], step[1])
    if length < 1e-6:
        return 0.0
    side = ahead[0, 1] * step[0] - ahead[0, 0] * step[1]
    return abs(side) / length


def planned_speed_mps(plan: Plan) -> float:
    """Planned speed after one second."""
    step = plan.waypoints_ego[4] - plan.waypoints_ego[2]
    return math.hypot(float(step[0]), float(step[1])) / (2 * WAYPOINT_PERIOD_US / 1e6)


def final_speed_mps(plan: Plan) -> float:
    """Planned speed at the end of the waypoints."""
    step = plan.waypoints_ego[-1] - plan.waypoints_ego[-3]
    return math.hypot(float(step[0]), float(step[1])) / (2 * WAYPOINT_PERIOD_US / 1e6)


def leader(scene: Scene, plan: Plan) -> tuple[int, float] | None:
    """The nearest vehicle ahead on the plan's route that drives the same way: (row, gap m)."""
    others, rows = actors_ego(scene)
    path = np.concatenate([np.zeros((1, 2)), np.asarray(plan.route_ego, np.float64)])
    half_length, half_width = 0.5 * float(scene.ego.extent_m[0]), 0.5 * float(scene.ego.extent_m[1])
    best: tuple[int, float] | None = None
    for other, row in zip(others, rows, strict=True):
        if scene.actors.kind[row] > ActorKind.BICYCLE or abs(other[2]) > ALIGNED_RAD or other[0] < 0.0:
            continue
        s, lateral = project_on_polyline(path, other[0], other[1])[:2]
        gap = max(0.0, float(s) - half_length - 0.5 * other[6])
        if abs(lateral) < half_width + 0.5 * other[7] and (best is None or gap < best[1]):
            best = int(row), gap
    return best


def actor_cause(scene: Scene, row: int) -> Cause:
    """Which cause an actor in the way is, seen from the ego."""
    actors = scene.actors
    kind, cue = int(actors.kind[row]), int(actors.cue[row])
    if kind == ActorKind.PEDESTRIAN:
        return Cause.PEDESTRIAN
    if kind == ActorKind.BICYCLE:
        return Cause.BICYCLE
    if kind > ActorKind.PEDESTRIAN or cue & (Cue.PARKED | Cue.HAZARD):
        return Cause.OBSTACLE
    error = abs(float(actors.heading_rad[row]) - scene.ego.heading_rad) % (2.0 * math.pi)
    error = min(error, 2.0 * math.pi - error)
    if error < ALIGNED_RAD:
        return Cause.LEADER
    return Cause.ONCOMING if error > ONCOMING_RAD else Cause.CROSSING_VEHICLE


def red_line_distance_m(truth: Privileged) -> float:
    """Distance along the route from the ego's front to the next stop line at red, inf if none is near."""
    route, arrays, ego = truth.route, truth.road_map.arrays, truth.scene.ego
    start = truth.route_index
    end = int(np.searchsorted(route.s_m, route.s_m[start] + LINE_AHEAD_M))
    lanes = route.lane[start:end]
    lanes = lanes[lanes >= 0]
    ruled = lanes[arrays.lane_stop_control[lanes] == Control.SIGNAL]
    position = np.asarray(ego.position_world[:2], np.float64)
    least = math.inf
    for lane in np.unique(ruled):
        if truth.scene.lights[arrays.lane_stop_signal[lane]] != LightState.RED:
            continue
        points = slice(arrays.lane_start[lane], arrays.lane_start[lane + 1])
        line_x = np.interp(arrays.lane_stop_s[lane], arrays.point_s[points], arrays.point_x[points])
        line_y = np.interp(arrays.lane_stop_s[lane], arrays.point_s[points], arrays.point_y[points])
        near = route.points_world[start:end, :2].astype(np.float64)
        nearest = start + int(np.argmin(np.hypot(near[:, 0] - line_x, near[:, 1] - line_y)))
        line_s = _route_s(truth, nearest, np.array([line_x, line_y]))
        distance = line_s - _route_s(truth, start, position) - 0.5 * float(ego.extent_m[0])
        if 0.0 <= distance < least:
            least = distance
    return least


def _route_s(truth: Privileged, index: int, point: F64) -> float:
    """Arc length of a point beside route point `index`."""
    route = truth.route
    heading = float(route.heading_rad[index])
    offset = point - route.points_world[index, :2]
    return float(route.s_m[index]) + float(offset[0] * math.cos(heading) + offset[1] * math.sin(heading))


def _crossing_s(forecast: F64, distance_m: float, config: TriggerConfig) -> float | None:
    """When a forecast's travelled distance exceeds a line's by the margin, still rolling; None if never."""
    steps = np.hypot(np.diff(forecast[:, 0], prepend=0.0), np.diff(forecast[:, 1], prepend=0.0))
    beyond = np.cumsum(steps) > distance_m + config.line_margin_m
    over = np.flatnonzero(beyond & (forecast[:, 3] > config.line_speed_mps))
    return None if len(over) == 0 else float(over[0] + 1) * config.forecast_s / len(forecast)


def _since(before_us: int, holds: bool, now_us: int) -> int:
    if not holds:
        return -1
    return before_us if before_us >= 0 else now_us


def _lasted(since_us: int, now_us: int, seconds: float) -> bool:
    return since_us >= 0 and now_us - since_us >= seconds * 1e6
