"""Dreams of calm driving: start frames at which nothing was amiss, and what was driven from there on.

Scenes rebuilt from takeovers alone show a policy only what it should not have done, mostly to drive on.  It
then learns to brake, and brakes where it should pass.  Here the ego drove on without fault: the policy by
itself, or the expert after it took over, past what the policy would have stood behind.  The reference of a
calm scene, the "expert" of its reward, is the recorded drive itself.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from takevla.dataset.reader import Dataset, numpy_column
from takevla.learn.balance import evenly_drawn
from takevla.learn.dream.audit import AuditLimits, expert_is_safe
from takevla.learn.dream.reconstruct import STEP_US, FrameIndex, dream_scene, traced_route
from takevla.learn.dream.scenes import CALM, STEP_S, DreamScene
from takevla.world.maps.atlas import load_town

ROLES = ("other", "takeover")  # of start frames; before a takeover something was amiss
APART_M = 3.0  # a policy whose plan ends (2.5 s) further than this from the expert's is not at ease


def calm_scenes(
    dataset: Dataset,
    count: int,
    *,
    horizon_s: float,
    reacting: float,
    limits: AuditLimits,
    seed: int,
    least_mps: float = 0.0,
    maps_dir: Path | None = None,
) -> list[DreamScene]:
    """At most `count` scenes of calm driving, by the seed; rare situations as often as others.

    They begin at a speed of at least `least_mps`.  Left out are frames whose record is too short (datasets
    that keep scenes around takeovers alone have few that are long enough), cannot be replayed, or has a
    fault.
    """
    frames = FrameIndex(dataset)
    episodes = {row["episode"]: row for row in dataset.episodes.to_pylist()}
    rows = _drawn(dataset, count, seed, least_mps)
    chance = np.random.default_rng([seed, 0xCA])
    steps = round(horizon_s / STEP_S)
    scenes: list[DreamScene] = []
    for name, mine in groupby(rows.tolist(), key=lambda row: str(frames.episode[row])):
        episode = episodes[name]
        road_map = load_town(episode["town"], maps_dir)
        route = traced_route(episode["town"], tuple(episode["keypoints_world"]), maps_dir)
        for row in mine:
            begin = int(frames.time_us[row])
            wanted = [begin + STEP_US * step for step in range(steps + 1)]
            found = {scene.time_us: scene for scene in dataset.scenes(name, wanted[0], wanted[-1])}
            if not found.keys() >= set(wanted):
                continue
            what = {"takeover": f"{name} at {begin / 1e6:g} s", "trigger": CALM, "detail": ""}
            record = [found[time_us] for time_us in wanted]
            scene = dream_scene(what, row, record, road_map, route, frames, reacting, chance)
            if limits.replays(scene) and expert_is_safe(scene):
                scenes.append(scene)
    return scenes


def _drawn(dataset: Dataset, count: int, seed: int, least_mps: float) -> NDArray[np.int64]:
    """Ascending rows of calm frames, every situation as likely as the others."""
    calm = np.isin(dataset.column("role").astype(str), ROLES) & _unharmed(dataset) & _agreed(dataset)
    rows = np.flatnonzero(calm & (dataset.column("speed_mps") >= least_mps))
    return evenly_drawn(dataset, rows, count, np.random.default_rng([seed, 0xCB]))


def _unharmed(dataset: Dataset) -> NDArray[np.bool_]:
    """(N,) frames before the first failure of their episode."""
    names = numpy_column(dataset.episodes, "episode").astype(str)
    failure = numpy_column(dataset.episodes, "first_failure_us")
    order = np.argsort(names)
    at = order[np.searchsorted(names[order], dataset.column("episode").astype(str))]
    return (failure[at] < 0) | (dataset.column("time_us") < failure[at])


def _agreed(dataset: Dataset) -> NDArray[np.bool_]:
    """(N,) frames that the expert drives, or at which the policy's plan ends near the expert's."""
    ends = [dataset.column(f"{who}_waypoints_ego")[:, -2:] for who in ("policy", "expert")]
    near = np.linalg.norm(ends[0] - ends[1], axis=1) < APART_M  # false without a policy's plan
    return near | (dataset.column("driver").astype(str) == "expert")
