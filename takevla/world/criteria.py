"""What counts against the ego: every event of the CARLA leaderboard as Bench2Drive scores it.

Definitions follow scenario_runner's criteria (benchmark facts 1.4).  The kernels run in every tick
on the world state; memory rests in `state.marks`, results in `state.events` and `state.checkpoints`.
"""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np
from numba import njit

from takevla.scene.actors import ActorKind, Role
from takevla.scene.geometry import segments_cross
from takevla.scene.lane_query import DRIVING_ONLY, DRIVING_OR_PARKING, lane_pose, nearest_lane
from takevla.scene.road_map import Control, LightState, RoadArrays
from takevla.scene.ttc import CAP_S, pair_ttc
from takevla.world.dynamics import TICK_S
from takevla.world.progress import RouteArrays, distance_to_route, follow_route
from takevla.world.state import (
    EGO,
    LATERAL_ACCELERATION,
    ON_STAGE,
    OUTCOME,
    ROUTE_INDEX,
    SAMPLE_ACCELERATION,
    SAMPLE_HEADING,
    SAMPLE_LATERAL_ACCELERATION,
    SAMPLE_SPEED,
    SAMPLE_TTC,
    SAMPLE_X,
    SAMPLE_Y,
    SAMPLE_YAW_RATE,
    SAMPLE_Z,
    TICK,
    WorldState,
    note_event,
)


class Event(IntEnum):
    """Codes in `WorldState.events`; the detail column is named behind each."""

    COLLISION_LAYOUT = 0  # kind * KIND_FACTOR + actor id
    COLLISION_PEDESTRIAN = 1
    COLLISION_VEHICLE = 2
    RED_LIGHT = 3  # signal
    STOP_SIGN = 4  # stop line
    ROUTE_DEVIATION = 5  # distance from the route, m
    BLOCKED = 6
    ROUTE_TIMEOUT = 7
    TICK_LIMIT = 8
    SCENARIO_TIMEOUT = 9  # number of the scenario
    YIELD = 10  # number of the scenario


class Outcome(IntEnum):
    """Why a route ended; RUNNING while it has not."""

    RUNNING = 0
    COMPLETED = 1
    DEVIATED = 2
    BLOCKED = 3
    TIMED_OUT = 4
    TICK_LIMIT = 5


COLLISION_LAYOUT, COLLISION_PEDESTRIAN, COLLISION_VEHICLE = 0, 1, 2
RED_LIGHT, STOP_SIGN, ROUTE_DEVIATION, BLOCKED = 3, 4, 5, 6
ROUTE_TIMEOUT, TICK_LIMIT = 7, 8

# columns of `marks`
HIT_X, HIT_Y, HAS_HIT, RED_SIGNAL, STOP_LINE, STOP_DONE = range(6)
OUTSIDE_M, DRIVEN_M, WRONG_LANE, LAST_LANE, LAST_HEADING, LAST_IN_JUNCTION = range(6, 12)
AWAY_M, BLOCKED_TICKS, TIMEOUT_S, LAST_X, LAST_Y, TRAFFIC_SPEED = range(12, 18)
REST_X, REST_Y = 18, 19

KIND_FACTOR = 10_000_000  # packs kind and id into the detail of a collision
WALL = 99  # kind of a building in the detail of a collision; its id is its number on the map

# benchmark facts 1.4
SAME_ACTOR_TICKS = 100  # 5 s
SAME_PLACE_M = 5.0
AT_REST_MPS = 0.1
AT_REST_M = 0.25  # an ego that jerks to and fro within this does not get on
LIGHT_NEAR_M = 15.0
LINE_SHARE = 0.6  # half of 1.2 lane widths
TAIL_SHARE = 0.8
TAIL_BEHIND_M = 1.0
STOP_VOLUME_HALF_M = 1.2  # half depth of the trigger volume: extent 1 m x 1.2
STOP_LOOK_M = 4.0
STOP_STEP_M = 0.5
OUTSIDE_M_ALLOWED = 0.5
LANE_SEARCH_M = 15.0
WRONG_HEADING_RAD = math.radians(120.0)
WRONG_JUMP_RAD = math.radians(150.0)
COMPLETE_SHARE = 0.99
COMPLETE_M = 10.0
DEVIATION_M = 30.0
AWAY_LIMIT_M = 15.0
AWAY_SHARE = 0.3
BLOCKED_AFTER_TICKS = 1200  # 60 s
TIMEOUT_BASE_S = 300.0
TIMEOUT_SPEED_SHARE = 0.1
CHECKPOINTS = 20
LAST_CHECKPOINT_SHARE = 0.95

