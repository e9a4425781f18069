"""How much do the words cost?  A suite driven with the model's own words, or with others in their place.

    python benchmarks/whose_words.py --words own|expert [--favour NATS] [--model NAME] [--suite NAME]
        [--json FILE]

With `--words expert` the expert, who sees everything, says each commentary and the model plans upon it: what
is lost then is the plan's fault, what is gained the words' share.  `--favour B` adds B to the scores of
"brake" and "slow" at the beginning of each sentence: whether the most probable word is the best.
The one looks at what the expert knows, the other turns a knob by hand: they diagnose, and are no result of a
method.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from takevla.bench.judge import judge
from takevla.bench.metrics import metrics
from takevla.bench.outcome import RouteOutcome
from takevla.bench.runner import SEATS, world_seed
from takevla.bench.suites import load_suite
from takevla.driver.closed_loop import Seat, drive
from takevla.driver.expert import Expert
from takevla.driver.vla.checkpoint import load_checkpoint
from takevla.driver.vla.named import model_folder
from takevla.driver.vla.opening import OpeningHead
from takevla.driver.vla.policy import VlaDriver
from takevla.files import write_json
from takevla.learn.dream.spoken import opening_ids
from takevla.scene.plan import Observation, Plan
from takevla.scene.scene import Controls, Ego
from takevla.takeover.commentary import ACTION_WORDS, plan_commentary
from takevla.world.camera import Camera
from takevla.world.embedded import EmbeddedWorld
from takevla.world.maps.atlas import load_town

FAVOURED = ("brake to", "slow to")


class Prompted:
    """The VLA upon the words of an expert who sees the true scene."""

    needs_image = True
    needs_privilege = True

    def __init__(self, vla: VlaDriver) -> None:
        self._vla, self._expert, self._said = vla, Expert(vla.period_us), dict[int, str]()
        self.name, self.period_us, self.rig = f"{vla.name} prompted", vla.period_us, vla.rig
        vla.forced = lambda observation: self._said[observation.seat]

    def reset(self, seats: Sequence[int]) -> None:
        """Both forget."""
        self._vla.reset(seats)
        self._expert.reset(seats)

    def plan(self, observations: Sequence[Observation]) -> list[Plan]:
        """The expert speaks, the model plans."""
        for seen, answer in zip(observations, self._expert.plan(observations), strict=True):
            self._said[seen.seat] = plan_commentary(answer, seen.speed_mps)
        return self._vla.plan(observations)


@dataclass
class Judged:
    """Scores every route at its end."""

    outcomes: list[RouteOutcome] = field(default_factory=list)

    def on_plan(self, seat: Seat, observation: Observation, plan: Plan) -> None:
        """Nothing."""

    def on_tick(self, seat: Seat, ego: Ego, controls: Controls) -> None:
        """Nothing."""

    def on_finish(self, seat: Seat) -> None:
        """Score it."""
        world = seat.world
        assert isinstance(world, EmbeddedWorld)
        self.outcomes.append(judge(world.record(), world.route, world.road_map, 0.0))


def favouring(vla: VlaDriver, nats: float) -> OpeningHead:
    """A head that adds `nats` to the scores of `FAVOURED` while the ego moves, whatever it sees."""
    head = OpeningHead(vla.model.config.width, opening_ids(vla.tokenizer))
    with torch.no_grad():
        for number, words in enumerate(ACTION_WORDS):
            head.outer.bias[number] = nats * (words in FAVOURED)
    return head.eval()


def main() -> None:
    """Drive and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--words", choices=["own", "expert"], required=True)
    parser.add_argument("--favour", type=float, default=0.0)
    parser.add_argument("--model", default="shipped")
    parser.add_argument("--suite", default="dev88")
    parser.add_argument("--routes", type=int, default=0, help="the first so many; 0 for all")
    parser.add_argument("--seed", type=int, default=0, help="of the traffic")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    loaded, suite, began = (
        load_checkpoint(model_folder(asked.model)),
        load_suite(asked.suite),
        time.monotonic(),
    )
    vla = VlaDriver(loaded.model, loaded.tokenizer, residual=loaded.residual, rig=loaded.rig)
    if asked.favour:
        vla.opening = favouring(vla, asked.favour)
    tasks = suite.tasks[: asked.routes or None]
    seats = (
        Seat(index, EmbeddedWorld(load_town(task.town), task, world_seed(asked.seed, seed), suite.density))
        for index, (task, seed) in enumerate(zip(tasks, suite.seeds, strict=False))
    )
    judged = Judged()
    driver = Prompted(vla) if asked.words == "expert" else vla
    drive(seats, driver, Camera.of(vla.rig), [judged], at_most=SEATS)
    found = metrics(judged.outcomes, len(tasks))
    kept = ("driving_score", "success_rate", "ttc_mean_s", "route_completion", "ability")
    content = {name: found[name] for name in kept} | {
        "words": asked.words, "favour": asked.favour, "model": asked.model, "suite": asked.suite,
        "routes": len(tasks), "seed": asked.seed, "wall_s": round(time.monotonic() - began, 1),
    }  # fmt: skip
    print(json.dumps(content, indent=1))
    if asked.json:
        write_json(asked.json, content)


if __name__ == "__main__":
    main()
