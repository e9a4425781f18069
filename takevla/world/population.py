"""Background traffic around the ego: who is put on stage, where, and when it leaves again.

Vehicles, cyclists and pedestrians live in a disc around the ego.  They are put on lanes far enough
away not to pop up before the windscreen, and removed once they are far behind.  Parked cars stand
at places that the seed fixes for the whole town, so they are there again on the way back.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from takevla.scene.actors import ActorKind, Cue, Role
from takevla.world.motion import fill_queue, put_on_path
from takevla.world.paths import Paths, point_at
from takevla.world.places import CYCLIST, PARKED, SPACING_M, VEHICLE, WALKER, Places
from takevla.world.staging import EXTENT_M, Motion
from takevla.world.state import EGO, EMPTY, NEXT_ID, ON_STAGE, WorldState, draw

INNER_M = 75.0  # nearer to the ego nothing that moves is put on stage during a route
AT_START_M = 16.0  # nor nearer than this when the route starts
OUTER_M = 120.0  # density holds within this distance
GONE_M = 150.0  # further away an actor leaves
SMALL_OUTER_M = 80.0  # the same for parked cars, walkers and cyclists
SMALL_GONE_M = 100.0
STUCK_TICKS = 1200  # a vehicle that has stood for a minute, out of the ego's way, is taken away
STUCK_FAR_M = 40.0
LEAST_GAP_M = 12.0  # between centres of vehicles when one is put on stage
EVERY_TICKS = 10

KINDS = 24
CAR, VAN, TRUCK = int(ActorKind.CAR), int(ActorKind.VAN), int(ActorKind.TRUCK)
BICYCLE, PEDESTRIAN = int(ActorKind.BICYCLE), int(ActorKind.PEDESTRIAN)
STATIC, TRAFFIC = int(Motion.STATIC), int(Motion.TRAFFIC)
BACKGROUND = int(Role.BACKGROUND)
CUE_PARKED = int(Cue.PARKED)


class Crowd(NamedTuple):
    """How much background there is.  Caps bound the slots in use."""

    vehicles_per_km: float
    parked_share: float  # of the places along parking lanes
    walkers_per_km: float  # of pavement
    cyclists_per_km: float  # of cycle lane
    most_vehicles: int
    most_parked: int
    most_walkers: int
    most_cyclists: int


def extent_table() -> NDArray[np.float64]:
    """Length, width and height by kind, (KINDS, 3)."""
    table = np.ones((KINDS, 3))
    for kind, extent in EXTENT_M.items():
        table[int(kind)] = extent
    return table


@njit(cache=True)
def clear_slot(state: WorldState, i: int) -> None:
    """Reset every column of a slot to what a fresh actor starts with."""
    state.actors[i].cue = 0
    state.actors[i].own_cue = 0
    state.actors[i].acceleration = 0.0
    state.actors[i].yaw_rate = 0.0
    state.actors[i].speed = 0.0
    state.queue[i, :] = -1
    state.actors[i].s = 0.0
    state.actors[i].done_m = 0.0
    state.actors[i].direction = 1
    state.actors[i].lateral = 0.0
    state.actors[i].lateral_from = 0.0
    state.actors[i].lateral_to = 0.0
    state.actors[i].lateral_share = 1.0
    state.actors[i].lateral_seconds = 1.0
    state.actors[i].turned = 0.0
    state.actors[i].chain_at = -1
    state.actors[i].chain_end = -1
    state.actors[i].goes_on = 0
    state.actors[i].gone_at_path_end = 1
    state.actors[i].cruise = 0.0
    state.actors[i].cruise_of_ego = 0.0
    state.actors[i].pace = 1.0
    state.actors[i].bound = 3.0
    state.actors[i].halt_until = 0
    state.actors[i].shock_tick = -1
    state.actors[i].stand_ticks = 0
    state.actors[i].wait_ticks = 0
    state.actors[i].served = -1
    state.actors[i].committed = -1
    state.actors[i].draws = 0
    state.actors[i].changed_tick = 0
    state.actors[i].place = -1
    state.actors[i].leave_tick = 0
    state.actors[i].hit_tick = -1


@njit(cache=True)
def set_extent(state: WorldState, extents: NDArray[np.float64], i: int) -> None:
    """Give a slot the extent of its kind."""
    state.actors[i].length = extents[state.actors[i].kind, 0]
    state.actors[i].width = extents[state.actors[i].kind, 1]
    state.actors[i].height = extents[state.actors[i].kind, 2]


@njit(cache=True)
def free_slot(state: WorldState, first: int) -> int:
    """The first empty slot from `first` on, or -1."""
    for i in range(first, state.actors.shape[0]):
        if state.actors[i].stage == EMPTY:
            return i
    return -1


@njit(cache=True)
def put_background(
    state: WorldState,
    paths: Paths,
    places: Places,
    extents: NDArray[np.float64],
    given: NDArray[np.int64],
    seed: int,
    first: int,
    place: int,
) -> bool:
    """Put an actor at a place if it is free; returns whether it was."""
    i = free_slot(state, first)
    if i < 0:
        return False
    use = places.use[place]
    path = places.path[place]
    x, y = places.x[place], places.y[place]
    _, _, _, heading = point_at(paths, path, places.s[place])
    number = state.clock[NEXT_ID]
    pace = 0.72 + 0.25 * draw(seed, number, 1)
    room = paths.lanes[path].length - places.s[place]
    speed = 0.0
    if use == VEHICLE:
        speed = min(pace * paths.lanes[path].limit, math.sqrt(2.0 * 2.0 * max(room - 8.0, 0.0)))
    for j in range(state.actors.shape[0]):
        if state.actors[j].stage != ON_STAGE:
            continue
        dx = state.actors[j].x - x
        dy = state.actors[j].y - y
        d = math.sqrt(dx * dx + dy * dy)
        along = dx * math.cos(heading) + dy * math.sin(heading)
        across = abs(dy * math.cos(heading) - dx * math.sin(heading))
        if use == VEHICLE:
            if across < 2.6 and abs(along) < LEAST_GAP_M + 0.5 * state.actors[j].length:
                return False
            if across < 2.6 and 0.0 < along < LEAST_GAP_M + speed * 2.0:
                speed = min(speed, max(state.actors[j].speed, 0.0))
            behind = -along
            if across < 2.6 and 0.0 < behind < LEAST_GAP_M + state.actors[j].speed * 2.5:
                return False
        elif use == PARKED:
            if d < 5.2 + 0.5 * state.actors[j].length and across < 2.4:
                return False
        elif d < 2.5:
            return False
    clear_slot(state, i)
    state.actors[i].stage = ON_STAGE
    state.actors[i].id = number
    state.clock[NEXT_ID] += 1
    state.actors[i].role = BACKGROUND
    state.queue[i, 0] = path
    state.actors[i].s = places.s[place]
    state.actors[i].place = place
    state.actors[i].pace = pace
    state.actors[i].motion = TRAFFIC
    state.actors[i].goes_on = 1
    pick = draw(seed, number, 2)
    if use == VEHICLE:
        state.actors[i].kind = CAR if pick < 0.8 else (VAN if pick < 0.93 else TRUCK)
        state.actors[i].speed = speed
    elif use == PARKED:
        # What stands at a place depends on the place alone.
        state.actors[i].kind = CAR if draw(seed, place, 4) < 0.88 else VAN
        state.actors[i].motion = STATIC
        state.actors[i].own_cue = CUE_PARKED
        state.actors[i].cue = CUE_PARKED
        state.actors[i].lateral = 0.3 * (draw(seed, place, 5) - 0.5)
        state.actors[i].lateral_from = state.actors[i].lateral
        state.actors[i].lateral_to = state.actors[i].lateral
    elif use == CYCLIST:
        state.actors[i].kind = BICYCLE
        state.actors[i].cruise = 3.5 + 2.0 * pick
        state.actors[i].speed = state.actors[i].cruise
    else:
        state.actors[i].kind = PEDESTRIAN
        state.actors[i].cruise = 0.9 + 0.7 * pick
        state.actors[i].speed = state.actors[i].cruise
        state.actors[i].gone_at_path_end = 0
        state.actors[i].direction = 1 if draw(seed, number, 3) < 0.5 else -1
        # Walkers keep to the right, so that those who meet pass each other.
        aside = 0.5 * paths.lanes[path].width * (0.15 + 0.45 * draw(seed, number, 6))
        state.actors[i].lateral = -aside * state.actors[i].direction
        state.actors[i].lateral_from = state.actors[i].lateral
        state.actors[i].lateral_to = state.actors[i].lateral
    set_extent(state, extents, i)
    if use != PARKED:
        fill_queue(state, paths, given, seed, i)
    put_on_path(state, paths, i)
    return True


@njit(cache=True)
def remove_far(state: WorldState, first: int) -> None:
    """Take background actors off the stage that are far away, or stuck and out of the ego's way."""
    for i in range(first, state.actors.shape[0]):
        if state.actors[i].stage != ON_STAGE or state.actors[i].role != BACKGROUND:
            continue
        dx = state.actors[i].x - state.actors[EGO].x
        dy = state.actors[i].y - state.actors[EGO].y
        d = math.sqrt(dx * dx + dy * dy)
        small = state.actors[i].motion == STATIC or state.actors[i].kind >= BICYCLE
        stuck = (
            state.actors[i].motion != STATIC and state.actors[i].stand_ticks > STUCK_TICKS and d > STUCK_FAR_M
        )
        if stuck or d > (SMALL_GONE_M if small else GONE_M):
            state.actors[i].stage = EMPTY


