"""Clips of routes: `takevla watch` and what it is made of."""

from pathlib import Path

import imageio_ffmpeg
import pytest

from takevla.bench.suites import load_suite
from takevla.cli import main
from takevla.driver.blind import BlindDriver
from takevla.driver.closed_loop import Seat, drive
from takevla.report.clips import events_of
from takevla.world.embedded import EmbeddedWorld
from takevla.world.maps.atlas import load_town
from takevla.world.maps.route_xml import write_routes

TASK = next(task for task in load_suite("dev88").tasks if task.scenarios[0].type == "DynamicObjectCrossing")


def test_watch_writes_a_clip_of_the_asked_length_from_a_suite_or_a_route_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_routes(tmp_path / "routes.xml", [TASK])
    for where in (["--suite", "dev88"], ["--routes", str(tmp_path / "routes.xml")]):
        clip = tmp_path / "clip.mp4"
        words = ["watch", TASK.id, *where, "--driver", "expert", "--seconds", "1", "--out", str(clip)]
        assert main(words) == 0
        frames, seconds = imageio_ffmpeg.count_frames_and_secs(str(clip))
        assert frames == 10
        assert seconds == pytest.approx(1.0, abs=0.05)
        told = capsys.readouterr().out
        assert "10 frames" in told
        assert "expert: cut short, no infraction" in told
        assert [path.name for path in tmp_path.glob("*.mp4")] == ["clip.mp4"]
        clip.unlink()


def test_watch_names_a_route_that_is_not_there_and_a_file_that_is_no_clip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["watch", "1", "--suite", "dev88", "--out", str(tmp_path / "a.mp4")]) == 2
    assert "no route 1 in dev88" in capsys.readouterr().err
    assert main(["watch", TASK.id, "--suite", "dev88", "--out", str(tmp_path / "a.gif")]) == 2
    assert "a clip is an .mp4 file" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_events_are_told_with_their_time() -> None:
    world = EmbeddedWorld(load_town(TASK.town), TASK, 1, density=0.0)
    assert events_of(world) == []
    drive([Seat(0, world)], BlindDriver(), until_us=30_000_000)
    ((time_us, text), *_) = events_of(world)
    assert text == "collision pedestrian"
    assert 0 < time_us < 30_000_000
