"""The ego among bodies: its step, and what a collision does.

A collision is inelastic and nothing tunnels.  Whoever moved into the other is put back where it was
a tick before and loses its speed (the ego keeps at most the speed of what it ran into); a vehicle that
was involved then stands for `SHOCK_TICKS`.  Where bodies have mass they push each other aside or drive
apart; here poses would stay jammed until the route's time is out.  So a vehicle of the traffic that stands
against the ego still when the shock is over leaves the stage.  An obstacle stays, and an ambulance, to
which the ego must yield; an ego that touches one of these at an angle grazes along it at walking pace.
Light bodies (pedestrians, bicycles, cones, boards, an open door) do not hold the ego up: they stay down
where they were hit and leave after `DOWN_TICKS`.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from takevla.scene.actors import ActorKind
from takevla.scene.geometry import boxes_overlap
from takevla.scene.road_map import RoadMap
from takevla.scene.route import Route
from takevla.world.criteria import COLLISION_LAYOUT, KIND_FACTOR, WALL, count_collision, hit
from takevla.world.dynamics import TICK_S, next_pose, next_speed
from takevla.world.motion import put_on_path
from takevla.world.paths import Paths
from takevla.world.staging import Motion
from takevla.world.state import (
    BRAKE,
    EGO,
    LATERAL_ACCELERATION,
    NOISE_HOLD_TICKS,
    NOISE_STEER,
    NOISE_STEER_STD,
    NOISE_THROTTLE,
    NOISE_THROTTLE_STD,
    ON_STAGE,
    STEER,
    THROTTLE,
    TICK,
    WorldState,
    draw,
)

BICYCLE, PEDESTRIAN = int(ActorKind.BICYCLE), int(ActorKind.PEDESTRIAN)
AMBULANCE = int(ActorKind.AMBULANCE)
CONE, WARNING_SIGN = int(ActorKind.CONE), int(ActorKind.WARNING_SIGN)
STATIC = int(Motion.STATIC)
SHOCK_TICKS = 100  # 5 s
JAMMED_M = 1.0  # two that collided and are no farther apart stand against each other: a tick of their way
PLATE_M = 0.2  # a body thinner than this is a door or a board
DOWN_TICKS = 40  # 2 s
LIGHT_LOSS = 0.85  # share of its speed that the ego keeps when it runs into something light
AT_REST_MPS = 0.1
GRAZE_MPS = 1.0  # as fast as this an ego goes along a body at rest that it touches
SAME_LEVEL_M = 3.0
SOLID_PROP = "building"  # the kind of prop that stops a car; trees and lamps are thin and stand aside
WALLS_WITHIN_M = 45.0  # of the route: further away it has ended by deviation


@njit(cache=True)
def normal_draw(seed: int, actor: int, event: int) -> float:
    """A standard normal number (Box-Muller on two draws)."""
    u = max(draw(seed, actor, 2 * event), 1e-12)
    v = draw(seed, actor, 2 * event + 1)
    return math.sqrt(-2.0 * math.log(u)) * math.cos(2.0 * math.pi * v)


@njit(cache=True)
def move_ego(state: WorldState, seed: int) -> None:
    """One tick of the ego under the controls in `state.ego`, disturbed by the noise set there."""
    ego = state.ego
    steer, throttle, brake = ego[STEER], ego[THROTTLE], ego[BRAKE]
    if ego[NOISE_HOLD_TICKS] > 0.0:
        tick = state.clock[TICK]
        size = ego[NOISE_STEER] + ego[NOISE_STEER_STD] * normal_draw(seed, -2, tick)
        side = 1.0 if draw(seed, -3, tick // int(ego[NOISE_HOLD_TICKS])) < 0.5 else -1.0
        steer = min(1.0, max(-1.0, steer + side * size))
        push = ego[NOISE_THROTTLE] + ego[NOISE_THROTTLE_STD] * normal_draw(seed, -4, tick)
        throttle = min(1.0, max(0.0, throttle + push))
    before = state.actors[EGO].speed
    old_heading = state.actors[EGO].heading
    x, y, heading = next_pose(state.actors[EGO].x, state.actors[EGO].y, old_heading, before, steer)
    after = next_speed(before, throttle, brake)
    state.actors[EGO].x = x
    state.actors[EGO].y = y
    state.actors[EGO].heading = heading
    state.actors[EGO].speed = after
    set_ego_rates(state, before, old_heading)


@njit(cache=True)
def set_ego_rates(state: WorldState, speed_before: float, heading_before: float) -> None:
    """Acceleration and yaw rate over the last tick from what the pose and speed were."""
    turn = (state.actors[EGO].heading - heading_before + math.pi) % (2.0 * math.pi) - math.pi
    state.actors[EGO].acceleration = (state.actors[EGO].speed - speed_before) / TICK_S
    state.actors[EGO].yaw_rate = turn / TICK_S
    state.ego[LATERAL_ACCELERATION] = speed_before * turn / TICK_S
    if state.actors[EGO].speed < AT_REST_MPS:
        state.actors[EGO].stand_ticks += 1
    else:
        state.actors[EGO].stand_ticks = 0


@njit(cache=True)
def touches(state: WorldState, x: float, y: float, heading: float, j: int, margin: float = 0.0) -> bool:
    """Whether the ego at this pose, wider by `margin` (m) on every side, overlaps actor j."""
    ego = state.actors[EGO]
    other = state.actors[j]
    return boxes_overlap(
        x,
        y,
        heading,
        ego.length + 2.0 * margin,
        ego.width + 2.0 * margin,
        other.x,
        other.y,
        other.heading,
        other.length,
        other.width,
    )


@njit(cache=True)
def is_light(state: WorldState, j: int) -> bool:
    """Whether actor j gives way to a car that runs into it."""
    kind = state.actors[j].kind
    return (
        kind in (BICYCLE, PEDESTRIAN, CONE, WARNING_SIGN)
        or min(state.actors[j].length, state.actors[j].width) < PLATE_M
    )


@njit(cache=True)
def shake(state: WorldState, j: int) -> None:
    """Actor j has collided with the ego: it stands for a while, counted from the first touch."""
    tick = state.clock[TICK]
    if state.actors[j].shock_tick < 0:
        state.actors[j].shock_tick = tick
    if state.actors[j].kind != PEDESTRIAN:
        state.actors[j].halt_until = state.actors[j].shock_tick + SHOCK_TICKS


@njit(cache=True)
def part(state: WorldState) -> None:
    """Who is of the traffic and has stood its shock out leaves the stage if it is jammed against the ego."""
    ego = state.actors[EGO]
    tick = state.clock[TICK]
    for j in range(1, state.actors.shape[0]):
        actor = state.actors[j]
        if actor.stage != ON_STAGE or actor.shock_tick < 0 or tick - actor.shock_tick < SHOCK_TICKS:
            continue
        actor.shock_tick = -1
        if not stays(state, j) and touches(state, ego.x, ego.y, ego.heading, j, JAMMED_M):
            actor.leave_tick = tick


@njit(cache=True)
def stays(state: WorldState, j: int) -> bool:
    """Whether actor j remains where it is though the ego is jammed against it."""
    return state.actors[j].motion == STATIC or state.actors[j].kind in (PEDESTRIAN, AMBULANCE)


@njit(cache=True)
def graze(state: WorldState, before: NDArray[np.float64], j: int) -> bool:
    """Let a slow ego go along actor j, which stays: aside as far as ahead, where that keeps clear of all.

    `before` is the ego's pose and speed a tick ago; the pose that the tick has led to is replaced.
    """
    ego, other = state.actors[EGO], state.actors[j]
    if before[3] > GRAZE_MPS or abs(other.speed) > AT_REST_MPS or not stays(state, j):
        return False
    c, s = math.cos(before[2]), math.sin(before[2])
    ahead = max(c * (ego.x - before[0]) + s * (ego.y - before[1]), 0.0)
    other_left = -s * (other.x - before[0]) + c * (other.y - before[1])
    aside = -ahead if other_left > 0.0 else ahead
    x, y = before[0] + ahead * c - aside * s, before[1] + ahead * s + aside * c
    for heading in (ego.heading, before[2]):
        if clear(state, x, y, heading):
            state.actors[EGO].x, state.actors[EGO].y, state.actors[EGO].heading = x, y, heading
            state.actors[EGO].speed = min(ego.speed, GRAZE_MPS)
            return True
    return False


@njit(cache=True)
def clear(state: WorldState, x: float, y: float, heading: float) -> bool:
    """Whether the ego at this pose overlaps nobody on stage."""
    for k in range(1, state.actors.shape[0]):
        if state.actors[k].stage != ON_STAGE or abs(state.actors[k].z - state.actors[EGO].z) > SAME_LEVEL_M:
            continue
        if state.actors[k].leave_tick > 0 and is_light(state, k):
            continue
        if touches(state, x, y, heading, k):
            return False
    return True


@njit(cache=True)
def resolve_contacts(
    state: WorldState,
    paths: Paths,
    before: NDArray[np.float64],
    travelled: NDArray[np.float64],
) -> None:
    """Note collisions of the ego and undo whatever ran into the other.

    `before` holds the ego's pose and speed (x, y, heading, speed) a tick ago, `travelled` the arc
    length each actor has covered in the tick.
    """
    for _ in range(2):
        moved_back = False
        for j in range(1, state.actors.shape[0]):
            if (
                state.actors[j].stage != ON_STAGE
                or abs(state.actors[j].z - state.actors[EGO].z) > SAME_LEVEL_M
            ):
                continue
            if not touches(state, state.actors[EGO].x, state.actors[EGO].y, state.actors[EGO].heading, j):
                continue
            light = is_light(state, j)
            if light and state.actors[j].leave_tick > 0:
                continue
            if before[3] >= AT_REST_MPS:
                hit(state, j)
                if light:
                    state.actors[j].motion = STATIC
                    state.actors[j].speed = 0.0
                    state.actors[j].leave_tick = state.clock[TICK] + DOWN_TICKS
                    state.actors[EGO].speed *= LIGHT_LOSS
                    continue
            if touches(state, before[0], before[1], before[2], j):
                # The other has moved into the ego, or both have.
                state.actors[j].s -= travelled[j] * state.actors[j].direction
                travelled[j] = 0.0
                state.actors[j].speed = 0.0
                if state.queue[j, 0] >= 0:
                    put_on_path(state, paths, j)
                shake(state, j)
            if touches(
                state, state.actors[EGO].x, state.actors[EGO].y, state.actors[EGO].heading, j
            ) and not graze(state, before, j):
                along = state.actors[j].speed * math.cos(state.actors[j].heading - state.actors[EGO].heading)
                state.actors[EGO].x, state.actors[EGO].y, state.actors[EGO].heading = (
                    before[0],
                    before[1],
                    before[2],
                )
                state.actors[EGO].speed = min(state.actors[EGO].speed, max(0.0, along))
                shake(state, j)
                moved_back = True
        if not moved_back:
            return


def find_walls(road_map: RoadMap, route: Route) -> NDArray[np.float64]:
    """Buildings near a route: (K, 6) of x, y, heading, length, width and number on the map."""
    rows = []
    for number, prop in enumerate(road_map.props):
        if prop.kind != SOLID_PROP:
            continue
        x, y, _, heading = (float(v) for v in prop.pose_world)
        reach = 0.5 * math.hypot(float(prop.extent_m[0]), float(prop.extent_m[1])) + WALLS_WITHIN_M
        if (np.hypot(route.points_world[:, 0] - x, route.points_world[:, 1] - y) < reach).any():
            rows.append((x, y, heading, float(prop.extent_m[0]), float(prop.extent_m[1]), float(number)))
    return np.array(rows, np.float64).reshape(-1, 6)


@njit(cache=True)
def resolve_walls(state: WorldState, walls: NDArray[np.float64], before: NDArray[np.float64]) -> None:
    """A building stops the ego where it was a tick ago."""
    ego = state.actors[EGO]
    for k in range(walls.shape[0]):
        x, y, heading, length, width, number = walls[k]
        if boxes_overlap(ego.x, ego.y, ego.heading, ego.length, ego.width, x, y, heading, length, width):
            if before[3] >= AT_REST_MPS:
                count_collision(state, COLLISION_LAYOUT, WALL * KIND_FACTOR + number)
            ego.x = before[0]
            ego.y = before[1]
            ego.heading = before[2]
            ego.speed = 0.0
            return
