"""The arms of a study: recipes that differ in what is compared and in nothing else.

An arm is a YAML file beside `common.yaml`, which holds what all arms share; the arm's own file comes after it
and says only how it differs.  `takevla run --recipe common.yaml --recipe ARM.yaml --seed S` is one arm alone.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

from jsonargparse import ArgumentError, ArgumentParser

from takevla.recipe import Recipe, RouteChoice
from takevla.study.cell import arm_order

COMMON = "common.yaml"


@dataclass(frozen=True)
class Arm:
    """A named recipe."""

    name: str
    recipe: Recipe

    def cell(self, seed: int, suite: str, routes: int, workers: int) -> Recipe:
        """The recipe of this arm with a seed, evaluated on so many routes of a suite (0: all)."""
        return replace(self.recipe, seed=seed, evaluate=RouteChoice(suite, routes), workers=workers)


def arm_names(folder: Path) -> list[str]:
    """Names of the arms in a folder, in the order of the tables."""
    if not (folder / COMMON).is_file():
        raise FileNotFoundError(f"{folder / COMMON}: missing; a folder of arms holds what they share there")
    names = [path.stem for path in folder.glob("*.yaml") if path.name != COMMON]
    return sorted(names, key=arm_order)


def load_arm(folder: Path, name: str) -> Arm:
    """Read an arm.

    Raises:
        ValueError: no such arm, or its recipe is refused; the message names the key.
    """
    if name not in arm_names(folder):
        raise ValueError(f"{folder}: no arm '{name}'; there are {', '.join(arm_names(folder))}")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--recipe", action="config")
    parser.add_class_arguments(Recipe)
    words = [f"--recipe={folder / COMMON}", f"--recipe={folder / f'{name}.yaml'}"]
    try:
        found = parser.instantiate(parser.parse_args(words))
    except ArgumentError as error:
        raise ValueError(f"{folder / f'{name}.yaml'}: {error}") from error
    return Arm(name, Recipe(**{one.name: getattr(found, one.name) for one in fields(Recipe)}))
