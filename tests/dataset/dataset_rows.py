"""Made-up parts of a dataset, the same for the same number."""

import io
from typing import Any

import numpy as np
from PIL import Image

from takevla.dataset.scenes import scene_columns
from takevla.dataset.schema import EPISODE_COLUMNS, FRAME_COLUMNS, SCENE_COLUMNS, TAKEOVER_COLUMNS, Column
from takevla.dataset.writer import Part
from takevla.scene.actors import Actors
from takevla.scene.scene import Controls, Ego, Scene, Weather

META = {"rig": {"width": 16, "height": 8}, "rates": {"plan_period_us": 250000}, "provenance": {"seed": 0}}


def value(column: Column, rng: np.random.Generator) -> Any:
    kind = str(column.type)
    if "fixed_size_list" in kind:
        return rng.normal(size=column.type.list_size).astype(np.float32)
    if kind.startswith("list"):
        return ["all", "leader"] if "string" in kind else rng.normal(size=3).astype(np.float32)
    if kind == "binary":
        return jpeg(rng)
    if kind == "string":
        return f"{column.name}-{rng.integers(3)}"
    if kind == "bool":
        return bool(rng.integers(2))
    return float(np.float32(rng.normal())) if kind == "float" else int(rng.integers(100))


def jpeg(rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (8, 16, 3), np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def scene(rng: np.random.Generator, time_us: int = 0, actors: int = 3) -> Scene:
    def reals(*shape: int) -> Any:
        return rng.normal(size=shape).astype(np.float32)

    ego = Ego(reals(3), 0.5, 4.0, 0.25, 0.125, 0.0, Controls(0.25, 0.5, 0.0), reals(3))
    small = rng.integers(0, 4, actors)
    rows = Actors(
        np.arange(actors, dtype=np.int32),
        small.astype(np.int8),
        small.astype(np.int8) % 2,
        small.astype(np.int16),
        reals(actors, 3),
        reals(actors),
        reals(actors),
        reals(actors),
        reals(actors),
        reals(actors, 3),
        small.astype(np.int32),
        np.ones(actors, np.bool_),
    )
    return Scene(time_us, "Alder01", ego, rows, np.array([0, 2], np.int8), Weather())


def part(number: int, frames: int = 5) -> Part:
    rng = np.random.default_rng(number)
    name = f"{number:05d}"
    episode = f"{name}-route"
    columns = {c.name: [value(c, rng) for _ in range(frames)] for c in FRAME_COLUMNS}
    columns["episode"] = [episode] * frames
    columns["frame"] = list(range(frames))
    episode_row = {c.name: value(c, rng) for c in EPISODE_COLUMNS} | {"episode": episode, "part": name}
    takeover_row = {c.name: value(c, rng) for c in TAKEOVER_COLUMNS} | {"episode": episode}
    scenes = scene_columns([(episode, scene(rng, 100_000 * k)) for k in range(4)])
    assert set(scenes) == {c.name for c in SCENE_COLUMNS}
    return Part(name, [episode_row], [takeover_row], columns, scenes)
