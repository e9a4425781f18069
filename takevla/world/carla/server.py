"""What a CARLA server says of itself."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

NEEDS_CLIENT = "the CARLA client is not installed; pip install 'takevla[carla]'"


@dataclass(frozen=True)
class ServerFacts:
    """The answers of a server to its two first questions."""

    client_version: str
    server_version: str
    maps: tuple[str, ...]  # short names, sorted


def ask_server(host: str, port: int, timeout_s: float) -> ServerFacts:
    """Ask a server for its version and maps.

    Raises:
        RuntimeError: the client is not installed, or the server does not answer in time.
    """
    try:
        carla = importlib.import_module("carla")
    except ModuleNotFoundError as error:
        raise RuntimeError(NEEDS_CLIENT) from error
    client = carla.Client(host, port, 1)
    client.set_timeout(timeout_s)
    maps = sorted({str(name).rsplit("/", 1)[-1] for name in client.get_available_maps()})
    return ServerFacts(str(client.get_client_version()), str(client.get_server_version()), tuple(maps))
