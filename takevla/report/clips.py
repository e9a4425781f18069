"""Clips (MP4) of a drive: what the camera sees with the plan drawn in, the bird's eye, and what is said."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from takevla.driver.closed_loop import Seat, drive
from takevla.driver.driver import Driver
from takevla.report.birdseye import DrawnPlan, draw_birdseye, rgb_of
from takevla.report.gallery import POLICY_COLOUR
from takevla.scene.geometry import to_ego, to_world
from takevla.scene.plan import Observation, Plan
from takevla.scene.scene import TICK_US, Controls, Ego, Scene
from takevla.takeover.commentary import commentary
from takevla.world.camera import Camera, Rig
from takevla.world.embedded import EmbeddedWorld
from takevla.world.world import World

CAMERA_SCALE = 3
TEXT_HEIGHT_PX = 96
PATH_HALF_WIDTH_M = 0.35
NEAREST_M = 2.0  # the path is drawn from here on: nearer points lie under the ego's bonnet
QUALITY = 7  # of imageio-ffmpeg, 0 to 10
PAPER, INK, FAINT, ALARM = (250, 250, 248), (28, 30, 34), (110, 114, 120), (196, 30, 30)
EVENT_SHOWN_US = 3_000_000

Frames = Callable[[NDArray[np.uint8]], None]


def overlay_plan(
    image: NDArray[np.uint8],
    rig: Rig,
    plans: Sequence[DrawnPlan],
    scale: int = CAMERA_SCALE,
    offset_y_m: float = 0.0,
    yaw_offset_rad: float = 0.0,
) -> NDArray[np.uint8]:
    """The camera picture (H, W, 3) enlarged `scale` times, with each plan's path and waypoints on the road.

    The offsets are those that the picture was rendered with.
    """
    height, width = image.shape[:2]
    base = Image.fromarray(image).resize((width * scale, height * scale), Image.Resampling.NEAREST)
    layer = base.copy()
    draw = ImageDraw.Draw(layer)

    def pixels(points: NDArray[np.float64]) -> list[tuple[float, float] | None]:
        lifted = np.concatenate([points, np.full((len(points), 1), 0.05)], axis=1)
        found, inside = rig.project(lifted, offset_y_m, yaw_offset_rad)
        return [
            (float(column) * scale, float(row) * scale) if seen else None
            for (column, row), seen in zip(found, inside, strict=True)
        ]

    for drawn in plans:
        path = np.asarray(drawn.plan.route_ego, np.float64)
        path = path[path[:, 0] >= NEAREST_M]
        if len(path) > 1:
            steps = np.gradient(path, axis=0)
            normal = np.stack([-steps[:, 1], steps[:, 0]], axis=1)
            normal *= PATH_HALF_WIDTH_M / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
            left, right = pixels(path + normal), pixels(path - normal)
            for i in range(len(path) - 1):
                corners = [corner for corner in (left[i], left[i + 1], right[i + 1], right[i]) if corner]
                if len(corners) == 4:
                    draw.polygon(corners, fill=drawn.rgb)
        for spot in pixels(np.asarray(drawn.plan.waypoints_ego, np.float64)):
            if spot is not None:
                x, y = spot
                draw.ellipse((x - 5, y - 3, x + 5, y + 3), fill=(255, 255, 255), outline=drawn.rgb, width=2)
    return np.asarray(Image.blend(base, layer, 0.72), np.uint8).copy()


def moved_plan(plan: Plan, then: Ego, now: Ego) -> Plan:
    """A plan made in the ego frame of `then`, expressed in that of `now`."""

    def move(points: NDArray[np.float32]) -> NDArray[np.float32]:
        world = to_world(points, then.position_world, then.heading_rad)
        return to_ego(world, now.position_world, now.heading_rad).astype(np.float32)

    return Plan(move(plan.route_ego), move(plan.waypoints_ego), plan.commentary, plan.reason)


def compose(
    image: NDArray[np.uint8],
    birdseye: NDArray[np.uint8],
    said: str,
    facts: str,
    events: Sequence[str] = (),
) -> NDArray[np.uint8]:
    """One frame: camera left, bird's eye right, and below what is said, what is, and what happened."""
    height = max(image.shape[0], birdseye.shape[0])
    width = image.shape[1] + birdseye.shape[1]
    page = Image.new("RGB", (width + width % 2, height + TEXT_HEIGHT_PX + height % 2), PAPER)
    page.paste(Image.fromarray(image), (0, 0))
    page.paste(Image.fromarray(birdseye), (image.shape[1], 0))
    draw = ImageDraw.Draw(page)
    large, small = ImageFont.load_default(size=22), ImageFont.load_default(size=15)
    lines = textwrap.wrap(said, max(int(image.shape[1] / 11.5), 20))[:2]
    draw.multiline_text((14, height + 10), "\n".join(lines), INK, large, spacing=4)
    draw.text((14, height + TEXT_HEIGHT_PX - 24), facts, FAINT, small)
    for i, event in enumerate(events[-4:]):
        draw.text((image.shape[1] + 10, height + 10 + 20 * i), event, ALARM, small)
    return np.asarray(page, np.uint8).copy()


