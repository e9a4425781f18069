from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_vla import GO, SIZE, STOP, observations, tiny_model, tiny_tokenizer
from transformers import InternVLConfig, InternVLVisionConfig

from takevla.bench.drivers import load_driver
from takevla.driver.vla.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from takevla.driver.vla.inputs import frame_stack, image_inputs, navigation_inputs, pad_words, tiny_config
from takevla.driver.vla.lora import merge, prepare
from takevla.driver.vla.model import TakeVLA
from takevla.driver.vla.policy import CREEP_MPS, VlaDriver
from takevla.driver.vla.residual import ResidualHead
from takevla.driver.vla.settings import TinySize, Trainable
from takevla.driver.vla.tokenizer import build_tokenizer, decode_commentary, encode_commentary
from takevla.driver.vla.vision import Motion, SightReader
from takevla.learn.sight import SIGHT_OUTPUTS
from takevla.takeover.commentary import corpus
from takevla.world.camera.rig import Rig


def _inputs(model, rows):
    seen = observations(rows)
    images = image_inputs(torch.from_numpy(frame_stack(seen)), model.config)
    return images, navigation_inputs(seen)


def test_every_sentence_of_the_grammar_survives_the_tokenizer():
    tokenizer = build_tokenizer(corpus())
    for sentence in corpus():
        ids = encode_commentary(tokenizer, sentence, 16)
        assert len(ids) == len(sentence.split())
        assert decode_commentary(tokenizer, ids) == sentence


def test_an_empty_corpus_is_refused():
    with pytest.raises(ValueError, match="no words"):
        build_tokenizer(["  "])


def test_a_plan_has_the_shape_the_controller_takes():
    driver = VlaDriver(tiny_model(), tiny_tokenizer())
    plans = driver.plan(observations(3))
    assert [plan.route_ego.shape for plan in plans] == [(20, 2)] * 3
    assert [plan.waypoints_ego.shape for plan in plans] == [(10, 2)] * 3
    assert all(plan.route_ego.dtype == np.float32 for plan in plans)
    assert driver.plan([]) == []


def test_a_row_of_a_batch_is_the_plan_of_that_observation_alone():
    driver = VlaDriver(tiny_model(), tiny_tokenizer(), half_precision=False)
    seen = observations(5)
    batch = driver.plan(seen)
    for row in (0, 3):
        alone = driver.plan([seen[row]])[0]
        assert alone.commentary == batch[row].commentary
        np.testing.assert_allclose(alone.route_ego, batch[row].route_ego, atol=1e-4)
        np.testing.assert_allclose(alone.waypoints_ego, batch[row].waypoints_ego, atol=1e-4)


