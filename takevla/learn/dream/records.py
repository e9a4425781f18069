"""What closed dreams start from: a takeover's record itself, for as long as the danger lasts.

A `DreamScene` holds what the kernels need; a camera needs the recorded scenes too.  They are read from
the dataset when they are wanted, so that no more than one update's records are in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from takevla.dataset.reader import Dataset
from takevla.learn.dream.reconstruct import STEP_US, FrameIndex, dream_scene, traced_route
from takevla.learn.dream.scenes import STEP_S, DreamScene
from takevla.learn.dream.simulate import TICKS_PER_STEP
from takevla.scene.road_map import RoadMap
from takevla.scene.route import Route
from takevla.scene.scene import TICK_US, Scene
from takevla.scene.trace import target_points
from takevla.world.camera import Camera
from takevla.world.camera.rig import Rig
from takevla.world.maps.atlas import load_town


@dataclass(frozen=True, eq=False)
class Record:
    """What was recorded from a start frame on, tick by tick."""

    scene: DreamScene
    scenes: Mapping[int, Scene]  # by tick since the start; every `STEP_S` at least
    frame_rows: NDArray[np.int64]  # (ticks + 1,) the dataset's frame that was current
    road_map: RoadMap
    route: Route
    targets: NDArray[np.int32]  # indices of the route points that the driver is shown

    @property
    def ticks(self) -> int:
        """How long it is."""
        return self.scene.steps * TICKS_PER_STEP

    def at(self, tick: int) -> Scene:
        """The scene at a tick; where it was not recorded, between the ones before and after."""
        if tick in self.scenes:
            return self.scenes[tick]
        before = tick - tick % TICKS_PER_STEP
        share = (tick - before) / TICKS_PER_STEP
        return between(self.scenes[before], self.scenes[before + TICKS_PER_STEP], share)


def between(first: Scene, second: Scene, share: float) -> Scene:
    """`first` with the actors that are in both moved on by a share of the way to `second`."""
    row_of = {actor: row for row, actor in enumerate(second.actors.id.tolist())}
    ids = first.actors.id.tolist()
    rows = [i for i, actor in enumerate(ids) if actor in row_of and first.actors.valid[i]]
    after = [row_of[ids[i]] for i in rows]
    position, heading = first.actors.position_world.copy(), first.actors.heading_rad.copy()
    position[rows] += share * (second.actors.position_world[after] - position[rows])
    turn = second.actors.heading_rad[after] - heading[rows]
    heading[rows] += share * ((turn + np.pi) % (2 * np.pi) - np.pi)
    time_us = first.time_us + round(share * (second.time_us - first.time_us))
    moved = replace(first.actors, position_world=position, heading_rad=heading)
    return replace(first, time_us=time_us, actors=moved)


class Records:
    """The records of a dataset's takeovers."""

    def __init__(self, dataset: Dataset, reacting: float, seed: int, maps_dir: Path | None = None) -> None:
        """`reacting` and `seed` as in `rebuild`; here each start frame has a generator of its own."""
        self._dataset, self._reacting, self._seed, self._maps_dir = dataset, reacting, seed, maps_dir
        self._frames = FrameIndex(dataset)
        self._takeovers: dict[str, dict[str, Any]] = {
            row["takeover"]: row for row in dataset.takeovers.to_pylist()
        }
        self._episodes: dict[str, dict[str, Any]] = {
            row["episode"]: row for row in dataset.episodes.to_pylist()
        }

    def record(self, start: DreamScene, least_s: float, longest_s: float) -> Record:
        """From the start frame until the expert handed back, but between `least_s` and `longest_s` long; of
        calm driving `least_s`.

        The record ends a few seconds after the hand-over, and so does the dream.  ValueError where it does
        not even hold `least_s`.
        """
        row = start.frame_row
        begin = int(self._frames.time_us[row])
        what = self._takeovers.get(start.takeover) or self._calm(start)
        past_s = (what["end_us"] - begin) * 1e-6
        steps = round(min(max(past_s, least_s), longest_s) / STEP_S)
        found = {
            (scene.time_us - begin) // TICK_US: scene
            for scene in self._dataset.scenes(what["episode"], begin, begin + steps * STEP_US)
        }
        scenes: list[Scene] = []
        while len(scenes) <= steps and len(scenes) * TICKS_PER_STEP in found:
            scenes.append(found[len(scenes) * TICKS_PER_STEP])
        if (len(scenes) - 1) * STEP_S < least_s - 0.5 * STEP_S:
            raise ValueError(
                f"takeover {start.takeover}: the record from frame {row} on is shorter than {least_s} s"
            )
        road_map = load_town(what["town"], self._maps_dir)
        route = traced_route(
            what["town"], tuple(self._episodes[what["episode"]]["keypoints_world"]), self._maps_dir
        )
        chance = np.random.default_rng([self._seed, 0xD, row])
        scene = dream_scene(what, row, scenes, road_map, route, self._frames, self._reacting, chance)
        ticks = range((len(scenes) - 1) * TICKS_PER_STEP + 1)
        rows = self._frames.current([begin + tick * TICK_US for tick in ticks], what["episode"])
        return Record(scene, found, rows, road_map, route, target_points(route))

    def _calm(self, start: DreamScene) -> dict[str, Any]:
        """What a takeover's row would say of a calm start frame; it ends where it begins."""
        episode = str(self._frames.episode[start.frame_row])
        return {
            "takeover": start.takeover,
            "trigger": start.trigger,
            "detail": start.detail,
            "episode": episode,
            "town": self._episodes[episode]["town"],
            "end_us": int(self._frames.time_us[start.frame_row]),
        }


def camera_of(dataset: Dataset) -> Camera:
    """A camera with the rig that the dataset was recorded with."""
    return Camera.of(Rig.of(dataset.meta["rig"]))


def start_index(route: Route, position_world: NDArray[np.floating]) -> int:
    """Index of the last route point passed, by the nearest one."""
    delta = route.points_world[:, :2].astype(np.float64) - position_world[:2]
    nearest = int(np.hypot(delta[:, 0], delta[:, 1]).argmin())
    return nearest if _along(route, nearest, position_world) > 0.0 else max(nearest - 1, 0)


def next_index(route: Route, index: int, position_world: NDArray[np.floating], window: int) -> int:
    """The route index after a move, at most `window` points on (as the leaderboard's)."""
    last = min(index + window, len(route.s_m) - 1)
    passed = [k for k in range(index, last + 1) if _along(route, k, position_world) > 0.0]
    return max(passed, default=index)


def _along(route: Route, k: int, position_world: NDArray[np.floating]) -> float:
    dx, dy = position_world[:2] - route.points_world[k, :2]
    heading = float(route.heading_rad[k])
    return float(dx * np.cos(heading) + dy * np.sin(heading))
