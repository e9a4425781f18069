"""The embedded world's criteria applied to scenes that another simulator moves.

The same kernels judge both worlds, so events, progress and the record of a route mean the same.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from takevla.scene.actors import Cue
from takevla.scene.road_map import RoadMap
from takevla.scene.route import Route
from takevla.scene.scene import Ego, Scene
from takevla.world.criteria import KIND_FACTOR, WALL, Event, Outcome, count_collision, hit, judge, start_marks
from takevla.world.progress import route_arrays
from takevla.world.staging import Motion
from takevla.world.state import (
    EGO,
    EMPTY,
    LATERAL_ACCELERATION,
    ON_STAGE,
    OUTCOME,
    ROUTE_INDEX,
    TICK,
    empty_state,
)

SLOTS = 512  # actors near the ego at once, itself included


class Referee:
    """Follows one route, scene by scene.  `state` is what `make_record` reads."""

    def __init__(self, road_map: RoadMap, route: Route, tick_limit: int, first: Scene) -> None:
        self._roads, self._tick_limit = road_map.arrays, tick_limit
        self._route = route_arrays(road_map, route)
        self._slot_of: dict[int, int] = {}
        self.state = empty_state(SLOTS, len(road_map.signals), tick_limit + 2)
        self._put(first)
        start_marks(self.state)

    @property
    def route_index(self) -> int:
        """Index of the last route point that the ego has passed."""
        return int(self.state.clock[ROUTE_INDEX])

    @property
    def ticks(self) -> int:
        """Ticks judged."""
        return int(self.state.clock[TICK])

    @property
    def finished(self) -> bool:
        """True once the route has ended."""
        return bool(self.state.clock[OUTCOME] != int(Outcome.RUNNING))

    def judge(self, scene: Scene, touched: Iterable[int]) -> None:
        """Take in the scene after a tick, and the ids of what the ego touched; -1 for the level itself."""
        self._put(scene)
        for identity in touched:
            slot = self._slot_of.get(identity)
            if slot is not None:
                hit(self.state, slot)
            else:
                count_collision(self.state, int(Event.COLLISION_LAYOUT), float(WALL * KIND_FACTOR))
        self.state.clock[TICK] += 1
        judge(self.state, self._roads, self._route, False, True, self._tick_limit)

    def _put(self, scene: Scene) -> None:
        rows, actors = self.state.actors, scene.actors
        present = {int(identity) for identity in actors.id}
        for identity in [one for one in self._slot_of if one not in present]:
            slot = self._slot_of.pop(identity)
            rows["stage"][slot], rows["hit_tick"][slot] = EMPTY, -1
        taken = set(self._slot_of.values())
        free = (slot for slot in range(1, SLOTS) if slot not in taken)
        for row, identity in enumerate(actors.id):
            slot = self._slot_of.get(int(identity), -1)
            if slot < 0:
                slot = next(free, -1)
                if slot < 0:
                    raise RuntimeError(f"more than {SLOTS - 1} actors near the ego")
                self._slot_of[int(identity)] = slot
            rows["stage"][slot], rows["id"][slot] = ON_STAGE, identity
            for name in ("kind", "role", "cue"):
                rows[name][slot] = getattr(actors, name)[row]
            rows["x"][slot], rows["y"][slot], rows["z"][slot] = actors.position_world[row]
            rows["heading"][slot], rows["speed"][slot] = actors.heading_rad[row], actors.speed_mps[row]
            rows["length"][slot], rows["width"][slot], rows["height"][slot] = actors.extent_m[row]
            parked = bool(actors.cue[row] & Cue.PARKED)
            rows["motion"][slot] = int(Motion.STATIC if parked else Motion.TRAFFIC)
        self._put_ego(scene.ego)
        self.state.light[:] = scene.lights.astype(np.int64)

    def _put_ego(self, ego: Ego) -> None:
        row = self.state.actors
        row["stage"][EGO] = ON_STAGE
        row["x"][EGO], row["y"][EGO], row["z"][EGO] = ego.position_world
        row["heading"][EGO], row["speed"][EGO] = ego.heading_rad, ego.speed_mps
        row["acceleration"][EGO], row["yaw_rate"][EGO] = ego.acceleration_mps2, ego.yaw_rate_radps
        row["length"][EGO], row["width"][EGO], row["height"][EGO] = ego.extent_m
        self.state.ego[LATERAL_ACCELERATION] = ego.lateral_acceleration_mps2
