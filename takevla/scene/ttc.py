"""Time-to-collision: when two boxes that keep their velocity first touch.

Each box moves straight along its heading at its present speed and does not turn.  Two such boxes overlap
exactly while their projections overlap on all four face normals; on each normal that is one interval of time,
so the intersection of four intervals is the answer, without any sampling in time.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from takevla.scene.scene import Scene

CAP_S = 10.0  # no collision course beyond this; our own choice
SAME_LEVEL_M = 3.0  # actors whose base lies further above or below the ego are on another deck of the road


@njit(cache=True)
def pair_ttc(  # type: ignore[no-untyped-def]
    ax, ay, a_heading, a_speed, a_length, a_width, bx, by, b_heading, b_speed, b_length, b_width, cap_s
) -> float:
    """Seconds until two boxes touch at constant velocity: 0 if they do now, inf if not within `cap_s`.

    Centres and full extents in m, headings in rad, speeds in m/s along the heading (negative in reverse).
    """
    ca, sa = math.cos(a_heading), math.sin(a_heading)
    cb, sb = math.cos(b_heading), math.sin(b_heading)
    dx, dy = bx - ax, by - ay
    vx, vy = b_speed * cb - a_speed * ca, b_speed * sb - a_speed * sa
    reach = 0.5 * (math.hypot(a_length, a_width) + math.hypot(b_length, b_width)) + cap_s * math.hypot(vx, vy)
    if dx * dx + dy * dy > reach * reach:
        return math.inf
    cos, sin = abs(ca * cb + sa * sb), abs(ca * sb - sa * cb)
    al, aw, bl, bw = 0.5 * a_length, 0.5 * a_width, 0.5 * b_length, 0.5 * b_width
    start, end = 0.0, cap_s
    for axis in range(4):
        if axis == 0:
            nx, ny, radius = ca, sa, al + bl * cos + bw * sin
        elif axis == 1:
            nx, ny, radius = -sa, ca, aw + bl * sin + bw * cos
        elif axis == 2:
            nx, ny, radius = cb, sb, bl + al * cos + aw * sin
        else:
            nx, ny, radius = -sb, cb, bw + al * sin + aw * cos
        distance = dx * nx + dy * ny
        rate = vx * nx + vy * ny
        if rate == 0.0:
            if abs(distance) > radius:
                return math.inf
            continue
        touch, leave = (-radius - distance) / rate, (radius - distance) / rate
        if touch > leave:
            touch, leave = leave, touch
        start, end = max(start, touch), min(end, leave)
        if start > end:
            return math.inf
    return start


@njit(cache=True)
def swept_ttc(  # type: ignore[no-untyped-def]
    ego_x, ego_y, ego_z, ego_heading, ego_speed, ego_length, ego_width,
    position, heading, speed, extent, valid, cap_s,
):  # fmt: skip
    """`pair_ttc` of the ego against A actors: (A,) float32 seconds, inf where none.

    `position` (A, 3) m, `heading` (A,) rad, `speed` (A,) m/s, `extent` (A, 3) m, `valid` (A,).
    """
    result = np.full(len(heading), np.inf, np.float32)
    for i in range(len(heading)):
        if valid[i] and abs(position[i, 2] - ego_z) <= SAME_LEVEL_M:
            result[i] = pair_ttc(
                float(ego_x), float(ego_y), float(ego_heading), float(ego_speed),
                float(ego_length), float(ego_width),
                float(position[i, 0]), float(position[i, 1]), float(heading[i]), float(speed[i]),
                float(extent[i, 0]), float(extent[i, 1]), float(cap_s),
            )  # fmt: skip
    return result


def scene_ttc(scene: Scene, cap_s: float = CAP_S) -> NDArray[np.float32]:
    """Time-to-collision (A,) in s of the ego with each actor of a scene; inf = not on a collision course."""
    ego, actors = scene.ego, scene.actors
    return swept_ttc(
        float(ego.position_world[0]), float(ego.position_world[1]), float(ego.position_world[2]),
        float(ego.heading_rad), float(ego.speed_mps), float(ego.extent_m[0]), float(ego.extent_m[1]),
        actors.position_world, actors.heading_rad, actors.speed_mps, actors.extent_m, actors.valid,
        float(cap_s),
    )  # fmt: skip


def least_ttc(scene: Scene, cap_s: float = CAP_S) -> float:
    """The smallest entry of `scene_ttc`; inf when nothing is on a collision course."""
    values = scene_ttc(scene, cap_s)
    return float(values.min()) if len(values) else math.inf


def route_ttc(least_ttc_s: NDArray[np.floating], cap_s: float = CAP_S) -> float | None:
    """Mean over the frames of one route (T,) whose least TTC is within `cap_s`; None when there are none."""
    on_course = least_ttc_s[least_ttc_s <= cap_s]
    return float(on_course.mean(dtype=np.float64)) if len(on_course) else None
