"""README's code runs as written: every python and bash block, in order, in one folder with a small CT series.

A block that cannot run here says why on the line before its fence: `<!-- not run: the reason -->`.
"""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

README = Path(__file__).parents[1] / "README.md"

BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>.+?) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    line: int
    language: str
    code: str
    reason: str | None


def blocks_of(markdown):
    return [
        Block(markdown.count("\n", 0, m.start("code")) + 1, m["language"], m["code"], m["reason"])
        for m in BLOCK.finditer(markdown)
    ]


def runnable():
    """The blocks to run as parameters; slow where several processes export, each of which starts TensorFlow."""
    for block in blocks_of(README.read_text(encoding="utf-8")):
        if block.language in ("python", "bash"):
            slow = [pytest.mark.slow] if block.code.count("kpn export ") > 1 else []
            yield pytest.param(block, marks=slow, id=f"line{block.line}-{block.language}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the blocks run: `ct/` is the series that README's commands and scripts speak of."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "ct").mkdir()
    shutil.copy(get_testdata_file("CT_small.dcm"), folder / "ct")
    return folder


class Script:
    """The python blocks as one script: a later block uses names and files of earlier ones, each of which runs once."""

    def __init__(self):
        blocks = blocks_of(README.read_text(encoding="utf-8"))
        self._waiting = [block for block in blocks if block.language == "python" and not block.reason]
        self._names = {"__name__": "__main__"}

    def run(self, line):
        """Runs what has not run yet, up to a line of README."""
        while self._waiting and self._waiting[0].line <= line:
            block = self._waiting.pop(0)
            # The empty lines make a traceback name README's own line.
            exec(compile("\n" * (block.line - 1) + block.code, README.name, "exec"), self._names)


@pytest.fixture(scope="module")
def script():
    return Script()


@pytest.mark.parametrize("block", list(runnable()))
def test_readme_block_runs(block, folder, script, monkeypatch):
    if block.reason:
        pytest.skip(f"README says: {block.reason}")
    monkeypatch.chdir(folder)
    script.run(block.line)
    if block.language == "bash":
        environment_bin = Path(sys.executable).parent
        monkeypatch.setenv("PATH", str(environment_bin), prepend=":")
        run = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.code], capture_output=True, text=True, timeout=900
        )
        assert run.returncode == 0, run.stdout + run.stderr


def test_a_block_is_found_with_its_line_its_language_and_the_reason_not_to_run_it():
    markdown = (
        "# title\n\n```python\na = 1\n```\n\n"
        "<!-- not run: needs a scanner -->\n```bash\nls\n```\n\n"
        "```text\nx\n```\n"
    )
    assert blocks_of(markdown) == [
        Block(4, "python", "a = 1\n", None),
        Block(9, "bash", "ls\n", "needs a scanner"),
        Block(13, "text", "x\n", None),
    ]
