"""Does what fails in the dream fail in the world?  The recorded plan driven on in both, from one instant.

A trigger foresees a failure by constant motion of the others; that is not yet a failure.  The embedded
world can be asked: it is brought to the takeover's last start frame as for ranking (`rank.Replayer`), and
the recorded plan is driven on there, prolonged as a dream prolongs it, beside traffic that acts by itself.
The world's own collisions, lights and stop signs then say whether the plan fails; of headways, courses and
standing, for which a world charges nothing, the drive is measured as it was.  The dream is held against that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from takevla.dataset.reader import Dataset
from takevla.driver.controller import STATE_SIZE, control_step
from takevla.learn.dream.audit import SAME_EVENT, AuditLimits, fails_as_recorded
from takevla.learn.dream.kinematics import prolong, reach_points
from takevla.learn.dream.rank import FAILURES, Replayer, arrives, as_lived, driven
from takevla.learn.dream.reconstruct import FrameIndex
from takevla.learn.dream.scenes import STEP_S, DreamScene
from takevla.learn.dream.simulate import TICKS_PER_STEP, Trajectories, measure, reactions, roll_out
from takevla.scene.geometry import to_ego, wrap_angle
from takevla.scene.scene import TICK_US, Controls, Scene
from takevla.world.embedded import EmbeddedWorld
from takevla.world.maps.route_xml import RouteTask

COMPARED_S, COMPARED_M = 2.0, 30.0  # when actors are compared, and how near to the ego
ASTRAY_M = 1.0  # an actor of the dream farther from the world's than this is astray


@dataclass(frozen=True)
class Verdict:
    """The world's word on takeovers, by trigger; rates are None where there was nothing to judge.

    `world_failures` counts the takeovers whose plan fails in the world, of those asked (`world_asked`);
    `world_recall_*` is the share of these failures that the dream shows; `world_false_*` the share of
    dreamed failures that the world does not know.  `actors_astray` is the share of actors within 30 m of
    the ego that are more than 1 m from the world's after 2 s of the same plan.
    """

    world_asked: dict[str, int]
    world_failures: dict[str, int]
    world_recall_collision: float | None
    world_recall_rule: float | None
    world_recall_follow: float | None
    world_recall_restart: float | None
    world_false_collision: float | None
    world_false_rule: float | None
    world_false_follow: float | None
    world_false_restart: float | None
    actors_astray: float | None
    actors_compared: int
    world_left_out: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def recalls(self) -> dict[str, float]:
        """The recalls that `AuditLimits` judge, as far as the world could be asked."""
        found = {f"recall_{trigger}": getattr(self, f"world_recall_{trigger}") for trigger in SAME_EVENT}
        return {name: value for name, value in found.items() if value is not None}


def world_verdict(
    dataset: Dataset,
    scenes: Sequence[DreamScene],
    tasks: Sequence[RouteTask],
    *,
    limits: AuditLimits,
    maps_dir: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Verdict:
    """Ask the world about the last start frame of every takeover of `scenes`.

    `tasks` are the routes that the dataset was collected on.
    """
    last = {scene.takeover: scene for scene in scenes if scene.trigger in SAME_EVENT}
    frames, replayer = FrameIndex(dataset), Replayer(dataset, tasks, maps_dir)
    takeovers = {row["takeover"]: row for row in dataset.takeovers.to_pylist()}
    left_out: Counter[str] = Counter()
    said: dict[str, list[tuple[bool, bool]]] = {trigger: [] for trigger in SAME_EVENT}  # dream, world
    apart: list[float] = []
    for done, scene in enumerate(last.values()):
        progress(done, len(last))
        what, begin = takeovers[scene.takeover], int(frames.time_us[scene.frame_row])
        episode = what["episode"]
        world, recorded = replayer.world(episode, begin), replayer.recorded(episode, begin)
        if world is None or recorded is None:
            left_out["its route is not among the given ones"] += 1
            continue
        if not arrives(world.scene(), recorded, limits):
            left_out["the replayed world is not where the record is"] += 1
            continue
        before = len(world.record().events)
        lived = drive_on(world, scene)
        events = {event for _, event, _ in world.record().events[before:]}
        if scene.trigger in FAILURES:
            fails = bool(events & FAILURES[scene.trigger])
        elif len(lived) <= scene.steps:
            left_out["the route ends within the dream"] += 1
            continue
        else:
            there = as_lived(what, scene.frame_row, lived, world, frames)
            fails = SAME_EVENT[scene.trigger](there, measure(there, Trajectories.of(driven(lived)[None])))
        said[scene.trigger].append((fails_as_recorded(scene), fails))
        if len(lived) > round(COMPARED_S / STEP_S) and not events:
            apart += actors_apart(scene, lived)
    return Verdict(
        world_asked={trigger: len(rows) for trigger, rows in said.items()},
        world_failures={trigger: sum(lives for _, lives in rows) for trigger, rows in said.items()},
        **{
            f"world_recall_{trigger}": _share([dreams for dreams, lives in rows if lives])
            for trigger, rows in said.items()
        },
        **{
            f"world_false_{trigger}": _share([not lives for dreams, lives in rows if dreams])
            for trigger, rows in said.items()
        },
        actors_astray=_share([away > ASTRAY_M for away in apart]),
        actors_compared=len(apart),
        world_left_out=dict(left_out),
    )


def _share(values: list[bool]) -> float | None:
    return float(np.mean(values)) if values else None


def drive_on(world: EmbeddedWorld, scene: DreamScene) -> list[Scene]:
    """Drive the recorded plan for the dream's length; the scene every `STEP_S`, the first included."""
    plan, seconds = scene.policy_plan, scene.steps * STEP_S
    reach = reach_points(scene.ego_speed_mps, plan.waypoints_ego[None], seconds)
    line = np.empty((max(reach, len(plan.route_ego)) + 1, 2), np.float32)
    prolong(np.ascontiguousarray(plan.route_ego, np.float32), scene.way, line)
    route, waypoints = line[1:].astype(np.float64), plan.waypoints_ego.astype(np.float64)
    state, start = np.zeros(STATE_SIZE), world.ego()
    origin, heading = start.position_world[:2].astype(np.float64), float(start.heading_rad)
    scenes = [world.scene()]
    for tick in range(scene.steps * TICKS_PER_STEP):
        if world.finished:
            break
        ego = world.ego()
        turned = wrap_angle(ego.heading_rad - heading)  # type: ignore[no-untyped-call]
        moved = np.array([*to_ego(ego.position_world[:2], origin, heading), turned])
        world.tick(
            Controls(*control_step(state, route, waypoints, moved, ego.speed_mps, tick * TICK_US * 1e-6))
        )
        if (tick + 1) % TICKS_PER_STEP == 0:
            scenes.append(world.scene())
    return scenes


