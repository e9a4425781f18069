"""Drive many worlds at once: observe, plan for all in one batch, tick each with its controller.

This is the only loop of the package.  Whoever records, watches or films hooks in as a `Listener`;
whoever lets two drivers share the wheel (takeovers) uses the same parts: `Seat`, `observe`, `advance`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from takevla.driver.controller import Controller
from takevla.driver.driver import Driver
from takevla.scene.past import Past
from takevla.scene.plan import Observation, Plan, Privileged
from takevla.scene.road_map import RoadMap
from takevla.scene.route import Route, RouteOption
from takevla.scene.scene import TICK_US, Controls, Ego, Scene
from takevla.scene.trace import target_points
from takevla.world.world import World

TARGET_NEAREST_M = 7.5  # a target point nearer than this counts as reached (benchmark facts 2.8)


class Camera(Protocol):
    """What turns a scene into an image; `takevla.world.camera.Camera` is one."""

    def render(
        self, road_map: RoadMap, scene: Scene, offset_y_m: float = 0.0, yaw_offset_rad: float = 0.0
    ) -> NDArray[np.uint8]:
        """(H, W, 3) RGB, a copy, from a camera moved by `offset_y_m` to the left and turned."""
        ...


class Listener(Protocol):
    """Who follows a drive.  All arguments are what the loop itself uses: do not change them."""

    def on_plan(self, seat: Seat, observation: Observation, plan: Plan) -> None:
        """A plan was made; the seat's controller follows it from now on."""
        ...

    def on_tick(self, seat: Seat, ego: Ego, controls: Controls) -> None:
        """`controls` were applied for one tick to the ego as it was at the tick's start."""
        ...

    def on_finish(self, seat: Seat) -> None:
        """The world of this seat has finished."""
        ...


@dataclass(frozen=True)
class Burst:
    """For a while the wheel or the brake is pushed: what pretraining data need to show recovery."""

    start_us: int
    end_us: int
    steer: float = 0.0  # added to the controller's, positive left
    brake: float = 0.0  # pressed at least so far, and the throttle let go


@dataclass(frozen=True)
class BurstSchedule:
    """When wheel and brake are pushed, drawn from a seed.

    Pushes of the wheel show the way back to the lane.  Pushes of the brake bring the ego to rest, or
    nearly, where nothing asks for it: a student that only ever sees a standing ego behind red lights and
    leaders takes standing for a reason to stand.
    """

    seed: int
    every_s: tuple[float, float] = (8.0, 20.0)  # from the end of one push of the wheel to the next
    lasts_s: tuple[float, float] = (0.3, 0.7)
    steer: tuple[float, float] = (0.05, 0.22)  # absolute; the sign is drawn
    fast_mps: float = 10.0  # above it the push of the wheel is weaker in proportion
    brake_every_s: tuple[float, float] = (9.0, 22.0)  # the same for the brake
    brake_lasts_s: tuple[float, float] = (0.4, 3.0)

    def bursts(self, until_us: int) -> tuple[Burst, ...]:
        """All pushes of the wheel, then all of the brake, that start before `until_us`."""
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, 0xB0257])))
        wheel = []
        for start, end in _times(generator, self.every_s, self.lasts_s, until_us):
            sign = 1.0 if generator.random() < 0.5 else -1.0
            wheel.append(Burst(start, end, steer=sign * float(generator.uniform(*self.steer))))
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, 0xB2A4E])))
        times = _times(generator, self.brake_every_s, self.brake_lasts_s, until_us)
        return (*wheel, *(Burst(start, end, brake=1.0) for start, end in times))


def _times(
    generator: np.random.Generator, every_s: tuple[float, float], lasts_s: tuple[float, float], until_us: int
) -> Iterator[tuple[int, int]]:
    """Starts and ends of pushes, µs, on whole ticks."""
    time_s = float(generator.uniform(*every_s))
    while time_s * 1e6 < until_us:
        start = round(time_s * 1e6 / TICK_US) * TICK_US
        end = start + max(round(float(generator.uniform(*lasts_s)) * 1e6 / TICK_US), 1) * TICK_US
        yield start, end
        time_s = end * 1e-6 + float(generator.uniform(*every_s))


@dataclass
class Seat:
    """One world, its controller, and what the loop knows of them."""

    index: int  # stable in its batch; drivers key their memory by it
    world: World
    controller: Controller = field(default_factory=Controller)
    bursts: tuple[Burst, ...] = ()  # pushes of wheel and brake, none for a plain drive
    burst_fast_mps: float = 10.0
    pictures: Past[NDArray[np.uint8]] = field(default_factory=Past)  # that `observe` has taken
    _targets: tuple[Route, NDArray[np.int32]] | None = None

    @property
    def target_indices(self) -> NDArray[np.int32]:
        """Route indices of the down-sampled plan that drivers are shown."""
        route = self.world.route
        if self._targets is None or self._targets[0] is not route:
            self._targets = (route, target_points(route))
        return self._targets[1]

    def wheel_pushed_near(self, time_us: int, within_us: int) -> bool:
        """Whether the wheel is pushed at `time_us` or within the time after it.

        Such frames are no examples of good driving: what the driver intends is not what happens.
        """
        pushes = (burst for burst in self.bursts if burst.steer)
        return any(burst.start_us < time_us + within_us and burst.end_us > time_us for burst in pushes)

    def pushed(self, controls: Controls, time_us: int, speed_mps: float) -> Controls:
        """What becomes of `controls` at this time under the pushes."""
        for burst in self.bursts:
            if not burst.start_us <= time_us < burst.end_us:
                continue
            steer = controls.steer + burst.steer * min(1.0, self.burst_fast_mps / max(speed_mps, 1.0))
            brake = max(controls.brake, burst.brake)
            throttle = 0.0 if burst.brake else controls.throttle
            controls = Controls(min(max(steer, -1.0), 1.0), throttle, brake)
        return controls


