"""Dreams against the world that they were recorded in: takeovers of a driver that heeds nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from short_drives import CONFIG

from takevla.bench.suites import load_suite, refuse_for_training
from takevla.dataset.collect import collect_takeovers
from takevla.dataset.reader import Dataset
from takevla.learn.dream.audit import DreamAudit
from takevla.learn.dream.config import DreamConfig
from takevla.learn.dream.reconstruct import Rebuilt
from takevla.learn.dream.sift import UNREPLAYED, replayed_scenes, sifted
from takevla.learn.dream.verdict import Verdict, world_verdict
from takevla.scene.plan import Observation, Plan
from takevla.world.camera import Rig

ROUTES = 6
TRIGGERS = ("collision", "follow", "rule")  # it never stands


class Heedless:
    """Drives at 7 m/s straight to one target point after the other."""

    name = "heedless"
    needs_image = False
    needs_privilege = False
    rig = Rig()
    period_us = 250_000

    def reset(self, seats: Sequence[int]) -> None:
        pass

    def plan(self, observations: Sequence[Observation]) -> list[Plan]:
        return [self._plan(observation.target_points_ego) for observation in observations]

    def _plan(self, targets: np.ndarray) -> Plan:
        line = np.concatenate([np.zeros((1, 2)), targets])
        s = np.concatenate([[0.0], np.linalg.norm(np.diff(line, axis=0), axis=1).cumsum()])

        def at(where: np.ndarray) -> np.ndarray:
            return np.stack([np.interp(where, s, line[:, k]) for k in range(2)], axis=1).astype(np.float32)

        return Plan(at(np.arange(1.0, 21.0)), at(1.75 * np.arange(1, 11)), "hold 7m/s on the free road")


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Rebuilt, DreamAudit, Verdict]:
    """Scenes of a few training routes, their audit, and the world's word on them."""
    suite = load_suite("train")
    tasks = suite.tasks[:: len(suite.tasks) // ROUTES][:ROUTES]
    out = tmp_path_factory.mktemp("heedless") / "data"
    config = replace(CONFIG, density=suite.density)
    collect_takeovers(tasks, Heedless, "heedless", out, 0, refuse_for_training, 1, config)
    dataset, dreams = Dataset(out), DreamConfig()
    rebuilt = replayed_scenes(dataset, dreams, seed=0)
    verdict = world_verdict(dataset, rebuilt.scenes, tasks, limits=dreams.limits)
    return rebuilt, sifted(rebuilt, dreams)[1], verdict


def test_the_controls_applied_lead_along_every_record(judged: tuple[Rebuilt, DreamAudit, Verdict]) -> None:
    rebuilt, report, _ = judged
    assert rebuilt.left_out[UNREPLAYED] == 0
    assert report.replay_error_m is not None
    assert report.replay_error_m < 0.05
    assert report.replay_error_deg is not None
    assert report.replay_error_deg < 0.5


def test_plans_fail_in_the_dream_as_in_the_world(judged: tuple[Rebuilt, DreamAudit, Verdict]) -> None:
    verdict = judged[2]
    assert not verdict.world_left_out
    assert all(verdict.world_failures[trigger] for trigger in TRIGGERS)
    failures = sum(verdict.world_failures.values())
    shown = sum(verdict.world_failures[one] * getattr(verdict, f"world_recall_{one}") for one in TRIGGERS)
    assert shown / failures >= 0.9
    assert verdict.actors_compared > 5
    assert verdict.actors_astray is not None
    assert verdict.actors_astray < 0.25


def test_the_experts_plans_stay_free_of_fault(judged: tuple[Rebuilt, DreamAudit, Verdict]) -> None:
    report = judged[1]
    assert report.takeovers >= 5
    assert report.expert_success is not None
    assert report.expert_success >= 0.9
