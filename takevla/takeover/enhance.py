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
from takevla.scene.plan import Action, Cause, Manoeuvre, Reason
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
from takevla.takeover.triggers import HEADWAY, RULE_CAUSES, Alarm, Trigger

STOP_SHORT_M: Final = 4.0  # room that is left before an actor (PDM-Lite's gap, benchmark facts 3)
LINE_SHORT_M: Final = 1.0  # and before a stop line
SOFT_BRAKING_MPS2: Final = 1.0  # "slow to" means at least this
HARD_BRAKING_MPS2: Final = 6.0  # and the brakes give no more than this
PLAN_S: Final = 2.5  # horizon of the speed waypoints, whose last speed the words name
STOPPED_MPS: Final = 0.5  # a plan that ends slower than this is to stop
SEEN_M: Final = 60.0  # farther away an actor is a few pixels
SEEN_RAD: Final = math.radians(60.0)  # half of what the camera sees, less a margin
WALKING_MPS: Final = 0.3
_PASSING: Final = (Manoeuvre.GO_AROUND_LEFT, Manoeuvre.GO_AROUND_RIGHT)
_PASSED: Final = (Cause.OBSTACLE, Cause.BICYCLE, Cause.LEADER)


def enhanced(reason: Reason, alarm: Alarm, speed_mps: float) -> str:
    """Say `reason`, the one that `urgent` gives for a frame, with what happens otherwise.

    At most 16 words.
    """
    parts = [
        action_words(reason, speed_mps),
        URGENCY,
        MANOEUVRE_WORDS[reason.manoeuvre],
        cause_words(reason),
        attention_words(reason),
        warning_words(reason, alarm),
    ]
    return " ".join(part for part in parts if part)


def warning_words(reason: Reason, alarm: Alarm) -> str:
    """What happens otherwise."""
    if alarm.trigger == Trigger.COLLISION:
        return impact_words(reason.time_to_collision_s)
    if alarm.trigger == Trigger.FOLLOW:
        return TOO_CLOSE if alarm.detail == HEADWAY else OFF_COURSE
    return WAY_CLEAR if alarm.trigger == Trigger.RESTART else MUST_STOP


def urgent(reason: Reason, alarm: Alarm, answer: Reason, speed_mps: float) -> Reason:
    """`reason` with the action and the speed that answer `alarm`.

    `reason` is what the frame could have known (`foreseen`), `answer` the expert's reason as he takes
    over.  Before a collision, a stop line or a leader the answer is to brake so as to stop short of
    the cause, or to match the leader; an expert who asks for more already is left as he is.  Where he
    passes the cause instead, off course, and at a restart, his own action stands.
    """
    if alarm.trigger == Trigger.RESTART:
        return replace(reason, action=Action.ACCELERATE)
    if alarm.trigger == Trigger.FOLLOW and alarm.detail != HEADWAY:
        return reason
    if alarm.cause in _PASSED and answer.manoeuvre in _PASSING:
        return replace(reason, manoeuvre=answer.manoeuvre)
    if speed_mps < STANDSTILL_MPS:
        return replace(reason, action=Action.REMAIN_STOPPED, target_speed_mps=0.0)
    final = min(reason.actor_speed_mps, speed_mps) if alarm.cause == Cause.LEADER else 0.0
    room = reason.distance_m - (LINE_SHORT_M if alarm.trigger == Trigger.RULE else STOP_SHORT_M)
    braking = (speed_mps - final) ** 2 / (2.0 * max(room, 0.1))
    braking = min(max(braking, SOFT_BRAKING_MPS2), HARD_BRAKING_MPS2)
    target = min(reason.target_speed_mps, max(final, speed_mps - braking * PLAN_S))
    stops = reason.action == Action.STOP or target < STOPPED_MPS
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
    if alarm.trigger == Trigger.FOLLOW and alarm.detail != HEADWAY:
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