def observe(
    world: World,
    seat: Seat,
    camera: Camera | None,
    privileged: bool,
    offset_y_m: float = 0.0,
    yaw_offset_rad: float = 0.0,
) -> Observation:
    """What a driver gets at this instant.

    Args:
        world: the seat's world.
        seat: keeps the index and the down-sampled route.
        camera: None for drivers without one.
        privileged: whether to hand out the true scene.
        offset_y_m: the camera stands so far to the left of its mount (pretraining data).
        yaw_offset_rad: and is turned so far to the left.  Target points stay in the frame of the *ego*:
            whoever learns from an offset image moves them, and the labels, into the camera's pose.
    """
    scene = world.scene()
    ego = scene.ego
    route = world.route
    targets, option, following = navigation(route, seat.target_indices, world.route_index, ego)
    image = past = None
    if camera is not None:
        image = camera.render(world.road_map, scene, offset_y_m, yaw_offset_rad)
        past = seat.pictures.keep(scene.time_us, image)
    truth = Privileged(scene, world.road_map, route, world.route_index) if privileged else None
    return Observation(
        seat.index, scene.time_us, ego.speed_mps, targets, option, following, image, truth, past
    )


def navigation(
    route: Route, indices: NDArray[np.int32], route_index: int, ego: Ego
) -> tuple[NDArray[np.float32], int, int]:
    """The next two target points (2, 2) in the ego frame, the option that applies and the one that follows.

    `indices` are those of `target_points(route)`, `route_index` is the last route point passed.
    """
    s_now = float(route.s_m[route_index])
    first = int(np.searchsorted(route.s_m[indices], s_now + TARGET_NEAREST_M, side="right"))
    chosen = indices[np.minimum([first, first + 1], len(indices) - 1)]
    delta = route.points_world[chosen, :2].astype(np.float64) - ego.position_world[:2]
    c, s = math.cos(ego.heading_rad), math.sin(ego.heading_rad)
    targets = np.stack([c * delta[:, 0] + s * delta[:, 1], c * delta[:, 1] - s * delta[:, 0]], axis=1)
    # The command of the stretch that leads to the first target, and of the stretch after it.
    option = int(route.option[max(int(chosen[0]) - 1, 0)])
    following = int(route.option[max(int(chosen[1]) - 1, 0)])
    return targets.astype(np.float32), option or RouteOption.LANE_FOLLOW, following or RouteOption.LANE_FOLLOW


def advance(seat: Seat, ticks: int, listeners: Sequence[Listener] = ()) -> None:
    """Tick one world so many times with its controller, or until it has finished."""
    world = seat.world
    for _ in range(ticks):
        if world.finished:
            return
        ego = world.ego()
        controls = seat.controller.control(ego)
        controls = seat.pushed(controls, world.time_us, ego.speed_mps)
        world.tick(controls)
        for listener in listeners:
            listener.on_tick(seat, ego, controls)


def drive(
    seats: Iterable[Seat],
    driver: Driver,
    camera: Camera | None = None,
    listeners: Sequence[Listener] = (),
    until_us: int | None = None,
    at_most: int | None = None,
) -> None:
    """Drive all seats until each has finished (or reached `until_us`), planning for them in one batch.

    With `at_most`, so many drive together and the others follow as they finish; an iterator that makes its
    seats when asked keeps no more worlds than that.
    The outcome of a seat depends on the others only as far as the driver's batch arithmetic does.

    Raises:
        ValueError: the driver needs a camera and there is none, its period is no multiple of the tick,
            or two seats share an index.
    """
    if driver.needs_image and camera is None:
        raise ValueError(f"driver {driver.name!r} needs images; pass a camera")
    if driver.period_us <= 0 or driver.period_us % TICK_US:
        raise ValueError(
            f"driver {driver.name!r} plans every {driver.period_us} us; must be a multiple of {TICK_US}"
        )
    ticks = driver.period_us // TICK_US
    eye = camera if driver.needs_image else None
    waiting, known = iter(seats), set[int]()
    active: list[Seat] = []
    while True:
        fresh = list(islice(waiting, None if at_most is None else at_most - len(active)))
        for seat in fresh:
            if seat.index in known:
                raise ValueError("two seats share an index; give each seat of a batch its own")
            known.add(seat.index)
        driver.reset([seat.index for seat in fresh])
        active = [seat for seat in [*active, *fresh] if not _over(seat, until_us)]
        if not active:
            if not fresh:
                return
            continue
        observations = [observe(seat.world, seat, eye, driver.needs_privilege) for seat in active]
        plans = driver.plan(observations)
        for seat, observation, plan in zip(active, observations, plans, strict=True):
            seat.controller.follow(plan, seat.world.ego())
            for listener in listeners:
                listener.on_plan(seat, observation, plan)
            advance(seat, ticks, listeners)
            if seat.world.finished:
                for listener in listeners:
                    listener.on_finish(seat)
        active = [seat for seat in active if not _over(seat, until_us)]


def _over(seat: Seat, until_us: int | None) -> bool:
    return seat.world.finished or (until_us is not None and seat.world.time_us >= until_us)
