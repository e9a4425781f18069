"""Do dreams rank drivers as the world does?  Dream reward against what the same driver then brings about.

Each scene is a takeover's first start frame, whether or not its failure shows in the dream.  The embedded
world is brought to that instant by driving the attempt's recorded controls again from its start (same town,
route and seed); a world that does not arrive at the recorded ego and actors is left out and counted.  From
there every driver drives in closed loop for the dream's length, and its first plan is also dreamed, alone
and open.  Both trajectories earn the same reward; in the world's every actor is where it was, so its events
are the real ones.  Apart from any reward the world's outcome is 0 where it charged a collision, a light or
a stop sign, and else the progress made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from takevla.dataset.reader import Dataset
from takevla.driver.closed_loop import Camera, Seat, drive
from takevla.driver.driver import Driver
from takevla.learn.dream.audit import AuditLimits
from takevla.learn.dream.reconstruct import STEP_US, FrameIndex, dream_scene
from takevla.learn.dream.reward import Reward, preset
from takevla.learn.dream.reward import progress as progress_made
from takevla.learn.dream.scenes import DreamScene
from takevla.learn.dream.simulate import Measures, Trajectories, measure, roll_out
from takevla.scene.geometry import to_ego, wrap_angle
from takevla.scene.plan import Observation, Plan
from takevla.scene.scene import TICK_US, Controls, Ego, Scene
from takevla.world.criteria import Event
from takevla.world.embedded import EmbeddedWorld
from takevla.world.maps.atlas import load_town
from takevla.world.maps.route_xml import RouteTask

RESAMPLES = 2000
INTERVAL_PERCENT = (2.5, 97.5)
ACTOR_ERROR_M = 0.05  # an actor of the replayed world may be so far from the recorded one
FAILURES: Mapping[str, frozenset[Event]] = {  # what the world charges, by the trigger that foresees it
    "collision": frozenset({Event.COLLISION_LAYOUT, Event.COLLISION_PEDESTRIAN, Event.COLLISION_VEHICLE}),
    "rule": frozenset({Event.RED_LIGHT, Event.STOP_SIGN}),
}
CHARGED = frozenset().union(*FAILURES.values())


@dataclass(frozen=True)
class Ranking:
    """Spearman's correlations over all pairs of scene and driver, their intervals by resampling scenes.

    `rank_correlation` is between the reward dreamed and lived, `rank_correlation_pdm` the same of the `pdm`
    reward, which does not know the expert's path, `rank_correlation_outcome` between the reward dreamed and
    the world's outcome.  `rank_failure_agreement` is the share of pairs for which the measures of the lived
    trajectory and the world say the same of collisions, lights and stop signs.
    """

    rank_correlation: float | None
    rank_interval_95: tuple[float, float] | None
    rank_correlation_pdm: float | None
    rank_interval_95_pdm: tuple[float, float] | None
    rank_correlation_outcome: float | None
    rank_interval_95_outcome: tuple[float, float] | None
    rank_scenes: int
    rank_drivers: dict[str, dict[str, float]]  # name to mean reward in dreams and in the world
    rank_failure_agreement: float | None
    rank_left_out: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class _Course:
    """Keeps a drive's first plan and its scene every `STEP_US`."""

    def __init__(self, first: Scene) -> None:
        self.plan: Plan | None = None
        self.scenes = [first]

    def on_plan(self, seat: Seat, observation: Observation, plan: Plan) -> None:
        self.plan = self.plan or plan

    def on_tick(self, seat: Seat, ego: Ego, controls: Controls) -> None:
        if (seat.world.time_us - self.scenes[0].time_us) % STEP_US == 0:
            self.scenes.append(seat.world.scene())

    def on_finish(self, seat: Seat) -> None:
        """Nothing is left to keep."""


