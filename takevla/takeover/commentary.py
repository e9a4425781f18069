"""Commentary: one short sentence that says what to do, how fast, why, and where to look.

Grammar (one space between words, no punctuation, so that a word is a token)::

    sentence  = action speed ["now"] [manoeuvre] cause [attention] [warning]
    action    = "stay stopped" | "brake to" | "slow to" | "hold" | "speed up to" | "set off to"
    speed     = "4m/s" ...                      one of SPEEDS_MPS; none after "stay stopped"
    manoeuvre = "passing left" | "awaiting a gap" | ...
    cause     = "on the free road" | "for the red light" | "behind the car" | ...
    attention = distance side                   "10m ahead", "5m right"
    warning   = "1.5s to impact" | "too close" | "off course" | "way clear" | "must stop"

"now" and the warning belong to the enhanced form (`takevla.takeover.enhance`) only.

The speed is that of the plan at its last waypoint, so that the words fix the speed waypoints
("slow to 4m/s" and not only "slow down").  The shape (action, reason, attention) follows
SimLingo's rule-based labels (benchmark facts 2.3); the words are this project's own.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from typing import Final

import numpy as np

from takevla.scene.actors import ActorKind
from takevla.scene.plan import WAYPOINT_PERIOD_US, Action, Cause, Manoeuvre, Plan, Reason

SPEEDS_MPS: Final = (0, 1, 2, 3, 4, 6, 8, 10, 12, 15, 20, 25)  # finer where stopping is decided
DISTANCES_M: Final = (5, 10, 20, 40)  # each about the double of the one before: what one image can tell
AHEAD_HALF_WIDTH_M: Final = 2.0  # a cause within this lateral distance is "ahead" (a lane is 3.5 m)
STANDSTILL_MPS: Final = 0.2  # slower than this the ego stands (SimLingo's bound, benchmark facts 2.3)

ACTION_WORDS: Final[dict[str, Action]] = {
    "stay stopped": Action.REMAIN_STOPPED,
    "brake to": Action.STOP,
    "slow to": Action.DECELERATE,
    "hold": Action.MAINTAIN,
    "speed up to": Action.ACCELERATE,
    "set off to": Action.ACCELERATE,
}
MANOEUVRE_WORDS: Final[dict[Manoeuvre, str]] = {
    Manoeuvre.FOLLOW_ROUTE: "",
    Manoeuvre.GO_AROUND_LEFT: "passing left",
    Manoeuvre.GO_AROUND_RIGHT: "passing right",
    Manoeuvre.WAIT_FOR_GAP: "awaiting a gap",
    Manoeuvre.RETURN_TO_LANE: "returning to lane",
    Manoeuvre.GIVE_WAY: "giving way",
    Manoeuvre.CHANGE_LANE: "changing lane",
}
NOUNS: Final[dict[int, str]] = {
    -1: "vehicle",
    ActorKind.CAR: "car",
    ActorKind.VAN: "van",
    ActorKind.TRUCK: "truck",
    ActorKind.POLICE: "police",
    ActorKind.AMBULANCE: "ambulance",
    ActorKind.BICYCLE: "bicycle",
    ActorKind.PEDESTRIAN: "pedestrian",
    ActorKind.CONE: "cone",
    ActorKind.BARRIER: "barrier",
    ActorKind.WARNING_SIGN: "sign",
    ActorKind.BOX: "box",
}
CAUSE_WORDS: Final[dict[Cause, str]] = {  # {} is the noun of the actor
    Cause.FREE_ROAD: "on the free road",
    Cause.LEADER: "behind the {}",
    Cause.CROSSING_VEHICLE: "for the crossing {}",
    Cause.PEDESTRIAN: "for the pedestrian",
    Cause.BICYCLE: "for the bicycle",
    Cause.RED_LIGHT: "for the red light",
    Cause.YELLOW_LIGHT: "for the yellow light",
    Cause.STOP_SIGN: "for the stop sign",
    Cause.OBSTACLE: "for the blocking {}",
    Cause.ONCOMING: "for the oncoming {}",
    Cause.EMERGENCY_VEHICLE: "for the emergency {}",
    Cause.YIELD: "for the priority {}",
    Cause.JUNCTION: "for the junction",
    Cause.MERGING_VEHICLE: "for the merging {}",
}
IMPACT_TIMES_S: Final = (0.5, 1.0, 1.5, 2.0, 3.0)  # the last also stands for more
TOO_CLOSE: Final = "too close"
OFF_COURSE: Final = "off course"
WAY_CLEAR: Final = "way clear"
MUST_STOP: Final = "must stop"
URGENCY: Final = "now"
_PLACED: Final = frozenset(Cause) - {Cause.FREE_ROAD}
_ALWAYS_AHEAD: Final = frozenset({Cause.RED_LIGHT, Cause.YELLOW_LIGHT, Cause.STOP_SIGN, Cause.JUNCTION})


def commentary(reason: Reason, speed_mps: float) -> str:
    """Say `reason` while driving at `speed_mps`.

    `reason.target_speed_mps` is the speed that the sentence names.  At most 14 words.
    """
    parts = [
        action_words(reason, speed_mps),
        MANOEUVRE_WORDS[reason.manoeuvre],
        cause_words(reason),
        attention_words(reason),
    ]
    return " ".join(part for part in parts if part)


def plan_commentary(plan: Plan, speed_mps: float) -> str:
    """Commentary of an expert's plan, naming the speed that the plan ends with ("" without a reason)."""
    if plan.reason is None:
        return ""
    return commentary(replace(plan.reason, target_speed_mps=planned_speed_mps(plan)), speed_mps)