@pytest.mark.parametrize("lengths", [(0, 0), (3, 3), (1, 7), (16, 2)])
def test_driving_from_the_cache_equals_the_teacher_forced_pass(lengths):
    model = tiny_model()
    images, navigation = _inputs(model, 2)
    rng = np.random.default_rng(1)
    words = pad_words(
        [rng.integers(10, 60, length).tolist() for length in lengths], model.config.pad_token_id
    )
    with torch.no_grad():
        whole = model(images, navigation, words).plan
        context = model.read_prompt(images, navigation)
        model.listen(context, words)
        cached = model.plan(context, words)
    torch.testing.assert_close(cached.waypoints_ego, whole.waypoints_ego, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(cached.route_ego, whole.route_ego, atol=1e-4, rtol=1e-4)


def test_cached_greedy_words_are_those_of_repeated_full_passes():
    model = tiny_model()
    images, navigation = _inputs(model, 2)
    with torch.no_grad():
        said = model.speak(model.read_prompt(images, navigation))
        for row in range(2):
            words = [int(word) for word in said[row] if word != model.config.pad_token_id]
            for count in range(len(words)):
                prefix = pad_words([words[:count]] * 2, model.config.pad_token_id)
                scores = model(images, navigation, prefix).word_logits[row, count]
                assert int(scores.argmax()) == words[count]


def test_unheard_words_change_no_plan_and_heard_ones_do():
    model = tiny_model()
    images, navigation = _inputs(model, 2)
    pad = model.config.pad_token_id
    first, second = pad_words([[12, 13], [14, 15]], pad), pad_words([[40, 41], [42, 43]], pad)
    deaf = torch.tensor([False, True])
    with torch.no_grad():
        one = model(images, navigation, first, deaf).plan.waypoints_ego
        two = model(images, navigation, second, deaf).plan.waypoints_ego
        silent = model(images, navigation, pad_words([[], []], pad)).plan.waypoints_ego
    torch.testing.assert_close(one[0], two[0])
    torch.testing.assert_close(one[0], silent[0], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(one[1], two[1], atol=1e-4)


def test_every_input_reaches_the_plan():
    model = tiny_model()
    seen = observations(1)[0]
    driver = VlaDriver(model, tiny_tokenizer(), commentary=False, half_precision=False)
    base = driver.plan([seen])[0].waypoints_ego
    for change in (
        {"speed_mps": seen.speed_mps + 5.0},
        {"option": seen.option % 6 + 1},
        {"next_option": seen.next_option % 6 + 1},
        {"target_points_ego": seen.target_points_ego + 10.0},
        {"image": 255 - seen.image},
    ):
        assert np.abs(driver.plan([replace(seen, **change)])[0].waypoints_ego - base).max() > 1e-5, change


def test_a_saved_model_drives_as_before(tmp_path):
    model, tokenizer = tiny_model(), tiny_tokenizer()
    head = ResidualHead(2 * model.config.width)
    torch.nn.init.normal_(head.outer.weight)
    rig = Rig(100, 40, (0.5, 0.1, 1.5), (10.0, -20.0), (60.0, 90.0))
    save_checkpoint(tmp_path, Checkpoint(model, tokenizer, head, rig))
    loaded = load_checkpoint(tmp_path)
    assert loaded.rig == rig
    assert load_driver(str(tmp_path)).rig == rig
    seen = observations(3)
    before = VlaDriver(model, tokenizer, residual=head).plan(seen)
    after = VlaDriver(loaded.model, loaded.tokenizer, residual=loaded.residual).plan(seen)
    for one, two in zip(before, after, strict=True):
        assert one.commentary == two.commentary
        np.testing.assert_array_equal(one.waypoints_ego, two.waypoints_ego)


def test_a_checkpoint_without_a_rig_has_the_default_one_and_a_bad_rig_is_named(tmp_path):
    save_checkpoint(tmp_path, Checkpoint(tiny_model(), tiny_tokenizer(), rig=Rig(96, 32)))
    file = tmp_path / "rig.json"
    for text in ("not json", "[1]", '{"width": 100}', '{"lens_yaws_deg": 3}'):
        file.write_text(text)
        with pytest.raises(ValueError, match=r"rig\.json: not a camera rig") as caught:
            load_checkpoint(tmp_path)
        assert "\n" not in str(caught.value)
    file.unlink()
    assert load_checkpoint(tmp_path).rig == Rig()


def test_a_checkpoint_of_another_shape_is_refused_in_one_line(tmp_path):
    model, tokenizer = tiny_model(), tiny_tokenizer()
    save_checkpoint(tmp_path, Checkpoint(model, tokenizer))
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"head_width": 32', '"head_width": 48'))
    with pytest.raises(ValueError, match=str(tmp_path)) as caught:
        load_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ValueError, match=str(tmp_path)):
        load_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError, match="no config"):
        load_checkpoint(tmp_path / "nowhere")


def test_lora_leaves_the_plan_as_it_was_until_trained_and_merges_away():
    model = tiny_model()
    driver = VlaDriver(model, tiny_tokenizer(), half_precision=False)
    seen = observations(2)
    before = driver.plan(seen)
    names = set(model.state_dict())
    prepare(model, Trainable(lora_rank=4))
    moving = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert all("lora" in name or not name.startswith("backbone.") for name in moving)
    assert any("lora" in name for name in moving)
    adapted = driver.plan(seen)
    np.testing.assert_allclose(before[0].waypoints_ego, adapted[0].waypoints_ego, atol=1e-5)
    merge(model)
    assert set(model.state_dict()) == names
    np.testing.assert_allclose(before[1].waypoints_ego, driver.plan(seen)[1].waypoints_ego, atol=1e-5)


def test_forced_commentary_is_what_the_plan_carries():
    driver = VlaDriver(tiny_model(), tiny_tokenizer(), forced=lambda seen: STOP if seen.seat == 0 else GO)
    assert [plan.commentary for plan in driver.plan(observations(2))] == [STOP, GO]


