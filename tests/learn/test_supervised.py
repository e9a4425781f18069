import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from tiny_vla import GO, SIZE, STOP, observations, tiny_model, tiny_tokenizer, write_frames

from takevla.dataset.reader import Dataset
from takevla.driver.vla.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from takevla.driver.vla.policy import VlaDriver
from takevla.driver.vla.settings import Trainable
from takevla.learn.augment import augment
from takevla.learn.balance import check_buckets, frame_strata, weighted_draws
from takevla.learn.gather import telling
from takevla.learn.objective import IGNORED, supervised_losses, word_targets
from takevla.learn.pretrain import pretrain
from takevla.learn.replicas import Replicas
from takevla.learn.samples import common_rig, frame_samples, join_samples, make_batch
from takevla.learn.settings import Augmentation, PretrainConfig, SftConfig, TrainConfig, Weights
from takevla.learn.sft import sft
from takevla.learn.trainer import Trainer, batch_losses, learning_rate
from takevla.scene.plan import Action
from takevla.world.camera.rig import Rig


def _quick(**changes):
    return TrainConfig(
        **{
            "batch_size": 8,
            "learning_rate": 3e-3,
            "warmup_steps": 5,
            "parts": 1,
            "save_every": 4,
            "log_every": 2,
            "trackers": (),
            **changes,
        }
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_frames(tmp_path_factory.mktemp("data") / "frames", {"pretrain": 96})


@pytest.fixture(scope="module")
def takeovers(tmp_path_factory):
    return write_frames(
        tmp_path_factory.mktemp("takeovers") / "frames", {"pre_takeover": 24, "takeover": 32}, seed=5
    )


def _samples(data, **kwargs):
    dataset = Dataset(data)
    return frame_samples(dataset, np.arange(len(dataset)), tiny_tokenizer(), 16, **kwargs)


def _weights(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _moved(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_targets_are_the_words_then_the_end_then_nothing():
    words = torch.tensor([[5, 6, 0], [7, 0, 0], [0, 0, 0]])
    assert word_targets(words, 0, 2).tolist() == [
        [5, 6, 2, IGNORED],
        [7, 2, IGNORED, IGNORED],
        [2, IGNORED, IGNORED, IGNORED],
    ]


def test_rows_that_only_speak_give_the_plan_no_gradient_and_the_reverse(data):
    samples = _samples(data)
    batch = make_batch(samples, np.arange(4), 0)
    model = tiny_model()

    def gradients(says, acts):
        model.zero_grad(set_to_none=True)
        chosen = dataclasses.replace(batch, says=torch.tensor(says), acts=torch.tensor(acts))
        how = Augmentation()
        changed = augment(chosen, how, torch.Generator().manual_seed(0))
        from takevla.driver.vla.inputs import image_inputs

        output = model(
            image_inputs(changed.images, model.config),
            changed.batch.navigation,
            chosen.words,
            changed.words_heard,
        )
        supervised_losses(output, chosen, Weights(), 0, model.config.eos_token_id).total.backward()
        return {name: float(w.grad.abs().sum()) for name, w in model.named_parameters() if w.grad is not None}

    speaking = gradients([True] * 4, [False] * 4)
    assert speaking["route_head.0.weight"] == 0.0
    assert speaking["queries"] == 0.0
    assert speaking["backbone.model.language_model.embed_tokens.weight"] > 0.0
    acting = gradients([False] * 4, [True] * 4)
    assert acting["route_head.0.weight"] > 0.0
    assert acting["speed_head.0.weight"] > 0.0


def test_a_trained_run_moves_every_trainable_weight_and_no_frozen_one(data, tmp_path):
    model = tiny_model()
    for name, weight in model.named_parameters():
        weight.requires_grad_(not name.startswith("backbone."))
    before = _weights(model)
    Trainer(model, _samples(data), np.arange(64), _quick(), tmp_path).run(show=False)
    moved = _moved(before, _weights(model))
    assert moved == {name for name in before if not name.startswith("backbone.")}


def test_parts_of_a_batch_give_the_mean_of_their_own_gradients(data):
    samples, model = _samples(data), tiny_model()

    def part_losses(used, part):
        batch = make_batch(samples, np.arange(4 * part, 4 * part + 4), 0)
        return batch_losses(used, batch, _quick(), torch.Generator().manual_seed(part))

    alone = []
    for part in range(2):
        model.zero_grad(set_to_none=True)
        part_losses(model, part).total.backward()
        alone.append({name: weight.grad.clone() for name, weight in model.named_parameters()})
    model.zero_grad(set_to_none=True)
    losses = Replicas(model, 2).backward(part_losses)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, (alone[0][name] + alone[1][name]) / 2, rtol=0.0, atol=0.0)
    totals = [part_losses(model, part).total.detach() for part in range(2)]
    torch.testing.assert_close(losses.total, torch.stack(totals).mean())


def test_two_parts_at_once_give_the_same_weights_every_time(data, tmp_path):
    found = []
    for name in ("one", "other"):
        model = tiny_model()
        Trainer(model, _samples(data), np.arange(64), _quick(parts=2), tmp_path / name).run(show=False)
        found.append(_weights(model))
    assert not _moved(*found)


def test_stopped_and_continued_gives_the_very_weights_of_an_unbroken_run(data, tmp_path):
    samples, draws = _samples(data), np.random.default_rng(0).integers(0, 96, 12 * 8)
    whole = tiny_model()
    curves = Trainer(whole, samples, draws, _quick(), tmp_path / "whole").run(show=False)
    Trainer(tiny_model(), samples, draws, _quick(), tmp_path / "parts").run(stop_after=7, show=False)
    rest = tiny_model(seed=9)  # what it starts from no longer matters
    continued = Trainer(rest, samples, draws, _quick(), tmp_path / "parts").run(show=False)
    assert not _moved(_weights(whole), _weights(rest))
    assert continued == curves
    assert json.loads((tmp_path / "parts" / "curves.json").read_text())[-1]["step"] == 12


def test_a_state_of_other_settings_is_refused(data, tmp_path):
    samples, draws = _samples(data), np.arange(96)
    Trainer(tiny_model(), samples, draws, _quick(), tmp_path).run(stop_after=4, show=False)
    with pytest.raises(ValueError, match="other data or settings"):
        Trainer(tiny_model(), samples, draws[::-1].copy(), _quick(), tmp_path).run(show=False)
    with pytest.raises(ValueError, match="other data or settings"):
        Trainer(tiny_model(), samples, draws, _quick(learning_rate=1e-4), tmp_path).run(show=False)


def test_nothing_trainable_and_too_few_draws_are_named(data, tmp_path):
    model = tiny_model()
    with pytest.raises(ValueError, match="do not fill one batch"):
        Trainer(model, _samples(data), np.arange(3), _quick(), tmp_path)
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="no weight is trainable"):
        Trainer(model, _samples(data), np.arange(64), _quick(), tmp_path)


def test_the_learning_rate_rises_then_falls_to_almost_nothing():
    config = TrainConfig(learning_rate=1.0, warmup_steps=10, final_rate_share=0.01)
    rates = [learning_rate(config, step, 100) for step in range(100)]
    assert np.all(np.diff(rates[:10]) > 0)
    assert np.all(np.diff(rates[10:]) < 0)
    assert max(rates) <= 1.0
    assert rates[-1] < 0.02


def test_forced_words_change_the_speed_of_a_model_that_learnt_from_words(data, tmp_path):
    model = tiny_model()
    draws = np.concatenate([np.random.default_rng(k).permutation(96) for k in range(20)])
    curves = Trainer(model, _samples(data), draws, _quick(batch_size=16, learning_rate=6e-3), tmp_path).run(
        show=False
    )
    assert curves[-1].total < 0.5 * curves[0].total
    tokenizer = tiny_tokenizer()
    seen = observations(8, seed=3)
    reach = {
        sentence: np.mean(
            [
                plan.waypoints_ego[-1, 0]
                for plan in VlaDriver(model, tokenizer, forced=lambda _, s=sentence: s).plan(seen)
            ]
        )
        for sentence in (GO, STOP)
    }
    assert reach[GO] - reach[STOP] > 10.0  # 20 m against 0 m in the labels


def test_pretraining_writes_a_checkpoint_that_drives_and_its_figures(data, tmp_path):
    config = PretrainConfig(draws=160, held_out_every=4, size=SIZE, train=_quick())
    folder = pretrain(config, data, tmp_path, show=False)
    loaded = load_checkpoint(folder)
    assert loaded.rig == Rig(96, 32)  # the dataset's
    assert len(VlaDriver(loaded.model, loaded.tokenizer).plan(observations(2))) == 2
    notes = json.loads((tmp_path / "pretrain.json").read_text())
    assert notes["data"]["frames"] == 72
    assert 0 < notes["validation"]["frames"] <= 24
    assert json.loads((tmp_path / "mixture.json").read_text())["draws"] >= 160


def test_a_bucket_of_greater_weight_is_drawn_more_often(data):
    dataset = Dataset(data)
    frames = np.arange(96)
    strata = frame_strata(dataset, frames, {"red_light": 4.0, "free_road": 1.0}, 0.4)
    red = dataset.column("expert_cause") == 5
    draws, audit = weighted_draws([strata], 96, 16, 0)
    shares = np.bincount(draws, minlength=96)
    assert shares[red].mean() / shares[~red].mean() == pytest.approx(4.0, rel=0.3)
    assert audit.draws >= 96
    with pytest.raises(ValueError, match=r"no such bucket \['red_ligth'\]"):
        check_buckets({"red_ligth": 4.0, "leader": 1.0}, [dataset])
    with pytest.raises(ValueError, match="collect more"):
        weighted_draws([strata], 100_000, 2, 0)


def test_full_fine_tuning_moves_the_backbone_and_lora_ends_as_a_plain_checkpoint(data, takeovers, tmp_path):
    save_checkpoint(tmp_path / "base", Checkpoint(tiny_model(), tiny_tokenizer()))
    base = _weights(load_checkpoint(tmp_path / "base").model)
    quick = _quick(learning_rate=1e-3)
    for trainable in (
        Trainable(),
        Trainable(lora_rank=4),
        Trainable(vision=False),
        Trainable(lora_rank=4, heads=False),
    ):
        out = tmp_path / f"sft-{trainable.lora_rank}-{trainable.vision}-{trainable.heads}"
        config = SftConfig(draws=48, trainable=trainable, train=quick)
        found = load_checkpoint(sft(config, tmp_path / "base", data, takeovers, out, show=False))
        assert found.rig == Rig(96, 32)  # of the datasets; the base knew no better than the default
        tuned = _weights(found.model)
        assert set(tuned) == set(base)
        moved = _moved(base, tuned)
        vision = {name for name in base if "vision_tower.layers" in name and name.endswith("weight")}
        heads = {name for name in base if not name.startswith("backbone.")}
        assert bool(moved & vision) == trainable.vision or trainable.lora_rank > 0
        assert bool(moved & heads) == trainable.heads
        assert any("language_model" in name for name in moved)


def test_takeovers_by_triggers_that_are_left_out_teach_nothing(data, takeovers, tmp_path):
    save_checkpoint(tmp_path / "base", Checkpoint(tiny_model(), tiny_tokenizer()))
    config = SftConfig(draws=16, triggers={"restart": 1.0, "collision": 0.0}, train=_quick())
    sft(config, tmp_path / "base", data, takeovers, tmp_path / "sft", show=False)
    kept = json.loads((tmp_path / "sft" / "sft.json").read_text())["frames_of_takeovers"]
    assert kept == {"pre_takeover": 12, "takeover": 16}
    mixture = json.loads((tmp_path / "sft" / "mixture.json").read_text())
    assert "takeover: restart" in str(mixture)
    assert "takeover: collision" not in str(mixture)
    with pytest.raises(ValueError, match=r"sft.triggers: \['brake'\]; choose among follow, collision"):
        SftConfig(triggers={"brake": 1.0})


def test_where_the_model_drove_the_expert_who_watched_teaches_if_he_is_given_a_share(data, tmp_path):
    roles = {"pre_takeover": 24, "takeover": 32, "other": 40}
    driven = write_frames(tmp_path / "frames", roles, seed=5)
    save_checkpoint(tmp_path / "base", Checkpoint(tiny_model(), tiny_tokenizer()))
    drawn = {}
    for ratio in (0.0, 0.25):
        config = SftConfig(
            draws=64,
            pretraining_ratio=0.25,
            pre_takeover_ratio=0.25,
            takeover_ratio=0.25,
            shadow_ratio=ratio,
            train=_quick(),
        )
        out = tmp_path / f"sft-{ratio}"
        sft(config, tmp_path / "base", data, driven, out, show=False)
        kept = json.loads((out / "sft.json").read_text())["frames_of_takeovers"]
        assert kept.get("shadow", 0) == (40 if ratio else 0)
        buckets = json.loads((out / "mixture.json").read_text())["buckets"]
        drawn[ratio] = sum(row["actual_ratio"] for row in buckets if row["bucket"].startswith("shadow: "))
    assert drawn[0.0] == 0.0
    assert drawn[0.25] == pytest.approx(0.25, abs=0.05)
    samples = frame_samples(Dataset(driven), np.arange(56, 96), tiny_tokenizer(), 16)
    assert samples.labels.says.all()
    assert samples.labels.acts.all()


def test_frames_where_the_models_plan_was_far_off_are_drawn_more_often(data, tmp_path):
    driven = write_frames(tmp_path / "frames", {"pre_takeover": 24, "takeover": 64}, seed=5)
    off_m = np.linalg.norm(Dataset(driven).column("expert_waypoints_ego").reshape(-1, 10, 2), axis=-1).mean(1)
    save_checkpoint(tmp_path / "base", Checkpoint(tiny_model(), tiny_tokenizer()))
    shares = {}
    for weights in ((1.0, 1.0), (1.0, 4.0), (0.0, 1.0)):
        config = SftConfig(draws=64, error_edges_m=(1.0,), error_weights=weights, train=_quick())
        out = tmp_path / f"sft-{weights[0]:g}-{weights[1]:g}"
        sft(config, tmp_path / "base", data, driven, out, show=False)
        buckets = json.loads((out / "mixture.json").read_text())["buckets"]
        asked = {row["bucket"]: row["asked_ratio"] for row in buckets}
        names = [f"takeover: {trigger}" for trigger in ("collision", "restart")]
        assert sum(ratio for name, ratio in asked.items() if name.startswith("takeover")) == pytest.approx(
            0.15
        )
        shares[weights] = asked
    assert set(names) < set(shares[1.0, 1.0])
    far, near = (shares[1.0, 4.0][f"takeover: restart, {level}"] for level in ("1 m off", "right"))
    mine = np.flatnonzero(
        Dataset(driven).column("takeover") == "00001-1"
    )  # the model's plan is zero: it stands
    assert far / near == pytest.approx(4.0 * (off_m[mine] >= 1.0).sum() / (off_m[mine] < 1.0).sum())
    assert not any("right" in name for name in shares[0.0, 1.0])
    with pytest.raises(ValueError, match=r"sft.error_weights: \[1.0\] for error_edges_m \[0.5, 1.5\]"):
        SftConfig(error_weights=(1.0,))


def test_datasets_of_different_rigs_are_refused(data, takeovers, tmp_path):
    shutil.copytree(takeovers, tmp_path / "takeovers")
    meta = tmp_path / "takeovers" / "meta.json"
    meta.write_text(meta.read_text().replace('"width": 96', '"width": 120'))
    save_checkpoint(tmp_path / "base", Checkpoint(tiny_model(), tiny_tokenizer()))
    with pytest.raises(ValueError, match="takeovers: recorded with another camera rig than") as caught:
        sft(SftConfig(), tmp_path / "base", data, tmp_path / "takeovers", tmp_path / "out", show=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="another camera rig"):
        pretrain(PretrainConfig(), [data, tmp_path / "takeovers"], tmp_path / "out", show=False)


def test_a_dataset_from_before_rigs_told_their_oversampling_has_the_same_rig(data, tmp_path):
    shutil.copytree(data, tmp_path / "told")
    meta = json.loads((tmp_path / "told" / "meta.json").read_text())
    meta["rig"]["oversampling"] = 1
    (tmp_path / "told" / "meta.json").write_text(json.dumps(meta))
    assert "oversampling" not in Dataset(data).meta["rig"]
    assert common_rig([Dataset(tmp_path / "told"), Dataset(data)]).oversampling == 1
    assert common_rig([Dataset(data), Dataset(data)]).oversampling == 4


def test_frames_before_a_takeover_teach_language_alone(takeovers):
    dataset = Dataset(takeovers)
    before = np.flatnonzero(dataset.column("role") == "pre_takeover")
    spoken = frame_samples(dataset, before, tiny_tokenizer(), 16, "enhanced_commentary", acts=False)
    assert spoken.labels.says.all()
    assert not spoken.labels.acts.any()
    during = np.flatnonzero(dataset.column("role") == "takeover")
    joined = join_samples([spoken, frame_samples(dataset, during, tiny_tokenizer(), 16)])
    assert joined.labels.acts.sum() == len(during)
    np.testing.assert_array_equal(joined.image(len(before) + 1), dataset.image(int(during[1])))


def test_a_word_outside_the_vocabulary_is_named(data):
    dataset = Dataset(data)
    from takevla.driver.vla.tokenizer import build_tokenizer

    with pytest.raises(ValueError, match="not in the model's vocabulary"):
        frame_samples(dataset, np.arange(3), build_tokenizer(["hold 8m/s"]), 16)


def test_augmentation_is_reproducible_and_leaves_labels_alone(data):
    batch = make_batch(_samples(data), np.arange(16), 0)
    one = augment(batch, Augmentation(), torch.Generator().manual_seed(4))
    two = augment(batch, Augmentation(), torch.Generator().manual_seed(4))
    assert torch.equal(one.images, two.images)
    assert torch.equal(one.batch.waypoints_ego, batch.waypoints_ego)
    assert not one.batch.navigation.speed_known.all()
    assert one.images.min() >= 0
    assert one.images.max() <= 255
    still = Augmentation(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    same = augment(batch, still, torch.Generator().manual_seed(4))
    torch.testing.assert_close(same.images, batch.images.float())
    assert same.words_heard.all()


def test_samples_of_a_model_that_sees_the_past_show_both_pictures(data):
    dataset = Dataset(data)
    samples = frame_samples(dataset, np.arange(4), tiny_tokenizer(), 16, past=True)
    first, known = samples.image(0), samples.image(1)
    np.testing.assert_array_equal(first[..., 3:], first[..., :3])
    np.testing.assert_array_equal(known[..., :3], dataset.image(1))
    assert (known[..., 3:] != known[..., :3]).any()


def test_both_pictures_are_changed_alike_and_the_past_is_at_times_unknown(data):
    samples = frame_samples(Dataset(data), np.arange(1, 65, 2), tiny_tokenizer(), 16, past=True)
    batch = make_batch(samples, np.arange(32), 0)
    twice = dataclasses.replace(batch, images=batch.images[..., :3].repeat(1, 1, 1, 2))
    how = Augmentation(noise_share=0.0, unknown_past_share=0.5)
    alike = augment(twice, how, torch.Generator().manual_seed(1)).images
    assert torch.equal(alike[..., :3], alike[..., 3:])
    changed = augment(batch, how, torch.Generator().manual_seed(1)).images
    unknown = (changed[..., :3] == changed[..., 3:]).all(dim=(1, 2, 3)).float().mean()
    assert 0.2 < unknown < 0.8


@pytest.mark.parametrize("sees_past", [True, False])
def test_pretraining_goes_on_from_a_model_and_teaches_it_to_see_the_past(data, tmp_path, sees_past):
    save_checkpoint(tmp_path / "start", Checkpoint(tiny_model(), tiny_tokenizer(), rig=Rig(96, 32)))
    config = PretrainConfig(
        draws=32, start=tmp_path / "start", sees_past=sees_past, sight=False, train=_quick(), held_out_every=4
    )
    model = load_checkpoint(pretrain(config, data, tmp_path / "out", show=False)).model
    assert model.config.sees_past == sees_past
    assert model.compares == sees_past
    if sees_past:
        assert model.backbone.model.vision_tower.motion.last.weight.abs().sum() > 0
    further = dataclasses.replace(config, start=tmp_path / "out" / "model")
    again = load_checkpoint(pretrain(further, data, tmp_path / "further", show=False)).model
    assert again.compares == sees_past


def test_of_a_stand_within_a_takeover_the_first_instant_is_drawn_and_one_in_so_many_after_it(takeovers):
    dataset = Dataset(takeovers)
    stands = dataset.column("expert_action") == int(Action.REMAIN_STOPPED)
    assert telling(dataset, 1).all()
    assert (telling(dataset, 4) | stands).all()
    dataset.column = {
        "expert_action": np.array([3, 0, 0, 0, 0, 0, 3, 0, 0, 0]),
        "role": np.array(["takeover"] * 8 + ["pre_takeover"] * 2),
        "takeover": np.array(["a"] * 8 + ["b"] * 2),
    }.__getitem__
    kept = telling(dataset, 4).tolist()
    assert kept == [True, True, False, False, False, True, True, True, True, False]
    with pytest.raises(ValueError, match=r"sft\.standing_every"):
        SftConfig(standing_every=0)


def test_a_model_that_sees_the_past_does_not_learn_from_frames_that_have_none(data, tmp_path, monkeypatch):
    monkeypatch.setattr(Dataset, "knows_past", False)
    with pytest.raises(ValueError, match=r"past pictures.*sees_past"):
        pretrain(PretrainConfig(draws=32, size=SIZE, train=_quick()), data, tmp_path, show=False)
