"""Closed dreams: the dream goes on, with a new frame and a new plan every half second.

An episode starts where an open dream does.  Each plan is followed for `replan_s`; then the camera draws the
scene anew (the ego where the dream has brought it, the actors as recorded or reacting, the record's lights
and weather), the frozen VLA reads the frame, says its words, and the residual policy draws the next plan.
The dream ends when the expert handed back in the record (the danger is past), at the latest after
`longest_s`; the median takeover lasts 6 s and the earliest start lies 2 s before it.  At its
first fault an episode is over, as a drive is: no plan is made any more, and the ego stays where it is.

The return is the reward of the whole driven trajectory: the same measures and terms as an open dream's, of
real events only.  Every plan of an episode gets the episode's advantage within its group.

Cost: `scenes` x `group` x plans per episode (20 at most with the defaults) camera frames and passes of the
VLA for an update.  The frames of one pass are all that is in memory.

Dreams of words branch instead (`ClosedDreams.branches`): one episode for each way to open the commentary,
which is held for `hold_s`; then the model drives on by its own words.  So an opening is worth what comes of
it when it can be thought better of.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from takevla.dataset.reader import Dataset
from takevla.driver.closed_loop import Camera, navigation
from takevla.driver.controller import STATE_SIZE, TICK_S
from takevla.driver.vla.inputs import frame_stack, navigation_inputs
from takevla.driver.vla.policy import OWN_WORDS, VlaDriver
from takevla.driver.vla.residual import MODES, bend, residual_features, while_moving
from takevla.driver.vla.tokenizer import decode_commentary
from takevla.learn.dream.config import ClosedConfig
from takevla.learn.dream.decisions import Decisions, in_turn
from takevla.learn.dream.kinematics import LANES
from takevla.learn.dream.records import Record, Records, next_index, start_index
from takevla.learn.dream.replay import follow_plan
from takevla.learn.dream.reward import Reward
from takevla.learn.dream.scenes import DreamScene
from takevla.learn.dream.simulate import TICKS_PER_STEP, Measures, Trajectories, measure, reactions
from takevla.scale import processes
from takevla.scene.geometry import to_world
from takevla.scene.past import Past
from takevla.scene.plan import Observation
from takevla.scene.scene import Ego, Scene
from takevla.takeover.commentary import parse

Float = NDArray[np.float32]
Act = Callable[[torch.Tensor], torch.Tensor]  # features (B, F) to latents (B, MODES)
READ_BATCH = 16  # frames in one pass of the frozen model
BRANCHED_AT_ONCE = 16  # records that are branched side by side
INDEX_WINDOW = 2  # route points passed in one tick (benchmark facts 1.4)


class _Episode:
    """One dreamed drive of a record, tick by tick; its commentary opens with `opening` until tick `held`."""

    def __init__(self, record: Record, opening: int = OWN_WORDS, held: int = 0) -> None:
        self.record = record
        self.opening, self.held = opening, held
        self.poses = np.zeros((record.ticks + 1, 4))  # x, y, heading, speed in the frame of the start
        self.poses[0, 3] = record.scene.ego_speed_mps
        self.controller = np.zeros(STATE_SIZE)
        self.index = start_index(record.route, record.at(0).ego.position_world)
        self.failed = False
        self.true_words: list[bool] = []
        self.features: list[torch.Tensor] = []
        self.z: list[torch.Tensor] = []
        self.pictures: Past[NDArray[np.uint8]] = Past()

    def ego(self, t: int) -> Ego:
        """The ego at tick `t`, in the world."""
        start = self.record.at(0).ego
        if t == 0:
            return start
        x, y, heading, speed = self.poses[t]
        position = np.empty(3, np.float32)
        position[:2] = to_world(np.array([x, y]), start.position_world, start.heading_rad)
        position[2] = self.record.route.points_world[self.index, 2]
        change = (speed - self.poses[t - 1, 3]) / TICK_S
        return replace(
            start,
            position_world=position,
            heading_rad=float(start.heading_rad + heading),
            speed_mps=float(speed),
            acceleration_mps2=float(change),
        )

    def end(self, t: int) -> None:
        """The first fault has happened by tick `t`: the ego stays."""
        self.failed = True
        self.poses[t + 1 :, :3] = self.poses[t, :3]
        self.poses[t + 1 :, 3] = 0.0

    def advance(self, t: int, until: int, route: NDArray[np.float64], waypoints: NDArray[np.float64]) -> None:
        """Follow a plan made at tick `t` up to tick `until`."""
        follow_plan(
            self.controller, route, waypoints, self.poses[t], 1, TICK_S, self.poses[t + 1 : until + 1]
        )
        start = self.record.at(0).ego
        for x, y in self.poses[t + 1 : until + 1, :2]:
            place = to_world(np.array([x, y]), start.position_world, start.heading_rad)
            self.index = next_index(self.record.route, self.index, place, INDEX_WINDOW)


class ClosedDreams:
    """Dreams closed episodes of a dataset's takeovers."""

    def __init__(
        self,
        dataset: Dataset,
        scenes: Sequence[DreamScene],
        driver: VlaDriver,
        camera: Camera,
        config: ClosedConfig,
        reward: Reward,
        records: Records,
        *,
        least_s: float,
        seed: int,
    ) -> None:
        """`scenes` are the start frames; `least_s` is the length that their records have at least."""
        self.scenes = scenes
        self.config = config
        self._driver, self._camera, self._reward, self._least_s = driver, camera, reward, least_s
        self._records, self._seed, self._dataset = records, seed, dataset
        self._sees_past = driver.model.config.sees_past
        self._action = dataset.column("expert_action")
        self._cause = dataset.column("expert_cause")

    def chosen(self, update: int) -> list[int]:
        """The start frames of an update: each once before any comes again, in an order of the seed."""
        return in_turn(len(self.scenes), self.config.scenes, self._seed, update)

    def judged(self) -> list[int]:
        """The start frames that before and after are measured on."""
        return _spread(len(self.scenes), self.config.judged)

    def record(self, row: int) -> Record:
        """What start frame number `row` is dreamed from."""
        scene, longest_s = self.scenes[row], max(self.config.longest_s, self._least_s)
        return self._records.record(scene, self._least_s, longest_s)

    def dream(self, chosen: Sequence[int], group: int, act: Act) -> Decisions:
        """Drive `group` episodes from each start frame, `act` deciding."""
        records = [self.record(row) for row in chosen]
        plans = max(-(-record.ticks // self._replan) for record in records)
        groups = [[_Episode(record) for _ in range(group)] for record in records]
        return self._decisions(self._drive(groups, act), plans)

    def tried(self, row: int, mode: Act, draw: Act) -> Measures:
        """What happens to one episode that `mode` drives from a start frame, and to a group by `draw`."""
        record = self.record(row)
        driven, drawn = [_Episode(record)], [_Episode(record) for _ in range(self.config.group)]
        self._drive([driven], mode)
        self._drive([drawn], draw)
        return _measures([*driven, *drawn])

    def branching(self) -> list[int]:
        """The start frames that dreams of words branch from."""
        return _spread(len(self.scenes), self.config.starts)

    def branches(
        self,
        rows: Sequence[int],
        share: NDArray[np.floating],
        ids: Sequence[int],
        progress: Callable[[int, int], None] = lambda done, total: None,
        state: Path | None = None,
        settings: str = "",
    ) -> tuple[Float, Float]:
        """Reward and failure (N, A) of the episodes that begin with each of A openings at N start frames.

        `share` (N, A) is what the model gives to each, `ids` their first tokens.  An opening of less than
        `least_share` is not driven: it gets the least reward of those that are, and fails if any does.
        What is driven is kept in `state` from time to time, and a call that was cut off goes on from there;
        ValueError if it was written for another `share` or with other `settings`.
        """
        driven = np.asarray(share) >= self.config.least_share
        driven[np.arange(len(driven)), np.asarray(share).argmax(axis=1)] = True
        earned = np.zeros((2, *driven.shape), np.float32)
        done = 0
        if state is not None and state.exists():
            kept = np.load(state)
            if not np.array_equal(kept["share"], share) or str(kept["settings"]) != settings:
                raise ValueError(f"{state}: of other dreams; remove it or give another --out")
            earned, done = kept["earned"], int(kept["done"])
        for first in range(done, len(rows), BRANCHED_AT_ONCE):
            some = range(first, min(first + BRANCHED_AT_ONCE, len(rows)))
            groups = [
                self._opened(rows[k], [ids[a] for a in np.flatnonzero(driven[k]).tolist()]) for k in some
            ]
            for k, episodes in zip(some, self._drive(groups, _unbent), strict=True):
                measures = _measures(episodes)
                reward, reports = self._reward(measures)
                failed = self._reward.failed(measures, reports)
                earned[0, k], earned[1, k] = reward.min(), failed.max()
                earned[:, k, driven[k]] = np.stack([reward, failed])
            progress(some.stop, len(rows))
            if state is not None and processes().leads:
                beside = state.with_suffix(".part.npz")
                np.savez(beside, share=share, settings=settings, earned=earned, done=some.stop)
                os.replace(beside, state)
        return earned[0], earned[1]

    def opened(self, row: int, openings: Sequence[int]) -> Measures:
        """What happens to the episodes from a start frame that begin with these tokens."""
        (episodes,) = self._drive([self._opened(row, openings)], _unbent)
        return _measures(episodes)

    def _opened(self, row: int, openings: Sequence[int]) -> list[_Episode]:
        record, held = self.record(row), round(self.config.hold_s / TICK_S)
        return [_Episode(record, opening, held) for opening in openings]

    @property
    def _replan(self) -> int:
        """Ticks between plans."""
        return round(self.config.replan_s / TICK_S)

    @torch.no_grad()
    def _drive(self, groups: list[list[_Episode]], act: Act) -> list[list[_Episode]]:
        """Groups of episodes, each of one record, from start to end.  In place."""
        for t in range(0, max(episodes[0].record.ticks for episodes in groups), self._replan):
            self._decide(groups, t, act)
        return groups

    def _decide(self, groups: list[list[_Episode]], t: int, act: Act) -> None:
        """One plan for every episode that still goes on at tick `t`."""
        active = []
        for episodes in groups:
            if t >= episodes[0].record.ticks:
                continue
            moved = _beside(episodes, t)
            active += [
                (episode, moved[lane // LANES, ..., lane % LANES])
                for lane, episode in enumerate(episodes)
                if not episode.failed
            ]
        for first in range(0, len(active), READ_BATCH):
            some = active[first : first + READ_BATCH]
            views = [self._observe(episode, t, beside) for episode, beside in some]
            told = navigation_inputs(views)
            thought = self._driver.think(
                torch.from_numpy(frame_stack(views, self._sees_past)),
                told,
                opens=[episode.opening if t < episode.held else OWN_WORDS for episode, _ in some],
            )
            features = residual_features(thought.plan.action_features).float().clone()
            z = act(features)
            frozen = thought.plan
            route, waypoints = bend(
                frozen.route_ego.clone(), frozen.waypoints_ego.clone(), while_moving(z, told.speed_mps)
            )
            for k, (episode, _) in enumerate(some):
                episode.features.append(features[k])
                episode.z.append(z[k])
                words = decode_commentary(self._driver.tokenizer, thought.words[k].tolist())
                row = int(episode.record.frame_rows[t])
                episode.true_words.append(names(words, int(self._action[row]), int(self._cause[row])))
                plan = [part[k].numpy().astype(np.float64) for part in (route, waypoints)]
                episode.advance(t, min(t + self._replan, episode.record.ticks), *plan)
        for episodes in groups:
            until = min(t + self._replan, episodes[0].record.ticks)
            if until > t:
                safe = measure(episodes[0].record.scene, _driven(episodes, until // TICKS_PER_STEP)).safe
                for episode, fine in zip(episodes, safe, strict=True):
                    if not fine and not episode.failed:
                        episode.end(until)

    def _observe(self, episode: _Episode, t: int, beside: Float) -> Observation:
        """What the driver gets at tick `t`; `beside` (R, 5) are the actors that react."""
        record = episode.record
        ego = episode.ego(t)
        scene = _moved(record, t, ego, beside)
        targets, option, following = navigation(record.route, record.targets, episode.index, ego)
        image = self._camera.render(record.road_map, scene)
        if t == 0 and self._sees_past:
            for time_us, seen in self._dataset.seen_before(int(record.frame_rows[0])):
                episode.pictures.keep(time_us, seen)
        past = episode.pictures.keep(scene.time_us, image)
        return Observation(
            0, scene.time_us, ego.speed_mps, targets, option, following, image, past_image=past
        )

    def _decisions(self, groups: list[list[_Episode]], plans: int) -> Decisions:
        """Everything that was decided, with `plans` places for each episode."""
        shape = (len(groups), len(groups[0]))
        width = groups[0][0].features[0].shape[-1]
        features = torch.zeros(*shape, plans, width)
        z = torch.zeros(*shape, plans, MODES)
        taken = torch.zeros(*shape, plans, dtype=torch.bool)
        rewards, failed = np.empty(shape, np.float32), np.empty(shape, np.float32)
        for s, episodes in enumerate(groups):
            measures = _measures(episodes)
            rewards[s], reports = self._reward(measures)
            failed[s] = self._reward.failed(measures, reports)
            for g, episode in enumerate(episodes):
                count = len(episode.z)
                features[s, g, :count] = torch.stack(episode.features)
                z[s, g, :count] = torch.stack(episode.z)
                taken[s, g, :count] = True
        return Decisions(
            features.flatten(1, 2), z.flatten(1, 2)[:, :, None], taken.flatten(1, 2), rewards, failed
        )


def _unbent(features: torch.Tensor) -> torch.Tensor:
    """Latents that leave every plan as it is."""
    return torch.zeros(len(features), MODES)


def _spread(total: int, count: int) -> list[int]:
    """`count` of `total` rows at most, evenly spread."""
    return [int(row) for row in np.linspace(0, total - 1, min(count, total)).round()]


def names(words: str, action: int, cause: int) -> bool:
    """Whether a commentary names this action and this cause."""
    try:
        said, _, why = parse(words)
    except ValueError:
        return False
    return int(said) == action and int(why) == cause


def _driven(episodes: Sequence[_Episode], steps: int) -> Trajectories:
    """The first so many steps of what was driven."""
    kept = slice(0, steps * TICKS_PER_STEP + 1, TICKS_PER_STEP)
    return Trajectories.of(np.stack([episode.poses[kept] for episode in episodes]))


def _measures(episodes: Sequence[_Episode]) -> Measures:
    """Of whole episodes of one record, their words included."""
    scene = episodes[0].record.scene
    words = np.array([np.mean(episode.true_words) for episode in episodes], np.float32)
    return replace(measure(scene, _driven(episodes, scene.steps)), words=words)


def _beside(episodes: Sequence[_Episode], t: int) -> Float:
    """(B, R, 5, LANES) x, y, cos, sin, speed of the actors that react to each episode, at tick `t`.

    Actors react once a step, to the ego as it was at its start; between steps they are halfway.
    """
    step, part = divmod(t, TICKS_PER_STEP)
    scene = episodes[0].record.scene
    moved = reactions(scene, _driven(episodes, step + 1 if part else step))
    now = moved[:, :, step]
    return now if part == 0 else now + (moved[:, :, step + 1] - now) * np.float32(part / TICKS_PER_STEP)


def _moved(record: Record, t: int, ego: Ego, beside: Float) -> Scene:
    """The record at tick `t` with another ego, and with the actors that react where `beside` says."""
    scene, dream = record.at(t), record.scene
    actors = scene.actors
    position, heading = actors.position_world.copy(), actors.heading_rad.copy()
    speed = actors.speed_mps.copy()
    row_of = {actor: row for row, actor in enumerate(actors.id.tolist())}
    start = record.at(0).ego
    for actor, slot in zip(dream.actor_id.tolist(), dream.arrays.slot.tolist(), strict=True):
        row = row_of.get(actor)
        if slot < 0 or row is None:
            continue
        x, y, cos, sin, v = (float(value) for value in beside[slot])
        position[row, :2] = to_world(np.array([x, y]), start.position_world, start.heading_rad)
        heading[row] = start.heading_rad + np.arctan2(sin, cos)
        speed[row] = v
    placed = replace(actors, position_world=position, heading_rad=heading, speed_mps=speed)
    return replace(scene, ego=ego, actors=placed)
