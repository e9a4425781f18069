"""The benchmark runner: one worker = two, killed and resumed = never stopped, bad routes named."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from takevla.bench import runner
from takevla.bench.leaderboard_json import read_results
from takevla.bench.runner import evaluate, world_seed
from takevla.bench.scores import LEADERBOARD_20, rescored
from takevla.world.maps.atlas import load_town
from takevla.world.maps.route_xml import RouteTask, write_routes

WALL_CLOCK = {"duration_system", "wall_s", "finished", "arguments", "workers"}
FILES = ("results.json", "merged.json", "metrics.json")


def short_route(number: int) -> RouteTask:
    """Some forty metres straight on in one of Alder01's lanes."""
    road_map = load_town("Alder01")
    lanes = [lane for lane in road_map.lanes if lane.kind == 0 and lane.junction < 0 and lane.length_m > 60.0]
    return RouteTask(str(number), "Alder01", lanes[number].points_world[[5, 25, 45]])


def off_the_map(number: int) -> RouteTask:
    return RouteTask(str(number), "Alder01", np.array([[9e3, 9e3, 0], [9e3, 9.1e3, 0]], np.float32))


def without_wall_clock(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: without_wall_clock(value) for key, value in content.items() if key not in WALL_CLOCK}
    if isinstance(content, list):
        return [without_wall_clock(value) for value in content]
    return content


def files(folder: Path) -> list[str]:
    return [json.dumps(without_wall_clock(json.loads((folder / name).read_text()))) for name in FILES]


@pytest.fixture(autouse=True)
def _one_seat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Routes drive one after the other, so that a kill finds some of them finished."""
    monkeypatch.setattr(runner, "SEATS", 1)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation that nothing disturbed."""
    out = tmp_path_factory.mktemp("straight")
    evaluate("expert", [short_route(i) for i in range(3)], out, show=False)
    return out


def test_results_and_metrics_agree_and_name_every_route(straight: Path) -> None:
    read = read_results(straight / "results.json")
    found = json.loads((straight / "metrics.json").read_text())
    assert [one.route_id for one in read.outcomes] == ["0", "1", "2"]
    assert read.asked == found["routes_total"] == found["routes_scored"] == 3
    assert found["driving_score"] == pytest.approx(sum(one.score_composed for one in read.outcomes) / 3)
    assert found["sim_s"] > 5.0
    run = json.loads((straight / "run.json").read_text())
    assert run["seed"] == 0
    assert run["settings"]["driver"] == "expert"


def test_two_workers_give_the_same_files_as_one(straight: Path, tmp_path: Path) -> None:
    evaluate("expert", [short_route(i) for i in range(3)], tmp_path, workers=2, show=False)
    assert files(tmp_path) == files(straight)


def test_killed_evaluation_goes_on_without_computing_twice_and_ends_the_same(
    straight: Path, tmp_path: Path
) -> None:
    tasks = [short_route(i) for i in range(3)]
    write_routes(tmp_path / "routes.xml", tasks)
    script = (
        "import os, signal, sys, threading; from pathlib import Path\n"
        "from takevla.bench import runner\n"
        "from takevla.bench.runner import evaluate\n"
        "runner.SEATS = 1\n"
        "from takevla.world.maps.route_xml import read_routes\n"
        "out = Path(sys.argv[1])\n"
        "def kill():\n"
        "    while not any((out / 'routes').glob('route-*.json')): pass\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "threading.Thread(target=kill, daemon=True).start()\n"
        "evaluate('expert', read_routes(sys.argv[2]), out, show=False)\n"
    )
    out = tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", script, str(out), str(tmp_path / "routes.xml")], check=False)
    assert done.returncode == -signal.SIGKILL
    kept = {path: path.stat().st_ino for path in (out / "routes").glob("route-*.json")}
    assert 0 < len(kept) < 3
    evaluate("expert", tasks, out, resume=True, show=False)
    assert {path: path.stat().st_ino for path in kept} == kept
    assert files(out) == files(straight)


def test_a_route_off_the_map_is_named_and_counts_zero(tmp_path: Path) -> None:
    done = evaluate("expert", [short_route(0), off_the_map(7)], tmp_path, show=False)
    assert list(done.unscored) == ["7"]
    assert "off the map" in done.unscored["7"]
    assert (done.metrics["routes_scored"], done.metrics["routes_total"]) == (1, 2)
    assert done.metrics["driving_score"] == done.metrics["driving_score_scored"] / 2
    assert read_results(tmp_path / "results.json").asked == 2


def test_an_unknown_town_is_named(tmp_path: Path) -> None:
    lost = RouteTask("5", "Atlantis", np.array([[0, 0, 0], [50, 0, 0]], np.float32))
    done = evaluate("expert", [lost], tmp_path, show=False)
    assert "Atlantis" in done.unscored["5"]


def test_resuming_another_evaluation_is_refused_with_what_differs(tmp_path: Path) -> None:
    evaluate("expert", [off_the_map(1)], tmp_path, show=False)
    with pytest.raises(ValueError, match="another seed"):
        evaluate("expert", [off_the_map(1)], tmp_path, seed=1, resume=True, show=False)


@pytest.mark.parametrize(
    ("driver", "tasks", "error", "message"),
    [
        ("expert", [], ValueError, "no routes"),
        ("expert", [off_the_map(1), off_the_map(1)], ValueError, "route 1 appears twice"),
        ("nowhere/model", [off_the_map(1)], FileNotFoundError, "nowhere/model"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_one_line(
    tmp_path: Path, driver: str, tasks: list[RouteTask], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        evaluate(driver, tasks, tmp_path, show=False)
    assert "\n" not in str(caught.value)


def test_world_seeds_differ_by_route_and_by_evaluation() -> None:
    assert len({world_seed(seed, route) for seed in range(3) for route in range(3)}) == 9


def test_routes_are_scored_by_the_table_that_was_named(tmp_path: Path) -> None:
    """Also by a driver without a checkpoint that is not the expert."""
    done = evaluate(
        "blind", [short_route(0)], tmp_path, penalties="leaderboard-2.0", density=20.0, show=False
    )
    (one,) = read_results(tmp_path / "results.json").outcomes
    again = rescored(one, LEADERBOARD_20)
    assert (one.score_penalty, one.score_composed) == (again.score_penalty, again.score_composed)
    assert done.metrics["penalty_table"] == "leaderboard-2.0"
    assert done.metrics["driving_score"] == done.metrics["driving_score_by_table"]["leaderboard-2.0"]
    with pytest.raises(ValueError, match="no penalty table"):
        evaluate("blind", [short_route(0)], tmp_path / "other", penalties="mine", show=False)
    assert not (tmp_path / "other").exists()
