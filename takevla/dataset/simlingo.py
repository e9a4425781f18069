"""SimLingo's driving data read into ours.

Layout (benchmark facts 2.7): `data/simlingo/<a>/<b>/<c>/Town*_Rep*_*/{rgb/%04d.jpg,
measurements/%04d.json.gz, results.json.gz}`, 4 Hz, y to the right.  One run becomes one part with one
episode.  A frame needs the next ten, whose positions are its waypoints; so the last ten of a run are left
out.  Routes are resampled to 1 m from the ego on.

Runs that its own loader drops (facts 2.5) are left out.  One that is kept counts as successful, for it is
there to be learnt from; status, completion and infractions are those of its results.

Its bucket file (facts 2.6) adds its names, with `simlingo:` before them, to the column `buckets`; our own
buckets follow from speed, plan, option, manoeuvre and cause.

No scenes are written: its boxes name no lanes of a road map, so its frames serve pre-training, not dreams.
"""

from __future__ import annotations

import gzip
import json
import math
import pickle
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np
from numpy.typing import NDArray

from takevla.dataset.buckets import COLUMNS as BUCKET_COLUMNS
from takevla.dataset.buckets import bucket_names
from takevla.dataset.schema import FRAME_COLUMNS, SCENE_COLUMNS
from takevla.dataset.writer import Part, Writer
from takevla.scene.plan import (
    ROUTE_POINTS,
    SPEED_WAYPOINTS,
    WAYPOINT_PERIOD_US,
    Action,
    Cause,
    Manoeuvre,
    Reason,
)
from takevla.scene.route import RouteOption
from takevla.scene.sight import FIELDS, UNSEEN_KIND
from takevla.takeover.commentary import commentary
from takevla.world.camera.rig import SIMLINGO_RIG

RUN = re.compile(r"(?P<town>Town\w+?)_Rep\d+_.*")
META: Final = {
    "rig": SIMLINGO_RIG.settings(),
    "rates": {"plan_period_us": WAYPOINT_PERIOD_US},
    "provenance": {"source": "SimLingo", "licence": "Wayve, non-commercial research only"},
}
STANDS_MPS, SAME_SPEED_MPS = 0.2, 0.5  # bounds of SimLingo's speed words (facts 2.3)
TRAFFIC_STOP, TRAFFIC_LIGHT, WALKER = "traffic.stop", "traffic.traffic_light", "walker"
KEYS: Final = (  # of a measurement that are read
    "ego_matrix", "speed", "target_speed", "target_point", "target_point_next", "command", "next_command",
    "route", "steer", "throttle", "brake", "junction", "vehicle_hazard", "light_hazard", "walker_hazard",
    "stop_sign_hazard", "speed_reduced_by_obj_type", "speed_reduced_by_obj_distance", "changed_route",
    "route_original",
)  # fmt: skip
RESULTS: Final = "results.json.gz"
WHOLE_SCORE, KEPT_COMPLETION = 100.0, 94.0  # score and, where forgiven infractions lower it, % of the route
FORGIVEN: Final = ("min_speed_infractions", "outside_route_lanes")
SHIFT_M, BACK_WITHIN_M = 0.5, 10  # a detour's least distance from the route; where its end is looked for
BUCKET_PREFIX: Final = "simlingo:"
Measurement = Mapping[str, Any]


class _Plain(pickle.Unpickler):
    """Reads dictionaries, lists and strings; anything that would call code is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise ValueError(f"buckets: {module}.{name} in it is neither list nor text")


@dataclass(frozen=True)
class Result:
    """What a run's `results.json.gz` says of it."""

    status: str
    completion_percent: float
    infractions: list[str]  # categories that occurred


