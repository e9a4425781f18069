"""Held starts: the brake keeps an expert that would set off standing for a while longer.

An expert sets off at the first instant at which it may, so that of a hundred frames in which the ego stands
at a line only one shows what going looks like.  Held there, it sees green lights, gaps that open and gaps
that close, and says of each whether to go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from takevla.dataset.buckets import STANDSTILL_MPS, START_MPS
from takevla.driver.closed_loop import Burst, Seat
from takevla.scene.plan import Observation, Plan
from takevla.scene.scene import TICK_US, Controls, Ego
from takevla.takeover.commentary import planned_speed_mps

_STREAM: Final = 0x401D  # names the generator of holds


@dataclass(frozen=True)
class Holds:
    """How often a start is held, how long, and how soon after one the next may be."""

    share: float = 0.7  # of the starts
    lasts_s: tuple[float, float] = (0.25, 2.5)
    apart_s: float = 4.0


class Holder:
    """A listener that adds the holds to the bursts of each seat; `seeds` gives each seat its own chance."""

    def __init__(self, holds: Holds, seeds: Mapping[int, int]) -> None:
        self._holds = holds
        self._random = {seat: np.random.default_rng([seed, _STREAM]) for seat, seed in seeds.items()}
        self._free_us = dict.fromkeys(seeds, 0)

    def on_plan(self, seat: Seat, observation: Observation, plan: Plan) -> None:
        """Decide about a start."""
        now = observation.time_us
        starts = observation.speed_mps < STANDSTILL_MPS and planned_speed_mps(plan) >= START_MPS
        if not starts or now < self._free_us[seat.index]:
            return
        random, holds = self._random[seat.index], self._holds
        self._free_us[seat.index] = now + round(holds.apart_s * 1e6)
        if random.random() < holds.share:
            ticks = round(float(random.uniform(*holds.lasts_s)) * 1e6 / TICK_US)
            seat.bursts = (*seat.bursts, Burst(now, now + ticks * TICK_US, brake=1.0))

    def on_tick(self, seat: Seat, ego: Ego, controls: Controls) -> None:
        """Nothing to do."""

    def on_finish(self, seat: Seat) -> None:
        """Nothing to do."""
