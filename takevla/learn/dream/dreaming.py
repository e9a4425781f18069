"""The dreaming stage: reinforcement of a frozen VLA's residual head in scenes rebuilt from takeovers.

The supervised model is read once per start frame; after that an update costs only vector arithmetic:
sample a group of plans per scene, roll them out, reward them, move the residual head.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
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
from takevla.learn.dream.audit import DreamAudit, audit, expert_is_safe, fails_as_recorded
from takevla.learn.dream.calm import calm_scenes
from takevla.learn.dream.closed import ClosedDreams
from takevla.learn.dream.config import DreamConfig, MovingConfig
from takevla.learn.dream.dreamer import Dreamer, gains
from takevla.learn.dream.fans import shown_scenes
from takevla.learn.dream.moving import GroupConfig, MovingDreams, driven_rewards, fan_around
from takevla.learn.dream.reading import anchor_rows, read_frames
from takevla.learn.dream.reconstruct import Rebuilt, rebuild
from takevla.learn.dream.records import Records, camera_of
from takevla.learn.dream.reward import preset
from takevla.learn.dream.rollouts import RollOuts, rewards_of
from takevla.learn.dream.scenes import DreamScene
from takevla.learn.dream.spoken import SpokenDreams, opening_ids, read_openings
from takevla.learn.dream.verdict import world_verdict
from takevla.learn.samples import common_rig
from takevla.scale import Executor, InProcess, processes
from takevla.world.maps.route_xml import RouteTask

UNREPLAYED = "the record cannot be replayed"
STATE_FILE = "state.pt"
BRANCHES_FILE = "branches.npz"
STATE_EVERY = 10  # updates between two saved states


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
    loaded, rig = load_checkpoint(checkpoint), common_rig([dataset])
    driver = VlaDriver(
        to_device(loaded.model, torch_device(device)), loaded.tokenizer, opening=loaded.opening
    )
    recalled = former if config.recalls else ()
    share = 1 + len(recalled)
    scenes, anchors = _with_calm(dataset, scenes, config, share, seed, maps_dir)
    if config.moving is not None:
        if loaded.residual is not None or loaded.opening is not None:
            raise ValueError(f"{checkpoint}: has a head of earlier dreams; dream.moving starts without any")
        _move(config.moving, loaded, dataset, scenes, anchors, out, config, seed, progress)
        return report
    closed = None
    if config.kind == "closed":
        closed = ClosedDreams(
            dataset, scenes, driver, camera_of(dataset), config.closed,
            preset(config.reward, config.terms), Records(dataset, config.reacting, seed, maps_dir),
            least_s=config.horizon_s, seed=seed,
        )  # fmt: skip
    if config.chooses == "words":
        if loaded.residual is not None:
            raise ValueError(f"{checkpoint}: has a head that bends plans; dream of words before it")
        _choose_words(loaded, driver, dataset, scenes, anchors, out, config, seed, progress, engine, closed)
        return report
    rows = [scene.frame_row for scene in scenes] if config.kind == "open" else []
    base, anchor = read_frames(driver, dataset, rows), read_frames(driver, dataset, anchors)
    for older in recalled:
        again, ordinary = _with_calm(
            older, true_scenes(older, config, seed=seed, maps_dir=maps_dir)[0], config, share, seed, maps_dir
        )
        scenes += again
        base = base.joined(read_frames(driver, older, [scene.frame_row for scene in again]))
        anchor = anchor.joined(read_frames(driver, older, ordinary))
    state = out / STATE_FILE
    with (engine or InProcess()).crew(
        RollOuts.of(scenes, config.reward, config.terms, config.horizon_s)
    ) as crew:
        dreamer = Dreamer(scenes, base, anchor.features, config, seed, crew, closed, loaded.residual)
        if state.exists():
            dreamer.load(state)
        while dreamer.update < config.updates:
            dreamer.step()
            progress(dreamer.update, config.updates)
            if dreamer.update % STATE_EVERY == 0 and processes().leads:
                dreamer.save(state)
        _write_json(out / "curves.json", dreamer.curves)
        judged = dreamer.before_after()
        _write_json(out / "before_after.json", judged)
        _write_json(out / "fans.json", dreamer.fans(judged["rewards_before"], judged["rewards_after"]))
    if processes().leads:
        save_checkpoint(
            out / "model", Checkpoint(loaded.model, loaded.tokenizer, dreamer.head, rig, loaded.opening)
        )
        state.unlink(missing_ok=True)
    return report


def _with_calm(
    dataset: Dataset,
    scenes: list[DreamScene],
    config: DreamConfig,
    share: int,
    seed: int,
    maps_dir: Path | None,
) -> tuple[list[DreamScene], list[int]]:
    """Scenes of takeovers and one `share`-th of those of calm driving, and as many of the anchors (rows)."""
    least_mps = MOVING_MPS if config.leaves_rest_out else 0.0
    if config.method == "grpo":
        scenes = scenes + calm_scenes(
            dataset, config.calm // share, horizon_s=config.horizon_s, reacting=config.reacting,
            limits=config.limits, seed=seed, least_mps=least_mps, maps_dir=maps_dir,
        )  # fmt: skip
    return scenes, anchor_rows(dataset, config.anchors // share, seed, least_mps)


def _move(
    moving: MovingConfig,
    loaded: Checkpoint,
    dataset: Dataset,
    scenes: list[DreamScene],
    anchors: list[int],
    out: Path,
    config: DreamConfig,
    seed: int,
    progress: Callable[[int, int], None],
) -> None:
    """Dreams that move the model itself: train, judge, and write what `dream` writes."""
    rewarded = RollOuts.of(scenes, config.reward, config.terms, config.horizon_s)
    rows = [scene.frame_row for scene in scenes]
    before = read_frames(VlaDriver(loaded.model, loaded.tokenizer), dataset, [*rows, *anchors])
    dreams = MovingDreams(
        scenes, loaded.model, dataset, anchors, before.words, rewarded, moving, GroupConfig.of(config),
        config.updates, seed,
    )  # fmt: skip
    state = out / STATE_FILE
    if state.exists():
        dreams.load(state)
    while dreams.update < config.updates:
        dreams.step()
        progress(dreams.update, config.updates)
        if dreams.update % STATE_EVERY == 0 and processes().leads:
            dreams.save(state)
    model = dreams.finish()
    after = read_frames(VlaDriver(model, loaded.tokenizer), dataset, rows)
    _write_json(out / "curves.json", dreams.curves)
    judged = gains(scenes, *(driven_rewards(rewarded, one) for one in (before, after)))
    _write_json(out / "before_after.json", judged)
    shown = [
        fan_around(scenes[row], row, (before, after), config, seed)
        for row in shown_scenes(scenes, _rises(judged))
    ]
    _write_json(out / "fans.json", shown)
    if processes().leads:
        save_checkpoint(out / "model", Checkpoint(model, loaded.tokenizer, rig=common_rig([dataset])))
        state.unlink(missing_ok=True)


def _choose_words(
    loaded: Checkpoint,
    driver: VlaDriver,
    dataset: Dataset,
    scenes: list[DreamScene],
    anchors: list[int],
    out: Path,
    config: DreamConfig,
    seed: int,
    progress: Callable[[int, int], None],
    engine: Executor | None,
    closed: ClosedDreams | None,
) -> None:
    """Dreams that choose words: read, roll out, learn, and write what `dream` writes.

    Once all is rewarded learning takes seconds; only the episodes of `closed` dreams are kept to go on from.
    """
    ids = opening_ids(loaded.tokenizer)
    if closed is not None:
        scenes = closed.scenes = [scenes[row] for row in closed.branching()]
    told = read_openings(driver, dataset, [scene.frame_row for scene in scenes])
    anchor = read_openings(driver, dataset, anchors)
    branches = out / BRANCHES_FILE
    if closed is not None:
        scores = told.scores
        if loaded.opening is not None:
            with torch.no_grad():
                scores = scores + loaded.opening(told.features, told.speed_mps)
        share = torch.softmax(scores, dim=1).numpy()
        settings = json.dumps(asdict(config))
        earned = closed.branches(range(len(scenes)), share, ids, progress, branches, settings)
    else:
        with (engine or InProcess()).crew(
            RollOuts.of(scenes, config.reward, config.terms, config.horizon_s)
        ) as crew:
            earned = rewards_of(crew, told.route_ego.numpy(), told.waypoints_ego.numpy())
    dreams = SpokenDreams(scenes, told, earned, anchor, config, ids, seed, loaded.opening)
    while dreams.update < config.updates:
        dreams.step()
        progress(dreams.update, config.updates)
    _write_json(out / "curves.json", dreams.curves)
    judged = dreams.before_after()
    _write_json(out / "before_after.json", judged)
    _write_json(out / "fans.json", dreams.fans(_rises(judged), closed))
    if processes().leads:
        rig = common_rig([dataset])
        save_checkpoint(
            out / "model", Checkpoint(loaded.model, loaded.tokenizer, None, rig, dreams.head.eval())
        )
        branches.unlink(missing_ok=True)


def _rises(judged: Mapping[str, Any]) -> NDArray[np.float32]:
    """(S,) what each scene gained in reward."""
    before, after = (np.array(judged[f"rewards_{when}"], np.float32) for when in ("before", "after"))
    return after - before


def true_scenes(
    dataset: Dataset, config: DreamConfig, *, seed: int, maps_dir: Path | None = None
) -> tuple[list[DreamScene], DreamAudit]:
    """The scenes that pass the audit one by one, and the audit of all; it counts those left out."""
    return sifted(replayed_scenes(dataset, config, seed=seed, maps_dir=maps_dir), config)


def replayed_scenes(
    dataset: Dataset, config: DreamConfig, *, seed: int, maps_dir: Path | None = None
) -> Rebuilt:
    """The scenes whose record can be replayed, true or not; the others are counted."""
    rebuilt = rebuild(
        dataset, starts_s=config.starts_s, horizon_s=config.horizon_s, reacting=config.reacting, seed=seed,
        maps_dir=maps_dir,
    )  # fmt: skip
    scenes = [scene for scene in rebuilt.scenes if config.limits.replays(scene)]
    left_out = Counter(rebuilt.left_out)
    left_out[UNREPLAYED] += len(rebuilt.scenes) - len(scenes)
    return Rebuilt(scenes, +left_out)


def sifted(rebuilt: Rebuilt, config: DreamConfig) -> tuple[list[DreamScene], DreamAudit]:
    """The true scenes among those whose record can be replayed, and the audit of all."""
    left_out = Counter(rebuilt.left_out)
    last = {scene.takeover: scene for scene in rebuilt.scenes}
    untrue = {name for name, scene in last.items() if not fails_as_recorded(scene)}
    kept = []
    for scene in rebuilt.scenes:
        if not expert_is_safe(scene):
            left_out["the expert's plans fail in the dream"] += 1
        elif scene.takeover in untrue:
            left_out["the recorded failure does not show in the dream"] += 1
        elif config.leaves_rest_out and scene.ego_speed_mps < MOVING_MPS:
            left_out["the ego stands, where no head has a say"] += 1
        elif scene.trigger not in config.triggers:
            left_out["a trigger that the recipe leaves out"] += 1
        else:
            kept.append(scene)
    return kept, audit(rebuilt.scenes, left_out, left_out[UNREPLAYED])


def _write_json(path: Path, content: object) -> None:
    if processes().leads:
        write_json(path, content)
