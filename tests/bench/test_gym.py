"""The Gymnasium environments."""

from __future__ import annotations

import doctest
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gymnasium")
import gymnasium
from gymnasium.utils.env_checker import check_env

from takevla.bench.gym import CONTROLS_ID, PLAN_ID, register


@pytest.mark.parametrize("name", [CONTROLS_ID, PLAN_ID])
def test_environments_pass_the_checker(name: str) -> None:
    register()
    env = gymnasium.make(name, density=0.0, image_size=(96, 32))
    check_env(env.unwrapped, skip_render_check=True)


def test_full_throttle_gains_the_metres_that_it_is_paid() -> None:
    env = gymnasium.make(CONTROLS_ID, density=0.0, image_size=(96, 32)).unwrapped
    env.reset(seed=0)
    rewards = []
    for _ in range(60):
        _, reward, *_, info = env.step(np.array([0.0, 1.0, 0.0], np.float32))
        assert reward == pytest.approx(info["progress_m"] - 50.0 * len(info["events"]))
        rewards.append(info["progress_m"])
    assert sum(rewards) > 3.0


def test_the_example_of_the_page_does_what_it_says() -> None:
    page = Path(__file__).parents[2] / "docs/ecosystem.md"
    result = doctest.testfile(str(page), module_relative=False)
    assert result.attempted >= 8
    assert result.failed == 0
