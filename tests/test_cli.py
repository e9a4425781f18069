"""The command line: one dataset or several, and one line with exit code 2 for what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_vla import write_frames

from takevla.cli import main
from takevla.driver.vla.checkpoint import load_checkpoint
from takevla.world.maps.route_xml import RouteTask, write_routes

TINY = (
    "tile_px 32 stem_width 8 stage_widths [8,16,16] stage_blocks [0,0,1] width 32 inner_width 64 layers 2 "
    "heads 2 key_value_heads 1"
)


def settings(stage: str) -> list[str]:
    """A training of two steps."""
    words = ["draws", "8", "train.batch_size", "4", "train.parts", "2", "train.trackers", "[]"]
    return [word for k in range(0, len(words), 2) for word in (f"--{stage}.{words[k]}", words[k + 1])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli")
    write_frames(path / "expert", {"pretrain": 16})
    write_frames(path / "takeovers", {"pre_takeover": 12, "takeover": 16}, seed=5)
    return path


def test_training_takes_one_dataset_or_a_list(folder: Path) -> None:
    names = TINY.split()
    size = [word for k in range(0, len(names), 2) for word in (f"--pretrain.size.{names[k]}", names[k + 1])]
    base, tuned = folder / "base", folder / "tuned"
    data = str(folder / "expert")
    assert main(["pretrain", "--data", data, "--out", str(base), *settings("pretrain"), *size]) == 0
    command = ["sft", "--model", str(base / "model"), "--rehearsal", f"[{data}]"]
    command += ["--takeovers", str(folder / "takeovers"), "--out", str(tuned), *settings("sft")]
    assert main(command) == 0
    assert load_checkpoint(tuned / "model").rig.width == 96


@pytest.mark.parametrize("town", ["Birch01", "Alder37"])
def test_nothing_is_learned_from_a_dataset_of_a_validation_town(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], town: str
) -> None:
    good, bad = folder / "expert", write_frames(tmp_path / "data", {"pretrain": 4}, town=town)
    learning = ["--model", "shipped", "--out", str(tmp_path / "out")]
    for words in (
        ["pretrain", "--data", f"[{good},{bad}]", "--out", str(tmp_path / "out")],
        ["sft", "--rehearsal", str(bad), "--takeovers", str(good), *learning],
        ["sft", "--rehearsal", str(good), "--takeovers", str(bad), *learning],
        ["dream", "--takeovers", str(bad), *learning],
        ["run", "--rehearsal_data", f"[{bad}]", "--out", str(tmp_path / "out")],
    ):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert f"{bad}: was driven in {town}, a validation town" in said
        assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_missing_dataset_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given in (str(folder / "nowhere"), f"[{folder / 'expert'},{folder / 'nowhere'}]"):
        assert main(["pretrain", "--data", given, "--out", str(folder / "out")]) == 2
        said = capsys.readouterr().err
        assert "nowhere" in said
        assert said.count("\n") == 1


def test_no_workers_and_a_file_in_the_way_are_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    evaluate = ["evaluate", "--driver", "expert", "--suite", "mini44", "--out", str(tmp_path / "out")]
    results = ["results", "--results", str(tmp_path), "--out", str(tmp_path / "file" / "page.md")]
    for command, words in ((["--workers", "0"], "at least 1"), ([], "exists")):
        assert main([*evaluate, *command] if command else results) == 2
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1


def test_takeovers_in_carla_refuse_held_out_routes_before_a_server_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    routes, other = tmp_path / "mine.xml", tmp_path / "other.xml"
    write_routes(routes, [RouteTask("7", "Town12", np.array([[0, 0, 0], [50, 0, 0]], np.float32))])
    write_routes(other, [RouteTask("8", "Town12", np.array([[9, 0, 0], [50, 0, 0]], np.float32))])
    command = ["collect", "--world", "carla", "--route-file", str(routes), "--out", str(tmp_path / "out")]
    for given in (str(routes), f"[{other},{routes}]"):
        assert main([*command, "--held-out", given]) == 2
        said = capsys.readouterr().err
        assert "route 7 of Town12 begins where route 7 of" in said
        assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["collect", "--held-out", "x.xml"], "--held-out: is of --world carla"),
        (["collect", "--world", "carla", "--routes", "8"], "--routes: is of the embedded world"),
        (["evaluate", "--driver", "expert", "--gpus", "[1]"], "--gpus: is of --world carla"),
        (["evaluate", "--world", "carla", "--shadow"], "--shadow: means nothing with --world carla"),
        (["report", "--run", "runs/mine", "--asked", "220"], "--asked: is of --results"),
    ],
)
def test_an_option_that_would_be_dropped_is_refused(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = [] if words[0] == "report" else ["--out", str(tmp_path / "out")]
    assert main([*words, *out]) == 2
    assert said in capsys.readouterr().err
