"""Weather and time of day: how rendered surfaces become a picture.

Panda3D draws flat colours at twice the size, with the kind and distance of each surface in the
alpha byte (`instances.py`).  `develop` gives them sky, light, fog, wet road and head lights by
tables that depend on the weather alone, and halves the size, which smooths the edges.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from takevla.scene.scene import Weather
from takevla.world.camera.instances import DISTANCE_STEP_M, DISTANCE_STEPS, LAMP, OBJECT, RETRO, ROAD, SKY
from takevla.world.camera.rig import Rig

OVERSAMPLING = 2
GRASS_RGB = (104, 128, 78)
HAZE_M = 900.0  # distance at which clear air leaves 1/e of the contrast
THICK_FOG_M = 28.0  # the same at fog_density 100
BEAM_REACH_M = 38.0  # head lights fade over this distance
BEAM_HALF_WIDTH_RAD = 0.55
RAIN_STREAKS = 90  # at precipitation 100, in a picture of 256 x 128
SKY_TANGENT = 0.64  # of the angle above the horizon at which the sky has its zenith's colour
GLOSS_TANGENT = 0.2  # of the angle below the horizon over which a wet road's reflection fades
LAMP_CONTRAST_M = 3.0  # lamps pierce fog this many times deeper than surfaces


class Look(NamedTuple):
    """Tables for one weather and one rig of L lenses; H2, W2 are the oversampled height and width."""

    sky: NDArray[np.float32]  # (L, H2, 3) colour of empty pixels by row: sky, or grass below the horizon
    tint: NDArray[np.float32]  # (3,) daylight on surfaces, by channel
    fog_rgb: NDArray[np.float32]  # (3,)
    fog_row: NDArray[np.float32]  # (L, H2) share of fog over the ground seen in this row
    fog_step: NDArray[np.float32]  # (DISTANCE_STEPS,) share of fog at the distance of an object
    fog_lamp: NDArray[np.float32]  # (DISTANCE_STEPS,) the same for lamps
    gloss: NDArray[np.float32]  # (L, H2) share of the sky's reflection on the road
    gloss_rgb: NDArray[np.float32]  # (3,)
    road_tint: float  # a wet road is darker
    beam_ground: NDArray[np.float32]  # (H2, W2) own head lights on the ground
    beam_object: NDArray[np.float32]  # (H2, W2) and on what stands
    beam_step: NDArray[np.float32]  # (DISTANCE_STEPS,) falling off with the distance
    streaks: int  # of rain
    night: bool


def is_night(weather: Weather) -> bool:
    """Whether lamps are on."""
    return weather.sun_altitude_deg < 2.0


def _mix(a: NDArray[np.float64], b: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    return (1.0 - share) * a + share * b


def _rows(rig: Rig) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each lens and oversampled row (L, H2): tangent below the horizon, and where level ground is, m."""
    height = OVERSAMPLING * rig.height
    below = np.arange(height, dtype=np.float64) + 0.5 - 0.5 * height
    drop = below / (OVERSAMPLING * np.array(rig.focals_px)[:, None])
    distance: NDArray[np.float64] = rig.mount_m[2] / np.maximum(drop, 1e-9)
    return drop, distance


