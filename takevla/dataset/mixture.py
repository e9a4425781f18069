"""Which frames to train on: shares of buckets, drawn without replacement, audited.

Within an epoch no frame is drawn twice, whatever buckets hold it.  Over all epochs a frame is drawn
at most `max_repeats` times.  Scarce buckets choose first, and each takes the frames that were drawn
least so far, ties in an order that the seed gives.  Where a bucket runs out, the epoch is shorter,
and the audit shows the asked and the actual ratio.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from takevla.files import write_json

DEFAULT_MAX_REPEATS: Final = 8  # draws of one frame over a whole training
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Epoch:
    """The draws of one epoch in training order: frame index and the bucket it was drawn for."""

    number: int
    frames: Indices  # (D,)
    buckets: NDArray[np.int32]  # (D,) index into `Mixture.names`


@dataclass(frozen=True)
class BucketAudit:
    """What became of one bucket."""

    bucket: str
    frames: int  # frames it holds
    draws: int  # draws made for it
    distinct: int  # frames drawn for it at least once
    most_repeats: int  # draws for it of its most drawn frame
    asked_ratio: float
    actual_ratio: float


@dataclass(frozen=True)
class MixtureAudit:
    """What was drawn over a number of epochs."""

    epochs: int
    draws: int
    distinct: int
    most_repeats: int
    max_repeats: int
    buckets: tuple[BucketAudit, ...]

    def write(self, path: Path) -> None:
        """As JSON."""
        write_json(path, asdict(self))


class Mixture:
    """Draws epochs of about `epoch_draws` frames from `members` in the shares `ratios`.

    `members` maps a bucket to the indices of its frames; `ratios` maps the same names to positive
    shares, normalised to 1.  `epoch_draws` None is the greatest number for which no bucket has to
    give more frames than it holds.  Epochs depend on the arguments only.
    """

    def __init__(
        self,
        members: Mapping[str, Indices],
        ratios: Mapping[str, float],
        seed: int,
        epoch_draws: int | None = None,
        max_repeats: int = DEFAULT_MAX_REPEATS,
    ) -> None:
        unknown = sorted(set(ratios) - set(members))
        if unknown:
            raise ValueError(f"mixture: no such bucket {unknown}; known are {sorted(members)}")
        if not ratios or min(ratios.values()) <= 0.0 or max_repeats < 1:
            raise ValueError("mixture: ratios must be positive and max_repeats at least 1")
        total = sum(ratios.values())
        self.names = tuple(ratios)
        self.ratios = {name: ratio / total for name, ratio in ratios.items()}
        self.members = {name: np.unique(np.asarray(members[name], np.int64)) for name in self.names}
        empty = [name for name in self.names if len(self.members[name]) == 0]
        if empty:
            raise ValueError(f"mixture: bucket {empty[0]!r} holds no frame; take it out or collect more")
        fullest = min(int(len(self.members[name]) / self.ratios[name]) for name in self.names)
        self.epoch_draws = max(1, fullest) if epoch_draws is None else epoch_draws
        self.seed, self.max_repeats = seed, max_repeats
        self._frames = 1 + max(int(members[-1]) for members in self.members.values())

    def epochs(self) -> Iterator[Epoch]:
        """Epochs until nothing may be drawn any more."""
        drawn = np.zeros(self._frames, np.int32)
        number = 0
        while True:
            epoch = self._draw(number, drawn)
            if len(epoch.frames) == 0:
                return
            drawn[epoch.frames] += 1
            yield epoch
            number += 1

    def drawn(self, draws: int) -> tuple[Indices, MixtureAudit]:
        """The first `draws` draws, the last epoch cut, and their audit; fewer where no more may be drawn."""
        kept: list[Epoch] = []
        left = draws
        for epoch in self.epochs():
            kept.append(Epoch(epoch.number, epoch.frames[:left], epoch.buckets[:left]))
            left -= len(epoch.frames)
            if left <= 0:
                break
        return np.concatenate([epoch.frames for epoch in kept]), self.audit(kept)

    def audit(self, epochs: Iterable[Epoch]) -> MixtureAudit:
        """What these epochs of the mixture drew."""
        counts = np.zeros((len(self.names), self._frames), np.int32)
        made = 0
        for epoch in epochs:
            np.add.at(counts, (epoch.buckets, epoch.frames), 1)
            made += 1
        draws = int(counts.sum())
        rows = tuple(
            BucketAudit(
                bucket=name,
                frames=len(self.members[name]),
                draws=int(row.sum()),
                distinct=int((row > 0).sum()),
                most_repeats=int(row.max()),
                asked_ratio=self.ratios[name],
                actual_ratio=int(row.sum()) / max(draws, 1),
            )
            for name, row in zip(self.names, counts, strict=True)
        )
        each = counts.sum(axis=0)
        return MixtureAudit(made, draws, int((each > 0).sum()), int(each.max()), self.max_repeats, rows)

    def _draw(self, number: int, drawn: NDArray[np.int32]) -> Epoch:
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, number])))
        free = drawn < self.max_repeats
        quotas = _quotas([self.ratios[name] for name in self.names], self.epoch_draws)
        frames, buckets = [], []
        scarce = sorted(
            range(len(self.names)), key=lambda k: len(self.members[self.names[k]]) / max(quotas[k], 1)
        )
        for bucket in scarce:
            candidates = self.members[self.names[bucket]]
            candidates = candidates[free[candidates]]
            order = np.lexsort((rng.random(len(candidates)), drawn[candidates]))
            taken = candidates[order[: quotas[bucket]]]
            free[taken] = False
            frames.append(taken)
            buckets.append(np.full(len(taken), bucket, np.int32))
        shuffled = rng.permutation(sum(len(taken) for taken in frames))
        return Epoch(number, np.concatenate(frames)[shuffled], np.concatenate(buckets)[shuffled])


def _quotas(ratios: list[float], total: int) -> list[int]:
    """Whole numbers in the proportion of `ratios` that add up to `total` (largest remainder)."""
    exact = np.array(ratios) * total
    quotas = np.floor(exact).astype(int)
    rest = total - int(quotas.sum())
    quotas[np.argsort(quotas - exact, kind="stable")[:rest]] += 1
    return [int(quota) for quota in quotas]
