"""Which scenes may be dreamed: those whose record replays, and that are true one by one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from takevla.dataset.reader import Dataset
from takevla.driver.vla.residual import MOVING_MPS
from takevla.learn.dream.audit import DreamAudit, audit, expert_is_safe, fails_as_recorded
from takevla.learn.dream.config import DreamConfig
from takevla.learn.dream.reconstruct import Rebuilt, rebuild
from takevla.learn.dream.scenes import DreamScene

UNREPLAYED = "the record cannot be replayed"


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
