"""Terminal tables: everything of a result file, and what it cannot tell."""

import json
from pathlib import Path

from made_up_outcomes import RED, VEHICLE, outcome, random_outcomes
from made_up_run import TYPES
from rich.console import Console

from takevla.bench.leaderboard_json import leaderboard, merged
from takevla.bench.metrics import metrics
from takevla.bench.suites import load_suite
from takevla.files import write_json
from takevla.report.terminal import before_after_table, print_results, results_metrics
from takevla.world.maps.route_xml import write_routes


def test_all_figures_of_a_merged_file_are_printed_and_equal_the_files_own(tmp_path: Path) -> None:
    rows = random_outcomes(TYPES, 0.7, 1)
    path = tmp_path / "merged.json"
    write_json(path, merged(rows, 220))
    console = Console(record=True, width=120, file=(tmp_path / "out").open("w"))
    found = print_results(path, console=console)
    text = console.export_text()
    stated = json.loads(path.read_text())
    assert abs(found["driving_score"] - stated["driving score"]) < 1e-9
    assert abs(found["success_rate"] / 100 - stated["success rate"]) < 1e-9
    for word in ("44 / 220", "leaderboard-2.1", "Give Way", "Efficiency", "not recorded", "have no record"):
        assert word in text


def test_a_file_whose_scores_contradict_its_infractions_is_told(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    content = leaderboard([outcome(infractions={"red_light": [RED]})], 1)
    content["_checkpoint"]["records"][0]["scores"]["score_composed"] = 99.0
    write_json(path, content)
    _, remarks = results_metrics(path)
    assert any("recorded driving score is 99" in remark for remark in remarks)
    assert any("the file states" in remark for remark in remarks)


def test_motion_logs_beside_the_file_give_comfort(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    content = leaderboard([outcome()], 1)
    write_json(path, content)
    step = {
        "acceleration": [1.0, 0.0, 0.0],
        "angular_velocity": [0.0, 0.0, 0.0],
        "forward_vector": [1.0, 0.0, 0.0],
        "right_vector": [0.0, 1.0, 0.0],
    }
    save_name = content["_checkpoint"]["records"][0]["save_name"]
    write_json(tmp_path / "logs" / save_name / "metric_info.json", {str(i): step for i in range(60)})
    found, _ = results_metrics(path, metric_info=tmp_path / "logs")
    assert found["comfort"] == found["comfort_si"] == 100.0


def test_before_after_table_prints_intervals_and_differences(tmp_path: Path) -> None:
    console = Console(record=True, width=140, file=(tmp_path / "out").open("w"))
    sides = [metrics(random_outcomes(TYPES, skill, 1), 44) for skill in (0.4, 0.9)]
    console.print(before_after_table(sides[0], sides[1]))
    text = console.export_text()
    for word in ("Driving score", "Average TTC, s", "Overtaking", "44 / 44", "["):
        assert word in text


def test_the_route_file_gives_traffic_signs_its_extra_rule(tmp_path: Path) -> None:
    task = next(
        task for task in load_suite("dev88").tasks if task.scenarios[0].type == "VanillaNonSignalizedTurn"
    )
    write_routes(tmp_path / "routes.xml", [task])
    row = outcome(
        task.id, "VanillaNonSignalizedTurn", completion=99.0, infractions={"collisions_vehicle": [VEHICLE]}
    )
    path = tmp_path / "results.json"
    write_json(path, leaderboard([row], 1))
    plain, remarks = results_metrics(path)
    assert plain["ability"]["Traffic_Signs"] == 0.0
    assert any("extra rule" in remark for remark in remarks)
    found, remarks = results_metrics(path, routes=tmp_path / "routes.xml")
    assert found["ability"]["Traffic_Signs"] == 100.0
    assert not any("extra rule" in remark for remark in remarks)


def test_a_file_is_scored_anew_by_a_named_table_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_json(path, leaderboard([outcome(infractions={"red_light": [RED]}), outcome("2")], 4))
    recorded, _ = results_metrics(path)
    assert recorded["driving_score"] == 42.5
    assert recorded["driving_score_scored"] == 85.0
    assert recorded["penalty_table"] == "as recorded"
    found, remarks = results_metrics(path, penalties="leaderboard-2.1")
    assert abs(found["driving_score"] - (100 / 1.4 + 100) / 4) < 1e-5
    assert found["penalty_table"] == "leaderboard-2.1"
    assert found["success_rate"] == recorded["success_rate"] == 25.0
    assert any("computed anew by the leaderboard-2.1 table" in remark for remark in remarks)
    assert not any("states" in remark for remark in remarks)
