"""The command line: finds the command, turns errors into one line and an exit code."""

from __future__ import annotations

import os
import sys

from jsonargparse import ArgumentError, ArgumentParser
from rich.console import Console

from takevla.commands.command import OUT, Command
from takevla.commands.driving import DRIVING
from takevla.commands.ecosystem import ECOSYSTEM
from takevla.commands.imports import IMPORTS
from takevla.commands.loop import LOOP
from takevla.commands.stages import STAGES
from takevla.commands.study import STUDY

ERR = Console(stderr=True)
COMMANDS: dict[str, Command] = LOOP | STAGES | DRIVING | ECOSYSTEM | IMPORTS | STUDY


def main(argv: list[str] | None = None) -> int:
    """Entry point; the exit code is 0 only on success, 2 for bad input."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in {"-h", "--help", "help"}:
        OUT.print(_overview(), highlight=False, soft_wrap=True)
        return 0 if words else 2
    if words[0] in {"-V", "--version"}:
        from takevla import __version__

        OUT.print(__version__, highlight=False)
        return 0
    name = words[0]
    if name not in COMMANDS:
        ERR.print(
            f"takevla: no command '{name}'; there are {', '.join(COMMANDS)}", highlight=False, soft_wrap=True
        )
        return 2
    command = COMMANDS[name]
    parser = ArgumentParser(prog=f"takevla {name}", description=command.about, exit_on_error=False)
    try:
        command.arguments(parser)
        command.run(parser.instantiate(parser.parse_args(_with_recipe(name, words[1:]))))
    except KeyboardInterrupt:
        ERR.print(f"takevla {name}: interrupted; the same command goes on where it stopped")
        return 130
    except (ValueError, OSError, RuntimeError, ArgumentError) as error:
        return _refuse(name, _message(error), error)
    return 0


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}"
    return str(error)


def _refuse(name: str, message: str, error: Exception) -> int:
    """One line on standard error; the traceback where TAKEVLA_DEBUG is set."""
    if os.environ.get("TAKEVLA_DEBUG"):
        raise error
    line = " ".join(message.split())
    ERR.print(f"takevla {name}: {line}", highlight=False, markup=False, soft_wrap=True)
    return 2


def _with_recipe(name: str, words: list[str]) -> list[str]:
    """`takevla run RECIPE.yaml ...` names its recipe first."""
    if name == "run" and words and not words[0].startswith("-"):
        return ["--recipe", words[0], *words[1:]]
    return words


def _overview() -> str:
    width = max(len(name) for name in COMMANDS)
    lines = ["takevla COMMAND [--help]", ""]
    return "\n".join(lines + [f"  {name:<{width}}  {command.about}" for name, command in COMMANDS.items()])


if __name__ == "__main__":
    raise SystemExit(main())