@cache
def _beams(rig: Rig, night: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Own head lights by pixel, on the ground and on what stands; dark by day."""
    if not night:
        dark = np.zeros((OVERSAMPLING * rig.height, OVERSAMPLING * rig.width), np.float32)
        return dark, dark
    lens_width = OVERSAMPLING * rig.lens_width
    beside = 0.5 * lens_width - 0.5 - np.arange(lens_width)
    ground, standing = [], []
    for lens, (drop, ground_m) in enumerate(zip(*_rows(rig), strict=True)):
        off_axis = np.arctan2(beside, OVERSAMPLING * rig.focals_px[lens])
        azimuth = off_axis + math.radians(rig.lens_yaws_deg[lens])
        spread = np.exp(-((azimuth / BEAM_HALF_WIDTH_RAD) ** 2))
        far = np.minimum(ground_m, 1e6) / BEAM_REACH_M
        reach = np.where(drop > 0.0, np.exp(-(far**2)), 0.0)
        cut = 1.0 / (1.0 + np.exp(-(drop + 0.035) / 0.02))  # low beams end a little above the horizon
        ground.append(0.62 * reach[:, None] * spread)
        standing.append(0.85 * cut[:, None] * spread)
    return np.hstack(ground).astype(np.float32), np.hstack(standing).astype(np.float32)


def make_look(weather: Weather, rig: Rig) -> Look:
    """The tables for `weather` seen through `rig`."""
    night = is_night(weather)
    cloud = min(max(weather.cloudiness / 100.0, 0.0), 1.0)
    rain = min(max(weather.precipitation / 100.0, 0.0), 1.0)
    wet = min(max(max(weather.wetness, weather.precipitation_deposits) / 100.0, 0.0), 1.0)
    altitude = weather.sun_altitude_deg

    zenith = _mix(np.array([86.0, 140.0, 214.0]), np.array([150.0, 158.0, 168.0]), cloud)
    horizon = _mix(np.array([196.0, 214.0, 232.0]), np.array([196.0, 200.0, 204.0]), cloud)
    light = _mix(np.array([1.04, 1.01, 0.96]), np.array([0.90, 0.92, 0.94]), cloud) * (1.0 - 0.18 * rain)
    if night:
        zenith, horizon = np.array([10.0, 13.0, 26.0]), np.array([26.0, 29.0, 42.0])
        light = np.array([0.30, 0.32, 0.40])
    elif altitude < 25.0:  # low sun: warmer and darker
        low = (25.0 - altitude) / 23.0
        zenith = _mix(zenith, np.array([84.0, 92.0, 140.0]), 0.8 * low)
        horizon = _mix(horizon, np.array([246.0, 176.0, 116.0]), low)
        light = light * _mix(np.ones(3), np.array([0.86, 0.70, 0.58]), low)

    drop, ground_m = _rows(rig)
    density = 1.0 / HAZE_M + (min(max(weather.fog_density, 0.0), 100.0) / 100.0) ** 2 / THICK_FOG_M
    density += 0.5 * rain / 100.0
    fog_row = 1.0 - np.exp(-density * np.minimum(ground_m, 1e6))
    steps_m = (np.arange(DISTANCE_STEPS) + 0.5) * DISTANCE_STEP_M
    fog_step = 1.0 - np.exp(-density * steps_m)
    fog_lamp = 1.0 - np.exp(-density * steps_m / LAMP_CONTRAST_M)
    thick = 1.0 - math.exp(-density * 150.0)
    fog_rgb = _mix(horizon, np.array([170.0, 174.0, 178.0]) * float(light.mean()), 0.0 if night else thick)

    up = np.clip(-drop / SKY_TANGENT, 0.0, 1.0)[:, :, None]
    sky = horizon + (zenith - horizon) * up**0.7
    sky = sky + (fog_rgb - sky) * np.clip(thick * (1.15 - up), 0.0, 1.0)

    beam_ground, beam_object = _beams(rig, night)
    beam_step = np.exp(-((steps_m / (1.3 * BEAM_REACH_M)) ** 2))
    grass = np.array(GRASS_RGB) * light
    near = grass + (fog_rgb - grass) * fog_row[:, :, None]
    empty = np.where((drop > 0.0)[:, :, None], near, sky)
    gloss = wet * 0.55 * np.exp(-np.maximum(drop, 0.0) / GLOSS_TANGENT)
    return Look(
        sky=empty.astype(np.float32),
        tint=light.astype(np.float32),
        fog_rgb=fog_rgb.astype(np.float32),
        fog_row=fog_row.astype(np.float32),
        fog_step=fog_step.astype(np.float32),
        fog_lamp=fog_lamp.astype(np.float32),
        gloss=gloss.astype(np.float32),
        gloss_rgb=(0.9 * horizon).astype(np.float32),
        road_tint=1.0 - 0.30 * wet,
        beam_ground=beam_ground,
        beam_object=beam_object,
        beam_step=beam_step.astype(np.float32),
        streaks=int(RAIN_STREAKS * rain * rig.width * rig.height / (256 * 128)),
        night=night,
    )


@njit(cache=True)
def _lit(word: int, lens: int, y: int, x: int, look: Look) -> tuple[np.float32, np.float32, np.float32]:
    """The colour, 0 to 255, that one oversampled pixel (packed as A, R, G, B) shows."""
    one, bright = np.float32(1.0), np.float32(255.0)
    red = np.float32((word >> np.uint32(16)) & np.uint32(255))
    green = np.float32((word >> np.uint32(8)) & np.uint32(255))
    blue = np.float32(word & np.uint32(255))
    alpha = int(word >> np.uint32(24))
    if alpha == SKY:
        beam = one + np.float32(2.0) * look.beam_ground[y, x]
        sky = look.sky[lens, y]
        red, green, blue = sky[0] * beam, sky[1] * beam, sky[2] * beam
        return min(red, bright), min(green, bright), min(blue, bright)
    if alpha < OBJECT:
        beam, fog = look.beam_ground[y, x], look.fog_row[lens, y]
        gloss, wet = look.gloss[lens, y], one
        if alpha == ROAD:
            wet = np.float32(look.road_tint)
        else:
            gloss *= np.float32(0.4)
        red *= wet * (look.tint[0] + beam)
        green *= wet * (look.tint[1] + beam)
        blue *= wet * (look.tint[2] + beam)
        red += (look.gloss_rgb[0] - red) * gloss
        green += (look.gloss_rgb[1] - green) * gloss
        blue += (look.gloss_rgb[2] - blue) * gloss
    else:
        step = alpha & 63
        if alpha >= LAMP and alpha < RETRO:
            fog = look.fog_lamp[step]
        else:
            fog = look.fog_step[step]
            beam = look.beam_object[y, x] * look.beam_step[step]
            if alpha >= RETRO and look.night:
                beam = np.float32(1.8) * beam + np.float32(0.15)
            red *= look.tint[0] + beam
            green *= look.tint[1] + beam
            blue *= look.tint[2] + beam
    red += (look.fog_rgb[0] - red) * fog
    green += (look.fog_rgb[1] - green) * fog
    blue += (look.fog_rgb[2] - blue) * fog
    return min(red, bright), min(green, bright), min(blue, bright)


@njit(cache=True)
def develop(raw: NDArray[np.uint8], look: Look, time_us: int, picture: NDArray[np.uint8]) -> None:
    """Fill `picture` (H, W, 3) RGB from `raw` (2H, 2W, 4), which is BGRA with the lowest row first.

    Rain falls by `time_us`, so that the same scene always has the same streaks.
    """
    height, width = picture.shape[0], picture.shape[1]
    high = raw.shape[0]
    words = raw.view(np.uint32)[:, :, 0]
    lens_width = width // len(look.sky)
    for row in range(height):
        above, below = words[high - 1 - 2 * row], words[high - 2 - 2 * row]
        last, known = np.uint32(0), False  # by day a flat colour is the same along its row
        red, green, blue = np.float32(0.0), np.float32(0.0), np.float32(0.0)
        for column in range(width):
            x, lens = 2 * column, column // lens_width
            if column % lens_width == 0:
                known = False
            word = above[x]
            if word == above[x + 1] and word == below[x] and word == below[x + 1]:
                if not known or word != last or look.night:
                    red, green, blue = _lit(word, lens, 2 * row, x, look)
                    last, known = word, True
            else:
                known = False
                r0, g0, b0 = _lit(word, lens, 2 * row, x, look)
                r1, g1, b1 = _lit(above[x + 1], lens, 2 * row, x + 1, look)
                r2, g2, b2 = _lit(below[x], lens, 2 * row + 1, x, look)
                r3, g3, b3 = _lit(below[x + 1], lens, 2 * row + 1, x + 1, look)
                red = np.float32(0.25) * (r0 + r1 + r2 + r3)
                green = np.float32(0.25) * (g0 + g1 + g2 + g3)
                blue = np.float32(0.25) * (b0 + b1 + b2 + b3)
            picture[row, column, 0] = np.uint8(red + np.float32(0.5))
            picture[row, column, 1] = np.uint8(green + np.float32(0.5))
            picture[row, column, 2] = np.uint8(blue + np.float32(0.5))
    for streak in range(look.streaks):
        word = np.uint64(time_us) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(streak + 1)
        word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        word ^= word >> np.uint64(31)
        top = int(word % np.uint64(height))
        left = int((word >> np.uint64(20)) % np.uint64(width))
        length = 4 + int((word >> np.uint64(50)) % np.uint64(5))
        for k in range(length):
            y, x = top + k, left - k // 3
            if y < height and x >= 0:
                for channel in range(3):
                    old = int(picture[y, x, channel])
                    picture[y, x, channel] = np.uint8(old + (205 - old) // 4 if old < 205 else old)
