"""What a job is, who runs jobs, and who is told of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

J = TypeVar("J")
R = TypeVar("R")
J_contra = TypeVar("J_contra", contravariant=True)
T = TypeVar("T")

Report = Callable[[float], None]  # a running job calls it with the share of it that is done, 0..1
Function = Callable[[J, Report], R]

ATTEMPTS = 3  # how often a job is tried whose worker dies under it


@dataclass(frozen=True, slots=True)
class JobFailure:
    """A job without a result: the job's name and, in one line, why."""

    name: str
    reason: str
    attempts: int

    def __str__(self) -> str:
        tries = f" after {self.attempts} attempts" if self.attempts > 1 else ""
        return f"{self.name}: {self.reason}{tries}"


class Listener(Protocol):
    """What the caller of an executor is told while jobs run, in the caller's own process and thread."""

    def progress(self, index: int, share: float) -> None:
        """Job `index` is `share` (0..1) done."""
        ...

    def finished(self, index: int, result: Any) -> None:
        """Job `index` has ended with a result or a `JobFailure`; once per job, in the order they end."""
        ...


class Silent(Listener):
    """A listener that does nothing."""

    def progress(self, index: int, share: float) -> None:
        """Ignore."""

    def finished(self, index: int, result: Any) -> None:
        """Ignore."""


class Crew(Protocol[J_contra, R]):
    """Workers that hold one function and stay until their context ends."""

    def run(
        self, jobs: Sequence[J_contra], names: Sequence[str], listener: Listener | None = None
    ) -> list[R | JobFailure]:
        """One result or `JobFailure` per job, in the order of `jobs`.

        An exception that the function raises stops all work and is raised here: bad input as
        `portable` has it, anything else as a `RuntimeError` that names the job and has the traceback for a
        note.
        """
        ...


class Executor(Protocol):
    """Where jobs run."""

    def crew(self, function: Function[J, R]) -> AbstractContextManager[Crew[J, R]]:
        """Workers that do `function`, as a context; what the function holds reaches each of them once."""
        ...


def one_line(error: Exception) -> str:
    """Type and first line of an error."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def portable(error: ValueError | FileNotFoundError) -> ValueError | FileNotFoundError:
    """Bad input as an error of one argument, which any process can read.

    An error of the operating system forgets its file's name on the way, and a subclass may need more.
    """
    if isinstance(error, FileNotFoundError):
        known = error.filename is not None and error.strerror is not None
        return FileNotFoundError(f"{error.filename}: {str(error.strerror).lower()}" if known else str(error))
    return ValueError(str(error))


def failed(name: str, what: tuple[str, str]) -> RuntimeError:
    """The error of a job that failed: `what` is its `one_line` and its traceback, which becomes a note."""
    error = RuntimeError(f"{name}: {what[0]}")
    error.add_note(what[1])
    return error


def groups(items: Sequence[T], size: int) -> list[tuple[T, ...]]:
    """Cut `items` in order into groups of at most `size` that differ in length by at most one.

    The number of groups is even (unless a single item is all there is), so that two workers share the work
    evenly.  It depends on `len(items)` and `size` alone: the number of workers changes nothing a job sees.
    """
    if size < 1:
        raise ValueError(f"group size must be at least 1, not {size}")
    if not items:
        return []
    count = -(-len(items) // size)
    count = min(count + count % 2, len(items))
    base, longer = divmod(len(items), count)
    result, start = [], 0
    for i in range(count):
        end = start + base + (i < longer)
        result.append(tuple(items[start:end]))
        start = end
    return result
