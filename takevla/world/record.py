"""The outcome of one driven route: everything that scores, tables and reports are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from takevla.scene.actors import ActorKind
from takevla.scene.route import Route
from takevla.scene.scene import TICK_US, Weather
from takevla.world.criteria import (
    CHECKPOINTS,
    DRIVEN_M,
    KIND_FACTOR,
    LAST_CHECKPOINT_SHARE,
    OUTSIDE_M,
    WALL,
    Event,
    Outcome,
)
from takevla.world.state import (
    EVENTS,
    OUTCOME,
    ROUTE_INDEX,
    SAMPLE_ACCELERATION,
    SAMPLE_HEADING,
    SAMPLE_LATERAL_ACCELERATION,
    SAMPLE_SPEED,
    SAMPLE_TTC,
    SAMPLE_X,
    SAMPLE_YAW_RATE,
    SAMPLE_Z,
    TICK,
    WorldState,
)

# Keys of the leaderboard's infractions (benchmark facts 1.3), by event.
KEY_OF_EVENT: Mapping[Event, str] = {
    Event.COLLISION_LAYOUT: "collisions_layout",
    Event.COLLISION_PEDESTRIAN: "collisions_pedestrian",
    Event.COLLISION_VEHICLE: "collisions_vehicle",
    Event.RED_LIGHT: "red_light",
    Event.STOP_SIGN: "stop_infraction",
    Event.ROUTE_DEVIATION: "route_dev",
    Event.BLOCKED: "vehicle_blocked",
    Event.ROUTE_TIMEOUT: "route_timeout",
    Event.SCENARIO_TIMEOUT: "scenario_timeouts",
    Event.YIELD: "yield_emergency_vehicle_infractions",
}
OUTSIDE_KEY = "outside_route_lanes"
MIN_SPEED_KEY = "min_speed_infractions"
FAILURE_OF_OUTCOME: Mapping[Outcome, str] = {
    Outcome.RUNNING: "Failed",
    Outcome.DEVIATED: "Failed - Agent deviated from the route",
    Outcome.BLOCKED: "Failed - Agent got blocked",
    Outcome.TIMED_OUT: "Failed - Agent timed out",
    Outcome.TICK_LIMIT: "Failed - TickRuntime",
}


@dataclass(frozen=True)
class RouteRecord:
    """One route as it was driven.  T is the number of ticks driven; arrays hold one row a tick."""

    route_id: str
    town: str
    scenario_type: str  # "" when the route has none
    scenario_name: str
    scenario_started: bool  # False: the route ran without it, `scenario_reason` says why
    scenario_reason: str
    weather: Weather  # at the route's start
    seed: int
    density: float
    status: str  # "Perfect", "Completed" or "Failed[ - reason]", as the leaderboard words it
    infractions: Mapping[str, tuple[str, ...]]  # leaderboard key -> messages; every key is present
    completion_percent: float  # of the route's length
    outside_percent: float  # of the driven length
    min_speed_percent: tuple[float, ...]  # per checkpoint: ego speed against background traffic
    route_length_m: float
    ticks: int
    position_world: NDArray[np.float32]  # (T, 3)
    heading_rad: NDArray[np.float32]  # (T,)
    speed_mps: NDArray[np.float32]  # (T,)
    acceleration_mps2: NDArray[np.float32]  # (T,) along the heading
    lateral_acceleration_mps2: NDArray[np.float32]  # (T,) positive left
    yaw_rate_radps: NDArray[np.float32]  # (T,)
    ttc_s: NDArray[np.float32]  # (T,) least time-to-collision of the tick, inf when there is none
    events: tuple[tuple[int, Event, tuple[float, float, float]], ...]  # tick, what, where

    @property
    def duration_game_s(self) -> float:
        """Simulated time."""
        return self.ticks * TICK_US * 1e-6

    @property
    def finished(self) -> bool:
        """The route was driven to its end."""
        return self.status in ("Perfect", "Completed")


def _name(kind: int) -> str:
    """How messages call an actor: a blueprint-like id, so that its category can be read from it."""
    if kind == WALL:
        return "static.building"
    word = ActorKind(kind).name.lower()
    if kind == ActorKind.PEDESTRIAN:
        return "walker.pedestrian"
    if kind >= ActorKind.CONE:
        return f"static.prop.{word}"
    return f"vehicle.{word}"


def _place(x: float, y: float, z: float) -> str:
    """Coordinates in messages are CARLA's (y to the right), as readers of result files expect."""
    return f"(x={round(x, 3)}, y={round(-y, 3)}, z={round(z, 3)})"


