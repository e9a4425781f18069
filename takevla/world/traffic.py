"""What every moving actor does in a tick: car following along its path among everything else.

A vehicle samples its own path ahead and finds whatever stands or moves in it by geometry alone:
vehicles, the ego, pedestrians, cones.  Nobody has to be registered as anybody's leader, so traffic
reacts to anything in its way, from whatever side it came.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from takevla.scene.actors import ActorKind, Cue
from takevla.scene.road_map import Turn
from takevla.world.dynamics import TICK_S
from takevla.world.motion import advance, room_to_dead_end, smooth
from takevla.world.paths import Paths, point_at
from takevla.world.right_of_way import hold_distance, look_for_junctions
from takevla.world.staging import Motion
from takevla.world.state import EGO, QUEUE, TICK, WorldState, on_stage

STATIC, TRAFFIC, REACTIVE, SCRIPTED = (
    int(Motion.STATIC),
    int(Motion.TRAFFIC),
    int(Motion.REACTIVE),
    int(Motion.SCRIPTED),
)
BICYCLE, PEDESTRIAN = int(ActorKind.BICYCLE), int(ActorKind.PEDESTRIAN)
BRAKE, INDICATOR_LEFT, INDICATOR_RIGHT = int(Cue.BRAKE), int(Cue.INDICATOR_LEFT), int(Cue.INDICATOR_RIGHT)
LEFT, RIGHT = int(Turn.LEFT), int(Turn.RIGHT)

# Intelligent driver model (Treiber et al. 2000), town values
IDM_ACCELERATION_MPS2 = 2.0
IDM_BRAKING_MPS2 = 3.0
IDM_HEADWAY_S = 1.2
IDM_STANDSTILL_M = 2.5
LINE_STANDSTILL_M = 1.0  # to a stop line instead of a bumper
HARDEST_BRAKING_MPS2 = 8.0
BEND_MPS2 = 2.2  # lateral acceleration in bends
ANTICIPATION_MPS2 = 1.8  # braking for slower road ahead
SIDE_ROOM_M = 0.3  # least lateral room when passing something
SAMPLE_M = 2.0  # spacing of the path ahead
SAMPLES = 40
SAME_LEVEL_M = 3.0
BRAKE_LIGHT_MPS2 = -0.6
INDICATE_M = 30.0  # before a turn


@njit(cache=True)
def idm(speed: float, wanted: float, gap: float, leader_speed: float, standstill: float) -> float:
    """Acceleration of the intelligent driver model behind a leader `gap` ahead (inf: none), bounded."""
    wanted = max(wanted, 0.1)
    free = 1.0 - (speed / wanted) ** 4
    if free < 0.0:
        free = max(free, -IDM_BRAKING_MPS2 / IDM_ACCELERATION_MPS2)
    if gap == np.inf:
        return IDM_ACCELERATION_MPS2 * free
    gap = max(gap, 0.1)
    dynamic = speed * IDM_HEADWAY_S + speed * (speed - leader_speed) / (
        2.0 * math.sqrt(IDM_ACCELERATION_MPS2 * IDM_BRAKING_MPS2)
    )
    ratio = (standstill + max(0.0, dynamic)) / gap
    return max(-HARDEST_BRAKING_MPS2, IDM_ACCELERATION_MPS2 * (free - ratio * ratio))


@njit(cache=True)
def sample_path(
    state: WorldState, paths: Paths, i: int, ahead: NDArray[np.float64], reach: float
) -> tuple[int, float]:
    """Sample i's path from its centre: rows of x, y, heading.  Returns count and the speed that bends allow.

    Lateral offsets are followed as the running blend will change them.
    """
    count = min(SAMPLES, int(reach / SAMPLE_M) + 2)
    k = 0
    path = state.queue[i, 0]
    s = state.actors[i].s
    allowed = np.inf
    share_step = SAMPLE_M / max(state.actors[i].speed, 2.0) / state.actors[i].lateral_seconds
    share = state.actors[i].lateral_share
    change = state.actors[i].lateral_to - state.actors[i].lateral_from
    previous = 0.0
    for n in range(count):
        while s > paths.lanes[path].length and k + 1 < QUEUE and state.queue[i, k + 1] >= 0:
            s -= paths.lanes[path].length
            k += 1
            path = state.queue[i, k]
        x, y, _, heading = point_at(paths, path, s)
        lateral = state.actors[i].lateral_from + change * smooth(min(1.0, share))
        ahead[n, 0] = x - lateral * math.sin(heading)
        ahead[n, 1] = y + lateral * math.cos(heading)
        ahead[n, 2] = heading
        limit = paths.lanes[path].limit * state.actors[i].pace
        if n > 0:
            bend = abs((heading - previous + math.pi) % (2.0 * math.pi) - math.pi) / SAMPLE_M
            if bend > 1e-3:
                limit = min(limit, math.sqrt(BEND_MPS2 / bend))
        distance = max(0.0, (n - 1) * SAMPLE_M)
        allowed = min(allowed, math.sqrt(limit * limit + 2.0 * ANTICIPATION_MPS2 * distance))
        previous = heading
        share += share_step
        s += SAMPLE_M
    return count, allowed


@njit(cache=True)
def on_path(ahead: NDArray[np.float64], count: int, x: float, y: float, reach: float) -> tuple[float, float]:
    """Distance along the sampled path and heading there, if (x, y) lies within `reach` of it; else inf."""
    # Squared distances to all samples: a loop that compilers vectorise beats one that skips.
    best = np.inf
    at = -1
    for n in range(count):
        dx = x - ahead[n, 0]
        dy = y - ahead[n, 1]
        d = dx * dx + dy * dy
        if d < best:
            best = d
            at = n
    if best > (reach + SAMPLE_M) ** 2:
        return np.inf, 0.0
    heading = ahead[at, 2]
    cos, sin = math.cos(heading), math.sin(heading)
    dx = x - ahead[at, 0]
    dy = y - ahead[at, 1]
    along = dx * cos + dy * sin
    if abs(dy * cos - dx * sin) > reach or abs(along) > SAMPLE_M:
        return np.inf, 0.0
    return at * SAMPLE_M + along, heading


@njit(cache=True)
def follow(
    state: WorldState,
    active: NDArray[np.int64],
    ahead: NDArray[np.float64],
    count: int,
    i: int,
    wanted: float,
) -> tuple[float, float, float]:
    """IDM among everything on i's sampled path: acceleration, and gap and speed of what bounds it."""
    speed = state.actors[i].speed
    least = idm(speed, wanted, np.inf, 0.0, IDM_STANDSTILL_M)
    leader_gap = np.inf
    leader_speed = 0.0
    half = 0.5 * state.actors[i].length
    reach = (count - 1) * SAMPLE_M
    cos_i, sin_i = math.cos(state.actors[i].heading), math.sin(state.actors[i].heading)
    for a in range(active.shape[0]):
        j = active[a]
        if j == i or abs(state.actors[j].z - state.actors[i].z) > SAME_LEVEL_M:
            continue
        dx = state.actors[j].x - state.actors[i].x
        dy = state.actors[j].y - state.actors[i].y
        far = reach + 0.5 * state.actors[j].length + 2.0
        if dx * dx + dy * dy > far * far:
            continue
        # Whoever's centre is behind ours is not ahead; on sharp curves the samples decide.
        if dx * cos_i + dy * sin_i < -0.5 * state.actors[j].length:
            continue
        cos_j, sin_j = math.cos(state.actors[j].heading), math.sin(state.actors[j].heading)
        radius = 0.5 * min(state.actors[j].width, state.actors[j].length)
        arm = max(0.0, 0.5 * state.actors[j].length - radius)
        room = 0.5 * state.actors[i].width + radius + SIDE_ROOM_M
        walks = state.actors[j].kind == PEDESTRIAN or state.actors[j].kind == BICYCLE
        looks = 6 if walks and state.actors[j].speed > 0.3 else 3
        for look in range(looks):
            if look < 3:
                if arm < 0.3 and look != 1:
                    continue
                shift = (look - 1) * arm
            else:
                shift = (look - 2) * 0.8 * state.actors[j].speed  # where it will be in 0.8, 1.6 and 2.4 s
            s, heading = on_path(
                ahead, count, state.actors[j].x + shift * cos_j, state.actors[j].y + shift * sin_j, room
            )
            if s == np.inf or s < 0.0:
                continue
            if look >= 3:
                when = (look - 2) * 0.8
                mine = (s - half) / max(speed, 1.0)
                if mine < when - 1.5 or mine > when + 2.0:
                    continue
            cos = cos_j * math.cos(heading) + sin_j * math.sin(heading)
            along = state.actors[j].speed * cos if look < 3 else 0.0
            if s < radius:
                continue  # beside the rear half: going on leaves it behind, and of two side by side one goes
            gap = s - radius - half
            if cos < -0.5 and look < 3:
                along = max(along, -3.0)  # oncoming traffic in our lane: stop, do not flee
            a_j = idm(speed, wanted, gap, along, IDM_STANDSTILL_M)
            if a_j < least:
                least = a_j
            if gap < leader_gap:
                leader_gap = gap
                leader_speed = along
    return least, leader_gap, leader_speed


