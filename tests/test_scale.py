"""Executors: order, equality of one and many workers, deaths, errors."""

import json
import os
import platform
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from takevla import scale

TAKE_AND_FREE = """
import resource, sys
import numpy as np
from takevla.scale import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
np.ones(8 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(8 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
ADVISED_BYTES = """
from pathlib import Path
from takevla.scale import keep_freed_memory


def advised():
    size = total = 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        key, *rest = line.split()
        if key == "Size:":
            size = int(rest[0]) << 10
        elif key == "VmFlags:" and "hg" in rest:
            total += size
    return total


print(advised())
keep_freed_memory()
print(advised())
"""


def square(job: int, report: scale.Report) -> tuple[int, str]:
    report(0.5)
    return job * job, os.environ["OMP_NUM_THREADS"]


def die_once(job: tuple[int, str], report: scale.Report) -> int:
    number, folder = job
    if number == 1:
        tries = len(list(Path(folder).iterdir()))
        (Path(folder) / f"{tries}").touch()
        if tries < 1:
            os.kill(os.getpid(), signal.SIGKILL)
    return number


def always_die(job: int, report: scale.Report) -> int:
    if job == 1:
        os._exit(7)
    return job


def refuse(job: int, report: scale.Report) -> int:
    raise ValueError(f"recipe.yaml: key seed: {job} is not allowed")


def read_settings(path: Path, report: scale.Report) -> object:
    return json.loads(path.read_text())


def stumble(job: int, report: scale.Report) -> int:
    return 1 // 0


def add(job: int, report: scale.Report, term: int) -> tuple[int, int]:
    return job + term, os.getpid()


@pytest.fixture(autouse=True)
def workers_find_this_file(monkeypatch):
    """A cluster's workers import the functions above by the name of this module."""
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


class Log(scale.Listener):
    def __init__(self) -> None:
        self.shares: list[tuple[int, float]] = []
        self.ended: list[int] = []

    def progress(self, index: int, share: float) -> None:
        self.shares.append((index, share))

    def finished(self, index: int, result: object) -> None:
        self.ended.append(index)


@pytest.fixture(params=["here", "processes", "ray"])
def engine(request: pytest.FixtureRequest) -> scale.Executor:
    if request.param == "ray":
        pytest.importorskip("ray")
        return scale.executor(2, scale.RayCluster())
    return scale.executor(2 if request.param == "processes" else 1)


@pytest.fixture(params=["processes", "ray"])
def mortal(request: pytest.FixtureRequest) -> scale.Executor:
    """Executors whose workers can die without the caller, that try a job twice."""
    if request.param == "ray":
        pytest.importorskip("ray")
        from takevla.scale.ray_actors import RayActors

        return RayActors(2, attempts=2)
    return scale.LocalProcesses(2, attempts=2)


def run(engine: scale.Executor, function, jobs, names, listener=None):
    with engine.crew(function) as crew:
        return crew.run(jobs, names, listener)


def test_results_come_in_the_order_of_jobs_and_every_job_runs_on_one_thread(engine: scale.Executor) -> None:
    log = Log()
    jobs = list(range(7))
    results = run(engine, square, jobs, [str(job) for job in jobs], log)
    assert results == [(job * job, "1") for job in jobs]
    assert sorted(log.shares) == [(job, 0.5) for job in jobs]
    assert sorted(log.ended) == jobs


def test_a_crew_stays_between_its_runs(engine: scale.Executor) -> None:
    with engine.crew(partial(add, term=10)) as crew:
        runs = [crew.run([1, 2, 3], ["a", "b", "c"]) for _ in range(2)]
    assert [[value for value, _ in results] for results in runs] == [[11, 12, 13]] * 2
    first, second = ({worker for _, worker in results} for results in runs)
    assert len(first | second) <= 2


def test_a_job_whose_worker_is_killed_is_tried_again(mortal: scale.Executor, tmp_path: Path) -> None:
    log = Log()
    jobs = [(number, str(tmp_path)) for number in range(3)]
    assert run(mortal, die_once, jobs, ["a", "b", "c"], log) == [0, 1, 2]
    assert len(list(tmp_path.iterdir())) == 2
    assert sorted(log.ended) == [0, 1, 2]


def test_a_job_that_kills_every_worker_is_named_and_the_others_finish(mortal: scale.Executor) -> None:
    results = run(mortal, always_die, [0, 1, 2], ["a", "b", "c"])
    assert results[0] == 0
    assert results[2] == 2
    assert re.fullmatch(r"b: its worker died \(.+\) after 2 attempts", str(results[1]))


def test_bad_input_found_by_a_job_keeps_its_type_and_message(engine: scale.Executor) -> None:
    with pytest.raises(ValueError, match=r"^recipe.yaml: key seed: 3 is not allowed$"):
        run(engine, refuse, [3], ["x"])


@pytest.mark.parametrize("of", ["processes", "ray"])
def test_bad_files_found_by_a_job_are_named_whatever_the_error(of: str, tmp_path: Path) -> None:
    if of == "ray":
        pytest.importorskip("ray")
    engine = scale.executor(2, scale.RayCluster() if of == "ray" else None)
    missing, broken = tmp_path / "missing.json", tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(FileNotFoundError, match=rf"^{missing}: no such file"):
        run(engine, read_settings, [missing, missing], ["x", "y"])
    with pytest.raises(ValueError, match=r"^Expecting property name"):
        run(engine, read_settings, [broken, broken], ["x", "y"])


def test_an_error_has_its_traceback_for_a_note() -> None:
    with pytest.raises(RuntimeError) as caught:
        run(scale.executor(2), stumble, [3, 3], ["batch 4", "batch 5"])
    assert len(str(caught.value).splitlines()) == 1
    assert "in stumble" in caught.value.__notes__[0]


def test_an_error_names_its_job(engine: scale.Executor) -> None:
    with pytest.raises(RuntimeError, match=r"^batch 4: ZeroDivisionError"):
        run(engine, stumble, [3], ["batch 4"])


def test_one_thread_gives_back_what_was_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with scale.one_thread():
        assert os.environ["MKL_NUM_THREADS"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "5"
    assert "MKL_NUM_THREADS" not in os.environ


@given(st.lists(st.integers()), st.integers(1, 20))
def test_groups_keep_order_lose_nothing_and_are_even(items: list[int], size: int) -> None:
    cut = scale.groups(items, size)
    assert [item for group in cut for item in group] == items
    lengths = {len(group) for group in cut}
    assert not lengths or (max(lengths) <= size and max(lengths) - min(lengths) <= 1)


def test_nobody_works_without_workers() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        scale.executor(0)


def test_a_cluster_without_ray_is_refused_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "takevla.scale.ray_actors", raising=False)
    with pytest.raises(ValueError, match=r"pip install 'takevla\[ray\]'"):
        scale.executor(2, scale.RayCluster())


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that gives memory back")
def test_kept_memory_is_taken_again_without_page_faults() -> None:
    faults = {}
    for mode in ("leave", "keep"):
        command = [sys.executable, "-c", TAKE_AND_FREE, mode]
        faults[mode] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert faults["keep"] < 0.2 * faults["leave"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's heap that is advised")
@pytest.mark.skipif(not LARGE_PAGES.is_file(), reason="a kernel without large pages")
def test_the_heap_of_a_worker_may_have_large_pages() -> None:
    output = subprocess.run(
        [sys.executable, "-c", ADVISED_BYTES], check=True, capture_output=True, text=True
    ).stdout
    before, after = (int(part) for part in output.split())
    assert after - before >= 2 << 30
