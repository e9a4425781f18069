import gzip
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from takevla.bench.outcome import INFRACTIONS
from takevla.cli import main
from takevla.dataset.reader import Dataset
from takevla.dataset.simlingo import import_simlingo_data
from takevla.learn.balance import BUCKET_WEIGHTS, check_buckets, frame_strata
from takevla.scene.plan import Cause, Manoeuvre
from takevla.scene.sight import UNSEEN_KIND

SPEED_MPS = 4.0
FRAMES = 14  # of which the last ten have no plan


def write_run(folder: Path, number: int = 0) -> Path:
    """A straight run along x at 4 m/s, behind a red light from the third frame on, with a full score."""
    run = folder / "data" / "simlingo" / "training" / "routes" / "chunk" / f"Town12_Rep0_route_{number:03d}"
    (run / "rgb").mkdir(parents=True)
    (run / "measurements").mkdir()
    for index in range(FRAMES):
        matrix = np.eye(4)
        matrix[:2, 3] = (SPEED_MPS * 0.25 * index, 7.0)
        red = index >= 2
        content = {
            "speed": SPEED_MPS, "target_speed": 0.0 if red else SPEED_MPS, "target_point": [20.0, 3.0],
            "target_point_next": [40.0, -3.0], "command": 2, "next_command": 4,
            "route": [[k + 2.5, 0.5] for k in range(12)], "ego_matrix": matrix.tolist(), "steer": 0.25,
            "throttle": 0.5, "brake": False, "junction": False, "vehicle_hazard": False, "light_hazard": red,
            "walker_hazard": False, "stop_sign_hazard": False,
            "speed_reduced_by_obj_type": "traffic.traffic_light" if red else None,
            "speed_reduced_by_obj_distance": 12.0 if red else None, "changed_route": False,
            "route_original": [[k + 2.5, 0.5] for k in range(12)],
        }  # fmt: skip
        with gzip.open(run / "measurements" / f"{index:04d}.json.gz", "wt") as file:
            json.dump(content, file)
        Image.new("RGB", (64, 32), (index, 0, 0)).save(run / "rgb" / f"{index:04d}.jpg")
    write_result(run)
    return run


def write_result(run: Path, completion: float = 100.0, composed: float = 100.0, **happened: int) -> None:
    """The leaderboard's record of a run, with so many messages by infraction."""
    infractions = {name: [] for name in INFRACTIONS} | {
        name: ["m"] * count for name, count in happened.items()
    }
    content = {
        "status": "Perfect" if composed == 100.0 else "Completed",
        "scores": {"score_route": completion, "score_penalty": 1.0, "score_composed": composed},
        "num_infractions": sum(happened.values()),
        "infractions": infractions,
    }
    (run / "results.json.gz").write_bytes(gzip.compress(json.dumps(content).encode()))


def change(file: Path, **content: object) -> None:
    """Other values for some keys of a measurement."""
    whole = json.loads(gzip.decompress(file.read_bytes())) | content
    file.write_bytes(gzip.compress(json.dumps(whole).encode()))


