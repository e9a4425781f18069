"""A made-up run directory, for the tests of the report."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from made_up_outcomes import random_outcomes
from PIL import Image

from takevla.bench.abilities import ABILITIES
from takevla.bench.leaderboard_json import leaderboard
from takevla.bench.metrics import metrics
from takevla.bench.provenance import run_facts
from takevla.dataset.scenes import scene_columns
from takevla.dataset.schema import EPISODE_COLUMNS, FRAME_COLUMNS, TAKEOVER_COLUMNS, Column
from takevla.dataset.writer import Part, Writer
from takevla.files import write_json
from takevla.scene.actors import Actors
from takevla.scene.scene import Controls, Ego, Scene, Weather
from takevla.world.maps.atlas import load_town

TYPES = sorted(frozenset().union(*ABILITIES.values()))
TRIGGERS = (
    ("collision", "overlap", "pedestrian", "DynamicObjectCrossing"),
    ("follow", "headway", "leader", "HardBreakRoute"),
    ("restart", "standing", "free_road", "ParkedObstacle"),
    ("rule", "line", "red_light", "VanillaSignalizedTurnEncounterRedLight"),
    ("follow", "lateral", "junction", "T_Junction"),
)
FRAMES, TAKEOVER_AT = 24, 12
PERIOD_US = 250_000
Paint = Callable[[Scene], np.ndarray]


def stripes(scene: Scene) -> np.ndarray:
    """A picture that needs no renderer."""
    rows = np.linspace(200, 20 + 8 * (scene.time_us // PERIOD_US), 16).astype(np.uint8)[:, None, None]
    return np.broadcast_to(rows, (16, 32, 3)).copy()


def scene_at(index: int, step: int, origin: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Scene:
    x, y, heading = origin
    ahead = 6.0 * step * PERIOD_US * 1e-6

    def place(forward: float, left: float) -> list[float]:
        c, s = math.cos(heading), math.sin(heading)
        return [x + c * forward - s * left, y + s * forward + c * left, 0.0]

    def row(*values: float) -> Any:
        return np.array(values, np.float32)

    ego = Ego(
        row(*place(ahead, 0.0)), heading, 6.0, 0.0, 0.0, 0.0, Controls(0.0, 0.4, 0.0), row(4.9, 2.1, 1.5)
    )
    actors = Actors(
        np.array([1, 2], np.int32),
        np.array([0, 11], np.int8),
        np.array([0, 1], np.int8),
        np.array([1, 128], np.int16),
        np.array([place(42.0 + 0.3 * ahead, 0.0), place(30.0, 4.0 - 0.2 * step)], np.float32),
        row(heading, heading - math.pi / 2),
        row(2.0, 1.5),
        row(-1.0, 0.0),
        row(0.0, 0.0),
        np.array([[4.5, 1.9, 1.5], [0.5, 0.5, 1.8]], np.float32),
        np.array([0, -1], np.int32),
        np.ones(2, np.bool_),
    )
    lights = np.zeros(len(load_town("Alder01").signals), np.int8)
    return Scene(step * PERIOD_US, "Alder01", ego, actors, lights, Weather())


def _blank(column: Column) -> Any:
    kind = str(column.type)
    if "fixed_size_list" in kind:
        return np.zeros(column.type.list_size, np.float32)
    if kind.startswith("list"):
        return []
    if kind == "bool":
        return False
    return "" if kind == "string" else 0


def _jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def part(number: int, paint: Paint, origin: tuple[float, float, float], rehearsal: bool = False) -> Part:
    trigger, detail, cause, scenario = TRIGGERS[number % len(TRIGGERS)]
    name, episode = f"{number:05d}", f"{number:05d}-made-up"
    scenes = [scene_at(number, step, origin) for step in range(FRAMES)]
    columns: dict[str, list[Any]] = {column.name: [] for column in FRAME_COLUMNS}
    for step, scene in enumerate(scenes):
        own = {column.name: _blank(column) for column in FRAME_COLUMNS}
        taken = TAKEOVER_AT <= step < TAKEOVER_AT + 8 and not rehearsal
        before = TAKEOVER_AT - 8 <= step < TAKEOVER_AT and not rehearsal
        fast = np.linspace(1.5, 15.0, 10)
        slow = 6.0 * np.cumsum(np.linspace(0.24, 0.02, 10))
        along = np.arange(1.0, 21.0)
        bend = 0.002 * along**2
        own |= {
            "episode": episode,
            "frame": step,
            "time_us": scene.time_us,
            "driver": "expert" if taken else "policy",
            "phase": "taken_over" if taken else "autonomous",
            "takeover": f"{episode}-0" if taken or before else "",
            "role": "pretrain"
            if rehearsal
            else "takeover"
            if taken
            else "pre_takeover"
            if before
            else "other",
            "image": _jpeg(paint(scene)),
            "past_image": b"",
            "speed_mps": 6.0,
            "target_points_ego": np.array([20.0, 0.0, 50.0, 0.0], np.float32),
            "option": 4,
            "next_option": 4,
            "policy_route_ego": np.stack([along, bend], 1).ravel().astype(np.float32),
            "policy_waypoints_ego": np.stack([fast, 0.002 * fast**2], 1).ravel().astype(np.float32),
            "expert_route_ego": np.stack([along, 0 * along], 1).ravel().astype(np.float32),
            "expert_waypoints_ego": np.stack([slow, 0 * slow], 1).ravel().astype(np.float32),
            "policy_commentary": "Maintain your speed, the road is free.",
            "expert_commentary": "Slow down to 2 m/s for the pedestrian who crosses ahead.",
            "enhanced_commentary": "Brake now, the pedestrian from the left is crossing!" if before else "",
        }
        for key, value in own.items():
            columns[key].append(value)
    episode_row = {column.name: _blank(column) for column in EPISODE_COLUMNS} | {
        "episode": episode,
        "part": name,
        "route": str(number),
        "town": "Alder01",
        "scenario": scenario,
        "frames": FRAMES,
        "success": number % 3 > 0,
        "status": "Completed",
    }
    takeover_row = {column.name: _blank(column) for column in TAKEOVER_COLUMNS} | {
        "takeover": f"{episode}-0",
        "episode": episode,
        "route": str(number),
        "town": "Alder01",
        "scenario": scenario,
        "trigger": trigger,
        "detail": detail,
        "cause": cause,
        "start_us": TAKEOVER_AT * PERIOD_US,
        "end_us": (TAKEOVER_AT + 8) * PERIOD_US,
        "end": "clear",
    }
    takeovers = [] if rehearsal else [takeover_row]
    return Part(name, [episode_row], takeovers, columns, scene_columns([(episode, one) for one in scenes]))


def write_takeovers(
    path: Path,
    episodes: int = 5,
    paint: Paint = stripes,
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
    rehearsal: bool = False,
) -> None:
    meta = {"rig": {"width": 32, "height": 16}, "rates": {"plan_period_us": PERIOD_US}, "provenance": {}}
    writer = Writer(path, meta)
    for number in range(episodes):
        writer.commit(part(number, paint, origin, rehearsal))
    writer.finish()


def write_evaluation(path: Path, skill: float, seed: int) -> None:
    outcomes = random_outcomes(TYPES, skill, seed)
    write_json(path / "results.json", leaderboard(outcomes, len(outcomes)))
    write_json(path / "metrics.json", metrics(outcomes, len(outcomes), wall_s=90.0))
    write_json(path / "run.json", run_facts("evaluate", 0, {"driver": "made up"}, 90.0))


def write_learning(path: Path) -> None:
    steps = np.arange(20, 620, 20)
    fall = np.exp(-steps / 200.0)
    curves = [
        {
            "step": int(step),
            "learning_rate": float(1e-4 * (1 - step / 620)),
            "total": float(1.0 + 2.0 * f),
            "words": float(0.4 + f),
            "route": float(0.1 + 0.2 * f),
            "waypoints": float(0.2 + 0.4 * f),
        }
        for step, f in zip(steps, fall, strict=True)
    ]
    bucket = {"frames": 900, "distinct": 640, "most_repeats": 2, "asked_ratio": 0.5, "actual_ratio": 0.48}
    audit = {
        "epochs": 4,
        "draws": 2560,
        "distinct": 1900,
        "most_repeats": 3,
        "max_repeats": 8,
        "buckets": [
            bucket | {"bucket": name, "draws": 1280} for name in ("takeover", "pre_takeover", "red_light")
        ],
    }
    write_json(path / "sft" / "curves.json", curves)
    write_json(path / "sft" / "mixture.json", audit)
    write_json(path / "sft" / "sft.json", {"trained_weights": 5758996})
    generator = np.random.Generator(np.random.PCG64(5))
    before = generator.uniform(-1.0, 0.5, 60)
    after = np.minimum(before + generator.uniform(-0.1, 0.6, 60), 1.0)
    write_json(
        path / "dream" / "curves.json",
        [{"update": i, "reward": -0.3 + 0.02 * i, "failure_rate": 0.4 - 0.01 * i} for i in range(30)],
    )
    write_json(
        path / "dream" / "before_after.json",
        {
            "scenes": 60,
            "reward_before": float(before.mean()),
            "reward_after": float(after.mean()),
            "rewards_before": before.tolist(),
            "rewards_after": after.tolist(),
        },
    )
    here = np.linspace(0.0, 20.0, 11)
    tried = [np.stack([here, share * here], axis=1).tolist() for share in (0.0, -0.1, 0.1)]
    told = {"paths": tried, "terms": {"progress": 0.5, "comfort": 1.0}}
    write_json(
        path / "dream" / "fans.json",
        [
            {
                "takeover": "r1-t0", "trigger": "follow", "detail": "headway", "ego_extent_m": [4.9, 2.1],
                "road": base64.b64encode(np.packbits(np.ones((240, 240), bool)).tobytes()).decode(),
                "road_shape": [240, 240], "actors": [[12.0, 3.5, 0.0, 2.0]],
                "actors_after": [[20.0, 3.5, 0.0]], "actor_extents_m": [[4.6, 1.9]],
                "closed_lines": [[15.0, 1.75, 15.0, -1.75]], "recorded": tried[1], "expert": tried[2],
                "before": {"reward": [0.1, 0.2, 0.3], **told}, "after": {"reward": [0.6, 0.5, 0.9], **told},
            }
        ],
    )  # fmt: skip
    write_json(
        path / "dream" / "audit.json",
        {
            "scenes": 60,
            "takeovers": 21,
            "recall_collision": 0.91,
            "recall_follow": 0.8,
            "recall_restart": None,
            "expert_success": 0.97,
            "left_out": {"the expert's plan fails in the dream": 2},
        },
    )


def write_run(path: Path, **dataset: Any) -> None:
    """A whole run, as the loop leaves it."""
    write_evaluation(path / "base_eval", 0.55, 1)
    write_takeovers(path / "rehearsal", rehearsal=True, **dataset)
    write_takeovers(path / "rounds" / "1" / "takeovers", **dataset)
    write_learning(path / "rounds" / "1")
    write_evaluation(path / "final_eval", 0.75, 1)
