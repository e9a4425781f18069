"""Takeovers to look at: camera and bird's eye around the moment, and what was said."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from takevla.dataset.reader import Dataset
from takevla.scene.plan import ROUTE_POINTS, SPEED_WAYPOINTS, Plan
from takevla.scene.scene import Scene

MOMENTS_S = (-1.0, 0.0, 1.0)  # from the start of the takeover
CARDS = 8
SCENE_WITHIN_US = 50_000  # scenes are recorded at least at 10 Hz
POLICY_COLOUR, EXPERT_COLOUR = "#c4622d", "#1b5e9b"

# (scene, policy's plan or None, expert's plan) -> (H, W, 3) picture
BirdsEye = Callable[[Scene, Plan | None, Plan | None], NDArray[np.uint8]]


@dataclass(frozen=True)
class Frame:
    """One moment of a card; pictures are data URLs, `birdseye` "" where no scene is recorded."""

    label: str
    camera: str
    birdseye: str


@dataclass(frozen=True)
class Card:
    """One takeover."""

    trigger: str
    scenario: str
    where: str
    frames: tuple[Frame, ...]
    said: tuple[tuple[str, str], ...]


def chosen(takeovers: list[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    """Up to `count` takeovers: triggers in turn, and within a trigger scenario types not yet shown first."""
    left: dict[str, list[Mapping[str, Any]]] = {}
    for one in takeovers:
        left.setdefault(one["trigger"], []).append(one)
    shown: dict[str, int] = {}
    picked: list[Mapping[str, Any]] = []
    while len(picked) < count and any(left.values()):
        for trigger in sorted(left):
            if left[trigger] and len(picked) < count:
                best = min(left[trigger], key=lambda one: shown.get(one["scenario"], 0))
                left[trigger].remove(best)
                shown[best["scenario"]] = shown.get(best["scenario"], 0) + 1
                picked.append(best)
    return picked


def _url(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _picture(pixels: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=88)
    return _url("jpeg", buffer.getvalue())


def _plan(row: Mapping[str, Any], who: str) -> Plan | None:
    route = np.asarray(row[f"{who}_route_ego"], np.float32).reshape(ROUTE_POINTS, 2)
    waypoints = np.asarray(row[f"{who}_waypoints_ego"], np.float32).reshape(SPEED_WAYPOINTS, 2)
    return Plan(route, waypoints) if np.isfinite(route).all() else None


def _scene(dataset: Dataset, episode: str, time_us: int) -> Scene | None:
    """The recorded scene nearest in time to a frame, None where none lies within `SCENE_WITHIN_US`."""
    found = dataset.scenes(episode, time_us - SCENE_WITHIN_US, time_us + SCENE_WITHIN_US)
    return min(found, key=lambda scene: abs(scene.time_us - time_us)) if found else None


def _said(rows: list[Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    """What was said one second before and at the takeover, and what should have been."""
    before, moment = rows[0], rows[len(rows) // 2]
    lines = [
        ("Policy, 1 s before", before["policy_commentary"]),
        ("Should have said", before["enhanced_commentary"] or moment["enhanced_commentary"]),
        ("Expert, at the moment", moment["expert_commentary"]),
    ]
    return tuple((name, text) for name, text in lines if text)


def gallery(dataset: Dataset, draw: BirdsEye | None, count: int = CARDS) -> list[Card]:
    """Cards of up to `count` takeovers of a dataset."""
    episodes = dataset.column("episode")
    times = dataset.column("time_us")
    cards = []
    for takeover in chosen(dataset.takeovers.to_pylist(), count):
        rows = np.flatnonzero(episodes == takeover["episode"])
        start = takeover["start_us"]
        frames, moments = [], []
        for shift in MOMENTS_S:
            row = int(rows[np.argmin(np.abs(times[rows] - (start + shift * 1e6)))])
            moment = dataset.frames.slice(row, 1).to_pylist()[0]
            moments.append(moment)
            scene = _scene(dataset, takeover["episode"], moment["time_us"])
            seen = ""
            if draw is not None and scene is not None:
                seen = _picture(draw(scene, _plan(moment, "policy"), _plan(moment, "expert")))
            offset = (moment["time_us"] - start) * 1e-6
            label = "at the takeover" if abs(offset) < 0.13 else f"{offset:+.2f} s"
            label += f", {moment['speed_mps']:.1f} m/s"
            frames.append(Frame(label, _url("jpeg", dataset.image_bytes(row)), seen))
        cards.append(
            Card(
                trigger=f"{takeover['trigger']} ({takeover['detail']})",
                scenario=takeover["scenario"],
                where=f"{takeover['town']}, route {takeover['route']}, at {start * 1e-6:.1f} s",
                frames=tuple(frames),
                said=_said(moments),
            )
        )
    return cards
