"""The seam to a simulator: the embedded world implements it, and so does a CARLA bridge."""

from __future__ import annotations

from typing import Any, Protocol

from takevla.scene.road_map import RoadMap
from takevla.scene.route import Route
from takevla.scene.scene import Controls, Ego, Scene


class UnfitRouteError(ValueError):
    """A world cannot be opened for one route; for others it can."""


class World(Protocol):
    """One route being driven.  `tick` advances by `TICK_US`."""

    @property
    def road_map(self) -> RoadMap:
        """The town."""
        ...

    @property
    def route(self) -> Route:
        """The dense route that the ego is asked to drive."""
        ...

    @property
    def route_index(self) -> int:
        """Index of the last route point that the ego has passed."""
        ...

    @property
    def time_us(self) -> int:
        """World time since the start of the route."""
        ...

    @property
    def finished(self) -> bool:
        """True once the route has ended, for whatever reason."""
        ...

    def ego(self) -> Ego:
        """The ego alone, as an immutable record: what a controller needs at every tick."""
        ...

    def scene(self) -> Scene:
        """Everything at this instant, as an immutable record."""
        ...

    def tick(self, controls: Controls) -> None:
        """Apply `controls` for one tick.  Does nothing once finished."""
        ...

    def snapshot(self) -> Any:
        """An opaque copy of the whole state; `restore` of it continues bit-identically."""
        ...

    def restore(self, snapshot: Any) -> None:
        """Go back to a `snapshot` of this world."""
        ...
