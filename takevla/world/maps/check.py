"""Whether a road map keeps its promises."""

from __future__ import annotations

import math

import numpy as np

from takevla.scene.road_map import NO_LANE, POINT_SPACING_M, Lane, LaneKind, RoadMap

JOINT_GAP_M = 0.1
JOINT_ANGLE_RAD = math.radians(3.0)
TURN_RADIUS_M = 5.0  # a Lincoln MKZ cannot turn tighter than about 5.4 m at its centre


def check_map(road_map: RoadMap, open_ends: bool = False) -> list[str]:
    """What is wrong with a map, one sentence each; empty for a sound one.

    Every driving lane must have a successor (unless `open_ends` allows map edges) and be reachable
    from every other; neighbours must be mutual, widths positive, joints smooth, bends drivable.
    """
    faults = [fault for lane in road_map.lanes for fault in _lane_faults(road_map, lane, open_ends)]
    if not open_ends:
        faults += _reachability_faults(road_map)
    for index, line in enumerate(road_map.stop_lines):
        if not 0.0 <= line.s_m <= road_map.lanes[line.lane].length_m + 1e-3:
            faults.append(f"stop line {index} lies beyond lane {line.lane}")
    for junction in road_map.junctions:
        ruled = {signal for phase in junction.phases for signal in phase.signals}
        named = {signal.index for signal in road_map.signals if signal.junction == junction.index}
        if ruled != named:
            faults.append(
                f"junction {junction.index}: phases rule {sorted(ruled)}, signals are {sorted(named)}"
            )
    return faults


def _lane_faults(road_map: RoadMap, lane: Lane, open_ends: bool) -> list[str]:
    faults = []
    name = f"lane {lane.index} ({lane.kind.name}, road {lane.road})"
    points = lane.points_world.astype(np.float64)
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    if not np.isfinite(points).all() or len(points) < 2:
        return [f"{name} has no finite centre line"]
    if steps.max() > POINT_SPACING_M + 1e-3 or steps.min() < 1e-3:
        faults.append(f"{name} has points {steps.min():.3f} to {steps.max():.3f} m apart")
    if lane.width_m.min() <= 0.0 and not open_ends:
        faults.append(f"{name} has no width")
    if lane.kind == LaneKind.DRIVING and not lane.successors and not open_ends:
        faults.append(f"{name} ends without successor")
    for side, back in (("left", "right"), ("right", "left")):
        other = getattr(lane, side)
        if other != NO_LANE and getattr(road_map.lanes[other], back) != lane.index:
            faults.append(f"{name}: lane {other} on its {side} does not know it")
    for following in lane.successors:
        after = road_map.lanes[following]
        if lane.index not in after.predecessors:
            faults.append(f"{name}: successor {following} does not know it")
        gap = float(np.linalg.norm(after.points_world[0] - lane.points_world[-1]))
        turn = float(after.heading_rad[0] - lane.heading_rad[-1] + math.pi) % (2 * math.pi) - math.pi
        if gap > JOINT_GAP_M or abs(turn) > JOINT_ANGLE_RAD:
            faults.append(f"{name}: joint to {following} has {gap:.2f} m and {math.degrees(turn):.1f} deg")
    if lane.kind == LaneKind.DRIVING and len(points) > 3 and not open_ends:
        turned = np.abs(np.diff(np.unwrap(lane.heading_rad.astype(np.float64))))
        radius = float((steps / np.maximum(turned, 1e-9)).min())
        if radius < TURN_RADIUS_M:
            faults.append(f"{name} bends with a radius of {radius:.1f} m")
    for other in lane.yields_to:
        if other not in lane.conflicts:
            faults.append(f"{name} yields to {other} without conflict")
        if lane.index in road_map.lanes[other].yields_to:
            faults.append(f"{name} and {other} yield to each other")
    return faults


def _reachability_faults(road_map: RoadMap) -> list[str]:
    driving = {lane.index for lane in road_map.lanes if lane.kind == LaneKind.DRIVING}
    if not driving:
        return ["there is no driving lane"]
    start = min(driving)
    faults = []
    for forward in (True, False):
        seen, front = {start}, [start]
        while front:
            lane = road_map.lanes[front.pop()]
            following = lane.successors if forward else lane.predecessors
            for other in (*following, lane.left, lane.right):
                if other in driving and other not in seen:
                    seen.add(other)
                    front.append(other)
        lost = sorted(driving - seen)
        if lost:
            relation = "reached from" if forward else "left for"
            faults.append(f"lanes {lost[:8]} ({len(lost)} in all) cannot be {relation} lane {start}")
    return faults
