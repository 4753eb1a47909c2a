"""docs/figures.md holds: its code runs as written, in order, and draws the pictures that it shows."""

import re
from pathlib import Path

import pytest

from tests.test_readme import blocks_of

PAGE = Path(__file__).parents[1] / "docs/figures.md"


def test_the_code_of_the_page_draws_its_pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    markdown, names = PAGE.read_text(encoding="utf-8"), {}
    for block in blocks_of(markdown):
        # The empty lines make a traceback name the page's own line.
        exec(compile("\n" * (block.line - 1) + block.code, PAGE.name, "exec"), names)
    shown = re.findall(r"\(images/(\S+)\)", markdown)
    assert shown == ["structure.png", "training.svg"]
    for name in shown:
        assert (tmp_path / name).stat().st_size > 10_000
        assert (PAGE.parent / "images" / name).stat().st_size < 150_000
    pillow = pytest.importorskip("PIL.Image")
    with (
        pillow.open(tmp_path / "structure.png") as drawn,
        pillow.open(PAGE.parent / "images/structure.png") as kept,
    ):
        assert drawn.size == kept.size
