"""A checkpoint's camera rig as sensors of the CARLA leaderboard, and their images as its picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from takevla.world.camera.rig import Rig
from takevla.world.carla.frames import lens_picture

MOST_CAMERAS = 8  # benchmark facts 1.9
MOUNT_RADIUS_M = 3.0
GNSS, IMU, SPEED = "GNSS", "IMU", "SPEED"
SpecSensor = dict[str, Any]


def lens_id(lens: int) -> str:
    """Id of the camera sensor of a lens."""
    return f"LENS_{lens}"


def sensor_list(rig: Rig) -> list[SpecSensor]:
    """Sensors for the leaderboard: one RGB camera for each lens, GNSS, IMU and speedometer.

    Raises:
        ValueError: the leaderboard would refuse the rig.
    """
    count, radius = len(rig.lens_yaws_deg), float(np.linalg.norm(rig.mount_m))
    if count > MOST_CAMERAS:
        raise ValueError(f"the rig has {count} lenses; the leaderboard allows {MOST_CAMERAS} cameras")
    if radius > MOUNT_RADIUS_M:
        raise ValueError(
            f"the rig sits {radius:.2f} m from the car's centre; the leaderboard allows {MOUNT_RADIUS_M:g} m"
        )
    level = {"roll": 0.0, "pitch": 0.0}
    x, y, z = rig.mount_m
    cameras = [
        {
            "type": "sensor.camera.rgb",
            "id": lens_id(lens),
            "x": x, "y": 0.0 - y, "z": z, **level, "yaw": 0.0 - yaw_deg,
            "width": rig.oversampling * rig.lens_width,
            "height": rig.oversampling * rig.height,
            "fov": fov_deg,
        }
        for lens, (yaw_deg, fov_deg) in enumerate(zip(rig.lens_yaws_deg, rig.lens_fovs_deg, strict=True))
    ]  # fmt: skip
    centre = {"x": 0.0, "y": 0.0, "z": 0.0, **level, "yaw": 0.0}
    return [
        *cameras,
        {"type": "sensor.other.gnss", "id": GNSS, **centre},
        {"type": "sensor.other.imu", "id": IMU, **centre},
        {"type": "sensor.speedometer", "id": SPEED, "reading_frequency": 20},
    ]


def reading(input_data: Mapping[str, Any], name: str) -> Any:
    """The data of one sensor of `(frame, data)` pairs.

    Raises:
        ValueError: the sensor is not there.
    """
    if name not in input_data:
        raise ValueError(f"no sensor {name!r} in this tick; there are {', '.join(sorted(input_data))}")
    return input_data[name][1]


def picture(input_data: Mapping[str, Any], rig: Rig) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of the rig: the lenses side by side.  Each is a BGRA uint8 image of the size asked for.

    Raises:
        ValueError: a lens is missing or its image has another size.
    """
    lenses = []
    for lens in range(len(rig.lens_yaws_deg)):
        image = np.ascontiguousarray(reading(input_data, lens_id(lens)))
        wanted = (rig.oversampling * rig.height, rig.oversampling * rig.lens_width, 4)
        if image.shape != wanted or image.dtype != np.uint8:
            raise ValueError(
                f"camera {lens_id(lens)}: {image.shape} {image.dtype}, asked for {wanted} uint8 BGRA"
            )
        lenses.append(lens_picture(image.tobytes(), rig))
    return np.concatenate(lenses, axis=1)