def actors_apart(scene: DreamScene, lived: Sequence[Scene]) -> list[float]:
    """How far (m) the dream's actors near the ego are from the world's at `COMPARED_S` of the same plan."""
    step, start, then = round(COMPARED_S / STEP_S), lived[0].ego, lived[round(COMPARED_S / STEP_S)]
    plan = scene.policy_plan
    driven = roll_out(scene, plan.route_ego[None], plan.waypoints_ego[None], scene.steps)
    dreamed = _places(scene, driven, step)
    origin, heading = start.position_world[:2].astype(np.float64), float(start.heading_rad)
    here = to_ego(then.actors.position_world[:, :2], origin, heading)
    ego = to_ego(then.ego.position_world[:2], origin, heading)
    slot_of = {actor: slot for slot, actor in enumerate(scene.actor_id.tolist())}
    return [
        float(np.hypot(*(dreamed[slot_of[actor]] - place)))
        for actor, place, valid in zip(then.actors.id.tolist(), here, then.actors.valid, strict=True)
        if valid and actor in slot_of and np.hypot(*(place - ego)) < COMPARED_M
    ]


def _places(scene: DreamScene, driven: Trajectories, step: int) -> NDArray[np.float32]:
    """(A, 2) where the actors are at a step beside the first trajectory."""
    places, slot = scene.actor_pose[step, :, :2].copy(), scene.arrays.slot
    places[slot >= 0] = reactions(scene, driven)[0, slot[slot >= 0], step, :2, 0]
    return places
