"""Lights follow their phases, and scenarios may hold them."""

import numpy as np
from plain_maps import crossing

from takevla.scene.road_map import Control, LightState
from takevla.world.lights import light_program, set_lights

FREE = -1


def _states(ticks: list[int], forced: list[int] | None = None, until: int = 0) -> list[list[int]]:
    program = light_program(crossing(Control.SIGNAL))
    held = np.array(forced or [FREE] * 4, np.int64)
    ends = np.full(4, until, np.int64)
    rows = []
    for tick in ticks:
        light = np.zeros(4, np.int64)
        set_lights(program, tick, light, held, ends)
        rows.append(light.tolist())
    return rows


def test_phases_open_one_after_the_other_with_yellow_and_all_red_between() -> None:
    green, yellow, red = LightState.GREEN, LightState.YELLOW, LightState.RED
    # 10 s green, 3 s yellow, 2 s all red, then the other two arms.
    assert _states([0, 199, 200, 259, 260, 299, 300, 599, 600]) == [
        [green, red, green, red],
        [green, red, green, red],
        [yellow, red, yellow, red],
        [yellow, red, yellow, red],
        [red, red, red, red],
        [red, red, red, red],
        [red, green, red, green],
        [red, red, red, red],
        [green, red, green, red],
    ]


def test_conflicting_arms_are_never_open_together() -> None:
    for a, b, c, d in _states(list(range(0, 700, 7))):
        open_ns = LightState.RED not in (a, c)
        open_ew = LightState.RED not in (b, d)
        assert not (open_ns and open_ew)


def test_a_held_signal_keeps_its_state_until_its_time_is_over() -> None:
    rows = _states([0, 50, 99, 100], forced=[LightState.RED, FREE, FREE, FREE], until=100)
    assert [row[0] for row in rows] == [LightState.RED, LightState.RED, LightState.RED, LightState.GREEN]
