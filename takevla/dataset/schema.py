"""What rests on disk: every table, column by column.

`docs/dataset.md` is this module as a page (`python -m takevla.dataset.schema` prints it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from takevla.scene.plan import ROUTE_POINTS, SPEED_WAYPOINTS

FORMAT: Final = "takevla-dataset"
VERSION: Final = 1  # raised when a column changes its meaning or goes; new columns do not raise it
MANIFEST: Final = "manifest.json"
META: Final = "meta.json"
COMMITS: Final = "commits"
FRAMES: Final = "frames"
SCENES: Final = "scenes"
EPISODES: Final = "episodes"
TAKEOVERS: Final = "takeovers"

Columns = Mapping[str, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its Arrow type, unit ("" for none), frame of reference ("" for none) and meaning."""

    name: str
    type: pa.DataType
    unit: str
    frame: str
    meaning: str


_F32, _I8, _I32, _I64, _TEXT, _YES = pa.float32(), pa.int8(), pa.int32(), pa.int64(), pa.string(), pa.bool_()


def _fixed(length: int) -> pa.DataType:
    return pa.list_(pa.float32(), length)


def _list(kind: pa.DataType) -> pa.DataType:
    return pa.list_(kind)


_ROUTE, _WAYPOINTS = _fixed(2 * ROUTE_POINTS), _fixed(2 * SPEED_WAYPOINTS)
_NONE = "not-a-number where that driver did not plan"

FRAME_COLUMNS: Final = (
    Column("episode", _TEXT, "", "", "id of the episode"),
    Column("frame", _I32, "", "", "index of the frame within its episode, from 0"),
    Column("time_us", _I64, "µs", "", "world time of the observation since the start of the route"),
    Column("driver", _TEXT, "", "", 'whose plan was driven: "policy" or "expert"'),
    Column("phase", _TEXT, "", "", 'phase of the monitor: "autonomous", "taken_over" or "handing_back"'),
    Column(
        "takeover", _TEXT, "", "", 'id of the takeover that the frame belongs to or precedes, "" for none'
    ),
    Column("role", _TEXT, "", "", '"pretrain" (expert attempt), "pre_takeover", "takeover" or "other"'),
    Column("image", pa.binary(), "", "", "camera image, JPEG"),
    Column(
        "past_image",
        pa.binary(),
        "",
        "",
        "what it was 0.5 s before, by a camera that stands alike; empty: the frame of then",
    ),
    Column("speed_mps", _F32, "m/s", "", "the ego's speed along its heading"),
    Column("target_points_ego", _fixed(4), "m", "ego", "the next two target points: x, y, x, y"),
    Column("option", _I8, "", "", "RouteOption that applies now"),
    Column("next_option", _I8, "", "", "RouteOption that follows"),
    Column(
        "position_world", _fixed(3), "m", "world", "the ego's position: x, y, z of its ground face centre"
    ),
    Column("heading_rad", _F32, "rad", "world", "the ego's heading, counter-clockwise from x"),
    Column("camera_offset_y_m", _F32, "m", "ego", "shift of the camera to the left of its mount"),
    Column("camera_yaw_rad", _F32, "rad", "ego", "turn of the camera to the left of its mount"),
    Column("policy_route_ego", _ROUTE, "m", "ego", f"route of the policy's plan: 20 x (x, y); {_NONE}"),
    Column("policy_waypoints_ego", _WAYPOINTS, "m", "ego", f"its speed waypoints: 10 x (x, y); {_NONE}"),
    Column("expert_route_ego", _ROUTE, "m", "ego", "route of the expert's plan: 20 x (x, y)"),
    Column("expert_waypoints_ego", _WAYPOINTS, "m", "ego", "its speed waypoints: 10 x (x, y)"),
    Column("policy_commentary", _TEXT, "", "", 'what the policy said, "" where it did not plan'),
    Column("expert_commentary", _TEXT, "", "", "what the expert's reason and plan say"),
    Column(
        "enhanced_commentary", _TEXT, "", "", 'what should have been said before the takeover, "" for none'
    ),
    Column("expert_action", _I8, "", "", "Action of the expert's reason, -1 for none"),
    Column("expert_manoeuvre", _I8, "", "", "Manoeuvre of the expert's reason, -1 for none"),
    Column("expert_cause", _I8, "", "", "Cause of the expert's reason, -1 for none"),
    Column(
        "expert_cause_distance_m", _F32, "m", "", "free distance to the cause, infinite where it has none"
    ),
    Column("expert_cause_kind", _I8, "", "", "ActorKind of the cause, -1 for none"),
    Column("expert_actor_id", _I32, "", "", "actor id of the cause within the episode, -1 for none"),
    Column("expert_target_speed_mps", _F32, "m/s", "", "speed that the expert aims at"),
    Column(
        "applied_controls",
        pa.list_(_F32),
        "1",
        "",
        "steer (left positive), throttle, brake of each tick until the next frame, disturbances included",
    ),
    Column("steer_burst", _YES, "", "", "a disturbance pushes the wheel before the next frame"),
    Column("weather", _fixed(7), "CARLA", "", "the fields of Weather in their order"),
    Column(
        "seen_ego",
        _list(_F32),
        "",
        "ego",
        "what the camera sees (`takevla.scene.sight`): N x (kind, x, y, z, heading, speed), m, rad, m/s; "
        "one of kind -1: unknown",
    ),
    Column("buckets", pa.list_(_TEXT), "", "", "names of the buckets that hold the frame"),
)

