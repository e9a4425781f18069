"""The shipped suites hold what they promise, and training is kept off validation."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from takevla.bench.make_suite import (
    HARD_TYPES,
    PLANS,
    _routes_of_type,
    append_routes,
    hardest_types,
    select_mini,
)
from takevla.bench.rules import RULES
from takevla.bench.suites import (
    DEV_TOWNS,
    SUITES_DIR,
    is_validation_town,
    load_suite,
    refuse_for_training,
    refuse_held_out,
    suite_names,
)
from takevla.world.maps.atlas import ALDER_TOWNS, BIRCH_TOWNS, load_town
from takevla.world.maps.route_xml import RouteTask, trace_task
from takevla.world.scenarios import SCENARIOS

RESULTS = Path(__file__).parents[2] / "results"
TRAINING_TOWNS = set(ALDER_TOWNS) - set(DEV_TOWNS)


def types(name: str) -> Counter[str]:
    return Counter(task.scenarios[0].type for task in load_suite(name).tasks if task.scenarios)


def test_every_type_has_a_rule() -> None:
    assert set(RULES) == set(SCENARIOS)


def test_train_has_25_routes_of_every_type_on_training_towns() -> None:
    assert set(types("train")) == set(SCENARIOS)
    assert min(types("train").values()) >= 25
    for name in ("train", "train_free"):
        assert {task.town for task in load_suite(name).tasks} <= TRAINING_TOWNS


def test_validation_has_five_routes_of_every_type_on_birch_towns() -> None:
    assert set(types("val220").values()) == {5}
    assert {task.town for task in load_suite("val220").tasks} <= set(BIRCH_TOWNS)


def test_dev_lies_on_the_towns_that_training_leaves_out() -> None:
    assert set(types("dev88").values()) == {2}
    assert {task.town for task in load_suite("dev88").tasks} <= set(DEV_TOWNS)


def test_mini44_is_one_validation_route_of_each_type() -> None:
    mini = load_suite("mini44")
    assert set(types("mini44").values()) == {1}
    assert len(mini.tasks) == 44
    assert set(mini.tasks) <= set(load_suite("val220").tasks)


def test_hard10_is_the_validation_routes_of_the_types_that_were_hardest_on_dev() -> None:
    measured = json.loads((RESULTS / "expert" / "dev88.json").read_text(encoding="utf-8"))
    assert hardest_types(measured["metrics"]["per_route"]) == HARD_TYPES
    assert types("hard10") == dict.fromkeys(HARD_TYPES, 5)
    assert set(load_suite("hard10").tasks) <= set(load_suite("val220").tasks)


def test_appended_routes_stand_behind_all_others_and_are_not_drawn_twice() -> None:
    tasks = list(load_suite("train").tasks)
    assert append_routes(PLANS[0], tasks) == []
    places = Counter((task.town, task.scenarios[0].type, task.scenarios[0].trigger_world) for task in tasks)
    assert max(places.values()) == 1
    assert len({task.id for task in tasks}) == len(tasks)
    appended = tasks[-len(SCENARIOS) :]
    assert {task.scenarios[0].type for task in appended} == set(SCENARIOS)


def test_a_selection_fills_up_with_second_routes_where_types_are_missing() -> None:
    tasks = [task for task in load_suite("val220").tasks if task.scenarios[0].type < "D"]
    chosen = select_mini(tasks, 12)
    assert len(chosen) == 12
    assert len(set(chosen)) == 12


def test_a_route_has_the_same_seed_in_every_suite() -> None:
    seeds = dict(zip((t.id for t in load_suite("val220").tasks), load_suite("val220").seeds, strict=True))
    mini = load_suite("mini44")
    assert all(seeds[task.id] == seed for task, seed in zip(mini.tasks, mini.seeds, strict=True))


@pytest.mark.parametrize("name", ["val220", "dev88", "mini44", "hard10"])
def test_training_refuses_validation_suites(name: str) -> None:
    suite = load_suite(name)
    with pytest.raises(ValueError, match=name):
        refuse_for_training(suite)
    with pytest.raises(ValueError, match=suite.tasks[0].town):
        refuse_for_training(suite.tasks)


def test_training_accepts_training_suites_and_they_hold_no_validation_town() -> None:
    for name in ("train", "train_free"):
        suite = load_suite(name)
        refuse_for_training(suite)
        refuse_for_training(suite.tasks)
        assert not [task.id for task in suite.tasks if is_validation_town(task.town)]


def test_an_unknown_suite_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="mini44"):
        load_suite("nonsense")


def test_suite_files_stay_small() -> None:
    assert sum(path.stat().st_size for path in SUITES_DIR.iterdir()) < 3_000_000
    assert {"train", "train_free", "dev88", "val220", "mini44", "hard10"} == set(suite_names())


def test_routes_are_traceable_and_as_long_as_promised() -> None:
    for task in load_suite("mini44").tasks:
        length = trace_task(load_town(task.town), task).length_m
        assert 90.0 < length < 420.0
    for task in load_suite("train_free").tasks[:8]:
        assert trace_task(load_town(task.town), task).length_m > 250.0


def test_most_routes_are_driven_by_day() -> None:
    weathers = [task.weathers[0][1] for task in load_suite("train").tasks]
    day = np.array([weather.sun_altitude_deg > 20.0 and weather.fog_density == 0.0 for weather in weathers])
    dry = np.array([weather.precipitation == 0.0 for weather in weathers])
    assert 0.65 < (day & dry).mean() < 0.85


def test_making_a_suite_again_gives_the_same_routes() -> None:
    rule = RULES["ParkedObstacle"]
    first, second = (
        _routes_of_type(PLANS[1].towns[:1], 2, "ParkedObstacle", rule, 1, np.random.default_rng(3), ())
        for _ in range(2)
    )
    assert first == second
    assert len(first) == 2


def test_a_route_that_begins_where_a_held_out_one_does_is_refused_whatever_its_id() -> None:
    held_out = [RouteTask("2273", "Town12", np.array([[100.0, 50.0, 0.0], [200.0, 50.0, 0.0]], np.float32))]

    def begun(town: str, x: float) -> RouteTask:
        return RouteTask("mine", town, np.array([[x, 50.5, 300.0], [300.0, 50.0, 0.0]], np.float32))

    for town, x in (("Town12", 101.5), ("Town12_Opt", 98.5)):
        with pytest.raises(
            ValueError, match=rf"route mine of {town} begins where route 2273 of b2d\.xml does"
        ):
            refuse_held_out([begun("Town13", 100.0), begun(town, x)], held_out, "b2d.xml")
    refuse_held_out([begun("Town13", 100.0), begun("Town12", 103.0)], held_out, "b2d.xml")
