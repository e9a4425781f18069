"""Where road maps come from: built-in towns by name, OpenDRIVE files from a folder."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from takevla.scene.road_map import RoadMap
from takevla.world.maps.towns import build_town, town_names

ALDER_TOWNS = town_names("Alder")  # training
BIRCH_TOWNS = town_names("Birch")  # validation: never trained on


def load_town(name: str, maps_dir: Path | None = None) -> RoadMap:
    """The road map of a town, cached in the process.

    `name` is a built-in town (`ALDER_TOWNS`, `BIRCH_TOWNS`) or that of `<maps_dir>/<name>.xodr`.

    Raises:
        ValueError: if the name is not built in and no folder is given, or the file is no road map.
        FileNotFoundError: if the folder has no such file.
    """
    if name in ALDER_TOWNS or name in BIRCH_TOWNS:
        return _built_in(name)
    if not name.isprintable() or name in ("", ".", "..") or name != Path(name).name:
        raise ValueError(f"town {name[:40]!r} is no name of a map: it must not be empty or a path")
    if maps_dir is None:
        raise ValueError(
            f"town {name!r} is not built in (Alder01..Alder{len(ALDER_TOWNS):02d}, "
            f"Birch01..Birch{len(BIRCH_TOWNS):02d}); pass --maps DIR with {name}.xodr"
        )
    path = Path(maps_dir) / f"{name}.xodr"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such OpenDRIVE file for town {name!r}; check --maps")
    return _from_file(path.resolve())


@cache
def _built_in(name: str) -> RoadMap:
    return build_town(name)


@cache
def _from_file(path: Path) -> RoadMap:
    from takevla.world.maps.opendrive import read_opendrive

    return read_opendrive(path)
