"""The whole loop on a very small model: every stage runs, resumes, and moves what it should."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from takevla.dataset.reader import Dataset
from takevla.driver.expert import CAREFUL
from takevla.driver.vla.checkpoint import Checkpoint, load_checkpoint, read_rig, save_checkpoint
from takevla.driver.vla.inputs import tiny_config
from takevla.driver.vla.model import TakeVLA
from takevla.driver.vla.opening import OpeningHead
from takevla.driver.vla.settings import TinySize
from takevla.driver.vla.tokenizer import build_tokenizer
from takevla.learn.dream.audit import AuditLimits
from takevla.learn.dream.config import ClosedConfig, DreamConfig
from takevla.learn.dream.spoken import opening_ids
from takevla.learn.settings import SftConfig, TrainConfig
from takevla.recipe import Recipe, RouteChoice
from takevla.rounds import chosen, run_recipe, run_stage, stages
from takevla.stage_work import dream_stage
from takevla.takeover.commentary import corpus
from takevla.world.camera.rig import Rig

RIG = Rig(192, 64)  # three tiles of the small model
ANY_DREAMS = AuditLimits(*[0.0] * 8, replay_error_m=1e3, replay_error_deg=360.0)  # two routes prove little


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    """A finished run of one round."""
    folder = tmp_path_factory.mktemp("loop")
    tokenizer = build_tokenizer(corpus())
    torch.manual_seed(0)
    size = TinySize(tile_px=64, width=32, layers=1)
    model = TakeVLA(tiny_config(tokenizer, size=size)).eval()
    save_checkpoint(folder / "base", Checkpoint(model, tokenizer, rig=RIG))
    train = TrainConfig(batch_size=8, warmup_steps=1, save_every=4, log_every=4, parts=1, trackers=())
    recipe = Recipe(
        name="test",
        base=str(folder / "base"),
        workers=1,
        rehearsal=RouteChoice("train", 1),
        collect=RouteChoice("train", 2),
        evaluate=RouteChoice("mini44", 1),
        sft=SftConfig(draws=64, train=train),
        dream=DreamConfig(updates=2, group=4, limits=ANY_DREAMS),
    )
    run_recipe(recipe, folder / "run", "test", Console(quiet=True))
    return recipe, folder / "run"


def test_every_stage_leaves_its_facts_and_the_run_a_report(run):
    recipe, folder = run
    for stage in stages(recipe, folder):
        facts = json.loads((folder / stage.folder / "run.json").read_text())
        assert facts["seed"] == recipe.seed
        assert facts["wall_s"] > 0.0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "<html" in page
    assert not re.search(r"(src|href)=[\"']?https?:", page)  # nothing is loaded from elsewhere


def test_the_expert_of_a_run_keeps_the_margins_of_the_recipe(run):
    recipe, folder = run
    assert recipe.takeover.margins == CAREFUL
    for name, kind in (
        ("rehearsal", "demonstration"),
        ("starts", "demonstration"),
        ("rounds/1/takeovers", "takeover"),
    ):
        assert Dataset(folder / name).meta["provenance"][kind]["margins"] == asdict(CAREFUL), name


def test_closed_dreams_of_words_go_on_from_a_model_that_dreamt_before(run, tmp_path):
    recipe, folder = run
    found = load_checkpoint(folder / "rounds/1/sft/model")
    found.opening = OpeningHead(found.model.config.width, opening_ids(found.tokenizer))
    with torch.no_grad():
        found.opening.outer.bias[1] = 2.0
    save_checkpoint(tmp_path / "model", found)
    settings = DreamConfig(
        kind="closed",
        chooses="words",
        updates=1,
        limits=ANY_DREAMS,
        closed=ClosedConfig(starts=2, longest_s=4.0),
    )
    dream_stage(
        tmp_path / "model", folder / "rounds/1/takeovers", tmp_path / "dream", settings, seed=0, workers=1,
        tasks=chosen(recipe.collect).tasks,
    )  # fmt: skip
    after = load_checkpoint(tmp_path / "dream" / "model").opening
    assert after is not None
    assert float(after.outer.bias[1].detach()) == pytest.approx(2.0, abs=0.1)


def test_every_dataset_and_model_has_the_camera_of_the_base(run):
    _, folder = run
    for name in ("rehearsal", "rounds/1/takeovers"):
        assert Dataset(folder / name).image(0).shape == (64, 192, 3), name
    for name in ("sft", "dream"):
        assert read_rig(folder / "rounds/1" / name / "model") == RIG, name


def test_fine_tuning_moves_the_model_and_dreaming_only_adds_its_head(run):
    recipe, folder = run
    base = load_file(Path(recipe.base) / "model.safetensors")
    tuned = load_file(folder / "rounds/1/sft/model/model.safetensors")
    dreamt = load_file(folder / "rounds/1/dream/model/model.safetensors")
    assert any(not torch.equal(base[name], tuned[name]) for name in base)
    assert all(torch.equal(tuned[name], dreamt[name]) for name in tuned)
    head = load_file(folder / "rounds/1/dream/model/residual.safetensors")
    assert float(head["outer.weight"].abs().max()) > 0.0


def test_refused_dreams_hand_the_fine_tuned_model_on(run, tmp_path):
    recipe, folder = run
    strict = replace(recipe, dream=replace(recipe.dream, limits=AuditLimits(expert_success=1.1)))
    dreaming = next(stage for stage in stages(strict, folder) if stage.folder.endswith("dream"))
    dreaming.work(tmp_path)
    tuned = load_file(folder / "rounds/1/sft/model/model.safetensors")
    kept = load_file(tmp_path / "model" / "model.safetensors")
    assert all(torch.equal(tuned[name], kept[name]) for name in tuned)
    assert not (tmp_path / "model" / "residual.safetensors").exists()
    assert "expert_success" in json.loads((tmp_path / "before_after.json").read_text())["not_dreamed"]


def test_a_finished_run_is_not_run_again(run):
    recipe, folder = run
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("metrics.json")}
    run_recipe(recipe, folder, "test", Console(quiet=True))
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("metrics.json")}


def test_a_run_directory_belongs_to_one_recipe(run):
    recipe, folder = run
    with pytest.raises(ValueError, match="seed"):
        run_recipe(replace(recipe, seed=1), folder, "test", Console(quiet=True))


def test_a_second_round_goes_on_from_the_first_and_dreams_of_both(run, tmp_path):
    recipe, folder = run
    recipe, again = replace(recipe, rounds=2), tmp_path / "run"
    shutil.copytree(folder / "rounds", again / "rounds")
    for name in ("rehearsal", "starts"):
        (again / name).symlink_to(folder / name)
    for stage in (one for one in stages(recipe, again) if one.folder.startswith("rounds/2")):
        run_stage(stage, again / stage.folder, recipe, "test")
    drives = [Dataset(again / f"rounds/{number}/takeovers") for number in (1, 2)]
    routes = [{row["route"] for row in drive.episodes.to_pylist()} for drive in drives]
    assert not routes[0] & routes[1]
    first, both = (
        json.loads((again / f"rounds/{number}/sft/sft.json").read_text())["frames_of_takeovers"]["takeover"]
        for number in (1, 2)
    )
    assert both > first > 0
    dreamed = [
        json.loads((again / f"rounds/{number}/dream/before_after.json").read_text())["scenes"]
        for number in (1, 2)
    ]
    assert dreamed[1] > dreamed[0] > 0
    assert load_checkpoint(again / "rounds/2/dream/model").residual is not None


def test_rounds_meet_other_routes_as_long_as_the_suite_has_them():
    choice = RouteChoice("train", 264)
    turns = [[task.id for task in chosen(choice, turn).tasks] for turn in range(4)]
    assert len({route for turn in turns for route in turn}) == 4 * 264
    whole = RouteChoice("mini44", 0)
    assert chosen(whole, 1).tasks == chosen(whole).tasks