@njit(cache=True)
def show_cues(state: WorldState, paths: Paths, i: int, connector: int, entry: float) -> None:
    """Brake lights and indicators follow from driving, in addition to the actor's own cues."""
    cue = state.actors[i].own_cue
    if state.actors[i].kind < BICYCLE:
        if state.actors[i].acceleration < BRAKE_LIGHT_MPS2 or (
            state.actors[i].speed < 0.1 and state.actors[i].motion != STATIC
        ):
            cue |= BRAKE
        if (
            state.actors[i].lateral_share < 1.0
            and abs(state.actors[i].lateral_to - state.actors[i].lateral_from) > 1.0
        ):
            cue |= (
                INDICATOR_LEFT
                if state.actors[i].lateral_to > state.actors[i].lateral_from
                else INDICATOR_RIGHT
            )
        elif connector >= 0 and entry < INDICATE_M:
            if paths.lanes[connector].turn == LEFT:
                cue |= INDICATOR_LEFT
            elif paths.lanes[connector].turn == RIGHT:
                cue |= INDICATOR_RIGHT
    state.actors[i].cue = cue


@njit(cache=True)
def drive_others(state: WorldState, paths: Paths, given: NDArray[np.int64], seed: int) -> None:
    """Decide on the present state for every moving actor, then move them all by one tick."""
    slots = state.actors.shape[0]
    active = on_stage(state)
    connector = np.full(slots, -1, np.int64)
    entry = np.full(slots, np.inf)
    line = np.full(slots, np.inf)
    line_path = np.full(slots, -1, np.int64)
    look_for_junctions(state, paths, active, connector, entry, line, line_path)
    acceleration = np.zeros(slots)
    ahead = np.empty((SAMPLES, 3))
    tick = state.clock[TICK]
    for a in range(active.shape[0]):
        i = active[a]
        if i == EGO or state.actors[i].motion == STATIC:
            continue
        speed = state.actors[i].speed
        cruise = state.actors[i].cruise + state.actors[i].cruise_of_ego * state.actors[EGO].speed
        if state.actors[i].motion == SCRIPTED or state.actors[i].kind == PEDESTRIAN:
            if state.actors[i].halt_until > tick:
                cruise = 0.0  # it has hit the ego
            step = (cruise - speed) / TICK_S
            acceleration[i] = min(state.actors[i].bound, max(-state.actors[i].bound, step))
        else:
            reach = min(75.0, 36.0 + 1.6 * speed)
            count, allowed = sample_path(state, paths, i, ahead, reach)
            wanted = allowed
            if cruise > 0.0 or state.actors[i].motion == REACTIVE:
                # A REACTIVE actor may exceed the limit, not what the bends allow.
                wanted = min(cruise, allowed / max(state.actors[i].pace, 0.1))
            if state.actors[i].halt_until > tick:
                wanted = 0.0
            acceleration[i], leader_gap, leader_speed = follow(state, active, ahead, count, i, wanted)
            if state.actors[i].motion == TRAFFIC:
                if state.actors[i].committed >= 0 and connector[i] != state.actors[i].committed:
                    state.actors[i].committed = -1
                hold = hold_distance(
                    state, paths, active, connector, entry, line, line_path, i, leader_gap, leader_speed
                )
                hold = min(hold, room_to_dead_end(state, paths, i))
                if hold < np.inf:
                    stop = idm(speed, wanted, hold, 0.0, LINE_STANDSTILL_M)
                    acceleration[i] = min(acceleration[i], stop)
        if state.actors[i].halt_until > tick and state.actors[i].motion != SCRIPTED:
            acceleration[i] = min(acceleration[i], -6.0)
    for a in range(active.shape[0]):
        i = active[a]
        if i == EGO:
            continue
        if state.actors[i].motion == STATIC:
            state.actors[i].cue = state.actors[i].own_cue
            continue
        advance(state, paths, given, seed, i, acceleration[i])
        show_cues(state, paths, i, connector[i], entry[i])
