"""Single stages: `demonstrate`, `pretrain`, `collect`, `label`, `sft`, `dream`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from jsonargparse import ActionYesNo, ArgumentParser

from takevla.commands.command import (
    OUT,
    Arguments,
    Command,
    Folders,
    add_common,
    add_device,
    placement,
    refuse_unused,
    say_dataset,
)
from takevla.driver.expert.margins import Margins
from takevla.driver.vla.named import model_folder


def _demonstrate_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--suite", type=list[str], default=["train", "train_free"], help="suites to drive")
    parser.add_argument(
        "--starts", type=int, default=0, help="standing starts per route instead of whole routes"
    )
    add_common(parser)
    parser.add_class_arguments(Margins, "margins")


def _demonstrate(arguments: Arguments) -> None:
    from takevla.bench.suites import load_suite
    from takevla.stage_work import demonstrate, demonstrate_starts

    suites = [load_suite(name) for name in arguments.suite]
    how = {"seed": arguments.seed, "margins": arguments.margins, **placement(arguments)}
    if arguments.starts:
        demonstrate_starts(suites, arguments.starts, arguments.out, **how)
    else:
        demonstrate(suites, arguments.out, **how)
    say_dataset(arguments.out)


def _collect_arguments(parser: ArgumentParser) -> None:
    from takevla.takeover.shadow import TakeoverConfig

    parser.add_argument(
        "--model", type=str, default="shipped", help="checkpoint folder, 'shipped', or hub id"
    )
    parser.add_argument("--suite", type=str, default="train", help="suite to drive")
    parser.add_argument(
        "--routes", type=int, default=0, help="how many of its routes, evenly spread; 0 for all"
    )
    parser.add_argument("--world", type=Literal["embedded", "carla"], default="embedded", help="simulator")
    parser.add_argument("--server", type=str, default="localhost:2000", help="HOST:PORT of the CARLA server")
    parser.add_argument(
        "--route-file", type=Path, default=None, help="leaderboard route XML to drive on CARLA"
    )
    parser.add_argument(
        "--held-out", type=Folders, default=[], help="leaderboard route XML whose routes are refused on CARLA"
    )
    parser.add_argument(
        "--maps", type=Path, default=None, help="folder that keeps the OpenDRIVE of CARLA's towns (OUT/maps)"
    )
    add_common(parser)
    add_device(parser)
    parser.add_class_arguments(TakeoverConfig, "takeover")


def _collect(arguments: Arguments) -> None:
    from takevla.recipe import RouteChoice
    from takevla.rounds import chosen
    from takevla.stage_work import collect

    if arguments.world == "carla":
        refuse_unused(
            arguments, _collect_arguments, ("suite", "routes", "workers", "executor", "address"),
            "is of the embedded world; CARLA drives --route-file, one route at a time",
        )  # fmt: skip
        _collect_live(arguments)
        return
    refuse_unused(
        arguments, _collect_arguments, ("route_file", "held_out", "server", "maps"), "is of --world carla"
    )
    suite = chosen(RouteChoice(arguments.suite, arguments.routes))
    model = model_folder(arguments.model)
    collect(
        model, suite, arguments.takeover, arguments.out, seed=arguments.seed, device=arguments.device,
        **placement(arguments),
    )  # fmt: skip
    say_dataset(arguments.out)


def _collect_live(arguments: Arguments) -> None:
    from takevla.bench.suites import refuse_held_out
    from takevla.stage_work import collect_live
    from takevla.world.carla.client import connect
    from takevla.world.maps.route_xml import read_routes

    if arguments.route_file is None:
        raise ValueError("--world carla drives leaderboard routes: give --route-file FILE.xml")
    host, _, port = arguments.server.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"--server {arguments.server!r} is not HOST:PORT")
    tasks = read_routes(arguments.route_file)
    held_out = [arguments.held_out] if isinstance(arguments.held_out, Path) else arguments.held_out
    for path in held_out:
        refuse_held_out(tasks, read_routes(path), str(path))
    if not held_out:
        OUT.print("no --held-out FILE.xml: nothing keeps the routes of a benchmark out of this dataset")
    collect_live(
        model_folder(arguments.model),
        tasks,
        arguments.takeover,
        arguments.out,
        connect(host, int(port)),
        seed=arguments.seed,
        maps_dir=arguments.maps or arguments.out / "maps",
        device=arguments.device,
    )
    say_dataset(arguments.out)


def _label_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--takeovers", type=Path, required=True, help="dataset of takeovers")
    parser.add_argument(
        "--window", type=float, default=3.0, help="seconds before a takeover that get a label"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the new dataset")


def _label(arguments: Arguments) -> None:
    from takevla.dataset.relabel import relabel

    done = relabel(arguments.takeovers, arguments.out, arguments.window)
    OUT.print(
        f"{arguments.out}: {done.takeovers} takeovers, {done.frames} frames before them, "
        f"{done.enhanced} with an enhanced commentary"
    )


def _pretrain_arguments(parser: ArgumentParser) -> None:
    from takevla.learn.settings import PretrainConfig

    parser.add_argument("--recipe", action="config", help="YAML file with any of the settings below")
    parser.add_argument("--data", type=Folders, required=True, help="datasets of expert driving")
    add_common(parser, workers=False)
    add_device(parser)
    parser.add_class_arguments(PretrainConfig, "pretrain")


def _pretrain(arguments: Arguments) -> None:
    from takevla.bench.suites import refuse_learning
    from takevla.learn.pretrain import pretrain

    refuse_learning(arguments.data)
    config = arguments.pretrain
    config = replace(config, train=replace(config.train, seed=arguments.seed))
    OUT.print(f"model: {pretrain(config, arguments.data, arguments.out, device=arguments.device)}")


def _sft_arguments(parser: ArgumentParser) -> None:
    from takevla.learn.settings import SftConfig

    parser.add_argument("--recipe", action="config", help="YAML file with any of the settings below")
    parser.add_argument(
        "--model", type=str, default="shipped", help="checkpoint folder to start from, 'shipped', or hub id"
    )
    parser.add_argument("--rehearsal", type=Folders, required=True, help="datasets of expert driving")
    parser.add_argument("--takeovers", type=Folders, required=True, help="datasets of takeovers")
    add_common(parser, workers=False)
    add_device(parser)
    parser.add_class_arguments(SftConfig, "sft")


def _sft(arguments: Arguments) -> None:
    from takevla.bench.suites import refuse_learning
    from takevla.learn.sft import sft

    refuse_learning(arguments.rehearsal)
    refuse_learning(arguments.takeovers)
    config = replace(arguments.sft, train=replace(arguments.sft.train, seed=arguments.seed))
    start = model_folder(arguments.model)
    model = sft(
        config, start, arguments.rehearsal, arguments.takeovers, arguments.out, device=arguments.device
    )
    OUT.print(f"model: {model}")


def _dream_arguments(parser: ArgumentParser) -> None:
    from takevla.learn.dream.config import DreamConfig

    parser.add_argument("--recipe", action="config", help="YAML file with any of the settings below")
    parser.add_argument(
        "--model", type=str, required=True, help="checkpoint folder to start from, 'shipped', or hub id"
    )
    parser.add_argument("--takeovers", type=Path, required=True, help="dataset of takeovers")
    parser.add_argument("--maps", type=Path, default=None, help="folder of OpenDRIVE files of its towns")
    parser.add_argument("--audit", action="store_true", help="only say how true the dreams are")
    parser.add_argument(
        "--ask-world", action=ActionYesNo(no_prefix="no-"), default=True,
        help="drive recorded plans on in the embedded world, and let dream.limits judge by what happens; "
        "never with --maps, which is for datasets of other worlds",
    )  # fmt: skip
    parser.add_argument(
        "--rank-drivers", type=list[str], default=[],
        help="with --audit: drivers (expert, blind, shipped, checkpoint folders) that dreams must rank",
    )  # fmt: skip
    parser.add_argument(
        "--rank-suite",
        type=str,
        default="train",
        help="suite that was collected on, for all that asks worlds",
    )
    parser.add_argument("--rank-scenes", type=int, default=100, help="takeovers to rank drivers on")
    add_common(parser)
    add_device(parser)
    parser.set_defaults({"workers": 1})  # to start more takes about as long as a few hundred scenes
    parser.add_class_arguments(DreamConfig, "dream")


def _dream(arguments: Arguments) -> None:
    from takevla.bench.drivers import driver_name
    from takevla.bench.suites import load_suite, refuse_learning
    from takevla.stage_work import audit_stage, dream_stage

    asks = arguments.ask_world and arguments.maps is None
    if arguments.audit:
        named = [driver_name(name) for name in arguments.rank_drivers]
        content, refuse = audit_stage(
            arguments.takeovers, arguments.out, arguments.dream, seed=arguments.seed,
            maps_dir=arguments.maps, ask_world=asks, ranked=named,
            suite=arguments.rank_suite, most=arguments.rank_scenes, device=arguments.device,
        )  # fmt: skip
        OUT.print(content)
        refuse()
        return
    refuse_learning(arguments.takeovers)
    audit = dream_stage(
        model_folder(arguments.model), arguments.takeovers, arguments.out, arguments.dream,
        seed=arguments.seed, maps_dir=arguments.maps, device=arguments.device,
        tasks=load_suite(arguments.rank_suite).tasks if asks else (), **placement(arguments),
    )  # fmt: skip
    OUT.print(audit.to_json())
    OUT.print(f"model: {arguments.out / 'model'}")


STAGES: dict[str, Command] = {
    "demonstrate": Command("collect expert driving for pretraining", _demonstrate_arguments, _demonstrate),
    "pretrain": Command("train the base model on expert driving", _pretrain_arguments, _pretrain),
    "collect": Command(
        "let a model drive, the expert take over, and record it", _collect_arguments, _collect
    ),
    "label": Command(
        "label a collection anew, with another window before takeovers", _label_arguments, _label
    ),
    "sft": Command("fine-tune a model on takeovers", _sft_arguments, _sft),
    "dream": Command("reinforce a model in scenes rebuilt from takeovers", _dream_arguments, _dream),
}
