"""The page of the scenario types: each with a picture of its critical moment and what became of it.

`write_page` measures a suite (see `bench.hazards`), takes the pictures, and writes the page, the pictures
beside it, and the figures as JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from takevla.bench.drivers import BLIND, load_driver
from takevla.bench.hazards import COLLISIONS, HAZARDS, HazardRow, measure_hazards
from takevla.bench.provenance import git_revision
from takevla.bench.runner import world_seed
from takevla.bench.suites import Suite
from takevla.driver.closed_loop import Seat, drive
from takevla.files import write_json
from takevla.report.birdseye import draw_birdseye
from takevla.scene.actors import Cue
from takevla.scene.plan import Observation, Plan
from takevla.scene.scene import TICK_US, Controls, Ego
from takevla.world.camera import Camera
from takevla.world.embedded import EmbeddedWorld
from takevla.world.maps.atlas import load_town
from takevla.world.maps.route_xml import RouteTask
from takevla.world.record import KEY_OF_EVENT
from takevla.world.scenarios.catalogue import SCENARIOS

BEFORE_US = 1_500_000  # a picture is taken so long before the hazard strikes
BEFORE_PERSON_US = 900_000  # before somebody is hit, who was hidden until then
BEFORE_LINE_US = 2_500_000  # before a stop line is crossed
BEFORE_TURN_M = 14.0  # route left to the junction, where the turn itself is the demand
AFTER_TRIGGER_US = 3_000_000  # where nothing strikes at one instant
DAYLIGHT_DEG = 5.0  # sun above the horizon: such routes are taken for pictures first
CAMERA_SCALE = 2
RANGE_M = 56.0  # side of the square seen from above
JPEG_QUALITY = 72
SIGNS = frozenset(("red_light", "stop_infraction"))
YIELD = "yield_emergency_vehicle_infractions"
STEP_US, LONGEST_US = 4_000_000, 60_000_000  # the drive that finds the moment, in steps until it strikes
PARKING, TURN = "ParkingExit", "TurnEncounterGreenLight"
GAP_PX, PAPER = 8, (250, 250, 248)


class _Course:
    """Notes by tick what a picture's moment is chosen by."""

    def __init__(self, sirens: bool) -> None:
        self._sirens = sirens
        self.route_index: list[int] = []
        self.siren_m: list[float] = []  # distance to the nearest vehicle with blue lights, inf without

    def on_plan(self, seat: Seat, observation: Observation, plan: Plan) -> None:
        """Nothing."""

    def on_tick(self, seat: Seat, ego: Ego, controls: Controls) -> None:
        """Take note of one tick."""
        self.route_index.append(seat.world.route_index)
        if not self._sirens:
            return
        actors = seat.world.scene().actors
        lit = (actors.cue & Cue.EMERGENCY) != 0
        away = np.linalg.norm(actors.position_world[lit] - ego.position_world, axis=1)
        self.siren_m.append(float(away.min(initial=np.inf)))

    def on_finish(self, seat: Seat) -> None:
        """Nothing."""


def critical_us(world: EmbeddedWorld, route_index: Sequence[int], siren_m: Sequence[float]) -> int:
    """The time of the picture, of a world that who ignores the hazard has driven to its end.

    Args:
        world: after the drive.
        route_index: index of the last route point passed, after each tick.
        siren_m: distance to the nearest emergency vehicle, after each tick; inf without one.
    """
    call = world.task.scenarios[0]
    hazard = HAZARDS[call.type]
    route = world.route
    if YIELD in hazard.charges:
        return int(np.argmin(siren_m) + 1) * TICK_US
    for tick, event, _ in world.record().events:
        if hazard.ignored_by == BLIND or call.type == PARKING:
            key = KEY_OF_EVENT.get(event)
            if key in hazard.charges:
                return max(tick * TICK_US - _before_us(str(key)), TICK_US)
    inside = world.road_map.arrays.lane_junction[np.maximum(route.lane, 0)] >= 0
    if call.type.endswith(TURN) and inside.any():
        s_m = float(route.s_m[int(np.argmax(inside))]) - BEFORE_TURN_M
        return _time_at(route_index, int(np.searchsorted(route.s_m, s_m)))
    away = np.linalg.norm(route.points_world[:, :2] - np.array(call.trigger_world[:2]), axis=1)
    return _time_at(route_index, int(np.argmin(away))) + AFTER_TRIGGER_US


