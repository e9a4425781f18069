"""What one driven route comes to: the row that every score of the benchmark is computed from.

An outcome is made from the embedded world's own record or from a record of a leaderboard result file; what a
file does not hold (comfort, time-to-collision) is None there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# Keys of a record's infractions, in the order of the CARLA leaderboard (benchmark facts 1.3).
INFRACTIONS = (
    "collisions_layout",
    "collisions_pedestrian",
    "collisions_vehicle",
    "red_light",
    "stop_infraction",
    "outside_route_lanes",
    "min_speed_infractions",
    "yield_emergency_vehicle_infractions",
    "scenario_timeouts",
    "route_dev",
    "vehicle_blocked",
    "route_timeout",
)

TTC_BIN_S = 0.5  # width of a bin of `TtcSummary.histogram`


@dataclass(frozen=True, slots=True)
class TtcSummary:
    """Least time-to-collision over the frames (20 Hz) of one route; the rule is in `scene.ttc`."""

    mean_s: float | None  # over frames on a collision course; None when there are none
    frames: int
    frames_on_course: int
    histogram: tuple[int, ...]  # frames on course per bin of `TTC_BIN_S` up to the cap


@dataclass(frozen=True, slots=True)
class RouteOutcome:
    """One route, driven and judged.  Scores are rounded as the leaderboard rounds them."""

    route_id: str  # id of the route in its file, without "RouteScenario_" and "_rep"
    town: str
    scenario_type: str  # "" when the route has none
    scenario_name: str
    status: str  # "Perfect", "Completed", "Failed" or "Failed - <reason>"
    infractions: Mapping[str, tuple[str, ...]]  # messages for each of `INFRACTIONS`
    score_route: float  # 0..100 % of the route
    score_penalty: float  # 0..1
    score_composed: float  # 0..100
    route_length_m: float
    duration_game_s: float
    duration_system_s: float
    weather_id: str | int | None = None
    repetition: int = 0
    scenario_started: bool = True
    scenario_note: str = ""  # why the scenario did not start
    comfort: float | None = None  # share of comfortable chunks, official rule
    comfort_si: float | None = None
    ttc: TtcSummary | None = None
    junction_percent: float | None = None  # route completion that has passed the first junction's entry
    extra: Mapping[str, str] = field(
        default_factory=dict
    )  # other words of the file's record, kept as they are

    @property
    def key(self) -> tuple[str, int]:
        """What pairs two outcomes of the same route."""
        return self.route_id, self.repetition

    @property
    def finished(self) -> bool:
        """The route was driven to its end."""
        return self.status in ("Completed", "Perfect")

    @property
    def success(self) -> bool:
        """Finished, and nothing but min-speed messages among the infractions (benchmark facts 1.5)."""
        return self.finished and not any(
            messages for name, messages in self.infractions.items() if name != "min_speed_infractions"
        )
