"""A drive as a Rerun recording (extra `rerun`): camera, plan, actors, words and pedals on one time line.

Entities: `world/ego` (pose and box), `world/ego/plan/route` and `.../waypoints` (ego frame), `world/route`,
`world/actors`, `camera` (JPEG) with `camera/plan`, `commentary` (a log) and `said` (the latest),
`speed/actual`, `speed/planned`, `controls/steer`, `controls/throttle`, `controls/brake`, `events`.
The time line `world_time` is the world's, from the start of the route.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from takevla.driver.closed_loop import Seat, drive
from takevla.driver.driver import Driver
from takevla.report.birdseye import rgb_of
from takevla.report.clips import events_of
from takevla.report.gallery import POLICY_COLOUR
from takevla.scene.actors import ActorKind
from takevla.scene.plan import WAYPOINT_PERIOD_US, Observation, Plan
from takevla.scene.scene import Controls, Ego
from takevla.takeover.commentary import commentary
from takevla.world.camera import Camera
from takevla.world.embedded import EmbeddedWorld

try:
    import rerun as rr
    import rerun.blueprint as rrb
except ImportError as error:
    raise ValueError("Rerun is not installed; mend it with: pip install 'takevla[rerun]'") from error

TIMELINE = "world_time"
JPEG_QUALITY = 90
ABOVE_GROUND_M = 0.1  # plans and routes are drawn so high, to be seen on the road
CAR_RGB, PERSON_RGB, OTHER_RGB = (90, 120, 200), (220, 120, 30), (150, 150, 150)
ACTOR_RGB = {ActorKind.CAR: CAR_RGB, ActorKind.PEDESTRIAN: PERSON_RGB}


class Recorder:
    """Writes one seat of a drive; a listener of `driver.closed_loop.drive`."""

    def __init__(self, stream: rr.RecordingStream, camera: Camera, seat: int = 0) -> None:
        self._stream = stream
        self._camera = camera
        self._seat = seat
        self._told = 0
        self.plans = 0

    def on_plan(self, seat: Seat, observation: Observation, plan: Plan) -> None:
        """The scene at this instant, what the camera sees, the plan and its words."""
        if seat.index != self._seat:
            return
        world, log = seat.world, self._stream.log
        scene = world.scene()
        self._at(scene.time_us)
        if self.plans == 0:
            route = np.array(world.route.points_world, np.float32)
            route[:, 2] += ABOVE_GROUND_M
            log("world/route", rr.LineStrips3D([route], colors=[(120, 120, 120)]), static=True)
        self.plans += 1
        self._log_ego(scene.ego)
        actors = scene.actors
        on = np.asarray(actors.valid, bool)
        lifted = actors.position_world[on] + np.stack(
            [np.zeros(on.sum()), np.zeros(on.sum()), actors.extent_m[on, 2] / 2], axis=1
        )
        log(
            "world/actors",
            rr.Boxes3D(
                centers=lifted,
                half_sizes=actors.extent_m[on] / 2,
                quaternions=[_quaternion(float(heading)) for heading in actors.heading_rad[on]],
                colors=[ACTOR_RGB.get(ActorKind(int(kind)), OTHER_RGB) for kind in actors.kind[on]],
                labels=[ActorKind(int(kind)).name.lower() for kind in actors.kind[on]],
                show_labels=False,
            ),
        )
        image = observation.image
        if image is None:
            image = self._camera.render(world.road_map, scene)
        log("camera", rr.EncodedImage(contents=_jpeg(image), media_type="image/jpeg"))
        pixels, seen = self._camera.rig.project(_lifted(plan.waypoints_ego))
        log("camera/plan", rr.Points2D(pixels[seen], radii=2.0, colors=[rgb_of(POLICY_COLOUR)]))
        log(
            "world/ego/plan/route", rr.LineStrips3D([_lifted(plan.route_ego)], colors=[rgb_of(POLICY_COLOUR)])
        )
        log("world/ego/plan/waypoints", rr.Points3D(_lifted(plan.waypoints_ego), radii=0.2))
        first = float(np.linalg.norm(plan.waypoints_ego[1] - plan.waypoints_ego[0]))
        log("speed/planned", rr.Scalars(first / (WAYPOINT_PERIOD_US * 1e-6)))
        said = plan.commentary
        if not said and plan.reason is not None:
            said = commentary(plan.reason, scene.ego.speed_mps)
        if said:
            log("commentary", rr.TextLog(said))
            log("said", rr.TextDocument(said))

    def on_tick(self, seat: Seat, ego: Ego, controls: Controls) -> None:
        """Pedals, wheel and speed, and what has just happened."""
        if seat.index != self._seat:
            return
        self._at(seat.world.time_us)
        now = seat.world.ego()
        self._log_ego(now)
        self._stream.log("speed/actual", rr.Scalars(now.speed_mps))
        for name in ("steer", "throttle", "brake"):
            self._stream.log(f"controls/{name}", rr.Scalars(getattr(controls, name)))
        happened = events_of(seat.world)
        for time_us, text in happened[self._told :]:
            self._at(time_us)
            self._stream.log("events", rr.TextLog(text, level=rr.TextLogLevel.WARN))
        self._told = len(happened)

    def on_finish(self, seat: Seat) -> None:
        """Nothing: the stream is closed by who opened it."""

    def _at(self, time_us: int) -> None:
        self._stream.set_time(TIMELINE, duration=time_us * 1e-6)

    def _log_ego(self, ego: Ego) -> None:
        self._stream.log(
            "world/ego",
            rr.Transform3D(
                translation=ego.position_world, quaternion=rr.Quaternion(xyzw=_quaternion(ego.heading_rad))
            ),
        )
        half = np.asarray(ego.extent_m) / 2
        box = rr.Boxes3D(centers=[(0.0, 0.0, half[2])], half_sizes=[half], colors=[rgb_of(POLICY_COLOUR)])
        self._stream.log("world/ego/box", box)


def record_route(world: EmbeddedWorld, driver: Driver, path: Path, seconds: float = 0.0) -> int:
    """Drive a world and write its recording; gives the number of plans.

    `seconds` stops the drive early, 0 drives to its end.

    Raises:
        ValueError: the path does not end in .rrd, or the time is negative.
    """
    if path.suffix != ".rrd":
        raise ValueError(f"{path}: a Rerun recording is an .rrd file")
    if seconds < 0.0:
        raise ValueError(f"{seconds:g} seconds to record: give a positive time, or 0 for the whole route")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.stem + ".part.rrd")
    camera = Camera.of(driver.rig)
    with rr.RecordingStream("takevla", recording_id=f"{world.task.id}-{driver.name}") as stream:
        stream.save(unfinished, default_blueprint=_layout())
        recorder = Recorder(stream, camera)
        drive([Seat(0, world)], driver, camera, [recorder], round(seconds * 1e6) or None)
        stream.flush()
    stream.disconnect()
    unfinished.replace(path)
    return recorder.plans


def _layout() -> rrb.Blueprint:
    """What the viewer shows at first: the world, the camera, the words, and the curves."""
    return rrb.Blueprint(
        rrb.Horizontal(
            rrb.Spatial3DView(origin="world", name="world"),
            rrb.Vertical(
                rrb.Spatial2DView(origin="camera", name="camera"),
                rrb.TextDocumentView(origin="said", name="says"),
                rrb.TimeSeriesView(origin="speed", name="speed, m/s"),
                rrb.TimeSeriesView(origin="controls", name="controls"),
                rrb.TextLogView(contents=["commentary", "events"], name="words and events"),
            ),
        )
    )


def _quaternion(heading_rad: float) -> tuple[float, float, float, float]:
    """A turn about z as (x, y, z, w)."""
    return (0.0, 0.0, float(np.sin(heading_rad / 2)), float(np.cos(heading_rad / 2)))


def _lifted(points: NDArray[np.float32] | Sequence[Sequence[float]]) -> NDArray[np.float32]:
    """(N, 2) points as (N, 3), a little above the ground."""
    flat = np.asarray(points, np.float32)
    return np.concatenate([flat, np.full((len(flat), 1), ABOVE_GROUND_M, np.float32)], axis=1)


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
