"""The shipped models: they load, they drive by camera alone, and their words matter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from takevla.bench.suites import load_suite
from takevla.driver.closed_loop import Seat, observe
from takevla.driver.vla.checkpoint import Checkpoint, load_checkpoint
from takevla.driver.vla.named import SHIPPED_BASE, SHIPPED_POST_TRAINED, model_folder
from takevla.driver.vla.policy import VlaDriver
from takevla.scene.plan import Observation
from takevla.world.camera import Camera
from takevla.world.embedded import EmbeddedWorld
from takevla.world.maps.atlas import load_town

STOP, GO = "brake to 0m/s for the red light 5m ahead", "speed up to 8m/s on the free road"


@pytest.fixture(scope="module", params=[SHIPPED_BASE, SHIPPED_POST_TRAINED])
def shipped(request: pytest.FixtureRequest) -> Checkpoint:
    return load_checkpoint(model_folder(request.param))


@pytest.fixture(scope="module")
def views() -> list[Observation]:
    """What the ego sees at the start of four routes, as if it drove at 5 m/s."""
    camera, seen = Camera(), []
    for index, task in enumerate(load_suite("train").tasks[:400:100]):
        world = EmbeddedWorld(load_town(task.town), task, seed=0)
        view = observe(world, Seat(index, world), camera, privileged=False)
        seen.append(replace(view, speed_mps=5.0))
    return seen


@pytest.mark.parametrize("name", [SHIPPED_BASE, SHIPPED_POST_TRAINED])
def test_a_shipped_model_fits_in_thirty_megabytes(name):
    assert sum(file.stat().st_size for file in model_folder(name).iterdir()) < 30e6


def test_saying_stop_slows_the_plan_and_saying_go_does_not(shipped, views):
    def last_speed(words: str) -> np.ndarray:
        driver = VlaDriver(shipped.model, shipped.tokenizer, forced=lambda _: words)
        points = np.stack([plan.waypoints_ego for plan in driver.plan(views)])
        return np.linalg.norm(points[:, -1] - points[:, -3], axis=-1) / 0.5

    assert (last_speed(GO) - last_speed(STOP)).mean() > 2.0


def test_a_plan_of_a_shipped_model_says_something_and_is_finite(shipped, views):
    driver = VlaDriver(shipped.model, shipped.tokenizer, residual=shipped.residual, opening=shipped.opening)
    for plan in driver.plan(views):
        assert plan.commentary
        assert np.isfinite(plan.route_ego).all()
        assert np.isfinite(plan.waypoints_ego).all()
