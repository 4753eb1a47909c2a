"""What one module does for all is done by no other: child processes, and files that appear atomically."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("kpn_tf", "baselines", "export")
    for path in (ROOT / folder).rglob("*.py")
)


def calls(code):
    """`(receiver, name, arguments)` of each call in source code."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call):
            receiver = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
            name = ast.unparse(node.func).rpartition(".")[2]
            yield receiver, name, len(node.args) + len(node.keywords)


def moves_files(code):
    """Whether it names or replaces files by itself; of text and dataclasses `replace` takes two arguments or more."""
    return any(
        name in ("rename", "renames", "mkstemp", "NamedTemporaryFile")
        or (receiver == "os" and name == "replace")
        or (receiver == "shutil" and name == "move")
        or (name == "replace" and receiver and arguments == 1)
        # `part` is what `kpn_tf.files` lends.
        or (name in ("write_text", "write_bytes") and receiver not in ("", "part"))
        for receiver, name, arguments in calls(code)
    )


def starts_children(code):
    return any(
        name in ("Popen", "fork", "Process", "ProcessPoolExecutor") or receiver == "multiprocessing"
        for receiver, name, _ in calls(code)
    )


@pytest.mark.parametrize(
    ("does", "owner"), [(moves_files, "kpn_tf/files.py"), (starts_children, "kpn_tf/child_process.py")]
)
def test_one_module_does_it_for_all(does, owner):
    assert [name for name in MODULES if does((ROOT / name).read_text(encoding="utf-8"))] == [owner]


@pytest.mark.parametrize(
    "code",
    [
        "os.replace(a, b)",
        "os.rename(a, b)",
        "part.replace(path)",
        "path.rename(other)",
        "path.write_text(text)",
    ],
)
def test_a_file_that_is_moved_or_written_elsewhere_would_be_found(code):
    assert moves_files(code)


@pytest.mark.parametrize(
    "code", ["text.replace('a', 'b')", "replace(work, error=1)", "part.write_bytes(b'')"]
)
def test_text_and_what_the_module_lends_are_left_alone(code):
    assert not moves_files(code)