def test_a_backbone_with_its_own_vision_transformer_serves_as_well():
    tokenizer = tiny_tokenizer()
    config = tiny_config(tokenizer, size=SIZE)
    config.attention = "sdpa"
    config.backbone_config = InternVLConfig(
        vision_config=InternVLVisionConfig(
            image_size=32,
            patch_size=16,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
        ),
        text_config=config.backbone_config.text_config,
        image_token_id=config.image_token_id,
    )
    model = TakeVLA(config)
    model.train(False)
    plans = VlaDriver(model, tokenizer).plan(observations(2))
    assert np.isfinite(plans[0].waypoints_ego).all()
    assert any("vision_tower.encoder" in name for name in model.state_dict())


def test_a_driver_without_picture_says_so():
    blind = replace(observations(1)[0], image=None)
    with pytest.raises(ValueError, match="no image"):
        VlaDriver(tiny_model(), tiny_tokenizer()).plan([blind])


def test_frames_of_another_size_are_resized_and_tiles_run_left_to_right():
    model = tiny_model()
    frame = torch.zeros(1, 32, 96, 3, dtype=torch.uint8)
    frame[:, :, 32:] = 128
    frame[:, :, 64:] = 255
    tiles = image_inputs(frame, model.config)["pixel_values"]
    assert tiles.shape == (3, 3, 32, 32)
    assert tiles[0].max() < 0 < tiles[1].min() < tiles[1].max() < tiles[2].min()
    large = frame.repeat_interleave(4, 1).repeat_interleave(4, 2)
    resized = image_inputs(large, model.config)["pixel_values"]
    torch.testing.assert_close(resized[:, :, :, 4:28], tiles[:, :, :, 4:28], atol=1e-3, rtol=1e-3)
    with pytest.raises(ValueError, match="camera frames"):
        image_inputs(frame[0], model.config)


def test_after_long_rest_the_plan_creeps_and_then_waits_anew():
    model, tokenizer = tiny_model(), tiny_tokenizer()
    driver = VlaDriver(model, tokenizer, commentary=False)
    seen = observations(1)[0]

    def waypoints(time_s, speed_mps=0.0):
        now = replace(seen, time_us=round(time_s * 1e6), speed_mps=speed_mps)
        return driver.plan([now])[0].waypoints_ego

    own = waypoints(0.0)
    assert np.array_equal(waypoints(39.75), own)
    creeps = waypoints(40.0)
    steps = np.linalg.norm(np.diff(creeps, axis=0, prepend=np.zeros((1, 2), np.float32)), axis=1)
    assert not np.array_equal(creeps, own)
    assert steps.max() <= 0.25 * CREEP_MPS + 1e-5
    assert np.array_equal(waypoints(40.5), creeps)
    assert np.array_equal(waypoints(40.75), own)
    assert np.array_equal(waypoints(80.5), own)
    assert np.array_equal(waypoints(80.75), creeps)
    moving = waypoints(81.0, speed_mps=2.0)
    assert not np.array_equal(moving, creeps)
    driver.reset([seen.seat])
    assert np.array_equal(waypoints(200.0), own)


def test_a_model_that_learns_to_see_the_past_sees_motion_and_is_kept_with_it(tmp_path):
    seen = observations(3)
    moved = [replace(item, past_image=255 - item.image) for item in seen]
    model = tiny_model()
    model.see_past(2)
    model.look_through(Rig())
    driver = VlaDriver(model, tiny_tokenizer(), half_precision=False)
    still, motion = driver.plan(seen), driver.plan(moved)
    assert np.abs(motion[0].waypoints_ego - still[0].waypoints_ego).max() > 1e-3
    save_checkpoint(tmp_path, Checkpoint(model, tiny_tokenizer()))
    again = load_checkpoint(tmp_path).model
    assert again.config.sees_past
    assert tuple(again.config.lens_yaws_deg) == Rig().lens_yaws_deg
    reloaded = VlaDriver(again, tiny_tokenizer(), half_precision=False).plan(moved)
    assert np.array_equal(reloaded[0].waypoints_ego, motion[0].waypoints_ego)