PEDESTRIAN, BICYCLE, CONE = int(ActorKind.PEDESTRIAN), int(ActorKind.BICYCLE), int(ActorKind.CONE)
BACKGROUND = int(Role.BACKGROUND)
SIGNAL_CONTROL, STOP_CONTROL = int(Control.SIGNAL), int(Control.STOP_SIGN)
RED = int(LightState.RED)
RUNNING, COMPLETED, DEVIATED = int(Outcome.RUNNING), int(Outcome.COMPLETED), int(Outcome.DEVIATED)
BLOCKED_OUT, TIMED_OUT, LIMIT_OUT = int(Outcome.BLOCKED), int(Outcome.TIMED_OUT), int(Outcome.TICK_LIMIT)


def start_marks(state: WorldState) -> None:
    """Set the memory of the criteria for a route that begins now, the ego being in its place."""
    state.marks[:] = 0.0
    state.marks[RED_SIGNAL] = -1.0
    state.marks[STOP_LINE] = -1.0
    state.marks[LAST_LANE] = -1.0
    state.marks[TIMEOUT_S] = TIMEOUT_BASE_S
    state.marks[LAST_X] = state.actors["x"][EGO]
    state.marks[LAST_Y] = state.actors["y"][EGO]
    state.marks[REST_X], state.marks[REST_Y] = state.marks[LAST_X], state.marks[LAST_Y]


@njit(cache=True)
def hit(state: WorldState, j: int) -> None:
    """The ego, not at rest, touches actor j: count it unless it belongs to a collision already counted."""
    tick = state.clock[TICK]
    last = state.actors[j].hit_tick
    again = last >= 0 and tick - last <= SAME_ACTOR_TICKS
    if again:
        return
    state.actors[j].hit_tick = tick
    code = COLLISION_VEHICLE
    if state.actors[j].kind == PEDESTRIAN:
        code = COLLISION_PEDESTRIAN
    elif state.actors[j].kind >= CONE:
        code = COLLISION_LAYOUT
    count_collision(state, code, state.actors[j].kind * KIND_FACTOR + state.actors[j].id)


@njit(cache=True)
def count_collision(state: WorldState, code: int, detail: float) -> None:
    """Note a collision here, unless the last counted one was at the same place."""
    x, y = state.actors[EGO].x, state.actors[EGO].y
    marks = state.marks
    if marks[HAS_HIT] > 0.0 and math.hypot(x - marks[HIT_X], y - marks[HIT_Y]) <= SAME_PLACE_M:
        return
    marks[HAS_HIT] = 1.0
    marks[HIT_X] = x
    marks[HIT_Y] = y
    note_event(state, code, x, y, state.actors[EGO].z, detail)


@njit(cache=True)
def check_red_lights(state: WorldState, route: RouteArrays) -> None:
    """The tail crosses a stop line whose light is red."""
    x, y = state.actors[EGO].x, state.actors[EGO].y
    cos, sin = math.cos(state.actors[EGO].heading), math.sin(state.actors[EGO].heading)
    half = 0.5 * state.actors[EGO].length
    near = TAIL_SHARE * half
    far = half + TAIL_BEHIND_M
    for k in range(route.line.shape[0]):
        if route.line_control[k] != SIGNAL_CONTROL:
            continue
        lx, ly, heading, width = route.line[k]
        if (lx - x) ** 2 + (ly - y) ** 2 > LIGHT_NEAR_M**2:
            continue
        signal = route.line_signal[k]
        if signal < 0 or state.light[signal] != RED or state.marks[RED_SIGNAL] == signal:
            continue
        if cos * math.cos(heading) + sin * math.sin(heading) <= 0.0:
            continue
        wx, wy = -math.sin(heading) * LINE_SHARE * width, math.cos(heading) * LINE_SHARE * width
        if segments_cross(
            x - near * cos, y - near * sin, x - far * cos, y - far * sin,
            lx + wx, ly + wy, lx - wx, ly - wy,
        ):  # fmt: skip
            state.marks[RED_SIGNAL] = signal
            note_event(state, RED_LIGHT, x, y, state.actors[EGO].z, signal)


