"""Closed dreams: the dream goes on, with a new frame and a new plan every half second.

An episode starts where an open dream does.  Each plan is followed for `replan_s`; then the camera draws the
scene anew (the ego where the dream has brought it, the actors as recorded or reacting, the record's lights
and weather), the frozen VLA reads the frame, says its words, and the residual policy draws the next plan.
The dream ends when the expert handed back in the record, at the latest after `longest_s`.  At its
first fault an episode is over, as a drive is: no plan is made any more, and the ego stays where it is.

The return is the reward of the whole driven trajectory: the same measures and terms as an open dream's, of
real events only.  Every plan of an episode gets the episode's advantage within its group.

Cost: `scenes` x `group` x plans per episode (12 with the defaults) camera frames and passes of the VLA for an
update.  The frames of one pass are all that is in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from takevla.dataset.reader import Dataset
from takevla.driver.closed_loop import Camera, navigation
from takevla.driver.controller import STATE_SIZE
from takevla.driver.vla.inputs import frame_stack, navigation_inputs
from takevla.driver.vla.policy import VlaDriver
from takevla.driver.vla.residual import MODES, bend, residual_features
from takevla.driver.vla.tokenizer import decode_commentary
from takevla.learn.dream.decisions import Decisions
from takevla.learn.dream.kinematics import LANES
from takevla.learn.dream.records import Record, Records, next_index, start_index
from takevla.learn.dream.replay import follow_plan
from takevla.learn.dream.reward import Reward
from takevla.learn.dream.scenes import STEP_S, DreamScene
from takevla.learn.dream.simulate import TICKS_PER_STEP, Trajectories, measure, reactions
from takevla.scene.geometry import to_world
from takevla.scene.plan import Observation
from takevla.scene.scene import TICK_US, Ego, Scene
from takevla.takeover.commentary import parse

Float = NDArray[np.float32]
Act = Callable[[torch.Tensor], torch.Tensor]  # features (B, F) to latents (B, MODES)
READ_BATCH = 16  # frames in one pass of the frozen model
INDEX_WINDOW = 4  # route points passed in one step: two a tick (benchmark facts 1.4)


@dataclass(frozen=True)
class ClosedConfig:
    """How closed dreams go on.

    `replan_s` between plans (a multiple of 0.1 s); `longest_s`, the greatest length of an episode; an update
    dreams `scenes` start frames, drawn without replacement until all were drawn, with `group` episodes of
    each; `judged` start frames, evenly spread, say what was gained before and after.
    """

    replan_s: float = 0.5
    longest_s: float = 6.0
    scenes: int = 4
    group: int = 8
    judged: int = 32

    def __post_init__(self) -> None:
        steps = self.replan_s / STEP_S
        if steps < 1.0 - 1e-6 or abs(steps - round(steps)) > 1e-6:
            raise ValueError(f"dream.closed.replan_s: {self.replan_s} is no multiple of {STEP_S} s")
        if self.scenes < 1 or self.judged < 1:
            raise ValueError("dream.closed.scenes and dream.closed.judged must be at least 1")
        if self.group < 2:
            raise ValueError(f"dream.closed.group: {self.group} episodes make no group; give 2 or more")


class _Episode:
    """One dreamed drive of a record."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.poses = np.zeros((len(record.scenes), 4))  # x, y, heading, speed in the frame of the start
        self.poses[0, 3] = record.scene.ego_speed_mps
        self.controller = np.zeros(STATE_SIZE)
        self.index = start_index(record.route, record.scenes[0].ego.position_world)
        self.failed = False
        self.true_words: list[bool] = []
        self.features: list[torch.Tensor] = []
        self.z: list[torch.Tensor] = []

    def ego(self, t: int) -> Ego:
        """The ego at step `t`, in the world."""
        start = self.record.scenes[0].ego
        if t == 0:
            return start
        x, y, heading, speed = self.poses[t]
        position = np.empty(3, np.float32)
        position[:2] = to_world(np.array([x, y]), start.position_world, start.heading_rad)
        position[2] = self.record.route.points_world[self.index, 2]
        change = (speed - self.poses[t - 1, 3]) / STEP_S
        return replace(
            start,
            position_world=position,
            heading_rad=float(start.heading_rad + heading),
            speed_mps=float(speed),
            acceleration_mps2=float(change),
        )

    def end(self, t: int) -> None:
        """The first fault has happened by step `t`: the ego stays."""
        self.failed = True
        self.poses[t + 1 :, :3] = self.poses[t, :3]
        self.poses[t + 1 :, 3] = 0.0

    def advance(self, t: int, until: int, route: NDArray[np.float64], waypoints: NDArray[np.float64]) -> None:
        """Follow a plan made at step `t` up to step `until`."""
        follow_plan(
            self.controller, route, waypoints, self.poses[t], TICKS_PER_STEP, TICK_US * 1e-6,
            self.poses[t + 1 : until + 1],
        )  # fmt: skip
        start = self.record.scenes[0].ego
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
        self._records, self._seed = records, seed
        self._action = dataset.column("expert_action")
        self._cause = dataset.column("expert_cause")

    def chosen(self, update: int) -> list[int]:
        """The start frames of an update: each once before any comes again, in an order of the seed."""
        count, total = min(self.config.scenes, len(self.scenes)), len(self.scenes)
        per_round = total // count
        order = np.random.default_rng([self._seed, 0xC, update // per_round]).permutation(total)
        at = update % per_round * count
        return [int(row) for row in order[at : at + count]]

    def judged(self) -> list[int]:
        """The start frames that before and after are measured on."""
        count = min(self.config.judged, len(self.scenes))
        return [int(row) for row in np.linspace(0, len(self.scenes) - 1, count).round()]

    @torch.no_grad()
    def dream(self, chosen: Sequence[int], group: int, act: Act) -> Decisions:
        """Drive `group` episodes from each start frame, `act` deciding."""
        replan = round(self.config.replan_s / STEP_S)
        groups = []
        for row in chosen:
            scene = self.scenes[row]
            longest_s = max(self.config.longest_s, self._least_s)
            record = self._records.record(scene.takeover, scene.frame_row, self._least_s, longest_s)
            groups.append([_Episode(record) for _ in range(group)])
        longest = max(episodes[0].record.scene.steps for episodes in groups)
        for t in range(0, longest, replan):
            self._decide(groups, t, replan, act)
        return self._decisions(groups, -(-longest // replan))

    def _decide(self, groups: list[list[_Episode]], t: int, replan: int, act: Act) -> None:
        """One plan for every episode that still goes on at step `t`."""
        active = []
        for episodes in groups:
            steps = episodes[0].record.scene.steps
            if t >= steps:
                continue
            moved = reactions(episodes[0].record.scene, _driven(episodes, t))
            for lane, episode in enumerate(episodes):
                if not episode.failed:
                    beside = moved[lane // LANES, :, t, :, lane % LANES]
                    active.append((episode, beside, min(t + replan, steps)))
        for first in range(0, len(active), READ_BATCH):
            some = active[first : first + READ_BATCH]
            views = [self._observe(episode, t, beside) for episode, beside, _ in some]
            thought = self._driver.think(torch.from_numpy(frame_stack(views)), navigation_inputs(views))
            features = residual_features(thought.plan.action_features).float().clone()
            z = act(features)
            route, waypoints = bend(thought.plan.route_ego.clone(), thought.plan.waypoints_ego.clone(), z)
            for k, (episode, _, until) in enumerate(some):
                episode.features.append(features[k])
                episode.z.append(z[k])
                words = decode_commentary(self._driver.tokenizer, thought.words[k].tolist())
                row = int(episode.record.frame_rows[t])
                episode.true_words.append(names(words, int(self._action[row]), int(self._cause[row])))
                plan = [part[k].numpy().astype(np.float64) for part in (route, waypoints)]
                episode.advance(t, until, *plan)
        for episodes in groups:
            scene = episodes[0].record.scene
            until = min(t + replan, scene.steps)
            if until > t:
                for episode, fine in zip(
                    episodes, measure(scene, _driven(episodes, until)).safe, strict=True
                ):
                    if not fine and not episode.failed:
                        episode.end(until)

    def _observe(self, episode: _Episode, t: int, beside: Float) -> Observation:
        """What the driver gets at step `t`; `beside` (R, 5) are the actors that react."""
        record = episode.record
        ego = episode.ego(t)
        scene = _moved(record, t, ego, beside)
        targets, option, following = navigation(record.route, record.targets, episode.index, ego)
        image = self._camera.render(record.road_map, scene)
        return Observation(0, scene.time_us, ego.speed_mps, targets, option, following, image)

    def _decisions(self, groups: list[list[_Episode]], plans: int) -> Decisions:
        """Everything that was decided, with `plans` places for each episode."""
        shape = (len(groups), len(groups[0]))
        width = groups[0][0].features[0].shape[-1]
        features = torch.zeros(*shape, plans, width)
        z = torch.zeros(*shape, plans, MODES)
        taken = torch.zeros(*shape, plans, dtype=torch.bool)
        rewards, failed = np.empty(shape, np.float32), np.empty(shape, np.float32)
        for s, episodes in enumerate(groups):
            scene = episodes[0].record.scene
            measures = measure(scene, _driven(episodes, scene.steps))
            words = np.array([np.mean(episode.true_words) for episode in episodes], np.float32)
            rewards[s], _ = self._reward(replace(measures, words=words))
            failed[s] = ~measures.safe
            for g, episode in enumerate(episodes):
                count = len(episode.z)
                features[s, g, :count] = torch.stack(episode.features)
                z[s, g, :count] = torch.stack(episode.z)
                taken[s, g, :count] = True
        return Decisions(
            features.flatten(1, 2), z.flatten(1, 2)[:, :, None], taken.flatten(1, 2), rewards, failed
        )


def names(words: str, action: int, cause: int) -> bool:
    """Whether a commentary names this action and this cause."""
    try:
        said, _, why = parse(words)
    except ValueError:
        return False
    return int(said) == action and int(why) == cause


def _driven(episodes: Sequence[_Episode], t: int) -> Trajectories:
    return Trajectories.of(np.stack([episode.poses[: t + 1] for episode in episodes]))


def _moved(record: Record, t: int, ego: Ego, beside: Float) -> Scene:
    """The record at step `t` with another ego, and with the actors that react where `beside` says."""
    scene, actors, dream = record.scenes[t], record.scenes[t].actors, record.scene
    position, heading = actors.position_world.copy(), actors.heading_rad.copy()
    speed = actors.speed_mps.copy()
    row_of = {actor: row for row, actor in enumerate(actors.id.tolist())}
    start = record.scenes[0].ego
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
