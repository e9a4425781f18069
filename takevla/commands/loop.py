"""The whole loop: `quickstart` and `run`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jsonargparse import ArgumentParser

from takevla.commands.command import OUT, Arguments, Command


def _recipe_arguments(out: str) -> Callable[[ArgumentParser], None]:
    def add(parser: ArgumentParser) -> None:
        from takevla.recipe import Recipe

        parser.add_argument("--recipe", action="config", help="YAML file with any of the settings below")
        parser.add_argument("--out", type=Path, default=Path(out), help="the run's folder")
        parser.add_class_arguments(Recipe)

    return add


def _run(command: str) -> Callable[[Arguments], None]:
    def work(arguments: Arguments) -> None:
        from dataclasses import fields

        from takevla.recipe import Recipe
        from takevla.rounds import run_recipe

        recipe = Recipe(**{one.name: getattr(arguments, one.name) for one in fields(Recipe)})
        run_recipe(recipe, arguments.out, f"takevla {command}", OUT)

    return work


LOOP: dict[str, Command] = {
    "quickstart": Command(
        "the whole loop, small, on the embedded world, with a report at the end",
        _recipe_arguments("runs/quickstart"),
        _run("quickstart"),
    ),
    "run": Command(
        "the whole loop as a recipe says: takevla run RECIPE.yaml",
        _recipe_arguments("runs/takevla"),
        _run("run"),
    ),
}