def message(event: Event, x: float, y: float, z: float, detail: float) -> str:
    """One infraction in words of the leaderboard's shape."""
    place = _place(x, y, z)
    if event in (Event.COLLISION_LAYOUT, Event.COLLISION_PEDESTRIAN, Event.COLLISION_VEHICLE):
        kind, actor = divmod(int(detail), KIND_FACTOR)
        return f"Agent collided against object with type={_name(kind)} and id={actor} at {place}"
    if event is Event.RED_LIGHT:
        return f"Agent ran a red light {int(detail)} at {place}"
    if event is Event.STOP_SIGN:
        return f"Agent ran a stop with id={int(detail)} at {place}"
    if event is Event.ROUTE_DEVIATION:
        return f"Agent deviated from the route at {place}"
    if event is Event.BLOCKED:
        return f"Agent got blocked at {place}"
    if event is Event.ROUTE_TIMEOUT:
        return "Route timeout."
    if event is Event.SCENARIO_TIMEOUT:
        return f"Agent timed out a scenario {int(detail)}"
    if event is Event.YIELD:
        return f"Agent failed to yield to an emergency vehicle at {place}"
    raise ValueError(f"no message for {event.name}")


def min_speed_percentages(state: WorldState, completion_percent: float) -> tuple[float, ...]:
    """Ego speed against background traffic for every checkpoint reached (benchmark facts 1.4).

    A checkpoint counts once it has been passed; the last one when more than 95 % were driven.
    """
    done = int(completion_percent / 100.0 * CHECKPOINTS)
    if done < CHECKPOINTS and completion_percent > LAST_CHECKPOINT_SHARE * 100.0:
        done = CHECKPOINTS
    values = []
    for ego, traffic, count in state.checkpoints[:done]:
        values.append(100.0 * ego / traffic if count > 0 and traffic > 0.0 else 100.0)
    return tuple(float(value) for value in values)


def make_record(
    state: WorldState,
    route: Route,
    *,
    route_id: str,
    town: str,
    scenario_type: str,
    scenario_name: str,
    scenario_started: bool,
    scenario_reason: str,
    weather: Weather,
    seed: int,
    density: float,
) -> RouteRecord:
    """Read the outcome out of a world's state; a route still running counts as failed so far."""
    outcome = Outcome(int(state.clock[OUTCOME]))
    ticks = int(state.clock[TICK])
    completion = 100.0 * float(route.s_m[state.clock[ROUTE_INDEX]]) / route.length_m
    if outcome is Outcome.COMPLETED:
        completion = 100.0
    infractions: dict[str, list[str]] = {key: [] for key in KEY_OF_EVENT.values()}
    events = []
    for tick, code, x, y, z, detail in state.events[: state.clock[EVENTS]]:
        event = Event(int(code))
        events.append((int(tick), event, (float(x), float(y), float(z))))
        if event in KEY_OF_EVENT:
            infractions[KEY_OF_EVENT[event]].append(message(event, x, y, z, detail))
    driven = float(state.marks[DRIVEN_M])
    outside = float(state.marks[OUTSIDE_M])
    outside_percent = 100.0 * outside / driven if driven > 0.0 else 0.0
    infractions[OUTSIDE_KEY] = []
    if outside > 0.0:
        infractions[OUTSIDE_KEY].append(
            f"Agent went outside its route lanes for about {round(outside, 3)} meters "
            f"({round(outside_percent, 2)}% of the completed route)"
        )
    if outcome is Outcome.COMPLETED:
        clean = not any(infractions.values())
        status = "Perfect" if clean else "Completed"
    else:
        status = FAILURE_OF_OUTCOME[outcome]
    speeds = min_speed_percentages(state, completion)
    infractions[MIN_SPEED_KEY] = [
        f"Average speed is {round(value, 2)}% of the surrounding traffic's one" for value in speeds
    ]
    if infractions[MIN_SPEED_KEY] and status == "Perfect":
        status = "Completed"  # min-speed entries count as infractions there (benchmark facts 1.3)
    samples = state.samples[:ticks].astype(np.float32)
    return RouteRecord(
        route_id=route_id,
        town=town,
        scenario_type=scenario_type,
        scenario_name=scenario_name,
        scenario_started=scenario_started,
        scenario_reason=scenario_reason,
        weather=weather,
        seed=seed,
        density=density,
        status=status,
        infractions={key: tuple(rows) for key, rows in infractions.items()},
        completion_percent=completion,
        outside_percent=outside_percent,
        min_speed_percent=speeds,
        route_length_m=route.length_m,
        ticks=ticks,
        position_world=samples[:, SAMPLE_X : SAMPLE_Z + 1],
        heading_rad=samples[:, SAMPLE_HEADING],
        speed_mps=samples[:, SAMPLE_SPEED],
        acceleration_mps2=samples[:, SAMPLE_ACCELERATION],
        lateral_acceleration_mps2=samples[:, SAMPLE_LATERAL_ACCELERATION],
        yaw_rate_radps=samples[:, SAMPLE_YAW_RATE],
        ttc_s=samples[:, SAMPLE_TTC],
        events=tuple(events),
    )
