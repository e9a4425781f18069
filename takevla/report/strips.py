"""Image strips: a route before and after, a few instants side by side, with what was said.

Routes are chosen by rule from two evaluations of the same routes: those that only the later one drives to
success, greatest gain of driving score first, no scenario type twice; and those that lost most.  They are
driven again for the pictures; a route whose new drive ends otherwise than the evaluation's is passed over.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from takevla.bench.drivers import load_driver
from takevla.bench.runner import world_seed
from takevla.bench.suites import load_suite
from takevla.driver.closed_loop import Seat, drive
from takevla.driver.driver import Driver
from takevla.report.birdseye import DrawnPlan, rgb_of
from takevla.report.clips import ALARM, FAINT, INK, PAPER, events_of, overlay_plan
from takevla.report.compare import RouteChange, route_changes
from takevla.report.gallery import POLICY_COLOUR
from takevla.scene.plan import Observation, Plan
from takevla.scene.scene import Controls, Ego
from takevla.world.camera import Camera, Rig
from takevla.world.embedded import EmbeddedWorld
from takevla.world.maps.atlas import load_town

BEFORE_EVENT_S = (4.0, 2.5, 1.0, 0.0)  # the instants of a strip, before what went wrong
WORDS_PX, MARGIN_PX, HEAD_PX = 40, 8, 26
SCALE = 1  # a picture in a strip is as large as the camera's


@dataclass(frozen=True)
class Shot:
    """One plan of a drive."""

    time_us: int
    route_index: int
    speed_mps: float
    image: NDArray[np.uint8]
    plan: Plan


@dataclass
class Shots:
    """A listener that keeps every plan with the picture it was made from."""

    taken: list[Shot] = field(default_factory=list)

    def on_plan(self, seat: Seat, observation: Observation, plan: Plan) -> None:
        """Keep it."""
        if observation.image is None:
            raise ValueError("a strip shows what the driver saw; this driver has no camera")
        self.taken.append(
            Shot(observation.time_us, seat.world.route_index, observation.speed_mps, observation.image, plan)
        )

    def on_tick(self, seat: Seat, ego: Ego, controls: Controls) -> None:
        """Nothing."""

    def on_finish(self, seat: Seat) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Drive:
    """A route driven again."""

    shots: Sequence[Shot]
    events: Sequence[tuple[int, str]]  # time, µs, and what happened
    success: bool
    rig: Rig = field(default_factory=Rig)


def choose(before: Any, after: Any) -> tuple[list[RouteChange], list[RouteChange]]:
    """Mended routes and those that got worse, each best example first, of two `metrics.json`."""
    changes = route_changes(before, after)
    mended = [one for one in reversed(changes) if one.after_success and not one.before_success]
    worse = [one for one in changes if one.before_success and not one.after_success]
    return _one_of_a_type(mended), _one_of_a_type(worse)


def _one_of_a_type(rows: Sequence[RouteChange]) -> list[RouteChange]:
    """Each type's first row, then the rest."""
    first = list({row.scenario_type: row for row in reversed(rows)}.values())[::-1]
    return [*first, *(row for row in rows if row not in first)]


def write_strips(before: Path, after: Path, out: Path, mended: int = 6, worse: int = 2) -> list[Path]:
    """Strips of routes of two evaluation folders as PNG files in `out`, and `strips.md` that shows them.

    Raises:
        ValueError: the evaluations are not of the same suite and seed.
    """
    settings = [
        json.loads((path / "run.json").read_text(encoding="utf-8"))["settings"] for path in (before, after)
    ]
    for key in ("suite", "seed", "routes_digest", "density"):
        if settings[0][key] != settings[1][key]:
            raise ValueError(
                f"{after}: evaluated with another {key} than {before}; strips need the same routes"
            )
    metrics = [json.loads((path / "metrics.json").read_text(encoding="utf-8")) for path in (before, after)]
    drivers = [load_driver(one["driver"], one["commentary"]) for one in settings]
    out.mkdir(parents=True, exist_ok=True)
    lines, written = ["# Before and after", ""], []
    for rows, most, title in zip(choose(*metrics), (mended, worse), ("Mended", "Got worse"), strict=True):
        lines += [f"## {title}", ""]
        shown = 0
        for row in rows:
            if shown == most:
                break
            drives = [drive_again(row.route_id, driver, settings[0]) for driver in drivers]
            if [one.success for one in drives] != [row.before_success, row.after_success]:
                continue
            shown += 1
            path = out / f"{title.lower().replace(' ', '_')}_{row.route_id}.png"
            Image.fromarray(strip(*drives)).save(path, optimize=True)
            written.append(path)
            said = row.before_events or row.after_events
            lines += [f"Route {row.route_id}, {row.scenario_type or 'no scenario'}, {row.town}: {said}.", "",
                      f"![route {row.route_id} before and after]({path.name})", ""]  # fmt: skip
    (out / "strips.md").write_text("\n".join(lines), encoding="utf-8")
    return [*written, out / "strips.md"]


