"""Image strips: a route before and after, a few instants side by side, with what was said.

Routes are chosen by rule from two evaluations of the same routes: those that only the later one drives to
success, greatest gain of driving score first, no scenario type twice; and those that lost most.  They are
driven again for the pictures, all together; where a new drive ends otherwise than the evaluation's the next
route takes its place.
"""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from takevla import scale
from takevla.bench.drivers import load_driver
from takevla.bench.runner import world_seed
from takevla.bench.suites import load_suite
from takevla.driver.closed_loop import Seat, drive
from takevla.files import read_json
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
WORDS_PX, MARGIN_PX, HEAD_PX = 57, 8, 26  # words are two lines, and one of time and speed
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
    """A listener that keeps every plan of each seat with the picture it was made from."""

    report: Callable[[int], None] = lambda count: None  # told how many drives have ended
    taken: defaultdict[int, list[Shot]] = field(default_factory=lambda: defaultdict(list))
    ended: int = 0

    def on_plan(self, seat: Seat, observation: Observation, plan: Plan) -> None:
        """Keep it."""
        if observation.image is None:
            raise ValueError("a strip shows what the driver saw; this driver has no camera")
        self.taken[seat.index].append(
            Shot(observation.time_us, seat.world.route_index, observation.speed_mps, observation.image, plan)
        )

    def on_tick(self, seat: Seat, ego: Ego, controls: Controls) -> None:
        """Nothing."""

    def on_finish(self, seat: Seat) -> None:
        """Count it."""
        self.ended += 1
        self.report(self.ended)


@dataclass(frozen=True)
class Drive:
    """A route driven again."""

    shots: Sequence[Shot]
    events: Sequence[tuple[int, str]]  # time, µs, and what happened
    success: bool
    rig: Rig = field(default_factory=Rig)


def choose(before: Any, after: Any) -> tuple[list[RouteChange], list[RouteChange]]:
    """Mended routes and those that got worse, of two `metrics.json`: first each type's greatest change, the
    greatest of them first, then the rest.
    """
    changes = route_changes(before, after)
    mended = [one for one in reversed(changes) if one.after_success and not one.before_success]
    worse = [one for one in changes if one.before_success and not one.after_success]
    return _one_of_a_type(mended), _one_of_a_type(worse)


def _one_of_a_type(rows: Sequence[RouteChange]) -> list[RouteChange]:
    """Each type's first row, then the rest."""
    first: dict[str, RouteChange] = {}
    for row in rows:
        first.setdefault(row.scenario_type, row)
    return [*first.values(), *(row for row in rows if row is not first[row.scenario_type])]


@dataclass(frozen=True)
class Evaluated:
    """An evaluation to be shown: what drove where, and what came of it."""

    driver: str
    commentary: bool
    suite: str
    seed: int
    density: float
    metrics: Any  # the content of a metrics.json, or as much of it as a cell keeps

    @classmethod
    def read(cls, path: Path, driver: str | None = None) -> Evaluated:
        """Of the folder of an evaluation, or of the cell of a study, which does not name its `driver`.

        Raises:
            FileNotFoundError: nothing is there.
            ValueError: a cell without a driver.
        """
        if path.is_dir():
            settings = read_json(path / "run.json")["settings"]
            return cls(
                driver or settings["driver"], settings["commentary"], settings["suite"], settings["seed"],
                settings["density"], read_json(path / "metrics.json"),
            )  # fmt: skip
        cell = read_json(path)
        if "routes" not in cell:
            raise ValueError(
                f"{path}: no cell of a study; give results/arms/SUITE/ARM/SEED.json, or the folder of an "
                "evaluation"
            )
        if driver is None:
            raise ValueError(f"{path}: a cell does not name its model; give that too, as --after-driver")
        columns = cell["routes"]
        routes = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        density = load_suite(cell["suite"]).density
        return cls(driver, True, cell["suite"], cell["seed"], density, {"per_route": routes})


def write_strips(
    before: Evaluated, after: Evaluated, out: Path, mended: int = 6, worse: int = 2
) -> list[Path]:
    """Strips of routes of two evaluations as PNG files in `out`, and `strips.md` that shows them.

    Raises:
        ValueError: the evaluations are not of the same suite and seed.
    """
    for name in ("suite", "seed", "density"):
        if getattr(before, name) != getattr(after, name):
            raise ValueError(
                f"evaluated with {name} {getattr(before, name)} and {getattr(after, name)}; "
                "strips need the same routes"
            )
    chosen = choose(before.metrics, after.metrics)
    drives = _driven(chosen, (mended, worse), before, after)
    out.mkdir(parents=True, exist_ok=True)
    lines, written = ["# Before and after", "", *_preface(before, after)], []
    for rows, most, title in zip(chosen, (mended, worse), ("Mended", "Got worse"), strict=True):
        lines += [f"## {title}", ""]
        for row in [row for row in rows if _as_before(row, drives)][:most]:
            path = out / f"{title.lower().replace(' ', '_')}_{row.route_id}.png"
            Image.fromarray(strip(*drives[row.route_id])).save(path, optimize=True)
            written.append(path)
            said = row.before_events or row.after_events
            lines += [f"Route {row.route_id}, {row.scenario_type or 'no scenario'}, {row.town}: {said}.", "",
                      f"![route {row.route_id} before and after]({path.name})", ""]  # fmt: skip
    (out / "strips.md").write_text("\n".join(lines), encoding="utf-8")
    return [*written, out / "strips.md"]