def test_what_the_sight_reader_says_is_told_to_the_words_and_learned_by_the_sight_task_alone():
    seen = observations(3)
    plain = VlaDriver(tiny_model(), tiny_tokenizer(), half_precision=False).plan(seen)
    model = tiny_model()
    model.add_sight(SIGHT_OUTPUTS)
    model.see_past(2)
    driver = VlaDriver(model, tiny_tokenizer(), half_precision=False)
    for before, now in zip(plain, driver.plan(seen), strict=True):  # nothing is told before it is trained
        np.testing.assert_allclose(before.waypoints_ego, now.waypoints_ego, atol=1e-5)
    torch.nn.init.normal_(model.sight_reader.tell.weight)
    told = driver.plan(seen)
    assert np.abs(told[0].waypoints_ego - plain[0].waypoints_ego).max() > 1e-3

    images = torch.from_numpy(frame_stack(seen)).repeat(1, 1, 1, 2)
    words = pad_words([[1, 2]] * 3, model.config.pad_token_id)
    output = model(image_inputs(images, model.config), navigation_inputs(seen), words)
    assert output.sight.shape == (
        3,
        model.config.prompt_ids.count(model.config.image_token_id),
        SIGHT_OUTPUTS,
    )
    output.plan.waypoints_ego.sum().backward(retain_graph=True)
    assert model.sight_reader.tell.weight.grad.abs().max() > 0
    assert model.sight_reader.layers[0].weight.grad is None
    output.sight.sum().backward()
    assert model.sight_reader.layers[0].weight.grad.abs().max() > 0


def test_the_sight_reader_gathers_the_squares_of_each_token():
    reader = SightReader(features=3, outputs=11, classes=7, width=4)
    squares = torch.zeros(2, 16, 3)  # two tiles of 4 x 4 squares: 2 x 2 tokens of each
    moved = squares.clone()
    moved[1, 4 * 2 + 3] = 1.0  # of the second tile, row 2, column 3: the last token
    speed = torch.zeros(1, 2)
    changed = (reader(moved, speed) - reader(squares, speed)).abs().amax(-1)[0]
    assert torch.nonzero(changed).flatten().tolist() == [7]


def test_what_moved_is_found_where_it_was_and_what_stands_where_it_is():
    torch.manual_seed(0)
    motion = Motion(width=24, reach=4, stage_widths=(8, 16))
    now = torch.randn(2, 24, 8, 16)
    past = now.clone()
    past[1] = now[1].roll((1, -3), (1, 2))  # it was one row below and three columns to the left
    alike = motion.similarity(now, past)
    assert alike.shape == (2, 8, 16, 27)
    assert float(alike.detach().abs().max()) <= 1.0 + 1e-5
    still, moved = alike.argmax(-1)
    assert (still == 9 + 4).all()
    assert (moved[:7, 3:] == 18 + 4 - 3).all()
    assert torch.count_nonzero(alike[:, :, 0, 9 : 9 + 3]) == 0  # left of the picture nothing is alike
    assert motion(now, past).shape == (2, 16, 2, 4)
    across, down = motion.shift(now, past)[1, :2, 1:6, 4:-4].detach()  # 4 stands for the reach
    torch.testing.assert_close(across, torch.full_like(across, -3.0), atol=0.05, rtol=0.0)
    torch.testing.assert_close(down, torch.ones_like(down), atol=0.05, rtol=0.0)
    assert motion.shift(now, now)[:, 3].abs().max() == 0.0  # nothing gains over where it is


@torch.inference_mode()
def test_what_moved_in_one_tile_does_not_depend_on_the_others_to_the_bit():
    torch.manual_seed(0)
    size = TinySize()
    motion = Motion(size.stage_widths[0], size.motion_reach, size.stage_widths[1:])
    now, past = torch.randn(2, 24, size.stage_widths[0], size.tile_px // 4, size.tile_px // 4)
    with torch.autocast("cpu", torch.bfloat16):
        together, alone = motion(now, past), motion(now[-3:], past[-3:])
    assert torch.equal(together[-3:], alone)


def test_a_reach_of_nothing_is_refused_where_the_past_is_seen():
    with pytest.raises(ValueError, match="motion_reach 0"):
        tiny_config(tiny_tokenizer(), size=replace(SIZE, motion_reach=0), sees_past=True)
    model = tiny_model()
    model.see_past(2)
    with pytest.raises(ValueError, match="already"):
        model.see_past(2)


def test_a_model_that_sees_the_past_asks_for_both_pictures():
    model = tiny_model()
    model.see_past(2)
    frame = torch.from_numpy(frame_stack(observations(1)))
    with pytest.raises(ValueError, match=r"\(B, H, W, 6\)"):
        image_inputs(frame, model.config)
    pixels = image_inputs(torch.cat([frame, frame], -1), model.config)["pixel_values"]
    assert pixels.shape[1] == 6
    assert torch.count_nonzero(pixels[:, 3:]) == 0
