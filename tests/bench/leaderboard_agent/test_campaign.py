"""Bench2Drive under supervision: whatever the evaluator does, no finished route is lost or driven twice."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from takevla.bench.carla import processes
from takevla.bench.carla.attempt import Crash, Patience, run_attempt
from takevla.bench.carla.campaign import Campaign, run_campaign
from takevla.bench.carla.checkout import EVALUATOR, WEATHERS, Checkout, find_checkout, source_tree
from takevla.bench.leaderboard_json import read_results
from takevla.world.maps.route_xml import RouteTask, write_routes

HERE = Path(__file__).parent
# To start an interpreter may take long on a loaded machine; only what hangs is waited for in vain.
PATIENCE = Patience(start_s=120.0, stall_s=4.0, server_s=60.0, finish_s=1.0, poll_s=0.02)
IDS = ("11", "12", "13", "14")


class Stage:
    """A made-up checkout, simulator, checkpoint and route file in a folder."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, starts_carla: bool = True) -> None:
        self.folder = folder
        self.evaluator = folder / "checkout" / EVALUATOR
        self.evaluator.parent.mkdir(parents=True)
        source = (HERE / "stand_in_evaluator.py").read_text()
        self.evaluator.write_text(source + ("\n# starts CarlaUE4.sh\n" if starts_carla else ""))
        self.weathers = folder / "checkout" / WEATHERS
        self.weathers.parent.mkdir()
        self.weathers.write_text("<weathers/>")
        self.carla = folder / "carla"
        self.carla.mkdir()
        script = f'#!/bin/sh\nexec "{sys.executable}" "{HERE / "stand_in_server.py"}" "$@"\n'
        (self.carla / "CarlaUE4.sh").write_text(script)
        (self.carla / "CarlaUE4.sh").chmod(0o755)
        self.driver = folder / "checkpoint"
        self.driver.mkdir()
        (self.driver / "config.json").write_text("{}")
        self.routes = folder / "routes.xml"
        self.routes.write_text("<routes/>")
        self.state = folder / "state"
        self.state.mkdir()
        self.out = folder / "out"
        self.told: list[str] = []
        monkeypatch.setenv("STAND_IN_PLAN", str(folder / "plan.json"))
        monkeypatch.setenv("STAND_IN_STATE", str(self.state))

    @property
    def checkout(self) -> Checkout:
        return find_checkout(self.folder / "checkout", self.carla)

    def run(self, plan: dict[str, Any], **settings: Any) -> Campaign:
        (self.folder / "plan.json").write_text(json.dumps(plan))
        return run_campaign(
            self.checkout, str(self.driver), self.routes, IDS, self.out,
            patience=PATIENCE, tell=self.told.append, **settings,
        )  # fmt: skip

    def calls(self, route: str) -> int:
        path = self.state / f"{route}.calls"
        return path.stat().st_size if path.exists() else 0

    def statuses(self) -> dict[str, str]:
        return {one.route_id: one.status for one in read_results(self.out / "results.json").outcomes}


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(processes, "STOP_S", 0.5)  # a hanging stand-in does not listen to SIGTERM
    return Stage(tmp_path, monkeypatch)


ALL_COMPLETED = dict.fromkeys(IDS, "Completed")


def test_every_route_is_driven_once_and_merged(stage: Stage) -> None:
    done = stage.run({}, workers=2)
    assert (done.scored, done.unscored, done.crashes) == (4, {}, ())
    assert [stage.calls(name) for name in IDS] == [1, 1, 1, 1]
    merged = json.loads((stage.out / "merged.json").read_text())
    assert merged["driving score"] == 100.0
    assert [one["route_id"] for one in merged["_checkpoint"]["records"]] == [
        f"RouteScenario_{name}_rep0" for name in reversed(IDS)
    ]
    seen = json.loads((stage.state / "seen").read_text())
    assert seen["environment"]["IS_BENCH2DRIVE"] == "True"
    assert seen["environment"]["TAKEVLA_DEVICE"] == "cpu"
    assert not any(word.startswith("--resume") for word in seen["argv"])


@pytest.mark.parametrize(
    ("behaviour", "crash"),
    [
        ("agent", "agent crashed"),
        ("simulator", "simulator crashed"),
        ("traceback", "agent crashed"),
        ("time-out", "simulator crashed"),
        ("hang", "nothing moved"),
        ("half", "evaluator ended"),
    ],
)
def test_a_crash_is_named_retried_and_costs_no_other_route(stage: Stage, behaviour: str, crash: str) -> None:
    done = stage.run({"12": [behaviour]})
    assert stage.statuses() == ALL_COMPLETED
    assert [(one["route_id"], one["crash"]) for one in done.crashes] == [("12", crash)]
    assert [stage.calls(name) for name in IDS] == [1, 2, 1, 1]


