"""The embedded world: one route driven in a built-in or OpenDRIVE town, without any simulator."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np

from takevla.scene.actors import ActorKind, Actors
from takevla.scene.lane_query import ANY_KIND, nearest_lane
from takevla.scene.road_map import RoadMap
from takevla.scene.route import Route
from takevla.scene.scene import TICK_US, Controls, Ego, Scene, Weather
from takevla.world.casting import cast
from takevla.world.contact import find_walls
from takevla.world.criteria import Event, Outcome, check_stop_signs, start_marks
from takevla.world.dynamics import EGO_EXTENT_M
from takevla.world.lights import light_program, set_lights
from takevla.world.maps.route_xml import RouteTask, trace_task
from takevla.world.paths import town_paths
from takevla.world.places import places_for
from takevla.world.population import Crowd, extent_table, populate
from takevla.world.progress import route_arrays
from takevla.world.record import RouteRecord, make_record
from takevla.world.stage import ENDED, RUNNING, TIMED_OUT, WAITING, Course, Stage
from takevla.world.staging import Scenario
from takevla.world.state import (
    BRAKE,
    EGO,
    LATERAL_ACCELERATION,
    NEXT_ID,
    ON_STAGE,
    OUTCOME,
    ROUTE_INDEX,
    STEER,
    THROTTLE,
    TICK,
    WorldState,
    copied,
    empty_state,
    note_event,
    restore,
)
from takevla.world.step import foresee_ego, step_world
from takevla.world.tracks import check_paths, lay_ground

TICK_LIMIT = 4000  # Bench2Drive (benchmark facts 1.4)
DENSITY_PER_KM = 8.0  # background vehicles per km of driving lane around the ego; our own choice
FIRST_BACKGROUND_ID = 1000
MOST_PER_DENSITY = 2.0  # slots for vehicles at a density of 1 per km

Snapshot = tuple[WorldState, tuple[Course, ...]]


def crowd_of(density: float) -> Crowd:
    """The background that goes with a density of vehicles per km of lane; 0 empties the town."""
    some = float(density > 0.0)
    return Crowd(
        vehicles_per_km=density,
        parked_share=0.45 * some,
        walkers_per_km=10.0 * some,
        cyclists_per_km=4.0 * some,
        most_vehicles=int(min(8.0 + MOST_PER_DENSITY * density, 60.0)) if some else 0,
        most_parked=12 if some else 0,
        most_walkers=8 if some else 0,
        most_cyclists=3 if some else 0,
    )


class EmbeddedWorld:
    """Implements `World` on kernels.  The same task and seed give the same world, tick by tick."""

    def __init__(
        self,
        road_map: RoadMap,
        task: RouteTask,
        seed: int,
        density: float = DENSITY_PER_KM,
        tick_limit: int = TICK_LIMIT,
        staged: Sequence[Scenario] = (),
    ) -> None:
        """`density` is in background vehicles per km of driving lane; 0 leaves the scenario alone.

        `staged` are ready scenarios to be executed besides those that the task calls for.

        Raises:
            ValueError: naming the route whose keypoints the map does not carry.
        """
        self._road_map = road_map
        self._task = task
        self._asked_seed = seed
        self._density = density
        self._tick_limit = tick_limit
        words = np.random.SeedSequence([seed, zlib.crc32(task.id.encode())]).generate_state(2, np.uint32)
        self._seed = int(words[0]) << 30 ^ int(words[1])
        self._route = trace_task(road_map, task)
        self._casts = [cast(road_map, self._route, call, self._seed) for call in task.scenarios]
        scenarios = [each.scenario for each in self._casts if each.scenario is not None]
        for scenario in staged:
            check_paths(road_map, scenario)
            scenarios.append(scenario)
        self._ground = lay_ground(town_paths(road_map), scenarios, self._seed)
        self._paths, self._given = self._ground.paths, self._ground.given
        self._roads = road_map.arrays
        self._route_arrays = route_arrays(road_map, self._route)
        self._program = light_program(road_map)
        self._crowd = crowd_of(density)
        self._extents = extent_table()
        clear = [area for scenario in scenarios for area in scenario.keep_clear]
        self._places = places_for(road_map, self._route, clear)
        self._walls = find_walls(road_map, self._route)
        self._stages: list[Stage] = []
        slot = 1
        for scenario in scenarios:
            stage = Stage(scenario, self._route, self._ground, slot)
            slot = stage.end_slot
            self._stages.append(stage)
        self._first_background = slot
        crowd = self._crowd
        room = crowd.most_vehicles + crowd.most_parked + crowd.most_walkers + crowd.most_cyclists
        self._state = empty_state(slot + room, len(road_map.signals), tick_limit + 2)
        self._put_ego(scenarios)
        self._set_stage()

    def _put_ego(self, scenarios: list[Scenario]) -> None:
        state = self._state
        x, y, z = (float(v) for v in self._route.points_world[0])
        heading = float(self._route.heading_rad[0])
        for scenario in scenarios:
            if scenario.ego_start_world is not None:
                x, y, heading = (float(v) for v in scenario.ego_start_world)
        state.actors["stage"][EGO] = ON_STAGE
        state.actors["kind"][EGO] = int(ActorKind.CAR)
        (
            state.actors["x"][EGO],
            state.actors["y"][EGO],
            state.actors["z"][EGO],
            state.actors["heading"][EGO],
        ) = x, y, z, heading
        state.actors["length"][EGO], state.actors["width"][EGO], state.actors["height"][EGO] = EGO_EXTENT_M
        state.clock[NEXT_ID] = FIRST_BACKGROUND_ID
        start_marks(state)
        check_stop_signs(state, self._route_arrays)  # who begins at rest before a stop sign has stopped

    def _set_stage(self) -> None:
        state = self._state
        set_lights(self._program, 0, state.light, state.forced, state.forced_until)
        foresee_ego(state, self._paths, self._route_arrays, 70.0)
        for stage in self._stages:
            stage.set_up(state)
        populate(
            state,
            self._paths,
            self._places,
            self._crowd,
            self._extents,
            self._given,
            self._seed,
            self._first_background,
            True,
        )

    # --- World ----------------------------------------------------------------------------------

    @property
    def road_map(self) -> RoadMap:
        """The town."""
        return self._road_map

    @property
    def task(self) -> RouteTask:
        """What was asked for."""
        return self._task

    @property
    def route(self) -> Route:
        """The dense route that the ego is asked to drive."""
        return self._route

    @property
    def route_index(self) -> int:
        """Index of the last route point that the ego has passed."""
        return int(self._state.clock[ROUTE_INDEX])

    @property
    def time_us(self) -> int:
        """World time since the start of the route."""
        return int(self._state.clock[TICK]) * TICK_US

    @property
    def finished(self) -> bool:
        """True once the route has ended, for whatever reason."""
        return bool(self._state.clock[OUTCOME] != int(Outcome.RUNNING))

    def weather(self) -> Weather:
        """The weather here: interpolated between the task's keyframes by route share."""
        keyframes = self._task.weathers
        if not keyframes:
            return Weather()
        share = 100.0 * float(self._route.s_m[self.route_index]) / self._route.length_m
        before = [frame for frame in keyframes if frame[0] <= share] or [keyframes[0]]
        after = [frame for frame in keyframes if frame[0] > share] or [before[-1]]
        (a, low), (b, high) = before[-1], after[0]
        if low == high or b <= a:
            return low
        u = (share - a) / (b - a)
        return Weather(
            *(
                (1.0 - u) * getattr(low, name) + u * getattr(high, name)
                for name in Weather.__dataclass_fields__
            )
        )

    def ego(self) -> Ego:
        """The ego alone, as an immutable record."""
        state = self._state
        return Ego(
            position_world=np.array(
                [state.actors["x"][EGO], state.actors["y"][EGO], state.actors["z"][EGO]], np.float32
            ),
            heading_rad=float(state.actors["heading"][EGO]),
            speed_mps=float(state.actors["speed"][EGO]),
            acceleration_mps2=float(state.actors["acceleration"][EGO]),
            lateral_acceleration_mps2=float(state.ego[LATERAL_ACCELERATION]),
            yaw_rate_radps=float(state.actors["yaw_rate"][EGO]),
            controls=Controls(float(state.ego[STEER]), float(state.ego[THROTTLE]), float(state.ego[BRAKE])),
            extent_m=np.array(EGO_EXTENT_M, np.float32),
        )

    def scene(self) -> Scene:
        """Everything at this instant, as an immutable record; all rows of its actors are valid."""
        state = self._state
        on = np.flatnonzero(state.actors["stage"][1:] == ON_STAGE) + 1
        lane = state.queue[on, 0].astype(np.int32)
        off = (lane >= len(self._road_map.lanes)) | (np.abs(state.actors["lateral"][on]) > 1.0)
        for row in np.flatnonzero(off):
            i = on[row]
            lane[row] = nearest_lane(
                self._roads,
                float(state.actors["x"][i]),
                float(state.actors["y"][i]),
                float(state.actors["heading"][i]),
                2.0,
                False,
                ANY_KIND,
            )[0]
        actors = Actors(
            id=state.actors["id"][on].astype(np.int32),
            kind=state.actors["kind"][on].astype(np.int8),
            role=state.actors["role"][on].astype(np.int8),
            cue=state.actors["cue"][on].astype(np.int16),
            position_world=np.column_stack(
                [state.actors["x"][on], state.actors["y"][on], state.actors["z"][on]]
            ).astype(np.float32),
            heading_rad=state.actors["heading"][on].astype(np.float32),
            speed_mps=state.actors["speed"][on].astype(np.float32),
            acceleration_mps2=state.actors["acceleration"][on].astype(np.float32),
            yaw_rate_radps=state.actors["yaw_rate"][on].astype(np.float32),
            extent_m=np.column_stack(
                [state.actors["length"][on], state.actors["width"][on], state.actors["height"][on]]
            ).astype(np.float32),
            lane=lane,
            valid=np.ones(len(on), np.bool_),
        )
        return Scene(
            time_us=self.time_us,
            town=self._road_map.name,
            ego=self.ego(),
            actors=actors,
            lights=state.light.astype(np.int8),
            weather=self.weather(),
        )

    def tick(self, controls: Controls) -> None:
        """Apply `controls` for one tick.  Does nothing once finished."""
        if self.finished:
            return
        state = self._state
        state.ego[STEER] = controls.steer
        state.ego[THROTTLE] = controls.throttle
        state.ego[BRAKE] = controls.brake
        opposite_allowed = False
        blocked_counts = True
        for number, stage in enumerate(self._stages):
            phase = stage.course.phase
            if phase in (WAITING, RUNNING):
                stage.run(state)
                now = stage.course.phase
                if now == TIMED_OUT:
                    self._note(Event.SCENARIO_TIMEOUT, number)
                if now in (ENDED, TIMED_OUT):
                    self._judge_yield(stage, number)
                if now == RUNNING:
                    opposite_allowed |= stage.scenario.type.endswith("TwoWays")
                    blocked_counts &= stage.scenario.timeout_s is None
        step_world(
            state,
            self._paths,
            self._roads,
            self._route_arrays,
            self._program,
            self._walls,
            self._places,
            self._crowd,
            self._extents,
            self._given,
            self._seed,
            self._first_background,
            opposite_allowed,
            blocked_counts,
            self._tick_limit,
        )
        if self.finished:
            for number, stage in enumerate(self._stages):
                if stage.course.phase == RUNNING:
                    self._judge_yield(stage, number)

    def _note(self, event: Event, detail: int) -> None:
        state = self._state
        x, y, z = float(state.actors["x"][EGO]), float(state.actors["y"][EGO]), float(state.actors["z"][EGO])
        note_event(state, int(event), x, y, z, float(detail))

    def _judge_yield(self, stage: Stage, number: int) -> None:
        """The emergency vehicle must have passed the ego when the scenario or the route ends."""
        name = stage.scenario.emergency_vehicle
        if not name:
            return
        state = self._state
        i = stage.slots[name]
        dx, dy = state.actors["x"][i] - state.actors["x"][EGO], state.actors["y"][i] - state.actors["y"][EGO]
        heading = state.actors["heading"][EGO]
        if state.actors["stage"][i] == ON_STAGE and dx * math.cos(heading) + dy * math.sin(heading) < 0.0:
            self._note(Event.YIELD, number)

    def snapshot(self) -> Snapshot:
        """A copy of the whole state; `restore` of it continues bit-identically."""
        return copied(self._state), tuple(stage.course for stage in self._stages)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a `snapshot` of this world."""
        state, courses = snapshot
        restore(self._state, state)
        for stage, course in zip(self._stages, courses, strict=True):
            stage.course = course

    # --- beyond the protocol --------------------------------------------------------------------

    @property
    def actors_on_stage(self) -> int:
        """How many actors there are now, the ego not counted."""
        return int((self._state.actors["stage"] == ON_STAGE).sum()) - 1

    def record(self) -> RouteRecord:
        """The outcome so far; final once `finished`."""
        first = self._casts[0] if self._casts else None
        started = False
        reason = "the route has no scenario"
        if first is not None:
            reason = first.reason
            if first.scenario is not None:
                started = any(
                    s.scenario is first.scenario and s.course.phase != WAITING for s in self._stages
                )
                reason = "" if started else "the ego has not reached its trigger point"
        return make_record(
            self._state,
            self._route,
            route_id=self._task.id,
            town=self._road_map.name,
            scenario_type=first.call.type if first else "",
            scenario_name=first.call.name if first else "",
            scenario_started=started,
            scenario_reason=reason,
            weather=self._task.weathers[0][1] if self._task.weathers else Weather(),
            seed=self._asked_seed,
            density=self._density,
        )
