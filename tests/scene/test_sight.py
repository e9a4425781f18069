import dataclasses
import math

import numpy as np
import pytest
from hand_made_town import make_town

from takevla.scene.actors import ActorKind, Actors
from takevla.scene.road_map import LightState, Signal
from takevla.scene.scene import Controls, Ego, Scene, Weather
from takevla.scene.sight import LAMP_KIND, REACH_M, in_view

EYE = (-1.5, 0.0, 2.0)


def _scene(rows, heading=0.0, lights=()):
    """Actors of (kind, x, y, heading, length, width, height), the ego at the origin."""
    count = len(rows)
    table = np.array(rows, np.float32).reshape(count, 7)
    zeros = np.zeros(count, np.float32)
    places = np.concatenate([table[:, 1:3], zeros[:, None]], axis=1)
    actors = Actors(
        np.arange(count, dtype=np.int32), table[:, 0].astype(np.int8), np.zeros(count, np.int8),
        np.zeros(count, np.int16), places, table[:, 3], zeros + 2.0, zeros, zeros, table[:, 4:],
        np.zeros(count, np.int32), np.ones(count, np.bool_),
    )  # fmt: skip
    ego = Ego(np.zeros(3, np.float32), heading, 5.0, 0.0, 0.0, 0.0, Controls(), np.array([4.9, 2.1, 1.5]))
    return Scene(0, "T", ego, actors, np.array(lights, np.int8), Weather())


def _car(x, y, heading=0.0, height=1.5):
    return (ActorKind.CAR, x, y, heading, 4.5, 2.0, height)


@pytest.fixture
def empty():
    return dataclasses.replace(make_town(), signals=())


def test_what_is_behind_beside_or_far_is_not_seen(empty):
    seen = in_view(_scene([_car(20, 0), _car(-20, 0), _car(1, 30), _car(REACH_M + 5, 0)]), empty, EYE)
    assert len(seen) == 1
    assert seen[0] == pytest.approx([ActorKind.CAR, 20, 0, 0.75, 0, 2], abs=1e-5)


def test_places_and_headings_are_those_of_the_ego(empty):
    seen = in_view(_scene([_car(0, 20, math.pi)], heading=math.pi / 2), empty, EYE)
    assert seen[0, [1, 2, 4]] == pytest.approx([20, 0, math.pi / 2], abs=1e-5)


def test_a_truck_hides_what_a_car_does_not(empty):
    far = (ActorKind.PEDESTRIAN, 22.0, 0.0, 0.0, 0.5, 0.5, 1.8)
    truck = (ActorKind.TRUCK, 10.0, 0.0, 0.0, 8.0, 2.5, 3.5)
    assert len(in_view(_scene([_car(10, 0), far]), empty, EYE)) == 2  # seen over the roof
    assert in_view(_scene([truck, far]), empty, EYE)[:, 0].tolist() == [ActorKind.TRUCK]


def test_a_lamp_counts_where_it_shines_towards_the_ego(empty):
    towards = Signal(0, 0, np.array([[20.0, 3.0, 4.0, math.pi]], np.float32))
    away = Signal(1, 0, np.array([[20.0, 3.0, 4.0, 0.0]], np.float32))
    town = dataclasses.replace(empty, signals=(towards, away))
    seen = in_view(_scene([], lights=[LightState.RED, LightState.GREEN]), town, EYE)
    assert seen[:, 0].tolist() == [LAMP_KIND + LightState.RED]
    assert seen[0, 1:4] == pytest.approx([20, 3, 4])