def _before_us(charge: str) -> int:
    if charge in SIGNS:
        return BEFORE_LINE_US
    return BEFORE_PERSON_US if charge == "collisions_pedestrian" else BEFORE_US


def _time_at(route_index: Sequence[int], index: int) -> int:
    """When the ego passed a route point, the end of the drive where it never did."""
    passed = np.asarray(route_index) >= index
    return int(np.argmax(passed) + 1 if passed.any() else len(passed)) * TICK_US


def picture(task: RouteTask, seed: int, camera: Camera) -> NDArray[np.uint8]:
    """Camera and bird's eye side by side at the critical moment of a route, as (H, W, 3) RGB.

    `seed` is the world's.  Who drives ignores the hazard; the drive is repeated up to the moment.
    """
    hazard = HAZARDS[task.scenarios[0].type]
    driver = load_driver(hazard.ignored_by)
    course = _Course(YIELD in hazard.charges)
    world = _world(task, seed)
    seat = Seat(0, world)
    for until_us in range(STEP_US, LONGEST_US + 1, STEP_US):
        drive([seat], driver, listeners=[course], until_us=until_us)
        if world.finished or any(
            KEY_OF_EVENT.get(event) in hazard.charges for _, event, _ in world.record().events
        ):
            break
    moment = critical_us(world, course.route_index, course.siren_m)
    world = _world(task, seed)
    drive([Seat(0, world)], driver, until_us=moment)
    scene = world.scene()
    seen = Image.fromarray(camera.render(world.road_map, scene))
    size = CAMERA_SCALE * seen.height
    page = Image.new("RGB", (CAMERA_SCALE * seen.width + GAP_PX + size, size), PAPER)
    page.paste(seen.resize((CAMERA_SCALE * seen.width, size), Image.Resampling.BICUBIC), (0, 0))
    above = draw_birdseye(world.road_map, scene, route=world.route, size_px=size, range_m=RANGE_M)
    page.paste(Image.fromarray(above), (page.width - size, 0))
    return np.asarray(page, np.uint8)


def _world(task: RouteTask, seed: int) -> EmbeddedWorld:
    return EmbeddedWorld(load_town(task.town), task, seed, density=0.0)


def shown_task(tasks: Sequence[RouteTask], row: HazardRow) -> RouteTask:
    """The route of a type that is pictured: where the hazard struck, by daylight if there is such a one."""
    own = [task for task in tasks if task.scenarios[0].type == row.type]
    return min(
        own,
        key=lambda task: (
            task.id not in row.struck,
            task.weathers[0][1].sun_altitude_deg < DAYLIGHT_DEG,
            task.id,
        ),
    )


def sentence_of(scenario_type: str) -> str:
    """What a type is, in the catalogue's one sentence."""
    return (SCENARIOS[scenario_type].__doc__ or "").strip().splitlines()[0]


