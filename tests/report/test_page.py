"""The report: self-contained, complete, and silent about what was not run only where it says so."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_up_run import write_evaluation, write_run

from takevla.report.page import render, write_report
from takevla.report.run_directory import read_run

SECTIONS = ("figures", "abilities", "routes", "ttc", "takeovers-1", "sft-1", "dream-1", "run", "reading")
VOID = {"meta", "img", "br", "hr", "link", "input"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run")
    write_run(path)
    return path


class Balance(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_every_section_is_there_and_tags_balance(run: Path) -> None:
    text = write_report(run).read_text()
    for section in SECTIONS:
        assert f'id="{section}"' in text
        assert f'href="#{section}"' in text
    parser = Balance()
    parser.feed(text)
    assert parser.open == []


def test_the_page_needs_nothing_from_outside(run: Path) -> None:
    text = render(read_run(run))
    fetched = re.findall(r'(?:src|href)="([^"#][^"]*)"', text)
    assert fetched
    assert all(one.startswith("data:") for one in fetched)
    assert not re.search(r"@import|url\((?!#)", text)


def test_the_same_run_gives_the_same_page(run: Path) -> None:
    assert render(read_run(run)) == render(read_run(run))


def test_takeovers_show_pictures_and_what_was_said(run: Path) -> None:
    text = render(read_run(run))
    assert text.count('class="card"') == 5
    assert text.count('<img class="camera"') == 15
    for said in ("Maintain your speed", "Brake now, the pedestrian", "Slow down to 2 m/s"):
        assert said in text


def test_dreams_show_what_was_tried_before_and_after(run: Path) -> None:
    text = render(read_run(run))
    assert text.count('aria-label="Sampled plans of a follow dream before and after"') == 1
    assert "before: reward 0.10," in text
    assert "sampled mean 0.25" in text
    assert "after: reward 0.60," in text
    assert "sampled mean 0.70" in text
    assert "FOLLOW, r1-t0" in text


def test_figures_of_the_page_are_those_of_metrics(run: Path) -> None:
    text = render(read_run(run))
    for side in ("base_eval", "final_eval"):
        score = json.loads((run / side / "metrics.json").read_text())["driving_score"]
        assert f"{score:.2f}" in text


def test_what_was_not_run_is_left_out_and_said(tmp_path: Path, run: Path) -> None:
    write_evaluation(tmp_path / "base_eval", 0.6, 1)
    shutil.copytree(run / "rounds" / "1" / "sft", tmp_path / "rounds" / "1" / "sft")
    text = render(read_run(tmp_path))
    for section in ("takeovers-1", "dream-1", "routes"):
        assert f'id="{section}"' not in text
    assert 'id="sft-1"' in text
    assert "dreaming in round 1" in text
    assert "evaluation of the post-trained model" in text
    assert "nothing to compare it with yet" in text


def test_names_from_files_cannot_inject_markup(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "base_eval", 0.6, 1)
    path = tmp_path / "base_eval" / "metrics.json"
    content = json.loads(path.read_text())
    content["per_route"][0]["town"] = "<script>alert(1)</script>"
    path.write_text(json.dumps(content))
    assert "<script>alert(1)" not in render(read_run(tmp_path))


def test_a_folder_without_a_run_or_with_broken_json_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no run directory"):
        read_run(tmp_path)
    (tmp_path / "base_eval").mkdir()
    (tmp_path / "base_eval" / "metrics.json").write_text("{")
    with pytest.raises(ValueError, match=r"metrics\.json: not valid JSON"):
        read_run(tmp_path)
