"""From the record of a driven route to its outcome."""

from __future__ import annotations

import numpy as np

from takevla.bench.abilities import junction_percent
from takevla.bench.comfort import Motion, comfort
from takevla.bench.outcome import TTC_BIN_S, RouteOutcome, TtcSummary
from takevla.bench.scores import BENCH2DRIVE, SCORE_DIGITS, PenaltyTable, route_score
from takevla.scene.road_map import RoadMap
from takevla.scene.route import Route
from takevla.scene.scene import TICK_US
from takevla.scene.ttc import CAP_S, route_ttc
from takevla.world.record import RouteRecord


def summarise_ttc(record: RouteRecord) -> TtcSummary:
    """Mean, coverage and distribution of the least time-to-collision over the ticks of a route."""
    values = record.ttc_s
    on_course = values[values <= CAP_S]
    bins = np.linspace(0.0, CAP_S, round(CAP_S / TTC_BIN_S) + 1)
    counts, _ = np.histogram(on_course, bins)
    return TtcSummary(route_ttc(values), len(values), len(on_course), tuple(int(n) for n in counts))


def first_junction_percent(route: Route, road_map: RoadMap) -> float | None:
    """`abilities.junction_percent` of a dense route."""
    inside = road_map.arrays.lane_junction[np.maximum(route.lane, 0)] >= 0
    return junction_percent((inside & (route.lane >= 0)).tolist())


def judge(
    record: RouteRecord, route: Route, road_map: RoadMap, wall_s: float, table: PenaltyTable = BENCH2DRIVE
) -> RouteOutcome:
    """Score a route.

    Args:
        record: what the world noted.
        route: the dense route that was asked for.
        road_map: its town.
        wall_s: wall time that the route took, as far as it can be told in a batch.
        table: of penalties.
    """
    completion = round(record.completion_percent, SCORE_DIGITS)
    factor, composed = route_score(completion, record.infractions, table)
    motion = Motion(
        record.acceleration_mps2.astype(np.float64),
        record.lateral_acceleration_mps2.astype(np.float64),
        record.yaw_rate_radps.astype(np.float64),
        TICK_US * 1e-6,
    )
    return RouteOutcome(
        route_id=record.route_id,
        town=record.town,
        scenario_type=record.scenario_type,
        scenario_name=record.scenario_name,
        status=record.status,
        infractions=record.infractions,
        score_route=completion,
        score_penalty=factor,
        score_composed=composed,
        route_length_m=record.route_length_m,
        duration_game_s=record.duration_game_s,
        duration_system_s=wall_s,
        scenario_started=record.scenario_started,
        scenario_note=record.scenario_reason,
        comfort=comfort(motion, "official"),
        comfort_si=comfort(motion, "si"),
        ttc=summarise_ttc(record),
        junction_percent=first_junction_percent(route, road_map),
    )
