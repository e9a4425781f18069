"""How much room and time the expert keeps to those whose way it crosses."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Final


@dataclass(frozen=True)
class Margins:
    """Room and time between the ego and whoever it would meet.

    The expert knows every speed exactly, and the defaults are no more than it needs itself.  Who learns
    from it sees less well, and misjudges a gap by half a second and more.  `CAREFUL` keeps two to three
    times the time and 1.6 times the room, so that what is learned from it still fits then.

    `beside_m`, `walker_m`: air beside another's corridor, and beside a pedestrian's.  `before_s`,
    `after_s`: gone so long before one who has right of way arrives (less after a long wait, at least 0.4 s),
    and no sooner there than so long after it has left; `runner_s` is the first for one without right of way
    who will not stop; `alert_s` is both for one who should give way to the ego; `walker_before_s` and
    `walker_after_s` are those for a pedestrian.
    """

    beside_m: float = 0.25
    walker_m: float = 0.6
    before_s: float = 1.2
    after_s: float = 0.4
    runner_s: float = 2.0
    alert_s: float = 0.3
    walker_before_s: float = 0.8
    walker_after_s: float = 0.3

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not 0.0 <= value < math.inf:
                raise ValueError(f"margins.{one.name}: {value} is no margin; give 0 or more")


ORDINARY: Final = Margins()
CAREFUL: Final = Margins(
    beside_m=0.4, walker_m=1.0, before_s=3.5, after_s=1.0, runner_s=4.0, alert_s=1.0, walker_before_s=1.5,
    walker_after_s=0.6,
)  # fmt: skip
