"""Records of vehicles that braked for the recorded ego without having had to.

What others did after a takeover they did beside the expert: a vehicle of a crossing flow that saw the
expert brake and wait may have slowed too, and in a dream whose ego drives on that slowing has no cause.
Such a vehicle is freed: from the step on at which it let off while its course led across the ego's way, it
goes on as it had been driving, behind others on its course.  Only where it meets neither the recorded ego
nor the expert's trajectory that way: a vehicle that had to give way to them keeps its record.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from takevla.learn.dream.scenes import COURSE_SPACING_M, STEP_S, courses
from takevla.scene.geometry import boxes_overlap
from takevla.scene.road_map import Control, LightState, RoadMap
from takevla.scene.scene import Scene
from takevla.takeover.triggers import ALIGNED_RAD
from takevla.world.traffic import IDM_STANDSTILL_M, SIDE_ROOM_M, idm

Float = NDArray[np.float32]

LETS_OFF_MPS2 = 0.5  # an acceleration that falls by more than this within a step is a decision
LOOK_M = 40.0  # a way farther ahead than this is nobody's reason yet
MOVES_MPS = 1.0  # who is slower waits for something that a record does not tell


def freed(
    pose: Float,
    extent: Float,
    valid: NDArray[np.bool_],
    moving: NDArray[np.bool_],
    free_to_go: NDArray[np.bool_],
    acceleration: Float,
    limit: Float,
    ways: tuple[Float, Float],
    way_ahead: Float,
    ego_extent: Float,
) -> Float:
    """Poses (T, A, 4) with the freed vehicles moved on.

    Args:
        pose: (T, A, 4) x, y, heading, speed as recorded.
        extent: (A, 2) full length, width.
        valid: (T, A).
        moving: (A,) vehicles that may be freed.
        free_to_go: (T, A) no closed line or sign ahead on their lane.
        acceleration: (T, A) as recorded, m/s2.
        limit: (A,) speed limit of their lane at the start, m/s.
        ways: trajectories (T, 4) of the recorded ego and of the expert, that a freed vehicle must not meet.
        way_ahead: (N, 2) the route ahead of the ego at the start.
        ego_extent: (2,) full length, width.
    """
    rows = np.flatnonzero(moving)
    if len(rows) == 0:
        return pose
    course, logged = courses(pose[:, rows])
    result = pose.copy()
    fine = [way.astype(np.float64) for way in (*ways, way_ahead, course, logged)]
    recorded, _, ahead, courses_, logs = fine
    for slot, row in enumerate(rows):
        moved, length, width = pose[:, row].astype(np.float64), extent[row, 0], extent[row, 1]
        room = 0.5 * float(ego_extent[1] + width) + SIDE_ROOM_M
        begin = _lets_off(
            moved, courses_[slot], logs[slot], free_to_go[:, row], acceleration[:, row], recorded, ahead,
            room, 0.5 * float(length),
        )  # fmt: skip
        if begin < 0:
            continue
        pace, most = max(float(acceleration[begin, row]), 0.0), max(limit[row], logs[slot, :, 1].max())
        _go_on(begin, moved, courses_[slot], logs[slot], pose, extent, valid, row, pace, float(most))
        if not any(_meet(moved, extent[row], way, ego_extent) for way in fine[:2]):
            result[:, row] = moved
    return result


@njit(cache=True)
def _lets_off(  # type: ignore[no-untyped-def]
    pose, course, logged, free_to_go, acceleration, ego, way_ahead, room, half_length
):
    """First step at which a vehicle lets off though only the ego's way is ahead of it; -1 for none."""
    for t in range(pose.shape[0] - 1):
        change = (logged[t + 1, 1] - logged[t, 1]) / STEP_S
        if not free_to_go[t] or logged[t, 1] < MOVES_MPS or change > acceleration[t] - LETS_OFF_MPS2:
            continue
        turn = abs((pose[t, 2] - ego[t, 2] + math.pi) % (2.0 * math.pi) - math.pi)
        crosses = turn > ALIGNED_RAD
        first = logged[t, 0]
        for k in range(int(first / COURSE_SPACING_M), course.shape[0]):
            s = k * COURSE_SPACING_M - first
            if s > LOOK_M:
                break
            x, y = course[k, 0], course[k, 1]
            near = math.hypot(x - ego[t, 0], y - ego[t, 1]) < room
            if crosses and not near:
                for i in range(way_ahead.shape[0]):
                    if math.hypot(x - way_ahead[i, 0], y - way_ahead[i, 1]) < room:
                        # Only what lies ahead of the ego is its way.
                        dx, dy = way_ahead[i, 0] - ego[t, 0], way_ahead[i, 1] - ego[t, 1]
                        near = dx * math.cos(ego[t, 2]) + dy * math.sin(ego[t, 2]) > 0.0
                        break
            if near:
                if s > half_length:
                    return t
                break  # it is on the ego's way already, and yields to nobody behind it
    return -1