def _preface(before: Evaluated, after: Evaluated) -> list[str]:
    names = [Path(one.driver).name for one in (before, after)]
    return [
        f"Routes of `{before.suite}` in the traffic of seed {before.seed}, driven by `{names[0]}` (above)",
        f"and `{names[1]}` (below): what the camera saw, the plan and the words.  The row of the drive that",
        "failed shows the seconds before it did, the other row the same places, or, where the first one",
        "stood, what was done from there on.  Made by `takevla strips`, which takes the routes that gained",
        "and lost most, of different scenario types.",
        "",
    ]


def _driven(
    chosen: Sequence[Sequence[RouteChange]], most: Sequence[int], before: Evaluated, after: Evaluated
) -> dict[str, list[Drive]]:
    """Both drives of as many routes as it takes until enough of each kind end as they did."""
    drives: dict[str, list[Drive]] = {}
    with scale.executor(2).crew(drive_again) as crew:
        while True:
            wanted = []
            for rows, count in zip(chosen, most, strict=True):
                good = sum(_as_before(row, drives) for row in rows)
                left = [row.route_id for row in rows if row.route_id not in drives]
                wanted += left[: max(count - good, 0)]
            if not wanted:
                return drives
            jobs = [Again(tuple(wanted), one) for one in (before, after)]
            with scale.Bar(f"Drive {len(wanted)} routes again, before and after", [1.0, 1.0]) as bar:
                pairs = zip(*_ended(crew.run(jobs, ["before", "after"], bar)), strict=True)
            drives |= dict(zip(wanted, map(list, pairs), strict=True))


def _ended(results: Sequence[list[Drive] | scale.JobFailure]) -> list[list[Drive]]:
    drives = []
    for one in results:
        if isinstance(one, scale.JobFailure):
            raise RuntimeError(str(one))
        drives.append(one)
    return drives


def _as_before(row: RouteChange, drives: dict[str, list[Drive]]) -> bool:
    """Whether it was driven again, with the ends that the evaluations have."""
    ends = [one.success for one in drives.get(row.route_id, ())]
    return ends == [row.before_success, row.after_success]


@dataclass(frozen=True)
class Again:
    """Routes of an evaluation that shall be driven once more."""

    route_ids: tuple[str, ...]
    evaluated: Evaluated


def drive_again(job: Again, report: scale.Report) -> list[Drive]:
    """Drive them together, each in the traffic it had.

    As a job of `takevla.scale`, with its one thread, for the floats of the evaluation.
    """
    route_ids, evaluated = job.route_ids, job.evaluated
    suite, driver = load_suite(evaluated.suite), load_driver(evaluated.driver, evaluated.commentary)
    places = {task.id: place for place, task in enumerate(suite.tasks)}
    worlds = []
    for route_id in route_ids:
        place = places[route_id]
        task, seed = suite.tasks[place], world_seed(evaluated.seed, suite.seeds[place])
        worlds.append(EmbeddedWorld(load_town(task.town, None), task, seed, evaluated.density))
    shots = Shots(lambda count: report(count / len(route_ids)))
    drive([Seat(seat, world) for seat, world in enumerate(worlds)], driver, Camera.of(driver.rig), [shots])
    drives = []
    for seat, world in enumerate(worlds):
        record = world.record()
        wrong = any(rows for name, rows in record.infractions.items() if "min_speed" not in name)
        drives.append(Drive(shots.taken[seat], events_of(world), record.finished and not wrong, driver.rig))
    return drives


def strip(before: Drive, after: Drive) -> NDArray[np.uint8]:
    """Both drives as two rows of pictures: instants before what went wrong, and the same places of the other.

    What went wrong is the first event of the drive that failed, or its end.  Where that drive stood, the
    other is shown from that place on.
    """
    failed, other = (before, after) if not before.success else (after, before)
    wrong_us = failed.events[0][0] if failed.events else failed.shots[-1].time_us
    picked = [_at_time(failed.shots, wrong_us - round(s * 1e6)) for s in BEFORE_EVENT_S]
    same = _same_places(other.shots, picked)
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


def _same_places(shots: Sequence[Shot], picked: Sequence[Shot]) -> list[Shot]:
    """The shot at the place of each picked one; where it would be the last again, one as much later."""
    same = [_at_place(shots, picked[0].route_index)]
    for former, shot in pairwise(picked):
        one = _at_place(shots, shot.route_index)
        if one.time_us <= same[-1].time_us:
            one = _at_time(shots, same[-1].time_us + shot.time_us - former.time_us)
        same.append(one)
    return same


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
        said = textwrap.wrap(shot.plan.commentary, width // 7, max_lines=2, placeholder=" ...")
        draw.text((x, HEAD_PX + height + 3), "\n".join(said), INK, small)
        draw.text(
            (x, HEAD_PX + height + 37),
            f"{shot.time_us * 1e-6:.2f} s   {shot.speed_mps:.1f} m/s",
            FAINT,
            small,
        )
    return np.asarray(page, np.uint8).copy()
