"""Executors: order, equality of one and many workers, deaths, errors."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from takevla import scale


def square(job: int, report: scale.Report) -> tuple[int, str]:
    report(0.5)
    return job * job, os.environ["OMP_NUM_THREADS"]


def die_until_third_try(job: tuple[int, str], report: scale.Report) -> int:
    number, folder = job
    if number == 1:
        tries = len(list(Path(folder).iterdir()))
        (Path(folder) / f"{tries}").touch()
        if tries < 2:
            os.kill(os.getpid(), signal.SIGKILL)
    return number


def always_die(job: int, report: scale.Report) -> int:
    if job == 1:
        os._exit(7)
    return job


def refuse(job: int, report: scale.Report) -> int:
    raise ValueError(f"recipe.yaml: key seed: {job} is not allowed")


def stumble(job: int, report: scale.Report) -> int:
    return 1 // 0


class Log(scale.Listener):
    def __init__(self) -> None:
        self.shares: list[tuple[int, float]] = []
        self.ended: list[int] = []

    def progress(self, index: int, share: float) -> None:
        self.shares.append((index, share))

    def finished(self, index: int, result: object) -> None:
        self.ended.append(index)


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_jobs_and_every_job_runs_on_one_thread(workers: int) -> None:
    log = Log()
    jobs = list(range(7))
    results = scale.executor(workers).run(square, jobs, [str(job) for job in jobs], log)
    assert results == [(job * job, "1") for job in jobs]
    assert sorted(log.shares) == [(job, 0.5) for job in jobs]
    assert sorted(log.ended) == jobs


def test_a_job_whose_worker_is_killed_is_tried_again(tmp_path: Path) -> None:
    jobs = [(number, str(tmp_path)) for number in range(3)]
    assert scale.LocalProcesses(2).run(die_until_third_try, jobs, ["a", "b", "c"]) == [0, 1, 2]
    assert len(list(tmp_path.iterdir())) == 3


def test_a_job_that_kills_every_worker_is_named_and_the_others_finish() -> None:
    results = scale.LocalProcesses(2, attempts=2).run(always_die, [0, 1, 2], ["a", "b", "c"])
    assert results[0] == 0
    assert results[2] == 2
    assert str(results[1]) == "b: its worker died (exit code 7) after 2 attempts"


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_input_found_by_a_job_keeps_its_type_and_message(workers: int) -> None:
    with pytest.raises(ValueError, match=r"^recipe.yaml: key seed: 3 is not allowed$"):
        scale.executor(workers).run(refuse, [3], ["x"])


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_names_its_job(workers: int) -> None:
    with pytest.raises(RuntimeError, match=r"^batch 4: ZeroDivisionError"):
        scale.executor(workers).run(stumble, [3], ["batch 4"])


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
