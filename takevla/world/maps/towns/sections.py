"""Cross-sections of roads: which strips lie side by side, how wide, with which paint."""

from __future__ import annotations

from dataclasses import dataclass

from takevla.scene.road_map import LaneKind, MarkKind

KMH = 1.0 / 3.6


@dataclass(frozen=True)
class Strip:
    """One lane of a cross-section."""

    kind: LaneKind
    width_m: float


@dataclass(frozen=True)
class Section:
    """A road's cross-section; strips run outwards from the centre, `forward` on the right of the line."""

    name: str
    forward: tuple[Strip, ...]
    backward: tuple[Strip, ...]
    speed_limit_mps: float
    centre_mark: MarkKind
    median_m: float = 0.0
    rank: int = 1  # importance: the higher one is the major road at a junction

    def strips(self, forward: bool) -> tuple[Strip, ...]:
        """The strips of one side."""
        return self.forward if forward else self.backward

    def half_width_m(self, forward: bool, with_sidewalk: bool = False) -> float:
        """From the centre line to the outer edge of the carriageway (or of the sidewalk) on one side."""
        return self.median_m / 2 + sum(
            strip.width_m
            for strip in self.strips(forward)
            if with_sidewalk or strip.kind != LaneKind.SIDEWALK
        )

    @property
    def walkable(self) -> bool:
        """Whether people walk beside it."""
        return any(strip.kind == LaneKind.SIDEWALK for strip in self.forward + self.backward)


def driving(count: int, width_m: float) -> tuple[Strip, ...]:
    """`count` driving lanes."""
    return tuple(Strip(LaneKind.DRIVING, width_m) for _ in range(count))


def mark_between(inner: LaneKind, outer: LaneKind) -> MarkKind:
    """The paint between two strips of the same direction."""
    if LaneKind.SIDEWALK in (inner, outer):
        return MarkKind.KERB
    if inner == outer == LaneKind.DRIVING:
        return MarkKind.BROKEN_WHITE
    return MarkKind.SOLID_WHITE


def outer_mark(kind: LaneKind) -> MarkKind:
    """The paint on the outer edge of the outermost strip."""
    if kind == LaneKind.DRIVING:
        return MarkKind.SOLID_WHITE
    return MarkKind.KERB if kind in (LaneKind.PARKING, LaneKind.BIKE) else MarkKind.NONE
