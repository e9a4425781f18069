"""Standing starts: short tasks that begin at rest anywhere along known routes.

An expert's attempt stands at its start for a single frame, so a model that imitates whole routes sees few
frames in which standing still is to end, and learns to stay ("inertia").  These tasks are all start: some
stand behind a red light or a leader and must stay, most must go.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from takevla.scene.trace import trace_route
from takevla.world.maps.atlas import load_town
from takevla.world.maps.route_xml import RouteTask

AHEAD_M = 60  # length of a start's route
AT_LINE_EVERY = 3  # of the starts, two in so many stand at a junction's entry where the route has one
LINE_M = (3, 6)  # nearest and farthest place of the ego's centre before the entry
KEYPOINT_EVERY_M = 15


def standing_starts(tasks: Sequence[RouteTask], per_route: int, seed: int) -> list[RouteTask]:
    """`per_route` starts outside junctions along each task's route, without scenarios.

    Two in three stand where junctions are entered: there a student must learn from what it sees, and not
    from its own standing, whether to go.  The others stand anywhere.  Routes too short for a start of
    `AHEAD_M` are passed over.  Ids are the route's with a letter and number.
    """
    starts = []
    for index, task in enumerate(tasks):
        road_map = load_town(task.town)
        route = trace_route(road_map, task.keypoints_world)
        outside = road_map.arrays.lane_junction[route.lane] < 0
        places = np.flatnonzero(outside[: max(len(route) - AHEAD_M, 0)])
        if len(places) == 0:
            continue
        generator = np.random.default_rng([seed, index])
        entries = places[~outside[places + 1]]
        for number in range(min(per_route, len(places))):
            place = generator.choice(places)
            if len(entries) and number % AT_LINE_EVERY:
                back = generator.integers(LINE_M[0], LINE_M[1], endpoint=True)
                place = max(int(generator.choice(entries)) - int(back), 0)
            wanted = np.arange(place, place + AHEAD_M + 1, KEYPOINT_EVERY_M)
            keep = wanted[outside[wanted]]
            if len(keep) >= 2:
                starts.append(
                    RouteTask(f"{task.id}s{number}", task.town, route.points_world[keep], (), task.weathers)
                )
    return starts
