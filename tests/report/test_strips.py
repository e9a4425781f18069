"""Which routes a strip shows, and what it is made of."""

import numpy as np
from made_up_outcomes import VEHICLE, outcome

from takevla.bench.metrics import metrics
from takevla.report.strips import Drive, Shot, choose, strip
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
