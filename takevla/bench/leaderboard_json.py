"""The CARLA leaderboard's result file: written for our own evaluations, read from anybody's (benchmark
facts 1.3).

Two forms are read: the leaderboard's own (`_checkpoint` with `progress` and `global_record`) and
Bench2Drive's `merged.json` (`_checkpoint.records`, `driving score`, `success rate`, `eval num`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from takevla.bench.outcome import INFRACTIONS, RouteOutcome
from takevla.bench.scores import ROUND_DIGITS, SCORE_DIGITS, success_rate

BENCH2DRIVE_ROUTES = 220  # merged.json always divides by it
_ROUTE_ID = re.compile(r"^(?:RouteScenario_)?(.+?)(?:_rep(\d+))?$")
_METRES = re.compile(r"about\s+(\d+(?:\.\d+)?)\s+met")
_KNOWN = {
    "index", "route_id", "scenario_name", "weather_id", "save_name", "town_name", "status", "num_infractions",
    "infractions", "scores", "meta",
}  # fmt: skip
# Order of `values` and `labels`: (label, key of the infractions per km).
_LABELS = (
    ("Collisions with pedestrians", "collisions_pedestrian"),
    ("Collisions with vehicles", "collisions_vehicle"),
    ("Collisions with layout", "collisions_layout"),
    ("Red lights infractions", "red_light"),
    ("Stop sign infractions", "stop_infraction"),
    ("Off-road infractions", "outside_route_lanes"),
    ("Route deviations", "route_dev"),
    ("Route timeouts", "route_timeout"),
    ("Agent blocked", "vehicle_blocked"),
    ("Yield emergency vehicles infractions", "yield_emergency_vehicle_infractions"),
    ("Scenario timeouts", "scenario_timeouts"),
    ("Min speed infractions", "min_speed_infractions"),
)


@dataclass(frozen=True)
class ResultFile:
    """What a result file says."""

    outcomes: tuple[RouteOutcome, ...]
    asked: int  # routes that the evaluation was asked to drive
    form: str  # "leaderboard" or "merged"
    recorded: Mapping[str, float]  # global scores as the file states them, by their names there


def record(index: int, outcome: RouteOutcome) -> dict[str, Any]:
    """One entry of `_checkpoint.records`."""
    route_id = f"RouteScenario_{outcome.route_id}_rep{outcome.repetition}"
    name = (route_id, outcome.town, outcome.scenario_name, outcome.weather_id)
    return {
        "index": index,
        "route_id": route_id,
        "scenario_name": outcome.scenario_name,
        "weather_id": outcome.weather_id,
        "save_name": "_".join(str(part) for part in name if part not in (None, "")),
        "town_name": outcome.town,
        "status": outcome.status,
        "num_infractions": sum(len(messages) for messages in outcome.infractions.values()),
        "infractions": {name: list(outcome.infractions.get(name, ())) for name in INFRACTIONS},
        "scores": {
            "score_route": outcome.score_route,
            "score_penalty": outcome.score_penalty,
            "score_composed": outcome.score_composed,
        },
        "meta": {
            "route_length": round(outcome.route_length_m, ROUND_DIGITS),
            "duration_game": round(outcome.duration_game_s, ROUND_DIGITS),
            "duration_system": round(outcome.duration_system_s, ROUND_DIGITS),
        },
    }


def _amount(outcome: RouteOutcome, key: str) -> float:
    messages = outcome.infractions.get(key, ())
    if key != "outside_route_lanes":
        return len(messages)
    metres = [float(match.group(1)) for message in messages if (match := _METRES.search(message))]
    return sum(metres) / 1000.0


def global_record(outcomes: Sequence[RouteOutcome], asked: int) -> dict[str, Any]:
    """The `global_record`: means over the routes asked, infractions per km driven, exceptions."""
    names = ("score_composed", "score_route", "score_penalty")
    mean = {name: round(sum(getattr(one, name) for one in outcomes) / asked, SCORE_DIGITS) for name in names}
    spread = {
        name: round(
            math.sqrt(sum((getattr(one, name) - mean[name]) ** 2 for one in outcomes) / (asked - 1)), 3
        )
        if asked > 1
        else 0
        for name in names
    }
    km = max(sum(one.route_length_m / 1000.0 * one.score_route / 100.0 for one in outcomes), 0.001)
    infractions = {}
    for key in INFRACTIONS:
        amount = sum(_amount(one, key) for one in outcomes)
        infractions[key] = round(amount if key == "outside_route_lanes" else amount / km, ROUND_DIGITS)
    failed = [(i, one) for i, one in enumerate(outcomes) if not one.finished]
    perfect = all(one.status == "Perfect" for one in outcomes)
    return {
        "index": -1,
        "route_id": -1,
        "status": "Failed" if failed else "Perfect" if perfect else "Completed",
        "infractions": infractions,
        "scores_mean": mean,
        "scores_std_dev": spread,
        "meta": {
            "total_length": round(sum(one.route_length_m for one in outcomes), ROUND_DIGITS),
            "duration_game": round(sum(one.duration_game_s for one in outcomes), ROUND_DIGITS),
            "duration_system": round(sum(one.duration_system_s for one in outcomes), ROUND_DIGITS),
            "exceptions": [
                [f"RouteScenario_{one.route_id}_rep{one.repetition}", i, one.status] for i, one in failed
            ],
        },
    }


def leaderboard(outcomes: Sequence[RouteOutcome], asked: int, finished: bool = True) -> dict[str, Any]:
    """The whole result file of an evaluation of `asked` routes."""
    whole = global_record(outcomes, asked)
    values = [whole["scores_mean"][name] for name in ("score_composed", "score_route", "score_penalty")]
    values += [whole["infractions"][key] for _, key in _LABELS]
    return {
        "_checkpoint": {
            "global_record": whole if finished else {},
            "progress": [len(outcomes), asked],
            "records": [record(index, outcome) for index, outcome in enumerate(outcomes)],
        },
        "entry_status": "Finished" if finished else "Started",
        "eligible": finished,
        "sensors": [],
        "values": [str(value) for value in values] if finished else [],
        "labels": [
            "Avg. driving score",
            "Avg. route completion",
            "Avg. infraction penalty",
            *(label for label, _ in _LABELS),
        ]
        if finished
        else [],
    }


def merged(outcomes: Sequence[RouteOutcome], asked: int = BENCH2DRIVE_ROUTES) -> dict[str, Any]:
    """Bench2Drive's merged form: no index, sorted by route id downwards, missing routes count 0."""
    records = [record(0, outcome) for outcome in outcomes]
    for entry in records:
        del entry["index"]
    records.sort(key=lambda entry: entry["route_id"], reverse=True)
    return {
        "_checkpoint": {"records": records},
        "driving score": sum(outcome.score_composed for outcome in outcomes) / asked,
        "success rate": success_rate(outcomes, asked) / 100.0,
        "eval num": len(outcomes),
    }


