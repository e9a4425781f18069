"""The `carla` client library and a connection to a server in synchronous mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from takevla.scene.scene import TICK_US

TIMEOUT_S = 60.0  # a large town takes so long to load


def carla() -> Any:
    """The client library.

    Raises:
        RuntimeError: it is not installed.
    """
    try:
        import carla as library
    except ImportError:
        raise RuntimeError("the CARLA client is not installed: pip install 'takevla[carla]'") from None
    return library


def connect(host: str, port: int) -> Any:
    """A `carla.Client` that waits up to `TIMEOUT_S` for each answer."""
    client = carla().Client(host, port)
    client.set_timeout(TIMEOUT_S)
    return client


@contextmanager
def synchronous(client: Any, town: str) -> Iterator[Any]:
    """The `carla.World` of `town`, loaded if another is there, ticked by us alone; put back at the end.

    Loading a town takes every actor from the server, also those of other clients, whose traffic managers then
    steer nothing any more: with vehicles or walkers there the town is not changed.

    Raises:
        RuntimeError: the server does not answer or does not know the town, or has traffic in another one.
    """
    world = client.get_world()
    there = town_name(world.get_map())
    if there != town:
        foreign = [one for one in world.get_actors() if one.type_id.startswith(("vehicle.", "walker."))]
        if foreign:
            raise RuntimeError(
                f"the server has {len(foreign)} vehicles and walkers in {there}, which loading {town} would "
                f"destroy: end the client that drives them, or load {town}, start the traffic there, and "
                "give a route file of that town alone"
            )
        world = client.load_world(town)
    before = world.get_settings()
    settings = world.get_settings()
    settings.synchronous_mode = True
    settings.fixed_delta_seconds = TICK_US / 1e6
    world.apply_settings(settings)
    try:
        yield world
    finally:
        world.apply_settings(before)


def town_name(carla_map: Any) -> str:
    """`Town01` of a map that the server calls `Carla/Maps/Town01`."""
    return str(carla_map.name).rpartition("/")[2]