class Replayer:
    """Brings the embedded world to instants of a dataset's attempts."""

    def __init__(self, dataset: Dataset, tasks: Sequence[RouteTask], maps_dir: Path | None = None) -> None:
        self._dataset, self._maps_dir = dataset, maps_dir
        self._tasks = {(task.id, task.town): task for task in tasks}
        self._episodes = {row["episode"]: row for row in dataset.episodes.to_pylist()}
        self._episode, self._time = dataset.column("episode"), dataset.column("time_us")

    def world(self, episode: str, time_us: int) -> EmbeddedWorld | None:
        """The world of an attempt after its recorded controls; None where the tasks lack its route."""
        row = self._episodes[episode]
        task = self._tasks.get((row["route"], row["town"]))
        if task is None:
            return None
        density = self._dataset.meta["provenance"]["density"]
        world = EmbeddedWorld(load_town(row["town"], self._maps_dir), task, row["seed"], density)
        frames = np.flatnonzero((self._episode == episode) & (self._time < time_us))
        column = self._dataset.frames.column("applied_controls").take(frames).to_pylist()
        controls = np.array([value for frame in column for value in frame]).reshape(-1, 3)
        for steer, throttle, brake in controls[: time_us // TICK_US]:
            world.tick(Controls(float(steer), float(throttle), float(brake)))
        return world

    def recorded(self, episode: str, time_us: int) -> Scene | None:
        """What the record holds of that instant."""
        found = self._dataset.scenes(episode, time_us, time_us)
        return found[0] if found else None


def arrives(world: Scene, recorded: Scene, limits: AuditLimits) -> bool:
    """Whether a replayed world's ego and actors are where the record has them."""
    ego, then = world.ego, recorded.ego
    away = float(np.linalg.norm(ego.position_world[:2] - then.position_world[:2]))
    turned = abs(float(np.degrees(wrap_angle(ego.heading_rad - then.heading_rad))))  # type: ignore[no-untyped-call]
    if world.time_us != recorded.time_us or away > limits.replay_error_m or turned > limits.replay_error_deg:
        return False
    if not np.array_equal(world.actors.id, recorded.actors.id):
        return False
    apart = world.actors.position_world[:, :2] - recorded.actors.position_world[:, :2]
    return bool((np.linalg.norm(apart, axis=1) <= ACTOR_ERROR_M).all())


def rank_drivers(
    dataset: Dataset,
    scenes: Sequence[DreamScene],
    tasks: Sequence[RouteTask],
    drivers: Mapping[str, Driver],
    camera: Camera,
    reward: Reward,
    *,
    horizon_s: float,
    most: int,
    seed: int,
    limits: AuditLimits,
    maps_dir: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Ranking:
    """Judge every driver on at most `most` takeovers, evenly spread, in the dream and in the world."""
    first: dict[str, DreamScene] = {}
    for scene in scenes:
        first.setdefault(scene.takeover, scene)
    every, pdm = list(first.values()), preset("pdm")
    chosen = [every[int(k)] for k in np.linspace(0, len(every) - 1, min(most, len(every))).round()]
    frames, replayer = FrameIndex(dataset), Replayer(dataset, tasks, maps_dir)
    takeovers = {row["takeover"]: row for row in dataset.takeovers.to_pylist()}
    left_out: Counter[str] = Counter()
    rows, agreed = [], []
    for done, scene in enumerate(chosen):
        progress(done, len(chosen))
        what = takeovers[scene.takeover]
        begin = int(frames.time_us[scene.frame_row])
        world, recorded = replayer.world(what["episode"], begin), replayer.recorded(what["episode"], begin)
        if world is None or recorded is None:
            left_out["its route is not among the given ones"] += 1
            continue
        if not arrives(world.scene(), recorded, limits):
            left_out["the replayed world is not where the record is"] += 1
            continue
        snapshot, judged = world.snapshot(), []
        for driver in drivers.values():
            world.restore(snapshot)
            course = _Course(world.scene())
            until_us = begin + round(horizon_s * 1e6)
            seat = Seat(0, world)
            if driver.needs_image:
                for time_us, seen in dataset.seen_before(scene.frame_row):
                    seat.pictures.keep(time_us, seen)
            drive([seat], driver, camera, [course], until_us)
            steps = round(horizon_s * 1e6) // STEP_US
            if len(course.scenes) <= steps or course.plan is None:
                break
            lived = course.scenes[: steps + 1]
            there = as_lived(what, scene.frame_row, lived, world, frames)
            after = measure(there, Trajectories.of(driven(lived)[None]))
            plan = course.plan
            before = measure(scene, roll_out(scene, plan.route_ego[None], plan.waypoints_ego[None], steps))
            charged = any(
                event in CHARGED and begin < tick * TICK_US <= until_us
                for tick, event, _ in world.record().events
            )
            outcome = 0.0 if charged else float(progress_made(after).value[0])
            found = [float(one(measures)[0][0]) for one in (reward, pdm) for measures in (before, after)]
            judged.append((*found, outcome))
            agreed.append(charged == _shows(after))
        if len(judged) < len(drivers):
            left_out["the route ends within the dream"] += 1
            continue
        rows.append(judged)
    return _ranking(np.array(rows).reshape(-1, len(drivers), 5), list(drivers), agreed, left_out, seed)


def as_lived(
    takeover: Mapping[str, Any], row: int, lived: list[Scene], world: EmbeddedWorld, frames: FrameIndex
) -> DreamScene:
    """What was lived from frame `row` on, one scene every `STEP_S`, with every actor where it was."""
    nobody = np.random.default_rng(0)  # reacts
    return dream_scene(takeover, row, lived, world.road_map, world.route, frames, None, nobody)


def _shows(lived: Measures) -> bool:
    """Whether the measures of one trajectory know a collision or a closed line crossed."""
    return bool(np.isfinite(lived.collision_s[0]) or np.isfinite(lived.rule_s[0]))


def driven(scenes: Sequence[Scene]) -> NDArray[np.float64]:
    """(T, 4) x, y, heading, speed of the ego in the frame of the first scene's."""
    start = scenes[0].ego
    poses = np.empty((len(scenes), 4))
    for row, scene in zip(poses, scenes, strict=True):
        row[:2] = to_ego(scene.ego.position_world[:2], start.position_world, start.heading_rad)
        row[2] = scene.ego.heading_rad - start.heading_rad
        row[3] = scene.ego.speed_mps
    poses[:, 2] = np.unwrap(poses[:, 2])
    return poses


def rank_correlation(rewards: NDArray[np.float64]) -> float:
    """Spearman's over rewards (N, D, 2) in the dream and in the world; NaN if either is constant."""
    dreamed, lived = rewards[..., 0].ravel(), rewards[..., 1].ravel()
    if len(dreamed) < 2 or np.ptp(dreamed) == 0.0 or np.ptp(lived) == 0.0:
        return float("nan")
    return float(spearmanr(dreamed, lived).statistic)


def _ranking(
    judged: NDArray[np.float64],
    names: Sequence[str],
    agreed: Sequence[bool],
    left_out: Mapping[str, int],
    seed: int,
) -> Ranking:
    """`judged` (N, D, 5): reward dreamed and lived, `pdm` dreamed and lived, outcome."""
    rewards = judged[..., :2]
    whole, whole_interval = _with_interval(rewards, seed)
    pdm, pdm_interval = _with_interval(judged[..., 2:4], seed)
    outcome, outcome_interval = _with_interval(judged[..., [0, 4]], seed)
    means = {
        name: {"dream": float(rewards[:, k, 0].mean()), "world": float(rewards[:, k, 1].mean())}
        for k, name in enumerate(names)
        if len(rewards)
    }
    return Ranking(
        rank_correlation=whole,
        rank_interval_95=whole_interval,
        rank_correlation_pdm=pdm,
        rank_interval_95_pdm=pdm_interval,
        rank_correlation_outcome=outcome,
        rank_interval_95_outcome=outcome_interval,
        rank_scenes=len(rewards),
        rank_drivers=means,
        rank_failure_agreement=float(np.mean(agreed)) if agreed else None,
        rank_left_out=dict(left_out),
    )


def _with_interval(pairs: NDArray[np.float64], seed: int) -> tuple[float | None, tuple[float, float] | None]:
    """The correlation of pairs (N, D, 2) and its interval over scenes; None where there is none."""
    found = rank_correlation(pairs)
    if not np.isfinite(found):
        return None, None
    chance = np.random.default_rng([seed, 0xB])
    drawn = [rank_correlation(pairs[chance.integers(0, len(pairs), len(pairs))]) for _ in range(RESAMPLES)]
    low, high = np.nanpercentile(drawn, INTERVAL_PERCENT)
    return found, (float(low), float(high))
