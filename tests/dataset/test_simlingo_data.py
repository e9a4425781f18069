import gzip
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from takevla.cli import main
from takevla.dataset.reader import Dataset
from takevla.dataset.simlingo import import_simlingo_data
from takevla.learn.pretrain import BUCKET_WEIGHTS, frame_strata
from takevla.scene.plan import Cause
from takevla.scene.sight import UNSEEN_KIND

SPEED_MPS = 4.0
FRAMES = 14  # of which the last ten have no plan


def write_run(folder: Path) -> Path:
    """A straight run along x at 4 m/s, behind a red light from the third frame on."""
    run = folder / "data" / "simlingo" / "training" / "routes" / "chunk" / "Town12_Rep0_route_000"
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
            "speed_reduced_by_obj_distance": 12.0 if red else None,
        }  # fmt: skip
        with gzip.open(run / "measurements" / f"{index:04d}.json.gz", "wt") as file:
            json.dump(content, file)
        Image.new("RGB", (64, 32), (index, 0, 0)).save(run / "rgb" / f"{index:04d}.jpg")
    return run


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
