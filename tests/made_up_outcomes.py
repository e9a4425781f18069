"""Made-up outcomes for the tests of the benchmark and the report."""

from __future__ import annotations

from typing import Any

import numpy as np

from takevla.bench.outcome import INFRACTIONS, RouteOutcome, TtcSummary
from takevla.bench.scores import route_score

PEDESTRIAN = (
    "Agent collided against object with type=walker.pedestrian.0001 and id=7 at (x=1.0, y=2.0, z=0.0)"
)
VEHICLE = "Agent collided against object with type=vehicle.audi.tt and id=9 at (x=1.0, y=2.0, z=0.0)"
RED = "Agent ran a red light 12 at (x=1.0, y=2.0, z=0.0)"
OUTSIDE = "Agent went outside its route lanes for about 12.5 meters (10.0% of the completed route)"


def slow(percent: float) -> str:
    return f"Average speed is {percent}% of the surrounding traffic's one"


def outcome(
    route_id: str = "1",
    scenario: str = "Accident",
    *,
    completion: float = 100.0,
    status: str | None = None,
    **changes: Any,
) -> RouteOutcome:
    infractions = dict.fromkeys(INFRACTIONS, ()) | {
        name: tuple(messages) for name, messages in changes.pop("infractions", {}).items()
    }
    factor, composed = route_score(completion, infractions)
    if status is None:
        status = "Completed" if completion >= 100.0 else "Failed - Agent got blocked"
    row: dict[str, Any] = {
        "route_id": route_id,
        "town": "Birch01",
        "scenario_type": scenario,
        "scenario_name": f"{scenario}_1" if scenario else "",
        "status": status,
        "infractions": infractions,
        "score_route": completion,
        "score_penalty": factor,
        "score_composed": composed,
        "route_length_m": 100.0,
        "duration_game_s": 26.0,
        "duration_system_s": 1.0,
    }
    return RouteOutcome(**(row | changes))


def random_outcomes(types: list[str], skill: float, seed: int) -> list[RouteOutcome]:
    """One outcome per type; the higher `skill` (0..1), the fewer infractions."""
    generator = np.random.Generator(np.random.PCG64(seed))
    result = []
    for index, scenario in enumerate(types):
        infractions: dict[str, list[str]] = {
            "min_speed_infractions": [slow(round(float(p), 2)) for p in generator.uniform(60, 240, 20)]
        }
        completion = 100.0
        if generator.random() > skill:
            kind = str(
                generator.choice(["collisions_vehicle", "collisions_pedestrian", "red_light", "blocked"])
            )
            if kind == "blocked":
                completion = float(np.round(generator.uniform(20, 90), 3))
                infractions["vehicle_blocked"] = ["Agent got blocked at (x=1.0, y=2.0, z=0.0)"]
            else:
                infractions[kind] = [VEHICLE]
        counts = tuple(int(n) for n in generator.poisson(4 + 6 * skill, 20))
        frames = int(generator.integers(300, 800))
        result.append(
            outcome(
                str(100 + index),
                scenario,
                completion=completion,
                infractions=infractions,
                comfort=float(generator.uniform(0.1, 0.9)),
                comfort_si=float(generator.uniform(0.3, 1.0)),
                ttc=TtcSummary(float(generator.uniform(2, 6) + skill), frames, sum(counts), counts),
            )
        )
    return result
