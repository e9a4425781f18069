"""The page of results agrees with the cells, and its figures with plain arithmetic on them."""

from __future__ import annotations

import json
from itertools import takewhile
from pathlib import Path

import numpy as np
import pytest
from made_up_cells import write_cell

from takevla.bench.abilities import ABILITIES
from takevla.bench.words import parts
from takevla.study.cell import ROUTE_COLUMNS, has_all, read_cells
from takevla.study.figures import content
from takevla.study.gains import towards_expert
from takevla.study.markup import difference
from takevla.study.measures import MEASURES, ability_measure, of_ability, tell_abilities
from takevla.study.page import SUMMARY_SUITE, check_results, write_results
from takevla.study.summary import find, find_ability_mean, interaction, shifts

ROOT = Path(__file__).parents[2]
SKILLS = {"base": 0.45, "dagger": 0.55, "takevla": 0.85}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for arm, skill in SKILLS.items():
        for seed in range(3):
            write_cell(folder / "results", "val220", arm, seed, skill)
    write_results(folder / "results", folder / "docs" / "results.md")
    return folder


def test_the_repository_page_agrees_with_its_cells():
    check_results(ROOT / "results", ROOT / "docs" / "results.md")


def test_the_readme_shows_the_arms_as_the_page_does():
    reported = (ROOT / "docs" / "results.md").read_text().split(f"## {SUMMARY_SUITE}\n")[1]
    rows = takewhile(lambda line: line.startswith("|"), reported[reported.index("| arm |") :].splitlines())
    assert "\n".join(rows) in (ROOT / "README.md").read_text()


def test_abilities_follow_their_rule_where_all_cells_say_what_passes(made):
    cells = read_cells(made / "results" / "arms" / "val220")["base"]
    for name, only in ((one, of_ability(one)) for one in ABILITIES):
        value = find(cells, {}, ability_measure(name), only).value
        assert value is not None
        assert value.mean == pytest.approx(
            np.mean([one["figures"]["ability"][name] for one in cells.values()])
        )
    assert tell_abilities(cells.values())
    assert not tell_abilities([*cells.values(), {"routes": {"success": [True]}}])


def test_an_edited_number_is_found(made):
    page, summary = made / "docs" / "results.md", made / "results" / "summary.json"
    check_results(made / "results", page)
    for path in (page, summary):
        kept = path.read_text()
        digit = next(k for k, letter in enumerate(kept) if letter == "4" and kept[k - 1] == ".")
        path.write_text(kept[:digit] + "5" + kept[digit + 1 :])
        with pytest.raises(ValueError, match="does not agree"):
            check_results(made / "results", page)
        path.write_text(kept)
    cell = made / "results" / "arms" / "val220" / "takevla" / "0.json"
    kept = cell.read_text()
    content = json.loads(kept)
    content["routes"]["driving_score"][0] = 1.0 + content["routes"]["driving_score"][0] / 2.0
    cell.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="does not agree"):
        check_results(made / "results", page)
    cell.write_text(kept)


def test_summary_means_are_means_over_seeds_and_routes_and_differences_are_paired(made):
    summary = json.loads((made / "results" / "summary.json").read_text())
    assert list(summary) == list(SKILLS)
    cells = read_cells(made / "results" / "arms" / "val220")
    scores = {
        arm: np.array([cells[arm][seed]["routes"]["driving_score"] for seed in range(3)]) for arm in SKILLS
    }
    for arm in SKILLS:
        found = summary[arm]["driving_score"]
        assert found["mean"] == pytest.approx(scores[arm].mean(), abs=1e-3)
        assert found["seeds"] == [0, 1, 2]
        assert found["interval_95"][0] < found["mean"] < found["interval_95"][1]
    gain = summary["takevla"]["driving_score"]["difference"]
    assert gain["mean"] == pytest.approx((scores["takevla"] - scores["base"]).mean(), abs=1e-3)
    assert gain["interval_95"][0] > 0.0
    assert summary["base"]["driving_score"]["difference"] is None


def test_a_route_without_an_outcome_counts_nothing_over_the_routes_asked(made):
    cells = read_cells(made / "results" / "arms" / "val220")
    whole = dict(cells["takevla"][0])
    routes = {name: column[1:] for name, column in whole["routes"].items()}
    lost = whole["routes"]["route_id"][0]
    cut = {0: whole | {"routes": routes, "routes_unscored": {lost: "off the map"}}}
    asked, scored = (
        find(cut, {}, MEASURES[name]).value for name in ("driving_score", "driving_score_scored")
    )
    assert asked.mean * (len(routes["route_id"]) + 1) == pytest.approx(scored.mean * len(routes["route_id"]))


def test_the_share_of_close_frames_is_that_of_all_frames(made):
    cells = read_cells(made / "results" / "arms" / "val220")["base"]
    close = sum(sum(one["routes"]["frames_close"]) for one in cells.values())
    frames = sum(sum(one["routes"]["frames"]) for one in cells.values())
    assert find(cells, {}, MEASURES["close_frames"]).value.mean == pytest.approx(100.0 * close / frames)


