"""Where the actors of scenarios go: from the paths a scenario names to entries of the path pool."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from takevla.scene.actors import ActorKind, Role
from takevla.scene.road_map import RoadMap
from takevla.world.motion import fill_queue
from takevla.world.paths import Paths, nearest_on_path, with_free_paths
from takevla.world.population import clear_slot
from takevla.world.staging import ActorSpec, Flow, Motion, Scenario, SwitchPath
from takevla.world.state import ON_STAGE, WorldState

Traveller = ActorSpec | Flow | SwitchPath  # records that name a path


@dataclass(frozen=True)
class Track:
    """A path as the state knows it: a chain of lanes in `Ground.given`, or one free path."""

    path: int  # first path
    first: int  # next entry of `given` after the first path, -1 for free paths
    end: int


@dataclass(frozen=True)
class Ground:
    """Everything that a world's actors move along; never changes during a route."""

    paths: Paths
    given: NDArray[np.int64]  # lane chains of the scenarios, one after the other
    tracks: Mapping[int, Track]  # by `id` of the record (which the scenario keeps alive)
    seed: int

    def track(self, record: Traveller) -> Track:
        """Where a record's path lies."""
        return self.tracks[id(record)]

    def chain(self, track: Track) -> list[int]:
        """All paths of a track in order."""
        if track.first < 0:
            return [track.path]
        return [track.path, *(int(path) for path in self.given[track.first : track.end])]

    def length(self, track: Track) -> float:
        """Arc length of a whole track."""
        return float(self.paths.lanes["length"][self.chain(track)].sum())


def travellers(scenario: Scenario) -> list[Traveller]:
    """Every record of a scenario that names a path."""
    records: list[Traveller] = [*scenario.actors, *scenario.flows]
    for stage in scenario.stages:
        records += [command for command in stage.do if isinstance(command, SwitchPath)]
    return records


def check_paths(road_map: RoadMap, scenario: Scenario) -> None:
    """Refuse a scenario whose records name no path, two at once, or a lane that the map lacks.

    Raises:
        ValueError: naming the scenario and the record.
    """
    names = [actor.name for actor in scenario.actors]
    if len(set(names)) != len(names):
        raise ValueError(f"scenario {scenario.type}: two actors of one name in {names}")
    for record in travellers(scenario):
        name = record.actor if isinstance(record, SwitchPath) else record.name
        if bool(record.lanes) == (record.path_world is not None):
            raise ValueError(f"scenario {scenario.type}: {name} needs either lanes or a path")
        if any(not 0 <= lane < len(road_map.lanes) for lane in record.lanes):
            raise ValueError(f"scenario {scenario.type}: {name} names a lane that {road_map.name} lacks")


def lay_ground(paths: Paths, scenarios: Sequence[Scenario], seed: int) -> Ground:
    """Add the scenarios' free paths to a town's pool and collect their lane chains."""
    lines: list[NDArray[np.float32]] = []
    given: list[int] = []
    tracks: dict[int, Track] = {}
    for scenario in scenarios:
        for record in travellers(scenario):
            if record.path_world is not None:
                tracks[id(record)] = Track(len(paths.lanes) + len(lines), -1, -1)
                lines.append(record.path_world)
            else:
                first = len(given) + 1
                given.extend(record.lanes)
                tracks[id(record)] = Track(record.lanes[0], first, len(given))
    return Ground(with_free_paths(paths, lines), np.array(given, np.int64), tracks, seed)


def place(state: WorldState, ground: Ground, i: int, track: Track, s: float) -> None:
    """Put actor i at arc length s of the joined track and let its queue begin there."""
    length = ground.paths.lanes["length"]
    path, entry, done = track.path, track.first, 0.0
    while 0 <= entry < track.end and s > length[path]:
        s -= float(length[path])
        done += float(length[path])
        path = int(ground.given[entry])
        entry += 1
    state.queue[i, :] = -1
    state.queue[i, 0] = path
    state.actors["s"][i] = s
    state.actors["done_m"][i] = done
    state.actors["chain_at"][i] = entry
    state.actors["chain_end"][i] = track.end


def nearest_s(ground: Ground, track: Track, x: float, y: float) -> float:
    """Arc length, on the joined track, of its point nearest to (x, y)."""
    paths = ground.paths
    best, best_s, done = math.inf, 0.0, 0.0
    for path in ground.chain(track):
        s, lateral = nearest_on_path(paths, path, x, y)
        lane = paths.lanes[path]
        away = abs(lateral)
        if s <= 0.0 or s >= lane["length"]:
            end = paths.points[lane["first"] if s <= 0.0 else lane["end"] - 1]
            away = math.hypot(x - end["x"], y - end["y"])
        if away < best - 1e-6:
            best, best_s = away, done + s
        done += float(lane["length"])
    return best_s


def put(
    state: WorldState,
    ground: Ground,
    i: int,
    number: int,
    track: Track,
    kind: ActorKind,
    motion: Motion,
    s: float,
    extent: tuple[float, float, float],
) -> None:
    """Fill slot i with a fresh actor of a scenario, on stage at arc length s of its track."""
    clear_slot(state, i)
    actor = state.actors[i : i + 1]
    actor["stage"] = ON_STAGE
    actor["id"] = number
    actor["kind"] = int(kind)
    actor["role"] = int(Role.SCENARIO)
    actor["motion"] = int(motion)
    actor["length"], actor["width"], actor["height"] = extent
    place(state, ground, i, track, s)
    actor["goes_on"] = int(track.first >= 0 and motion == Motion.TRAFFIC)
    fill_queue(state, ground.paths, ground.given, ground.seed, i)
