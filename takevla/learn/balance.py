"""Which frames are drawn how often: every situation that decides a route gets its share.

Balance decides how well imitation drives, more than size or steps.  Pretraining, fine-tuning and dreams
draw by the same strata.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from takevla.dataset.buckets import BUCKETS, COLUMNS, bucket_masks, recorded_masks, recorded_names
from takevla.dataset.mixture import Mixture, MixtureAudit
from takevla.dataset.reader import Dataset, numpy_column

SHORT_S = 10.0  # no route is finished, and no expert is stuck, in so short a time

# How often a frame of a bucket is drawn against a frame of none.  A frame in several buckets takes the
# greatest.  Chosen on what the expert's collection holds (one pedestrian frame in 140, one free-road
# frame in 2; twice as many frames in which standing ends as in which it goes on), so that every situation
# that decides a route gets at least some two per cent of the draws.
BUCKET_WEIGHTS: dict[str, float] = {
    "pedestrian": 8.0,
    "brake_hard": 8.0,
    "crossing_vehicle": 6.0,
    "emergency": 6.0,
    "making_room": 6.0,
    "yellow_light": 5.0,
    "merging_vehicle": 5.0,
    "bicycle": 4.0,
    "start_from_stop": 1.5,
    "lane_change": 3.0,
    "stop_sign": 2.3,
    "brake": 2.0,
    "oncoming": 2.5,
    "parked_obstacle": 1.4,
    "yield": 2.0,
    "red_light": 2.5,
    "junction": 1.2,
    "lateral_sharp": 1.0,
    "leader": 1.0,
    "free_road": 0.5,
}
STANDSTILL_WEIGHT = 0.6  # of frames that stand and stay, on top of the above


@dataclass(frozen=True)
class Strata:
    """For each of N samples the stratum it belongs to; all of a stratum are drawn alike."""

    name: NDArray[np.str_]  # (N,)
    weight: NDArray[np.float64]  # (N,) draws against a frame of weight 1


def check_buckets(weights: Mapping[str, float], datasets: Sequence[Dataset]) -> None:
    """ValueError for a bucket that is neither one of ours nor named by a frame of any of these datasets."""
    strange = set(weights) - set(BUCKETS)
    if not strange:
        return
    named = set().union(*(recorded_names(dataset.frames.column("buckets")) for dataset in datasets))
    if strange - named:
        known = sorted(named | set(BUCKETS))
        raise ValueError(f"bucket_weights: no such bucket {sorted(strange - named)}; known are {known}")


def frame_strata(
    dataset: Dataset, frames: NDArray[np.int64], weights: Mapping[str, float], standstill_weight: float
) -> Strata:
    """Stratum of each frame: its bucket of greatest weight, apart for frames that stand and stay.

    Buckets that are none of ours hold the frames whose column `buckets` names them (see `check_buckets`).
    """
    masks = bucket_masks({name: dataset.column(name)[frames] for name in COLUMNS})
    strange = sorted(set(weights) - set(masks))
    masks |= recorded_masks(dataset.frames.column("buckets").take(frames), strange) if strange else {}
    longest = max((len(f"{bucket} standstill") for bucket in weights), default=0)
    name = np.full(len(frames), "other", dtype=f"<U{max(longest, 40)}")
    weight = np.ones(len(frames))
    chosen = np.zeros(len(frames), bool)
    for bucket, value in sorted(weights.items(), key=lambda item: -item[1]):
        here = masks[bucket] & ~chosen
        name[here], weight[here] = bucket, value
        chosen |= here
    stands = masks["standstill"]
    name[stands] = np.char.add(name[stands], " standstill")
    weight[stands] *= standstill_weight
    return Strata(name, weight)


def weighted_draws(
    strata: Sequence[Strata], draws: int, max_repeats: int, seed: int
) -> tuple[NDArray[np.int64], MixtureAudit]:
    """`draws` sample numbers into the joined strata, and what was drawn.

    Raises `ValueError` when the frames, each at most `max_repeats` times, do not suffice.
    """
    name = np.concatenate([part.name for part in strata])
    weight = np.concatenate([part.weight for part in strata])
    members = {str(stratum): np.flatnonzero(name == stratum) for stratum in np.unique(name)}
    ratios = {stratum: float(weight[rows].sum()) for stratum, rows in members.items()}
    mixture = Mixture(members, ratios, seed, max_repeats=max_repeats)
    order, audit = mixture.drawn(draws)
    if audit.draws < draws:
        raise ValueError(
            f"pretraining: {len(name)} frames at most {max_repeats} times give {audit.draws} of {draws} "
            "draws; collect more, raise max_repeats or ask for fewer draws"
        )
    return order, audit


def evenly_drawn(
    dataset: Dataset, rows: NDArray[np.int64], count: int, chance: np.random.Generator
) -> NDArray[np.int64]:
    """At most `count` of `rows`, ascending, without replacement; every stratum as likely as the others."""
    if len(rows) == 0:
        return rows
    name = frame_strata(dataset, rows, BUCKET_WEIGHTS, STANDSTILL_WEIGHT).name
    _, stratum, size = np.unique(name, return_inverse=True, return_counts=True)
    weight = 1.0 / size[stratum]
    return np.sort(chance.choice(rows, min(count, len(rows)), replace=False, p=weight / weight.sum()))


def demonstrated(dataset: Dataset) -> NDArray[np.bool_]:
    """(N,) frames to imitate: of role "pretrain", without a push of the wheel, of routes driven well."""
    usable = (dataset.column("role") == "pretrain") & ~dataset.column("steer_burst").astype(bool)
    usable &= np.isfinite(dataset.column("expert_waypoints_ego")).all(axis=1)
    return usable & np.isin(dataset.column("episode"), successful_episodes(dataset))


def successful_episodes(dataset: Dataset) -> NDArray[np.object_]:
    """Episodes without a failure: where the expert itself went wrong there is nothing to imitate.

    An attempt that was cut short on purpose (`SHORT_S`) ends without success, and without failure.
    """
    success = numpy_column(dataset.episodes, "success").astype(bool)
    unharmed = numpy_column(dataset.episodes, "first_failure_us") < 0
    short = numpy_column(dataset.episodes, "duration_us") <= SHORT_S * 1e6
    return numpy_column(dataset.episodes, "episode")[success | (unharmed & short)]
