"""How far sampled plans scatter: a spread that the head learns, or one that the recipe schedules.

Either way the spread of each mode stays between `STD_FLOOR` and `STD_CEILING` of the residual.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from takevla.driver.vla.residual import STD_CEILING, STD_FLOOR, STD_START, STILL, PlanDistribution


@dataclass(frozen=True)
class NoiseConfig:
    """Where the spread of sampled plans comes from.

    `learned`: the head says it for each frame and mode.  `scheduled`: it is the same for all, going from
    `start` at the first update to `end` at the last in a straight line (standard deviations of the modes,
    units of z).  The schedule explores and is no part of the policy: the reference scatters alike, so that
    the KL is about the means alone.
    """

    kind: Literal["learned", "scheduled"] = "learned"
    start: float = STD_START
    end: float = 0.2

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            value = getattr(self, name)
            if not STD_FLOOR <= value <= STD_CEILING:
                raise ValueError(
                    f"dream.noise.{name}: {value} is outside {STD_FLOOR} to {STD_CEILING}, floor and ceiling"
                )

    def std(self, update: int, updates: int) -> float:
        """The scheduled spread of update number `update`, from 0, of `updates`."""
        share = min(update / max(updates - 1, 1), 1.0)
        return self.start + share * (self.end - self.start)

    def applied(self, learned: PlanDistribution, update: int, updates: int) -> PlanDistribution:
        """The distribution that plans are drawn from at an update; a mode that is left out stays so."""
        if self.kind == "learned":
            return learned
        spread = torch.full_like(learned.std, self.std(update, updates))
        return PlanDistribution(learned.mean, torch.where(learned.std > STILL, spread, learned.std))
