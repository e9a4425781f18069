"""The recipe: typed, complete, and refused where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from takevla.cli import main
from takevla.learn.dream.config import DreamConfig
from takevla.recipe import Recipe, RouteChoice, first_difference

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


def test_impossible_numbers_are_refused_by_name():
    with pytest.raises(ValueError, match=r"dream\.group"):
        DreamConfig(group=1)
    with pytest.raises(ValueError, match="rounds"):
        Recipe(rounds=-1)
    with pytest.raises(ValueError, match="routes"):
        RouteChoice(routes=-1)


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
        (["collect", "--suite", "mini44", "--out", "x", "--model", "."], "validation town"),
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