EPISODE_COLUMNS: Final = (
    Column("episode", _TEXT, "", "", "id: part and route"),
    Column("part", _TEXT, "", "", "part of the dataset that holds it"),
    Column("route", _TEXT, "", "", "id of the route task"),
    Column("town", _TEXT, "", "", "name of the road map"),
    Column("scenario", _TEXT, "", "", 'type of the route\'s first scenario, "" for none'),
    Column(
        "keypoints_world",
        _list(_F32),
        "m",
        "world",
        "key points of the route task: K x (x, y, z); dreams trace it anew",
    ),
    Column("seed", _I64, "", "", "seed of the world"),
    Column("driver", _TEXT, "", "", "name of the driver that was watched (or of the expert)"),
    Column("frames", _I32, "", "", "number of frames"),
    Column("duration_us", _I64, "µs", "", "world time at the end"),
    Column("success", _YES, "", "", "route completed without any infraction that fails it"),
    Column("status", _TEXT, "", "", "how the route ended"),
    Column("first_failure_us", _I64, "µs", "", "world time of the first failing infraction, -1 for none"),
    Column("infractions", pa.list_(_TEXT), "", "", "names of the infraction categories that occurred"),
    Column("completion_percent", _F32, "%", "", "part of the route that was driven"),
    Column(
        "scenario_note",
        _TEXT,
        "",
        "",
        'why the scenario did not start, "" if it did; on CARLA also unmatched lights and signs',
    ),
    Column("distance_m", _F32, "m", "", "distance driven by the ego"),
)

TAKEOVER_COLUMNS: Final = (
    Column("takeover", _TEXT, "", "", "id: episode and number"),
    Column("episode", _TEXT, "", "", "id of the episode"),
    Column("route", _TEXT, "", "", "id of the route task"),
    Column("town", _TEXT, "", "", "name of the road map"),
    Column("scenario", _TEXT, "", "", "type of the route's first scenario"),
    Column("trigger", _TEXT, "", "", '"follow", "collision", "restart" or "rule"'),
    Column(
        "detail",
        _TEXT,
        "",
        "",
        'which test fired: "headway", "lateral", "steer", "overlap", "standing", "line"',
    ),
    Column("cause", _TEXT, "", "", "Cause that the enhanced commentary names, lower case"),
    Column("cause_actor_id", _I32, "", "", "actor that is the cause, -1 for none"),
    Column("cause_kind", _I8, "", "", "its ActorKind, -1 for none"),
    Column(
        "measure",
        _F32,
        "",
        "",
        "value that fired: s (headway, overlap, standing, line), m (lateral), 1 (steer)",
    ),
    Column("window_start_us", _I64, "µs", "", "start of the pre-takeover window"),
    Column("start_us", _I64, "µs", "", "the expert begins to drive"),
    Column("end_us", _I64, "µs", "", "the policy drives again, or the route ends"),
    Column("end", _TEXT, "", "", 'why it ended: "clear", "timeout" or "finished"'),
    Column("speed_mps", _F32, "m/s", "", "the ego's speed at the start"),
    Column("position_world", _fixed(3), "m", "world", "the ego's position at the start"),
    Column("heading_rad", _F32, "rad", "world", "the ego's heading at the start"),
    Column("route_index", _I32, "", "", "last route point passed at the start"),
)


