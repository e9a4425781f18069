"""What fine-tuning draws from: buckets of samples with the ratio in which each is drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


@dataclass
class Pool:
    """Samples by kind (their share is the recipe's), group (a trigger, a situation) and level of error.

    The share of a kind is divided among its groups by their weights, that of a group among its levels by
    the number of samples times the level's weight.
    """

    _rows: dict[tuple[str, str, str], list[Rows]] = field(default_factory=dict)
    _mass: dict[tuple[str, str, str], float] = field(default_factory=lambda: defaultdict(float))
    _group: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))

    def add(self, kind: str, group: str, level: str, rows: Rows, weight: float = 1.0) -> None:
        """Put samples, each of this weight, into a level of a group; nothing where there are none."""
        if len(rows):
            self._rows.setdefault((kind, group, level), []).append(rows)
            self._mass[kind, group, level] += weight * len(rows)

    def weigh(self, kind: str, group: str, weight: float) -> None:
        """Set the weight of a group, whatever it holds; without it a group weighs what its samples do."""
        self._group[kind, group] = weight

    @property
    def buckets(self) -> dict[str, Rows]:
        """The samples of each bucket, by its name."""
        return {_name(*key): np.concatenate(rows) for key, rows in self._rows.items()}

    def ratios(self, kinds: Mapping[str, float]) -> dict[str, float]:
        """Ratio of each bucket of the kinds with a ratio above 0.

        Raises:
            ValueError: such a kind holds no sample.
        """
        result: dict[str, float] = {}
        for kind, ratio in kinds.items():
            if ratio <= 0.0:
                continue
            levels = {key: mass for key, mass in self._mass.items() if key[0] == kind}
            if not levels:
                raise ValueError(f"sft: no frame of kind '{kind}'; set its ratio to 0 or collect more")
            held: dict[str, float] = defaultdict(float)
            for (_, group, _), mass in levels.items():
                held[group] += mass
            weights = {group: self._group.get((kind, group), mass) for group, mass in held.items()}
            total = sum(weights.values())
            result |= {
                _name(*key): ratio * weights[key[1]] / total * mass / held[key[1]]
                for key, mass in levels.items()
            }
        return result


def _name(kind: str, group: str, level: str) -> str:
    words = f"{kind}: {group}" if group else kind
    return f"{words}, {level}" if level else words
