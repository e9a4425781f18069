"""A stream of vehicles whose first one meets the ego, if the ego does not give way.

Flows of random gaps alone would let a careless driver through most of the time.  So the first
vehicle is timed to be where the paths meet when the ego is; from a moment before that it only drives,
so that a driver who waits sees it, and the flow behind it, go past.
"""

from __future__ import annotations

from collections.abc import Sequence

from takevla.scene.actors import ActorKind
from takevla.world.scenarios.place import Place, Points, cut
from takevla.world.staging import (
    ActorAt,
    ActorSpec,
    After,
    AllOf,
    AnyOf,
    ClearTraffic,
    Command,
    EgoArrives,
    EgoPast,
    EgoStopped,
    Flow,
    Motion,
    Now,
    SetCruise,
    SetMotion,
    SetSpeed,
    Show,
    Stage,
    StartFlow,
    StopFlow,
    SyncArrival,
)

CARS = (ActorKind.CAR, ActorKind.CAR, ActorKind.VAN)
LAST_M = 6.0  # the first vehicle keeps its timing until so far before the meeting point
PATIENCE_S = 2.0  # or until so long after it should have arrived, if the ego waits for it
GENTLE_MPS2 = 1.0  # then it returns to the speed of the stream
FASTEST = 1.4  # times the flow's speed, to keep the timing
PASSED_M = 7.0
STREAM_S = 60.0  # after so long no more vehicles come: a jam must have a chance to clear
CLEAR_M = 18.0
CLEAR_RADIUS_M = 3.0


def timed_flow(
    place: Place,
    path: Points,
    meet_s_m: float,
    meet_route_s_m: float,
    end_s_m: float,
    speed_mps: float,
    gap_m: tuple[float, float],
    kinds: Sequence[ActorKind] = CARS,
    at_trigger: tuple[Command, ...] = (),
) -> tuple[tuple[ActorSpec, ...], tuple[Flow, ...], tuple[Stage, ...]]:
    """Actors, flows and stages of a stream along `path`.

    Args:
        place: where it happens.
        path: from source to sink.
        meet_s_m: arc length on the path where it meets the route.
        meet_route_s_m: route s of that place.
        end_s_m: route s at which the scenario ends.
        speed_mps: of the stream.
        gap_m: least and greatest gap between its vehicles.
        kinds: what drives in it.
        at_trigger: commands to run when the scenario starts.
    """
    start_s = 0.5
    seconds = max((meet_s_m - start_s) / speed_mps, 0.5)
    first = ActorSpec(
        "first", kinds[0], path, start_s_m=start_s, motion=Motion.SCRIPTED, acceleration_mps2=3.0, hidden=True
    )
    flow = Flow("traffic", path, speed_mps=speed_mps, gap_m=gap_m, kinds=tuple(kinds), motion=Motion.REACTIVE)
    length = 5.0
    stages: tuple[Stage, ...] = (
        Stage(
            AllOf(
                (
                    EgoArrives(meet_route_s_m, seconds, 15.0),
                    EgoPast(place.before(meet_route_s_m, seconds + 0.5)),
                )
            ),
            (
                Show("first"),
                SetSpeed("first", speed_mps),
                SyncArrival("first", meet_s_m, meet_route_s_m, FASTEST * speed_mps),
            ),
        ),
        Stage(
            AnyOf((ActorAt("first", meet_s_m - LAST_M), EgoStopped(0.2), After(seconds + PATIENCE_S))),
            (SetCruise("first", speed_mps, GENTLE_MPS2),),
        ),
        Stage(ActorAt("first", start_s + gap_m[0] + length), (StartFlow("traffic"),)),
        Stage(ActorAt("first", meet_s_m + PASSED_M), (SetMotion("first", Motion.REACTIVE),)),
        Stage(AnyOf((EgoPast(end_s_m), After(STREAM_S))), (StopFlow("traffic"),)),
        Stage(EgoPast(end_s_m)),
    )
    # Others who already stand where the stream will pass would hold it up for good.
    clear = ClearTraffic(cut(path, meet_s_m - CLEAR_M, meet_s_m + CLEAR_M)[:, :2], CLEAR_RADIUS_M)
    return (first,), (flow,), (Stage(Now(), (*at_trigger, clear)), *stages)
