"""Where the camera sits and how it sees: the part of a camera that a dataset must remember."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOUNT_M = (-1.5, 0.0, 2.0)  # behind and above the ego's centre (SimLingo, benchmark facts 2.1)
WIDTH_PX = 384  # three square tiles of 128
HEIGHT_PX = 128
LENS_YAWS_DEG = (32.5, -32.5, 0.0)  # two wide lenses that meet straight ahead, and a long one
LENS_FOVS_DEG = (65.0, 65.0, 22.0)
OVERSAMPLING = 4  # of a rig that does not say: what every rig was rendered with before rigs could say


@dataclass(frozen=True, slots=True)
class Rig:
    """Level pinhole lenses side by side behind one eye, with square pixels, fixed to the ego.

    The picture is divided evenly among the lenses, from left to right; `lens_yaws_deg` says where
    each looks, positive to the left.  Two lenses that meet straight ahead give each square tile of
    the model a picture of its own, show cross traffic, and magnify what lies ahead more than one
    lens of the same total angle could: 141 pixels a radian, against 60 for one of 130 degrees. The
    seam between them lies where leaders, lights and people are; the long lens shows that place whole,
    at 329 pixels a radian.  One lens is `lens_yaws_deg=(0.0,), lens_fovs_deg=(110.0,)`, as SimLingo's.

    `mount_m` is (x forward, y left, z up) from the centre of the ego's ground face.

    CARLA renders each lens `oversampling` times as high and wide, and means of blocks make a small picture
    smooth; 1 for rigs whose data come from a camera of that very size.  Rigs that differ in it alone are
    equal: a model sees the same through them.
    """

    width: int = WIDTH_PX
    height: int = HEIGHT_PX
    mount_m: tuple[float, float, float] = MOUNT_M
    lens_yaws_deg: tuple[float, ...] = LENS_YAWS_DEG
    lens_fovs_deg: tuple[float, ...] = LENS_FOVS_DEG  # across
    oversampling: int = field(default=OVERSAMPLING, compare=False)

    def __post_init__(self) -> None:
        if self.width < 8 or self.height < 8:
            raise ValueError(f"camera size {self.width}x{self.height}: both sides must be at least 8 pixels")
        if any(not 10.0 <= fov_deg <= 150.0 for fov_deg in self.lens_fovs_deg):
            raise ValueError(f"camera lens_fovs_deg {self.lens_fovs_deg}: each must lie in 10 to 150 degrees")
        if len(self.lens_fovs_deg) != len(self.lens_yaws_deg):
            raise ValueError(
                f"camera lens_fovs_deg {self.lens_fovs_deg}: must name one angle for each of "
                f"lens_yaws_deg {self.lens_yaws_deg}"
            )
        if not self.lens_yaws_deg or self.width % len(self.lens_yaws_deg):
            raise ValueError(
                f"camera width {self.width}: must be a multiple of the {len(self.lens_yaws_deg)} lenses"
            )
        if not isinstance(self.oversampling, int) or not 1 <= self.oversampling <= 8:
            raise ValueError(f"camera oversampling {self.oversampling}: must be a whole number from 1 to 8")

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Rig:
        """The rig that a dataset or checkpoint remembers; other entries of `settings` are left alone."""
        known = {field.name for field in fields(cls)} & set(settings)
        values = {name: settings[name] for name in known}
        frozen: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**frozen)

    def settings(self) -> dict[str, Any]:
        """What `of` reads; without the default oversampling, as files from before it were written."""
        settings = asdict(self)
        if self.oversampling == OVERSAMPLING:
            del settings["oversampling"]
        return settings

    @property
    def lens_width(self) -> int:
        """Width in pixels of the part of the picture that one lens fills."""
        return self.width // len(self.lens_yaws_deg)

    @property
    def focals_px(self) -> tuple[float, ...]:
        """Focal length of each lens in pixels, the same across and down."""
        half = 0.5 * self.lens_width
        return tuple(half / math.tan(math.radians(0.5 * fov_deg)) for fov_deg in self.lens_fovs_deg)

    def project(
        self, points_ego: NDArray[np.floating], offset_y_m: float = 0.0, yaw_offset_rad: float = 0.0
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Pixels (N, 2) as (column, row) of ego-frame points (N, 3), and which lie in the picture.

        The offsets are those of `Camera.render`.  Where several lenses see a point, the first one counts.
        Pixels of points out of the picture hold no meaning.
        """
        mount = np.array([self.mount_m[0], self.mount_m[1] + offset_y_m, self.mount_m[2]])
        relative = np.asarray(points_ego, np.float64) - mount
        pixels = np.zeros((len(relative), 2))
        inside = np.zeros(len(relative), np.bool_)
        for lens, (yaw_deg, focal_px) in enumerate(zip(self.lens_yaws_deg, self.focals_px, strict=True)):
            yaw = yaw_offset_rad + math.radians(yaw_deg)
            cos, sin = math.cos(yaw), math.sin(yaw)
            depth = cos * relative[:, 0] + sin * relative[:, 1]
            left = -sin * relative[:, 0] + cos * relative[:, 1]
            safe = np.where(depth > 0.1, depth, 1.0)
            column = 0.5 * self.lens_width - focal_px * left / safe
            row = 0.5 * self.height - focal_px * relative[:, 2] / safe
            seen = (
                (depth > 0.1) & (column >= 0) & (column < self.lens_width) & (row >= 0) & (row < self.height)
            )
            seen &= ~inside
            pixels[seen] = np.stack([column + lens * self.lens_width, row], axis=1)[seen]
            inside |= seen
        return pixels.astype(np.float32), inside


SIMLINGO_RIG = Rig(1024, 512, (-1.5, 0.0, 2.0), (0.0,), (110.0,), oversampling=1)  # benchmark facts 2.1
