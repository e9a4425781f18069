"""What was seen a moment ago, for drivers to whom a single picture does not show motion."""

from __future__ import annotations

from collections import deque
from typing import Final, Generic, TypeVar

SLACK_US: Final = 25_000  # clocks of simulators are not exact
PAST_US: Final = 500_000  # an oncoming car at 10 m/s and 30 m grows by a fifth in it


T = TypeVar("T")


class Past(Generic[T]):
    """Remembers what `keep` is given, for as long as it is needed."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, T]] = deque()

    def keep(self, time_us: int, now: T) -> T:
        """Remember `now`; return what was kept `PAST_US` before, or the latest older than that.

        At the start of a route it is the first that was kept, and `now` itself where nothing is
        remembered, or only what is older than twice `PAST_US`.  Time that runs backwards (a world that is
        restored) empties the memory; the same instant again takes the place of the former.
        """
        kept = self._kept
        if kept and time_us < kept[-1][0]:
            kept.clear()
        elif kept and time_us == kept[-1][0]:
            kept.pop()
        kept.append((time_us, now))
        while len(kept) > 1 and kept[1][0] <= time_us - PAST_US + SLACK_US:
            kept.popleft()
        then_us, past = kept[0]
        return past if time_us - then_us <= 2 * PAST_US else now
