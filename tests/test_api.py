"""`import takevla` and the page of its API."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path

import takevla

PAGE = Path(__file__).parents[1] / "docs/api.md"


def test_the_examples_of_the_page_do_what_they_say() -> None:
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted >= 7
    assert result.failed == 0


def test_importing_the_package_loads_no_heavy_package() -> None:
    code = (
        "import sys, takevla; print([m for m in ('torch', 'numba', 'numpy', 'panda3d') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_name_is_told_on_the_page_and_no_other_is_offered() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert all(name in page for name in takevla.__all__)
    assert set(takevla.__all__) == set(takevla._API)
