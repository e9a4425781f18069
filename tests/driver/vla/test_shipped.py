"""The shipped base model: it loads, it drives by camera alone, and its words matter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from takevla.bench.suites import load_suite
from takevla.driver.closed_loop import Seat, observe
from takevla.driver.vla.checkpoint import Checkpoint, load_checkpoint
from takevla.driver.vla.named import shipped_base
from takevla.driver.vla.policy import VlaDriver
from takevla.scene.plan import Observation
from takevla.world.camera import Camera
from takevla.world.embedded import EmbeddedWorld
from takevla.world.maps.atlas import load_town

STOP, GO = "brake to 0m/s for the red light 5m ahead", "speed up to 8m/s on the free road"


@pytest.fixture(scope="module")
def base() -> Checkpoint:
    return load_checkpoint(shipped_base())


@pytest.fixture(scope="module")
def views() -> list[Observation]:
    """What the ego sees at the start of four routes, as if it drove at 5 m/s."""
    camera, seen = Camera(), []
    for index, task in enumerate(load_suite("train").tasks[:400:100]):
        world = EmbeddedWorld(load_town(task.town), task, seed=0)
        view = observe(world, Seat(index, world), camera, privileged=False)
        seen.append(replace(view, speed_mps=5.0))
    return seen


def test_the_shipped_base_fits_in_thirty_megabytes():
    assert sum(file.stat().st_size for file in shipped_base().iterdir()) < 30e6


def test_saying_stop_slows_the_plan_and_saying_go_does_not(base, views):
    def last_speed(words: str) -> np.ndarray:
        driver = VlaDriver(base.model, base.tokenizer, forced=lambda _: words)
        points = np.stack([plan.waypoints_ego for plan in driver.plan(views)])
        return np.linalg.norm(points[:, -1] - points[:, -3], axis=-1) / 0.5

    assert (last_speed(GO) - last_speed(STOP)).mean() > 2.0


def test_a_plan_of_the_shipped_base_says_something_and_is_finite(base, views):
    for plan in VlaDriver(base.model, base.tokenizer).plan(views):
        assert plan.commentary
        assert np.isfinite(plan.route_ego).all()
        assert np.isfinite(plan.waypoints_ego).all()
