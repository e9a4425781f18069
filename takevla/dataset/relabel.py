"""Label a recorded collection anew, without driving it again: another window, or another grammar.

What a label is made of rests in the dataset: the takeovers with their alarms, the expert's reasons, and the
scenes around each takeover.  Roles and the enhanced commentary of the frames before a takeover are made
again; everything else is copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from takevla.dataset.reader import Dataset
from takevla.dataset.schema import FRAMES, LATER, SCENES, arrow_schema
from takevla.dataset.writer import Part, Writer
from takevla.scene.geometry import to_ego
from takevla.scene.plan import Action, Cause, Manoeuvre, Plan, Reason
from takevla.scene.scene import Scene
from takevla.takeover.commentary import planned_speed_mps
from takevla.takeover.enhance import enhanced, foreseen, urgent
from takevla.takeover.triggers import Alarm, Trigger

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Relabelled:
    """How many frames before takeovers have which label now."""

    takeovers: int
    frames: int
    enhanced: int


def relabel(source: Path, out: Path, window_s: float) -> Relabelled:
    """Write the collection `source` to the new dataset `out` with pre-takeover windows of `window_s`.

    Raises:
        ValueError: `source` was recorded with less of the past around takeovers than `window_s`, or holds
            none; `out` was begun with other settings.
    """
    dataset = Dataset(source)
    settings = dataset.meta.get("provenance", {}).get("takeover")
    if settings is None:
        raise ValueError(f"{source}: not a collection of takeovers; labels are made for those")
    if not 0.0 < window_s <= settings["scenes_before_s"]:
        most = settings["scenes_before_s"]
        raise ValueError(f"window: {window_s} s; {source} holds scenes from {most} s before a takeover")
    kept = {name: value for name, value in dataset.meta.items() if name not in {"format", "version"}}
    provenance = dataset.meta["provenance"] | {"takeover": settings | {"window_s": window_s}}
    writer = Writer(out, kept | {"provenance": provenance})
    episodes, takeovers = dataset.episodes.to_pylist(), dataset.takeovers.to_pylist()
    for name in sorted({row["part"] for row in episodes}):
        if writer.has(name):
            continue
        own = [row for row in episodes if row["part"] == name]
        ids = {row["episode"] for row in own}
        frames = pq.read_table(source / FRAMES / f"part-{name}.parquet").to_pylist()
        lacking = LATER - set(frames[0]) if frames else set()
        if lacking:
            raise ValueError(f"{source}: part {name} has no column '{min(lacking)}' yet; collect it anew")
        mine = [row for row in takeovers if row["episode"] in ids]
        for episode in sorted(ids):
            _label(
                dataset,
                [row for row in frames if row["episode"] == episode],
                [row for row in mine if row["episode"] == episode],
                window_s,
            )
        columns = {column: [row[column] for row in frames] for column in arrow_schema(FRAMES).names}
        recorded = source / SCENES / f"part-{name}.parquet"  # of calm driving too, which dreams start from
        scenes = pq.read_table(recorded).to_pydict() if recorded.is_file() else _empty(SCENES)
        writer.commit(Part(name, own, mine, columns, scenes))
    writer.finish()
    done = Dataset(out)
    before = done.column("role") == "pre_takeover"
    said = np.array(done.frames.column("enhanced_commentary").to_pylist(), dtype=object) != ""
    return Relabelled(len(done.takeovers), int(before.sum()), int((before & said).sum()))


def _empty(table: str) -> Mapping[str, list[Any]]:
    return {name: [] for name in arrow_schema(table).names}


def _label(dataset: Dataset, frames: list[Row], takeovers: list[Row], window_s: float) -> None:
    """Set role, takeover and enhanced commentary of one episode's frames, in place."""
    for row in frames:
        if row["role"] == "pre_takeover":
            row |= {"role": "other", "takeover": "", "enhanced_commentary": ""}
    by_time = {row["time_us"]: row for row in frames}
    for takeover in takeovers:
        now = takeover["start_us"]
        alarm = Alarm(
            Trigger[takeover["trigger"].upper()],
            takeover["detail"],
            takeover["measure"],
            Cause[takeover["cause"].upper()],
            takeover["cause_actor_id"],
            takeover["cause_kind"],
        )
        begin = now - round(window_s * 1e6)
        scenes = {scene.time_us: scene for scene in dataset.scenes(takeover["episode"], begin, now)}
        answer = _reason(by_time[now], scenes[now])
        takeover["window_start_us"] = now
        for row in reversed([row for row in frames if begin <= row["time_us"] < now]):
            if row["role"] != "other":
                break
            takeover["window_start_us"] = row["time_us"]
            row |= {"role": "pre_takeover", "takeover": takeover["takeover"]}
            scene = scenes[row["time_us"]]
            known = foreseen(alarm, _reason(row, scene), scene, (now - row["time_us"]) / 1e6)
            if known is not None:
                speed = float(row["speed_mps"])
                row["enhanced_commentary"] = enhanced(urgent(known, alarm, answer, speed), alarm, speed)


def _reason(row: Row, scene: Scene) -> Reason:
    """The expert's reason of a frame, from its columns and the actor it names."""
    plan = Plan(
        np.array(row["expert_route_ego"], np.float32).reshape(-1, 2),
        np.array(row["expert_waypoints_ego"], np.float32).reshape(-1, 2),
    )
    reason = Reason(
        action=Action(row["expert_action"]),
        manoeuvre=Manoeuvre(row["expert_manoeuvre"]),
        cause=Cause(row["expert_cause"]),
        target_speed_mps=planned_speed_mps(plan),
        distance_m=row["expert_cause_distance_m"],
        actor_id=row["expert_actor_id"],
        actor_kind=row["expert_cause_kind"],
    )
    found = np.flatnonzero(scene.actors.id == reason.actor_id)
    if len(found) == 0:
        return reason
    at = int(found[0])
    x, y = to_ego(scene.actors.position_world[at], scene.ego.position_world, scene.ego.heading_rad)
    return replace(
        reason, actor_position_ego=(float(x), float(y)), actor_speed_mps=float(scene.actors.speed_mps[at])
    )
