"""Every criterion on a situation made by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from plain_maps import crossing, straight, task

from takevla.scene.actors import ActorKind
from takevla.scene.geometry import boxes_overlap
from takevla.scene.road_map import Control, LightState, Prop
from takevla.scene.scene import Controls
from takevla.world.contact import SHOCK_TICKS
from takevla.world.criteria import Event, Outcome
from takevla.world.embedded import EmbeddedWorld
from takevla.world.record import RouteRecord
from takevla.world.staging import ActorSpec, EgoPast, ForceSignals, Motion, Now, Scenario, Stage
from takevla.world.state import EGO, ON_STAGE, OUTCOME

GO = Controls(0.0, 0.6, 0.0)
STOP = Controls(0.0, 0.0, 1.0)
ROAD = [(5.0, 0.0), (250.0, 0.0)]


def _drive(world: EmbeddedWorld, ticks: int, controls: Controls = GO) -> RouteRecord:
    for _ in range(ticks):
        world.tick(controls)
    return world.record()


def _events(record: RouteRecord, event: Event) -> int:
    return sum(row[1] is event for row in record.events)


def _teleport(world: EmbeddedWorld, x: float, y: float, heading: float = 0.0, speed: float = 0.0) -> None:
    actors = world._state.actors
    actors["x"][EGO], actors["y"][EGO], actors["heading"][EGO], actors["speed"][EGO] = x, y, heading, speed


def _obstacle(kind: ActorKind, x: float, y: float = 0.0) -> Scenario:
    line = np.array([[x, y], [x + 1.0, y]], np.float32)
    return Scenario("Obstacle", 0.0, (ActorSpec("it", kind, line, gone_at_path_end=False),))


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        (ActorKind.CAR, "collisions_vehicle"),
        (ActorKind.BICYCLE, "collisions_vehicle"),
        (ActorKind.PEDESTRIAN, "collisions_pedestrian"),
        (ActorKind.CONE, "collisions_layout"),
        (ActorKind.BARRIER, "collisions_layout"),
    ],
)
def test_a_collision_is_counted_once_by_category_and_names_its_kind(kind: ActorKind, key: str) -> None:
    world = EmbeddedWorld(straight(), task(ROAD), 0, density=0.0, staged=[_obstacle(kind, 50.0)])
    record = _drive(world, 300)
    rows = {name: messages for name, messages in record.infractions.items() if name.startswith("collisions")}
    assert [len(messages) for name, messages in rows.items() if name != key] == [0, 0]
    assert len(rows[key]) == 1
    assert kind.name.lower() in rows[key][0]


def test_a_collision_does_not_let_the_ego_through() -> None:
    world = EmbeddedWorld(straight(), task(ROAD), 0, density=0.0, staged=[_obstacle(ActorKind.CAR, 50.0)])
    _drive(world, 400)
    assert float(world.ego().position_world[0]) < 50.0
    assert world.ego().speed_mps < 1.0


def test_an_ego_that_touches_a_parked_car_at_an_angle_grazes_along_it() -> None:
    parked = _obstacle(ActorKind.CAR, 50.0, 2.2)
    world = EmbeddedWorld(straight(), task(ROAD), 0, density=0.0, staged=[parked])
    _drive(world, 1)
    _teleport(world, 44.0, -0.4, heading=0.1, speed=4.0)
    record = _drive(world, 240)
    assert _events(record, Event.COLLISION_VEHICLE) == 1
    assert float(world.ego().position_world[0]) > 55.0


def test_grazing_one_parked_car_does_not_press_the_ego_into_another() -> None:
    funnel = [_obstacle(ActorKind.CAR, 50.0, 2.2), _obstacle(ActorKind.CAR, 50.0, -2.2)]
    world = EmbeddedWorld(straight(), task(ROAD), 0, density=0.0, staged=funnel)
    _drive(world, 1)
    _teleport(world, 44.0, -0.4, heading=0.1, speed=4.0)
    for _ in range(200):
        world.tick(GO)
        actors = world._state.actors
        ego = actors[EGO]
        for other in (actors[1], actors[2]):
            assert not boxes_overlap(
                ego["x"], ego["y"], ego["heading"], ego["length"], ego["width"],
                other["x"], other["y"], other["heading"], other["length"], other["width"],
            )  # fmt: skip


@pytest.mark.parametrize("then", [GO, STOP])
def test_two_that_ran_into_each_other_part_after_the_shock_and_the_route_goes_on(then: Controls) -> None:
    line = np.array([[240.0, 0.0], [5.0, 0.0]], np.float32)
    car = ActorSpec("it", ActorKind.CAR, line, speed_mps=8.0, cruise_mps=8.0, motion=Motion.SCRIPTED)
    head_on = Scenario("Head on", 0.0, (car,))
    world = EmbeddedWorld(straight(), task(ROAD), 0, density=0.0, staged=[head_on])
    while world._state.actors["shock_tick"][1] < 0:
        world.tick(GO)
    at = float(world.ego().position_world[0])
    _drive(world, SHOCK_TICKS - 2, then)  # pushing on makes the shock neither shorter nor longer
    assert abs(float(world.ego().position_world[0]) - at) < 0.5
    _drive(world, 4, then)
    record = _drive(world, 900)
    assert record.status == "Completed"
    assert _events(record, Event.COLLISION_VEHICLE) == 1


def test_an_open_door_bends_away_and_counts() -> None:
    line = np.array([[50.0, 0.6], [51.0, 0.6]], np.float32)
    door = ActorSpec("door", ActorKind.BOX, line, extent_m=(0.1, 0.9, 1.2), gone_at_path_end=False)
    world = EmbeddedWorld(straight(), task(ROAD), 0, density=0.0, staged=[Scenario("Door", 0.0, (door,))])
    record = _drive(world, 300)
    assert _events(record, Event.COLLISION_LAYOUT) == 1
    assert float(world.ego().position_world[0]) > 60.0


def test_a_building_stops_the_ego_and_counts_as_layout() -> None:
    house = Prop(
        "building", np.array([60.0, 0.0, 0.0, 0.3], np.float32), np.array([8.0, 8.0, 5.0], np.float32), 0
    )
    world = EmbeddedWorld(replace(straight(), props=(house,)), task(ROAD), 0, density=0.0)
    record = _drive(world, 300)
    assert len(record.infractions["collisions_layout"]) == 1
    assert "building" in record.infractions["collisions_layout"][0]
    assert float(world.ego().position_world[0]) < 56.0


def test_a_second_collision_more_than_five_metres_on_is_counted_too() -> None:
    cones = [
        Scenario("Cones", 0.0, tuple(_obstacle(ActorKind.CONE, x).actors[0] for x in (50.0,))),
        Scenario("Cones", 0.0, tuple(_obstacle(ActorKind.CONE, x).actors[0] for x in (52.0,))),
        Scenario("Cones", 0.0, tuple(_obstacle(ActorKind.CONE, x).actors[0] for x in (70.0,))),
    ]
    world = EmbeddedWorld(straight(), task(ROAD), 0, density=0.0, staged=cones)
    assert _events(_drive(world, 300), Event.COLLISION_LAYOUT) == 2


def test_being_run_into_at_rest_is_not_the_egos_collision() -> None:
    line = np.array([[0.0, 0.0], [200.0, 0.0]], np.float32)
    ram = ActorSpec("ram", ActorKind.CAR, line, speed_mps=10.0, cruise_mps=10.0, motion=Motion.SCRIPTED)
    world = EmbeddedWorld(
        straight(), task([(60.0, 0.0), (250.0, 0.0)]), 0, density=0.0, staged=[Scenario("Ram", 0.0, (ram,))]
    )
    record = _drive(world, 200, STOP)
    assert not record.infractions["collisions_vehicle"]
    assert world._state.actors["x"][1] < 57.0  # and it stands behind the ego


def _at_lights(state: LightState) -> EmbeddedWorld:
    held = Scenario("Hold", 0.0, stages=(Stage(Now(), (ForceSignals((0,), state),)), Stage(EgoPast(1e6))))
    return EmbeddedWorld(
        crossing(Control.SIGNAL), task([(-60.0, -1.75), (100.0, -1.75)]), 0, density=0.0, staged=[held]
    )


@pytest.mark.parametrize(
    ("state", "count"), [(LightState.RED, 1), (LightState.YELLOW, 0), (LightState.GREEN, 0)]
)
def test_only_a_red_light_that_is_run_counts_and_only_once(state: LightState, count: int) -> None:
    record = _drive(_at_lights(state), 300)
    assert len(record.infractions["red_light"]) == count


def test_stopping_at_the_red_light_is_no_infraction() -> None:
    world = _at_lights(LightState.RED)
    while world.ego().position_world[0] < -22.0:
        world.tick(GO)
    record = _drive(world, 60, STOP)
    assert not record.infractions["red_light"]


def _at_stop_sign() -> EmbeddedWorld:
    return EmbeddedWorld(
        crossing(Control.STOP_SIGN, major=(1, 3)), task([(-60.0, -1.75), (100.0, -1.75)]), 0, density=0.0
    )


def test_a_stop_sign_run_counts() -> None:
    assert len(_drive(_at_stop_sign(), 300).infractions["stop_infraction"]) == 1


def test_a_stop_sign_honoured_does_not_count() -> None:
    world = _at_stop_sign()
    while world.ego().position_world[0] < -17.5:  # the line is at x = -13
        world.tick(GO if world.ego().speed_mps < 3.0 else Controls())
    _drive(world, 20, STOP)
    assert not _drive(world, 200).infractions["stop_infraction"]


def test_a_route_that_begins_at_rest_before_a_stop_sign_has_stopped() -> None:
    town = crossing(Control.STOP_SIGN, major=(1, 3))
    world = EmbeddedWorld(town, task([(-16.0, -1.75), (100.0, -1.75)]), 0, density=0.0)
    assert not _drive(world, 200).infractions["stop_infraction"]
    assert world.ego().position_world[0] > 0.0


def test_driving_off_the_lane_is_counted_by_share_of_the_driven_length() -> None:
    world = EmbeddedWorld(straight(), task(ROAD), 0, density=0.0)
    while world.ego().position_world[0] < 55.0:
        world.tick(GO)
    _teleport(world, 55.0, -2.6, speed=10.0)  # 1.75 + 0.5 m is the limit
    while world.ego().position_world[0] < 105.0:
        world.tick(Controls())
    _teleport(world, 105.0, 0.0, speed=10.0)
    while not world.finished:
        world.tick(GO)
    record = world.record()
    assert record.outside_percent == pytest.approx(100.0 * 50.0 / 245.0, abs=1.5)
    assert len(record.infractions["outside_route_lanes"]) == 1
    assert (
        f"({round(record.outside_percent, 2)}% of the completed route)"
        in (record.infractions["outside_route_lanes"][0])
    )


def test_driving_on_the_opposite_lane_counts_as_outside() -> None:
    world = EmbeddedWorld(crossing(), task([(-140.0, -1.75), (100.0, -1.75)]), 0, density=0.0)
    while world.ego().position_world[0] < -120.0:
        world.tick(GO)
    _teleport(world, -120.0, 1.75, speed=8.0)
    while world.ego().position_world[0] < -80.0:
        world.tick(Controls())
    _teleport(world, -80.0, -1.75, speed=8.0)
    for _ in range(40):
        world.tick(Controls())
    outside = world._state.marks[6]
    assert outside == pytest.approx(40.0, abs=3.0)


def test_more_than_thirty_metres_from_the_route_ends_it() -> None:
    world = EmbeddedWorld(straight(), task(ROAD), 0, density=0.0)
    _drive(world, 10)
    _teleport(world, 30.0, 31.0)
    record = _drive(world, 1)
    assert record.status == "Failed - Agent deviated from the route"
    assert len(record.infractions["route_dev"]) == 1


def test_a_minute_at_rest_blocks() -> None:
    world = EmbeddedWorld(straight(), task(ROAD), 0, density=0.0)
    record = _drive(world, 1300, STOP)
    assert record.status == "Failed - Agent got blocked"
    assert record.ticks == 1201


def test_pushing_against_an_obstacle_blocks_too() -> None:
    world = EmbeddedWorld(straight(), task(ROAD), 0, density=0.0, staged=[_obstacle(ActorKind.CAR, 30.0)])
    record = _drive(world, 1500)
    assert record.status == "Failed - Agent got blocked"
    assert len(record.infractions["collisions_vehicle"]) == 1


def test_jerking_to_and_fro_against_an_obstacle_blocks_too() -> None:
    world = EmbeddedWorld(straight(), task(ROAD), 0, density=0.0, staged=[_obstacle(ActorKind.CAR, 30.0)])
    for tick in range(1800):
        world.tick(GO if tick < 200 or tick % 5 == 0 else STOP)
    assert world.record().status == "Failed - Agent got blocked"


def test_an_ambulance_stays_to_be_yielded_to() -> None:
    line = np.array([[240.0, 0.0], [5.0, 0.0]], np.float32)
    car = ActorSpec("it", ActorKind.AMBULANCE, line, speed_mps=8.0, cruise_mps=8.0, motion=Motion.SCRIPTED)
    world = EmbeddedWorld(straight(), task(ROAD), 0, density=0.0, staged=[Scenario("Head on", 0.0, (car,))])
    _drive(world, 500)
    assert world._state.actors["stage"][1] == ON_STAGE
    assert world._state.actors["hit_tick"][1] >= 0


def test_creeping_at_less_than_a_tenth_of_a_metre_per_second_blocks() -> None:
    world = EmbeddedWorld(straight(), task(ROAD), 0, density=0.0)
    for _ in range(1300):
        world.tick(STOP)
        world._state.actors["x"][EGO] += 0.0025
    assert world.record().status == "Failed - Agent got blocked"


def test_nobody_is_blocked_while_a_scenario_with_a_timeout_runs() -> None:
    waits = Scenario("Wait", 0.0, stages=(Stage(EgoPast(100.0)),), timeout_s=90.0)
    world = EmbeddedWorld(straight(), task(ROAD), 0, density=0.0, staged=[waits])
    record = _drive(world, 1790, STOP)
    assert not world.finished
    record = _drive(world, 20, STOP)
    assert len(record.infractions["scenario_timeouts"]) == 1


def test_the_tick_limit_ends_the_route() -> None:
    world = EmbeddedWorld(straight(), task(ROAD), 0, density=0.0, tick_limit=50)
    record = _drive(world, 60, STOP)
    assert record.status == "Failed - TickRuntime"
    assert record.ticks == 51


def test_the_route_timeout_grows_with_the_way_made() -> None:
    world = EmbeddedWorld(straight(limit=10.0), task(ROAD), 0, density=0.0)
    before = float(world._state.marks[14])
    while world._state.ego[4] < 50.0:
        world.tick(GO)
    assert before == 300.0
    assert world._state.marks[14] - before == pytest.approx(50.0, abs=1.5)  # 1 s for each metre at 10 m/s


def test_an_emergency_vehicle_held_up_until_the_end_is_an_infraction() -> None:
    def run(cruise: float) -> RouteRecord:
        ambulance = ActorSpec(
            "ambulance",
            ActorKind.AMBULANCE,
            lanes=(1,),
            start_s_m=0.0,
            speed_mps=cruise,
            cruise_mps=cruise,
            motion=Motion.REACTIVE,
        )
        scenario = Scenario(
            "Yield", 0.0, (ambulance,), stages=(Stage(EgoPast(150.0)),), emergency_vehicle="ambulance"
        )
        world = EmbeddedWorld(
            straight(600.0, lanes=2), task([(20.0, 0.0), (300.0, 0.0)]), 0, density=0.0, staged=[scenario]
        )
        return _drive(world, 700, Controls(0.0, 0.5, 0.0))

    assert len(run(2.0).infractions["yield_emergency_vehicle_infractions"]) == 1
    assert not run(20.0).infractions["yield_emergency_vehicle_infractions"]


def test_efficiency_compares_with_the_background_per_checkpoint() -> None:
    world = EmbeddedWorld(straight(600.0, lanes=2), task([(5.0, 0.0), (400.0, 0.0)]), 1, density=15.0)
    others, own = [], []
    stretch = world.route.length_m / 20.0
    while world._state.ego[4] < stretch and not world.finished:
        scene = world.scene()
        world.tick(GO)
        actors = world._state.actors
        cars = (
            (actors["stage"] == 1) & (actors["role"] == 0) & (actors["kind"] < 10) & (actors["motion"] == 1)
        )
        cars[EGO] = False
        own.append(float(actors["speed"][EGO]))
        others.append(float(actors["speed"][cars].mean()))
        assert len(scene.actors) > 0
    while world._state.ego[4] < 1.2 * stretch and not world.finished:
        world.tick(GO)
    value = world.record().min_speed_percent[0]
    assert value == pytest.approx(100.0 * np.sum(own) / np.sum(others), rel=0.05)


def test_time_to_collision_samples_match_the_closing_speed() -> None:
    world = EmbeddedWorld(straight(), task(ROAD), 0, density=0.0, staged=[_obstacle(ActorKind.CAR, 100.0)])
    while world.ego().position_world[0] < 60.0:
        world.tick(GO)
    ego = world.ego()
    gap = 100.0 - float(ego.position_world[0]) - 0.5 * (float(ego.extent_m[0]) + 4.6)
    assert world.record().ttc_s[-1] == pytest.approx(gap / ego.speed_mps, rel=1e-3)
    assert math.isinf(world.record().ttc_s[0])


def test_outcome_is_running_until_the_end() -> None:
    world = EmbeddedWorld(straight(), task(ROAD), 0, density=0.0)
    record = _drive(world, 3)
    assert world._state.clock[OUTCOME] == Outcome.RUNNING
    assert record.status == "Failed"
