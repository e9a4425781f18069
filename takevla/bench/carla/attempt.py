"""One call of the evaluator, watched from start to end.

Each call has a folder of its own.  Records are taken over as soon as they are final, so that nothing which
the evaluator does to its file afterwards can lose them; of half a file the whole records are taken.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from takevla.bench.carla.agent_config import HEARTBEAT
from takevla.bench.carla.processes import end, start

CHECKPOINT = "checkpoint.json"
LOG, SERVER_LOG, BEAT = "evaluator.log", "carla.log", "heartbeat"
TAIL_BYTES = 20_000
TAIL_LINES = 3  # of a call that drove nothing: where and why a traceback ends
REASON_LENGTH = 300
_ROUTE_ID = re.compile(r"^RouteScenario_(.+?)_rep\d+$")
_RECORDS = re.compile(r'"records"\s*:\s*\[\s*')
_BETWEEN = (",", " ", "\n", "\t", "\r")  # records
# Words of a log that name a simulator that is gone; CARLA's client says the first.
_SIMULATOR = re.compile(
    r"time-out of \d+ ?ms while waiting for the simulator|Signal 11 caught|Segmentation fault"
    r"|Out of video memory|Fatal error!|rpc::timeout|failed to connect to newly created map",
    re.IGNORECASE,
)
Record = Mapping[str, Any]


class Crash(Enum):
    """Why a call ended without a final record of the route it was driving."""

    NONE = "none"
    SIMULATOR = "simulator crashed"
    AGENT = "agent crashed"
    SET_UP = "agent could not be set up"
    HANG = "nothing moved"
    NEVER_STARTED = "evaluator never started"
    UNKNOWN = "evaluator ended"


# Statuses that say that the route was not judged (benchmark facts 1.3), and what happened.
_CRASHED = {
    "Simulation crashed": Crash.SIMULATOR,
    "Agent crashed": Crash.AGENT,
    "Agent couldn't be set up": Crash.SET_UP,
    "Agent's sensors were invalid": Crash.SET_UP,
}


@dataclass(frozen=True)
class Patience:
    """How long the supervisor waits, wall seconds."""

    start_s: float = 1200.0  # until the evaluator or the agent gives the first sign of life
    stall_s: float = 1200.0  # after that, without a new record and without a sign of life of the agent
    server_s: float = 120.0  # until a simulator that we start listens
    finish_s: float = 120.0  # after the last record, for the agent to write its files
    poll_s: float = 2.0


@dataclass(frozen=True)
class Attempt:
    """What one call came to."""

    records: Mapping[str, Record]  # final records by route id
    culprit: str | None  # the route that was being driven when it ended early
    crash: Crash
    reason: str  # one line
    unfinished: Record | None = None  # the culprit's record, where the evaluator wrote one
    drove: bool = True  # the agent gave a sign of life or a route got a record; else any route would end so


def crash_of(record: Record) -> Crash:
    """Whether a record says that its route was not judged."""
    status = str(record.get("status", ""))
    return next((crash for words, crash in _CRASHED.items() if words in status), Crash.NONE)


def read_records(path: Path) -> dict[str, Record]:
    """Whole records by route id of an evaluator's file, also of one that breaks off."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return {}
    begin = _RECORDS.search(text)
    decoder, place = json.JSONDecoder(), begin.end() if begin else len(text)
    found: dict[str, Record] = {}
    while True:
        try:
            row, place = decoder.raw_decode(text, place)
        except ValueError:  # the end of the list, or of what was written of it
            return found
        status = row.get("status") if isinstance(row, dict) else None
        match = _ROUTE_ID.match(str(row["route_id"])) if status and "route_id" in row else None
        if match and row.get("scores") and status != "Started":
            found[match.group(1)] = row
        while text[place : place + 1] in _BETWEEN:
            place += 1
            if place >= len(text):
                return found


