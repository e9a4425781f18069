"""Enhanced commentary: what should have been said in the seconds before a takeover.

An enhanced sentence is a plain one with "now" after the speed and a warning at its end.  The action
and the speed keep the words and places that they have in the plain grammar, because a policy that has
learned to drive what those words say then drives what these say.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from takevla.scene.plan import Action, Cause, Reason
from takevla.takeover.commentary import (
    MANOEUVRE_WORDS,
    MUST_STOP,
    OFF_COURSE,
    STANDSTILL_MPS,
    TOO_CLOSE,
    URGENCY,
    WAY_CLEAR,
    action_words,
    attention_words,
    cause_words,
    impact_words,
)
from takevla.takeover.triggers import Trigger

URGENT_IMPACT_S: Final = 2.0  # sooner than this the enhanced action is to brake
HARD_BRAKING_MPS2: Final = 4.0  # what "brake to" assumes over the plan
SOFT_BRAKING_MPS2: Final = 2.0  # what "slow to" assumes over the plan
PLAN_S: Final = 2.5  # horizon of the speed waypoints
RESTART_MPS: Final = 4.0  # what a car that stands reaches within the plan
_ACTOR_CAUSES: Final = frozenset(
    {Cause.LEADER, Cause.CROSSING_VEHICLE, Cause.PEDESTRIAN, Cause.BICYCLE, Cause.MERGING_VEHICLE}
)


def enhanced(reason: Reason, trigger: Trigger, speed_mps: float) -> str:
    """Say `reason` with the urgency of `trigger`.  At most 16 words.

    `reason` is the one `urgent` gives for the frame; its time to collision is named for COLLISION.
    """
    parts = [
        action_words(reason, speed_mps),
        URGENCY,
        MANOEUVRE_WORDS[reason.manoeuvre],
        cause_words(reason),
        attention_words(reason),
        warning_words(reason, trigger),
    ]
    return " ".join(part for part in parts if part)


def warning_words(reason: Reason, trigger: Trigger) -> str:
    """What happens otherwise."""
    if trigger == Trigger.COLLISION:
        return impact_words(reason.time_to_collision_s)
    if trigger == Trigger.FOLLOW:
        return TOO_CLOSE if reason.cause in _ACTOR_CAUSES else OFF_COURSE
    return WAY_CLEAR if trigger == Trigger.RESTART else MUST_STOP


def urgent(reason: Reason, trigger: Trigger, speed_mps: float) -> Reason:
    """`reason` with an action and a speed that answer `trigger`.

    `reason` names the true cause, placed as it is seen in the frame.  COLLISION, RULE and FOLLOW
    behind a leader ask for at least slowing, and for braking where the impact or the line is near;
    an expert who already asks for more keeps his speed.  RESTART asks to set off.  Off course, the
    expert's action stands.
    """
    if trigger == Trigger.RESTART:
        target = max(reason.target_speed_mps, RESTART_MPS)
        return replace(reason, action=Action.ACCELERATE, target_speed_mps=target)
    if trigger == Trigger.FOLLOW and reason.cause not in _ACTOR_CAUSES:
        return reason
    if speed_mps < STANDSTILL_MPS:
        return replace(reason, action=Action.REMAIN_STOPPED, target_speed_mps=0.0)
    stopping_mps2 = speed_mps**2 / (2.0 * max(reason.distance_m, 0.1))
    hard = reason.time_to_collision_s < URGENT_IMPACT_S or stopping_mps2 > SOFT_BRAKING_MPS2
    braking = HARD_BRAKING_MPS2 if hard else SOFT_BRAKING_MPS2
    target = min(reason.target_speed_mps, max(0.0, speed_mps - braking * PLAN_S))
    return replace(reason, action=Action.STOP if hard else Action.DECELERATE, target_speed_mps=target)
