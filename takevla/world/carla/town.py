"""The road map of the town that a server has loaded, kept as a file so that dreams find it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from takevla.scene.road_map import RoadMap
from takevla.world.carla.client import town_name
from takevla.world.maps.atlas import load_town


def live_town(carla_map: Any, maps_dir: Path) -> RoadMap:
    """Our road map of a `carla.Map`; `<maps_dir>/<town>.xodr` is written if it is not there.

    Raises:
        ValueError: the folder has a file of that town with other content, or it is no road map.
    """
    name, text = town_name(carla_map), carla_map.to_opendrive()
    path = maps_dir / f"{name}.xodr"
    if not path.is_file():
        maps_dir.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != text:
        raise ValueError(f"{path}: not the map that the server has loaded; choose another --maps folder")
    return load_town(name, maps_dir)
