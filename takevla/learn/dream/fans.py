"""Fans of dreams to look at: what the policy tried in a few scenes before and after it had learned.

An open dream shows plans followed to the horizon, a closed one the driven paths of whole episodes.

Of each trigger the scene is shown whose gain in reward is the median of its trigger's, the lower middle one
of an even number: neither the best nor the worst.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from takevla.learn.dream.reward import Reward
from takevla.learn.dream.scenes import DRIVABLE, DreamScene
from takevla.learn.dream.simulate import Measures, Trajectories, expert_trajectory, roll_out

Float = NDArray[np.float32]
EVERY = 4  # steps between two points of a path that is kept


def shown_scenes(scenes: Sequence[DreamScene], gains: Float) -> list[int]:
    """Rows of the scenes to show, triggers in alphabetical order; `gains` (S,) in reward."""
    rows = []
    for trigger in sorted({scene.trigger for scene in scenes}):
        mine = [row for row, scene in enumerate(scenes) if scene.trigger == trigger]
        mine.sort(key=lambda row: (float(gains[row]), row))
        rows.append(mine[(len(mine) - 1) // 2])
    return rows


def fan(measures: Measures, reward: Reward) -> dict[str, Any]:
    """Paths and rewards of what was tried, and the terms of the first, which drives."""
    total, reports = reward(measures)
    return {
        "reward": [round(float(value), 4) for value in total],
        "paths": [_path(one) for one in measures.trajectories.poses],
        "terms": {name: round(float(report.value[0]), 4) for name, report in reports.items()},
    }


def surroundings(scene: DreamScene, steps: int) -> dict[str, Any]:
    """What stands around a fan: road, actors at the start, the recorded plan's and the expert's paths."""
    plan = scene.policy_plan
    recorded = roll_out(scene, plan.route_ego[None], plan.waypoints_ego[None], steps)
    present = scene.actor_valid[0]
    road = np.packbits(scene.raster & DRIVABLE != 0)
    return {
        "takeover": scene.takeover,
        "trigger": scene.trigger,
        "detail": scene.detail,
        "ego_extent_m": scene.ego_extent_m.tolist(),
        "road": base64.b64encode(road.tobytes()).decode(),
        "road_shape": list(scene.raster.shape),
        "actors": np.round(scene.actor_pose[0, present], 2).tolist(),
        "actors_after": np.round(scene.actor_pose[steps, present, :3], 2).tolist(),
        "actor_extents_m": np.round(scene.actor_extent_m[present], 2).tolist(),
        "closed_lines": np.round(scene.stop_lines[scene.stop_closed[0]], 2).tolist(),
        "recorded": _first(recorded),
        "expert": _first(expert_trajectory(scene, steps)),
    }


def _first(trajectories: Trajectories) -> list[list[float]]:
    return _path(trajectories.poses[0])


def _path(poses: Float) -> list[list[float]]:
    return [[round(float(x), 2), round(float(y), 2)] for x, y in poses[::EVERY, :2]]
