"""One tick of the embedded world as one kernel: lights, background, traffic, ego, contacts, criteria."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from takevla.scene.road_map import RoadArrays
from takevla.world.contact import move_ego, part, resolve_contacts, resolve_walls
from takevla.world.criteria import judge
from takevla.world.lane_change import change_lanes
from takevla.world.lights import LightProgram, set_lights
from takevla.world.paths import Paths
from takevla.world.places import Places
from takevla.world.population import EVERY_TICKS, Crowd, populate
from takevla.world.progress import RouteArrays
from takevla.world.state import EGO, EMPTY, ROUTE_INDEX, ROUTE_S, TICK, WorldState
from takevla.world.traffic import drive_others


@njit(cache=True)
def foresee_ego(state: WorldState, paths: Paths, route: RouteArrays, look_m: float) -> None:
    """Write into the ego's queue the connector it will take next, so that others can judge its way.

    The path before it is given an arc length such that the distance to the connector is right.
    """
    at = state.clock[ROUTE_INDEX]
    here = state.ego[ROUTE_S]
    state.queue[EGO, :] = -1
    lane = route.lane[at]
    state.queue[EGO, 0] = lane
    if lane < 0:
        return
    if paths.lanes[lane].junction >= 0:
        first = at
        while first > 0 and route.lane[first - 1] == lane:
            first -= 1
        state.actors[EGO].s = here - route.s[first]
        return
    state.actors[EGO].s = 0.0
    for k in range(at, route.s.shape[0]):
        if route.s[k] - here > look_m:
            break
        if route.lane[k] >= 0 and paths.lanes[route.lane[k]].junction >= 0:
            before = route.lane[max(k - 1, 0)]
            if before < 0:
                before = lane
            state.queue[EGO, 0] = before
            state.queue[EGO, 1] = route.lane[k]
            state.actors[EGO].s = paths.lanes[before].length - (route.s[k] - here)
            return
    state.actors[EGO].s = min(0.0, paths.lanes[lane].length - look_m - 20.0)


@njit(cache=True)
def step_world(
    state: WorldState,
    paths: Paths,
    roads: RoadArrays,
    route: RouteArrays,
    program: LightProgram,
    walls: NDArray[np.float64],
    places: Places,
    crowd: Crowd,
    extents: NDArray[np.float64],
    given: NDArray[np.int64],
    seed: int,
    first_background: int,
    opposite_allowed: bool,
    blocked_counts: bool,
    tick_limit: int,
) -> None:
    """Advance the world by one tick under the controls in `state.ego`."""
    tick = state.clock[TICK]
    set_lights(program, tick, state.light, state.forced, state.forced_until)
    if tick % EVERY_TICKS == 0:
        populate(state, paths, places, crowd, extents, given, seed, first_background, False)
    foresee_ego(state, paths, route, 70.0)
    slots = state.actors.shape[0]
    before = np.array(
        [state.actors[EGO].x, state.actors[EGO].y, state.actors[EGO].heading, state.actors[EGO].speed]
    )
    travelled = np.empty(slots)
    for i in range(slots):
        travelled[i] = state.actors[i].s + state.actors[i].done_m
    drive_others(state, paths, given, seed)
    change_lanes(state, paths, given, seed)
    move_ego(state, seed)
    for i in range(1, slots):
        travelled[i] = min(max(abs(state.actors[i].s + state.actors[i].done_m - travelled[i]), 0.0), 3.0)
    resolve_contacts(state, paths, before, travelled)
    part(state)
    resolve_walls(state, walls, before)
    state.clock[TICK] = tick + 1
    for i in range(1, slots):
        if 0 < state.actors[i].leave_tick <= tick:
            state.actors[i].stage = EMPTY
    judge(state, roads, route, opposite_allowed, blocked_counts, tick_limit)