@contextmanager
def clip_writer(path: Path, frames_per_s: float) -> Iterator[Frames]:
    """A function that appends frames (H, W, 3), all of one size, to an MP4 at `path`.

    The file appears only when it is complete.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.stem + ".part" + path.suffix)
    pipe = None

    def append(frame: NDArray[np.uint8]) -> None:
        nonlocal pipe
        if pipe is None:
            height, width = frame.shape[:2]
            pipe = imageio_ffmpeg.write_frames(
                str(unfinished),
                (width, height),
                fps=frames_per_s,
                quality=QUALITY,
                macro_block_size=2,
                ffmpeg_log_level="error",
            )
            pipe.send(None)
        pipe.send(np.ascontiguousarray(frame))

    try:
        yield append
    except BaseException:
        if pipe is not None:
            pipe.close()
            unfinished.unlink(missing_ok=True)
        raise
    if pipe is not None:
        pipe.close()
        unfinished.replace(path)


class Film:
    """Films one seat of a drive; a listener of `driver.closed_loop.drive`.

    Rendered afresh every `every_ticks`, so that a clip is smooth although the driver plans rarely.
    """

    def __init__(
        self,
        append: Frames,
        camera: Camera,
        seat: int = 0,
        every_ticks: int = 2,
        rgb: tuple[int, int, int] | None = None,
        events: Callable[[World], Sequence[tuple[int, str]]] | None = None,
    ) -> None:
        """`append` takes the frames (see `clip_writer`); `events` gives (time_us, text) of a world."""
        self._append = append
        self._camera = camera
        self._seat = seat
        self._every_ticks = every_ticks
        self._rgb = rgb or rgb_of(POLICY_COLOUR)
        self._events = events
        self._plan: tuple[Plan, Ego] | None = None

    def on_plan(self, seat: Seat, observation: Observation, plan: Plan) -> None:
        """Remember the plan and where it was made."""
        if seat.index == self._seat:
            self._plan = (plan, seat.world.ego())

    def on_tick(self, seat: Seat, ego: Ego, controls: Controls) -> None:
        """Add a frame when one is due."""
        world = seat.world
        if seat.index != self._seat or world.time_us // TICK_US % self._every_ticks:
            return
        plans = []
        said = ""
        if self._plan is not None:
            plan, then = self._plan
            plans = [DrawnPlan(moved_plan(plan, then, world.ego()), self._rgb)]
            said = plan.commentary
            if not said and plan.reason is not None:
                said = commentary(plan.reason, then.speed_mps)
        happened = self._events(world) if self._events is not None else []
        recent = [text for time_us, text in happened if world.time_us - time_us < EVENT_SHOWN_US]
        self._append(frame(world.scene(), world, self._camera, plans, said, recent))

    def on_finish(self, seat: Seat) -> None:
        """Nothing: the writer closes the clip."""


def events_of(world: World) -> list[tuple[int, str]]:
    """What has happened in a world so far, (time_us, words); nothing of worlds that keep no record."""
    if not isinstance(world, EmbeddedWorld):
        return []
    return [
        (tick * TICK_US, event.name.lower().replace("_", " ")) for tick, event, _ in world.record().events
    ]


def film_route(
    world: EmbeddedWorld, driver: Driver, path: Path, seconds: float = 0.0, every_ticks: int = 2
) -> int:
    """Drive a world and write the clip of it; gives the number of frames.

    `seconds` stops the drive early, 0 drives to its end.

    Raises:
        ValueError: the path does not end in .mp4, or the time is negative.
    """
    if path.suffix != ".mp4":
        raise ValueError(f"{path}: a clip is an .mp4 file")
    if seconds < 0.0:
        raise ValueError(f"{seconds:g} seconds of film: give a positive time, or 0 for the whole route")
    camera = Camera.of(driver.rig)
    frames = 0
    with clip_writer(path, 1e6 / (every_ticks * TICK_US)) as append:

        def counted(picture: NDArray[np.uint8]) -> None:
            nonlocal frames
            frames += 1
            append(picture)

        film = Film(counted, camera, every_ticks=every_ticks, events=events_of)
        drive([Seat(0, world)], driver, camera, [film], round(seconds * 1e6) or None)
    return frames


def frame(
    scene: Scene,
    world: World,
    camera: Camera,
    plans: Sequence[DrawnPlan],
    said: str,
    events: Sequence[str] = (),
) -> NDArray[np.uint8]:
    """One frame of a clip of `world` at `scene`; plans are in the ego's frame of that scene."""
    image = overlay_plan(camera.render(world.road_map, scene), camera.rig, plans)
    size = image.shape[0]
    above = draw_birdseye(world.road_map, scene, route=world.route, plans=plans, size_px=size)
    controls = scene.ego.controls
    facts = (
        f"{scene.time_us * 1e-6:5.1f} s   {scene.ego.speed_mps:4.1f} m/s   "
        f"steer {controls.steer:+.2f}   throttle {controls.throttle:.2f}   brake {controls.brake:.2f}"
    )
    return compose(image, above, said, facts, events)
