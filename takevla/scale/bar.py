"""A progress bar that listens to jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Bar:
    """A listener that shows a progress bar with the time left.  Use as a context manager.

    `weights` says how much work each job is (routes, say); `show` False prints nothing.
    """

    def __init__(self, title: str, weights: Sequence[float], show: bool = True) -> None:
        self._weights = list(weights)
        self._shares = [0.0] * len(self._weights)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            disable=not show,
            transient=False,
        )
        self._task = self._bar.add_task(title, total=sum(self._weights) or 1.0)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def progress(self, index: int, share: float) -> None:
        """See `Listener`."""
        self._shares[index] = max(self._shares[index], min(share, 1.0))
        done = sum(weight * part for weight, part in zip(self._weights, self._shares, strict=True))
        self._bar.update(self._task, completed=done)

    def finished(self, index: int, result: Any) -> None:
        """See `Listener`."""
        self.progress(index, 1.0)