@njit(cache=True)
def is_before_stop_line(state: WorldState, route: RouteArrays, k: int) -> bool:
    """Whether the ego's centre, or a point up to 4 m ahead of it, lies in the stop line's volume."""
    x, y = state.actors[EGO].x, state.actors[EGO].y
    cos, sin = math.cos(state.actors[EGO].heading), math.sin(state.actors[EGO].heading)
    lx, ly, heading, width = route.line[k]
    cl, sl = math.cos(heading), math.sin(heading)
    if (lx - x) ** 2 + (ly - y) ** 2 > (STOP_LOOK_M + STOP_VOLUME_HALF_M + 2.0) ** 2:
        return False
    if cos * cl + sin * sl <= 0.0:
        return False
    for n in range(int(STOP_LOOK_M / STOP_STEP_M) + 1):
        dx = x + n * STOP_STEP_M * cos - lx
        dy = y + n * STOP_STEP_M * sin - ly
        if abs(dx * cl + dy * sl) <= STOP_VOLUME_HALF_M and abs(dy * cl - dx * sl) <= 0.5 * width:
            return True
    return False


@njit(cache=True)
def check_stop_signs(state: WorldState, route: RouteArrays) -> None:
    """A stop line entered must see the ego at rest before it is left."""
    marks = state.marks
    if marks[STOP_LINE] < 0.0:
        for k in range(route.line.shape[0]):
            if route.line_control[k] == STOP_CONTROL and is_before_stop_line(state, route, k):
                marks[STOP_LINE] = k
                marks[STOP_DONE] = 0.0
                break
    if marks[STOP_LINE] < 0.0:
        return
    if state.actors[EGO].speed < AT_REST_MPS:
        marks[STOP_DONE] = 1.0
    line = int(marks[STOP_LINE])
    if not is_before_stop_line(state, route, line):
        if marks[STOP_DONE] == 0.0:
            note_event(state, STOP_SIGN, state.actors[EGO].x, state.actors[EGO].y, state.actors[EGO].z, line)
        marks[STOP_LINE] = -1.0


@njit(cache=True)
def is_outside(state: WorldState, roads: RoadArrays, opposite_allowed: bool) -> bool:
    """Whether the ego's centre is off the driving and parking lanes, or drives against a lane."""
    x, y, heading = state.actors[EGO].x, state.actors[EGO].y, state.actors[EGO].heading
    marks = state.marks
    lane, s, lateral = nearest_lane(roads, x, y, heading, LANE_SEARCH_M, False, DRIVING_OR_PARKING)
    if lane < 0:
        return True
    _, _, _, _, width = lane_pose(roads, lane, s)
    if abs(lateral) > 0.5 * width + OUTSIDE_M_ALLOWED:
        return True
    if opposite_allowed:
        marks[WRONG_LANE] = 0.0
        marks[LAST_LANE] = -1.0
        return False
    lane, s, _ = nearest_lane(roads, x, y, heading, LANE_SEARCH_M, False, DRIVING_ONLY)
    if lane < 0:
        return False
    _, _, _, tangent, _ = lane_pose(roads, lane, s)
    if roads.lane_junction[lane] >= 0:
        marks[WRONG_LANE] = 0.0
    elif lane != int(marks[LAST_LANE]):
        if marks[LAST_LANE] < 0.0 or marks[LAST_IN_JUNCTION] > 0.0:
            off = abs((heading - tangent + math.pi) % (2.0 * math.pi) - math.pi)
            marks[WRONG_LANE] = 1.0 if off > WRONG_HEADING_RAD else 0.0
        else:
            jump = abs((marks[LAST_HEADING] - tangent + math.pi) % (2.0 * math.pi) - math.pi)
            if jump > WRONG_JUMP_RAD:
                marks[WRONG_LANE] = 1.0 - marks[WRONG_LANE]
    marks[LAST_LANE] = lane
    marks[LAST_HEADING] = tangent
    marks[LAST_IN_JUNCTION] = 1.0 if roads.lane_junction[lane] >= 0 else 0.0
    return marks[WRONG_LANE] > 0.0


@njit(cache=True)
def traffic_speed(state: WorldState) -> float:
    """Mean speed of the background vehicles in motion's way (no parked ones); -1 if there are none."""
    total = 0.0
    count = 0
    for j in range(1, state.actors.shape[0]):
        if (
            state.actors[j].stage == ON_STAGE
            and state.actors[j].role == BACKGROUND
            and state.actors[j].kind < BICYCLE
        ):
            if state.actors[j].motion == 0:
                continue
            total += state.actors[j].speed
            count += 1
    return total / count if count > 0 else -1.0


@njit(cache=True)
def least_ttc(state: WorldState) -> float:
    """Least swept-box time-to-collision of the ego with any actor; inf when there is none."""
    best = np.inf
    for j in range(1, state.actors.shape[0]):
        if (
            state.actors[j].stage != ON_STAGE
            or abs(state.actors[j].z - state.actors[EGO].z) > 3.0
            or state.actors[j].leave_tick > 0
        ):
            continue
        best = min(
            best,
            pair_ttc(
                state.actors[EGO].x, state.actors[EGO].y, state.actors[EGO].heading, state.actors[EGO].speed,
                state.actors[EGO].length, state.actors[EGO].width,
                state.actors[j].x, state.actors[j].y, state.actors[j].heading, state.actors[j].speed,
                state.actors[j].length, state.actors[j].width, CAP_S,
            ),
        )  # fmt: skip
    return best


