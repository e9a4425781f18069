"""The embedded world as Gymnasium environments (extra `gym`).

`takevla/Drive-v0` takes controls at every 0.05 s, `takevla/Plan-v0` a plan at every 0.25 s.  Installed,
both are known to `gymnasium.make` by themselves; otherwise `register` makes them known.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from takevla.bench.suites import load_suite
from takevla.driver.closed_loop import Seat, advance, observe
from takevla.scene.plan import ROUTE_POINTS, SPEED_WAYPOINTS, WAYPOINT_PERIOD_US, Observation, Plan
from takevla.scene.route import RouteOption
from takevla.scene.scene import TICK_US, Controls
from takevla.world.camera import Camera
from takevla.world.criteria import Event
from takevla.world.embedded import EmbeddedWorld
from takevla.world.maps.atlas import load_town

try:
    import gymnasium
    from gymnasium import spaces
except ImportError as error:
    raise ValueError("Gymnasium is not installed; mend it with: pip install 'takevla[gym]'") from error

CONTROLS_ID: Final = "takevla/Drive-v0"
PLAN_ID: Final = "takevla/Plan-v0"
PLAN_TICKS: Final = WAYPOINT_PERIOD_US // TICK_US
INFRACTION_PENALTY: Final = 50.0  # per event; our own choice, the worth of 50 m
TARGET_LIMIT_M: Final = 1000.0
SPEED_LIMIT_MPS: Final = 100.0
CUT_SHORT: Final = (Event.ROUTE_TIMEOUT, Event.TICK_LIMIT)
Action = NDArray[np.float32] | dict[str, NDArray[np.float32]]


class DriveEnv(gymnasium.Env[dict[str, Any], Any]):
    """One route after another of a suite.

    Observation: `image` (H, W, 3) uint8 RGB, `speed_mps` (1,), `target_points_ego` (2, 2) in m,
    `option` and `next_option` as `RouteOption` less one.

    Action: `controls` is (3,) steer (left positive), throttle, brake; `plan` is a dictionary with
    `route_ego` (20, 2) and `waypoints_ego` (10, 2) in m, which the package's controller follows.

    Reward of a step: metres of route gained, less `INFRACTION_PENALTY` for each event of
    `takevla.world.criteria.Event` (collisions, lights, stop signs, leaving the route, standing blocked,
    time-outs).  The episode ends with the route; where time ran out it is truncated.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(
        self,
        suite: str = "train",
        action: str = "controls",
        image_size: tuple[int, int] = (384, 128),
        density: float | None = None,
        render_mode: str | None = None,
    ) -> None:
        """`image_size` is (width, height); `density` of the traffic, None for the suite's own.

        Raises:
            ValueError: an action that is neither 'controls' nor 'plan', or an unknown suite.
        """
        if action not in ("controls", "plan"):
            raise ValueError(f"action {action!r}: give 'controls' or 'plan'")
        self._suite = load_suite(suite)
        self._density = self._suite.density if density is None else density
        self._by_plan = action == "plan"
        self._camera = Camera(*image_size)
        self.render_mode = render_mode
        options, picture = len(RouteOption), (image_size[1], image_size[0], 3)
        self.observation_space = spaces.Dict(
            {
                "image": spaces.Box(0, 255, picture, np.uint8),
                "past_image": spaces.Box(0, 255, picture, np.uint8),
                "speed_mps": spaces.Box(-SPEED_LIMIT_MPS, SPEED_LIMIT_MPS, (1,), np.float32),
                "target_points_ego": spaces.Box(-TARGET_LIMIT_M, TARGET_LIMIT_M, (2, 2), np.float32),
                "option": spaces.Discrete(options),
                "next_option": spaces.Discrete(options),
            }
        )
        if self._by_plan:
            self.action_space: spaces.Space[Any] = spaces.Dict(
                {
                    "route_ego": spaces.Box(-50.0, 50.0, (ROUTE_POINTS, 2), np.float32),
                    "waypoints_ego": spaces.Box(-100.0, 100.0, (SPEED_WAYPOINTS, 2), np.float32),
                }
            )
        else:
            low, high = np.array([-1, 0, 0], np.float32), np.ones(3, np.float32)
            self.action_space = spaces.Box(low, high, dtype=np.float32)
        self._seat: Seat | None = None
        self._seen: Observation | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """A route and its traffic drawn from the seed; `options={"route": ID}` chooses the route."""
        super().reset(seed=seed)
        tasks = self._suite.tasks
        number = int(self.np_random.integers(len(tasks)))
        world_seed = int(self.np_random.integers(1 << 31))
        wanted = (options or {}).get("route")
        if wanted is not None:
            found = [k for k, task in enumerate(tasks) if task.id == str(wanted)]
            if not found:
                raise ValueError(f"no route {wanted} in suite {self._suite.name!r}")
            number = found[0]
        task = tasks[number]
        world = EmbeddedWorld(load_town(task.town), task, world_seed, self._density)
        self._seat = Seat(0, world)
        return self._observation(), self._info(world)

    def step(self, action: Action) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Drive for 0.05 s (controls) or 0.25 s (plan)."""
        seat, world = self._driven()
        before_m = float(world.route.s_m[world.route_index])
        before = len(world.record().events)
        if isinstance(action, dict):
            plan = Plan(np.asarray(action["route_ego"]), np.asarray(action["waypoints_ego"]))
            seat.controller.follow(plan, world.ego())
            advance(seat, PLAN_TICKS)
        else:
            steer, throttle, brake = (float(value) for value in action)
            world.tick(Controls(steer, throttle, brake))
        events = world.record().events[before:]
        gained = float(world.route.s_m[world.route_index]) - before_m
        reward = gained - INFRACTION_PENALTY * len(events)
        cut = world.finished and any(event in CUT_SHORT for _, event, _ in events)
        info = self._info(world) | {
            "progress_m": gained,
            "events": [event.name.lower() for _, event, _ in events],
        }
        return self._observation(), reward, world.finished and not cut, cut, info

    def render(self) -> NDArray[np.uint8] | None:
        """The camera's last picture in the mode `rgb_array`."""
        if self.render_mode is None or self._seen is None or self._seen.image is None:
            return None
        return self._seen.image.copy()

    def _driven(self) -> tuple[Seat, EmbeddedWorld]:
        if self._seat is None or not isinstance(self._seat.world, EmbeddedWorld):
            raise ValueError("call reset before step")
        return self._seat, self._seat.world

    def _observation(self) -> dict[str, Any]:
        seat, world = self._driven()
        self._seen = seen = observe(world, seat, self._camera, privileged=False)
        assert seen.past_image is not None
        targets = np.clip(seen.target_points_ego, -TARGET_LIMIT_M, TARGET_LIMIT_M)
        return {
            "image": seen.image,
            "past_image": seen.past_image.copy(),  # kept as the image of a former step, which is its own
            "speed_mps": np.array([seen.speed_mps], np.float32),
            "target_points_ego": targets.astype(np.float32),
            "option": np.int64(seen.option - 1),
            "next_option": np.int64(seen.next_option - 1),
        }

    def _info(self, world: EmbeddedWorld) -> dict[str, Any]:
        return {"route": world.task.id, "town": world.task.town, "time_us": world.time_us}


def register() -> None:
    """Make both environments known to `gymnasium.make`; twice is once."""
    for name, action in ((CONTROLS_ID, "controls"), (PLAN_ID, "plan")):
        if name not in gymnasium.registry:
            gymnasium.register(name, "takevla.bench.gym:DriveEnv", kwargs={"action": action})


register()