def read_results(path: Path, asked: int | None = None) -> ResultFile:
    """Read a result file of either form.

    The number of routes asked is the given one, else the file's `progress`, else Bench2Drive's 220 for a
    merged file, else the number of records.  Keys that older or newer tools leave out are taken as empty; a
    record without id or scores is refused with a `ValueError` that names the file and the record.
    """
    try:
        content = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file") from error
    checkpoint: Any = content.get("_checkpoint") if isinstance(content, dict) else None
    checkpoint = checkpoint if isinstance(checkpoint, dict) else {}
    records = checkpoint.get("records")
    if not isinstance(records, list):
        raise ValueError(f"{path}: no _checkpoint.records, so not a leaderboard or merged result file")
    outcomes = tuple(_outcome(entry, f"{path}: record {i}") for i, entry in enumerate(records))
    form = "merged" if "eval num" in content or "driving score" in content else "leaderboard"
    progress: list[Any] = checkpoint.get("progress") or []
    if asked is None:
        if len(progress) == 2:
            asked = int(progress[1])
        else:
            asked = BENCH2DRIVE_ROUTES if form == "merged" else len(outcomes)
    asked = max(asked, len(outcomes), 1)
    return ResultFile(outcomes, asked, form, _recorded(content))


def _recorded(content: Mapping[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name in ("driving score", "success rate", "eval num"):
        if isinstance(content.get(name), int | float):
            found[name] = float(content[name])
    whole = content["_checkpoint"].get("global_record")
    means = whole.get("scores_mean") if isinstance(whole, dict) else None
    if isinstance(means, dict):
        found |= {name: float(value) for name, value in means.items() if isinstance(value, int | float)}
    return found


def _number(value: Any, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{place}: {value!r} is not a finite number")
    return float(value)


def _outcome(entry: Any, place: str) -> RouteOutcome:
    if not isinstance(entry, dict) or not isinstance(entry.get("scores"), dict):
        raise ValueError(f"{place}: no scores")
    match = _ROUTE_ID.match(str(entry.get("route_id") or ""))
    if match is None:
        raise ValueError(f"{place}: no route_id")
    scores = entry["scores"]
    meta = entry.get("meta") or {}
    infractions: dict[str, tuple[str, ...]] = dict.fromkeys(INFRACTIONS, ())
    for name, messages in (entry.get("infractions") or {}).items():
        if not isinstance(messages, list):
            raise ValueError(f"{place}: infractions.{name} is not a list of messages")
        infractions[name] = tuple(str(message) for message in messages)
    name = str(entry.get("scenario_name") or "")
    weather = entry.get("weather_id")
    return RouteOutcome(
        route_id=match.group(1),
        repetition=int(match.group(2) or 0),
        town=str(entry.get("town_name") or ""),
        scenario_type=re.sub(r"_\d+$", "", name),
        scenario_name=name,
        status=str(entry.get("status") or ""),
        infractions=infractions,
        score_route=_number(scores.get("score_route"), f"{place}: scores.score_route"),
        score_penalty=_number(scores.get("score_penalty"), f"{place}: scores.score_penalty"),
        score_composed=_number(scores.get("score_composed"), f"{place}: scores.score_composed"),
        route_length_m=_number(meta.get("route_length", 0.0), f"{place}: meta.route_length"),
        duration_game_s=_number(meta.get("duration_game", 0.0), f"{place}: meta.duration_game"),
        duration_system_s=_number(meta.get("duration_system", 0.0), f"{place}: meta.duration_system"),
        weather_id=weather if isinstance(weather, str | int) else None,
        extra={key: str(value) for key, value in entry.items() if key not in _KNOWN}
        | ({"save_name": str(entry["save_name"])} if entry.get("save_name") else {}),
    )
