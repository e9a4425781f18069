"""The doctor names what a CARLA server lacks, and the mend."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from takevla.carla_doctor import examine_carla
from takevla.doctor import Health


def _text(value: str) -> bytes:
    raw = value.encode()
    return b"\xd9" + struct.pack("B", len(raw)) + raw


def _serve(listener: socket.socket, version: str) -> None:
    """Answers `version` and `get_available_maps` in CARLA's msgpack-rpc (benchmark facts 5)."""
    while True:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        while data := peer.recv(4096):
            number = data[2:3] if data[2] < 0x80 else data[2 : 2 + {0xCC: 2, 0xCD: 3, 0xCE: 5}[data[2]]]
            maps = [_text("/Game/Carla/Maps/Town01"), _text("/Game/Carla/Maps/Town10HD_Opt")]
            value = b"\x92" + b"".join(maps) if b"get_available_maps" in data else _text(version)
            peer.sendall(b"\x94\x01" + number + b"\xc0" + b"\x91\x92\x01" + value)


@contextmanager
def server_of(version: str) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_serve, args=(listener, version), daemon=True).start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    listener.close()


def test_a_closed_port_is_named_with_the_command_that_starts_a_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    found = examine_carla(f"127.0.0.1:{port}")
    assert found[0].health is Health.BROKEN
    assert f"127.0.0.1:{port} does not listen" in found[0].detail
    assert f"-carla-rpc-port={port}" in found[0].mend
    assert [one.subject for one in found] == ["CARLA server", "CARLA_ROOT", "GPU", "Vulkan"]


def test_a_server_that_answers_is_named_with_its_maps() -> None:
    pytest.importorskip("carla")
    with server_of("0.9.16") as address:
        version, maps, *_ = examine_carla(address)
    assert version.health is Health.OK
    assert "0.9.16" in version.detail
    assert maps.detail == "Town01, Town10HD_Opt"
    assert "Town12" in maps.mend
    assert "Town10HD" not in maps.mend


@pytest.mark.parametrize(("version", "package"), [("0.9.15", "carla-0-9-15"), ("0.9.17-3", "carla==0.9.17")])
def test_a_server_of_another_version_comes_with_the_client_to_install(version: str, package: str) -> None:
    pytest.importorskip("carla")
    with server_of(version) as address:
        found = examine_carla(address)[0]
    assert found.health is Health.BROKEN
    assert f"version {version}, client 0.9.16" in found.detail
    assert f"pip install {package};" in found.mend


@pytest.mark.parametrize("address", ["2000", "localhost:", "localhost:x", "localhost:99999"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        examine_carla(address)
