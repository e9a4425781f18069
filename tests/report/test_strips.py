"""Which routes a strip shows, and what it is made of."""

import json
from pathlib import Path

import numpy as np
import pytest
from made_up_outcomes import VEHICLE, outcome

from takevla.bench.metrics import metrics
from takevla.report.strips import Drive, Evaluated, Shot, choose, strip, write_strips
from takevla.scene.plan import Plan

HIT = {"collisions_vehicle": [VEHICLE]}


def test_mended_and_worse_routes_are_chosen_by_success_no_type_twice_first():
    kinds = {
        "1": "Accident",
        "2": "Accident",
        "3": "ParkedObstacle",
        "4": "Accident",
        "5": "MergerIntoSlowTraffic",
    }
    before = [outcome(k, kind, infractions={} if k in "45" else HIT) for k, kind in kinds.items()]
    after = [outcome(k, kind, infractions=HIT if k == "4" else {}) for k, kind in kinds.items()]
    mended, worse = choose(metrics(before, 5), metrics(after, 5))
    assert {one.route_id for one in mended} == {"1", "2", "3"}
    assert len({one.scenario_type for one in mended[:2]}) == 2
    assert [one.route_id for one in worse] == ["4"]


def test_the_greatest_change_of_each_type_comes_first_and_the_greatest_of_these():
    hits = {
        "1": ("Accident", 1),
        "2": ("Accident", 3),
        "3": ("ParkedObstacle", 1),
        "4": ("ParkedObstacle", 2),
    }
    before = [
        outcome(k, kind, infractions={"collisions_vehicle": [VEHICLE] * count})
        for k, (kind, count) in hits.items()
    ]
    after = [outcome(k, kind, infractions={}) for k, (kind, _) in hits.items()]
    mended, _ = choose(metrics(before, 4), metrics(after, 4))
    assert [one.route_id for one in mended] == ["2", "4", "3", "1"]


def test_a_strip_shows_the_failure_and_the_same_places_of_the_other_drive():
    plan = Plan(np.stack([np.arange(1.0, 21.0), np.zeros(20)], 1).astype(np.float32),
                np.zeros((10, 2), np.float32), "hold 8m/s on the free road")  # fmt: skip

    def shots(shade: int, speed: int) -> list[Shot]:
        image = np.full((128, 384, 3), shade, np.uint8)
        return [Shot(k * 250_000, k * speed, 5.0, image, plan) for k in range(40)]

    failed = Drive(shots(40, 2), [(6_000_000, "collision vehicle")], False)
    picture = strip(failed, Drive(shots(200, 1), [], True))
    assert picture.shape[0] % 2 == 0
    half = picture.shape[0] // 2
    assert (picture[:half] == 40).all(axis=2).sum() > 100_000
    assert (picture[half:] == 200).all(axis=2).sum() > 100_000


def test_where_a_drive_stood_the_other_is_shown_from_there_on():
    plan = Plan(np.zeros((20, 2), np.float32), np.zeros((10, 2), np.float32), "stay stopped")

    def shots(places: list[int]) -> list[Shot]:
        return [
            Shot(k * 500_000, place, 1.0, np.full((128, 384, 3), k, np.uint8), plan)
            for k, place in enumerate(places)
        ]

    stood = Drive(shots([0, 1, 2] + [3] * 20), [], False)
    passed = Drive(shots(list(range(20))), [], True)
    picture = strip(stood, passed)[len(strip(stood, passed)) // 2 :]
    shades = picture[80, 20::392][:4, 0]  # of the pictures: the place it stood at, 1.5, 3 and 4 s later
    assert shades.tolist() == [3, 6, 9, 11]


def made_up_cell(folder: Path, name: str, seed: int, scores: dict[str, float]) -> Path:
    columns = {
        "route_id": list(scores),
        "town": ["Town"] * len(scores),
        "scenario_type": ["Accident"] * len(scores),
        "driving_score": list(scores.values()),
        "success": [score == 100.0 for score in scores.values()],
        "events": ["" if score == 100.0 else "hit a vehicle" for score in scores.values()],
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"suite": "dev88", "seed": seed, "routes": columns}))
    return path


def test_cells_are_chosen_from_as_evaluations_are(tmp_path):
    before = Evaluated.read(made_up_cell(tmp_path, "base", 0, {"1": 60.0, "2": 100.0, "3": 60.0}), "shipped")
    after = Evaluated.read(made_up_cell(tmp_path, "after", 0, {"1": 100.0, "2": 60.0, "3": 60.0}), "other")
    assert (before.driver, before.suite, before.density) == ("shipped", "dev88", after.density)
    mended, worse = choose(before.metrics, after.metrics)
    assert [(one.route_id, one.before_events) for one in mended] == [("1", "hit a vehicle")]
    assert [(one.route_id, one.after_events) for one in worse] == [("2", "hit a vehicle")]


def test_what_cannot_be_shown_is_refused_with_the_mend(tmp_path):
    cell = made_up_cell(tmp_path, "base", 0, {"1": 60.0})
    with pytest.raises(ValueError, match="does not name its model"):
        Evaluated.read(cell)
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(ValueError, match=r"metrics\.json: no cell of a study"):
        Evaluated.read(tmp_path / "metrics.json", "shipped")
    other = Evaluated.read(made_up_cell(tmp_path, "after", 1, {"1": 100.0}), "other")
    with pytest.raises(ValueError, match="seed 0 and 1"):
        write_strips(Evaluated.read(cell, "shipped"), other, tmp_path)
