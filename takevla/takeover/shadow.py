"""A driver with the expert in shadow: the policy drives until the monitor lets the expert take over.

`ShadowedDriver` is a driver like any other, so the closed loop that drives a policy alone also
drives attempts with takeovers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from takevla.driver.driver import Driver
from takevla.driver.expert.margins import CAREFUL, Margins
from takevla.scene.plan import Observation, Plan
from takevla.scene.scene import TICK_US
from takevla.takeover.attempt import Attempt
from takevla.takeover.monitor import Monitor, MonitorConfig, Phase, step
from takevla.takeover.triggers import Sight, TriggerConfig, Verdict, Watch, look, watch
from takevla.world.camera.rig import Rig


@dataclass(frozen=True)
class TakeoverConfig:
    """Everything that decides when and for how long the expert drives, and what is kept of it."""

    triggers: TriggerConfig = field(default_factory=TriggerConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    margins: Margins = CAREFUL  # what the expert who takes over keeps to others
    window_s: float = 3.0  # pre-takeover window
    scenes_before_s: float = 4.0  # scenes are kept from this long before a takeover begins
    scenes_after_s: float = 4.0  # and until this long after it has ended
    scene_period_us: int = 50_000  # dreams may begin at any frame and step at any multiple of the tick
    calm_period_us: int = (
        100_000  # of scenes kept elsewhere, from which dreams of calm driving start; 0: none
    )

    def __post_init__(self) -> None:
        for name in ("window_s", "scenes_before_s", "scenes_after_s"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"takeover.{name}: {getattr(self, name)} is no time; give 0 s or more")
        for name, least in (("scene_period_us", TICK_US), ("calm_period_us", 0)):
            period = getattr(self, name)
            if period < least or period % TICK_US:
                raise ValueError(f"takeover.{name}: {period} is no multiple of a tick of {TICK_US} us")


@dataclass
class _Seat:
    attempt: Attempt
    monitor: Monitor = field(default_factory=Monitor)
    watch: Watch = field(default_factory=Watch)
    takeover: str = ""


class ShadowedDriver:
    """Plans for policy and expert in batch, and answers with the plan of whoever drives the seat.

    `attempts` maps a seat to the record that is made of it.  The policy never sees the truth.
    """

    needs_image = True
    needs_privilege = True

    def __init__(
        self, policy: Driver, expert: Driver, attempts: dict[int, Attempt], config: TakeoverConfig
    ) -> None:
        self._policy, self._expert, self._config = policy, expert, config
        self._seats = {seat: _Seat(attempt) for seat, attempt in attempts.items()}

    @property
    def name(self) -> str:
        """The policy's."""
        return self._policy.name

    @property
    def rig(self) -> Rig:
        """The policy's."""
        return self._policy.rig

    @property
    def period_us(self) -> int:
        """The policy's; the expert in shadow plans as often."""
        return self._policy.period_us

    def reset(self, seats: Sequence[int]) -> None:
        """Both drivers forget these seats; their records stay."""
        self._policy.reset(seats)
        self._expert.reset(seats)
        for seat in seats:
            self._seats[seat] = _Seat(self._seats[seat].attempt)

    def plan(self, observations: Sequence[Observation]) -> list[Plan]:
        """The plan of whoever drives each seat; records the instant."""
        policy = self._policy.plan([replace(one, privileged=None) for one in observations])
        expert = self._expert.plan(observations)
        return [self._choose(*row) for row in zip(observations, policy, expert, strict=True)]

    def finish(self, seat: int, time_us: int) -> None:
        """The attempt of `seat` has ended: close a takeover that is under way."""
        here = self._seats[seat]
        if here.takeover:
            here.attempt.end_takeover(time_us, "finished")
            here.takeover = ""

    def _choose(self, observation: Observation, policy: Plan, expert: Plan) -> Plan:
        seat, config, now = self._seats[observation.seat], self._config, observation.time_us
        if observation.privileged is None:
            raise ValueError("the expert in shadow needs privileged observations")
        sight = look(observation.privileged, policy, expert, config.triggers)
        seat.watch, verdict = watch(seat.watch, sight, config.triggers)
        before = seat.monitor
        seat.monitor = step(before, now, verdict.alarm is not None, verdict.agreement, config.monitor)
        self._note_change(seat, before, verdict, sight)
        drives = seat.monitor.expert_drives
        seat.attempt.add_frame(
            observation,
            expert,
            policy,
            seat.monitor.phase,
            "takeover" if drives else "other",
            takeover=seat.takeover,
        )
        return expert if drives else policy

    def _note_change(self, seat: _Seat, before: Monitor, verdict: Verdict, sight: Sight) -> None:
        if seat.monitor.expert_drives and not before.expert_drives and verdict.alarm is not None:
            seat.takeover = seat.attempt.begin_takeover(
                verdict.alarm, sight.reason, sight.truth, self._config.window_s
            )
        elif before.expert_drives and not seat.monitor.expert_drives:
            calm = before.phase == Phase.HANDING_BACK and verdict.agreement
            seat.attempt.end_takeover(sight.scene.time_us, "clear" if calm else "timeout")
            seat.takeover = ""