def test_frames_keep_their_plan_and_turn_to_y_left(tmp_path: Path) -> None:
    run = write_run(tmp_path / "source")
    members = {"leading_object_traffic.traffic_light": [str(run / "measurements" / "0002.json.gz")]}
    buckets = tmp_path / "buckets_paths.pkl"
    buckets.write_bytes(pickle.dumps(members))
    import_simlingo_data(tmp_path / "source", tmp_path / "out", buckets)
    data = Dataset(tmp_path / "out", verify=True)
    assert len(data) == FRAMES - 10
    waypoints = data.column("expert_waypoints_ego").reshape(-1, 10, 2)
    np.testing.assert_allclose(waypoints[0, :, 0], np.arange(1, 11), atol=1e-5)
    np.testing.assert_allclose(data.column("target_points_ego")[0], [20.0, -3.0, 40.0, 3.0])
    route = data.column("expert_route_ego").reshape(-1, 20, 2)
    steps = np.linalg.norm(np.diff(route[0], axis=0), axis=1)
    np.testing.assert_allclose(steps, 1.0, atol=0.05)
    assert (route[0, 3:, 1] < 0.0).all()  # its right is our negative y
    assert data.column("expert_cause").tolist() == [Cause.FREE_ROAD] * 2 + [Cause.RED_LIGHT] * 2
    names = data.frames.column("buckets").to_pylist()
    assert "red_light" in names[2]
    assert "simlingo:leading_object_traffic.traffic_light" in names[2]
    assert not any(name.startswith("simlingo:") for name in names[3])
    assert all(seen[0] == UNSEEN_KIND for seen in data.frames.column("seen_ego").to_pylist())
    now, past = np.split(data.pictures(3, past=True), 2, axis=-1)
    np.testing.assert_array_equal(now, data.image(3))
    np.testing.assert_array_equal(past, data.image(1))
    strata = frame_strata(data, np.arange(len(data)), BUCKET_WEIGHTS, 1.0)
    assert strata.weight[2] == BUCKET_WEIGHTS["red_light"]


def test_simlingos_own_buckets_can_be_weighted(tmp_path: Path) -> None:
    name = "simlingo:leading_object_traffic.traffic_light"
    run = write_run(tmp_path / "source")
    for index in (1, 2):
        change(run / "measurements" / f"{index:04d}.json.gz", speed=0.0)
    members = {
        name.removeprefix("simlingo:"): [
            str(run / "measurements" / f"{index:04d}.json.gz") for index in (1, 2)
        ]
    }
    buckets = tmp_path / "buckets_paths.pkl"
    buckets.write_bytes(pickle.dumps(members))
    import_simlingo_data(tmp_path / "source", tmp_path / "out", buckets)
    data, weights = Dataset(tmp_path / "out"), BUCKET_WEIGHTS | {name: 20.0}
    check_buckets(weights, [data])
    strata = frame_strata(data, np.array([3, 2, 1, 0]), weights, 0.5)
    assert strata.weight.tolist()[1:3] == [20.0, 20.0]
    assert strata.name.tolist()[1:3] == [name, name]
    assert strata.name[0] == "red_light"
    with pytest.raises(ValueError, match=r"no such bucket \['simlingo:walker'\]"):
        check_buckets({"simlingo:walker": 1.0}, [data])
    import_simlingo_data(tmp_path / "source", tmp_path / "plain")
    other = Dataset(tmp_path / "plain")
    check_buckets(weights, [other, data])  # a mixture of datasets, of which one has the name
    assert name not in frame_strata(other, np.arange(4), weights, 0.5).name


@pytest.mark.parametrize(
    ("aside", "manoeuvre"),
    [
        ([-3.0] * 12, Manoeuvre.GO_AROUND_LEFT),  # its left is negative
        ([0.1 * k for k in range(1, 13)], Manoeuvre.GO_AROUND_RIGHT),
        ([-2.0 + 0.25 * k for k in range(8)] + [0.0] * 4, Manoeuvre.RETURN_TO_LANE),
        ([0.1] * 12, Manoeuvre.FOLLOW_ROUTE),
    ],
)
def test_a_changed_route_is_a_manoeuvre(tmp_path: Path, aside: list[float], manoeuvre: Manoeuvre) -> None:
    run = write_run(tmp_path / "source")
    route = [[k + 2.5, 0.5 + shift] for k, shift in enumerate(aside)]
    change(run / "measurements" / "0001.json.gz", changed_route=True, route=route)
    import_simlingo_data(tmp_path / "source", tmp_path / "out")
    data = Dataset(tmp_path / "out")
    assert data.column("expert_manoeuvre").tolist() == [0, manoeuvre, 0, 0]
    passing = manoeuvre != Manoeuvre.FOLLOW_ROUTE
    assert ("parked_obstacle" in data.frames.column("buckets")[1].as_py()) == passing


