"""A study on a very small model: what arms share is done once, and the control sees as many frames."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from rich.console import Console

from takevla.driver.vla.checkpoint import Checkpoint, save_checkpoint
from takevla.driver.vla.inputs import tiny_config
from takevla.driver.vla.model import TakeVLA
from takevla.driver.vla.settings import TinySize
from takevla.driver.vla.tokenizer import build_tokenizer
from takevla.recipe import Recipe
from takevla.rounds import stages
from takevla.study.arms import arm_names, load_arm
from takevla.study.cell import ORDER
from takevla.study.run import Study, cell_path, run_study
from takevla.takeover.commentary import corpus

RECIPES = Path(__file__).parents[2] / "recipes" / "arms"
COMMON = """
base: {base}
rehearsal: {{suite: train, routes: 1}}
starts_per_route: 0
collect: {{suite: train, routes: 2}}
sft:
  draws: 64
  shadow_ratio: 0.0
  triggers: {{collision: 1.0, follow: 0.0, restart: 1.0, rule: 1.0}}
  train: {{batch_size: 8, warmup_steps: 1, parts: 1, save_every: 4, log_every: 4, trackers: []}}
dream: {{updates: 0}}
"""


def keys(name: str, seed: int = 0) -> dict[str, str]:
    recipe = load_arm(RECIPES, name).cell(seed, "dev88", 0, 2)
    return {stage.folder: stage.key for stage in stages(recipe, Path("run"))}


def test_arms_differ_in_nothing_but_what_is_compared():
    plain, enhanced, full, dagger = (
        keys(name) for name in ("language_plain", "language_enhanced", "takevla", "dagger")
    )
    for shared in ("base_eval", "rehearsal", "starts", "rounds/1/takeovers"):
        assert len({arm[shared] for arm in (plain, enhanced, full, dagger, keys("expert_frames"))}) == 1
    assert full["rounds/1/sft"] == enhanced["rounds/1/sft"]
    assert len({arm["rounds/1/sft"] for arm in (plain, enhanced, dagger, keys("expert_frames"))}) == 4
    assert dagger["rounds/1/sft"] == keys("dagger_dpo")["rounds/1/sft"]
    assert dagger["rounds/1/sft"] == keys("no_pre_takeover")["rounds/1/sft"]
    assert keys("dagger_dpo")["rounds/1/dream"] != keys("no_pre_takeover")["rounds/1/dream"]
    ordinary = keys("ordinary_expert")
    assert ordinary["base_eval"] == enhanced["base_eval"]
    for taught in ("rehearsal", "starts", "rounds/1/takeovers", "rounds/1/sft"):
        assert ordinary[taught] != enhanced[taught]


def test_a_later_round_begins_where_the_former_ended_and_seeds_share_what_the_same_model_drove():
    first, third = keys("takevla"), keys("takevla_3")
    assert first["rounds/1/dream"] == third["rounds/1/dream"]
    assert third["rounds/3/sft"] != third["rounds/2/sft"]
    other = keys("takevla_3", 1)
    assert {folder for folder in third if third[folder] == other[folder]} == {
        "rehearsal", "starts", "rounds/1/takeovers"
    }  # fmt: skip


def test_every_arm_of_the_issue_has_its_recipe():
    assert set(arm_names(RECIPES)) == set(ORDER)
    with pytest.raises(ValueError, match="no arm 'other'"):
        load_arm(RECIPES, "other")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    tokenizer = build_tokenizer(corpus())
    torch.manual_seed(0)
    model = TakeVLA(tiny_config(tokenizer, size=TinySize(tile_px=64, width=32, layers=1))).eval()
    save_checkpoint(folder / "base", Checkpoint(model, tokenizer))
    (folder / "arms").mkdir()
    (folder / "arms" / "common.yaml").write_text(COMMON.format(base=folder / "base"))
    (folder / "arms" / "base.yaml").write_text("rounds: 0\n")
    (folder / "arms" / "dagger.yaml").write_text("sft: {pre_takeover_ratio: 0.0}\n")
    (folder / "arms" / "expert_frames.yaml").write_text("taught_by: expert\nsft: {pre_takeover_ratio: 0.0}\n")
    made = Study(("base", "dagger", "expert_frames"), (0,), "mini44", 1, folder / "arms", folder / "work",
                 folder / "results", 1)  # fmt: skip
    assert run_study(made, Console(quiet=True)) == (3, 3)
    return made


def cell(study: Study, arm: str) -> dict:
    return json.loads(cell_path(study.results, "mini44-1", arm, 0).read_text())


def test_what_arms_share_is_done_once(study):
    kinds = [path.name.rsplit("-", 1)[0] for path in (study.work / "store").iterdir() if path.is_dir()]
    assert sorted(kinds) == ["evaluation"] * 3 + ["expert"] * 2 + ["sft"] * 2 + ["takeovers"]
    shared = {stage["key"] for stage in cell(study, "dagger")["stages"]} & {
        stage["key"] for stage in cell(study, "expert_frames")["stages"]
    }
    assert {key.rsplit("-", 1)[0] for key in shared} == {"expert", "takeovers"}


def test_the_control_learns_as_many_frames_and_draws_of_the_expert_as_the_arm_of_takeovers(study):
    runs = study.work / "runs" / "mini44-1"
    notes = {
        arm: json.loads((runs / arm / "0/rounds/1/sft/sft.json").read_text())
        for arm in ("dagger", "expert_frames")
    }
    audits = {
        arm: {row["bucket"]: row for row in json.loads(path.read_text())["buckets"]}
        for arm in notes
        for path in [runs / arm / "0/rounds/1/sft/mixture.json"]
    }
    taken = [row for bucket, row in audits["dagger"].items() if bucket.startswith("takeover: ")]
    given, share = (sum(row[key] for row in taken) for key in ("frames", "asked_ratio"))
    drawn = round(notes["dagger"]["recipe"]["draws"] * share)
    chosen = notes["expert_frames"]["frames"]
    assert sum(chosen[name] for name in chosen if name.startswith("extra_expert: ")) == min(given, drawn) > 0
    assert not [name for name in notes["expert_frames"]["frames"] if name.startswith("takeover")]
    extra = [row for bucket, row in audits["expert_frames"].items() if bucket.startswith("extra_expert: ")]
    assert len(extra) > 1  # balanced by situation
    steps = {json.loads((runs / arm / "0/rounds/1/sft/curves.json").read_text())[-1]["step"] for arm in notes}
    assert len(steps) == 1
    assert sum(row["draws"] for row in extra) > 0
    asked = [sum(row["asked_ratio"] for row in rows) for rows in (taken, extra)]
    assert asked[0] == pytest.approx(asked[1])


def test_a_finished_study_is_not_run_again(study):
    before = {path: path.stat().st_mtime_ns for path in study.work.rglob("*") if path.is_file()}
    assert run_study(study, Console(quiet=True)) == (3, 3)
    assert before == {
        path: path.stat().st_mtime_ns for path in study.work.rglob("*") if path.is_file() and path in before
    } | {path: stamp for path, stamp in before.items() if path.suffix == ".lock"}


def test_a_cell_says_how_it_was_made(study):
    found = cell(study, "dagger")
    assert [stage["folder"] for stage in found["stages"]] == [
        "rehearsal", "rounds/1/takeovers", "rounds/1/sft", "final_eval"
    ]  # fmt: skip
    assert all(stage["wall_s"] > 0.0 for stage in found["stages"])
    assert len(found["routes"]["route_id"]) == found["figures"]["routes_scored"] == 1
    assert found["words"]["routes"].keys() == set(found["routes"]["route_id"])
    assert isinstance(load_arm(study.recipes, "dagger").recipe, Recipe)


def test_sweeps_start_from_what_the_arms_share_and_change_only_what_they_name() -> None:
    sweeps = RECIPES.parent / "sweeps"
    arms, shared = (yaml.safe_load((folder / "common.yaml").read_text()) for folder in (RECIPES, sweeps))
    assert shared == arms
    whole = load_arm(RECIPES, "takevla").recipe
    assert load_arm(sweeps, "takevla").recipe == whole
    for name in arm_names(sweeps):
        if name not in ("base", "takevla"):
            recipe = load_arm(sweeps, name).recipe
            assert replace(recipe, name=whole.name) != whole, name
            assert (recipe.base, recipe.collect, recipe.rounds) == (whole.base, whole.collect, whole.rounds)
