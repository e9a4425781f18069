"""The hub's API is replaced by folders of this machine."""

import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError, LocalTokenNotFoundError
from tiny_vla import tiny_model, tiny_tokenizer

from takevla.cli import main
from takevla.driver.vla.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from takevla.driver.vla.named import model_folder
from takevla.driver.vla.repository import is_repository, push_checkpoint
from takevla.driver.vla.residual import ResidualHead
from takevla.world.camera.rig import Rig


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "hub"

    class Api:
        def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> str:
            assert exist_ok
            (folder / repo_id).mkdir(parents=True, exist_ok=True)
            (folder / repo_id / "private").write_text(str(private))
            return f"https://hub/{repo_id}"

        def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
            shutil.copytree(folder_path, folder / repo_id, dirs_exist_ok=True)

    def download(repo_id: str) -> str:
        if not (folder / repo_id).is_dir():
            raise LocalEntryNotFoundError("nothing in the cache,\nand no network")
        return str(folder / repo_id)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tiny = tiny_model()
    head = ResidualHead(2 * tiny.config.width)
    save_checkpoint(tmp_path / "model", Checkpoint(tiny, tiny_tokenizer(), head, Rig(96, 32)))
    return tmp_path / "model"


def test_what_was_pushed_comes_back_whole(hub: Path, model: Path, capsys) -> None:
    assert main(["push", str(model), "someone/driver"]) == 0
    assert "https://hub/someone/driver" in capsys.readouterr().out
    assert (hub / "someone/driver/private").read_text() == "True"
    one, other = load_checkpoint(model), load_checkpoint(model_folder("someone/driver"))
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name])
    for name, value in one.residual.state_dict().items():
        assert torch.equal(value, other.residual.state_dict()[name])
    assert other.rig == Rig(96, 32)
    assert other.tokenizer.get_vocab() == one.tokenizer.get_vocab()


def test_a_folder_goes_before_the_hub(hub: Path, model: Path, tmp_path: Path) -> None:
    push_checkpoint(model, "someone/driver", private=False)
    assert (hub / "someone/driver/private").read_text() == "False"
    shutil.copytree(model, tmp_path / "someone" / "driver")
    assert model_folder("someone/driver") == Path("someone/driver")
    shutil.rmtree(tmp_path / "someone" / "driver")  # a name mistyped below a folder asks nobody
    with pytest.raises(FileNotFoundError, match="no such checkpoint folder; give 'shipped'"):
        model_folder("someone/driver")


def test_only_owner_and_name_are_asked_of_the_hub(hub: Path) -> None:
    assert is_repository("someone/driver-1.0")
    hub.mkdir()
    for name in ("driver", "a/b/c", "./driver", "/a/b", "../driver", "~/driver", "hub/driver"):
        assert not is_repository(name)


def test_out_of_reach_is_one_line(hub: Path, model: Path, monkeypatch, capsys) -> None:
    assert main(["watch", "30000", "--driver", "someone/else", "--out", "a.mp4"]) == 2
    said = capsys.readouterr().err
    assert "someone/else: no such checkpoint folder, and the hub does not give it" in said
    assert said.count("\n") == 1

    class Api:
        def create_repo(self, *args: object, **kwargs: object) -> str:
            raise LocalTokenNotFoundError("no token")

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert main(["push", str(model), "someone/driver"]) == 2
    said = capsys.readouterr().err
    assert "the hub does not take it (no token)" in said
    assert said.count("\n") == 1


def test_what_is_no_checkpoint_is_not_pushed(hub: Path, model: Path) -> None:
    with pytest.raises(ValueError, match="owner/name"):
        push_checkpoint(model, "driver")
    (model / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no tokenizer\.json"):
        push_checkpoint(model, "someone/driver")
    assert not hub.exists()
