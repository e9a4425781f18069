"""The five abilities of Bench2Drive: success by group of scenario types (benchmark facts 1.6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from takevla.bench.outcome import RouteOutcome

_JUNCTION_FLOWS = (
    "CrossingBicycleFlow",
    "EnterActorFlow",
    "NonSignalizedJunctionLeftTurn",
    "NonSignalizedJunctionRightTurn",
    "NonSignalizedJunctionLeftTurnEnterFlow",
    "SignalizedJunctionLeftTurn",
    "SignalizedJunctionRightTurn",
    "SignalizedJunctionLeftTurnEnterFlow",
)
_JUNCTION_HAZARDS = (
    "BlockedIntersection",
    "OppositeVehicleTakingPriority",
    "OppositeVehicleRunningRedLight",
    "PedestrianCrossing",
    "VehicleTurningRoute",
    "VehicleTurningRoutePedestrian",
)
ABILITIES: Mapping[str, frozenset[str]] = {
    "Overtaking": frozenset(
        (
            "Accident",
            "AccidentTwoWays",
            "ConstructionObstacle",
            "ConstructionObstacleTwoWays",
            "HazardAtSideLane",
            "HazardAtSideLaneTwoWays",
            "ParkedObstacle",
            "ParkedObstacleTwoWays",
            "VehicleOpensDoorTwoWays",
        )
    ),
    "Merging": frozenset(
        (
            *_JUNCTION_FLOWS,
            "HighwayCutIn",
            "HighwayExit",
            "InterurbanActorFlow",
            "InterurbanAdvancedActorFlow",
            "MergerIntoSlowTraffic",
            "MergerIntoSlowTrafficV2",
            "ParkingExit",
            "SequentialLaneChange",
        )
    ),
    "Emergency_Brake": frozenset(
        (
            *_JUNCTION_HAZARDS,
            "ControlLoss",
            "DynamicObjectCrossing",
            "HardBreakRoute",
            "ParkingCrossingPedestrian",
            "ParkingCutIn",
            "StaticCutIn",
        )
    ),
    "Give_Way": frozenset(("InvadingTurn", "YieldToEmergencyVehicle")),
    "Traffic_Signs": frozenset(
        (
            *_JUNCTION_FLOWS,
            *_JUNCTION_HAZARDS,
            "T_Junction",
            "VanillaNonSignalizedTurn",
            "VanillaNonSignalizedTurnEncounterStopsign",
            "VanillaSignalizedTurnEncounterGreenLight",
            "VanillaSignalizedTurnEncounterRedLight",
        )
    ),
}
PASSED_POINTS = 8  # route points (1 m apart) beyond the junction's first that prove it was entered


def abilities_of(scenario_type: str) -> tuple[str, ...]:
    """Names of the abilities that a scenario type tests."""
    return tuple(name for name, types in ABILITIES.items() if scenario_type in types)


def junction_percent(in_junction: Sequence[bool]) -> float | None:
    """Completion (%) that proves that the first junction of a dense route (1 m points) was entered.

    None where the route meets no junction.
    """
    for index, inside in enumerate(in_junction):
        if inside:
            return 100.0 * (index + 1 + PASSED_POINTS) / len(in_junction)
    return None


def passes(outcome: RouteOutcome, ability: str) -> bool:
    """Whether a route counts as a success of an ability.

    Traffic_Signs forgives what happens elsewhere: an unsuccessful route passes when it has no stop and no
    red-light infraction and was driven beyond the entry of its first junction.  Where the junction is not
    known (`junction_percent` None: a result file without its map) only plain success counts.
    """
    if outcome.success or ability != "Traffic_Signs" or outcome.junction_percent is None:
        return outcome.success
    broke_a_sign = outcome.infractions.get("stop_infraction") or outcome.infractions.get("red_light")
    return not broke_a_sign and outcome.score_route > outcome.junction_percent


@dataclass(frozen=True, slots=True)
class Ability:
    """Successes over routes of one ability.  Routes without an outcome are left out, unlike in the driving
    score.
    """

    name: str
    successes: int
    routes: int

    @property
    def percent(self) -> float | None:
        """Success in %, None without routes."""
        return 100.0 * self.successes / self.routes if self.routes else None


def abilities(outcomes: Sequence[RouteOutcome]) -> dict[str, Ability]:
    """Each of the five abilities by name."""
    result = {}
    for name, types in ABILITIES.items():
        members = [outcome for outcome in outcomes if outcome.scenario_type in types]
        result[name] = Ability(name, sum(passes(outcome, name) for outcome in members), len(members))
    return result


def ability_mean(scores: Mapping[str, Ability]) -> float | None:
    """Mean in % over the abilities that have routes; Bench2Drive's own suites have routes for all five."""
    present = [ability.percent for ability in scores.values() if ability.percent is not None]
    return sum(present) / len(present) if present else None
