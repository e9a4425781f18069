"""Do words decide the action?  Forced commentary against the speed that the plan ends with.

    python benchmarks/words.py [--model PATH|shipped] [--frames N] [--json FILE]

The same views of `dev88` (met by the expert at 3 to 8 m/s) are shown with each sentence in place of the
model's own; the figure is the mean speed over the last half second of the plan, m/s.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from takevla.bench.suites import load_suite
from takevla.driver.closed_loop import Seat, drive, observe
from takevla.driver.expert.expert import Expert
from takevla.driver.vla.checkpoint import load_checkpoint
from takevla.driver.vla.named import model_folder
from takevla.driver.vla.policy import Prompter, VlaDriver
from takevla.scene.plan import Observation, Plan
from takevla.scene.scene import Controls, Ego
from takevla.takeover.commentary import planned_speed_mps
from takevla.world.camera import Camera
from takevla.world.embedded import EmbeddedWorld
from takevla.world.maps.atlas import load_town

SENTENCES = (
    "brake to 0m/s for the red light 5m ahead",
    "brake to 0m/s now for the pedestrian 10m ahead 1.5s to impact",
    "slow to 3m/s behind the car 10m ahead",
    "hold 6m/s on the free road",
    "speed up to 10m/s on the free road",
)
SPEEDS_MPS = (3.0, 8.0)
ROUTES = 16
EVERY = 16  # plans from one view to the next


@dataclass
class Views:
    """Collects what the ego sees on the way."""

    camera: Camera
    seen: list[Observation] = field(default_factory=list)
    _count: int = 0

    def on_plan(self, seat: Seat, observation: Observation, plan: Plan) -> None:
        """Look, every so often."""
        self._count += 1
        if self._count % EVERY == 0 and SPEEDS_MPS[0] <= observation.speed_mps <= SPEEDS_MPS[1]:
            self.seen.append(observe(seat.world, seat, self.camera, privileged=False))

    def on_tick(self, seat: Seat, ego: Ego, controls: Controls) -> None:
        """Nothing."""

    def on_finish(self, seat: Seat) -> None:
        """Nothing."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="shipped", help="checkpoint folder, or 'shipped'")
    parser.add_argument("--frames", type=int, default=64, help="views at most")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    folder = model_folder(arguments.model)
    checkpoint = load_checkpoint(folder)
    suite, views = load_suite("dev88"), Views(Camera())
    picked = range(0, len(suite.tasks), len(suite.tasks) // ROUTES)
    seats = [
        Seat(k, EmbeddedWorld(load_town(suite.tasks[k].town), suite.tasks[k], suite.seeds[k], suite.density))
        for k in picked
    ]
    drive(seats, Expert(250_000), None, [views])
    seen = views.seen[: arguments.frames]
    figures: dict[str, object] = {"model": folder.name, "frames": len(seen)}
    own = VlaDriver(checkpoint.model, checkpoint.tokenizer)
    speeds = {"(its own words)": [planned_speed_mps(plan) for plan in own.plan(seen)]}
    for sentence in SENTENCES:
        forced = VlaDriver(checkpoint.model, checkpoint.tokenizer, forced=_always(sentence))
        speeds[sentence] = [planned_speed_mps(plan) for plan in forced.plan(seen)]
    means = {words: round(float(np.mean(row)), 2) for words, row in speeds.items()}
    figures["last_planned_speed_mps"] = means
    print(json.dumps(figures, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def _always(sentence: str) -> Prompter:
    return lambda _: sentence


if __name__ == "__main__":
    main()
