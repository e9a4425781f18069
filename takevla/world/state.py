"""The moving state of the embedded world, as struct-of-arrays.

Slot 0 is the ego; the other slots hold actors or are empty.  Everything that changes during a
route rests in these arrays, so a copy of them is a snapshot and copying back restores it exactly.
Random choices come from `draw`, a hash of (seed, actor, event number): there is no generator whose
state would have to be saved.
"""

from __future__ import annotations

from typing import NamedTuple

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


ACTOR = np.dtype(
    [
        ("stage", "i8"),  # EMPTY, ON_STAGE or HIDDEN
        ("id", "i8"),  # unique in the episode
        ("kind", "i8"),  # ActorKind
        ("role", "i8"),  # Role
        ("motion", "i8"),  # staging.Motion
        ("x", "f8"),
        ("y", "f8"),
        ("z", "f8"),
        ("heading", "f8"),
        ("speed", "f8"),
        ("acceleration", "f8"),  # over the last tick
        ("yaw_rate", "f8"),  # over the last tick
        ("length", "f8"),
        ("width", "f8"),
        ("height", "f8"),
        ("cue", "i8"),  # shown now
        ("own_cue", "i8"),  # those that do not follow from driving
        # path following
        ("s", "f8"),  # arc length on queue[:, 0]
        ("done_m", "f8"),  # length of the paths left behind
        ("direction", "i8"),  # -1 for pedestrians who walk against the path
        ("lateral", "f8"),  # offset from the path, positive left
        ("lateral_from", "f8"),  # blend of the lateral offset: from, to, share done, seconds of driving
        ("lateral_to", "f8"),
        ("lateral_share", "f8"),
        ("lateral_seconds", "f8"),
        ("turned", "f8"),  # heading against the path
        ("chain_at", "i8"),  # next entry of the pool of given paths, -1: random successors
        ("chain_end", "i8"),
        ("goes_on", "i8"),  # 1: random successors after the given paths; 0: ends there
        ("gone_at_path_end", "i8"),
        # driving
        ("cruise", "f8"),  # m/s; 0 for TRAFFIC: `pace` x speed limit
        ("cruise_of_ego", "f8"),  # this share of the ego's speed is added to the cruise speed
        ("pace", "f8"),  # share of the speed limit it likes
        ("bound", "f8"),  # m/s2 of SCRIPTED actors
        ("halt_until", "i8"),  # tick until which it brakes to a stand
        ("shock_tick", "i8"),  # of the collision with the ego that it stands for, -1: none
        ("stand_ticks", "i8"),  # since it last moved
        ("wait_ticks", "i8"),  # at the stop line
        ("served", "i8"),  # stop line (path) at which it has waited
        ("committed", "i8"),  # connector it will not stop for any more
        ("draws", "i8"),  # event number of its next draw
        ("changed_tick", "i8"),  # of the last lane change
        ("place", "i8"),  # place at which background traffic was put or -1
        ("leave_tick", "i8"),  # at which it leaves the stage, 0: never
        ("hit_tick", "i8"),  # of the last collision with the ego, -1: never
    ]
)


class WorldState(NamedTuple):
    """N slots.  Positions are centres of the ground face, world frame; SI units."""

    actors: NDArray[np.void]  # (N,) ACTOR
    queue: Int  # (N, QUEUE) paths ahead; [:, 0] is the one it is on, -1 after the last
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
    actors = np.zeros(slots, ACTOR)
    for name in ("served", "committed", "chain_at", "chain_end", "place", "hit_tick"):
        actors[name] = -1
    for name in ("direction", "lateral_share", "lateral_seconds", "pace"):
        actors[name] = 1
    return WorldState(
        actors=actors,
        queue=np.full((slots, QUEUE), -1, np.int64),
        clock=np.zeros(8, np.int64),
        light=np.zeros(signals, np.int64),
        forced=np.full(signals, -1, np.int64),
        forced_until=np.zeros(signals, np.int64),
        ego=np.zeros(16),
        marks=np.zeros(32),
        checkpoints=np.zeros((24, 3)),
        events=np.zeros((MOST_EVENTS, EVENT_COLUMNS)),
        samples=np.zeros((ticks, SAMPLE_COLUMNS)),
    )


def copied(state: WorldState) -> WorldState:
    """A snapshot; rows of `samples` not yet written are left out."""
    done = int(state.clock[TICK])
    rest = state._replace(samples=state.samples[:done])
    return WorldState(**{name: column.copy() for name, column in rest._asdict().items()})


def restore(state: WorldState, snapshot: WorldState) -> None:
    """Write a snapshot back into the arrays of `state`."""
    for name, column, saved in zip(WorldState._fields, state, snapshot, strict=True):
        if name == "samples":
            column[: len(saved)] = saved
            column[len(saved) :] = 0.0
        else:
            column[...] = saved


@njit(cache=True)
def on_stage(state: WorldState) -> Int:
    """Slots of everything on stage, the ego first."""
    slots = np.empty(state.actors.shape[0], np.int64)
    n = 0
    for i in range(state.actors.shape[0]):
        if state.actors[i].stage == ON_STAGE:
            slots[n] = i
            n += 1
    return slots[:n]


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