@njit(cache=True)
def _go_on(  # type: ignore[no-untyped-def]
    begin, moved, course, logged, pose, extent, valid, row, acceleration, limit
):
    """Move a vehicle on from step `begin`, never behind its record; fills `moved` (T, 4)."""
    arc, speed = logged[begin, 0], logged[begin, 1]
    last = course.shape[0] - 1
    for t in range(begin, moved.shape[0] - 1):
        change = acceleration if speed < limit else 0.0
        x, y, c, s = moved[t, 0], moved[t, 1], math.cos(moved[t, 2]), math.sin(moved[t, 2])
        for j in range(pose.shape[1]):
            if j == row or not valid[t, j]:
                continue
            ahead = (pose[t, j, 0] - x) * c + (pose[t, j, 1] - y) * s
            if ahead <= 0.0 or ahead > LOOK_M:
                continue
            k = min(int((arc + ahead) / COURSE_SPACING_M + 0.5), last)
            dx, dy = pose[t, j, 0] - course[k, 0], pose[t, j, 1] - course[k, 1]
            if (
                abs(dy * course[k, 2] - dx * course[k, 3])
                > 0.5 * (extent[row, 1] + extent[j, 1]) + SIDE_ROOM_M
            ):
                continue
            along = pose[t, j, 3] * (
                math.cos(pose[t, j, 2]) * course[k, 2] + math.sin(pose[t, j, 2]) * course[k, 3]
            )
            gap = ahead - 0.5 * (extent[row, 0] + extent[j, 0])
            change = min(change, idm(speed, limit, gap, max(along, 0.0), IDM_STANDSTILL_M))
        speed = max(speed + change * STEP_S, 0.0)
        arc += speed * STEP_S
        if arc <= logged[t + 1, 0]:  # its record is no slower: nothing to free it from
            arc, speed = logged[t + 1, 0], logged[t + 1, 1]
        k = min(int(arc / COURSE_SPACING_M), last)
        part = arc - k * COURSE_SPACING_M
        moved[t + 1, 0] = course[k, 0] + part * course[k, 2]
        moved[t + 1, 1] = course[k, 1] + part * course[k, 3]
        moved[t + 1, 2] = math.atan2(course[k, 3], course[k, 2])
        moved[t + 1, 3] = speed


@njit(cache=True)
def _meet(moved, extent, way, ego_extent):  # type: ignore[no-untyped-def]
    """Whether two boxes (T, 4) overlap at any step."""
    for t in range(min(moved.shape[0], way.shape[0])):
        if boxes_overlap(
            moved[t, 0], moved[t, 1], moved[t, 2], extent[0], extent[1],
            way[t, 0], way[t, 1], way[t, 2], ego_extent[0], ego_extent[1],
        ):  # fmt: skip
            return True
    return False


def lanes_of(
    record: list[Scene], road_map: RoadMap, ids: NDArray[np.int32]
) -> tuple[NDArray[np.bool_], Float, Float]:
    """Free to go (T, A), acceleration (T, A) and speed limit (A,) of the actors with these ids.

    An actor is free to go where its lane has no stop line, or only a light that is green or off.
    """
    shut: dict[int, list[int]] = {}
    for line in road_map.stop_lines:
        shut.setdefault(line.lane, []).append(line.signal if line.control == Control.SIGNAL else -1)
    slot_of = {actor: slot for slot, actor in enumerate(ids.tolist())}
    free = np.zeros((len(record), len(ids)), np.bool_)
    acceleration = np.zeros((len(record), len(ids)), np.float32)
    limit = np.zeros(len(ids), np.float32)
    for t, scene in enumerate(record):
        open_light = (scene.lights == LightState.GREEN) | (scene.lights == LightState.OFF)
        for i, actor in enumerate(scene.actors.id.tolist()):
            slot = slot_of.get(actor)
            if slot is None or not scene.actors.valid[i]:
                continue
            lane = int(scene.actors.lane[i])
            free[t, slot] = lane >= 0 and all(s >= 0 and open_light[s] for s in shut.get(lane, ()))
            acceleration[t, slot] = scene.actors.acceleration_mps2[i]
            if limit[slot] == 0.0 and lane >= 0:
                limit[slot] = road_map.lanes[lane].speed_limit_mps
    return free, acceleration, limit