def test_every_route_that_got_worse_with_some_seed_is_named_greatest_loss_first(made):
    cells = read_cells(made / "results" / "arms" / "val220")
    found = shifts(cells["takevla"], cells["base"])
    losses = [one.change for one in found]
    assert losses == sorted(losses)
    page = (made / "docs" / "results.md").read_text()
    named = page[page.index("### Routes that got worse") :].split("\n### ")[0]
    columns = [
        np.array([cells[arm][seed]["routes"]["driving_score"] for seed in range(3)])
        for arm in ("base", "takevla")
    ]
    worse = (columns[1] < columns[0]).any(axis=0)
    routes = np.array(cells["base"][0]["routes"]["route_id"])
    assert 0 < worse.sum() < len(routes)
    for route, got_worse in zip(routes, worse, strict=True):
        assert (f"\n| {route} | " in named) == got_worse


def test_a_route_that_loses_its_outcome_got_worse(made):
    cells = read_cells(made / "results" / "arms" / "val220")["base"]
    whole = cells[0]
    row = next(k for k, success in enumerate(whole["routes"]["success"]) if success)
    lost = whole["routes"]["route_id"][row]
    routes = {name: column[:row] + column[row + 1 :] for name, column in whole["routes"].items()}
    cut = {0: whole | {"routes": routes, "routes_unscored": {lost: "the world stopped"}}}
    worst = shifts(cut, {0: whole})[0]
    assert (worst.route_id, worst.broken, worst.worse) == (lost, 1, True)
    assert worst.drives[0][1].score == 0.0
    assert "the world stopped" in worst.drives[0][1].events


def test_the_mean_of_the_abilities_is_the_mean_of_the_five(made):
    cells = read_cells(made / "results" / "arms" / "val220")
    found = find_ability_mean(cells["takevla"], cells["base"])
    means = {
        arm: np.mean([one["figures"]["ability"]["mean"] for one in cells[arm].values()])
        for arm in ("base", "takevla")
    }
    assert found.value.mean == pytest.approx(means["takevla"])
    assert found.difference.mean == pytest.approx(means["takevla"] - means["base"])
    assert found.difference.low < found.difference.mean < found.difference.high


def test_what_two_parts_gain_together_is_paired_by_route(made):
    cells = read_cells(made / "results" / "arms" / "val220")
    measure = MEASURES["driving_score"]
    base, dagger, full = (cells[arm] for arm in ("base", "dagger", "takevla"))
    found = interaction((full, base), (dagger, base), measure).difference
    plain = find(full, dagger, measure).difference
    assert (found.mean, found.low, found.high) == pytest.approx((plain.mean, plain.low, plain.high))
    assert interaction((full, base), ({}, {}), measure).difference is None


def test_a_cell_of_before_a_column_came_leaves_its_figures_blank(made):
    cells = read_cells(made / "results" / "arms" / "val220")
    whole = cells["takevla"][0]
    assert whole["routes"].keys() == ROUTE_COLUMNS
    assert has_all(whole)
    old = whole | {"routes": {name: one for name, one in whole["routes"].items() if name != "comfort"}}
    assert not has_all(old)
    assert find({0: old}, cells["base"], MEASURES["comfort"]).value is None
    assert find({0: old}, cells["base"], MEASURES["driving_score"]).value is not None


def test_the_way_to_the_expert_is_the_gain_against_what_he_has_more_than_the_base(made, tmp_path):
    sides = [read_cells(made / "results" / "arms" / "val220")[arm] for arm in ("base", "takevla")]
    means = [np.mean([one["figures"]["driving_score"] for one in cells.values()]) for cells in sides]
    path = tmp_path / "val220.json"
    assert towards_expert(path, *sides) == []
    figures = {"driving_score": 2.0 * means[1] - means[0], "success_rate": 100.0, "ttc_mean_s": 5.0}
    path.write_text(json.dumps({"seed": 0, "metrics": figures}))
    row = next(line for line in towards_expert(path, *sides) if line.startswith("| Driving score"))
    shown = [cell.strip() for cell in row.strip("|").split("|")]
    assert shown[1:4] == [f"{value:.2f}" for value in (*means, figures["driving_score"])]
    assert shown[4].split(" ")[0] == "50"


def test_a_difference_stands_out_in_bold_only_with_three_seeds(made):
    cells = read_cells(made / "results" / "arms" / "val220")
    base, full = cells["base"], cells["takevla"]
    assert difference(find(full, base, MEASURES["driving_score"]), 2).startswith("**+")
    one = difference(find({0: full[0]}, base, MEASURES["driving_score"]), 2)
    assert one.startswith("*+")
    assert difference(find(base, full, MEASURES["driving_score"]), 2).startswith("**-")


def test_a_figure_of_other_numbers_is_found(made):
    figure = made / "docs" / "results" / "val220-ttc.svg"
    kept = figure.read_text()
    told = content(figure)
    assert "takevla" in told
    figure.write_text(kept.replace(told.split("[")[2][:6], "99.999", 1))
    with pytest.raises(ValueError, match="does not show the cells"):
        check_results(made / "results", made / "docs" / "results.md")
    figure.write_text(kept)


def test_braking_counts_from_the_naming_of_the_hazard_at_the_earliest():
    words = {
        "hazards": [["pedestrian", None, 5.0, 2.0], ["vehicle", 1.0, 0.5, 3.0], ["vehicle", None, None, 1.0]]
    }
    assert parts(words, 1.0, "braking_answer_s") == (2.0 + 0.5 + 0.0, 3.0)
