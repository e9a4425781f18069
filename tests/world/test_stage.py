"""Scenarios are executed as they are written."""

import numpy as np
import pytest
from plain_maps import crossing, straight, task

from takevla.scene.actors import ActorKind, Cue
from takevla.scene.road_map import Control, LightState
from takevla.scene.scene import Controls
from takevla.world.embedded import EmbeddedWorld
from takevla.world.stage import ENDED, RUNNING, TIMED_OUT, WAITING
from takevla.world.staging import (
    ActorAhead,
    ActorAt,
    ActorGone,
    ActorSpec,
    After,
    AllOf,
    AnyOf,
    BrakeTraffic,
    ClearTraffic,
    EgoArrives,
    EgoNoise,
    EgoPast,
    EgoStopped,
    EgoWithin,
    Flow,
    ForceSignals,
    KeepClear,
    Motion,
    Now,
    Remove,
    Scenario,
    SetCruise,
    SetCue,
    SetMotion,
    Shift,
    Show,
    Stage,
    StartFlow,
    StopFlow,
    SwitchPath,
    SyncArrival,
)
from takevla.world.state import EGO, EMPTY, HIDDEN, ON_STAGE

GO = Controls(0.0, 0.6, 0.0)
STOP = Controls(0.0, 0.0, 1.0)
ROAD = [(5.0, 0.0), (300.0, 0.0)]
NEVER = Stage(EgoPast(1e6))


def _line(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, np.float32)


def _world(
    *stages: Stage, actors: tuple[ActorSpec, ...] = (), lanes: int = 1, **fields: object
) -> EmbeddedWorld:
    trigger = float(fields.pop("trigger_s_m", 0.0))  # type: ignore[arg-type]
    density = float(fields.pop("density", 0.0))  # type: ignore[arg-type]
    scenario = Scenario("Test", trigger, actors, stages=stages, **fields)  # type: ignore[arg-type]
    return EmbeddedWorld(straight(600.0, lanes), task(ROAD), 0, density=density, staged=[scenario])


def _run(world: EmbeddedWorld, ticks: int, controls: Controls = GO) -> None:
    for _ in range(ticks):
        world.tick(controls)


def _walker(**fields: object) -> ActorSpec:
    return ActorSpec(
        "walker", ActorKind.PEDESTRIAN, _line((60.0, -6.0), (60.0, 6.0)), motion=Motion.SCRIPTED, **fields
    )  # type: ignore[arg-type]


def test_a_scenario_waits_for_its_trigger_and_ends_with_its_last_stage() -> None:
    world = _world(Stage(EgoPast(60.0)), trigger_s_m=30.0)
    stage = world._stages[0]
    phases = []
    while world._state.ego[4] < 80.0:
        world.tick(GO)
        phases.append((float(world._state.ego[4]), stage.course.phase))
    assert all(phase == WAITING for s, phase in phases if s < 27.0)
    assert all(phase == RUNNING for s, phase in phases if 30.0 < s < 60.0)
    assert all(phase == ENDED for s, phase in phases if s > 61.5)


def test_a_scenario_that_takes_too_long_times_out() -> None:
    world = _world(NEVER, timeout_s=2.0)
    _run(world, 30, STOP)
    assert world._stages[0].course.phase == RUNNING
    _run(world, 20, STOP)
    assert world._stages[0].course.phase == TIMED_OUT


@pytest.mark.parametrize(
    ("condition", "seconds"),
    [
        (Now(), 0.0),
        (After(1.0), 1.0),
        (EgoStopped(2.0), 2.0),
        (AnyOf((After(3.0), After(1.5))), 1.5),
        (AllOf((After(3.0), After(1.5))), 3.0),
        (ActorAt("walker", 6.0), 6.0),
        (EgoWithin(56.0, (60.0, 0.0)), 0.0),
    ],
)
def test_conditions_hold_when_they_should(condition: object, seconds: float) -> None:
    world = _world(Stage(condition), NEVER, actors=(_walker(speed_mps=1.0, cruise_mps=1.0),))  # type: ignore[arg-type]
    ticks = 0
    while world._stages[0].course.stage == 0:
        world.tick(STOP)
        ticks += 1
        assert ticks < 200
    assert ticks * 0.05 == pytest.approx(seconds, abs=0.11)


def test_arrival_is_judged_by_the_egos_speed() -> None:
    world = _world(Stage(EgoArrives(60.0, 2.0, 5.0)), NEVER)
    while world._stages[0].course.stage == 0:
        speed, s = world.ego().speed_mps, float(world._state.ego[4])
        world.tick(GO)
    assert (60.0 - s) / speed == pytest.approx(2.0, abs=0.15)


