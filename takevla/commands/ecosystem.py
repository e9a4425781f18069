"""Other people's tools: `serve` (AlpaSim), `export` (LeRobot) and `push` (Hugging Face hub)."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

from jsonargparse import ArgumentParser

from takevla.commands.command import OUT, Arguments, Command, add_device


def _serve_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--alpasim", type=str, required=True, help="checkpoint folder to serve to AlpaSim, or 'shipped'"
    )
    parser.add_argument("--port", type=int, default=50051, help="TCP port to listen on; 0 for a free one")
    parser.add_argument("--host", type=str, default="0.0.0.0", help="address to listen on")
    parser.add_argument(
        "--client", type=str, default="alpasim",
        help="'alpasim', or 'carla' for a runtime of carla-driver-interface",
    )  # fmt: skip
    parser.add_argument("--commentary", type=bool, default=True, help="say why before each plan; slower")
    add_device(parser)


def _serve(arguments: Arguments) -> None:
    from takevla.bench.drivers import load_driver
    from takevla.driver.serve.alpasim import alpasim_server

    if arguments.client not in ("alpasim", "carla"):
        raise ValueError(f"--client {arguments.client}: give alpasim or carla")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    driver = load_driver(arguments.alpasim, commentary=arguments.commentary, device=arguments.device)
    with alpasim_server(driver, arguments.port, arguments.host, arguments.client) as (port, policy):
        OUT.print(
            f"{policy.name} serves egodriver.EgodriverService on {arguments.host}:{port}; stop with Ctrl-C"
        )
        stop.wait()


def _export_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("format", type=str, help="'lerobot' (LeRobotDataset v3.0)")
    parser.add_argument("dataset", type=Path, help="dataset folder that `takevla collect` wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; must not exist")


def _export(arguments: Arguments) -> None:
    from takevla.dataset.lerobot import export_lerobot

    if arguments.format != "lerobot":
        raise ValueError(f"no export named {arguments.format!r}; there is 'lerobot'")
    done = export_lerobot(arguments.dataset, arguments.out)
    OUT.print(
        f"{arguments.out}: LeRobotDataset v3.0 of {done.episodes} episodes, {done.frames} frames, "
        f"{done.tasks} tasks, {done.comments} commentaries, {done.files} data files"
        + (f"; {done.left_out} frames that stand alone are left out" if done.left_out else ""),
        highlight=False,
        soft_wrap=True,
    )


def _push_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="checkpoint folder")
    parser.add_argument("repository", type=str, help="owner/name on the Hugging Face hub; made if missing")
    parser.add_argument("--private", type=bool, default=True, help="a new repository is seen by you alone")


def _push(arguments: Arguments) -> None:
    from takevla.driver.vla.repository import push_checkpoint

    OUT.print(f"model: {push_checkpoint(arguments.model, arguments.repository, arguments.private)}")


ECOSYSTEM: dict[str, Command] = {
    "serve": Command("serve a model to a simulator: AlpaSim's driver service", _serve_arguments, _serve),
    "export": Command("write a dataset in another format: LeRobot", _export_arguments, _export),
    "push": Command("put a checkpoint on the Hugging Face hub", _push_arguments, _push),
}
