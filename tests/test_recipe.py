"""The recipe: typed, complete, and refused where it is wrong."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from takevla.cli import main
from takevla.driver.vla.settings import VlmSettings
from takevla.learn.dream.config import DreamConfig
from takevla.learn.settings import SftConfig, TrainConfig
from takevla.recipe import Recipe, RouteChoice, first_difference
from takevla.rounds import run_recipe
from takevla.takeover.monitor import MonitorConfig
from takevla.takeover.shadow import TakeoverConfig
from takevla.takeover.triggers import TriggerConfig

RECIPES = Path(__file__).parents[1] / "recipes"


def _flat(content: dict, prefix: str = "") -> dict[str, object]:
    rows: dict[str, object] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            rows |= _flat(value, f"{prefix}{key}.")
        else:
            rows[f"{prefix}{key}"] = value
    return rows


def test_the_quickstart_recipe_states_the_defaults():
    stated = _flat(yaml.safe_load((RECIPES / "quickstart.yaml").read_text()))
    defaults = _flat(Recipe().to_json())
    assert stated
    assert {key: defaults[key] for key in stated} == stated


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: DreamConfig(group=1), "dream.group"),
        (lambda: DreamConfig(horizon_s=0.0), "dream.horizon_s"),
        (lambda: DreamConfig(starts_s=()), "dream.starts_s"),
        (lambda: Recipe(rounds=-1), "rounds"),
        (lambda: RouteChoice(routes=-1), "routes"),
        (lambda: TrainConfig(parts=0), "train.parts"),
        (lambda: TrainConfig(log_every=0), "train.log_every"),
        (lambda: TrainConfig(save_every=30, log_every=20), "train.save_every"),
        (lambda: TrainConfig(batch_size=9), "train.batch_size"),
        (lambda: TrainConfig(learning_rate=0.0), "train.learning_rate"),
        (lambda: SftConfig(draws=0), "sft.draws"),
        (lambda: SftConfig(shadow_ratio=-0.1), "sft.shadow_ratio"),
        (lambda: SftConfig(pretraining_ratio=0, pre_takeover_ratio=0, takeover_ratio=0), "every ratio is 0"),
        (lambda: MonitorConfig(least_s=30.0), "takeover.monitor"),
        (lambda: TakeoverConfig(window_s=-1.0), "takeover.window_s"),
        (lambda: TakeoverConfig(scene_period_us=60_000), "takeover.scene_period_us"),
        (lambda: TriggerConfig(forecast_s=0.0), "takeover.triggers.forecast_s"),
        (lambda: TriggerConfig(forecast_s=math.inf), "takeover.triggers.forecast_s"),
        (lambda: TriggerConfig(headway_s=math.nan), "takeover.triggers.headway_s"),
        (lambda: TriggerConfig(standing_s=-1.0), "takeover.triggers.standing_s"),
        (lambda: TriggerConfig(closing_mps=math.nan), "takeover.triggers.closing_mps"),
        (lambda: VlmSettings(tile_columns=0), "vlm.tile_columns"),
        (lambda: VlmSettings(bottom_crop=1.0), "vlm.bottom_crop"),
        (lambda: VlmSettings(dtype="float8"), "vlm.dtype"),
    ],
)
def test_impossible_numbers_are_refused_by_name(make, key):
    with pytest.raises(ValueError, match=re.escape(key)):
        make()


def test_thresholds_that_mean_something_below_zero_may_be_negative():
    assert TriggerConfig(closing_mps=-0.5, line_margin_m=-1.0).closing_mps == -0.5


def test_settings_are_read_without_torch():
    code = "import sys, takevla.recipe, takevla.driver.vla.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_recipe_that_cannot_end_is_refused_before_it_begins(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    for recipe, said in (
        (Recipe(collect=RouteChoice("val220")), "for validation"),
        (Recipe(rehearsal=RouteChoice("trian")), "trian"),
        (Recipe(evaluate=RouteChoice("mini45")), "mini45"),
        (Recipe(base=str(empty)), "no config.json"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=said):
            run_recipe(recipe, tmp_path / "run", "test", Console(quiet=True))
        assert not (tmp_path / "run").exists()


def test_two_recipes_that_differ_name_the_key():
    one, other = Recipe().to_json(), Recipe(dream=DreamConfig(group=8)).to_json()
    assert first_difference(one, one) is None
    assert first_difference(one, other) == "dream.group"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["quickstart", "--sft.drawz", "3"], "drawz"),
        (["evaluate", "--driver", "no/such/folder", "--out", "x"], "no/such/folder"),
        (["evaluate", "--driver", "expert", "--suite", "mini45", "--out", "x"], "mini45"),
        (["evaluate", "--driver", "expert", "--routes", "missing.xml", "--out", "x"], "missing.xml"),
        (["collect", "--suite", "mini44", "--out", "x", "--model", "shipped"], "validation town"),
        (["report"], "--run"),
        (["dance"], "dance"),
    ],
)
def test_bad_input_ends_with_one_line_that_names_it(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]


def test_a_misspelled_key_in_a_recipe_is_named(capsys, tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("dream: {grup: 8}\n")
    assert main(["run", str(recipe), "--out", str(tmp_path / "run")]) == 2
    assert "grup" in capsys.readouterr().err


def test_broken_route_xml_is_refused_with_its_name(capsys, tmp_path):
    routes = tmp_path / "broken.xml"
    routes.write_text("<routes><route id='1' town='Alder01'>")
    assert (
        main(["evaluate", "--driver", "expert", "--routes", str(routes), "--out", str(tmp_path / "o")]) == 2
    )
    line = capsys.readouterr().err.strip()
    assert "broken.xml" in line
    assert "\n" not in line