def test_a_hidden_walker_appears_crosses_and_is_gone_at_its_paths_end() -> None:
    stages = (
        Stage(After(1.0), (Show("walker"), SetCruise("walker", 2.0), SetCue("walker", Cue.CROSSING))),
        Stage(ActorGone("walker")),
    )
    world = _world(*stages, actors=(_walker(hidden=True),))
    assert world._state.actors["stage"][1] == HIDDEN
    _run(world, 60, STOP)
    assert world._state.actors["stage"][1] == ON_STAGE
    assert world._state.actors["cue"][1] == Cue.CROSSING
    assert world._state.actors["y"][1] > -4.0
    _run(world, 120, STOP)
    assert world._state.actors["stage"][1] == EMPTY
    assert world._stages[0].course.phase == ENDED


def test_show_places_an_actor_relative_to_the_ego() -> None:
    car = ActorSpec("car", ActorKind.CAR, lanes=(0,), hidden=True, motion=Motion.REACTIVE)
    world = _world(Stage(EgoPast(50.0), (Show("car", -20.0),)), NEVER, actors=(car,))
    while world._stages[0].course.stage == 0:
        x = world.ego().position_world[0]
        world.tick(GO)
    assert float(world._state.actors["x"][1]) == pytest.approx(float(x) - 20.0, abs=1.0)


def test_an_actor_changes_to_another_path_smoothly() -> None:
    car = ActorSpec(
        "car",
        ActorKind.CAR,
        lanes=(1,),
        start_s_m=20.0,
        speed_mps=10.0,
        cruise_mps=10.0,
        motion=Motion.SCRIPTED,
    )
    world = _world(
        Stage(After(1.0), (SwitchPath("car", lanes=(0,), seconds=3.0),)), NEVER, actors=(car,), lanes=2
    )
    ys = []
    for _ in range(120):
        world.tick(STOP)
        ys.append(float(world._state.actors["y"][1]))
    assert ys[10] == pytest.approx(3.5)
    assert ys[-1] == pytest.approx(0.0, abs=1e-6)
    assert np.abs(np.diff(ys)).max() < 0.15
    assert ys[20 + 30] == pytest.approx(1.75, abs=0.2)


def test_shift_moves_an_actor_aside_on_its_path() -> None:
    car = ActorSpec(
        "car",
        ActorKind.CAR,
        lanes=(0,),
        start_s_m=40.0,
        speed_mps=8.0,
        cruise_mps=8.0,
        motion=Motion.SCRIPTED,
    )
    world = _world(Stage(Now(), (Shift("car", 1.2, 2.0),)), NEVER, actors=(car,))
    _run(world, 60, STOP)
    assert float(world._state.actors["y"][1]) == pytest.approx(1.2)


def test_synchronised_arrival_meets_the_ego() -> None:
    car = ActorSpec("car", ActorKind.CAR, _line((120.0, -80.0), (120.0, 80.0)), motion=Motion.SCRIPTED)
    world = _world(Stage(Now(), (SyncArrival("car", 70.0, 115.0),)), NEVER, actors=(car,))
    while world._state.ego[4] < 112.0:
        world.tick(Controls(0.0, 0.5, 0.0))
    assert float(world._state.actors["y"][1]) == pytest.approx(-10.0, abs=4.0)


def test_static_actors_do_not_move_and_motion_can_be_changed() -> None:
    car = ActorSpec("car", ActorKind.CAR, lanes=(0,), start_s_m=80.0)
    world = _world(Stage(After(1.0), (SetMotion("car", Motion.TRAFFIC),)), NEVER, actors=(car,))
    _run(world, 20, STOP)
    assert float(world._state.actors["x"][1]) == pytest.approx(80.0)
    _run(world, 60, STOP)
    assert float(world._state.actors["speed"][1]) > 3.0


def test_signals_are_forced_and_released_at_the_end() -> None:
    scenario = Scenario(
        "Hold", 0.0, stages=(Stage(Now(), (ForceSignals((1,), LightState.YELLOW),)), Stage(After(1.0)))
    )
    world = EmbeddedWorld(
        crossing(Control.SIGNAL), task([(-100.0, -1.75), (-20.0, -1.75)]), 0, density=0.0, staged=[scenario]
    )
    _run(world, 5, STOP)
    assert world.scene().lights[1] == LightState.YELLOW
    _run(world, 30, STOP)
    assert world.scene().lights[1] == LightState.RED


def test_a_flow_keeps_its_gaps_and_drains_at_the_sink() -> None:
    flow = Flow("flow", lanes=(1,), speed_mps=10.0, gap_m=(20.0, 30.0), kinds=(ActorKind.CAR,), most=20)
    world = _world(
        Stage(Now(), (StartFlow("flow"),)),
        Stage(After(60.0), (StopFlow("flow"),)),
        NEVER,
        flows=(flow,),
        lanes=2,
    )
    gaps, most = [], 0
    for _ in range(1190):
        world.tick(STOP)
        actors = world._state.actors
        on = np.flatnonzero((actors["stage"] == ON_STAGE) & (np.arange(len(actors)) > 0))
        most = max(most, len(on))
        x = np.sort(actors["x"][on])
        gaps.extend(np.diff(x) - 4.6)
        world._state.marks[13] = 0.0
    assert most >= 15
    assert min(gaps) > 15.0
    assert float(world._state.actors["x"][1:].max()) <= 600.0


