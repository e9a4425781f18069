"""The expert in shadow of a driver that keeps the wheel: are its words right, and how early does it answer?

`ShadowListener` follows a drive without touching it.  At each plan it asks the expert, compares what was said
with what the expert would have said, and steps the takeover monitor as a collection does, so that takeovers
that would have been called for are counted.  `route_words` sums up a route.

Hazard: an actor that the expert names as his cause while he brakes or slows down; pauses of less than
`SAME_HAZARD_S` belong to one hazard.  Its conflict is the tick of least time-to-collision from the first
instant at which it is named to `AFTER_NAMED_S` after the last; where that is above `CONFLICT_TTC_S`, nothing
came near and there was no hazard.  Leads are counted back from the conflict, at most `LOOK_BACK_S`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from takevla.driver.closed_loop import Seat, observe
from takevla.driver.driver import Driver
from takevla.scene.plan import Action, Cause, Observation, Plan
from takevla.scene.scene import TICK_US, Controls, Ego
from takevla.takeover.commentary import parse, plan_commentary
from takevla.takeover.monitor import Monitor, step
from takevla.takeover.shadow import TakeoverConfig
from takevla.takeover.triggers import Watch, look, watch

SAME_HAZARD_S: Final = 2.0
AFTER_NAMED_S: Final = 1.0
CONFLICT_TTC_S: Final = 3.0
LOOK_BACK_S: Final = 6.0
BRAKING: Final = 0.1  # share of full brake that counts as braking
_SLOWS: Final = (Action.STOP, Action.DECELERATE)
_ANSWERS: Final = (Action.REMAIN_STOPPED, Action.STOP, Action.DECELERATE)


@dataclass(frozen=True, slots=True)
class Instant:
    """One plan: what was said (None where nothing that can be read), and what the expert would say."""

    time_us: int
    said: tuple[Action, Cause] | None
    expert: tuple[Action, Cause]
    actor_id: int  # the expert's cause, -1 for none


@dataclass(frozen=True, slots=True)
class Hazard:
    """How long before its conflict a hazard was answered, s; None where it was not."""

    cause: Cause
    words_s: float | None  # the driver's words slow down for the cause
    braking_s: float | None  # it brakes
    expert_s: float  # the expert names it


@dataclass
class Shadowed:
    """What was noted of one drive."""

    instants: list[Instant] = field(default_factory=list)
    braking_us: list[int] = field(default_factory=list)  # ticks at which the brake was pressed
    takeovers: int = 0
    monitor: Monitor = field(default_factory=Monitor)
    watch: Watch = field(default_factory=Watch)


class ShadowListener:
    """A listener of `driver.closed_loop.drive` with the expert in shadow."""

    def __init__(self, expert: Driver, config: TakeoverConfig | None = None) -> None:
        self._expert, self._config = expert, config or TakeoverConfig()
        self.drives: dict[int, Shadowed] = {}  # by index of the seat

    def on_plan(self, seat: Seat, observation: Observation, plan: Plan) -> None:
        """Ask the expert, and compare."""
        if seat.index not in self.drives:
            self.drives[seat.index] = Shadowed()
            self._expert.reset([seat.index])
        seen = observe(seat.world, seat, None, privileged=True)
        answer = self._expert.plan([seen])[0]
        if seen.privileged is None or answer.reason is None:
            raise ValueError("the driver in shadow must be an expert that gives its reason")
        here, triggers = self.drives[seat.index], self._config.triggers
        here.watch, verdict = watch(here.watch, look(seen.privileged, plan, answer, triggers), triggers)
        before = here.monitor
        here.monitor = step(
            before, seen.time_us, verdict.alarm is not None, verdict.agreement, self._config.monitor
        )
        here.takeovers += here.monitor.expert_drives and not before.expert_drives
        said = plan.commentary or plan_commentary(plan, seen.speed_mps)
        expert = _read(plan_commentary(answer, seen.speed_mps))
        if expert is None:
            raise ValueError("the expert in shadow said what its grammar does not hold")
        here.instants.append(Instant(seen.time_us, _read(said), expert, answer.reason.actor_id))

    def on_tick(self, seat: Seat, ego: Ego, controls: Controls) -> None:
        """Note the brake."""
        if controls.brake >= BRAKING:
            self.drives[seat.index].braking_us.append(seat.world.time_us - TICK_US)

    def on_finish(self, seat: Seat) -> None:
        """Nothing: the notes are read when all is over."""


def _read(sentence: str) -> tuple[Action, Cause] | None:
    try:
        action, _, cause = parse(sentence)
    except ValueError:
        return None
    return action, cause


def hazards(drive: Shadowed, ttc_s: NDArray[Any]) -> list[Hazard]:
    """The hazards of a drive; `ttc_s` (T,) is the least time-to-collision of each tick."""
    found = []
    by_actor: dict[int, list[Instant]] = {}
    for instant in drive.instants:
        if instant.actor_id >= 0 and instant.expert[0] in _SLOWS:
            by_actor.setdefault(instant.actor_id, []).append(instant)
    for named in by_actor.values():
        starts = [0] + [
            k for k in range(1, len(named)) if named[k].time_us - named[k - 1].time_us > SAME_HAZARD_S * 1e6
        ]
        for first, end in zip(starts, [*starts[1:], len(named)], strict=True):
            hazard = _hazard(drive, named[first:end], ttc_s)
            if hazard is not None:
                found.append(hazard)
    return found


def _hazard(drive: Shadowed, named: Sequence[Instant], ttc_s: NDArray[Any]) -> Hazard | None:
    start = named[0].time_us // TICK_US
    end = (named[-1].time_us + round(AFTER_NAMED_S * 1e6)) // TICK_US + 1
    near = ttc_s[start:end]
    if not len(near) or not float(near.min()) <= CONFLICT_TTC_S:
        return None
    conflict_us = (start + int(np.argmin(near))) * TICK_US
    since_us = conflict_us - round(LOOK_BACK_S * 1e6)
    causes = {instant.expert[1] for instant in named}
    words = [
        instant.time_us
        for instant in drive.instants
        if since_us <= instant.time_us <= conflict_us
        and instant.said is not None
        and instant.said[0] in _ANSWERS
        and instant.said[1] in causes
    ]
    braking = [time_us for time_us in drive.braking_us if since_us <= time_us <= conflict_us]

    def lead(times: Sequence[int]) -> float | None:
        return (conflict_us - times[0]) / 1e6 if times else None

    expert_s = min((conflict_us - named[0].time_us) / 1e6, LOOK_BACK_S)
    return Hazard(named[0].expert[1], lead(words), lead(braking), expert_s)


def route_words(drive: Shadowed, ttc_s: NDArray[Any]) -> dict[str, Any]:
    """What a route comes to, as JSON values: counts of instants, takeovers called for, leads of hazards."""
    spoken = [one for one in drive.instants if one.said is not None]
    bound = [one for one in drive.instants if one.expert[1] != Cause.FREE_ROAD]

    def right(rows: Sequence[Instant], *parts: int) -> int:
        return sum(
            one.said is not None and all(one.said[part] == one.expert[part] for part in parts) for one in rows
        )

    return {
        "instants": len(drive.instants),
        "spoken": len(spoken),
        "action_right": right(drive.instants, 0),
        "cause_right": right(drive.instants, 1),
        "both_right": right(drive.instants, 0, 1),
        "bound": len(bound),
        "bound_both_right": right(bound, 0, 1),
        "takeovers": drive.takeovers,
        "hazards": [
            [one.cause.name.lower(), one.words_s, one.braking_s, one.expert_s]
            for one in hazards(drive, ttc_s)
        ],
    }