def planned_speed_mps(plan: Plan) -> float:
    """Speed over the last half second of the plan's waypoints."""
    span_s = 2 * WAYPOINT_PERIOD_US / 1e6
    return float(np.linalg.norm(plan.waypoints_ego[-1] - plan.waypoints_ego[-3])) / span_s


def action_words(reason: Reason, speed_mps: float) -> str:
    """The action with its speed."""
    if reason.action == Action.REMAIN_STOPPED:
        return "stay stopped"
    if reason.action == Action.ACCELERATE:
        verb = "set off to" if speed_mps < STANDSTILL_MPS else "speed up to"
    else:
        verb = {Action.STOP: "brake to", Action.DECELERATE: "slow to", Action.MAINTAIN: "hold"}[reason.action]
    return f"{verb} {speed_word(reason.target_speed_mps)}"


def cause_words(reason: Reason) -> str:
    """The cause, with the noun of its actor."""
    return CAUSE_WORDS[reason.cause].format(NOUNS[reason.actor_kind])


def attention_words(reason: Reason) -> str:
    """Where the cause is, or "" where it has no place."""
    if reason.cause not in _PLACED or not math.isfinite(reason.distance_m):
        return ""
    return f"{distance_word(reason.distance_m)} {side_word(reason)}"


def speed_word(speed_mps: float) -> str:
    """The nearest of `SPEEDS_MPS`."""
    return f"{min(SPEEDS_MPS, key=lambda band: abs(band - speed_mps))}m/s"


def distance_word(distance_m: float) -> str:
    """The nearest of `DISTANCES_M` by ratio."""
    distance = max(distance_m, 1.0)
    return f"{min(DISTANCES_M, key=lambda band: abs(math.log(band / distance)))}m"


def side_word(reason: Reason) -> str:
    """Where the cause lies as seen from the driver's seat."""
    x, y = reason.actor_position_ego
    if reason.actor_id < 0 or reason.cause in _ALWAYS_AHEAD:
        return "ahead"
    if abs(y) > AHEAD_HALF_WIDTH_M and abs(y) > 0.2 * x:
        return "left" if y > 0 else "right"
    return "ahead" if x >= 0 else "behind"


def impact_words(time_s: float) -> str:
    """Time to an impact, the nearest of `IMPACT_TIMES_S`."""
    return f"{min(IMPACT_TIMES_S, key=lambda band: abs(band - time_s)):g}s to impact"


def parse(text: str) -> tuple[Action, Manoeuvre, Cause]:
    """Invert `commentary` and its enhancement.  Raises ValueError where `text` is not a sentence of it."""
    rest = text
    action = next((a for words, a in ACTION_WORDS.items() if rest.startswith(words)), None)
    if action is None:
        raise ValueError(f"commentary {text!r}: starts with no known action")
    rest = rest[len(next(words for words in ACTION_WORDS if rest.startswith(words))) :].strip()
    if action != Action.REMAIN_STOPPED:
        speed, _, rest = rest.partition(" ")
        if speed not in _SPEED_WORDS:
            raise ValueError(f"commentary {text!r}: no known speed after the action")
    rest = rest.removeprefix(URGENCY).strip()
    manoeuvre = next((m for m, words in MANOEUVRE_WORDS.items() if words and rest.startswith(words)), None)
    if manoeuvre is not None:
        rest = rest[len(MANOEUVRE_WORDS[manoeuvre]) :].strip()
    cause = next((c for head, c in _CAUSE_HEADS.items() if rest.startswith(head)), None)
    if cause is None:
        raise ValueError(f"commentary {text!r}: names no known cause")
    return action, manoeuvre or Manoeuvre.FOLLOW_ROUTE, cause


def corpus() -> list[str]:
    """Sentences that together hold every word of the plain and the enhanced grammar."""
    found = []
    for action, manoeuvre, cause in product(Action, Manoeuvre, Cause):
        reason = Reason(action, manoeuvre, cause, target_speed_mps=4.0, distance_m=10.0)
        found += [commentary(reason, 0.0), commentary(reason, 5.0)]
    free = Reason(Action.MAINTAIN, Manoeuvre.FOLLOW_ROUTE, Cause.FREE_ROAD, 0.0)
    found += [commentary(replace(free, target_speed_mps=float(speed)), 5.0) for speed in SPEEDS_MPS]
    for kind, distance, (x, y) in product(
        NOUNS, DISTANCES_M, ((9.0, 0.0), (5.0, 9.0), (5.0, -9.0), (-9.0, 0.0))
    ):
        leader = replace(free, cause=Cause.LEADER, distance_m=float(distance), actor_id=1)
        found.append(commentary(replace(leader, actor_kind=kind, actor_position_ego=(x, y)), 5.0))
    warnings = [impact_words(time_s) for time_s in IMPACT_TIMES_S] + [
        TOO_CLOSE,
        OFF_COURSE,
        WAY_CLEAR,
        MUST_STOP,
    ]
    found += [f"brake to 0m/s {URGENCY} for the junction {warning}" for warning in warnings]
    return list(dict.fromkeys(found))


_SPEED_WORDS: Final = frozenset(speed_word(speed) for speed in SPEEDS_MPS)
_CAUSE_HEADS: Final = {words.removesuffix(" {}"): cause for cause, words in CAUSE_WORDS.items()}
