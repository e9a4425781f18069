"""The user's own Bench2Drive (or CARLA leaderboard) checkout: what is where in it, and how it is called.

Nothing of it is part of this project; it is read and run where it lies (benchmark facts 1.9, 1.10).
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import takevla

EVALUATOR = Path("leaderboard/leaderboard/leaderboard_evaluator.py")
ROUTES_220 = Path("leaderboard/data/bench2drive220.xml")
WEATHERS = Path("leaderboard/data/weather.xml")  # opened relative to the working directory, or to $WORK_DIR
AGENT_FILE = Path(__file__).resolve().parent / "plugin" / "takevla_agent.py"
SIMULATOR = "CarlaUE4.sh"  # an evaluator that names it starts it, as Bench2Drive's does
SIMULATOR_VARIABLE = "CARLA_ROOT"
TICK_TIMEOUT_S = 600  # the evaluator's own patience with the simulator


@dataclass(frozen=True)
class Checkout:
    """A checkout that was found good."""

    folder: Path
    carla_root: Path
    starts_carla: bool  # the evaluator starts the simulator itself
    python: str = sys.executable  # an absolute path

    @property
    def routes(self) -> Path:
        """Its 220 routes."""
        return self.folder / ROUTES_220


def find_checkout(folder: Path, carla_root: Path | None, python: str = sys.executable) -> Checkout:
    """Look at a checkout.

    Raises:
        FileNotFoundError: something that is needed is not there; the message names it and the mend.
    """
    folder = folder.resolve()
    evaluator = folder / EVALUATOR
    if not evaluator.is_file():
        raise FileNotFoundError(
            f"{folder}: no {EVALUATOR}; give the folder of a checkout of Bench2Drive with --bench2drive"
        )
    root = carla_root or Path(os.environ.get(SIMULATOR_VARIABLE, ""))
    if not (root / SIMULATOR).is_file():
        raise FileNotFoundError(f"{root}: no {SIMULATOR}; set {SIMULATOR_VARIABLE} or give --carla-root")
    text = evaluator.read_text(errors="replace")
    if WEATHERS.name in text and not (folder / WEATHERS).is_file():
        raise FileNotFoundError(
            f"{folder}: no {WEATHERS}, which its evaluator opens for every route; the checkout is not whole"
        )
    return Checkout(folder, root.resolve(), SIMULATOR in text, _interpreter(python))


def _interpreter(python: str) -> str:
    """The absolute path of an interpreter, links of a virtual environment kept."""
    found = shutil.which(Path(python).expanduser())
    if found is None:
        raise FileNotFoundError(
            f"--python {python}: no such program; give the interpreter that has the checkout's packages"
        )
    return os.path.abspath(found)


def server_command(checkout: Checkout, port: int, gpu: int) -> list[str]:
    """How the simulator is started without a screen."""
    return [
        str(checkout.carla_root / SIMULATOR), "-RenderOffScreen", "-nosound",
        f"-carla-rpc-port={port}", f"-graphicsadapter={gpu}",
    ]  # fmt: skip


def evaluator_command(
    checkout: Checkout,
    routes: Path,
    ids: Sequence[str],
    agent_config: str,
    checkpoint: Path,
    ports: tuple[int, int],
    gpu: int,
    seed: int,
) -> list[str]:
    """How the evaluator is called for some routes.  `--resume` is never given: every call writes anew."""
    command = [
        checkout.python, "-u", str(checkout.folder / EVALUATOR),
        f"--routes={routes}", f"--routes-subset={','.join(ids)}", "--repetitions=1", "--track=SENSORS",
        f"--checkpoint={checkpoint}", f"--debug-checkpoint={checkpoint.with_suffix('.live.txt')}",
        f"--agent={AGENT_FILE}", f"--agent-config={agent_config}",
        f"--port={ports[0]}", f"--traffic-manager-port={ports[1]}", f"--traffic-manager-seed={seed}",
        f"--timeout={TICK_TIMEOUT_S}", "--debug=0",
    ]  # fmt: skip
    return [*command, f"--gpu-rank={gpu}"] if checkout.starts_carla else command


def source_tree(package: Path) -> list[Path]:
    """The folder to import a package from, given its `__init__.py`, where it runs from its source tree.

    Nothing for an installed package: what is installed beside it is for its own Python, which need not be the
    evaluator's.
    """
    home = package.resolve().parents[1]
    return [home] if (home / "pyproject.toml").is_file() else []


def evaluator_environment(
    checkout: Checkout, routes: Path, save_path: Path, checkpoint: Path, ports: tuple[int, int]
) -> Mapping[str, str]:
    """The environment that Bench2Drive's own scripts set, on top of ours."""
    leaderboard, runner = checkout.folder / "leaderboard", checkout.folder / "scenario_runner"
    api = checkout.carla_root / "PythonAPI" / "carla"
    path = [str(one) for one in (leaderboard, runner, api, *source_tree(Path(takevla.__file__)))]
    inherited = os.environ.get("PYTHONPATH", "")
    if inherited:  # its relative folders are meant from here, and the evaluator runs in the checkout
        path += [os.path.abspath(one) for one in inherited.split(os.pathsep)]
    return {
        **os.environ,
        "CARLA_ROOT": str(checkout.carla_root),
        "LEADERBOARD_ROOT": str(leaderboard),
        "SCENARIO_RUNNER_ROOT": str(runner),
        "PYTHONPATH": os.pathsep.join(path),
        "WORK_DIR": str(checkout.folder),
        "ROUTES": str(routes),
        "SAVE_PATH": str(save_path),
        "CHECKPOINT_ENDPOINT": str(checkpoint),
        "IS_BENCH2DRIVE": "True",
        "PLANNER_TYPE": "only_traj",
        "TM_PORT": str(ports[1]),
    }
