import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_vlms import FAMILIES, byte_tokenizer, save_small_vlm
from tiny_vla import observations, write_frames

from takevla.bench.drivers import load_driver
from takevla.dataset.reader import Dataset
from takevla.driver.vla.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from takevla.driver.vla.hub import import_vlm
from takevla.driver.vla.inputs import frame_stack, image_inputs, navigation_inputs
from takevla.driver.vla.lora import is_vision, load_adapters, merge, prepare, save_adapters
from takevla.driver.vla.model import TakeVLA
from takevla.driver.vla.settings import Trainable, VlmSettings
from takevla.learn.pretrain import pretrain
from takevla.learn.samples import frame_samples
from takevla.learn.settings import PretrainConfig, TrainConfig
from takevla.learn.trainer import Trainer

SETTINGS = VlmSettings(tile_px=16, max_words=12)


@pytest.fixture(scope="module", params=FAMILIES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Checkpoint]:
    folder = save_small_vlm(request.param, tmp_path_factory.mktemp(request.param))
    return request.param, import_vlm(str(folder), SETTINGS)


def _inputs(model: TakeVLA, count: int = 3):
    seen = observations(count)
    return image_inputs(torch.from_numpy(frame_stack(seen)), model.config), navigation_inputs(seen)


@torch.no_grad()
def test_prompt_reads_as_transformers_own_forward_does(made, monkeypatch) -> None:
    family, checkpoint = made
    model = checkpoint.model
    images, navigation = _inputs(model)
    fill = TakeVLA._fill

    def picture_alone(self: TakeVLA, prompt: torch.Tensor, token: int, embeddings: torch.Tensor) -> None:
        if token == self.config.image_token_id:
            fill(self, prompt, token, embeddings)

    monkeypatch.setattr(TakeVLA, "_fill", picture_alone)
    ours = model.backbone.get_output_embeddings()(model.read_prompt(images, navigation).last_hidden)
    ids = torch.tensor(model.config.prompt_ids).clamp_min(0)[None].repeat(3, 1)
    kinds = {"mm_token_type_ids": (ids == model.config.image_token_id).int()} if "qwen" in family else {}
    theirs = model.backbone(input_ids=ids, attention_mask=torch.ones_like(ids), **images, **kinds).logits
    torch.testing.assert_close(ours, theirs[:, -1], atol=1e-5, rtol=1e-4)


def test_tokens_are_told_what_is_where_only_where_a_tile_has_a_square_of_them(made) -> None:
    family, checkpoint = made
    config = checkpoint.model.config
    side = config.tile_side
    if family == "internvl":
        assert config.prompt_ids.count(config.image_token_id) == config.tiles * side * side > 0
    else:
        assert side == 0


@torch.no_grad()
def test_spoken_plan_is_the_teacher_forced_one_and_a_row_does_not_depend_on_the_others(made) -> None:
    model = made[1].model
    images, navigation = _inputs(model)
    context = model.read_prompt(images, navigation)
    words = model.speak(context)
    plan = model.plan(context, words)
    forced = model(images, navigation, words).plan
    torch.testing.assert_close(plan.route_ego, forced.route_ego, atol=1e-4, rtol=1e-4)
    seen = observations(3)[1:2]
    alone = model.read_prompt(
        image_inputs(torch.from_numpy(frame_stack(seen)), model.config), navigation_inputs(seen)
    )
    said = model.speak(alone)
    torch.testing.assert_close(model.plan(alone, said).route_ego, plan.route_ego[1:2], atol=1e-4, rtol=1e-4)


def test_pictures_targets_and_words_reach_the_plan(made) -> None:
    model = made[1].model
    images, navigation = _inputs(model)
    words = torch.full((3, 4), 7)
    with torch.no_grad():
        plan = model(images, navigation, words).plan.action_features
        other_words = model(images, navigation, words + 1).plan.action_features
        far = replace(navigation, target_points_ego=navigation.target_points_ego + 30.0)
        other_target = model(images, far, words).plan.action_features
        dark = {k: v * 0.5 if k == "pixel_values" else v for k, v in images.items()}
        other_picture = model(dark, navigation, words).plan.action_features
    for other in (other_words, other_target, other_picture):
        assert (other - plan).abs().max() > 1e-5


