"""A Rerun recording, read back with Rerun's own reader."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from short_drives import TOWN, Drifter, short_tasks

pytest.importorskip("rerun")
from rerun.chunk import RrdReader

from takevla.report.recording import TIMELINE, record_route
from takevla.world.embedded import EmbeddedWorld
from takevla.world.maps.atlas import load_town

SECONDS = 2
PLANS, TICKS = 4 * SECONDS, 20 * SECONDS
AT_PLANS = (
    "world/actors", "camera", "camera/plan", "world/ego/plan/route", "world/ego/plan/waypoints",
    "speed/planned", "commentary", "said",
)  # fmt: skip
AT_TICKS = ("speed/actual", "controls/steer", "controls/throttle", "controls/brake")
SAID = "hold 6m/s on the free road"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, object]]]:
    """What the file holds: rows of columns by entity, without its own properties."""
    path = tmp_path_factory.mktemp("rerun") / "drive.rrd"
    world = EmbeddedWorld(load_town(TOWN), short_tasks(1)[0], 0, 2.0)
    assert record_route(world, Drifter(), path, SECONDS) == PLANS
    assert sorted(file.name for file in path.parent.iterdir()) == ["drive.rrd"]
    found = defaultdict(list)
    for chunk in RrdReader(path).stream().to_chunks():
        found[chunk.entity_path.lstrip("/")] += chunk.to_record_batch().to_pylist()
    return {name: one for name, one in found.items() if not name.startswith("__")}


def microseconds(rows: list[dict[str, object]]) -> list[int]:
    """World times of the rows, sorted; the time line is a duration in ns."""
    return sorted(int(np.timedelta64(row[TIMELINE], "us").astype(int)) for row in rows)


def test_the_recording_holds_the_entities_that_the_module_names(
    rows: dict[str, list[dict[str, object]]],
) -> None:
    assert set(rows) - {"events"} == {*AT_PLANS, *AT_TICKS, "world/route", "world/ego", "world/ego/box"}


def test_there_is_a_row_for_each_plan_and_each_tick_at_its_time(
    rows: dict[str, list[dict[str, object]]],
) -> None:
    for name in AT_PLANS:
        assert microseconds(rows[name]) == [250_000 * k for k in range(PLANS)], name
    for name in AT_TICKS:
        assert microseconds(rows[name]) == [50_000 * (k + 1) for k in range(TICKS)], name
    assert len(rows["world/route"]) == 1
    assert rows["world/route"][0].get(TIMELINE) is None  # it does not change


def test_what_was_said_and_planned_can_be_read_back(rows: dict[str, list[dict[str, object]]]) -> None:
    assert {tuple(row["TextDocument:text"]) for row in rows["said"]} == {(SAID,)}
    planned = [row["Scalars:scalars"][0] for row in rows["speed/planned"]]
    assert planned == pytest.approx([6.0] * PLANS, abs=1e-4)
    assert all(len(row["Points3D:positions"]) == 10 for row in rows["world/ego/plan/waypoints"])
