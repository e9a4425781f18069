"""Whether the evaluator's Python can run the evaluator and our agent, asked before any route is driven."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

from takevla.bench.carla.checkout import AGENT_FILE, EVALUATOR, Checkout, evaluator_environment

ANSWER_S = 300.0
ROUTE_PARSER = Path("leaderboard/leaderboard/utils/route_parser.py")
ASKS_FOR_CARLA = re.compile(r"get_distribution\(\s*['\"]carla['\"]\s*\)")
DOCUMENTED = "docs/carla.md has the lines"
NAME_CARLA = (
    "a client was installed under another name, as carla-0-9-15; give its Python a distribution of the name "
    f"carla: {DOCUMENTED}"
)
# Runs in the evaluator's Python with the evaluator's environment.  What the evaluator imports is found by
# importing it, under another name than __main__.
_QUESTIONS = """
import importlib.util, os, runpy, sys
evaluator, agent, asks_for_carla = sys.argv[1:]
if sys.version_info < (3, 11):
    sys.exit("Python %d.%d; takevla needs 3.11 or later" % sys.version_info[:2])
sys.path[0] = os.path.dirname(evaluator)
runpy.run_path(evaluator, run_name="takevla_check")
if asks_for_carla:
    import pkg_resources
    pkg_resources.get_distribution("carla")
sys.path.insert(0, os.path.dirname(agent))
importlib.import_module(os.path.basename(agent)[: -len(".py")])
for name in ("torch", "transformers", "peft"):
    if importlib.util.find_spec(name) is None:
        sys.exit("ModuleNotFoundError: No module named %r" % name)
"""


def check_python(checkout: Checkout) -> None:
    """Nothing where the checkout's Python has what evaluator and agent import.

    Raises:
        RuntimeError: naming the first thing that is missing, and the mend.
    """
    parser = checkout.folder / ROUTE_PARSER
    if parser.is_file() and ".getchildren(" in parser.read_text(errors="replace"):
        raise RuntimeError(
            f"{parser}: calls getchildren(), which Python has not had since 3.9; iterate over the element "
            "instead: `for elem in scenario`"
        )
    evaluator = checkout.folder / EVALUATOR
    asks = bool(ASKS_FOR_CARLA.search(evaluator.read_text(errors="replace")))
    with tempfile.TemporaryDirectory() as folder:
        aside = Path(folder)
        environment = evaluator_environment(checkout, checkout.routes, aside, aside / "none.json", (0, 0))
        try:
            done = subprocess.run(
                [checkout.python, "-c", _QUESTIONS, str(evaluator), str(AGENT_FILE), "yes" if asks else ""],
                env=environment, cwd=checkout.folder, capture_output=True, text=True, errors="replace",
                timeout=ANSWER_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise RuntimeError(
                f"{checkout.python}: importing {EVALUATOR} does not end in {ANSWER_S:g} s"
            ) from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        said = lines[-1] if lines else f"exit code {done.returncode}"
        raise RuntimeError(f"{checkout.python} cannot run the evaluator: {said}; {_mend(said)}")


def _mend(said: str) -> str:
    missing = re.search(r"No module named '([^'.]+)", said)
    if "DistributionNotFound" in said:
        return NAME_CARLA
    if missing is None:
        return f"mend it there, or give another interpreter with --python; {DOCUMENTED}"
    if missing.group(1) == "pkg_resources":
        return "setuptools has it up to version 81: install 'setuptools<82' there"
    if missing.group(1) == "distutils":
        return "Python has it up to 3.11: give such an interpreter with --python"
    return f"install what the checkout asks for, and takevla, there; {DOCUMENTED}"
