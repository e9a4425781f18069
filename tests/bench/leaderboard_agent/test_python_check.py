"""The evaluator's Python is asked before any route is driven, and what it lacks is named in one line."""

import re
from pathlib import Path

import pytest

from takevla.bench.carla.checkout import EVALUATOR, Checkout, find_checkout
from takevla.bench.carla.python_check import ROUTE_PARSER, check_python

MAIN = "if __name__ == '__main__':\n    raise SystemExit('it was run')\n"


def checkout(folder: Path, evaluator: str) -> Checkout:
    """A made-up checkout whose evaluator is this text; modules of its scenario_runner can be imported."""
    (folder / EVALUATOR).parent.mkdir(parents=True)
    (folder / EVALUATOR).write_text(evaluator + MAIN)
    (folder / "scenario_runner").mkdir()
    (folder / "CarlaUE4.sh").touch()
    return find_checkout(folder, folder)


def test_a_python_that_imports_evaluator_and_agent_is_good(tmp_path: Path) -> None:
    made = checkout(tmp_path, "import near\nimport srunner\n")
    (tmp_path / EVALUATOR).with_name("near.py").touch()  # beside it, as when it is run
    (tmp_path / "scenario_runner" / "srunner.py").touch()
    check_python(made)


@pytest.mark.parametrize(
    ("evaluator", "told"),
    [
        ("import no_such_trees\n", "No module named 'no_such_trees'; install what the checkout asks for"),
        ("raise ImportError(\"No module named 'pkg_resources'\")\n", "install 'setuptools<82' there"),
        ("raise ImportError(\"No module named 'distutils.version'\")\n", "Python has it up to 3.11"),
        ("import os\nos.abort()\n", "exit code -6; mend it there"),
    ],
)
def test_what_cannot_be_imported_is_named_with_its_mend(tmp_path: Path, evaluator: str, told: str) -> None:
    with pytest.raises(RuntimeError, match=f"python.* cannot run the evaluator: .*{re.escape(told)}"):
        check_python(checkout(tmp_path, evaluator))


def test_a_client_of_another_name_is_named_where_the_evaluator_asks_for_carla(tmp_path: Path) -> None:
    made = checkout(tmp_path, "def begin():\n    dist = pkg_resources.get_distribution('carla')\n")
    (tmp_path / "scenario_runner" / "pkg_resources.py").write_text(
        "class DistributionNotFound(Exception):\n    pass\n\n\ndef get_distribution(name):\n"
        "    raise DistributionNotFound(f'The {name!r} distribution was not found')\n"
    )
    with pytest.raises(RuntimeError, match=r"The 'carla' distribution was not found; .*as carla-0-9-15"):
        check_python(made)


def test_a_route_parser_that_new_pythons_cannot_run_is_named(tmp_path: Path) -> None:
    made = checkout(tmp_path, "")
    (tmp_path / ROUTE_PARSER).parent.mkdir()
    (tmp_path / ROUTE_PARSER).write_text("for elem in scenario.getchildren():\n    pass\n")
    with pytest.raises(RuntimeError, match=r"route_parser\.py: calls getchildren"):
        check_python(made)