@njit(cache=True)
def populate(
    state: WorldState,
    paths: Paths,
    places: Places,
    crowd: Crowd,
    extents: NDArray[np.float64],
    given: NDArray[np.int64],
    seed: int,
    first: int,
    at_start: bool,
) -> None:
    """Bring the background towards its density; slots before `first` are not touched."""
    remove_far(state, first)
    ego_x, ego_y = state.actors[EGO].x, state.actors[EGO].y
    near = np.empty(places.use.shape[0], np.int64)
    distance = np.empty(places.use.shape[0])
    n = 0
    room = np.zeros(4)
    for q in range(places.use.shape[0]):
        dx = places.x[q] - ego_x
        dy = places.y[q] - ego_y
        d = dx * dx + dy * dy
        use = places.use[q]
        outer = OUTER_M if use == VEHICLE else SMALL_OUTER_M
        if d < outer * outer:
            near[n] = q
            distance[n] = math.sqrt(d)
            room[use] += SPACING_M[use] * 1e-3
            n += 1
    there = np.zeros(4, np.int64)
    for i in range(first, state.actors.shape[0]):
        if state.actors[i].stage == ON_STAGE and state.actors[i].role == BACKGROUND:
            if state.actors[i].motion == STATIC:
                there[PARKED] += 1
            elif state.actors[i].kind == PEDESTRIAN:
                there[WALKER] += 1
            elif state.actors[i].kind == BICYCLE:
                there[CYCLIST] += 1
            else:
                there[VEHICLE] += 1
    if n == 0:
        return
    for k in range(n):
        q = near[k]
        if places.use[q] != PARKED or there[PARKED] >= crowd.most_parked:
            continue
        if draw(seed, q, 7) >= crowd.parked_share:
            continue
        present = False
        for i in range(first, state.actors.shape[0]):
            if (
                state.actors[i].stage == ON_STAGE
                and state.actors[i].place == q
                and state.actors[i].motion == STATIC
            ):
                present = True
                break
        if not present and put_background(state, paths, places, extents, given, seed, first, q):
            there[PARKED] += 1
    target = np.zeros(4)
    target[VEHICLE] = min(crowd.vehicles_per_km * room[VEHICLE], crowd.most_vehicles)
    target[WALKER] = min(crowd.walkers_per_km * room[WALKER], crowd.most_walkers)
    target[CYCLIST] = min(crowd.cyclists_per_km * room[CYCLIST], crowd.most_cyclists)
    tries = 400 if at_start else 8
    for _ in range(tries):
        event = state.actors[EGO].draws
        state.actors[EGO].draws += 1
        k = int(draw(seed, 0, event) * n)
        q = near[k]
        use = places.use[q]
        if use == PARKED or there[use] + 1 > target[use]:
            continue
        least = AT_START_M if at_start else (INNER_M if use == VEHICLE else 0.6 * INNER_M)
        if use == WALKER and at_start:
            least = 4.0
        if distance[k] < least:
            continue
        if put_background(state, paths, places, extents, given, seed, first, q):
            there[use] += 1
