"""Export to LeRobotDataset v3.0."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiny_vla import write_frames

from takevla.dataset.lerobot import ACTION, IMAGE, STATE, export_lerobot
from takevla.dataset.reader import Dataset


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = write_frames(tmp_path / "data", {"takeover": 12})
    for file in (path / "frames").glob("*.parquet"):  # the made-up frames all lie at time 0
        table = pq.read_table(file)
        times = [250_000 * number for number in table.column("frame").to_pylist()]
        at = table.schema.get_field_index("time_us")
        pq.write_table(table.set_column(at, table.schema.field(at), [times]), file)
    return path


def test_every_frame_is_written_with_its_picture_plan_command_and_words(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "lerobot"
    done = export_lerobot(source, out)
    dataset = Dataset(source)
    info = json.loads((out / "meta/info.json").read_text())
    table = pq.read_table(out / "data/chunk-000/file-000.parquet")
    assert (done.episodes, done.frames) == (4, 12) == (info["total_episodes"], table.num_rows)
    assert info["codebase_version"] == "v3.0"
    assert set(info["features"]) == set(table.column_names)
    assert np.array_equal(table.column(ACTION).to_pylist()[5][40:], dataset.column("expert_waypoints_ego")[5])
    assert table.column(STATE).to_pylist()[5][0] == dataset.column("speed_mps")[5]
    picture = table.column(IMAGE).to_pylist()[5]["bytes"]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(picture))), dataset.image(5))
    words = pq.read_table(out / "meta/subtasks.parquet").to_pandas()
    said = [words.iloc[k].name for k in table.column("subtask_index").to_pylist()]
    assert said == dataset.column("expert_commentary").tolist()
    episodes = pq.read_table(out / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(row["dataset_from_index"], row["dataset_to_index"]) for row in episodes] == [
        (0, 3), (3, 6), (6, 9), (9, 12)
    ]  # fmt: skip
    stats = json.loads((out / "meta/stats.json").read_text())
    assert stats[STATE]["mean"][0] == pytest.approx(dataset.column("speed_mps").mean())
    assert np.shape(stats[IMAGE]["mean"]) == (3, 1, 1)


def test_where_instants_are_missing_an_attempt_becomes_the_stretches_between(
    source: Path, tmp_path: Path
) -> None:
    for file in (source / "frames").glob("*.parquet"):
        table = pq.read_table(file)
        times = [250_000 * number + (750_000 if number % 3 == 2 else 0) for number in range(len(table))]
        at = table.schema.get_field_index("time_us")
        pq.write_table(table.set_column(at, table.schema.field(at), [times]), file)
    done = export_lerobot(source, tmp_path / "lerobot")
    assert (done.episodes, done.frames, done.left_out) == (4, 8, 4)
    table = pq.read_table(tmp_path / "lerobot/data/chunk-000/file-000.parquet")
    assert table.column("episode_index").to_pylist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert table.column("frame_index").to_pylist() == [0, 1] * 4
    picture = np.asarray(Image.open(io.BytesIO(table.column(IMAGE).to_pylist()[3]["bytes"])))
    assert np.array_equal(picture, Dataset(source).image(4))


def test_an_existing_folder_is_not_written_over(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exists already"):
        export_lerobot(source, tmp_path)


# What lerobot's reader of v3.0 looks up (its dataset_metadata.py and dataset_reader.py).
INFO_KEYS = (
    "codebase_version", "robot_type", "total_episodes", "total_frames", "total_tasks", "chunks_size",
    "data_files_size_in_mb", "video_files_size_in_mb", "fps", "data_path", "video_path", "features",
)  # fmt: skip
EPISODE_KEYS = (
    "episode_index", "tasks", "length", "data/chunk_index", "data/file_index", "dataset_from_index",
    "dataset_to_index", "meta/episodes/chunk_index", "meta/episodes/file_index",
)  # fmt: skip


def test_the_reader_of_lerobot_finds_all_that_it_looks_up(source: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    out = tmp_path / "lerobot"
    export_lerobot(source, out)
    info = json.loads((out / "meta/info.json").read_text())
    assert set(INFO_KEYS) <= set(info)
    kinds = {}  # as it makes them of info.json
    for name, feature in info["features"].items():
        value = datasets.Value(dtype=feature["dtype"]) if feature["dtype"] != "image" else None
        one = tuple(feature["shape"]) == (1,)
        kinds[name] = value if one else value and datasets.Sequence(value, length=feature["shape"][0])
        kinds[name] = kinds[name] or datasets.Image()
    files = sorted(str(path) for path in (out / "data").glob("*/*.parquet"))
    frames = datasets.Dataset.from_parquet(
        files, features=datasets.Features(kinds), cache_dir=str(tmp_path / "cache")
    )
    assert len(frames) == info["total_frames"] == 12
    row = frames[5]
    assert row[IMAGE].size == (96, 32)
    assert len(row[ACTION]) == 60
    tasks = pq.read_table(out / "meta/tasks.parquet").to_pandas()
    assert isinstance(tasks.iloc[row["task_index"]].name, str)
    episodes = pq.read_table(out / "meta/episodes").to_pylist()
    assert all(set(EPISODE_KEYS) <= set(episode) for episode in episodes)
    mine = episodes[row["episode_index"]]
    assert mine["dataset_from_index"] <= row["index"] < mine["dataset_to_index"]
    path = info["data_path"].format(chunk_index=mine["data/chunk_index"], file_index=mine["data/file_index"])
    assert str(out / path) in files
    assert set(json.loads((out / "meta/stats.json").read_text())) == set(info["features"])
