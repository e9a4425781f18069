"""The past picture, looked up where an ego that went straight saw each place of the present one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from tiny_vla import observations, tiny_model, tiny_tokenizer

from takevla.driver.vla.odometry import carried
from takevla.driver.vla.policy import VlaDriver
from takevla.scene.past import PAST_US
from takevla.world.camera.rig import Rig

RIG = Rig()
SIDE = RIG.height


def config_of(rig: Rig):
    model = tiny_model()
    model.look_through(rig)
    return model.config


def spot_tiles(points_ego: np.ndarray) -> torch.Tensor:
    """(lenses, 3, S, S): a soft spot where each lens sees each point."""
    tiles = torch.zeros(3, SIDE, SIDE)
    rows, columns = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
    for lens, (yaw_deg, fov_deg) in enumerate(zip(RIG.lens_yaws_deg, RIG.lens_fovs_deg, strict=True)):
        eye = Rig(SIDE, SIDE, RIG.mount_m, (yaw_deg,), (fov_deg,))
        pixels, inside = eye.project(points_ego)
        for column, row in pixels[inside]:
            tiles[lens] += torch.exp(-((columns - column) ** 2 + (rows - row) ** 2) / 8.0)
    return tiles[:, None].repeat(1, 3, 1, 1)


def peak(tile: torch.Tensor) -> torch.Tensor:
    """Row and column of the brightest pixel of (3, S, S)."""
    return torch.tensor(np.unravel_index(int(tile[0].argmax()), (SIDE, SIDE))).float()


def test_what_stands_on_the_road_is_found_where_it_is_and_what_moved_is_not():
    speed_mps = 8.0
    way_m = speed_mps * PAST_US * 1e-6
    for lens, here in enumerate([[12.0, 4.0, 0.0], [9.0, -5.0, 0.0], [25.0, 0.5, 0.0]]):
        stands = np.array([here]) + np.array([way_m, 0.0, 0.0])
        now = spot_tiles(np.array([here]))
        for before, apart in ((stands, False), (stands + np.array([0.0, -2.0, 0.0]), True)):
            past = spot_tiles(before)
            tiles = torch.cat([now, past - now], dim=1)
            result = carried(tiles, torch.tensor([speed_mps]), config_of(RIG))
            shift = (peak(result[lens, 3:] + now[lens]) - peak(now[lens])).abs().max()
            assert float((peak(past[lens]) - peak(now[lens])).abs().max()) >= 3.0  # not looked up, it moved
            assert (float(shift) > 6.0) if apart else (float(shift) <= 1.0)


def test_rows_do_not_touch_each_other_and_the_present_stays():
    tiles = torch.rand(6, 6, SIDE, SIDE)
    speeds = torch.tensor([3.0, 11.0])
    both = carried(tiles, speeds, config_of(RIG))
    assert torch.equal(both[3:], carried(tiles[3:], speeds[1:], config_of(RIG)))
    assert torch.equal(both[:, :3], tiles[:, :3])
    assert not torch.equal(both[:, 3:], tiles[:, 3:])


def test_an_ego_that_stands_or_remembers_nothing_sees_the_past_as_it_was():
    tiles = torch.rand(6, 6, SIDE, SIDE)
    tiles[3:, 3:] = 0.0  # the second row was shown its present twice
    result = carried(tiles, torch.tensor([0.0, 9.0]), config_of(RIG))
    torch.testing.assert_close(result[:3], tiles[:3], atol=1e-4, rtol=0.0)
    assert torch.equal(result[3:], tiles[3:])


def test_a_rig_of_another_number_of_lenses_leaves_the_past_alone():
    assert config_of(Rig(lens_yaws_deg=(0.0,), lens_fovs_deg=(110.0,))).lens_yaws_deg == ()
    assert config_of(RIG).lens_yaws_deg == RIG.lens_yaws_deg


def test_a_driver_carries_the_past_by_the_speed_it_is_told():
    model = tiny_model()
    model.see_past(2)
    seen = [replace(item, past_image=255 - item.image) for item in observations(1)]
    plain = VlaDriver(model, tiny_tokenizer(), half_precision=False).plan(seen)
    model.look_through(RIG)
    through = VlaDriver(model, tiny_tokenizer(), half_precision=False).plan(seen)
    assert np.abs(plain[0].waypoints_ego - through[0].waypoints_ego).max() > 1e-6
