"""Who else uses the junction that the route goes through: approaches, conflicting paths, its lights."""

from __future__ import annotations

import math
from typing import NamedTuple

from takevla.scene.road_map import NO_LANE, Control, LightState, RoadMap, Turn
from takevla.world.scenarios.place import Crossing, Place, Points, cut, meeting, project, walk
from takevla.world.staging import CannotStart, Command, ForceSignals

# Where another approach comes from, seen by the ego: heading of its traffic minus the ego's, at the entry.
FROM_LEFT = -math.pi / 2
FROM_RIGHT = math.pi / 2
ONCOMING = math.pi
SIDE_TOLERANCE_RAD = math.radians(50.0)


class Encounter(NamedTuple):
    """Another path through the junction that meets the route."""

    path: Points
    enter_s_m: float  # where the path enters the junction
    meet_s_m: float  # on the path
    meet_route_s_m: float  # on the route
    connector: int
    bend_rad: float  # change of heading inside the junction, positive to the left


def _entry_heading(road_map: RoadMap, connector: int) -> float:
    return float(road_map.lanes[connector].heading_rad[0])


def first_connectors(road_map: RoadMap, junction: int) -> list[int]:
    """Connectors through which traffic enters the junction."""
    inside = set(road_map.junctions[junction].connectors)
    return [
        index
        for index in road_map.junctions[junction].connectors
        if not any(before in inside for before in road_map.lanes[index].predecessors)
        and road_map.lanes[index].predecessors
    ]


def encounters(
    place: Place, crossing: Crossing, come_from_rad: float, before_m: float, after_m: float
) -> list[Encounter]:
    """Paths of one approach that meet the route inside or just behind the junction.

    Each starts `before_m` before the junction and ends `after_m` behind it; the straightest first.
    """
    road_map = place.road_map
    ego_heading = _entry_heading(road_map, crossing.connectors[0])
    route_part = place.path(crossing.enter_s_m, crossing.exit_s_m + 8.0)
    found: list[tuple[float, Encounter]] = []
    for connector in first_connectors(road_map, crossing.junction):
        lane = road_map.lanes[connector]
        if connector in crossing.connectors or lane.predecessors[0] == crossing.approach:
            continue
        side = math.remainder(_entry_heading(road_map, connector) - ego_heading - come_from_rad, math.tau)
        if abs(side) > SIDE_TOLERANCE_RAD:
            continue
        path = walk(road_map, connector, 0.0, before_m, lane.length_m + after_m)
        enter = entry_s_m(path, road_map, connector)
        met = meeting(route_part, cut(path, enter, math.inf))
        if met is None:
            continue
        bend = math.remainder(float(lane.heading_rad[-1] - lane.heading_rad[0]), math.tau)
        meet_route_s = crossing.enter_s_m + met[0]
        found.append((abs(bend), Encounter(path, enter, enter + met[1], meet_route_s, connector, bend)))
    found.sort(key=lambda item: (round(item[0], 1), item[1].connector))
    return [encounter for _, encounter in found]


def entry_s_m(path: Points, road_map: RoadMap, connector: int) -> float:
    """Arc length on `path` at which a connector begins."""
    return project(path, tuple(road_map.lanes[connector].points_world[0].tolist()))


def first_encounter(
    place: Place, crossing: Crossing, sides: tuple[float, ...], before_m: float, after_m: float
) -> Encounter:
    """The straightest encounter of the first side that has one."""
    for side in sides:
        found = encounters(place, crossing, side, before_m, after_m)
        if found:
            return found[0]
    raise CannotStart("no other approach of the junction meets the route")


def ego_signals(road_map: RoadMap, crossing: Crossing) -> tuple[int, ...]:
    """Signals that rule the ego's approach."""
    lanes = {crossing.approach, *crossing.connectors, *_siblings(road_map, crossing.approach)}
    return _signals_of(road_map, lanes)


def _siblings(road_map: RoadMap, lane: int) -> set[int]:
    found = set()
    for step in ("left", "right"):
        index = getattr(road_map.lanes[lane], step)
        while index != NO_LANE and index not in found:
            found.add(index)
            index = getattr(road_map.lanes[index], step)
    return found


def _signals_of(road_map: RoadMap, lanes: set[int]) -> tuple[int, ...]:
    arrays = road_map.arrays
    found = {int(arrays.lane_stop_signal[lane]) for lane in lanes if int(arrays.lane_stop_signal[lane]) >= 0}
    return tuple(sorted(found))


def junction_signals(road_map: RoadMap, crossing: Crossing) -> tuple[int, ...]:
    """All signals of the junction."""
    own = {signal.index for signal in road_map.signals if signal.junction == crossing.junction}
    return tuple(sorted(own | set(ego_signals(road_map, crossing))))


def oncoming_signals(road_map: RoadMap, crossing: Crossing) -> tuple[int, ...]:
    """Signals that rule the approach opposite to the ego's."""
    ego_heading = _entry_heading(road_map, crossing.connectors[0])
    lanes: set[int] = set()
    for connector in first_connectors(road_map, crossing.junction):
        turn = math.remainder(_entry_heading(road_map, connector) - ego_heading - ONCOMING, math.tau)
        if abs(turn) <= SIDE_TOLERANCE_RAD:
            lanes |= {connector, *road_map.lanes[connector].predecessors}
    return _signals_of(road_map, lanes)


def signalised(road_map: RoadMap, crossing: Crossing) -> None:
    """Nothing where lights rule the ego's approach."""
    if not ego_signals(road_map, crossing):
        raise CannotStart("no traffic light rules the approach")


def unsignalised(road_map: RoadMap, crossing: Crossing) -> None:
    """Nothing where no lights rule the ego's approach."""
    if ego_signals(road_map, crossing):
        raise CannotStart("a traffic light rules the approach")


def light_plan(
    road_map: RoadMap, crossing: Crossing, ego: LightState, others: LightState = LightState.RED
) -> tuple[Command, ...]:
    """Commands that show `ego` to the ego's and the opposite approach, `others` to those from the side."""
    mine = set(ego_signals(road_map, crossing))
    facing = set(oncoming_signals(road_map, crossing)) - mine
    aside = set(junction_signals(road_map, crossing)) - mine - facing
    groups = ((mine, ego), (facing, ego), (aside, others))
    return tuple(ForceSignals(tuple(sorted(group)), state) for group, state in groups if group)


def stop_control(road_map: RoadMap, crossing: Crossing) -> Control | None:
    """What rules the ego's stop line at the junction, None without one."""
    arrays = road_map.arrays
    for lane in (crossing.approach, crossing.connectors[0]):
        if int(arrays.lane_stop_control[lane]) >= 0:
            return Control(int(arrays.lane_stop_control[lane]))
    return None


def turn_of(road_map: RoadMap, crossing: Crossing) -> Turn:
    """Which way the route turns in the junction, by its change of heading."""
    before = road_map.lanes[crossing.connectors[0]].heading_rad[0]
    after = road_map.lanes[crossing.connectors[-1]].heading_rad[-1]
    change = math.remainder(float(after - before), math.tau)
    if abs(change) < math.radians(35.0):
        return Turn.STRAIGHT
    return Turn.LEFT if change > 0 else Turn.RIGHT


def arms(road_map: RoadMap, junction: int) -> int:
    """Number of roads that enter the junction, by distinct headings of entry."""
    headings: list[float] = []
    for connector in first_connectors(road_map, junction):
        heading = _entry_heading(road_map, connector)
        if all(abs(math.remainder(heading - other, math.tau)) > math.radians(25.0) for other in headings):
            headings.append(heading)
    return len(headings)
