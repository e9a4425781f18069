"""The monitor: who drives.  A transition table over (phase, event), as data.

AUTONOMOUS: the policy drives.  TAKEN_OVER: the expert drives, the danger is not past.  HANDING_BACK:
the expert still drives, all has been calm since a moment ago.  A takeover begins when AUTONOMOUS is
left and ends when it is entered; the phases between belong to one takeover.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class Phase(IntEnum):
    """Who drives, and how far a takeover has come."""

    AUTONOMOUS = 0
    TAKEN_OVER = 1
    HANDING_BACK = 2


class Event(IntEnum):
    """What an instant means to the monitor.  Of those that apply, the highest value counts."""

    UNEASY = 0  # no alarm, but policy and expert do not agree
    CALM = 1  # no alarm, and they agree
    ALARM = 2
    HELD = 3  # calm for long enough, and the takeover has lasted its least time
    TIMEOUT = 4  # the takeover has lasted its greatest time


TRANSITIONS: Final[Mapping[tuple[Phase, Event], Phase]] = {
    (Phase.AUTONOMOUS, Event.UNEASY): Phase.AUTONOMOUS,
    (Phase.AUTONOMOUS, Event.CALM): Phase.AUTONOMOUS,
    (Phase.AUTONOMOUS, Event.ALARM): Phase.TAKEN_OVER,
    (Phase.AUTONOMOUS, Event.HELD): Phase.AUTONOMOUS,
    (Phase.AUTONOMOUS, Event.TIMEOUT): Phase.AUTONOMOUS,
    (Phase.TAKEN_OVER, Event.UNEASY): Phase.TAKEN_OVER,
    (Phase.TAKEN_OVER, Event.CALM): Phase.HANDING_BACK,
    (Phase.TAKEN_OVER, Event.ALARM): Phase.TAKEN_OVER,
    (Phase.TAKEN_OVER, Event.HELD): Phase.HANDING_BACK,
    (Phase.TAKEN_OVER, Event.TIMEOUT): Phase.AUTONOMOUS,
    (Phase.HANDING_BACK, Event.UNEASY): Phase.TAKEN_OVER,
    (Phase.HANDING_BACK, Event.CALM): Phase.HANDING_BACK,
    (Phase.HANDING_BACK, Event.ALARM): Phase.TAKEN_OVER,
    (Phase.HANDING_BACK, Event.HELD): Phase.AUTONOMOUS,
    (Phase.HANDING_BACK, Event.TIMEOUT): Phase.AUTONOMOUS,
}


@dataclass(frozen=True)
class MonitorConfig:
    """How long takeovers last."""

    least_s: float = 2.0
    calm_s: float = 1.0  # without alarm and in agreement before the hand-back
    greatest_s: float = 20.0  # then the policy drives again, alarm or not

    def __post_init__(self) -> None:
        if not 0.0 <= self.least_s <= self.greatest_s or self.calm_s < 0.0:
            raise ValueError(
                f"takeover.monitor: least_s {self.least_s}, greatest_s {self.greatest_s} and calm_s "
                f"{self.calm_s} are no times; give 0 s or more, the least not above the greatest"
            )


@dataclass(frozen=True, slots=True)
class Monitor:
    """State of one seat's monitor; -1 where a time does not apply."""

    phase: Phase = Phase.AUTONOMOUS
    taken_since_us: int = -1
    calm_since_us: int = -1

    @property
    def expert_drives(self) -> bool:
        """Whether the expert's plan is the one to follow."""
        return self.phase != Phase.AUTONOMOUS


def event(before: Monitor, now_us: int, alarm: bool, agreement: bool, config: MonitorConfig) -> Event:
    """The event that an instant is."""
    if before.expert_drives and now_us - before.taken_since_us >= config.greatest_s * 1e6:
        return Event.TIMEOUT
    if alarm:
        return Event.ALARM
    if not agreement:
        return Event.UNEASY
    calm = before.phase == Phase.HANDING_BACK and now_us - before.calm_since_us >= config.calm_s * 1e6
    return Event.HELD if calm and now_us - before.taken_since_us >= config.least_s * 1e6 else Event.CALM


def step(before: Monitor, now_us: int, alarm: bool, agreement: bool, config: MonitorConfig) -> Monitor:
    """The monitor after an instant at which there was an alarm or not, and agreement or not."""
    phase = TRANSITIONS[before.phase, event(before, now_us, alarm, agreement, config)]
    if phase == Phase.AUTONOMOUS:
        return Monitor()
    taken = before.taken_since_us if before.expert_drives else now_us
    if phase == Phase.TAKEN_OVER:
        return Monitor(phase, taken)
    return Monitor(phase, taken, before.calm_since_us if before.phase == phase else now_us)
