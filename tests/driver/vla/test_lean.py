"""The lean reader: transformers' arithmetic, and rows that do not know of each other."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_vla import observations, tiny_model, tiny_tokenizer

from takevla.driver.vla.backbone import BackboneReader
from takevla.driver.vla.inputs import frame_stack, image_inputs, navigation_inputs, pad_words
from takevla.driver.vla.lean import ROWS, LeanReader, quickest_reader
from takevla.driver.vla.policy import VlaDriver


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_plans_and_words_are_those_of_transformers(dtype):
    half = dtype == torch.bfloat16
    model = tiny_model()
    seen = observations(3)
    images = image_inputs(torch.from_numpy(frame_stack(seen)), model.config)
    words = pad_words([[12, 13, 14], [], [40]], model.config.pad_token_id)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        said, plans = [], []
        for reader in (BackboneReader(model.backbone), LeanReader(model.backbone, dtype)):
            said.append(model.speak(model.read_prompt(images, navigation_inputs(seen), reader)))
            context = model.read_prompt(images, navigation_inputs(seen), reader)
            model.listen(context, words)
            plans.append(model.plan(context, words))
    assert torch.equal(*said)
    assert said[0].shape[1] > 0
    near = {"atol": 2e-2, "rtol": 1e-2} if half else {"atol": 1e-4, "rtol": 1e-4}
    torch.testing.assert_close(plans[1].waypoints_ego, plans[0].waypoints_ego, **near)
    near = {"atol": 0.1, "rtol": 0.05} if half else {"atol": 1e-4, "rtol": 1e-4}
    torch.testing.assert_close(plans[1].action_features, plans[0].action_features, **near)


@pytest.mark.parametrize("half_precision", [True, False])
def test_a_row_is_the_same_to_the_bit_whoever_drives_beside_it(half_precision):
    driver = VlaDriver(tiny_model(), tiny_tokenizer(), half_precision=half_precision)
    seen = observations(ROWS + 3)
    whole = driver.plan(seen)
    for some in ([5], [2, 9, 0], list(reversed(range(ROWS)))):
        for row, plan in zip(some, driver.plan([replace(seen[row], seat=0) for row in some]), strict=True):
            assert plan.commentary == whole[row].commentary
            np.testing.assert_array_equal(plan.waypoints_ego, whole[row].waypoints_ego)
            np.testing.assert_array_equal(plan.route_ego, whole[row].route_ego)


def test_only_a_plain_model_in_float32_is_read_lean():
    backbone = tiny_model().backbone
    assert isinstance(quickest_reader(backbone, half_precision=True), LeanReader)
    assert isinstance(quickest_reader(backbone, half_precision=False), LeanReader)
    assert isinstance(quickest_reader(backbone.to(torch.bfloat16), half_precision=True), BackboneReader)
