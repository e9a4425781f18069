import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import duckdb
import numpy as np
import pytest
from dataset_rows import META, part, scene

from takevla.dataset.reader import Dataset, numpy_column
from takevla.dataset.scenes import scene_of_row, scene_row
from takevla.dataset.schema import VERSION, check_page
from takevla.dataset.writer import Writer

PARTS = 4


def write(path: Path, order: list[int]) -> None:
    for number in order:
        Writer(path, META).commit(part(number))
    Writer(path, META).finish()


def content(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()
    }


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    write(tmp_path / "whole", list(range(PARTS)))
    return tmp_path / "whole"


def test_order_and_number_of_writers_change_no_byte(whole: Path, tmp_path: Path) -> None:
    write(tmp_path / "other", [2, 0, 3, 1, 1])
    assert content(tmp_path / "other") == content(whole)


KILLED = """
import os, sys, pathlib
sys.path.insert(0, sys.argv[2])
from dataset_rows import META, part
from takevla.dataset import writer
after = int(sys.argv[3])
whole = writer.write_whole
def write_then_die(path, content):
    global after
    after -= 1
    if after == 0:
        path.with_name(path.name + ".partial").write_bytes(bytes(content)[:10])
        os.kill(os.getpid(), 9)
    whole(path, content)
writer.write_whole = write_then_die
out = writer.Writer(pathlib.Path(sys.argv[1]), META)
for number in range(4):
    out.commit(part(number))
out.finish()
"""


@pytest.mark.parametrize("writes", [1, 3, 5, 9, 14])
def test_a_killed_writer_goes_on_to_the_same_files(whole: Path, tmp_path: Path, writes: int) -> None:
    out = tmp_path / "killed"
    here = str(Path(__file__).parent)
    run = subprocess.run([sys.executable, "-c", KILLED, str(out), here, str(writes)], check=False)
    assert run.returncode == -9
    committed = [p.stem for p in sorted((out / "commits").glob("*.json"))]
    before = content(out)
    write(out, list(range(PARTS)))
    after = content(out)
    assert after == content(whole)
    for name in committed:
        assert before[f"frames/part-{name}.parquet"] == after[f"frames/part-{name}.parquet"]


def test_what_is_read_is_what_was_written(whole: Path) -> None:
    dataset = Dataset(whole, verify=True)
    written = part(2)
    mine = np.flatnonzero(dataset.column("episode") == "00002-route")
    assert len(dataset) == len(dataset.frames) == PARTS * 5
    np.testing.assert_array_equal(
        dataset.column("expert_route_ego")[mine], written.frames["expert_route_ego"]
    )
    assert dataset.image_bytes(int(mine[3])) == written.frames["image"][3]
    assert dataset.image(int(mine[3])).shape == (8, 16, 3)
    assert dataset.episodes.column("episode").to_pylist() == [f"{k:05d}-route" for k in range(PARTS)]
    assert len(dataset.takeovers) == PARTS
    assert numpy_column(dataset.takeovers, "position_world").shape == (PARTS, 3)


def test_scenes_come_back_without_loss_in_the_asked_interval(whole: Path) -> None:
    found = Dataset(whole).scenes("00001-route", 100_000, 200_000)
    assert [s.time_us for s in found] == [100_000, 200_000]
    one = scene(np.random.default_rng(5), 50_000)
    again = scene_of_row(scene_row("e", one))
    for field in fields(one.actors):
        np.testing.assert_array_equal(getattr(again.actors, field.name), getattr(one.actors, field.name))
    np.testing.assert_array_equal(again.ego.position_world, one.ego.position_world)
    assert (again.ego.controls, again.weather, again.town) == (one.ego.controls, one.weather, one.town)


def test_hugging_face_datasets_reads_frames_as_they_are(whole: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    files = str(whole / "frames" / "*.parquet")
    rows = datasets.load_dataset(
        "parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache")
    )
    assert len(rows) == PARTS * 5
    picture = rows.cast_column("image", datasets.Image())[0]["image"]
    assert picture.size == (16, 8)
    assert len(rows[0]["expert_route_ego"]) == 40


def test_duckdb_reads_and_joins_the_tables_as_they_are(whole: Path) -> None:
    query = f"""
        select e.episode, count(*), any_value(len(f.expert_route_ego)) from '{whole}/frames/*.parquet' f
        join '{whole}/episodes.parquet' e using (episode) group by 1 order by 1"""
    assert duckdb.sql(query).fetchall() == [(f"{k:05d}-route", 5, 40) for k in range(PARTS)]


def test_foreign_newer_broken_and_changed_datasets_are_refused_in_one_line(whole: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no dataset here"):
        Dataset(whole / "frames")
    meta = json.loads((whole / "meta.json").read_text())
    for change, words in (
        ({"format": "x"}, "not a takevla-dataset"),
        ({"version": VERSION + 1}, "update TakeVLA"),
    ):
        (whole / "meta.json").write_text(json.dumps(meta | change))
        with pytest.raises(ValueError, match=words) as error:
            Dataset(whole)
        assert "\n" not in str(error.value)
    (whole / "meta.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        Dataset(whole)
    (whole / "meta.json").write_text(json.dumps(meta))
    file = whole / "frames" / "part-00001.parquet"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    Dataset(whole)
    with pytest.raises(ValueError, match=r"part-00001\.parquet: differs"):
        Dataset(whole, verify=True)
    file.unlink()
    with pytest.raises(ValueError, match=r"part-00001\.parquet: named by the manifest but missing"):
        Dataset(whole)


def test_a_dataset_begun_with_other_settings_is_not_continued(whole: Path) -> None:
    with pytest.raises(ValueError, match="other settings"):
        Writer(whole, META | {"rates": {"plan_period_us": 50000}})


def test_the_schema_page_says_what_is_written() -> None:
    assert check_page(Path(__file__).parents[2] / "docs" / "dataset.md")