def import_simlingo_data(source: Path, out: Path, buckets: Path | None = None) -> Counter[str]:
    """Write the runs below `source` as the dataset `out`; continued where it was stopped.

    Returns how many runs were left out, by reason.

    Raises:
        FileNotFoundError: no run below `source`, or a measurement without its picture.
        ValueError: a measurement is broken, lacks a key, or is missing between two others; or every run is
            left out.
    """
    runs = sorted({path.parent for path in source.rglob("measurements") if RUN.fullmatch(path.parent.name)})
    if not runs:
        raise FileNotFoundError(
            f"{source}: no folder Town*_Rep*_*/measurements below it; give the folder that holds its data/"
        )
    names = read_buckets(buckets) if buckets is not None else {}
    results = [read_result(run) for run in runs]
    left_out = Counter(result for result in results if isinstance(result, str))
    if left_out.total() == len(runs):
        raise ValueError(f"{source}: no run is left ({left_out_words(left_out)})")
    writer = Writer(out, META)
    for number, (run, result) in enumerate(zip(runs, results, strict=True)):
        part = f"{number:05d}"
        if isinstance(result, Result) and not writer.has(part):
            writer.commit(read_run(run, part, names, result))
    writer.finish()
    return left_out


def left_out_words(left_out: Mapping[str, int]) -> str:
    """How many runs were left out and why, in a few words."""
    return ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))


def read_result(run: Path) -> Result | str:
    """How a run ended, or why it is left out: the filter of SimLingo's own loader (facts 2.5)."""
    path = run / RESULTS
    if not path.is_file():
        return f"without {RESULTS}"
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            content = json.load(file)
        scores, found = content["scores"], content["infractions"]
        happened = [name for name, messages in found.items() if messages]
        driven, composed = float(scores["score_route"]), float(scores["score_composed"])
        forgiven = sum(len(found[name]) for name in FORGIVEN) == content["num_infractions"]
        status = str(content.get("status", "Completed"))
    except (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError):
        return f"with a broken {RESULTS}"
    if composed < WHOLE_SCORE and not (driven > KEPT_COMPLETION and forgiven):
        return "failed"
    return Result(status, driven, happened)


