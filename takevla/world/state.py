"""The moving state of the embedded world, as struct-of-arrays.

Slot 0 is the ego; the other slots hold actors or are empty.  Everything that changes during a
route rests in these arrays, so a copy of them is a snapshot and copying back restores it exactly.
Random choices come from `draw`, a hash of (seed, actor, event number): there is no generator whose
state would have to be saved.
"""

from __future__ import annotations

from typing import NamedTuple, get_type_hints

import numpy as np
from numba import njit
from numpy.typing import NDArray

Float = NDArray[np.float64]
Int = NDArray[np.int64]

EGO = 0  # slot of the ego
QUEUE = 10  # paths a vehicle knows ahead, its own first
EMPTY, ON_STAGE, HIDDEN = 0, 1, 2  # values of `WorldState.stage`
EVENT_COLUMNS = 6
MOST_EVENTS = 256


class WorldState(NamedTuple):
    """N slots.  Positions are centres of the ground face, world frame; SI units."""

    stage: Int  # (N,) EMPTY, ON_STAGE or HIDDEN
    id: Int  # (N,) unique in the episode
    kind: Int  # (N,) ActorKind
    role: Int  # (N,) Role
    motion: Int  # (N,) staging.Motion
    x: Float  # (N,)
    y: Float
    z: Float
    heading: Float
    speed: Float
    acceleration: Float  # over the last tick
    yaw_rate: Float  # over the last tick
    length: Float
    width: Float
    height: Float
    cue: Int  # (N,) shown now
    own_cue: Int  # (N,) those that do not follow from driving
    # path following
    queue: Int  # (N, QUEUE) paths ahead; [:, 0] is the one it is on, -1 after the last
    s: Float  # (N,) arc length on queue[:, 0]
    done_m: Float  # (N,) length of the paths left behind
    direction: Int  # (N,) -1 for pedestrians who walk against the path
    lateral: Float  # (N,) offset from the path, positive left
    lateral_from: Float  # (N,) blend of the lateral offset: from, to, share done, seconds of driving
    lateral_to: Float
    lateral_share: Float
    lateral_seconds: Float
    turned: Float  # (N,) heading against the path
    chain_at: Int  # (N,) next entry of the pool of given paths, -1: random successors
    chain_end: Int  # (N,)
    goes_on: Int  # (N,) 1: random successors after the given paths; 0: ends there
    gone_at_path_end: Int  # (N,)
    # driving
    cruise: Float  # (N,) m/s; 0 for TRAFFIC: `pace` x speed limit
    cruise_of_ego: Float  # (N,) this share of the ego's speed is added to the cruise speed
    pace: Float  # (N,) share of the speed limit it likes
    bound: Float  # (N,) m/s2 of SCRIPTED actors
    halt_until: Int  # (N,) tick until which it brakes to a stand
    stand_ticks: Int  # (N,) since it last moved
    wait_ticks: Int  # (N,) at the stop line
    served: Int  # (N,) stop line (path) at which it has waited
    committed: Int  # (N,) connector it will not stop for any more
    draws: Int  # (N,) event number of its next draw
    changed_tick: Int  # (N,) of the last lane change
    flow: Int  # (N,) index of the flow it belongs to or -1
    place: Int  # (N,) place at which background traffic was put or -1
    born_tick: Int  # (N,)
    leave_tick: Int  # (N,) at which it leaves the stage, 0: never
    hit_tick: Int  # (N,) of the last collision with the ego, -1: never
    # world
    clock: Int  # (8,) see TICK and following
    light: Int  # (S,) LightState now
    forced: Int  # (S,) LightState or -1
    forced_until: Int  # (S,) tick
    ego: Float  # (16,) what only the ego has, see STEER and following
    marks: Float  # (32,) memory of the criteria, see `takevla.world.criteria`
    checkpoints: Float  # (24, 3) ego speed sum, traffic speed sum, ticks of each stretch of the route
    events: Float  # (MOST_EVENTS, EVENT_COLUMNS) tick, code, x, y, z, detail
    samples: Float  # (T, SAMPLE_COLUMNS) one row a tick, see SAMPLE_*