SCENE_COLUMNS: Final = (
    Column("episode", _TEXT, "", "", "id of the episode"),
    Column("time_us", _I64, "µs", "", "world time"),
    Column("town", _TEXT, "", "", "name of the road map"),
    Column("ego_position_world", _fixed(3), "m", "world", "x, y, z of the ground face centre"),
    Column("ego_heading_rad", _F32, "rad", "world", "heading, counter-clockwise from x"),
    Column("ego_speed_mps", _F32, "m/s", "", "speed along the heading"),
    Column("ego_acceleration_mps2", _F32, "m/s²", "", "along the heading"),
    Column("ego_lateral_acceleration_mps2", _F32, "m/s²", "", "to the left"),
    Column("ego_yaw_rate_radps", _F32, "rad/s", "", "counter-clockwise"),
    Column("ego_controls", _fixed(3), "1", "", "steer (left positive), throttle, brake of the last tick"),
    Column("ego_extent_m", _fixed(3), "m", "", "full length, width, height"),
    Column("lights", _list(_I8), "", "", "LightState of each signal of the road map"),
    Column("weather", _fixed(7), "CARLA", "", "the fields of Weather in their order"),
    Column("actor_id", _list(_I32), "", "", "A ids; the columns below list the same A actors"),
    Column("actor_kind", _list(_I8), "", "", "ActorKind"),
    Column("actor_role", _list(_I8), "", "", "Role"),
    Column("actor_cue", _list(pa.int16()), "", "", "Cue bits"),
    Column("actor_position_world", _list(_F32), "m", "world", "A x (x, y, z)"),
    Column("actor_heading_rad", _list(_F32), "rad", "world", "heading"),
    Column("actor_speed_mps", _list(_F32), "m/s", "", "along the heading"),
    Column("actor_acceleration_mps2", _list(_F32), "m/s²", "", "along the heading"),
    Column("actor_yaw_rate_radps", _list(_F32), "rad/s", "", "counter-clockwise"),
    Column("actor_extent_m", _list(_F32), "m", "", "A x (full length, width, height)"),
    Column("actor_lane", _list(_I32), "", "", "lane index under the centre, -1 off the lanes"),
)

PICTURES: Final = frozenset({"image", "past_image"})  # columns of JPEGs
LATER: Final = frozenset({"seen_ego", "past_image"})  # columns that older datasets do not have
TABLES: Final[Mapping[str, tuple[Column, ...]]] = {
    FRAMES: FRAME_COLUMNS,
    EPISODES: EPISODE_COLUMNS,
    TAKEOVERS: TAKEOVER_COLUMNS,
    SCENES: SCENE_COLUMNS,
}


def arrow_schema(table: str) -> pa.Schema:
    """Arrow schema of a table of `TABLES`."""
    return pa.schema([pa.field(column.name, column.type, nullable=False) for column in TABLES[table]])


def arrow_table(table: str, columns: Columns) -> pa.Table:
    """`columns` (name to N values) as the Arrow table `table`.

    Fixed-size lists take an (N, K) array or N rows of K.  Raises ValueError where a column is
    missing, unknown, or of another length.
    """
    schema = arrow_schema(table)
    if set(columns) != set(schema.names):
        wrong = sorted(set(columns) ^ set(schema.names))
        raise ValueError(f"{table}: missing or unknown columns {wrong}")
    rows = {len(values) for values in columns.values()}
    if len(rows) > 1:
        raise ValueError(f"{table}: columns differ in length: {sorted(rows)}")
    return pa.table([_array(columns[field.name], field.type) for field in schema], schema=schema)


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_fixed_size_list(kind):
        flat = np.asarray(values, np.float32).reshape(len(values), kind.list_size)
        return pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel(), pa.float32()), kind.list_size)
    return pa.array(values, kind)


def schema_page() -> str:
    """The tables as Markdown."""
    parts = []
    for name, columns in TABLES.items():
        rows = [f"| `{c.name}` | {c.type} | {c.unit} | {c.frame} | {c.meaning} |" for c in columns]
        head = [f"### `{name}`", "", "| column | type | unit | frame | meaning |", "|---|---|---|---|---|"]
        parts.append("\n".join([*head, *rows]))
    return "\n\n".join(parts) + "\n"


def check_page(path: Path) -> bool:
    """Whether the page at `path` holds the tables as they are."""
    return schema_page() in path.read_text(encoding="utf-8")


if __name__ == "__main__":
    print(schema_page(), end="")
