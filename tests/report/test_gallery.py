"""The gallery: a fair choice of takeovers, the right moments, both plans."""

import base64
import io
from pathlib import Path

import numpy as np
from made_up_run import PERIOD_US, TAKEOVER_AT, write_takeovers
from PIL import Image

from takevla.dataset.reader import Dataset
from takevla.report.gallery import chosen, gallery
from takevla.scene.plan import Plan
from takevla.scene.scene import Scene


def test_triggers_take_turns_and_new_scenarios_come_first() -> None:
    rows = [{"trigger": "follow", "scenario": "A"}] * 3 + [
        {"trigger": "follow", "scenario": "B"},
        {"trigger": "rule", "scenario": "A"},
    ]
    picked = chosen(rows, 4)
    assert [row["trigger"] for row in picked] == ["follow", "rule", "follow", "follow"]
    assert picked[2]["scenario"] == "B"
    assert len(chosen(rows, 99)) == len(rows)


def test_cards_show_the_moment_and_give_both_plans_to_the_painter(tmp_path: Path) -> None:
    write_takeovers(tmp_path, episodes=2)
    asked: list[tuple[int, bool, bool]] = []

    def draw(scene: Scene, policy: Plan | None, expert: Plan | None) -> np.ndarray:
        asked.append((scene.time_us, policy is not None, expert is not None))
        return np.full((10, 10, 3), 200, np.uint8)

    cards = gallery(Dataset(tmp_path), draw)
    assert len(cards) == 2
    start = TAKEOVER_AT * PERIOD_US
    assert asked[:3] == [(start + shift, True, True) for shift in (-1_000_000, 0, 1_000_000)]
    picture = base64.b64decode(cards[0].frames[1].birdseye.split(",")[1])
    assert Image.open(io.BytesIO(picture)).size == (10, 10)
    assert cards[0].frames[1].label.startswith("at the takeover")
    assert dict(cards[0].said)["Should have said"].startswith("Brake now")
