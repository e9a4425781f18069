"""The seam to whoever drives: the VLA, the expert, a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from takevla.scene.plan import Observation, Plan
from takevla.world.camera.rig import Rig


class Driver(Protocol):
    """Turns observations of many worlds into plans, in one batch.

    Memory that a driver keeps (a stop sign already honoured, say) is keyed by `Observation.seat`.
    """

    @property
    def name(self) -> str:
        """How results name it."""
        ...

    @property
    def needs_image(self) -> bool:
        """Whether `Observation.image` must be rendered."""
        ...

    @property
    def rig(self) -> Rig:
        """The camera that takes `Observation.image`, and the pictures that are shown of its drives."""
        ...

    @property
    def needs_privilege(self) -> bool:
        """Whether `Observation.privileged` must be filled."""
        ...

    @property
    def period_us(self) -> int:
        """Time between plans; a whole multiple of the tick."""
        ...

    def reset(self, seats: Sequence[int]) -> None:
        """Forget everything about these seats; new routes start there."""
        ...

    def plan(self, observations: Sequence[Observation]) -> list[Plan]:
        """One plan for each observation, in order.  The result of a row does not depend on the others."""
        ...
