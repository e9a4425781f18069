"""Finding places in a town where a scenario type can be staged, and routes through them.

A rule says what kind of way a type needs (plain road, a left turn, a merge, ...) and how its
parameters are drawn.  The finder draws ways of that kind, puts the trigger on them and keeps the
first that the scenario's own builder accepts: no second list of requirements exists.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from takevla.scene.road_map import NO_LANE, LaneKind, RoadMap, Turn
from takevla.scene.route import Route
from takevla.scene.trace import trace_route
from takevla.world.scenarios import Place, build_scenario
from takevla.world.scenarios.place import arc_lengths, cut, join
from takevla.world.staging import CannotStart, Site

Generator = np.random.Generator
Parameters = Mapping[str, Mapping[str, str]]
Sampler = Callable[[Place, Generator], Parameters]

ATTEMPTS = 400  # ways drawn for one site before the town is given up
APART_M = 30.0  # between the triggers of two sites of one type, relaxed as attempts fail
FAST_MPS = 16.0  # roads with exits have at least this limit
NEAR_M = 60  # of route behind the trigger, whose speed limit counts
EDGE_M = 6.0  # routes start and end so far from the ends of a lane


class Way(Enum):
    """What kind of way the route takes past the hazard."""

    ROAD = "plain road"
    STRAIGHT = "straight on at a junction"
    LEFT = "left turn"
    RIGHT = "right turn"
    TURN = "left or right turn"
    JUNCTION = "any way through a junction"
    MERGE = "from a ramp onto a main road"
    BESIDE_MERGE = "along a main road where a ramp joins it"
    EXIT = "from a main road onto a ramp"
    LANE_CHANGE = "several lanes over"


@dataclass(frozen=True)
class Rule:
    """What one type needs of its route."""

    way: Way
    sample: Sampler
    before_m: tuple[float, float] = (42.0, 58.0)  # of route before the trigger
    approach_m: tuple[float, float] = (38.0, 52.0)  # from the trigger to the junction or merge
    after_m: tuple[float, float] = (100.0, 125.0)  # from the trigger, or from the junction, to the end
    fastest_mps: float = 80.0 / 3.6  # highest speed limit near the trigger


@dataclass(frozen=True)
class Found:
    """A route with its trigger and parameters."""

    keypoints_world: NDArray[np.float32]  # (K, 3)
    trigger_world: tuple[float, float, float, float]  # x, y, z, yaw
    parameters: Parameters
    route: Route


# --- drawing ways -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Draft:
    keypoints: NDArray[np.float32]
    trigger_m: float  # along the lanes from the first keypoint


def _rounded(keypoints: NDArray[Any]) -> NDArray[np.float32]:
    return np.round(keypoints.astype(np.float64), 2).astype(np.float32)


def _driving(road_map: RoadMap, lanes: tuple[int, ...]) -> list[int]:
    return [lane for lane in lanes if road_map.lanes[lane].kind == LaneKind.DRIVING]


def _chain(
    road_map: RoadMap, lane: int, s_m: float, behind_m: float, ahead_m: float, rng: Generator
) -> tuple[tuple[int, ...], float] | None:
    """Lanes from `behind_m` before to `ahead_m` after a place, drawn at each fork; and `s_m` along them."""
    chain, behind, ahead = [lane], s_m, road_map.lanes[lane].length_m - s_m
    while behind < behind_m + EDGE_M or road_map.lanes[chain[0]].junction >= 0:
        options = [i for i in _driving(road_map, road_map.lanes[chain[0]].predecessors) if i not in chain]
        if not options or len(chain) > 40:
            return None
        chain.insert(0, options[int(rng.integers(len(options)))])
        behind += road_map.lanes[chain[0]].length_m
    while ahead < ahead_m + EDGE_M or road_map.lanes[chain[-1]].junction >= 0:
        options = [i for i in _driving(road_map, road_map.lanes[chain[-1]].successors) if i not in chain]
        if not options or len(chain) > 40:
            return None
        chain.append(options[int(rng.integers(len(options)))])
        ahead += road_map.lanes[chain[-1]].length_m
    return tuple(chain), behind


def _outside_junction(road_map: RoadMap, chain: tuple[int, ...], s_m: float, step_m: float) -> float:
    """The place nearest to `s_m` in steps of `step_m` that lies on a lane outside junctions."""
    ends = np.cumsum([road_map.lanes[lane].length_m for lane in chain])
    for _ in range(60):
        lane = chain[min(int(np.searchsorted(ends, s_m)), len(chain) - 1)]
        start = float(ends[chain.index(lane)]) - road_map.lanes[lane].length_m
        clear = min(s_m - start, start + road_map.lanes[lane].length_m - s_m)
        if road_map.lanes[lane].junction < 0 and clear > 3.0:
            break
        s_m += step_m
    return float(np.clip(s_m, 1.0, float(ends[-1]) - 1.0))


def _draft(
    road_map: RoadMap, chain: tuple[int, ...], anchor_m: float, trigger_m: float, rule: Rule, rng: Generator
) -> _Draft:
    """Keypoints along a chain: its ends and one inside every lane between."""
    start = _outside_junction(road_map, chain, trigger_m - rng.uniform(*rule.before_m), -2.0)
    end = _outside_junction(road_map, chain, anchor_m + rng.uniform(*rule.after_m), 2.0)
    points = join(road_map, chain)
    s = arc_lengths(points)
    places, along = [start], 0.0
    for lane in chain:
        length = road_map.lanes[lane].length_m
        middle = along + length / 2.0
        if start + 8.0 < middle < end - 8.0 and length > 4.0:
            places.append(middle)
        along += length
    places.append(end)
    keypoints = np.stack([np.interp(places, s, points[:, axis]) for axis in range(3)], axis=1)
    return _Draft(_rounded(keypoints), trigger_m - start)


def _road_drafts(road_map: RoadMap, rule: Rule, rng: Generator) -> Iterator[_Draft]:
    lanes = [x for x in road_map.lanes if x.kind == LaneKind.DRIVING and x.junction < 0 and x.length_m > 40.0]
    if not lanes:
        return
    # Weighted by the time it takes to drive them, or the few fast roads would have most sites.
    weights = np.array([lane.length_m / lane.speed_limit_mps for lane in lanes])
    while True:
        lane = lanes[int(rng.choice(len(lanes), p=weights / weights.sum()))]
        s_m = float(rng.uniform(0.0, lane.length_m))
        found = _chain(road_map, lane.index, s_m, rule.before_m[1], rule.after_m[1], rng)
        yield _EMPTY if found is None else _draft(road_map, found[0], found[1], found[1], rule, rng)


def _entries(road_map: RoadMap, turns: tuple[Turn, ...]) -> list[int]:
    """Connectors by which traffic enters junctions, of the given turns."""
    return [
        lane.index
        for lane in road_map.lanes
        if lane.junction >= 0
        and lane.turn in turns
        and any(road_map.lanes[before].junction < 0 for before in lane.predecessors)
    ]


def _junction_drafts(road_map: RoadMap, rule: Rule, rng: Generator) -> Iterator[_Draft]:
    turns = {
        Way.STRAIGHT: (Turn.STRAIGHT,),
        Way.LEFT: (Turn.LEFT,),
        Way.RIGHT: (Turn.RIGHT,),
        Way.TURN: (Turn.LEFT, Turn.RIGHT),
        Way.JUNCTION: (Turn.LEFT, Turn.STRAIGHT, Turn.RIGHT),
    }[rule.way]
    connectors = _entries(road_map, turns)
    while connectors:
        connector = connectors[int(rng.integers(len(connectors)))]
        approach = float(rng.uniform(*rule.approach_m))
        found = _chain(road_map, connector, 0.0, approach + rule.before_m[1], rule.after_m[1] + 30.0, rng)
        if found is None:
            yield _EMPTY
            continue
        chain, enter_m = found
        leave_m = enter_m
        for lane in chain[chain.index(connector) :]:
            if road_map.lanes[lane].junction != road_map.lanes[connector].junction:
                break
            leave_m += road_map.lanes[lane].length_m
        yield _draft(road_map, chain, leave_m, enter_m - approach, rule, rng)


def merges(road_map: RoadMap) -> list[tuple[int, int]]:
    """Places where a ramp joins a main road: (last lane of the ramp, lane beside it that it gives way to)."""
    found = []
    for lane in road_map.lanes:
        if lane.kind != LaneKind.DRIVING or not lane.successors:
            continue
        into = road_map.lanes[lane.successors[0]]
        for other in _driving(road_map, into.predecessors):
            bend = float(road_map.lanes[other].heading_rad[0] - lane.heading_rad[0])
            alike = abs(math.remainder(bend, math.tau)) < math.radians(20.0)
            if other in lane.yields_to and alike and other != lane.index:
                found.append((lane.index, other))
    return found


def exits(road_map: RoadMap) -> list[tuple[int, int]]:
    """Places to leave a fast road on its right: (exit lane, the lane left of it that goes on)."""
    found = []
    for lane in road_map.lanes:
        if lane.kind != LaneKind.DRIVING or lane.junction >= 0 or lane.left == NO_LANE:
            continue
        left = road_map.lanes[lane.left]
        if left.kind != LaneKind.DRIVING or lane.speed_limit_mps < FAST_MPS:
            continue
        mine, theirs = _driving(road_map, lane.successors), _driving(road_map, left.successors)
        if mine and theirs and theirs[0] != road_map.lanes[mine[0]].left and len(theirs) == 1:
            found.append((lane.index, left.index))
    return found


def _merge_drafts(road_map: RoadMap, rule: Rule, rng: Generator) -> Iterator[_Draft]:
    """Along the ramp, or along the main road beside it."""
    places = merges(road_map)
    while places:
        lane = places[int(rng.integers(len(places)))][0 if rule.way is Way.MERGE else 1]
        approach = float(rng.uniform(*rule.approach_m))
        found = _chain(road_map, lane, 0.0, approach + rule.before_m[1], rule.after_m[1] + 60.0, rng)
        if found is None:
            yield _EMPTY
            continue
        chain, enter_m = found
        leave_m = enter_m + road_map.lanes[lane].length_m
        yield _draft(road_map, chain, leave_m, enter_m - approach, rule, rng)


def _sideways_drafts(road_map: RoadMap, rule: Rule, rng: Generator) -> Iterator[_Draft]:
    """From one lane to another of the same road: to an exit on the right, or to the left."""
    if rule.way is Way.EXIT:
        places = [(_leftmost(road_map, main), lane, 0.05) for lane, main in exits(road_map)]
    else:
        places = [
            (lane.index, _leftmost(road_map, lane.index), 0.35)
            for lane in road_map.lanes
            if lane.kind == LaneKind.DRIVING and lane.junction < 0 and lane.length_m > 110.0
        ]
        places = [place for place in places if place[0] != place[1]]
    while places:
        first, second, share = places[int(rng.integers(len(places)))]
        length = road_map.lanes[first].length_m
        start = _chain(road_map, first, share * length, rule.before_m[1], 0.0, rng)
        on_second = share * road_map.lanes[second].length_m
        end = _chain(road_map, second, on_second, 0.0, rule.after_m[1], rng)
        if start is None or end is None:
            yield _EMPTY
            continue
        before_m = rng.uniform(*rule.before_m)
        before = cut(join(road_map, start[0]), start[1] - before_m, start[1])
        after_m = end[1] + rng.uniform(*rule.after_m)
        after = cut(join(road_map, end[0]), after_m - 2.0, after_m)
        keypoints = np.stack([before[0], before[-1], after[-1]])
        yield _Draft(_rounded(keypoints), before_m)


def _leftmost(road_map: RoadMap, lane: int) -> int:
    while True:
        left = road_map.lanes[lane].left
        if left == NO_LANE or road_map.lanes[left].kind != LaneKind.DRIVING:
            return lane
        lane = left


_EMPTY = _Draft(np.zeros((0, 3), np.float32), math.nan)

_DRAFTS: Mapping[Way, Callable[[RoadMap, Rule, Generator], Iterator[_Draft]]] = {
    Way.ROAD: _road_drafts,
    Way.STRAIGHT: _junction_drafts,
    Way.LEFT: _junction_drafts,
    Way.RIGHT: _junction_drafts,
    Way.TURN: _junction_drafts,
    Way.JUNCTION: _junction_drafts,
    Way.MERGE: _merge_drafts,
    Way.BESIDE_MERGE: _merge_drafts,
    Way.EXIT: _sideways_drafts,
    Way.LANE_CHANGE: _sideways_drafts,
}


def find_site(
    road_map: RoadMap,
    scenario_type: str,
    rule: Rule,
    rng: Generator,
    taken: list[tuple[float, float]],
    attempts: int = ATTEMPTS,
) -> Found | None:
    """A place for the type that lies apart from those `taken` (x, y of triggers); None if there is none."""
    for attempt, draft in enumerate(_DRAFTS[rule.way](road_map, rule, rng)):
        if attempt >= attempts:
            return None
        if len(draft.keypoints) == 0:
            continue
        apart = APART_M * (1.0 - attempt / attempts)
        found = _accept(road_map, scenario_type, rule, rng, draft)
        if found is None:
            continue
        x, y = found.trigger_world[:2]
        if all(math.hypot(x - tx, y - ty) >= apart for tx, ty in taken):
            return found
    return None


def _accept(road_map: RoadMap, scenario_type: str, rule: Rule, rng: Generator, draft: _Draft) -> Found | None:
    try:
        route = trace_route(road_map, draft.keypoints)
    except ValueError:
        return None
    straight = np.linalg.norm(np.diff(draft.keypoints[:, :2], axis=0), axis=1).sum()
    if route.length_m > 1.6 * straight + 20.0 or draft.trigger_m > route.length_m - 30.0:
        return None
    i = int(np.searchsorted(route.s_m, draft.trigger_m))
    if route.speed_limit_mps[i : i + NEAR_M].max() > rule.fastest_mps + 0.1:
        return None
    x, y, z = (float(value) for value in route.points_world[i])
    yaw = math.remainder(float(route.heading_rad[i]), math.tau)
    trigger = (round(x, 2), round(y, 2), round(z, 2), round(yaw, 4))
    bare = Site(road_map, route, scenario_type, trigger, float(route.s_m[i]))
    try:
        parameters = rule.sample(Place(bare), rng)
        if scenario_type:
            build_scenario(replace(bare, parameters=parameters))
    except CannotStart:
        return None
    return Found(draft.keypoints, trigger, parameters, route)
