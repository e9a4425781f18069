"""Roll-outs of plans in many scenes, as jobs: any number of workers gives the same bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from takevla.learn.dream.reward import Reward, preset
from takevla.learn.dream.scenes import STEP_S, DreamScene
from takevla.learn.dream.simulate import measure, roll_out
from takevla.scale import Crew, JobFailure, Report

Float = NDArray[np.float32]
SCENES_IN_A_JOB = 64


@dataclass(frozen=True, eq=False)
class PlanRows:
    """Plans for the N scenes from number `first` on, G for each."""

    first: int
    route_ego: Float  # (N, G, 20, 2) m
    waypoints_ego: Float  # (N, G, 10, 2) m
    true_words: Float | None  # (N,) share of the words that name the expert's action and cause


@dataclass(frozen=True, eq=False)
class RollOuts:
    """Scenes and what is rewarded in them; called with plans it gives reward and failure, both (N, G)."""

    scenes: tuple[DreamScene, ...]
    preset_name: str
    terms: Mapping[str, float]
    steps: int

    @classmethod
    def of(
        cls, scenes: Sequence[DreamScene], preset_name: str, terms: Mapping[str, float], horizon_s: float
    ) -> Self:
        """Roll-outs of `horizon_s` with a preset of rewards and terms of one's own."""
        return cls(tuple(scenes), preset_name, dict(terms), round(horizon_s / STEP_S))

    @cached_property
    def _reward(self) -> Reward:
        return preset(self.preset_name, dict(self.terms))

    def __call__(self, job: PlanRows, report: Report) -> tuple[Float, Float]:
        """Roll out and reward; failure is 1 where the reward says so (`Reward.failed`)."""
        total = np.empty(job.route_ego.shape[:2], np.float32)
        failed = np.empty(job.route_ego.shape[:2], np.float32)
        for row, (route, waypoints) in enumerate(zip(job.route_ego, job.waypoints_ego, strict=True)):
            scene = self.scenes[job.first + row]
            measures = measure(scene, roll_out(scene, route, waypoints, self.steps))
            if job.true_words is not None:
                words = np.full(len(route), job.true_words[row], np.float32)
                measures = replace(measures, words=words)
            total[row], reports = self._reward(measures)
            failed[row] = self._reward.failed(measures, reports)
        return total, failed

    def __getstate__(self) -> dict[str, Any]:
        """Scenes travel without the tables that were worked out of them."""
        return {
            "scenes": tuple(replace(scene) for scene in self.scenes),
            "preset_name": self.preset_name,
            "terms": self.terms,
            "steps": self.steps,
        }


def rewards_of(
    crew: Crew[PlanRows, tuple[Float, Float]],
    route_ego: Float,
    waypoints_ego: Float,
    true_words: Float | None = None,
) -> tuple[Float, Float]:
    """Reward and failure (S, G) of plans (S, G, 20, 2) and (S, G, 10, 2), by a crew that holds `RollOuts`."""
    firsts = range(0, len(route_ego), SCENES_IN_A_JOB)
    parts = [slice(first, first + SCENES_IN_A_JOB) for first in firsts]
    jobs = [
        PlanRows(
            part.start, route_ego[part], waypoints_ego[part], None if true_words is None else true_words[part]
        )
        for part in parts
    ]
    found: list[tuple[Float, Float]] = []
    for result in crew.run(jobs, [f"dreams from scene {k} on" for k in firsts]):
        if isinstance(result, JobFailure):
            raise RuntimeError(f"{result}; run it again")
        found.append(result)
    total, failed = (np.concatenate(part) for part in zip(*found, strict=True))
    return total, failed