TICK, NEXT_ID, EVENTS, ROUTE_INDEX, OUTCOME, OVERFLOW = range(6)  # columns of `clock`
# columns of `ego`
STEER, THROTTLE, BRAKE, LATERAL_ACCELERATION, ROUTE_S = range(5)
NOISE_STEER, NOISE_STEER_STD, NOISE_THROTTLE, NOISE_THROTTLE_STD, NOISE_HOLD_TICKS = range(5, 10)
SAMPLE_X, SAMPLE_Y, SAMPLE_Z, SAMPLE_HEADING, SAMPLE_SPEED = range(5)  # columns of `samples`
SAMPLE_ACCELERATION, SAMPLE_LATERAL_ACCELERATION, SAMPLE_YAW_RATE, SAMPLE_TTC = range(5, 9)
SAMPLE_COLUMNS = 9


def empty_state(slots: int, signals: int, ticks: int) -> WorldState:
    """A world of `slots` slots (ego included) in which nothing is on stage yet."""

    def zeros() -> Float:
        return np.zeros(slots)

    def ints(value: int = 0) -> Int:
        return np.full(slots, value, np.int64)

    annotations = get_type_hints(WorldState)
    columns: dict[str, NDArray[np.generic]] = {}
    for name in WorldState._fields:
        if name in {"served", "committed", "hit_tick", "chain_at", "flow", "place"}:
            columns[name] = ints(-1)
        elif name in {"direction"}:
            columns[name] = ints(1)
        elif annotations[name] == Int:
            columns[name] = ints()
        else:
            columns[name] = zeros()
    columns["queue"] = np.full((slots, QUEUE), -1, np.int64)
    columns["lateral_share"] = np.ones(slots)
    columns["lateral_seconds"] = np.ones(slots)
    columns["pace"] = np.ones(slots)
    columns["clock"] = np.zeros(8, np.int64)
    columns["light"] = np.zeros(signals, np.int64)
    columns["forced"] = np.full(signals, -1, np.int64)
    columns["forced_until"] = np.zeros(signals, np.int64)
    columns["ego"] = np.zeros(16)
    columns["marks"] = np.zeros(32)
    columns["checkpoints"] = np.zeros((24, 3))
    columns["events"] = np.zeros((MOST_EVENTS, EVENT_COLUMNS))
    columns["samples"] = np.zeros((ticks, SAMPLE_COLUMNS))
    return WorldState(**columns)  # type: ignore[arg-type]


def copied(state: WorldState) -> WorldState:
    """A snapshot; rows of `samples` not yet written are left out."""
    done = int(state.clock[TICK])
    rest = state._replace(samples=state.samples[:done])
    return WorldState(*(column.copy() for column in rest))


def restore(state: WorldState, snapshot: WorldState) -> None:
    """Write a snapshot back into the arrays of `state`."""
    for name, column, saved in zip(WorldState._fields, state, snapshot, strict=True):
        if name == "samples":
            column[: len(saved)] = saved
            column[len(saved) :] = 0.0
        else:
            column[...] = saved


@njit(cache=True)
def draw(seed: int, actor: int, event: int) -> float:
    """A number in [0, 1) that depends on its three arguments alone (splitmix64 finaliser)."""
    h = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
    h ^= np.uint64(actor) * np.uint64(0xBF58476D1CE4E5B9) + np.uint64(0x632BE59BD9B4E019)
    h ^= np.uint64(event) * np.uint64(0x94D049BB133111EB) + np.uint64(0x2545F4914F6CDD1D)
    h ^= h >> np.uint64(30)
    h *= np.uint64(0xBF58476D1CE4E5B9)
    h ^= h >> np.uint64(27)
    h *= np.uint64(0x94D049BB133111EB)
    h ^= h >> np.uint64(31)
    return float(h >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@njit(cache=True)
def note_event(state: WorldState, code: int, x: float, y: float, z: float, detail: float) -> None:
    """Append an event; events beyond the room for them are counted in OVERFLOW."""
    n = state.clock[EVENTS]
    if n >= MOST_EVENTS:
        state.clock[OVERFLOW] += 1
        return
    row = state.events[n]
    row[0] = state.clock[TICK]
    row[1] = code
    row[2] = x
    row[3] = y
    row[4] = z
    row[5] = detail
    state.clock[EVENTS] = n + 1
