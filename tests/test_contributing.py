"""What CONTRIBUTING and the docs say of the code is there."""

import ast
import configparser
import re
from pathlib import Path

import pytest

from benchmarks.rooms import FOLDERS, room

ROOT = Path(__file__).parents[1]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/weights/*.md")]


def section(title):
    return CONTRIBUTING.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def floors(lines):
    return [sorted(re.findall(r"\w+", line)) for line in lines]


def test_the_floors_are_those_that_imports_are_held_to():
    written = [
        re.split(r"  +", line)[1] for line in section("Floors").splitlines() if line.startswith("    ")
    ]
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    held = contracts["importlinter:contract:floors"]["layers"].strip().splitlines()
    assert floors(written) == floors(held)


def test_the_walk_has_eight_steps_which_are_all_there():
    steps = re.findall(r"^\d\. `(\w+)` in `([\w/]+\.py)`", section("A walk"), re.MULTILINE)
    assert len(steps) == 8
    for name, path in steps:
        module = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        named = {node.name for node in module.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        assert name in named, (name, path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_links_to_what_is_there_and_runs_no_tests_as_programs(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!\w+:)([^)#\s]+)", text):
        assert (page.parent / target).exists(), target
    assert "-m tests" not in text
    for name in re.findall(r"python -m (benchmarks\.\w+)", text):
        assert (ROOT / f"{name.replace('.', '/')}.py").exists(), name


def test_the_index_leads_to_every_page():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = {page.name for page in ROOT.glob("docs/*.md")} - {"index.md"}
    assert pages - set(re.findall(r"\]\((\w+\.md)\)", index)) == set()


def test_the_table_of_rooms_names_every_room():
    written = re.findall(r"^\| ([\w/]+) \|", section("Rooms"), re.MULTILINE)
    modules = [path.relative_to(ROOT).as_posix() for one in FOLDERS for path in (ROOT / one).rglob("*.py")]
    assert written[1:] == sorted({room(path) for path in modules})


def test_nothing_cites_a_document_that_is_not_here():
    known = {path.name for path in ROOT.glob("*.md")}
    for path in [*PAGES, *(path for one in (*FOLDERS, "tests") for path in (ROOT / one).rglob("*.py"))]:
        for name in re.findall(r"\b[A-Z_]{4,}\.md\b", path.read_text(encoding="utf-8")):
            assert name in known, (path.name, name)


# What readers stumbled over; the plain word is in brackets.
ODD = [
    r"the judge\b|judge_hu",  # reference
    r"so many-th",  # n-th
    r"whole or not at all",  # atomically
    r"goes on behind",  # resumes after
    r"unproved",  # every export is verified
    r"\b[Ww]ants nothing but",  # needs only
    r"graphics adapter",  # GPU
    r"white noise left",  # residual noise
    r"quiet target|\bspill\b",  # low-noise target, scratch store
    r"exhume|hushed|\bscribe\b|ill-bred",  # retry, silenced, writer, malformed
]


def test_plain_words_stand_where_odd_ones_stood():
    pages = [page for page in PAGES if page.name != "CHANGELOG.md"]
    for path in [*pages, *(path for one in FOLDERS for path in (ROOT / one).rglob("*.py"))]:
        found = re.findall("|".join(ODD), path.read_text(encoding="utf-8"))
        assert not found, (path.name, found)