def drive_again(route_id: str, driver: Driver, settings: Any) -> Drive:
    """Drive a route of an evaluation's suite once more, in the same traffic."""
    suite = load_suite(settings["suite"])
    place = next(k for k, task in enumerate(suite.tasks) if task.id == route_id)
    task, seed = suite.tasks[place], world_seed(settings["seed"], suite.seeds[place])
    world = EmbeddedWorld(load_town(task.town, None), task, seed, settings["density"])
    shots = Shots()
    drive([Seat(0, world)], driver, Camera.of(driver.rig), [shots])
    record = world.record()
    wrong = any(rows for name, rows in record.infractions.items() if "min_speed" not in name)
    return Drive(shots.taken, events_of(world), record.finished and not wrong, driver.rig)


def strip(before: Drive, after: Drive) -> NDArray[np.uint8]:
    """Both drives as two rows of pictures: instants before what went wrong, and the same places of the other.

    What went wrong is the first event of the drive that failed, or its end.
    """
    failed, other = (before, after) if not before.success else (after, before)
    wrong_us = failed.events[0][0] if failed.events else failed.shots[-1].time_us
    picked = [_at_time(failed.shots, wrong_us - round(s * 1e6)) for s in BEFORE_EVENT_S]
    same = [_at_place(other.shots, shot.route_index) for shot in picked]
    what = failed.events[0][1] if failed.events else "did not arrive"
    rows = (picked, same) if failed is before else (same, picked)
    heads = [
        f"before: {what}" if failed is before else "before",
        f"after: {what}" if failed is after else "after",
    ]
    alarms, rigs = (failed is before, failed is after), (before.rig, after.rig)
    parts = [_row(*one) for one in zip(rows, heads, alarms, rigs, strict=True)]
    return np.concatenate(parts)


def _at_time(shots: Sequence[Shot], time_us: int) -> Shot:
    return min(shots, key=lambda shot: abs(shot.time_us - time_us))


def _at_place(shots: Sequence[Shot], route_index: int) -> Shot:
    """The first shot from there on; the last one of a drive that does not come so far."""
    return next((shot for shot in shots if shot.route_index >= route_index), shots[-1])


def _row(shots: Sequence[Shot], head: str, alarm: bool, rig: Rig) -> NDArray[np.uint8]:
    height, width = (side * SCALE for side in shots[0].image.shape[:2])
    size = (len(shots) * (width + MARGIN_PX) + MARGIN_PX, HEAD_PX + height + WORDS_PX + MARGIN_PX)
    page = Image.new("RGB", size, PAPER)
    draw, font, small = ImageDraw.Draw(page), ImageFont.load_default(size=15), ImageFont.load_default(size=13)
    draw.text((MARGIN_PX, 5), head, ALARM if alarm else INK, font)
    for k, shot in enumerate(shots):
        x = MARGIN_PX + k * (width + MARGIN_PX)
        drawn = overlay_plan(shot.image, rig, [DrawnPlan(shot.plan, rgb_of(POLICY_COLOUR))], SCALE)
        page.paste(Image.fromarray(drawn), (x, HEAD_PX))
        said = textwrap.shorten(shot.plan.commentary, width // 7, placeholder=" ...")
        draw.text((x, HEAD_PX + height + 3), said, INK, small)
        draw.text(
            (x, HEAD_PX + height + 20),
            f"{shot.time_us * 1e-6:.2f} s   {shot.speed_mps:.1f} m/s",
            FAINT,
            small,
        )
    return np.asarray(page, np.uint8).copy()
