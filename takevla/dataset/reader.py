"""Reading a dataset that `takevla.dataset.writer` wrote."""

from __future__ import annotations

import io
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from takevla.dataset.scenes import scene_of_row
from takevla.dataset.schema import (
    EPISODES,
    FORMAT,
    FRAMES,
    LATER,
    MANIFEST,
    META,
    PICTURES,
    SCENES,
    TAKEOVERS,
    VERSION,
    arrow_schema,
)
from takevla.dataset.writer import sha256
from takevla.files import read_json
from takevla.scene.past import PAST_US, SLACK_US
from takevla.scene.scene import Scene

_IMAGE: Final = "image"
_PAST: Final = "past_image"


class Dataset:
    """The committed parts of the dataset in the folder `path`.

    Raises FileNotFoundError where there is none and ValueError where it is broken, foreign or newer;
    with `verify`, also where a file differs from its hash in the manifest.
    """

    def __init__(self, path: Path | str, verify: bool = False) -> None:
        self.path = Path(path)
        for name in (META, MANIFEST):
            if not (self.path / name).is_file():
                raise FileNotFoundError(f"{self.path / name}: no dataset here; `takevla collect` writes one")
            _check_format(self.path / name)
        self.meta: dict[str, Any] = read_json(self.path / META)
        self._files: list[dict[str, Any]] = read_json(self.path / MANIFEST)["files"]
        for file in self._files:
            _check_file(self.path, file, verify)

    def __len__(self) -> int:
        return sum(file["rows"] for file in self._files if file["path"].startswith(f"{FRAMES}/"))

    @cached_property
    def frames(self) -> pa.Table:
        """All frames in the order of their parts, without their images (`pictures(i)` gives those).

        Columns that came `LATER` are missing where a part was written before them.
        """
        names = [name for name in arrow_schema(FRAMES).names if name not in PICTURES]
        return self._table(FRAMES, names)

    @cached_property
    def episodes(self) -> pa.Table:
        """One row per episode."""
        return self._table(EPISODES, None)

    @cached_property
    def takeovers(self) -> pa.Table:
        """One row per takeover."""
        return self._table(TAKEOVERS, None)

    def column(self, name: str) -> NDArray[Any]:
        """A column of the frames as NumPy: (N,), or (N, K) for a list of fixed size K."""
        return numpy_column(self.frames, name)

    def image_bytes(self, index: int) -> bytes:
        """JPEG of frame `index`."""
        return self._jpeg(self._images, index)

    def image(self, index: int) -> NDArray[np.uint8]:
        """Image of frame `index`: (H, W, 3) RGB."""
        return _decoded(self.image_bytes(index))

    def pictures(self, index: int, past: bool) -> NDArray[np.uint8]:
        """Image of frame `index`, with `past` followed by that of 0.5 s before: (H, W, 3) or (H, W, 6) RGB.

        Datasets from before past pictures were kept show the present twice.
        """
        now = self.image(index)
        if not past:
            return now
        if self._past_images is None:
            return np.concatenate([now, now], axis=-1)
        before = self._jpeg(self._past_images, index) or self.image_bytes(self._past_row(index))
        return np.concatenate([now, _decoded(before)], axis=-1)

    def seen_before(self, index: int) -> list[tuple[int, NDArray[np.uint8]]]:
        """Time (µs) and picture of what was seen 0.5 and 0.25 s before frame `index`, where it is known."""
        time, begins = self._instants
        known = [(int(time[index]) - PAST_US, self.pictures(index, past=True)[..., 3:])]
        if index > begins[index] and time[index] - time[index - 1] < PAST_US:
            known.append((int(time[index - 1]), self.image(index - 1)))
        return known

    @property
    def knows_past(self) -> bool:
        """Whether its frames keep the picture of 0.5 s before."""
        return self._past_images is not None

    def scenes(self, episode: str, from_us: int, to_us: int) -> list[Scene]:
        """The recorded scenes of `episode` with from_us <= time <= to_us, in time order."""
        rows = (episode_part(self.episodes, episode), [("episode", "=", episode), ("time_us", ">=", from_us)])
        path = self.path / SCENES / f"part-{rows[0]}.parquet"
        if not path.exists():
            return []
        table = pq.read_table(path, filters=[*rows[1], ("time_us", "<=", to_us)])
        return [scene_of_row(row) for row in table.to_pylist()]

    @cached_property
    def _images(self) -> pa.ChunkedArray:
        return self._table(FRAMES, [_IMAGE]).column(_IMAGE)

    @cached_property
    def _past_images(self) -> pa.ChunkedArray | None:
        table = self._table(FRAMES, [_PAST])
        return table.column(_PAST) if _PAST in table.column_names else None

    @cached_property
    def _instants(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of every frame its time (µs) and the first frame of its episode."""
        episode, number = self.column("episode"), np.arange(len(self.frames))
        goes_on = np.concatenate([np.zeros(1, np.bool_), episode[1:] == episode[:-1]])[: len(number)]
        return self.column("time_us"), np.maximum.accumulate(np.where(goes_on, 0, number))

    def _past_row(self, index: int) -> int:
        """The frame that shows what `Past` would have kept for frame `index`."""
        time, begins = self._instants
        first, now = int(begins[index]), int(time[index])
        due = int(np.searchsorted(time[first : index + 1], now - PAST_US + SLACK_US, side="right"))
        row = first + max(due - 1, 0)
        return row if now - int(time[row]) <= 2 * PAST_US else index

    @cached_property
    def _image_ends(self) -> NDArray[np.int64]:
        return np.cumsum([len(chunk) for chunk in self._images.chunks])

    def _jpeg(self, images: pa.ChunkedArray, index: int) -> bytes:
        part = int(np.searchsorted(self._image_ends, index, side="right"))
        start = int(self._image_ends[part - 1]) if part else 0
        return bytes(images.chunk(part)[index - start].as_py())

    def _table(self, name: str, columns: list[str] | None) -> pa.Table:
        paths = [f["path"] for f in self._files if f["path"].split("/")[0].removesuffix(".parquet") == name]
        schema = (
            arrow_schema(name)
            if columns is None
            else pa.schema([arrow_schema(name).field(c) for c in columns])
        )
        absent: set[str] = set()
        for path in paths if LATER & set(schema.names) else ():
            absent |= LATER - set(pq.read_schema(self.path / path).names)
        names = [column for column in schema.names if column not in absent]
        tables = [pq.read_table(self.path / path, columns=names) for path in paths]
        return pa.concat_tables(tables) if tables else schema.empty_table()


def _decoded(jpeg: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(jpeg)) as picture:
        return np.asarray(picture.convert("RGB"))


def numpy_column(table: pa.Table, name: str) -> NDArray[Any]:
    """A column of any table as NumPy: (N,), or (N, K) for a list of fixed size K."""
    column = table.column(name).combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # an empty table
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if pa.types.is_fixed_size_list(column.type):
        return column.flatten().to_numpy(zero_copy_only=False).reshape(-1, column.type.list_size)
    return column.to_numpy(zero_copy_only=False)


def episode_part(episodes: pa.Table, episode: str) -> str:
    """Name of the part that holds `episode`; ValueError where there is none."""
    found = np.flatnonzero(numpy_column(episodes, "episode") == episode)
    if len(found) == 0:
        raise ValueError(f"episode {episode!r} is not in the dataset; `episodes.parquet` lists them")
    return str(episodes.column("part")[int(found[0])].as_py())


def _check_format(path: Path) -> None:
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path}: not a {FORMAT}; give the folder that `takevla collect` wrote")
    version = content.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise ValueError(
            f"{path}: format version {version}, this TakeVLA reads up to {VERSION}; update TakeVLA"
        )


def _check_file(folder: Path, file: dict[str, Any], verify: bool) -> None:
    path = folder / file["path"]
    if not path.is_file():
        raise ValueError(
            f"{path}: named by the manifest but missing; copy the dataset again or collect it again"
        )
    if verify and sha256(path) != file["sha256"]:
        raise ValueError(
            f"{path}: differs from its hash in the manifest; copy the dataset again or collect it again"
        )
