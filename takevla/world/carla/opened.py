"""The worlds of a collection on a live server: one route at a time, the ego's sensors as the camera."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from takevla.world.camera.rig import Rig
from takevla.world.carla.camera import LiveCamera
from takevla.world.carla.client import synchronous
from takevla.world.carla.world import CarlaWorld
from takevla.world.maps.route_xml import RouteTask


@contextmanager
def open_route(
    client: Any, tasks: Sequence[RouteTask], seeds: Sequence[int], rig: Rig, maps_dir: Path
) -> Iterator[tuple[list[CarlaWorld], LiveCamera]]:
    """The world of the one task given, and its camera; the ego leaves the server at the end.

    Raises:
        ValueError: there is not exactly one task: a server drives one ego of ours at a time.
    """
    if len(tasks) != 1:
        raise ValueError(f"{len(tasks)} routes at once: a CARLA server takes one; set part_size to 1")
    with synchronous(client, tasks[0].town) as live:
        world = CarlaWorld(live, tasks[0], maps_dir, rig, seeds[0])
        try:
            yield [world], world.camera
        finally:
            world.close()