@pytest.mark.parametrize("whole_vision", [False, True])
def test_adapters_saved_alone_give_the_trained_model_back(made, whole_vision, tmp_path: Path) -> None:
    _family, checkpoint = made
    save_checkpoint(tmp_path / "base", checkpoint)
    model = load_checkpoint(tmp_path / "base").model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    prepare(
        model, Trainable(lora_rank=4, vision=False, whole_vision=whole_vision, gradient_checkpointing=True)
    )
    adapted = [name for name, weight in model.named_parameters() if "lora_" in name]
    assert adapted
    assert not any(is_vision(name) for name in adapted)
    images, navigation = _inputs(model)
    model.train(True)
    model(images, navigation, torch.full((3, 4), 7)).plan.route_ego.sum().backward()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.05 * torch.randn(weight.shape))
    model.train(False)
    save_adapters(model, tmp_path / "adapters")
    merge(model)
    moved = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert any(name.startswith("backbone.") for name in moved)
    assert any(is_vision(name) for name in moved) == whole_vision
    again = load_checkpoint(tmp_path / "base").model
    load_adapters(again, tmp_path / "adapters")
    merge(again)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value)


@pytest.mark.parametrize(
    ("file", "name", "said"),
    [
        ("driving.safetensors", "vision_tower", "is missing; save the adapters anew"),
        ("driving.safetensors", "queries", "is missing; save the adapters anew"),
        ("driving.safetensors", "", "does not say which weights moved"),
        ("adapter_model.safetensors", "lora_B", "is missing; save the adapters anew"),
    ],
)
def test_adapters_that_are_not_complete_are_refused(file, name, said, tmp_path: Path) -> None:
    source = save_small_vlm("internvl", tmp_path / "vlm")
    model = import_vlm(str(source), SETTINGS).model
    prepare(model, Trainable(lora_rank=4, whole_vision=True))
    folder = tmp_path / "adapters"
    save_adapters(model, folder)
    with safe_open(folder / file, framework="pt") as opened:
        note = opened.metadata()
    weights = load_file(folder / file)
    lost = next(one for one in weights if name in one) if name else ""
    kept = {one: value for one, value in weights.items() if one != lost}
    save_file(kept, folder / file, note if name else {"format": "pt"})
    with pytest.raises(ValueError, match=said) as caught:
        load_adapters(import_vlm(str(source), SETTINGS).model, folder)
    assert str(folder / file) in str(caught.value)
    assert lost in str(caught.value)
    assert "\n" not in str(caught.value)


def test_adapters_of_another_model_are_refused(tmp_path: Path) -> None:
    model = import_vlm(str(save_small_vlm("qwen2_5_vl", tmp_path / "one")), SETTINGS).model
    prepare(model, Trainable(lora_rank=4))
    save_adapters(model, tmp_path / "adapters")
    for family in ("internvl", "qwen3_vl"):
        other = import_vlm(str(save_small_vlm(family, tmp_path / family)), SETTINGS).model
        with pytest.raises(ValueError, match="does not fit the model") as caught:
            load_adapters(other, tmp_path / "adapters")
        assert "\n" not in str(caught.value)


def test_bfloat16_backbone_keeps_what_driving_adds_in_float32(tmp_path: Path) -> None:
    folder = save_small_vlm("internvl", tmp_path / "vlm")
    save_checkpoint(tmp_path / "model", import_vlm(str(folder), replace(SETTINGS, dtype="bfloat16")))
    model = load_checkpoint(tmp_path / "model").model
    assert {weight.dtype for weight in model.backbone.parameters()} == {torch.bfloat16}
    assert model.route_head[0].weight.dtype == model.queries.dtype == torch.float32
    images, navigation = _inputs(model)
    with torch.no_grad():
        assert model(images, navigation, torch.full((3, 4), 7)).plan.route_ego.isfinite().all()


HOWS = [
    Trainable(),
    Trainable(vision=False),
    Trainable(lora_rank=2),
    Trainable(lora_rank=2, whole_vision=True),
]


@pytest.mark.parametrize("half_precision", [True, False])
@pytest.mark.parametrize("how", HOWS, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_small_steps_of_a_bfloat16_backbone_are_not_lost(family, how, half_precision, tmp_path) -> None:
    folder = save_small_vlm(family, tmp_path / "vlm")
    model = import_vlm(str(folder), replace(SETTINGS, dtype="bfloat16", max_words=64)).model
    stands = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    prepare(model, how)
    moving = {
        name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad
    }
    assert {weight.dtype for weight in moving.values()} == {torch.float32}
    tokenizer = byte_tokenizer(family)
    data = Dataset(write_frames(tmp_path / "data", {"pretrain": 4}))
    config = TrainConfig(
        batch_size=4, parts=1, warmup_steps=1, learning_rate=1e-6, half_precision=half_precision, trackers=()
    )  # steps of a millionth, far below a bit of bfloat16
    samples = frame_samples(data, np.arange(4), tokenizer, 64)
    Trainer(model, samples, np.arange(4), config, tmp_path / "out").run(show=False)
    now = dict(model.named_parameters())
    changed = [not torch.equal(now[name], weight) for name, weight in moving.items()]
    assert np.mean(changed) > 0.4  # before its first step a half of an adapter has no gradient
    merge(model)
    assert {weight.dtype for weight in model.backbone.parameters()} == {torch.bfloat16}
    assert model.queries.dtype == torch.float32
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight, stands[name], rtol=0.02, atol=1e-4)


