"""A study of several arms: `arms`, `results`, `strips`."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser

from takevla.commands.command import OUT, Arguments, Command


def _arms_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--arms", type=list[str], default=[], help="arms to run (default: all of --recipes)")
    parser.add_argument("--seeds", type=list[int], default=[0, 1, 2], help="training seeds")
    parser.add_argument("--suite", type=str, default="dev88", help="suite that every cell is evaluated on")
    parser.add_argument("--routes", type=int, default=0, help="so many of its routes, evenly spread; 0: all")
    parser.add_argument("--recipes", type=Path, default=Path("recipes/arms"), help="folder of the arms")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/arms"), help="folder of the runs; resumed there"
    )
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of the cells' figures")
    parser.add_argument("--workers", type=int, default=2, help="local processes; they change only the time")
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="begin no stage after so long; 0: to the end"
    )
    parser.add_argument("--status", action="store_true", help="only say which cells are finished")


def _known_arms(folder: Path) -> list[str]:
    """All arms of a folder but those whose recipe this version refuses, which are named."""
    from takevla.study.arms import arm_names, load_arm

    known = []
    for name in arm_names(folder):
        try:
            load_arm(folder, name)
        except ValueError as refusal:
            OUT.print(f"left out: {refusal}", highlight=False, markup=False, soft_wrap=True)
            continue
        known.append(name)
    return known


def _arms(arguments: Arguments) -> None:
    from rich.table import Table

    from takevla.study.run import Study, run_study, table

    study = Study(
        tuple(arguments.arms or _known_arms(arguments.recipes)), tuple(arguments.seeds), arguments.suite,
        arguments.routes, arguments.recipes, arguments.work, arguments.results, arguments.workers,
        arguments.minutes,
    )  # fmt: skip
    if not arguments.status:
        done, total = run_study(study, OUT)
        OUT.print(f"{done} of {total} cells finished")
        return
    shown = Table("arm", *(f"seed {seed}" for seed in study.seeds), show_edge=False)
    for arm, finished in table(study):
        shown.add_row(arm, *("finished" if one else "-" for one in finished))
    OUT.print(shown)


def _results_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder with `arms/` in it")
    parser.add_argument("--out", type=Path, default=Path("docs/results.md"), help="the page to write")
    parser.add_argument(
        "--check", action="store_true", help="only compare with what is there; exit 2 if not equal"
    )


def _results(arguments: Arguments) -> None:
    from takevla.study.page import check_results, write_results

    if arguments.check:
        check_results(arguments.results, arguments.out)
        OUT.print(f"{arguments.out} agrees with {arguments.results / 'arms'}")
        return
    for path in write_results(arguments.results, arguments.out):
        OUT.print(str(path), highlight=False, soft_wrap=True)


def _strips_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--before", type=Path, required=True, help="folder of the evaluation of the base, or its cell"
    )
    parser.add_argument("--after", type=Path, required=True, help="that of the post-trained model")
    parser.add_argument("--before-driver", type=str, default=None, help="what drove it, for a cell")
    parser.add_argument("--after-driver", type=str, default=None, help="what drove it, for a cell")
    parser.add_argument("--out", type=Path, default=Path("docs/strips"), help="folder of the pictures")
    parser.add_argument("--mended", type=int, default=6, help="routes that only the later one drives well")
    parser.add_argument("--worse", type=int, default=2, help="routes that only the former one drives well")


def _strips(arguments: Arguments) -> None:
    from takevla.report.strips import Evaluated, write_strips

    before = Evaluated.read(arguments.before, arguments.before_driver)
    after = Evaluated.read(arguments.after, arguments.after_driver)
    for path in write_strips(before, after, arguments.out, arguments.mended, arguments.worse):
        OUT.print(str(path), highlight=False, soft_wrap=True)


STUDY: dict[str, Command] = {
    "arms": Command(
        "run a table of arms and seeds in pieces, what they share done once", _arms_arguments, _arms
    ),
    "strips": Command(
        "image strips of routes that were mended and that got worse", _strips_arguments, _strips
    ),
    "results": Command(
        "the summary, the page and the figures of all arms, from their cells", _results_arguments, _results
    ),
}
