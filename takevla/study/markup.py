"""How findings are written in the page of results: tables, intervals, and which differences stand out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from takevla.bench.statistics import Interval
from takevla.study.summary import Finding

FEWEST_TELLING: Final = 10  # routes below which an interval without zero is no finding
FEWEST_SEEDS: Final = 3  # below which it is none yet


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(str(one).replace("|", "/") for one in line) + " |" for line in lines]


def interval(found: Interval | None, digits: int) -> str:
    """A mean with its interval."""
    if found is None:
        return ""
    return f"{found.mean:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def difference(found: Finding, digits: int) -> str:
    """A difference with its interval: bold where that is without zero, in italics while seeds are few."""
    shown = found.difference
    if shown is None:
        return ""
    mean = f"{shown.mean:+.{digits}f}"
    if shown.excludes_zero and shown.count >= FEWEST_TELLING:
        mean = f"**{mean}**" if len(found.paired_seeds) >= FEWEST_SEEDS else f"*{mean}*"
    return f"{mean} [{shown.low:+.{digits}f}, {shown.high:+.{digits}f}]"


def seeds(found: Sequence[int]) -> str:
    """0, 1, 2."""
    return ", ".join(map(str, found))


def mean_of(values: Sequence[float | None]) -> float | None:
    """Of those that there are, None if there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def arrow(pair: Sequence[float | None], digits: int) -> str:
    """Before and after."""
    return "" if None in pair else " → ".join(f"{one:.{digits}f}" for one in pair)