def test_a_route_that_crashes_again_and_again_is_given_up(stage: Stage) -> None:
    done = stage.run({"12": ["agent"] * 9, "13": ["time-out"] * 9}, retries=2)
    assert [stage.calls(name) for name in IDS] == [1, 2, 2, 1]
    assert stage.statuses() == {"11": "Completed", "12": "Failed - Agent crashed", "14": "Completed"}
    assert list(done.unscored) == ["13"]
    assert "simulator crashed" in done.unscored["13"]
    assert read_results(stage.out / "results.json").asked == 4
    # Going on tries what was given up again, and nothing else.
    done = stage.run({}, retries=2)
    assert stage.statuses() == ALL_COMPLETED
    assert [stage.calls(name) for name in IDS] == [1, 3, 3, 1]


@pytest.mark.parametrize("plan", [{"start": "never"}, {"11": ["set-up"] * 9}])
def test_what_cannot_start_stops_the_evaluation_and_says_why(stage: Stage, plan: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match=r"0 of 4 routes driven: .* 3 times: .*(py_trees|set up)"):
        stage.run(plan)


def test_a_fault_that_hits_every_route_stops_the_evaluation_though_the_evaluator_has_begun(
    stage: Stage,
) -> None:
    told = r"0 of 4 routes driven: evaluator ended 3 times: exit code 1; File .*nowhere\.xml'"
    with pytest.raises(RuntimeError, match=told):
        stage.run({"start": "empty"})
    assert list((stage.out / "given_up").glob("*")) == []
    crashes = json.loads((stage.out / "crashes.json").read_text())
    assert [one["route_id"] for one in crashes] == ["11", "12", "13"]  # no route is blamed, the next is tried
    stage.run({})
    assert stage.statuses() == ALL_COMPLETED


def test_a_route_over_which_alone_every_call_ends_at_once_is_given_up(stage: Stage) -> None:
    done = stage.run({"12": ["empty"] * 9})
    assert stage.statuses() == dict.fromkeys(("11", "13", "14"), "Completed")
    assert list(done.unscored) == ["12"]
    assert "given up after 3 calls: evaluator ended" in done.unscored["12"]


def test_a_killed_supervisor_goes_on_where_it_stopped(stage: Stage) -> None:
    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    (stage.folder / "plan.json").write_text(json.dumps({"between_s": 5, "orphan": True}))
    with pytest.raises(KeyboardInterrupt):
        run_campaign(
            stage.checkout, str(stage.driver), stage.routes, IDS, stage.out, patience=PATIENCE, tell=interrupt
        )
    assert len(list((stage.out / "records").iterdir())) == 1
    assert (stage.state / "orphans").exists()
    assert processes.marked(str(stage.out)) == []  # the simulator that the evaluator detached is gone as well
    stage.run({})
    assert stage.statuses() == ALL_COMPLETED
    assert stage.calls("11") == 1


def test_a_route_that_ended_after_the_supervisor_was_killed_is_not_driven_again(stage: Stage) -> None:
    stage.run({"12": ["agent"] * 9}, retries=1)
    (call,) = [path for path in (stage.out / "calls").iterdir() if '"RouteScenario_13' in _results(path)]
    for route in ("13", "14"):
        (stage.out / "records" / f"{route}.json").unlink()  # as if nobody had been there to commit them
    stage.run({"12": ["agent"] * 9}, retries=1)
    assert [stage.calls(name) for name in IDS] == [1, 2, 1, 1]
    assert stage.statuses() == ALL_COMPLETED | {"12": "Failed - Agent crashed"}
    stage.run({}, resume=False)  # and of what is started over nothing is left
    assert [stage.calls(name) for name in IDS] == [2, 3, 2, 2]
    assert not call.exists()


def _results(call: Path) -> str:
    return (call / "checkpoint.json").read_text()


