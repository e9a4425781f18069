"""Enhanced commentary: what should have been said in the seconds before a takeover.

An enhanced sentence is a plain one with "now" after the speed and a warning at its end.  The action
and the speed keep the words and places that they have in the plain grammar, because a policy that has
learned to drive what those words say then drives what these say.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np

from takevla.scene.actors import ActorKind, Cue
from takevla.scene.geometry import to_ego
from takevla.scene.plan import Action, Cause, Reason
from takevla.scene.scene import Scene
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
from takevla.takeover.triggers import RULE_CAUSES, Alarm, Trigger

URGENT_IMPACT_S: Final = 2.0  # sooner than this the enhanced action is to brake
HARD_BRAKING_MPS2: Final = 4.0  # what "brake to" assumes over the plan
SOFT_BRAKING_MPS2: Final = 2.0  # what "slow to" assumes over the plan
PLAN_S: Final = 2.5  # horizon of the speed waypoints
RESTART_MPS: Final = 4.0  # what a car that stands reaches within the plan
SEEN_M: Final = 60.0  # farther away an actor is a few pixels
SEEN_RAD: Final = math.radians(60.0)  # half of what the camera sees, less a margin
WALKING_MPS: Final = 0.3
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
    stops = hard or reason.action == Action.STOP or target < STANDSTILL_MPS
    return replace(reason, action=Action.STOP if stops else Action.DECELERATE, target_speed_mps=target)


def foreseen(alarm: Alarm, reason: Reason, scene: Scene, lead_s: float) -> Reason | None:
    """What a frame `lead_s` before a takeover could have known of its cause; None if nothing.

    A label must be readable from the picture: an actor counts only where the frame's `scene` has it
    in front of the camera (and a pedestrian only once it is seen to cross), a light or stop sign only
    where the expert's own `reason` names it, and standing only where the expert goes.
    """
    if alarm.trigger == Trigger.RULE:
        return reason if reason.cause in RULE_CAUSES else None
    if alarm.trigger == Trigger.RESTART:
        return reason if reason.target_speed_mps > STANDSTILL_MPS else None
    if alarm.trigger == Trigger.FOLLOW and alarm.detail != "headway":
        return reason
    actors, ego = scene.actors, scene.ego
    found = np.flatnonzero(actors.valid & (actors.id == alarm.actor_id))
    if len(found) == 0:
        return None
    row = int(found[0])
    x, y = (float(value) for value in to_ego(actors.position_world[row], ego.position_world, ego.heading_rad))
    if math.hypot(x, y) > SEEN_M or abs(math.atan2(y, x)) > SEEN_RAD:
        return None
    speed = float(actors.speed_mps[row])
    if (
        actors.kind[row] == ActorKind.PEDESTRIAN
        and not actors.cue[row] & Cue.CROSSING
        and speed < WALKING_MPS
    ):
        return None
    return replace(
        reason,
        cause=alarm.cause,
        distance_m=max(0.0, math.hypot(x, y) - 0.5 * float(ego.extent_m[0])),
        actor_id=alarm.actor_id,
        actor_kind=alarm.actor_kind,
        actor_position_ego=(x, y),
        actor_speed_mps=speed,
        time_to_collision_s=alarm.measure + lead_s if alarm.trigger == Trigger.COLLISION else math.inf,
    )
