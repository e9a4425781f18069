"""Plays Bench2Drive's evaluator for tests of the supervisor: same options, same file, no simulator.

STAND_IN_PLAN names a JSON file {route id: [behaviour of the first call that drives it, of the second, ...]};
after the list is used up, or without one, the route is driven.  STAND_IN_STATE is a folder that counts.
"start" tells what becomes of every call.  As the real one it runs only in the folder of its checkout.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

KINDS = (
    "collisions_layout",
    "collisions_pedestrian",
    "collisions_vehicle",
    "red_light",
    "stop_infraction",
    "outside_route_lanes",
    "min_speed_infractions",
    "yield_emergency_vehicle_infractions",
    "scenario_timeouts",
    "route_dev",
    "vehicle_blocked",
    "route_timeout",
)


def record(index: int, route: str, status: str, score: float, call: int) -> dict:
    return {
        "index": index,
        "route_id": f"RouteScenario_{route}_rep0",
        "scenario_name": "ParkingCutIn_1",
        "weather_id": 3,
        "save_name": f"RouteScenario_{route}_rep0_Town12_ParkingCutIn_1_3_0{call}",
        "town_name": "Town12",
        "status": status,
        "num_infractions": 0,
        "infractions": {kind: [] for kind in KINDS},
        "scores": {"score_route": score, "score_penalty": 1.0, "score_composed": score},
        "meta": {"route_length": 100.0, "duration_game": 20.0, "duration_system": 30.0},
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("routes", "routes-subset", "repetitions", "track", "checkpoint", "debug-checkpoint", "agent",
                 "agent-config", "port", "traffic-manager-port", "traffic-manager-seed", "timeout", "debug",
                 "gpu-rank"):  # fmt: skip
        parser.add_argument(f"--{name}")
    options = parser.parse_args()
    plan = json.loads(Path(os.environ["STAND_IN_PLAN"]).read_text())
    state = Path(os.environ["STAND_IN_STATE"])
    ids = options.routes_subset.split(",")
    if plan.get("orphan"):  # as the real one: a simulator in a session of its own
        child = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
        )
        (state / "orphans").open("a").write(f"{child.pid}\n")
    if plan.get("start") == "never":
        print("ModuleNotFoundError: No module named 'py_trees'")
        sys.exit(1)
    checkpoint, records = Path(options.checkpoint), []

    def write() -> None:
        content = {"_checkpoint": {"progress": [len(records), len(ids)], "records": records}}
        checkpoint.write_text(json.dumps(content))

    write()
    for index, route in enumerate(ids):
        with (state / f"{route}.calls").open("a") as calls:
            calls.write("x")
        call = (state / f"{route}.calls").stat().st_size
        behaviours = plan.get(route, [])
        behaviour = behaviours[call - 1] if call <= len(behaviours) else "drive"
        if "empty" in (plan.get("start"), behaviour):  # a traceback before the agent is set up
            ElementTree.parse("leaderboard/data/nowhere.xml")
        ElementTree.parse("leaderboard/data/weather.xml")  # as the real one, outside every try
        Path(os.environ["TAKEVLA_HEARTBEAT"]).touch()
        if behaviour in ("agent", "simulator", "set-up"):
            words = {
                "agent": "Failed - Agent crashed",
                "simulator": "Failed - Simulation crashed",
                "set-up": "Failed - Agent couldn't be set up",
            }[behaviour]
            records.append(record(index, route, words, 12.5, call))
            write()
            sys.exit(255)
        if behaviour == "traceback":
            print(
                "Traceback (most recent call last):\n  File 'takevla_agent.py', line 1\nValueError: no sensor"
            )
            sys.exit(1)
        if behaviour == "time-out":
            print("RuntimeError: time-out of 600000ms while waiting for the simulator, make sure it is ready")
            sys.exit(255)
        if behaviour == "hang":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                time.sleep(60)
        if behaviour == "half":
            whole = json.dumps(
                {"_checkpoint": {"records": [*records, record(index, route, "Completed", 1, 1)]}}
            )
            checkpoint.write_text(whole[: len(whole) * 3 // 4])
            os.kill(os.getpid(), signal.SIGKILL)
        if behaviour == "kill-server":
            os.kill(int((state / "server.pid").read_text()), signal.SIGKILL)
            time.sleep(60)
        records.append(record(index, route, "Completed", 100.0, call))
        write()
        (state / "seen").write_text(json.dumps({"argv": sys.argv, "environment": dict(os.environ)}))
        time.sleep(plan.get("between_s", 0))


if __name__ == "__main__":
    main()
