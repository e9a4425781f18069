"""95 % bootstrap intervals over routes, alone, paired by route, and over seeds.  Deterministic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 5_000
LEVEL = 0.95
SEED = 20_260  # of the resampling alone; fixed so that the same outcomes give the same interval

Values = NDArray[np.float64]
Pair = tuple[ArrayLike, ArrayLike]  # numerators and denominators, (S seeds, N routes) each


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with the percentile-bootstrap interval of level `LEVEL` around it, over `count` routes."""

    mean: float
    low: float
    high: float
    count: int

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside (for differences)."""
        return self.low > 0.0 or self.high < 0.0


@lru_cache(maxsize=32)
def route_counts(routes: int, resamples: int = RESAMPLES, seed: int = SEED) -> Values:
    """How often each route is drawn in each resample: (resamples, routes), every row sums to `routes`."""
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, routes])))
    counts = generator.multinomial(routes, np.full(routes, 1.0 / routes), size=resamples).astype(np.float64)
    counts.setflags(write=False)  # whoever asks next gets the same array
    return counts


def resampled_means(values: ArrayLike, counts: Values | None = None) -> Values:
    """Mean of `values` (N,) in each resample (B,); NaN marks routes without the value, which are left out."""
    rows = np.asarray(values, np.float64)
    present = np.isfinite(rows)
    drawn = route_counts(len(rows)) if counts is None else counts
    with np.errstate(invalid="ignore", divide="ignore"):
        return (drawn @ np.where(present, rows, 0.0)) / (drawn @ present.astype(np.float64))


def percentiles(resampled: Values) -> tuple[float, float]:
    """The interval of `LEVEL` of resampled statistics; resamples without a value are left out."""
    kept = resampled[np.isfinite(resampled)]
    low, high = np.quantile(kept, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    return float(low), float(high)


def interval(values: ArrayLike) -> Interval | None:
    """Interval of the mean over routes of `values` (N,), NaN = no value; None when no route has one."""
    rows = np.asarray(values, np.float64)
    rows = rows[np.isfinite(rows)]
    if not len(rows):
        return None
    return Interval(float(rows.mean()), *percentiles(resampled_means(rows)), len(rows))


def paired_interval(before: ArrayLike, after: ArrayLike) -> Interval | None:
    """Interval of the mean difference after - before over routes that have both values.

    Row i of both must be the same route; resampling routes keeps the pairs together.
    """
    first, second = np.asarray(before, np.float64), np.asarray(after, np.float64)
    if first.shape != second.shape:
        raise ValueError(f"paired values differ in number: {first.shape} and {second.shape}")
    return interval(second - first)


def seeded_interval(values: ArrayLike) -> Interval | None:
    """Interval of the mean of `values` (S seeds, N routes), resampling seeds and routes; NaN = no value.

    A route drawn in a resample is taken from all seeds drawn, so that pairs by route stay together.  With one
    seed it equals `interval`.
    """
    table = np.asarray(values, np.float64)
    if table.ndim != 2:
        raise ValueError(f"values must be (seeds, routes), not {table.shape}")
    if len(table) == 1:
        return interval(table[0])
    present = np.isfinite(table)
    return seeded_ratio(np.where(present, table, 0.0), present)


def seeded_ratio(numerators: ArrayLike, denominators: ArrayLike) -> Interval | None:
    """Interval of sum(numerators) / sum(denominators), both (S seeds, N routes), resampled as
    `seeded_interval` does; None where the denominators are all 0.
    """
    table, number = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    kept = (number > 0.0).any(axis=0)
    table, number = table[:, kept], number[:, kept]
    if not number.size:
        return None
    resampled = _ratios(table, number)
    return Interval(float(table.sum() / number.sum()), *percentiles(resampled), table.shape[1])


def seeded_ratio_difference(before: Pair, after: Pair) -> Interval | None:
    """Interval of the difference of two such ratios, after - before.

    Row and column of all four tables are the same seed and route; both ratios are of the same resamples.
    """
    return seeded_mean_of_ratios([after], minus=[before])


def seeded_mean_of_ratios(pairs: Sequence[Pair], minus: Sequence[Pair] = ()) -> Interval | None:
    """Interval of the mean of several such ratios, less that of `minus`; all tables of one shape (S, N), all
    ratios from the same resamples.  None where one of them has denominators of 0 alone, or there is none.
    """
    sides = [
        [(np.asarray(top, np.float64), np.asarray(bottom, np.float64)) for top, bottom in side]
        for side in ((pairs, minus) if len(minus) else (pairs,))
    ]
    if not sides[0] or not all(bottom.sum() > 0.0 for side in sides for _, bottom in side):
        return None
    means = [float(np.mean([top.sum() / bottom.sum() for top, bottom in side])) for side in sides]
    resampled = [np.mean([_ratios(top, bottom) for top, bottom in side], axis=0) for side in sides]
    if len(minus):
        means[0] -= means[1]
        resampled[0] = resampled[0] - resampled[1]
    return Interval(means[0], *percentiles(resampled[0]), sides[0][0][0].shape[1])


def _ratios(numerators: Values, denominators: Values) -> Values:
    """The ratio of sums in each resample (B,), of tables (S, N)."""
    seeds, routes = numerators.shape
    drawn_routes = route_counts(routes)
    drawn_seeds = route_counts(seeds, seed=SEED + 1)
    total = np.einsum("bs,sn,bn->b", drawn_seeds, numerators, drawn_routes, optimize=True)
    number = np.einsum("bs,sn,bn->b", drawn_seeds, denominators, drawn_routes, optimize=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total / number, np.float64)
