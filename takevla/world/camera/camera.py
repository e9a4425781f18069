"""The camera: a road map and a scene in, a picture out."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from takevla.scene.road_map import RoadMap
from takevla.scene.scene import Scene, Weather
from takevla.world.camera.ground import lay
from takevla.world.camera.instances import actor_instances, emit
from takevla.world.camera.look import OVERSAMPLING, Look, develop, is_night, make_look
from takevla.world.camera.models import models
from takevla.world.camera.renderer import Renderer
from takevla.world.camera.rig import HEIGHT_PX, LENS_FOVS_DEG, LENS_YAWS_DEG, MOUNT_M, WIDTH_PX, Rig
from takevla.world.camera.town import town_of

BATCH_QUADS = 24_000  # the greatest number of quads of each batch in one picture
GROUND_QUADS = BATCH_QUADS - 1_000  # leaves room for shadows
LOOKS_KEPT = 256


class Camera:
    """Draws what the ego's front camera sees.

    The same scene gives the same bytes, whatever was drawn before.  One process may hold several
    cameras; they share the towns.  Not for use from several threads at once.
    """

    def __init__(
        self,
        width: int = WIDTH_PX,
        height: int = HEIGHT_PX,
        mount_m: tuple[float, float, float] = MOUNT_M,
        lens_yaws_deg: tuple[float, ...] = LENS_YAWS_DEG,
        lens_fovs_deg: tuple[float, ...] = LENS_FOVS_DEG,
    ) -> None:
        """The fields of `Rig`."""
        self._rig = Rig(width, height, mount_m, lens_yaws_deg, lens_fovs_deg)
        self._renderer = Renderer(OVERSAMPLING * width, OVERSAMPLING * height, lens_fovs_deg, BATCH_QUADS)
        self._solid = np.zeros((4 * BATCH_QUADS, 4), np.float32)
        self._flat = np.zeros((4 * BATCH_QUADS, 4), np.float32)  # ground, then shadows on it
        self._looks: OrderedDict[Weather, Look] = OrderedDict()

    @classmethod
    def of(cls, rig: Rig) -> Camera:
        """The camera of a rig."""
        return cls(rig.width, rig.height, rig.mount_m, rig.lens_yaws_deg, rig.lens_fovs_deg)

    @property
    def rig(self) -> Rig:
        """What a dataset must remember of this camera."""
        return self._rig

    def render(
        self, road_map: RoadMap, scene: Scene, offset_y_m: float = 0.0, yaw_offset_rad: float = 0.0
    ) -> NDArray[np.uint8]:
        """The picture (H, W, 3) uint8 RGB, the caller's own copy.

        `offset_y_m` moves the camera to the ego's left, `yaw_offset_rad` turns it to the left about
        itself; the ego stays where it is.
        """
        if len(scene.lights) < len(road_map.signals):
            raise ValueError(
                f"scene of {scene.town!r} has {len(scene.lights)} light states, "
                f"road map {road_map.name!r} has {len(road_map.signals)} signals: pass the scene's own map"
            )
        town = town_of(road_map)
        look = self._look(scene.weather)
        night = is_night(scene.weather)
        ego = scene.ego
        cos, sin = math.cos(ego.heading_rad), math.sin(ego.heading_rad)
        forward, left, up = self._rig.mount_m
        left += offset_y_m
        eye = np.array(
            [
                float(ego.position_world[0]) + cos * forward - sin * left,
                float(ego.position_world[1]) + sin * forward + cos * left,
                float(ego.position_world[2]) + up,
            ]
        )
        yaw = float(ego.heading_rad) + yaw_offset_rad
        instances = (actor_instances(scene.actors, night), town.instances(scene.lights, night))
        lenses = zip(self._rig.lens_yaws_deg, self._rig.lens_fovs_deg, strict=True)
        for lens, (lens_yaw_deg, fov_deg) in enumerate(lenses):
            look_yaw = yaw + math.radians(lens_yaw_deg)
            tan_half = math.tan(math.radians(0.5 * fov_deg))
            low = lay(town.ground, eye, look_yaw, tan_half, self._flat[: 4 * GROUND_QUADS])
            solid = 0
            for placed in instances:
                room = self._solid[4 * solid :], self._flat[4 * low :]
                more = emit(models(), placed, eye, look_yaw, tan_half, *room)
                solid, low = solid + more[0], low + more[1]
            self._renderer.put(lens, self._flat[: 4 * low], self._solid[: 4 * solid], eye, look_yaw)
        raw = self._renderer.draw()
        picture = np.empty((self._rig.height, self._rig.width, 3), np.uint8)
        develop(raw, look, scene.time_us, picture)
        return picture

    def render_many(
        self,
        views: Sequence[tuple[RoadMap, Scene]],
        offset_y_m: Sequence[float] | None = None,
        yaw_offset_rad: Sequence[float] | None = None,
    ) -> NDArray[np.uint8]:
        """The pictures (N, H, W, 3) of many scenes, in order."""
        pictures = np.empty((len(views), self._rig.height, self._rig.width, 3), np.uint8)
        for i, (road_map, scene) in enumerate(views):
            offset = 0.0 if offset_y_m is None else offset_y_m[i]
            turn = 0.0 if yaw_offset_rad is None else yaw_offset_rad[i]
            pictures[i] = self.render(road_map, scene, offset, turn)
        return pictures

    def _look(self, weather: Weather) -> Look:
        if weather in self._looks:
            self._looks.move_to_end(weather)
            return self._looks[weather]
        look = make_look(weather, self._rig)
        self._looks[weather] = look
        if len(self._looks) > LOOKS_KEPT:
            self._looks.popitem(last=False)
        return look