def read_buckets(path: Path) -> dict[str, list[str]]:
    """Bucket names by run and frame, "<run>/0012", of a `buckets_paths.pkl`."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give SimLingo's buckets_paths.pkl, or no --buckets")
    with path.open("rb") as file:
        try:
            content = _Plain(file).load()
        except (pickle.UnpicklingError, EOFError, LookupError, AttributeError, TypeError) as error:
            raise ValueError(f"{path}: not a bucket file ({error})") from error
    if not isinstance(content, dict) or not all(isinstance(members, list) for members in content.values()):
        raise ValueError(f"{path}: not a bucket file (it holds no lists by bucket name)")
    found: dict[str, list[str]] = {}
    for bucket, members in content.items():
        for member in members:
            place = Path(member)
            found.setdefault(f"{place.parent.parent.name}/{place.name[:4]}", []).append(bucket)
    return found


def read_run(run: Path, part: str, buckets: Mapping[str, Sequence[str]], result: Result) -> Part:
    """One run as a part with one episode."""
    files = _files(run)
    measured = [_read(path) for path in files]
    matched = RUN.fullmatch(run.name)
    town = matched["town"] if matched else ""
    episode = f"{part}-{run.name}"
    rows = []
    for index in range(len(measured) - SPEED_WAYPOINTS):
        try:
            rows.append(_frame(measured, index))
        except (TypeError, ValueError, IndexError) as error:
            raise ValueError(f"{files[index]}: not a measurement ({error})") from error
    count = len(rows)
    columns: dict[str, Any] = {column.name: _blank(column.type, count) for column in FRAME_COLUMNS}
    for name in rows[0] if rows else ():
        columns[name] = [row[name] for row in rows]
    columns |= {
        "episode": [episode] * count,
        "frame": list(range(count)),
        "time_us": [index * WAYPOINT_PERIOD_US for index in range(count)],
        "driver": ["expert"] * count,
        "phase": ["autonomous"] * count,
        "role": ["pretrain"] * count,
        "image": [_picture(files[index]) for index in range(count)],
        "seen_ego": [[float(UNSEEN_KIND)] * FIELDS] * count,
    }
    columns["policy_route_ego"] = np.full((count, 2 * ROUTE_POINTS), np.nan, np.float32)
    columns["policy_waypoints_ego"] = np.full((count, 2 * SPEED_WAYPOINTS), np.nan, np.float32)
    ours = bucket_names({name: np.asarray(columns[name]) for name in BUCKET_COLUMNS}) if count else []
    columns["buckets"] = [
        own + [BUCKET_PREFIX + name for name in buckets.get(f"{run.name}/{files[index].name[:4]}", ())]
        for index, own in enumerate(ours)
    ]
    row: dict[str, Any] = {
        "episode": episode, "part": part, "route": run.name, "town": town, "scenario": run.parent.name,
        "keypoints_world": [], "seed": 0, "driver": "expert", "frames": count,
        "duration_us": len(measured) * WAYPOINT_PERIOD_US, "success": True, "status": result.status,
        "first_failure_us": -1, "infractions": result.infractions, "scenario_note": "",
        "completion_percent": result.completion_percent,
        "distance_m": float(sum(m["speed"] for m in measured) * WAYPOINT_PERIOD_US / 1e6),
    }  # fmt: skip
    return Part(part, [row], [], columns, {column.name: [] for column in SCENE_COLUMNS})


def _frame(measured: Sequence[Measurement], index: int) -> dict[str, Any]:
    """The columns of one frame that its measurements give."""
    now = measured[index]
    inverse = np.linalg.inv(np.asarray(now["ego_matrix"], np.float64))
    later = [np.asarray(m["ego_matrix"], np.float64)[:, 3] for m in measured[index + 1 :][:SPEED_WAYPOINTS]]
    waypoints = _left(np.stack([inverse @ point for point in later])[:, :2])
    reason = _reason(now, [float(m["target_speed"]) for m in measured[index : index + 5]])
    world = np.asarray(now["ego_matrix"], np.float64)
    return {
        "speed_mps": float(now["speed"]),
        "target_points_ego": _left(np.array([now["target_point"], now["target_point_next"]])[:, :2]).ravel(),
        "option": _option(now["command"]),
        "next_option": _option(now["next_command"]),
        "position_world": (world[0, 3], -world[1, 3], world[2, 3]),
        "heading_rad": -math.atan2(world[1, 0], world[0, 0]),
        "expert_route_ego": _route(_left(np.asarray(now["route"], np.float64)[:, :2])).ravel(),
        "expert_waypoints_ego": waypoints.astype(np.float32).ravel(),
        "expert_commentary": commentary(reason, float(now["speed"])),
        "expert_action": int(reason.action),
        "expert_manoeuvre": int(reason.manoeuvre),
        "expert_cause": int(reason.cause),
        "expert_cause_distance_m": reason.distance_m,
        "expert_cause_kind": -1,
        "expert_actor_id": -1,
        "expert_target_speed_mps": float(now["target_speed"]),
        "applied_controls": [-float(now["steer"]), float(now["throttle"]), float(now["brake"])],
    }


def _reason(now: Measurement, targets: Sequence[float]) -> Reason:
    """Why the expert did what it did, as far as its flags tell."""
    speed, target = float(now["speed"]), float(np.mean(targets))
    if abs(speed - target) < SAME_SPEED_MPS:
        still = target < STANDS_MPS
        action = (
            Action.MAINTAIN if not still else Action.REMAIN_STOPPED if speed < STANDS_MPS else Action.STOP
        )
    else:
        action = Action.ACCELERATE if speed < target else Action.DECELERATE
    kind, distance = str(now["speed_reduced_by_obj_type"] or ""), now["speed_reduced_by_obj_distance"]
    if now["walker_hazard"] or kind.startswith(WALKER):
        cause = Cause.PEDESTRIAN
    elif now["vehicle_hazard"]:
        cause = Cause.CROSSING_VEHICLE
    elif now["light_hazard"] or kind == TRAFFIC_LIGHT:
        cause = Cause.RED_LIGHT
    elif now["stop_sign_hazard"] or kind == TRAFFIC_STOP:
        cause = Cause.STOP_SIGN
    elif kind.startswith("vehicle"):
        cause = Cause.LEADER
    elif kind.startswith("static"):
        cause = Cause.OBSTACLE
    else:
        cause = Cause.JUNCTION if now["junction"] else Cause.FREE_ROAD
    away = float(distance) if distance is not None and cause != Cause.FREE_ROAD else math.inf
    return Reason(action, _manoeuvre(now), cause, float(now["target_speed"]), distance_m=away)


def _manoeuvre(now: Measurement) -> Manoeuvre:
    """Where the route was moved aside: round something, or back, if half of the shift is soon gone."""
    if not now["changed_route"]:
        return Manoeuvre.FOLLOW_ROUTE
    moved, planned = (_left(np.asarray(now[name], np.float64)[:, :2]) for name in ("route", "route_original"))
    count = min(len(moved), len(planned))
    if count < 2:
        return Manoeuvre.FOLLOW_ROUTE
    along = np.gradient(planned[:count], axis=0)
    aside = moved[:count] - planned[:count]
    shift_m = (along[:, 0] * aside[:, 1] - along[:, 1] * aside[:, 0]) / np.hypot(*along.T).clip(1e-6)
    widest_m = float(shift_m[np.abs(shift_m).argmax()])
    if abs(widest_m) < SHIFT_M:
        return Manoeuvre.FOLLOW_ROUTE
    if 2.0 * abs(shift_m[:BACK_WITHIN_M][-1]) < abs(shift_m[0]):
        return Manoeuvre.RETURN_TO_LANE
    return Manoeuvre.GO_AROUND_LEFT if widest_m > 0.0 else Manoeuvre.GO_AROUND_RIGHT


def _route(points: NDArray[np.float64]) -> NDArray[np.float32]:
    """(20, 2): points 1 to 20 m from the ego along its route; straight on behind its end."""
    path = np.concatenate([np.zeros((1, 2)), points])
    lengths = np.linalg.norm(np.diff(path, axis=0), axis=1)
    path = path[np.concatenate([[True], lengths > 1e-6])]
    s = np.concatenate([[0.0], np.linalg.norm(np.diff(path, axis=0), axis=1).cumsum()])
    wanted = np.arange(1.0, ROUTE_POINTS + 1.0)
    if len(path) < 2:
        return np.stack([wanted, np.zeros(ROUTE_POINTS)], axis=1).astype(np.float32)
    inside = np.stack([np.interp(wanted, s, path[:, axis]) for axis in range(2)], axis=1)
    ahead = (path[-1] - path[-2]) / (s[-1] - s[-2])
    return (inside + np.clip(wanted - s[-1], 0.0, None)[:, None] * ahead).astype(np.float32)


def _left(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """From y to the right to y to the left."""
    return points * np.array([1.0, -1.0])


def _option(command: int) -> int:
    """SimLingo numbers them as CARLA does; what is none of them follows the lane."""
    return int(command) if command in set(RouteOption) else int(RouteOption.LANE_FOLLOW)


def _files(run: Path) -> list[Path]:
    """The measurements of a run in order; none may be missing between two, for their numbers are instants."""
    files = sorted((run / "measurements").glob("[0-9][0-9][0-9][0-9].json.gz"))
    for before, after in pairwise(files):
        due = f"{int(before.name[:4]) + 1:04d}.json.gz"
        if after.name != due:
            raise ValueError(f"{after.with_name(due)}: missing; copy the run anew or take its folder away")
    return files


def _picture(measurement: Path) -> bytes:
    path = measurement.parents[1] / "rgb" / f"{measurement.name[:4]}.jpg"
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: missing; copy the run anew or take its folder away") from error


def _blank(kind: Any, count: int) -> Any:
    """Zeros, empty lists or empty texts for a column that SimLingo's data do not tell."""
    if hasattr(kind, "list_size"):
        return np.zeros((count, kind.list_size), np.float32)
    if str(kind).startswith("list"):
        return [[] for _ in range(count)]
    empty: dict[str, Any] = {"string": "", "binary": b"", "bool": False}
    return [empty.get(str(kind), 0)] * count


def _read(path: Path) -> Measurement:
    try:
        file: TextIO
        with gzip.open(path, "rt", encoding="utf-8") as file:  # type: ignore[assignment]
            content: Measurement = json.load(file)
    except (OSError, EOFError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not a measurement ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: not a measurement (a {type(content).__name__}, no object)")
    missing = [key for key in KEYS if key not in content]
    if missing:
        raise ValueError(f"{path}: no '{missing[0]}' in it")
    if np.shape(content["ego_matrix"]) != (4, 4):
        raise ValueError(f"{path}: not a measurement (ego_matrix is not 4 x 4)")
    return content