def _heed_interrupts() -> None:
    """What a shell has its background jobs ignore."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_all_that_it_started_and_goes_on_later(stage: Stage, sign: signal.Signals) -> None:
    lane = np.array([[0, 0, 0], [50, 0, 0]], np.float32)
    write_routes(stage.routes, [RouteTask(name, "Town12", lane) for name in IDS])
    command = [
        sys.executable, "-m", "takevla", "evaluate", "--world", "carla", "--bench2drive",
        str(stage.folder / "checkout"), "--carla-root", str(stage.carla), "--routes", str(stage.routes),
        "--driver", str(stage.driver), "--out", str(stage.out), "--workers", "1",
    ]  # fmt: skip
    (stage.folder / "plan.json").write_text(json.dumps({"between_s": 60, "orphan": True}))
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_heed_interrupts
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "route 11: Completed, 100.0\n"
        process.send_signal(sign)
        said = process.stderr.read()
    assert process.returncode == 130
    assert said == "takevla evaluate: interrupted; the same command goes on where it stopped\n"
    assert processes.marked(str(stage.out)) == []
    (stage.folder / "plan.json").write_text("{}")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("1 of 4 routes are there already\n")
    assert "no motion log of 4 of 4 routes" in done.stdout
    assert stage.statuses() == ALL_COMPLETED
    assert [stage.calls(name) for name in IDS] == [1, 1, 1, 1]


def test_another_checkpoint_does_not_mix_into_a_folder(stage: Stage) -> None:
    stage.run({})
    (stage.driver / "config.json").write_text('{"another": 1}')
    with pytest.raises(ValueError, match="another driver_digest"):
        stage.run({})


def test_a_simulator_of_ours_is_started_and_replaced_when_it_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path, monkeypatch, starts_carla=False)
    done = stage.run({"12": ["kill-server"]})
    assert stage.statuses() == ALL_COMPLETED
    assert [(one["route_id"], one["crash"]) for one in done.crashes] == [("12", "simulator crashed")]
    assert (stage.state / "servers").read_text() == "xx"
    (stage.state / "server-broken").touch()
    with pytest.raises(RuntimeError, match="CARLA ended with exit code 1: Signal 11"):
        stage.run({}, resume=False)


def test_a_wrong_checkout_is_refused_by_name(stage: Stage) -> None:
    with pytest.raises(FileNotFoundError, match="leaderboard_evaluator"):
        find_checkout(stage.folder, stage.carla)
    with pytest.raises(FileNotFoundError, match="--carla-root"):
        find_checkout(stage.folder / "checkout", stage.folder)
    with pytest.raises(FileNotFoundError, match="--python nowhere/python: no such program"):
        find_checkout(stage.folder / "checkout", stage.carla, "nowhere/python")
    stage.weathers.unlink()
    with pytest.raises(FileNotFoundError, match=r"weather\.xml, which its evaluator opens"):
        find_checkout(stage.folder / "checkout", stage.carla)


def test_what_the_evaluator_is_given_holds_in_the_checkouts_folder_too(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stage.folder / "bin").mkdir()
    (stage.folder / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.chdir(stage.folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["mine", *filter(None, sys.path)]))
    (stage.folder / "plan.json").write_text("{}")
    checkout = find_checkout(Path("checkout"), Path("carla"), "bin/python")
    assert checkout.python == str(stage.folder / "bin" / "python")  # the link, which knows its environment
    run_campaign(
        checkout, "checkpoint", Path("routes.xml"), IDS, Path("out"), patience=PATIENCE,
        tell=stage.told.append,
    )  # fmt: skip
    assert stage.statuses() == ALL_COMPLETED
    seen = json.loads((stage.state / "seen").read_text())
    assert seen["environment"]["WORK_DIR"] == str(stage.folder / "checkout")
    assert str(stage.folder / "mine") in seen["environment"]["PYTHONPATH"].split(os.pathsep)
    given = [word.partition("=")[2] for word in seen["argv"] if word.startswith("--")]
    assert [word for word in given if "/" in word and not Path(word).is_absolute()] == []
    assert {str(stage.routes), str(stage.driver)} < set(given)


def test_an_evaluator_that_stays_silent_is_waited_for_as_long_as_a_start_may_take(tmp_path: Path) -> None:
    done = run_attempt(
        [sys.executable, "-c", "import time; time.sleep(600)"], {}, IDS, tmp_path, tmp_path,
        Patience(start_s=0.5, stall_s=600.0, poll_s=0.02), lambda name, record: None, threading.Event(),
    )  # fmt: skip
    assert (done.crash, done.culprit) == (Crash.NEVER_STARTED, "11")
    assert done.reason.startswith("nothing written for 0.5 s")


def test_only_a_source_tree_goes_onto_the_evaluators_import_path(tmp_path):
    package = tmp_path / "takevla" / "__init__.py"
    assert source_tree(package) == []  # installed: what lies beside it is for its own Python
    (tmp_path / "pyproject.toml").touch()
    assert source_tree(package) == [tmp_path]
