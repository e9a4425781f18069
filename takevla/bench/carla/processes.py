"""Processes that we start for CARLA: ports for them, and how they end.

Bench2Drive's evaluator starts the simulator in a session of its own, so that killing the evaluator leaves the
simulator behind.  Whatever we start carries a mark in its environment, which its children inherit: the folder
of its call.  By the mark, and by nothing else, they are found and ended (Linux only; elsewhere only the
process group ends).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

MARK = "TAKEVLA_CARLA_JOB"  # environment
STOP_S = 10.0  # between asking and killing
POLL_S = 0.05
RPC_PORTS = 3  # CARLA takes its port and the two after it
PORT_STEP = 150  # between jobs, as Bench2Drive's own scripts
FIRST_PORT, LAST_PORT = 20_000, 60_000


def _free(ports: Iterable[int]) -> bool:
    with ExitStack() as stack:
        for port in ports:
            listener = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("", port))
            except OSError:
                return False
    return True


def free_ports(slot: int) -> tuple[int, int]:
    """(RPC port, traffic manager port) that nobody listens on, for the `slot`-th job at a time.

    Raises:
        RuntimeError: none is free.
    """
    for start in range(FIRST_PORT + slot * PORT_STEP, LAST_PORT, 10 * PORT_STEP):
        for rpc in range(start, start + PORT_STEP - 2 * RPC_PORTS, 2 * RPC_PORTS):
            if _free(range(rpc, rpc + RPC_PORTS + 1)):
                return rpc, rpc + RPC_PORTS
    raise RuntimeError(f"no free ports for CARLA between {FIRST_PORT} and {LAST_PORT}")


def start(
    command: Sequence[str], environment: Mapping[str, str], mark: str, log: Path, cwd: Path
) -> subprocess.Popen[bytes]:
    """Start a marked process in a group of its own, in the folder `cwd`; what it prints is appended to `log`.

    Raises:
        FileNotFoundError: there is no such program.
    """
    with log.open("ab") as out:
        try:
            return subprocess.Popen(
                command,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**environment, MARK: mark},
                cwd=cwd,
                start_new_session=True,
            )
        except (FileNotFoundError, PermissionError) as error:
            raise FileNotFoundError(f"{command[0]}: cannot be started ({error.strerror})") from error


def marked(mark: str) -> list[int]:
    """Ids of the living processes whose mark starts so, besides this one."""
    wanted = b"\0" + f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            alive = b") Z " not in (folder / "stat").read_bytes()
            if alive and wanted in b"\0" + (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return [pid for pid in found if pid != os.getpid()]


def end(process: subprocess.Popen[bytes] | None, mark: str) -> None:
    """End a process, if one is given, and everything with its mark: ask, wait, kill."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        if process is not None and process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
        for pid in marked(mark):
            with suppress(ProcessLookupError):
                os.kill(pid, sign)
        until = time.monotonic() + STOP_S
        while time.monotonic() < until:
            if (process is None or process.poll() is not None) and not marked(mark):
                return
            time.sleep(POLL_S)
