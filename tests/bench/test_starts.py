"""Standing starts: inside the route, outside junctions, most of them at a line."""

import numpy as np

from takevla.bench.starts import LINE_M, standing_starts
from takevla.bench.suites import load_suite
from takevla.scene.trace import trace_route
from takevla.world.maps.atlas import load_town


def test_many_starts_stand_where_a_junction_is_entered_and_none_within_one():
    tasks = [task for task in load_suite("train").tasks if task.town == "Alder01"][:6]
    starts = standing_starts(tasks, 6, seed=1)
    assert len(starts) == 6 * len(tasks)
    at_line = 0
    for start in starts:
        road_map = load_town(start.town)
        route = trace_route(road_map, start.keypoints_world)
        inside = road_map.arrays.lane_junction[route.lane] >= 0
        assert not inside[0]
        entry = int(np.argmax(inside)) if inside.any() else len(inside)
        at_line += entry <= LINE_M[1] + 2
    assert at_line >= len(starts) // 3  # some routes cross no junction with room behind it


def test_the_same_seed_gives_the_same_starts():
    tasks = load_suite("train").tasks[:3]
    one, other = standing_starts(tasks, 3, 5), standing_starts(tasks, 3, 5)
    for a, b in zip(one, other, strict=True):
        assert a.id == b.id
        assert np.array_equal(a.keypoints_world, b.keypoints_world)
