"""The dreaming stage: reinforcement of a VLA in scenes rebuilt from takeovers.

A residual head bends the plans of the frozen model, which is read once per start frame; after that an update
costs only vector arithmetic: sample a group of plans per scene, roll them out, reward them, move the head.
Other dreams choose how the commentary opens, or move the model itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from takevla.dataset.reader import Dataset
from takevla.driver.vla.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from takevla.driver.vla.device import CPU, to_device, torch_device
from takevla.driver.vla.policy import VlaDriver
from takevla.driver.vla.residual import MOVING_MPS
from takevla.files import write_json
from takevla.learn.dream.audit import DreamAudit
from takevla.learn.dream.calm import calm_scenes
from takevla.learn.dream.closed import ClosedDreams
from takevla.learn.dream.config import DreamConfig, MovingConfig
from takevla.learn.dream.dreamer import Dreamer, gains
from takevla.learn.dream.fans import shown_scenes
from takevla.learn.dream.moving import GroupConfig, MovingDreams, driven_rewards, fan_around
from takevla.learn.dream.reading import BaseReading, anchor_rows, read_frames
from takevla.learn.dream.records import Records, camera_of
from takevla.learn.dream.reward import preset
from takevla.learn.dream.rollouts import RollOuts, rewards_of
from takevla.learn.dream.scenes import DreamScene
from takevla.learn.dream.sift import replayed_scenes, sifted, true_scenes
from takevla.learn.dream.spoken import SpokenDreams, opening_ids, read_openings
from takevla.learn.dream.verdict import world_verdict
from takevla.learn.samples import common_rig
from takevla.scale import Executor, InProcess, processes
from takevla.world.maps.route_xml import RouteTask

STATE_FILE = "state.pt"
BRANCHES_FILE = "branches.npz"
STATE_EVERY = 10  # updates between two saved states


@dataclass(frozen=True)
class Part:
    """What is dreamed of one dataset."""

    dataset: Dataset
    scenes: list[DreamScene]
    anchors: list[int]  # rows of ordinary frames

    @property
    def rows(self) -> list[int]:
        """The start frame of each scene."""
        return [scene.frame_row for scene in self.scenes]


@dataclass(frozen=True)
class Ground:
    """What every kind of dreams stands on."""

    loaded: Checkpoint
    driver: VlaDriver
    parts: list[Part]
    config: DreamConfig
    seed: int
    maps_dir: Path | None
    out: Path
    progress: Callable[[int, int], None]
    engine: Executor

    @property
    def only_part(self) -> Part:
        """The part of dreams that recall no earlier round (`DreamConfig.recalls`)."""
        (part,) = self.parts
        return part

    def roll_outs(self, scenes: Sequence[DreamScene]) -> RollOuts:
        """Open dreams in these scenes."""
        return RollOuts.of(scenes, self.config.reward, self.config.terms, self.config.horizon_s)

    def closed(self) -> ClosedDreams | None:
        """Dreams that go on with new frames and plans; None where the recipe has open ones."""
        if self.config.kind == "open":
            return None
        part = self.only_part
        return ClosedDreams(
            part.dataset, part.scenes, self.driver, camera_of(part.dataset), self.config.closed,
            preset(self.config.reward, self.config.terms),
            Records(part.dataset, self.config.reacting, self.seed, self.maps_dir),
            least_s=self.config.horizon_s, seed=self.seed,
        )  # fmt: skip

    def learn(self, dreams: Dreamer | MovingDreams, state: Path) -> None:
        """All updates, from `state` on if a former call was cut off."""
        if state.exists():
            dreams.load(state)
        while dreams.update < self.config.updates:
            dreams.step()
            self.progress(dreams.update, self.config.updates)
            if dreams.update % STATE_EVERY == 0 and processes().leads:
                dreams.save(state)


@dataclass(frozen=True)
class Dreamt:
    """What dreams have taught, and how."""

    checkpoint: Checkpoint
    curves: list[dict[str, float]]
    judged: Mapping[str, Any]
    fans: list[dict[str, Any]]
    state: Path  # from which a cut-off call would go on; of no use once the model is written


def dream(
    checkpoint: Path,
    dataset: Dataset,
    out: Path,
    config: DreamConfig,
    *,
    seed: int,
    maps_dir: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    engine: Executor | None = None,
    tasks: Sequence[RouteTask] = (),
    former: Sequence[Dataset] = (),
    device: str = CPU,
) -> DreamAudit:
    """Train a residual head on the takeovers of `dataset` and write `out/model`.

    A checkpoint that has dreamt before goes on from its head, and the KL is to that policy.  Also writes
    `curves.json` (one row per update), `audit.json`, `before_after.json` (reward and failure rate of the
    plan that drives), and `fans.json` (what was tried in a few scenes before and after).  `engine` does the
    roll-outs of open dreams, this process if None; it changes no bit of the result.  Goes on from
    `out/state.pt` if a former call was cut off.  With the `tasks` that the dataset was collected on the
    embedded world is asked whether recorded plans fail there too (`verdict.py`).  `former` are the takeovers
    of earlier rounds, which are dreamed again beside the new ones where `config.recalls`: fine-tuning leaves
    the head of the round before behind, and what that had mended calls for no takeover any more.  `device` is
    where the model reads, as `torch_device` names it; the head is trained on the CPU.
    Raises ValueError when no scene can be dreamed, `UntrueDreamsError` when the dreams are less true than
    `config.limits` asks.
    """
    rebuilt = replayed_scenes(dataset, config, seed=seed, maps_dir=maps_dir)
    scenes, report = sifted(rebuilt, config)
    world = None
    if tasks:
        world = world_verdict(dataset, rebuilt.scenes, tasks, limits=config.limits, maps_dir=maps_dir)
    out.mkdir(parents=True, exist_ok=True)
    _write_json(out / "audit.json", report.to_json() | (world.to_json() if world else {}))
    config.limits.refuse(report, world.recalls() if world else {})
    if not scenes:
        reasons = ", ".join(f"{why}: {count}" for why, count in sorted(report.left_out.items()))
        raise ValueError(
            f"{dataset.path}: no takeover can be dreamed ({reasons or 'no takeovers'}); collect more"
        )
    loaded = replace(load_checkpoint(checkpoint), rig=common_rig([dataset]))
    _refuse_heads(loaded, config, checkpoint)
    driver = VlaDriver(
        to_device(loaded.model, torch_device(device)), loaded.tokenizer, opening=loaded.opening
    )
    recalled = former if config.recalls else ()
    takeovers = [(dataset, scenes)]
    takeovers += [(older, true_scenes(older, config, seed=seed, maps_dir=maps_dir)[0]) for older in recalled]
    parts = [_part(one, some, config, len(takeovers), seed, maps_dir) for one, some in takeovers]
    ground = Ground(loaded, driver, parts, config, seed, maps_dir, out, progress, engine or InProcess())
    if config.moving is not None:
        dreamt = _move_model(ground, config.moving)
    elif config.chooses == "words":
        dreamt = _choose_words(ground)
    else:
        dreamt = _bend_plans(ground)
    _write_json(out / "curves.json", dreamt.curves)
    _write_json(out / "before_after.json", dreamt.judged)
    _write_json(out / "fans.json", dreamt.fans)
    if processes().leads:
        save_checkpoint(out / "model", dreamt.checkpoint)
        dreamt.state.unlink(missing_ok=True)
    return report


def _refuse_heads(loaded: Checkpoint, config: DreamConfig, checkpoint: Path) -> None:
    if config.moving is not None and (loaded.residual is not None or loaded.opening is not None):
        raise ValueError(f"{checkpoint}: has a head of earlier dreams; dream.moving starts without any")
    if config.chooses == "words" and loaded.residual is not None:
        raise ValueError(f"{checkpoint}: has a head that bends plans; dream of words before it")


def _part(
    dataset: Dataset,
    scenes: list[DreamScene],
    config: DreamConfig,
    share: int,
    seed: int,
    maps_dir: Path | None,
) -> Part:
    """Scenes of takeovers with one `share`-th of those of calm driving, which DPO has none of, and of the
    anchors.
    """
    least_mps = MOVING_MPS if config.leaves_rest_out else 0.0
    if config.method == "grpo":
        scenes = scenes + calm_scenes(
            dataset, config.calm // share, horizon_s=config.horizon_s, reacting=config.reacting,
            limits=config.limits, seed=seed, least_mps=least_mps, maps_dir=maps_dir,
        )  # fmt: skip
    return Part(dataset, scenes, anchor_rows(dataset, config.anchors // share, seed, least_mps))


def _bend_plans(ground: Ground) -> Dreamt:
    """Dreams of a head that bends plans, open or closed."""
    config, closed = ground.config, ground.closed()
    bases, anchors = [], []
    for part in ground.parts:
        bases.append(read_frames(ground.driver, part.dataset, part.rows if closed is None else []))
        anchors.append(read_frames(ground.driver, part.dataset, part.anchors))
    base, anchor = reduce(BaseReading.joined, bases), reduce(BaseReading.joined, anchors)
    scenes = [scene for part in ground.parts for scene in part.scenes]
    loaded, state = ground.loaded, ground.out / STATE_FILE
    with ground.engine.crew(ground.roll_outs(scenes)) as crew:
        dreamer = Dreamer(scenes, base, anchor.features, config, ground.seed, crew, closed, loaded.residual)
        ground.learn(dreamer, state)
        judged = dreamer.before_after()
        fans = dreamer.fans(judged["rewards_before"], judged["rewards_after"])
    return Dreamt(replace(loaded, residual=dreamer.head), dreamer.curves, judged, fans, state)


def _move_model(ground: Ground, moving: MovingConfig) -> Dreamt:
    """Dreams that move the model itself."""
    loaded, config, seed, state = ground.loaded, ground.config, ground.seed, ground.out / STATE_FILE
    part = ground.only_part
    rewarded = ground.roll_outs(part.scenes)
    before = read_frames(VlaDriver(loaded.model, loaded.tokenizer), part.dataset, [*part.rows, *part.anchors])
    dreams = MovingDreams(
        part.scenes, loaded.model, part.dataset, part.anchors, before.words, rewarded, moving,
        GroupConfig.of(config), config.updates, seed,
    )  # fmt: skip
    ground.learn(dreams, state)
    model = dreams.finish()
    after = read_frames(VlaDriver(model, loaded.tokenizer), part.dataset, part.rows)
    judged = gains(part.scenes, *(driven_rewards(rewarded, one) for one in (before, after)))
    fans = [
        fan_around(part.scenes[row], row, (before, after), config, seed)
        for row in shown_scenes(part.scenes, _rises(judged))
    ]
    return Dreamt(replace(loaded, model=model), dreams.curves, judged, fans, state)


def _choose_words(ground: Ground) -> Dreamt:
    """Dreams that choose words: read, roll out, and learn, which takes seconds once all is rewarded; only
    the episodes of closed dreams are kept to go on from.
    """
    loaded, config, closed = ground.loaded, ground.config, ground.closed()
    part, scenes = ground.only_part, ground.only_part.scenes
    ids, state = opening_ids(loaded.tokenizer), ground.out / BRANCHES_FILE
    if closed is not None:
        scenes = closed.scenes = [scenes[row] for row in closed.branching()]
    told = read_openings(ground.driver, part.dataset, [scene.frame_row for scene in scenes])
    anchor = read_openings(ground.driver, part.dataset, part.anchors)
    if closed is not None:
        scores = told.scores
        if loaded.opening is not None:
            with torch.no_grad():
                scores = scores + loaded.opening(told.features, told.speed_mps)
        share = torch.softmax(scores, dim=1).numpy()
        settings = json.dumps(asdict(config))
        earned = closed.branches(range(len(scenes)), share, ids, ground.progress, state, settings)
    else:
        with ground.engine.crew(ground.roll_outs(scenes)) as crew:
            earned = rewards_of(crew, told.route_ego.numpy(), told.waypoints_ego.numpy())
    dreams = SpokenDreams(scenes, told, earned, anchor, config, ids, ground.seed, loaded.opening)
    while dreams.update < config.updates:
        dreams.step()
        ground.progress(dreams.update, config.updates)
    judged = dreams.before_after()
    fans = dreams.fans(_rises(judged), closed)
    return Dreamt(replace(loaded, opening=dreams.head.eval()), dreams.curves, judged, fans, state)


def _rises(judged: Mapping[str, Any]) -> NDArray[np.float32]:
    """(S,) what each scene gained in reward."""
    before, after = (np.array(judged[f"rewards_{when}"], np.float32) for when in ("before", "after"))
    return after - before


def _write_json(path: Path, content: object) -> None:
    if processes().leads:
        write_json(path, content)