@njit(cache=True)
def write_sample(state: WorldState) -> None:
    """Keep the ego's kinematics and TTC of this tick; the row of a tick is its number less one."""
    row = state.samples[state.clock[TICK] - 1]
    row[SAMPLE_X] = state.actors[EGO].x
    row[SAMPLE_Y] = state.actors[EGO].y
    row[SAMPLE_Z] = state.actors[EGO].z
    row[SAMPLE_HEADING] = state.actors[EGO].heading
    row[SAMPLE_SPEED] = state.actors[EGO].speed
    row[SAMPLE_ACCELERATION] = state.actors[EGO].acceleration
    row[SAMPLE_LATERAL_ACCELERATION] = state.ego[LATERAL_ACCELERATION]
    row[SAMPLE_YAW_RATE] = state.actors[EGO].yaw_rate
    row[SAMPLE_TTC] = least_ttc(state)


@njit(cache=True)
def judge(
    state: WorldState,
    roads: RoadArrays,
    route: RouteArrays,
    opposite_allowed: bool,
    blocked_counts: bool,
    tick_limit: int,
) -> None:
    """All criteria after a tick.  Sets `clock[OUTCOME]` when the route has ended."""
    marks = state.marks
    x, y = state.actors[EGO].x, state.actors[EGO].y
    before = state.clock[ROUTE_INDEX]
    advanced = follow_route(state, route)
    at = state.clock[ROUTE_INDEX]
    length = route.s[-1]
    check_red_lights(state, route)
    check_stop_signs(state, route)
    outside = is_outside(state, roads, opposite_allowed)
    if advanced > 0.0:
        marks[DRIVEN_M] += advanced
        marks[TIMEOUT_S] += advanced / (TIMEOUT_SPEED_SHARE * max(route.limit[at], 1.0))
        if outside:
            marks[OUTSIDE_M] += advanced
    # Efficiency: speeds of this tick belong to the stretch that it began in.
    stretch = min(int(route.s[before] / length * CHECKPOINTS), CHECKPOINTS - 1)
    around = traffic_speed(state)
    state.checkpoints[stretch, 0] += state.actors[EGO].speed
    state.checkpoints[stretch, 1] += max(around, 0.0)
    state.checkpoints[stretch, 2] += 1.0
    away = distance_to_route(state, route)
    moved = math.hypot(x - marks[LAST_X], y - marks[LAST_Y])
    if away > AWAY_LIMIT_M:
        marks[AWAY_M] += moved
    marks[LAST_X] = x
    marks[LAST_Y] = y
    # By the way made, not by the speed: an ego that pushes against an obstacle does not get on.
    still = moved < AT_REST_MPS * TICK_S or math.hypot(x - marks[REST_X], y - marks[REST_Y]) < AT_REST_M
    if still and blocked_counts:
        marks[BLOCKED_TICKS] += 1.0
    else:
        marks[BLOCKED_TICKS] = 0.0
        marks[REST_X] = x
        marks[REST_Y] = y
    write_sample(state)
    tick = state.clock[TICK]
    remaining = math.hypot(x - route.x[-1], y - route.y[-1])
    if route.s[at] > COMPLETE_SHARE * length and remaining < COMPLETE_M:
        state.clock[OUTCOME] = COMPLETED
    elif away > DEVIATION_M or marks[AWAY_M] > AWAY_SHARE * length:
        note_event(state, ROUTE_DEVIATION, x, y, state.actors[EGO].z, away)
        state.clock[OUTCOME] = DEVIATED
    elif marks[BLOCKED_TICKS] > BLOCKED_AFTER_TICKS:
        note_event(state, BLOCKED, x, y, state.actors[EGO].z, 0.0)
        state.clock[OUTCOME] = BLOCKED_OUT
    elif tick * TICK_S > marks[TIMEOUT_S]:
        note_event(state, ROUTE_TIMEOUT, x, y, state.actors[EGO].z, 0.0)
        state.clock[OUTCOME] = TIMED_OUT
    elif tick > tick_limit:
        note_event(state, TICK_LIMIT, x, y, state.actors[EGO].z, 0.0)
        state.clock[OUTCOME] = LIMIT_OUT
