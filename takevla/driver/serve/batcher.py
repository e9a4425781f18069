"""One driver for many callers: whoever waits while the model computes is planned for in the next batch."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass

from takevla.driver.driver import Driver
from takevla.scene.plan import Observation, Plan


@dataclass(frozen=True)
class _Question:
    observation: Observation
    answer: Future[Plan]


class Batcher:
    """Gathers the observations that threads bring and plans for them together.

    The driver is only ever touched by one thread.  No caller waits for others to come: a batch is what
    has arrived by the time the batch before it is done, so that one session alone loses nothing and many
    fill the batch.  A seat appears at most once in a batch.
    """

    def __init__(self, driver: Driver, most: int = 32) -> None:
        """`most` is the largest batch.  Close it in the end, or use it as a context."""
        self._driver = driver
        self._most = most
        self._waiting: queue.Queue[_Question | None] = queue.Queue()
        self._held: list[_Question] = []
        self.largest_batch = 0
        self._lock = threading.Lock()  # between planning and forgetting a seat
        self._thread = threading.Thread(target=self._work, name="batched-planning", daemon=True)
        self._thread.start()

    def plan(self, observation: Observation) -> Plan:
        """The driver's plan; blocks until it is there.  Raises what the driver raises."""
        question = _Question(observation, Future())
        self._waiting.put(question)
        return question.answer.result()

    def reset(self, seat: int) -> None:
        """A new route starts at this seat."""
        with self._lock:
            self._driver.reset([seat])

    def close(self) -> None:
        """Answer what waits and stop."""
        self._waiting.put(None)
        self._thread.join()

    def __enter__(self) -> Batcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self) -> None:
        open_ = True
        while open_ or self._held:
            batch, self._held = self._held, []
            if not batch:
                first = self._waiting.get()
                if first is None:
                    return
                batch = [first]
            while len(batch) < self._most:
                try:
                    question = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if question is None:
                    open_ = False
                    break
                seats = {one.observation.seat for one in batch}
                (self._held if question.observation.seat in seats else batch).append(question)
            self._answer(batch)

    def _answer(self, batch: list[_Question]) -> None:
        self.largest_batch = max(self.largest_batch, len(batch))
        try:
            with self._lock:
                plans = self._driver.plan([one.observation for one in batch])
            if len(plans) != len(batch):
                raise ValueError(
                    f"driver {self._driver.name!r}: {len(plans)} plans for {len(batch)} observations"
                )
        except Exception as error:
            for one in batch:
                one.answer.set_exception(error)
            return
        for one, plan in zip(batch, plans, strict=True):
            one.answer.set_result(plan)
