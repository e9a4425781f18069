"""Result files: what is written reads back, and other people's files are read or refused."""

import json
from pathlib import Path

import pytest
from made_up_outcomes import OUTSIDE, VEHICLE, outcome, slow

from takevla.bench import leaderboard_json as lj
from takevla.bench.metrics import metrics
from takevla.bench.outcome import INFRACTIONS
from takevla.files import write_json

ROWS = [
    outcome("27", infractions={"collisions_vehicle": [VEHICLE], "min_speed_infractions": [slow(87.5)]}),
    outcome("1711", "InvadingTurn", completion=50.0, infractions={"outside_route_lanes": [OUTSIDE]}),
    outcome("9", "", status="Perfect"),
]


def test_written_results_read_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_json(path, lj.leaderboard(ROWS, 4))
    read = lj.read_results(path)
    assert (read.asked, read.form) == (4, "leaderboard")
    for mine, theirs in zip(ROWS, read.outcomes, strict=True):
        assert theirs.key == mine.key
        assert theirs.infractions == mine.infractions
        assert (theirs.status, theirs.town) == (mine.status, mine.town)
        assert theirs.scenario_type == mine.scenario_type
        assert theirs.score_composed == mine.score_composed
    assert list(tmp_path.iterdir()) == [path]


def test_metrics_computed_from_the_written_file_equal_those_of_the_run(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_json(path, lj.leaderboard(ROWS, 4))
    read = lj.read_results(path)
    assert metrics(read.outcomes, read.asked) == metrics(ROWS, 4)


def test_records_hold_every_key_of_the_leaderboard() -> None:
    entry = lj.record(3, ROWS[0])
    assert entry["route_id"] == "RouteScenario_27_rep0"
    assert set(entry["infractions"]) == set(INFRACTIONS)
    assert entry["num_infractions"] == 2
    assert entry["scores"] == {"score_route": 100.0, "score_penalty": 0.6, "score_composed": 60.0}


def test_global_record_divides_by_routes_asked_and_counts_per_kilometre() -> None:
    whole = lj.global_record(ROWS, 4)
    assert whole["scores_mean"]["score_composed"] == pytest.approx((60 + 45 + 100) / 4)
    assert whole["infractions"]["collisions_vehicle"] == pytest.approx(1 / 0.25)
    assert whole["infractions"]["outside_route_lanes"] == pytest.approx(0.0125, abs=1e-3)  # km
    assert whole["status"] == "Failed"
    assert whole["meta"]["exceptions"] == [["RouteScenario_1711_rep0", 1, "Failed - Agent got blocked"]]


def test_labels_and_values_match_in_number() -> None:
    whole = lj.leaderboard(ROWS, 3)
    assert len(whole["values"]) == len(whole["labels"]) == 15


def test_merged_form_divides_by_220_sorts_ids_downwards_and_reads_back(tmp_path: Path) -> None:
    content = lj.merged(ROWS)
    assert content["driving score"] == pytest.approx(205 / 220)
    assert content["success rate"] == pytest.approx(1 / 220)
    assert content["eval num"] == 3
    ids = [entry["route_id"] for entry in content["_checkpoint"]["records"]]
    assert ids == sorted(ids, reverse=True)
    path = tmp_path / "merged.json"
    path.write_text(json.dumps(content))
    read = lj.read_results(path)
    assert (read.form, read.asked, len(read.outcomes)) == ("merged", 220, 3)
    assert read.recorded["driving score"] == content["driving score"]


def test_files_of_other_versions_are_read_with_what_they_have(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    scores = {"score_route": 10, "score_penalty": 1, "score_composed": 10}
    entry = {"route_id": "RouteScenario_5", "status": "Failed", "scores": scores, "novel": 3}
    path.write_text(json.dumps({"_checkpoint": {"records": [entry]}}))
    read = lj.read_results(path)
    assert read.outcomes[0].route_id == "5"
    assert read.outcomes[0].extra == {"novel": "3"}
    assert read.asked == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "no _checkpoint.records"),
        ('{"_checkpoint": {"records": [{}]}}', "record 0: no scores"),
        ('{"_checkpoint": {"records": [{"scores": {}}]}}', "record 0: no route_id"),
        (
            '{"_checkpoint": {"records": [{"route_id": "RouteScenario_1", "scores": {"score_route": NaN}}]}}',
            "scores.score_route: nan",
        ),
    ],
)
def test_broken_files_are_refused_with_their_name_and_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        lj.read_results(path)
    assert str(path) in str(caught.value)