def test_runs_that_simlingos_loader_drops_are_left_out_and_counted(tmp_path: Path, capsys) -> None:
    runs = [write_run(tmp_path / "source", number) for number in range(7)]
    write_result(runs[1], 100.0, 70.0, outside_route_lanes=1, min_speed_infractions=2)
    write_result(runs[2], 100.0, 60.0, collisions_vehicle=1)
    write_result(runs[3], 93.0, 93.0)
    write_result(runs[4], 97.0, 97.0)
    (runs[5] / "results.json.gz").unlink()
    (runs[6] / "results.json.gz").write_bytes(b"half a file")
    words = ["import", "simlingo-data", str(tmp_path / "source"), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    reasons = "2 failed, 1 with a broken results.json.gz, 1 without results.json.gz"
    assert f"left out: 4 runs ({reasons})" in said
    episodes = Dataset(tmp_path / "out").episodes.to_pylist()
    assert [row["route"] for row in episodes] == [runs[number].name for number in (0, 1, 4)]
    assert [row["status"] for row in episodes] == ["Perfect", "Completed", "Completed"]
    assert [row["completion_percent"] for row in episodes] == [100.0, 100.0, 97.0]
    assert [set(row["infractions"]) for row in episodes] == [
        set(), {"outside_route_lanes", "min_speed_infractions"}, set()
    ]  # fmt: skip
    for number in (0, 1, 4):
        (runs[number] / "results.json.gz").unlink()
    assert main([*words[:-1], str(tmp_path / "none")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "source: no run is left (2 failed, 1 with a broken" in line


def test_bucket_file_that_would_run_code_and_empty_folder_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "source")
    bad = tmp_path / "bad.pkl"
    bad.write_bytes(pickle.dumps({"all": Path("x")}))
    with pytest.raises(ValueError, match="neither list nor text"):
        import_simlingo_data(tmp_path / "source", tmp_path / "out", bad)
    for content in (b"hello", b"", pickle.dumps([1]), pickle.dumps({"all": 1})):
        bad.write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.pkl: not a bucket file"):
            import_simlingo_data(tmp_path / "source", tmp_path / "out", bad)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="Town"):
        import_simlingo_data(tmp_path / "empty", tmp_path / "out2")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1], "0001.json.gz: not a measurement"),
        ({"ego_matrix": [1, 2]}, "0001.json.gz: not a measurement"),
        ({"route": None}, "0001.json.gz: no 'route' in it"),
        ({"route": "south"}, "0001.json.gz: not a measurement"),
        (b"no gzip", "0001.json.gz"),
    ],
)
def test_a_broken_measurement_is_named_in_one_line(tmp_path: Path, content: object, said: str) -> None:
    file = write_run(tmp_path / "source") / "measurements" / "0001.json.gz"
    if isinstance(content, dict):  # None takes a key away
        whole = json.loads(gzip.decompress(file.read_bytes())) | content
        content = {key: value for key, value in whole.items() if value is not None or key not in content}
    file.write_bytes(content if isinstance(content, bytes) else gzip.compress(json.dumps(content).encode()))
    with pytest.raises(ValueError, match=said) as caught:
        import_simlingo_data(tmp_path / "source", tmp_path / "out")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lost", ["rgb/0002.jpg", "measurements/0002.json.gz"])
def test_a_file_that_is_missing_is_named_with_the_mend(tmp_path: Path, lost: str) -> None:
    file = write_run(tmp_path / "source") / lost
    file.unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=f"{lost}: missing; copy the run anew"):
        import_simlingo_data(tmp_path / "source", tmp_path / "out")


def test_the_command_prints_the_licence_and_what_it_wrote(tmp_path: Path, capsys) -> None:
    write_run(tmp_path / "source")
    assert main(["import", "simlingo-data", str(tmp_path / "source"), "--out", str(tmp_path / "out")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "non-commercial" in said
    assert f"1 episodes, {FRAMES - 10} frames, 0 takeovers" in said
    words = ["import", "simlingo-data", str(tmp_path / "elsewhere"), "--out", str(tmp_path / "out2")]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "elsewhere: no folder Town*_Rep*_*/measurements below it; give" in line