def page(rows: Sequence[HazardRow], suite: Suite, seed: int, revision: str | None, pictures: str) -> str:
    """The page as Markdown; `pictures` is the folder of the pictures, as seen from the page."""
    routes = sum(row.routes for row in rows)
    struck = sum(len(row.struck) for row in rows)
    won = sum(row.expert_successes for row in rows)
    lines = [
        "# The scenario types",
        "",
        f"Written by `takevla scenarios --suite {suite.name} --seed {seed}` at revision "
        f"`{revision or 'unknown'}`: change the code and call it again rather than this page.",
        "",
        f"Each type is driven twice over the {routes} routes of `{suite.name}`. *Ignored*: a driver who "
        "ignores the hazard, in a town without other traffic; the figure is the share of routes on which it "
        "is charged with an infraction of the hazard's own kind (one of another kind does not count). "
        f"*Expert*: the privileged expert in the suite's traffic ({suite.density:g} vehicles per km); the "
        "figure is its success rate. `blind` keeps to the route at the usual speed and ignores all else; "
        "`straight` ignores the route too, for the types whose demand is the way itself.",
        "",
        f"Over all types the ignored hazard is charged on {struck} of {routes} routes "
        f"({100 * struck / routes:.1f} %), and the expert succeeds on {won} ({100 * won / routes:.1f} %).",
        "",
        "| type | ability | routes | ignored by | charged with | ignored, % | expert, % |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        abilities = ", ".join(row.abilities).replace("_", " ")
        ignored, expert = row.ignored_failure_percent, row.expert_success_percent
        lines.append(
            f"| [{row.type}](#{row.type.lower()}) | {abilities} | {row.routes} | {row.ignored_by} | "
            f"{_charges(row)} | {ignored:.0f} | {expert:.0f} |"
        )
    missing = [row for row in rows if row.started < row.routes]
    if missing:
        lines += ["", "Routes whose scenario did not start count as not charged:"]
        lines += [f"- {row.type}: {row.routes - row.started} of {row.routes}" for row in missing]
    lines += [
        "",
        "The pictures show the camera and the view from above (the ego is white, its route blue), "
        "shortly before the hazard strikes who ignores it.",
    ]
    for row in rows:
        lines += [
            "",
            f"## {row.type}",
            "",
            f"{sentence_of(row.type)} Ability: {', '.join(row.abilities).replace('_', ' ')}. "
            f"Expert: {row.expert_successes} of {row.routes} routes.",
            "",
            f"![{row.type}]({pictures}/{row.type}.jpg)",
        ]
    return "\n".join(lines) + "\n"


def _charges(row: HazardRow) -> str:
    """The infractions that count, in a few words."""
    names = [name for name in row.charges if name not in COLLISIONS]
    collision = ["collision"] if len(names) < len(row.charges) else []
    return ", ".join([*collision, *names]).replace("_infractions", "").replace("_", " ")


def write_page(
    suite: Suite, out: Path, json_out: Path, work: Path, *, seed: int = 0, workers: int = 1
) -> list[HazardRow]:
    """Measure a suite, take a picture of each type, and write page, pictures and figures.

    Args:
        suite: what is driven.
        out: the page; pictures go to the folder beside it that bears its name.
        json_out: the figures.
        work: folder of the evaluations, resumed when they are there.
        seed: of the evaluations.
        workers: processes of the evaluations.
    """
    rows = measure_hazards(suite, work, seed=seed, workers=workers)
    folder = out.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    camera = Camera()
    seeds = {task.id: world_seed(seed, one) for task, one in zip(suite.tasks, suite.seeds, strict=True)}
    for row in rows:
        task = shown_task(suite.tasks, row)
        image = Image.fromarray(picture(task, seeds[task.id], camera))
        image.save(folder / f"{row.type}.jpg", quality=JPEG_QUALITY, optimize=True)
    out.write_text(page(rows, suite, seed, git_revision(), folder.name), encoding="utf-8")
    write_json(
        json_out,
        {
            "command": f"takevla scenarios --suite {suite.name} --seed {seed}",
            "git_revision": git_revision(),
            "seed": seed,
            "suite": suite.name,
            "density_expert_per_km": suite.density,
            "density_ignored_per_km": 0.0,
            "types": [
                asdict(row)
                | {
                    "ignored_failure_percent": row.ignored_failure_percent,
                    "expert_success_percent": row.expert_success_percent,
                }
                for row in rows
            ],
        },
    )
    return rows
