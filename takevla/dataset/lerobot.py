"""Export to LeRobotDataset v3.0: the layout that `lerobot` reads, with pictures inside the parquet files.

    meta/info.json  meta/stats.json  meta/tasks.parquet  meta/subtasks.parquet
    meta/episodes/chunk-000/file-000.parquet   data/chunk-000/file-000.parquet ...

A frame's task is the navigation command, its subtask the commentary that it should have (the enhanced one
where there is one), its action the expert's plan.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from takevla.dataset.reader import Dataset
from takevla.scene.plan import ROUTE_POINTS, SPEED_WAYPOINTS
from takevla.scene.route import RouteOption

VERSION: Final = "v3.0"
CHUNK_FILES: Final = 1000
FILE_MB: Final = 100
IMAGE: Final = "observation.images.front"
STATE: Final = "observation.state"
ACTION: Final = "action"
STATE_NAMES: Final = (
    "speed_mps", "target_1_x", "target_1_y", "target_2_x", "target_2_y", "option", "next_option",
)  # fmt: skip
TASKS: Final[Mapping[int, str]] = {
    RouteOption.LEFT: "turn left",
    RouteOption.RIGHT: "turn right",
    RouteOption.STRAIGHT: "go straight on at the junction",
    RouteOption.LANE_FOLLOW: "follow the lane",
    RouteOption.CHANGE_LANE_LEFT: "change to the left lane",
    RouteOption.CHANGE_LANE_RIGHT: "change to the right lane",
}
QUANTILES: Final = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
PICTURES_FOR_STATS: Final = 200  # frames, evenly spread, whose pixels are counted
LEAST_FRAMES: Final = 2  # of a stretch that becomes an episode
PIXEL_STEP: Final = 4  # every so many-th pixel, across and down

Stats = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Exported:
    """What was written.  `left_out` are frames of stretches too short to be an episode."""

    episodes: int
    frames: int
    tasks: int
    comments: int
    files: int
    left_out: int


def export_lerobot(source: Path, out: Path) -> Exported:
    """Write the dataset in the folder `source` as a LeRobotDataset in the new folder `out`.

    LeRobot's episodes have one frame in every period.  Demonstrations keep few instants of a stand, so
    that an attempt becomes the stretches between; those of less than `LEAST_FRAMES` frames are left out.

    Raises:
        ValueError: `out` exists, or the dataset is empty or broken.
    """
    dataset = Dataset(source)
    if out.exists():
        raise ValueError(f"{out}: exists already; name a new folder")
    if not len(dataset):
        raise ValueError(f"{source}: holds no frames to export")
    unfinished = out.with_name(out.name + ".part")
    _Export(dataset, unfinished).write()
    unfinished.rename(out)
    info = json.loads((out / "meta/info.json").read_text())
    comments = pq.read_metadata(out / "meta/subtasks.parquet").num_rows
    files = len(list((out / "data").rglob("*.parquet")))
    left_out = len(dataset) - info["total_frames"]
    return Exported(
        info["total_episodes"], info["total_frames"], info["total_tasks"], comments, files, left_out
    )


class _Export:
    def __init__(self, dataset: Dataset, out: Path) -> None:
        self._out = out
        self._dataset = dataset
        self._fps = 1_000_000 / int(dataset.meta["rates"]["plan_period_us"])
        self._rows, self._spans = self._stretches()
        self._height, self._width = dataset.image(0).shape[:2]

    def _stretches(self) -> tuple[NDArray[np.int64], list[tuple[int, int]]]:
        """The frames that are written, and where each stretch of them begins and ends among these."""
        names, time_us = self._dataset.column("episode"), self._dataset.column("time_us")
        begins = np.flatnonzero(np.concatenate([[True], names[1:] != names[:-1]]))
        if len({names[start] for start in begins}) != len(begins):
            raise ValueError(f"{self._dataset.path}: frames of an episode are scattered; collect it again")
        period = round(1e6 / self._fps)
        broken = (names[1:] != names[:-1]) | (np.diff(time_us) != period)
        parts = np.split(np.arange(len(names)), np.flatnonzero(broken) + 1)
        parts = [part for part in parts if len(part) >= LEAST_FRAMES]
        if not parts:
            raise ValueError(
                f"{self._dataset.path}: no {LEAST_FRAMES} frames in a row are {period} us apart; "
                "collect it again"
            )
        ends = np.cumsum([len(part) for part in parts])
        return np.concatenate(parts), list(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True))

    def _read(self, name: str) -> NDArray[Any]:
        """A column of the frames that are written."""
        return self._dataset.column(name)[self._rows]

    def write(self) -> None:
        """All files."""
        columns = self._columns()
        rows = []
        data_file, bytes_in_file = 0, 0
        tables: list[pa.Table] = []
        for number, (start, end) in enumerate(self._spans):
            pictures = [self._dataset.image_bytes(int(row)) for row in self._rows[start:end]]
            size = sum(len(picture) for picture in pictures)
            if tables and bytes_in_file + size > FILE_MB * 1_000_000:
                self._write_data(data_file, tables)
                data_file, bytes_in_file, tables = data_file + 1, 0, []
            tables.append(self._table(columns, start, end, pictures))
            bytes_in_file += size
            rows.append(self._episode(columns, number, start, end, data_file))
        self._write_data(data_file, tables)
        meta = self._out / "meta"
        folder = meta / "episodes/chunk-000"
        folder.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows), folder / "file-000.parquet")
        _write_names(meta / "tasks.parquet", "task_index", self._tasks)
        _write_names(meta / "subtasks.parquet", "subtask_index", self._subtasks)
        stats = self._stats(columns, 0, len(self._rows))
        (meta / "stats.json").write_text(json.dumps(stats, indent=1, allow_nan=False))
        (meta / "info.json").write_text(json.dumps(self._info(), indent=1))

    def _columns(self) -> dict[str, NDArray[Any]]:
        """Every numeric feature for all frames."""
        read = self._read
        numbers = np.concatenate([np.arange(end - start) for start, end in self._spans])
        episodes = np.repeat(np.arange(len(self._spans)), [end - start for start, end in self._spans])
        options = [TASKS[RouteOption(int(option))] for option in read("option")]
        enhanced, plain = read("enhanced_commentary"), read("expert_commentary")
        said = [str(better or normal) for better, normal in zip(enhanced, plain, strict=True)]
        self._tasks, tasks = _numbered(options)
        self._subtasks, subtasks = _numbered(said)
        state = [read(name).reshape(len(numbers), -1) for name in
                 ("speed_mps", "target_points_ego", "option", "next_option")]  # fmt: skip
        action = [read("expert_route_ego"), read("expert_waypoints_ego")]
        return {
            STATE: np.concatenate(state, axis=1).astype(np.float32),
            ACTION: np.concatenate(action, axis=1).astype(np.float32),
            "taken_over": (read("driver") == "expert").astype(np.int64),
            "subtask_index": subtasks,
            "timestamp": (numbers / self._fps).astype(np.float32),
            "frame_index": numbers.astype(np.int64),
            "episode_index": episodes.astype(np.int64),
            "index": np.arange(len(numbers), dtype=np.int64),
            "task_index": tasks,
        }

    def _table(
        self, columns: Mapping[str, NDArray[Any]], start: int, end: int, pictures: Sequence[bytes]
    ) -> pa.Table:
        """The frames of one episode."""
        arrays: dict[str, pa.Array] = {
            IMAGE: pa.array(
                [{"bytes": picture, "path": None} for picture in pictures],
                pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
            )
        }
        for name, values in columns.items():
            part = values[start:end]
            if part.ndim == 2:
                arrays[name] = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), part.shape[1])
            else:
                arrays[name] = pa.array(part)
        table = pa.table(arrays)
        features = {
            name: _feature(field.type) for name, field in zip(table.column_names, table.schema, strict=True)
        }
        huggingface = json.dumps({"info": {"features": features}})  # what `datasets` decodes pictures by
        return table.replace_schema_metadata({"huggingface": huggingface})

    def _write_data(self, number: int, tables: Sequence[pa.Table]) -> None:
        path = self._out / f"data/chunk-{number // CHUNK_FILES:03d}/file-{number % CHUNK_FILES:03d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.concat_tables(tables), path)

    def _episode(
        self, columns: Mapping[str, NDArray[Any]], number: int, start: int, end: int, data_file: int
    ) -> dict[str, Any]:
        """The row of one episode, its statistics flattened."""
        row: dict[str, Any] = {
            "episode_index": number,
            "tasks": [self._tasks[i] for i in np.unique(columns["task_index"][start:end])],
            "length": end - start,
            "data/chunk_index": data_file // CHUNK_FILES,
            "data/file_index": data_file % CHUNK_FILES,
            "dataset_from_index": start,
            "dataset_to_index": end,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
        for feature, values in self._stats(columns, start, end).items():
            row |= {f"stats/{feature}/{name}": value for name, value in values.items()}
        return row

    def _stats(self, columns: Mapping[str, NDArray[Any]], start: int, end: int) -> Stats:
        """Statistics of each feature over frames `start` to `end`; pictures in [0, 1], by channel."""
        stats: dict[str, Any] = {}
        for name, values in columns.items():
            part = values[start:end].astype(np.float64).reshape(end - start, -1)
            stats[name] = _summary(part, end - start)
        chosen = np.unique(np.linspace(start, end - 1, PICTURES_FOR_STATS).round().astype(int))
        pixels = [
            self._dataset.image(int(row))[::PIXEL_STEP, ::PIXEL_STEP].reshape(-1, 3)
            for row in self._rows[chosen]
        ]
        seen = _summary(np.concatenate(pixels) / 255.0, len(chosen))
        stats[IMAGE] = {
            name: value if name == "count" else [[[channel]] for channel in value]
            for name, value in seen.items()
        }
        return stats

    def _info(self) -> dict[str, Any]:
        """`meta/info.json`."""
        counts = (("route", ROUTE_POINTS), ("waypoint", SPEED_WAYPOINTS))
        action = [f"{part}_{k + 1}_{axis}" for part, count in counts for k in range(count) for axis in "xy"]
        picture = (self._height, self._width, 3)
        features: dict[str, dict[str, Any]] = {
            IMAGE: {"dtype": "image", "shape": picture, "names": ["height", "width", "channels"]},
            STATE: {"dtype": "float32", "shape": [len(STATE_NAMES)], "names": list(STATE_NAMES)},
            ACTION: {"dtype": "float32", "shape": [len(action)], "names": action},
        }
        for name in (
            "taken_over",
            "subtask_index",
            "timestamp",
            "frame_index",
            "episode_index",
            "index",
            "task_index",
        ):
            kind = "float32" if name == "timestamp" else "int64"
            features[name] = {"dtype": kind, "shape": [1], "names": None}
        return {
            "codebase_version": VERSION,
            "robot_type": "car",
            "total_episodes": len(self._spans),
            "total_frames": len(self._rows),
            "total_tasks": len(self._tasks),
            "chunks_size": CHUNK_FILES,
            "data_files_size_in_mb": FILE_MB,
            "video_files_size_in_mb": 200,
            "fps": int(self._fps) if self._fps.is_integer() else self._fps,
            "splits": {"train": f"0:{len(self._spans)}"},
            "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            "video_path": None,
            "features": features,
        }


def _summary(values: NDArray[np.float64], count: int) -> dict[str, list[float] | list[int]]:
    """Statistics of the columns of (N, K) values, as `lerobot` names them."""
    summary: dict[str, list[float] | list[int]] = {
        "min": values.min(axis=0).tolist(),
        "max": values.max(axis=0).tolist(),
        "mean": values.mean(axis=0).tolist(),
        "std": values.std(axis=0).tolist(),
        "count": [count],
    }
    for name, share in QUANTILES.items():
        summary[name] = np.quantile(values, share, axis=0).tolist()
    return summary


def _numbered(words: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Distinct words in order of appearance, and the number of each word."""
    names = list(dict.fromkeys(words))
    number = {name: k for k, name in enumerate(names)}
    return names, np.array([number[word] for word in words], np.int64)


