"""What keeps a CARLA server from working: what it says of itself, and the graphics of this machine."""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import shutil
import socket
import subprocess
from contextlib import closing
from pathlib import Path

from takevla.doctor import Finding, Health
from takevla.world.carla.server import NEEDS_CLIENT, ask_server

CONNECT_S, ANSWER_S = 3.0, 10.0
TOWNS = frozenset(
    (*(f"Town0{k}" for k in range(1, 8)), "Town10HD", *(f"Town1{k}" for k in (1, 2, 3, 5)))
)  # of Bench2Drive's 220 routes (benchmark facts 1.1)
DRIVER_FOLDERS = (Path("/usr/share/vulkan/icd.d"), Path("/etc/vulkan/icd.d"))
START = "CarlaUE4.sh -RenderOffScreen -nosound -carla-rpc-port={port}"


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"--carla {text!r}: give HOST:PORT, as in localhost:2000")
    return host, int(port)


def _server(host: str, port: int) -> list[Finding]:
    try:
        with closing(socket.create_connection((host, port), CONNECT_S)):
            pass
    except OSError as error:
        mend = f"{START.format(port=port)}, and wait until it listens"
        reason = error.strerror or type(error).__name__
        return [Finding("CARLA server", Health.BROKEN, f"{host}:{port} does not listen ({reason})", mend)]
    if importlib.util.find_spec("carla") is None:
        detail = f"{host}:{port} listens; {NEEDS_CLIENT.split(';')[0]}"
        return [Finding("CARLA server", Health.BROKEN, detail, "pip install 'takevla[carla]'")]
    try:
        facts = ask_server(host, port, ANSWER_S)
    except RuntimeError as error:
        detail = f"{host}:{port} listens but does not answer as CARLA ({' '.join(str(error).split())})"
        mend = "check the port (CARLA's own, not the one after it); a first start takes a minute or more"
        return [Finding("CARLA server", Health.BROKEN, detail, mend)]
    same = facts.client_version.split("-")[0] == facts.server_version.split("-")[0]
    detail = f"version {facts.server_version}, client {facts.client_version}"
    version = Finding(
        "CARLA server",
        Health.OK if same else Health.BROKEN,
        detail,
        "" if same else _client_of(facts.server_version),
    )
    missing = sorted(town for town in TOWNS if not {town, f"{town}_Opt"} & set(facts.maps))
    maps = Finding(
        "CARLA maps",
        Health.OPTIONAL if missing else Health.OK,
        ", ".join(facts.maps) or "none",
        f"install AdditionalMaps for {', '.join(missing)}" if missing else "",
    )
    return [version, maps]


def _client_of(version: str) -> str:
    """How the client of a server is installed.  0.9.15 has no official one for Python 3.11 and later."""
    package, more = f"carla=={version.split('-')[0]}", ""
    if version.startswith("0.9.15"):
        package, more = "carla-0-9-15", "; Bench2Drive needs more: docs/carla.md, 'The evaluator's Python'"
    return f"pip uninstall carla, then pip install {package}; or start a server of the client's version{more}"


def _said(*command: str) -> list[str]:
    """Lines of a program's answer; none where it is missing or fails."""
    if shutil.which(command[0]) is None:
        return []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if not done.returncode else []


def _gpu() -> Finding:
    fields = "index,name,memory.total,memory.used,driver_version"
    cards = _said("nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader")
    if cards:
        return Finding("GPU", Health.OK, "; ".join(cards))
    nodes = sorted(path.name for path in Path("/dev/dri").glob("renderD*"))
    if nodes:
        return Finding("GPU", Health.OPTIONAL, f"no nvidia-smi; render nodes {', '.join(nodes)}")
    mend = "run the server on a machine with a GPU; in a container start with --gpus all"
    return Finding("GPU", Health.OPTIONAL, "none seen on this machine", mend)


def _vulkan() -> Finding:
    loader = ctypes.util.find_library("vulkan")
    drivers = sorted(path.name for folder in DRIVER_FOLDERS for path in folder.glob("*.json"))
    summary = _said("vulkaninfo", "--summary")
    names = [line.split("=", 1)[1].strip() for line in summary if line.startswith("deviceName")]
    detail = (
        f"loader {loader or 'missing'}, drivers {', '.join(drivers) or 'none'}, "
        f"devices {', '.join(names) if names else 'unknown (no vulkaninfo)' if not summary else 'none'}"
    )
    if loader is None:
        return Finding("Vulkan", Health.OPTIONAL, detail, "apt-get install libvulkan1 vulkan-tools")
    if not drivers:
        mend = "install the GPU's driver; in a container set NVIDIA_DRIVER_CAPABILITIES=all"
        return Finding("Vulkan", Health.OPTIONAL, detail, mend)
    if names and all("llvmpipe" in name for name in names):
        mend = "only the software renderer is seen: install the GPU's Vulkan driver"
        return Finding("Vulkan", Health.OPTIONAL, detail, mend)
    return Finding("Vulkan", Health.OK, detail)


def _root() -> Finding:
    root = os.environ.get("CARLA_ROOT", "")
    if not root:
        return Finding("CARLA_ROOT", Health.OPTIONAL, "not set", "export CARLA_ROOT=FOLDER_OF_CARLA_0.9.15")
    if not (Path(root) / "CarlaUE4.sh").is_file():
        return Finding("CARLA_ROOT", Health.BROKEN, f"no CarlaUE4.sh in {root}", "point it to CARLA's folder")
    return Finding("CARLA_ROOT", Health.OK, root)


def examine_carla(address: str) -> list[Finding]:
    """Findings on a server, HOST:PORT, and on what this machine would need to run one.

    Raises:
        ValueError: the address is none.
    """
    host, port = _address(address)
    return [*_server(host, port), _root(), _gpu(), _vulkan()]
