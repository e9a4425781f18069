"""The doctor names what a CARLA server lacks, and the mend."""

import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from takevla.carla_doctor import examine_carla
from takevla.doctor import Health


def _text(value: str) -> bytes:
    raw = value.encode()
    return b"\xd9" + struct.pack("B", len(raw)) + raw


def _serve(listener: socket.socket) -> None:
    """Answers `version` and `get_available_maps` in CARLA's msgpack-rpc (benchmark facts 5)."""
    while True:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        while data := peer.recv(4096):
            number = data[2:3] if data[2] < 0x80 else data[2 : 2 + {0xCC: 2, 0xCD: 3, 0xCE: 5}[data[2]]]
            maps = [_text("/Game/Carla/Maps/Town01"), _text("/Game/Carla/Maps/Town10HD_Opt")]
            value = b"\x92" + b"".join(maps) if b"get_available_maps" in data else _text("0.9.16")
            peer.sendall(b"\x94\x01" + number + b"\xc0" + b"\x91\x92\x01" + value)


@pytest.fixture
def server() -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_serve, args=(listener,), daemon=True).start()
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


def test_a_server_that_answers_is_named_with_its_maps(server: str) -> None:
    pytest.importorskip("carla")
    version, maps, *_ = examine_carla(server)
    assert version.health is Health.OK
    assert "0.9.16" in version.detail
    assert maps.detail == "Town01, Town10HD_Opt"
    assert "Town12" in maps.mend
    assert "Town10HD" not in maps.mend


@pytest.mark.parametrize("address", ["2000", "localhost:", "localhost:x", "localhost:99999"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        examine_carla(address)