def _write_names(path: Path, column: str, names: Sequence[str]) -> None:
    """A table that pandas reads with the words as its index and their numbers as its only column."""
    number = {
        "name": column,
        "field_name": column,
        "pandas_type": "int64",
        "numpy_type": "int64",
        "metadata": None,
    }
    word = {
        "name": None, "field_name": "__index_level_0__", "pandas_type": "unicode", "numpy_type": "object",
        "metadata": None,
    }  # fmt: skip
    labels = {
        "name": None,
        "field_name": None,
        "pandas_type": "unicode",
        "numpy_type": "object",
        "metadata": None,
    }
    pandas = {"index_columns": ["__index_level_0__"], "column_indexes": [labels], "columns": [number, word]}
    table = pa.table(
        {column: pa.array(range(len(names)), pa.int64()), "__index_level_0__": pa.array(names, pa.string())}
    )
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(pandas)}), path)


def _feature(kind: pa.DataType) -> dict[str, Any]:
    """A column's type in the words of Hugging Face `datasets`."""
    if pa.types.is_struct(kind):
        return {"_type": "Image"}
    if pa.types.is_fixed_size_list(kind):
        return {"feature": {"dtype": "float32", "_type": "Value"}, "length": kind.list_size, "_type": "List"}
    return {"dtype": "float32" if pa.types.is_floating(kind) else "int64", "_type": "Value"}
