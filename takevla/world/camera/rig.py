"""Where the camera sits and how it sees: the part of a camera that a dataset must remember."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOUNT_M = (-1.5, 0.0, 2.0)  # behind and above the ego's centre (SimLingo, benchmark facts 2.1)
FOV_DEG = 100.0  # horizontal; narrower than SimLingo's 110 because 256 pixels must show a lamp at 30 m
WIDTH_PX = 256  # two square tiles of 128
HEIGHT_PX = 128


@dataclass(frozen=True, slots=True)
class Rig:
    """A level pinhole camera with square pixels, fixed to the ego.

    `mount_m` is (x forward, y left, z up) from the centre of the ego's ground face.
    """

    width: int = WIDTH_PX
    height: int = HEIGHT_PX
    fov_deg: float = FOV_DEG
    mount_m: tuple[float, float, float] = MOUNT_M

    def __post_init__(self) -> None:
        if self.width < 8 or self.height < 8:
            raise ValueError(f"camera size {self.width}x{self.height}: both sides must be at least 8 pixels")
        if not 10.0 <= self.fov_deg <= 150.0:
            raise ValueError(f"camera fov_deg {self.fov_deg}: must lie between 10 and 150 degrees")

    @property
    def focal_px(self) -> float:
        """Focal length in pixels, the same across and down."""
        return 0.5 * self.width / math.tan(math.radians(0.5 * self.fov_deg))

    def project(
        self, points_ego: NDArray[np.floating], offset_y_m: float = 0.0, yaw_offset_rad: float = 0.0
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Pixels (N, 2) as (column, row) of ego-frame points (N, 3), and which lie in the picture.

        The offsets are those of `Camera.render`.  Pixels of points behind the camera hold no meaning.
        """
        mount = np.array([self.mount_m[0], self.mount_m[1] + offset_y_m, self.mount_m[2]])
        relative = np.asarray(points_ego, np.float64) - mount
        cos, sin = math.cos(yaw_offset_rad), math.sin(yaw_offset_rad)
        depth = cos * relative[:, 0] + sin * relative[:, 1]
        left = -sin * relative[:, 0] + cos * relative[:, 1]
        safe = np.where(depth > 0.1, depth, 1.0)
        column = 0.5 * self.width - self.focal_px * left / safe
        row = 0.5 * self.height - self.focal_px * relative[:, 2] / safe
        inside = (depth > 0.1) & (column >= 0) & (column < self.width) & (row >= 0) & (row < self.height)
        return np.stack([column, row], axis=1).astype(np.float32), inside
