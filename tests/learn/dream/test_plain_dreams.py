"""The slow forms of a dream that the benchmark compares with measure what the kernels measure."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from takevla.learn.dream.reward import preset
from takevla.learn.dream.simulate import measure, roll_out

STEPS = 40


@pytest.fixture(scope="module")
def forms():
    """The benchmark's modules."""
    sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
    try:
        import dream
        import dream_plain
        import dream_shapely
    finally:
        sys.path.pop(0)
    return dream, dream_plain, dream_shapely


def busy(dream):
    """The benchmark's scene with a stop sign, and an actor that leaves."""
    here = dream.scene(STEPS)
    valid = here.actor_valid.copy()
    valid[25:, 7] = False
    sign = dream.on_bend(np.array(8.0), np.array([1.75, -1.75]))[:, :2].reshape(1, 4)
    return replace(
        here, actor_valid=valid, stop_lines=np.concatenate([here.stop_lines, sign.astype(np.float32)]),
        stop_closed=np.ones((STEPS + 1, 2), np.bool_), stop_is_sign=np.array([False, True]),
    )  # fmt: skip


def test_the_form_of_navsims_scorer_measures_what_the_kernels_measure(forms):
    dream, _, shapely_form = forms
    here = busy(dream)
    routes, waypoints = dream.plans(here)
    routes[::2, :, 1] += np.linspace(-11, 11, len(routes) // 2)[:, None] * np.linspace(0, 1, 20)
    waypoints[::5] *= 0.2
    fast = measure(here, roll_out(here, routes, waypoints, STEPS))
    around = shapely_form.Surroundings.of(here, STEPS)
    slow = shapely_form.full(around, routes.astype(np.float64), waypoints.astype(np.float64), STEPS)
    for name in ("collision_s", "fault_s", "offroad_s", "rule_s", "ttc_s"):
        one, other = getattr(fast, name), getattr(slow, name)
        assert np.isfinite(one).any(), name
        assert np.isinf(one).any(), name
        assert _differ(one, other) <= 1, (
            name
        )  # an edge met within float32 of an instant may count a step later
    assert (fast.fault_static != slow.fault_static).sum() <= 1
    assert fast.fault_static.any()
    assert (fast.collision_actor != slow.collision_actor).sum() <= 1
    assert np.allclose(fast.progress_m, slow.progress_m, atol=0.05)
    assert _differ(fast.wrong_way_m, slow.wrong_way_m) <= 1
    assert fast.wrong_way_m.max() > 2.0
    assert _differ(fast.off_centre_s, slow.off_centre_s) <= 1
    assert _differ(fast.comfort_share, slow.comfort_share) <= 3  # a limit met within float32
    assert np.abs(fast.comfort_share - slow.comfort_share).max() <= 1.01 / STEPS  # decides one step
    reward = preset("pdm")
    assert _differ(reward(fast)[0], reward(slow)[0]) <= 2


def _differ(one, other) -> int:
    """In how many rows two measures differ."""
    return int((np.abs(np.nan_to_num(one, posinf=99.0) - np.nan_to_num(other, posinf=99.0)) > 1e-3).sum())


def test_the_lean_form_rolls_out_and_collides_as_the_kernels_do(forms):
    dream, plain, _ = forms
    here = busy(dream)
    routes, waypoints = dream.plans(here)
    fast = measure(here, roll_out(here, routes, waypoints, STEPS))
    slow = plain.full(here, routes.astype(np.float64), waypoints.astype(np.float64), STEPS)
    assert np.abs(fast.trajectories.poses[..., :2] - slow["path"][..., :2]).max() < 0.05
    assert np.isfinite(fast.collision_s).any()
    assert _differ(fast.collision_s, slow["collision_s"]) <= 1
    assert _differ(fast.comfort_share, slow["comfort"]) <= 1
