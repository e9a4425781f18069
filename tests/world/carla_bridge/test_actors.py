"""What the bridge makes of CARLA's actors and lights, from plain stand-ins: needs no client."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from made_up_opendrive import t_junction

from takevla.scene.actors import ActorKind, Cue, Role
from takevla.scene.lane_query import lane_pose
from takevla.scene.road_map import LightState
from takevla.world.carla import frames
from takevla.world.carla.actors import cue_of, kind_of, read_actors
from takevla.world.carla.control import LiveControl
from takevla.world.maps.atlas import load_town


@pytest.fixture(scope="module")
def road_map(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps")
    (folder / "Stand.xodr").write_text(t_junction())
    return load_town("Stand", folder)


def vector(x=0.0, y=0.0, z=0.0):
    return SimpleNamespace(x=x, y=y, z=z)


def body(identity, type_id, x, y, yaw=0.0, velocity=(0.0, 0.0), lights=0, **attributes):
    place = SimpleNamespace(location=vector(x, y), rotation=SimpleNamespace(pitch=0.0, yaw=yaw, roll=0.0))
    return SimpleNamespace(
        id=identity,
        type_id=type_id,
        attributes=attributes,
        bounding_box=SimpleNamespace(location=vector(z=0.8), extent=vector(2.0, 1.0, 0.8)),
        get_transform=lambda: place,
        get_velocity=lambda: vector(*velocity),
        get_acceleration=lambda: vector(),
        get_angular_velocity=lambda: vector(z=18.0),
        get_light_state=lambda: lights,
    )


@pytest.mark.parametrize(
    ("type_id", "attributes", "kind"),
    [
        ("vehicle.tesla.model3", {"base_type": "car"}, ActorKind.CAR),
        (
            "vehicle.dodge.charger_police_2020",
            {"base_type": "car", "special_type": "emergency"},
            ActorKind.POLICE,
        ),
        ("vehicle.ford.ambulance", {"base_type": "van", "special_type": "emergency"}, ActorKind.AMBULANCE),
        ("vehicle.mitsubishi.fusorosa", {"base_type": "bus"}, ActorKind.TRUCK),
        ("vehicle.diamondback.century", {"base_type": "bicycle"}, ActorKind.BICYCLE),
        ("walker.pedestrian.0012", {}, ActorKind.PEDESTRIAN),
        ("static.prop.constructioncone", {}, ActorKind.CONE),
        ("static.prop.trafficwarning", {}, ActorKind.WARNING_SIGN),
        ("static.prop.vendingmachine", {}, ActorKind.BOX),
        ("traffic.stop", {}, None),
        ("sensor.camera.rgb", {}, None),
    ],
)
def test_blueprints_tell_what_an_actor_is(type_id, attributes, kind):
    assert kind_of(type_id, attributes) is kind


def test_both_blinkers_are_a_hazard_and_one_is_an_indicator():
    assert cue_of(0x10 | 0x20 | 0x8) == Cue.HAZARD | Cue.BRAKE
    assert cue_of(0x20) == Cue.INDICATOR_LEFT
    assert cue_of(0x10 | 0x200) == Cue.INDICATOR_RIGHT | Cue.EMERGENCY


def test_actors_are_read_in_our_frame_without_the_ego_and_what_is_far(road_map):
    everything = [
        body(
            9,
            "vehicle.tesla.model3",
            -30.0,
            1.75,
            velocity=(7.0, 0.0),
            base_type="car",
            role_name="background",
        ),
        body(4, "walker.pedestrian.0001", -40.0, 1.75, yaw=90.0, velocity=(0.0, 1.2)),
        body(2, "vehicle.lincoln.mkz_2020", -60.0, 1.75, role_name="hero"),
        body(5, "vehicle.tesla.model3", 500.0, 0.0),
        body(6, "sensor.camera.rgb", -60.0, 1.75),
    ]
    actors = read_actors(everything, 2, road_map)
    assert actors.id.tolist() == [4, 9]
    assert actors.position_world[1].tolist() == pytest.approx([-30.0, -1.75, 0.0], abs=1e-6)
    assert actors.speed_mps.tolist() == pytest.approx([1.2, 7.0])
    assert actors.heading_rad[0] == pytest.approx(-np.pi / 2)
    assert actors.yaw_rate_radps[1] == pytest.approx(-np.pi / 10)
    assert actors.extent_m[1].tolist() == pytest.approx([4.0, 2.0, 1.6])
    assert actors.role.tolist() == [Role.SCENARIO, Role.BACKGROUND]
    assert actors.cue.tolist() == [Cue.CROSSING, Cue.NONE]
    assert (actors.lane >= 0).all()
    with pytest.raises(RuntimeError, match="actor 77"):
        read_actors(everything, 77, road_map)


def test_lights_go_to_the_signal_of_the_nearest_line_and_the_rest_are_told(road_map):
    line = road_map.stop_lines[0]
    x, y, _, heading, _ = lane_pose(road_map.arrays, line.lane, float(line.s_m))

    def light(identity, x, y, yaw):
        place = SimpleNamespace(
            location=vector(x, -y), rotation=SimpleNamespace(pitch=0.0, yaw=yaw, roll=0.0)
        )
        return SimpleNamespace(
            id=identity,
            type_id="traffic.traffic_light",
            get_stop_waypoints=lambda: [SimpleNamespace(transform=place)],
            get_transform=lambda: place,
            get_state=lambda: "Yellow",
        )

    yaw = frames.yaw_deg(float(heading))
    sign = body(8, "traffic.stop", 0.0, 0.0)
    control = LiveControl([light(1, x, y, yaw), light(2, x, y, yaw + 180.0), sign], road_map)
    states = control.states()
    assert states[line.signal] == LightState.YELLOW
    assert (np.delete(states, line.signal) == LightState.OFF).all()
    assert control.unmatched_lights == [2]
    assert control.unmatched_signs == [8]