def log_tail(path: Path) -> str:
    """The end of a log; empty where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(os.path.getsize(path) - TAIL_BYTES, 0))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def last_line(path: Path, count: int = 1) -> str:
    """The last `count` lines of a log that say something, as one."""
    lines = [line.strip()[:REASON_LENGTH] for line in log_tail(path).splitlines() if line.strip(" ^~")]
    return " | ".join(lines[-count:]) or "nothing printed"


def run_attempt(
    command: Sequence[str],
    environment: Mapping[str, str],
    ids: Sequence[str],
    folder: Path,
    cwd: Path,
    patience: Patience,
    keep: Callable[[str, Record], None],
    stop: threading.Event,
    server: subprocess.Popen[bytes] | None = None,
) -> Attempt:
    """Call the evaluator for `ids` (in file order) and watch it until it ends, stalls, or is cut off.

    Args:
        command: writes its results to `folder / CHECKPOINT`.
        environment: of the evaluator.
        ids: the routes asked.
        folder: of this call; its path is the mark of the processes.
        cwd: where the evaluator runs: it opens files of its checkout by relative paths.
        patience: how long to wait.
        keep: called once with each final record, as soon as it is seen.
        stop: set from outside, ends the call, which then blames nobody.
        server: a simulator that we started for this call, if we did.
    """
    checkpoint, beat = folder / CHECKPOINT, folder / BEAT
    kept: dict[str, Record] = {}
    crashed: dict[str, Record] = {}
    process = start(command, {**environment, HEARTBEAT: str(beat)}, str(folder), folder / LOG, cwd)
    seen: tuple[Any, ...] = ()
    moved_s = time.monotonic()
    finished_s: float | None = None
    stalled = server_died = False

    def harvest() -> None:
        for name, record in read_records(checkpoint).items():
            if name not in ids:
                continue
            if crash_of(record) is not Crash.NONE:
                crashed[name] = record
            elif name not in kept:
                kept[name] = record
                keep(name, record)

    try:
        while True:
            ended = process.poll() is not None
            harvest()
            if ended:
                break
            if len(kept) == len(ids):
                finished_s = time.monotonic() if finished_s is None else finished_s
                if time.monotonic() - finished_s > patience.finish_s:
                    break
            now = (_stamp(checkpoint), _stamp(beat))
            if now != seen:
                seen, moved_s = now, time.monotonic()
            if server is not None and server.poll() is not None:
                server_died = True
                break
            if time.monotonic() - moved_s > (patience.stall_s if any(seen) else patience.start_s):
                stalled = True
                break
            if stop.wait(patience.poll_s):
                break
    finally:
        end(process, str(folder))
    harvest()
    rest = [name for name in ids if name not in kept]
    if not rest or stop.is_set():
        return Attempt(kept, None, Crash.NONE, "")
    culprit = next((name for name in rest if name in crashed), rest[0])
    told = crashed.get(culprit)
    tail, code = log_tail(folder / LOG), process.returncode
    drove = bool(kept or crashed) or beat.exists()
    said = last_line(folder / LOG, 1 if drove else TAIL_LINES)
    if told is not None:
        crash, reason = crash_of(told), str(told["status"])
        if crash is Crash.AGENT and server_died:
            crash = Crash.SIMULATOR  # the agent stumbled over a simulator that was gone
    elif server_died:
        crash, reason = Crash.SIMULATOR, f"CARLA ended: {last_line(folder / SERVER_LOG)}"
    elif not checkpoint.exists() and not drove:
        how = f"nothing written for {patience.start_s:g} s" if stalled else f"exit code {code}"
        crash, reason = Crash.NEVER_STARTED, f"{how}; {said}"
    elif stalled:
        crash, reason = Crash.HANG, f"nothing moved for {patience.stall_s:g} s; {said}"
    elif _SIMULATOR.search(tail):
        crash, reason = Crash.SIMULATOR, f"exit code {code}; {said}"
    elif "takevla_agent" in tail and "Traceback" in tail:
        crash, reason = Crash.AGENT, f"exit code {code}; {said}"
    else:
        crash, reason = Crash.UNKNOWN, f"exit code {code}; {said}"
    return Attempt(kept, culprit, crash, reason, told, drove)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
