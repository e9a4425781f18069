"""Scenes as rows of the table `scenes`, without loss for actors that are valid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np

from takevla.dataset.schema import SCENE_COLUMNS, Columns
from takevla.scene.actors import Actors
from takevla.scene.scene import Controls, Ego, Scene, Weather


def scene_columns(recorded: Sequence[tuple[str, Scene]]) -> Columns:
    """Columns of the table `scenes` for (episode, scene) pairs."""
    rows = [scene_row(episode, scene) for episode, scene in recorded]
    return {column.name: [row[column.name] for row in rows] for column in SCENE_COLUMNS}


def scene_row(episode: str, scene: Scene) -> dict[str, Any]:
    """One row; invalid actors are left out."""
    ego, actors = scene.ego, scene.actors
    keep = np.asarray(actors.valid)
    return {
        "episode": episode,
        "time_us": scene.time_us,
        "town": scene.town,
        "ego_position_world": ego.position_world,
        "ego_heading_rad": ego.heading_rad,
        "ego_speed_mps": ego.speed_mps,
        "ego_acceleration_mps2": ego.acceleration_mps2,
        "ego_lateral_acceleration_mps2": ego.lateral_acceleration_mps2,
        "ego_yaw_rate_radps": ego.yaw_rate_radps,
        "ego_controls": (ego.controls.steer, ego.controls.throttle, ego.controls.brake),
        "ego_extent_m": ego.extent_m,
        "lights": np.asarray(scene.lights, np.int8),
        "weather": astuple(scene.weather),
        "actor_id": actors.id[keep],
        "actor_kind": actors.kind[keep],
        "actor_role": actors.role[keep],
        "actor_cue": actors.cue[keep],
        "actor_position_world": actors.position_world[keep].ravel(),
        "actor_heading_rad": actors.heading_rad[keep],
        "actor_speed_mps": actors.speed_mps[keep],
        "actor_acceleration_mps2": actors.acceleration_mps2[keep],
        "actor_yaw_rate_radps": actors.yaw_rate_radps[keep],
        "actor_extent_m": actors.extent_m[keep].ravel(),
        "actor_lane": actors.lane[keep],
    }


def scene_of_row(row: Mapping[str, Any]) -> Scene:
    """The scene that `scene_row` wrote; every actor valid."""

    def array(name: str, kind: type[np.generic], width: int = 0) -> Any:
        values = np.array(row[name], kind)
        return values.reshape(-1, width) if width else values

    ego = Ego(
        position_world=array("ego_position_world", np.float32),
        heading_rad=row["ego_heading_rad"],
        speed_mps=row["ego_speed_mps"],
        acceleration_mps2=row["ego_acceleration_mps2"],
        lateral_acceleration_mps2=row["ego_lateral_acceleration_mps2"],
        yaw_rate_radps=row["ego_yaw_rate_radps"],
        controls=Controls(*row["ego_controls"]),
        extent_m=array("ego_extent_m", np.float32),
    )
    ids = array("actor_id", np.int32)
    actors = Actors(
        id=ids,
        kind=array("actor_kind", np.int8),
        role=array("actor_role", np.int8),
        cue=array("actor_cue", np.int16),
        position_world=array("actor_position_world", np.float32, 3),
        heading_rad=array("actor_heading_rad", np.float32),
        speed_mps=array("actor_speed_mps", np.float32),
        acceleration_mps2=array("actor_acceleration_mps2", np.float32),
        yaw_rate_radps=array("actor_yaw_rate_radps", np.float32),
        extent_m=array("actor_extent_m", np.float32, 3),
        lane=array("actor_lane", np.int32),
        valid=np.ones(len(ids), np.bool_),
    )
    lights = array("lights", np.int8)
    return Scene(row["time_us"], row["town"], ego, actors, lights, Weather(*row["weather"]))