def test_training_refuses_weights_that_were_not_prepared(tmp_path: Path) -> None:
    folder = save_small_vlm("internvl", tmp_path / "vlm")
    model = import_vlm(str(folder), replace(SETTINGS, dtype="bfloat16", max_words=64)).model
    samples = frame_samples(
        Dataset(write_frames(tmp_path / "data", {"pretrain": 4})),
        np.arange(4),
        byte_tokenizer("internvl"),
        64,
    )
    config = TrainConfig(batch_size=4, parts=1, trackers=())
    with pytest.raises(ValueError, match=r"backbone\..* is torch.bfloat16"):
        Trainer(model, samples, np.arange(4), config, tmp_path / "out")


@pytest.mark.parametrize("family", ["internvl", "qwen3_vl"])
def test_pretraining_moves_a_vlm_and_it_drives_as_its_adapters_on_the_start_do(family, tmp_path) -> None:
    folder = save_small_vlm(family, tmp_path / "vlm")
    save_checkpoint(tmp_path / "start", import_vlm(str(folder), replace(SETTINGS, max_words=64)))
    data = write_frames(tmp_path / "data", {"pretrain": 40})
    train = TrainConfig(batch_size=4, parts=1, warmup_steps=1, trackers=())
    config = PretrainConfig(
        draws=8, start=tmp_path / "start", trainable=Trainable(lora_rank=2), train=train, held_out_every=1000
    )
    trained = pretrain(config, data, tmp_path / "out", show=False)
    plans = load_driver(str(trained)).plan(observations(2))
    assert len(plans) == 2
    assert np.isfinite(plans[0].route_ego).all()
    again = load_checkpoint(tmp_path / "start").model
    load_adapters(again, tmp_path / "out" / "adapters")
    merge(again)
    merged = load_checkpoint(trained).model.state_dict()  # with the sight head that pretraining adds
    assert merged.keys() == again.state_dict().keys()
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, merged[name])


def test_a_broken_checkpoint_is_named_in_one_line(tmp_path: Path) -> None:
    folder = save_small_vlm("internvl", tmp_path / "vlm")
    file = folder / "model.safetensors"
    weights = load_file(file)
    name = next(one for one in weights if "layernorm" in one)
    save_file({one: value for one, value in weights.items() if one != name}, file, {"format": "pt"})
    cases: list[tuple[str, type[Exception], str]] = [("", ValueError, "1 weights are missing")]
    file_of = {"model.safetensors": (ValueError, "cannot be read"), "config.json": (ValueError, "'bert'")}
    cases += [(one, *expected) for one, expected in file_of.items()]
    for broken, kind, said in cases:
        if broken:
            (folder / broken).write_text('{"model_type": "bert"}' if broken == "config.json" else "short")
        with pytest.raises(kind, match=said) as caught:
            import_vlm(str(folder), SETTINGS)
        assert str(folder) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["chat_template.json", "chat_template.jinja", ""])
def test_the_prompt_is_in_the_checkpoints_own_template_wherever_it_lies(file, tmp_path: Path, capsys) -> None:
    folder = save_small_vlm("idefics3", tmp_path / "vlm")
    template = json.loads((folder / "chat_template.json").read_text())["chat_template"]
    template = template.replace("<|im_start|>assistant", "Now you:")
    (folder / "chat_template.json").unlink()
    if file:
        (folder / file).write_text(
            json.dumps({"chat_template": template}) if file.endswith("json") else template
        )
    checkpoint = import_vlm(str(folder), SETTINGS)
    prompt = checkpoint.tokenizer.decode([one for one in checkpoint.model.config.prompt_ids if one >= 0])
    assert ("Now you:" in prompt) == bool(file)
    said = capsys.readouterr().err
    assert ("has no chat template" in said) == (not file)
    assert said.count("\n") == (not file)
    save_checkpoint(tmp_path / "model", checkpoint)
    kept = load_checkpoint(tmp_path / "model").tokenizer.chat_template
    assert kept == (template if file else None)


def test_a_template_file_without_a_template_is_named(tmp_path: Path) -> None:
    folder = save_small_vlm("idefics3", tmp_path / "vlm")
    (folder / "chat_template.json").write_text("{}")
    with pytest.raises(ValueError, match=r"chat_template.json: holds no `chat_template`"):
        import_vlm(str(folder), SETTINGS)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        import_vlm(str(tmp_path / "nowhere"), SETTINGS)
