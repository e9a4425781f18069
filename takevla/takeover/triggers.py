"""Triggers: when the expert must take over."""

from __future__ import annotations

from enum import IntEnum


class Trigger(IntEnum):
    """Why the expert takes over."""

    FOLLOW = 0  # closes on the leader beyond a safe gap, or leaves the course
    COLLISION = 1  # overlap predicted within the forecast
    RESTART = 2  # stands though the expert would go
    RULE = 3  # is about to cross a stop line that it must stop at
