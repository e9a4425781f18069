"""A rig of `sensor.camera.rgb` on the ego, as the closed loop's camera."""

from __future__ import annotations

import queue
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from takevla.scene.road_map import RoadMap
from takevla.scene.scene import Scene
from takevla.world.camera.rig import Rig
from takevla.world.carla import frames
from takevla.world.carla.client import TIMEOUT_S, carla


class LiveCamera:
    """One sensor for each lens; `render` gives the picture of the tick that was simulated last."""

    def __init__(self, world: Any, ego: Any, rig: Rig) -> None:
        """`world` is the `carla.World`, `ego` the `carla.Vehicle` that the sensors are fixed to."""
        library = carla()
        self._rig, self._sensors = rig, ExitStack()
        self._queues: list[queue.Queue[Any]] = []
        self._frame = -1
        self._shown: tuple[int, NDArray[np.uint8]] | None = None  # frame and picture
        try:
            self._mount(world, ego, library)
        except BaseException:
            self.close()
            raise

    def _mount(self, world: Any, ego: Any, library: Any) -> None:
        rig, box = self._rig, ego.bounding_box.location
        forward, left, up = rig.mount_m
        for yaw_deg, fov_deg in zip(rig.lens_yaws_deg, rig.lens_fovs_deg, strict=True):
            blueprint = world.get_blueprint_library().find("sensor.camera.rgb")
            blueprint.set_attribute("image_size_x", str(rig.oversampling * rig.lens_width))
            blueprint.set_attribute("image_size_y", str(rig.oversampling * rig.height))
            blueprint.set_attribute("fov", str(fov_deg))
            x, y, z = frames.vector_carla(np.array([forward, left, up]))
            place = library.Transform(
                library.Location(x + box.x, y + box.y, z),
                library.Rotation(yaw=frames.yaw_deg(np.radians(yaw_deg))),
            )
            sensor = world.spawn_actor(blueprint, place, attach_to=ego)
            self._sensors.callback(take_away, sensor)
            images: queue.Queue[Any] = queue.Queue()
            sensor.listen(images.put)
            self._queues.append(images)

    def expect(self, frame: int) -> None:
        """The server has simulated `frame`: pictures before it are stale."""
        self._frame = frame

    def render(
        self, road_map: RoadMap, scene: Scene, offset_y_m: float = 0.0, yaw_offset_rad: float = 0.0
    ) -> NDArray[np.uint8]:
        """(H, W, 3) RGB of the present tick, the lenses from left to right.

        Raises:
            ValueError: for a moved camera; sensors stay where they are fixed.
            RuntimeError: the server sends no picture of this tick.
        """
        if offset_y_m or yaw_offset_rad:
            raise ValueError("a CARLA camera cannot be moved: collect takeovers, not demonstrations, with it")
        if self._shown is None or self._shown[0] != self._frame:
            picture = np.concatenate([self._picture(images) for images in self._queues], axis=1)
            self._shown = self._frame, picture
        return self._shown[1].copy()

    def _picture(self, images: queue.Queue[Any]) -> NDArray[np.uint8]:
        while True:
            try:
                image = images.get(timeout=TIMEOUT_S)
            except queue.Empty:
                raise RuntimeError(f"CARLA sent no picture of frame {self._frame}") from None
            if image.frame >= self._frame:
                return frames.lens_picture(image.raw_data, self._rig)

    def close(self) -> None:
        """Take the sensors away: all of them, whatever one of them answers."""
        self._sensors.close()


def take_away(actor: Any) -> None:
    """Take an actor from the server; a sensor falls silent first."""
    try:
        if actor.type_id.startswith("sensor."):
            actor.stop()
    finally:
        actor.destroy()
