"""A driving model small enough for tests, and made-up observations and frames for it."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast

from takevla.dataset.schema import EPISODE_COLUMNS, FRAME_COLUMNS, SCENE_COLUMNS, TAKEOVER_COLUMNS, Column
from takevla.dataset.writer import Part, Writer
from takevla.driver.vla.inputs import tiny_config
from takevla.driver.vla.model import TakeVLA
from takevla.driver.vla.settings import TinySize
from takevla.driver.vla.tokenizer import build_tokenizer
from takevla.scene.plan import Action, Cause, Observation
from takevla.takeover.commentary import corpus

SIZE = TinySize(
    tile_px=32,
    stem_width=8,
    stage_widths=(8, 16, 16),
    stage_blocks=(0, 0, 1),
    width=32,
    inner_width=64,
    layers=2,
    heads=2,
    key_value_heads=1,
)
META = {"rig": {"width": 96, "height": 32}, "rates": {"plan_period_us": 250000}, "provenance": {"seed": 0}}
GO, STOP = "hold 8m/s on the free road", "brake to 0m/s for the red light 20m ahead"


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer(corpus())


def tiny_model(seed: int = 0) -> TakeVLA:
    torch.manual_seed(seed)
    model = TakeVLA(tiny_config(tiny_tokenizer(), size=SIZE))
    with torch.no_grad():  # livelier than at the start of a training, so that inputs make a difference
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn(weight.shape))
    model.train(False)
    return model


def observations(count: int, seed: int = 0) -> list[Observation]:
    rng = np.random.default_rng(seed)
    return [
        Observation(
            seat=seat,
            time_us=0,
            speed_mps=float(rng.uniform(0, 12)),
            target_points_ego=rng.normal(0, 15, (2, 2)).astype(np.float32),
            option=int(rng.integers(1, 7)),
            next_option=int(rng.integers(1, 7)),
            image=rng.integers(0, 255, (32, 96, 3), dtype=np.uint8),
        )
        for seat in range(count)
    ]


def _jpeg(rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (32, 96, 3), dtype=np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _blank(columns: Sequence[Column]) -> dict[str, object]:
    """A row of nothing."""
    row: dict[str, object] = {}
    for column in columns:
        kind = str(column.type)
        if "fixed_size_list" in kind:
            row[column.name] = [0.0] * column.type.list_size
        else:
            row[column.name] = [] if kind.startswith("list") else "" if kind == "string" else 0
    return row


def write_frames(path: Path, roles: dict[str, int], seed: int = 0, town: str = "Alder01") -> Path:
    """A dataset whose pictures say nothing: only the words of a frame tell whether it goes or stops."""
    rng = np.random.default_rng(seed)
    writer = Writer(path, META)
    for number, (role, count) in enumerate(roles.items()):
        name = f"{number:05d}"
        episodes = [f"{name}-{k:02d}" for k in range(4)]
        goes = rng.random(count) < 0.5
        steps = np.arange(1, 11) * 0.25
        speed = np.where(goes, 8.0, 0.0)
        waypoints = np.stack([speed[:, None] * steps, np.zeros((count, 10))], axis=-1)
        route = np.stack([np.arange(1.0, 21.0), np.zeros(20)], axis=-1)
        sentences = [GO if go else STOP for go in goes]
        blank: dict[str, object] = {}
        for column in FRAME_COLUMNS:
            kind = str(column.type)
            if "fixed_size_list" in kind:
                blank[column.name] = np.zeros((count, column.type.list_size), np.float32)
            elif kind.startswith("list"):
                blank[column.name] = [[] for _ in range(count)]
            else:
                blank[column.name] = ["" if kind == "string" else 0] * count
        blank |= {
            "episode": [episodes[k * 4 // count] for k in range(count)],
            "frame": list(range(count)),
            "role": [role] * count,
            "image": [_jpeg(rng) for _ in range(count)],
            "past_image": [_jpeg(rng) if k % 2 else b"" for k in range(count)],
            "speed_mps": rng.uniform(3, 6, count).astype(np.float32),
            "target_points_ego": rng.normal(0, 10, (count, 4)).astype(np.float32),
            "option": [4] * count,
            "next_option": [4] * count,
            "expert_route_ego": np.tile(route.reshape(1, 40), (count, 1)),
            "expert_waypoints_ego": waypoints.reshape(count, 20),
            "expert_commentary": sentences,
            "enhanced_commentary": sentences if role == "pre_takeover" else [""] * count,
            "expert_action": [int(Action.MAINTAIN if go else Action.STOP) for go in goes],
            "expert_cause": [int(Cause.FREE_ROAD if go else Cause.RED_LIGHT) for go in goes],
            "steer_burst": [False] * count,
        }
        taken = ["collision", "restart"] if role in ("pre_takeover", "takeover") else []
        blank["takeover"] = [f"{name}-{k % 2}" if taken else "" for k in range(count)]
        rows = [
            _blank(EPISODE_COLUMNS) | {"episode": one, "part": name, "town": town, "success": True}
            for one in episodes
        ]
        takeovers = [
            _blank(TAKEOVER_COLUMNS) | {"takeover": f"{name}-{k}", "episode": episodes[0], "trigger": one}
            for k, one in enumerate(taken)
        ]
        scenes: dict[str, list[object]] = {column.name: [] for column in SCENE_COLUMNS}
        writer.commit(Part(name, rows, takeovers, blank, scenes))
    writer.finish()
    return path