def test_a_prefilled_flow_is_there_at_once() -> None:
    flow = Flow(
        "flow", lanes=(0,), speed_mps=10.0, gap_m=(20.0, 30.0), from_start=True, prefilled=True, most=20
    )
    world = _world(NEVER, flows=(flow,), lanes=2)
    x = world.scene().actors.position_world[:, 0]
    assert len(x) > 15
    assert float(x.max()) > 500.0
    assert np.abs(x - 5.0).min() > 10.0  # none where the ego stands


def test_a_cleared_flow_leaves() -> None:
    flow = Flow("flow", lanes=(1,), speed_mps=10.0, from_start=True, prefilled=True)
    world = _world(Stage(After(1.0), (StopFlow("flow", clear=True),)), NEVER, flows=(flow,), lanes=2)
    assert len(world.scene().actors) > 0
    _run(world, 40, STOP)
    assert len(world.scene().actors) == 0


def test_background_ahead_of_the_ego_brakes_on_command() -> None:
    world = _world(Stage(After(1.0), (BrakeTraffic(90.0, 5.0),)), NEVER, density=60.0)
    _run(world, 19, STOP)
    actors = world._state.actors
    ahead = np.flatnonzero(
        (actors["stage"] == ON_STAGE)
        & (actors["role"] == 0)
        & (actors["x"] > 10.0)
        & (actors["x"] < 85.0)
        & (actors["speed"] > 2)
    )
    assert len(ahead)
    _run(world, 70, STOP)
    assert (actors["speed"][ahead] < 0.5).all()


def test_cleared_and_kept_clear_places_hold_no_background() -> None:
    line = _line((150.0, 0.0), (250.0, 0.0))
    world = _world(NEVER, density=30.0, keep_clear=(KeepClear(line, 3.0),))
    x = world.scene().actors.position_world[:, 0]
    assert not ((x > 150.0) & (x < 250.0)).any()
    world = _world(Stage(Now(), (ClearTraffic(_line((0.0, 0.0), (600.0, 0.0)), 3.0),)), density=30.0)
    assert len(world.scene().actors) > 0
    world.tick(STOP)
    assert len(world.scene().actors) <= 1  # perhaps one put on stage anew


def test_noise_disturbs_the_ego_until_it_is_taken_back() -> None:
    noise = EgoNoise(0.055, 0.015, 0.03, 0.01)
    world = _world(Stage(EgoPast(20.0), (noise,)), Stage(EgoPast(100.0)))
    while world._state.ego[4] < 110.0:
        world.tick(GO)
        if world._state.ego[4] < 18.0:
            assert world.ego().heading_rad == 0.0
    heading = world.ego().heading_rad
    assert heading != 0.0
    _run(world, 5)
    assert world.ego().heading_rad == heading


def test_actors_leave_on_command_or_at_the_end() -> None:
    stays = ActorSpec("stays", ActorKind.CAR, lanes=(0,), start_s_m=200.0)
    goes = ActorSpec("goes", ActorKind.CAR, lanes=(0,), start_s_m=220.0, gone_at_end=True)
    taken = ActorSpec("taken", ActorKind.CAR, lanes=(0,), start_s_m=240.0)
    world = _world(Stage(After(0.5), (Remove("taken"),)), Stage(After(0.5)), actors=(stays, goes, taken))
    _run(world, 15, STOP)
    assert world._state.actors["stage"][1:4].tolist() == [ON_STAGE, ON_STAGE, EMPTY]
    _run(world, 15, STOP)
    assert world._state.actors["stage"][1:4].tolist() == [ON_STAGE, EMPTY, EMPTY]


def test_ego_ahead_of_actor_is_seen_from_the_ego() -> None:
    car = ActorSpec("car", ActorKind.CAR, lanes=(0,), start_s_m=60.0)
    world = _world(Stage(ActorAhead("car", 60.0)), Stage(ActorAhead("car", 50.0)), NEVER, actors=(car,))
    _run(world, 3, STOP)
    assert world._stages[0].course.stage == 0
    assert world._state.actors["x"][EGO] == pytest.approx(5.0)


@pytest.mark.parametrize(
    "actor",
    [
        ActorSpec("both", ActorKind.CAR, _line((0.0, 0.0), (9.0, 0.0)), lanes=(0,)),
        ActorSpec("neither", ActorKind.CAR),
        ActorSpec("beyond", ActorKind.CAR, lanes=(99,)),
    ],
)
def test_a_scenario_with_a_wrong_path_is_refused_by_name(actor: ActorSpec) -> None:
    with pytest.raises(ValueError, match=actor.name):
        _world(NEVER, actors=(actor,))
