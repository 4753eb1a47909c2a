"""What each room of the project holds, and its lines of Python at two revisions: the table in CONTRIBUTING.md.

`python -m benchmarks.rooms` prints it. Tests do not count; measurements do, which were among the tests before.
"""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

# The last revision before the rooms were moved.
BEFORE = "ae1bff4"

FOLDERS = ("kpn_tf", "baselines", "export", "benchmarks")

# What stood elsewhere then, by the room it is in now.
_MOVED = {
    "job": "batch",
    **dict.fromkeys(("simulation.py", "normal_dose.py", "low_dose.py"), "dose"),
    **dict.fromkeys(("pairs.py", "run_folder.py", "slices.py", "training_data.py", "store"), "training"),
}


def lines(revision):
    """Counts the lines of a revision.

    Args:
        revision: As git names it.

    Returns:
        `Counter` of lines by room.
    """
    command = ["git", "grep", "--count", "", revision, "--", *(f"{folder}/*.py" for folder in FOLDERS)]
    counted = Counter()
    for line in subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines():
        _, path, number = line.split(":")
        counted[room(path)] += int(number)
    return counted


def room(path):
    """The room of a module: a package of `kpn_tf`, or one of the other folders.

    Example:

    >>> [room(path) for path in ("kpn_tf/job/belt.py", "kpn_tf/png.py", "export/tflite.py")]
    ['kpn_tf/batch', 'kpn_tf', 'export']
    """
    folder, name, *_ = path.split("/")
    if folder != "kpn_tf":
        return folder
    name = _MOVED.get(name, name)
    return "kpn_tf" if name.endswith(".py") else f"kpn_tf/{name}"


def purpose(name):
    """First line of the docstring of a room."""
    docstring = ast.get_docstring(ast.parse(Path(name, "__init__.py").read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0].rstrip(".")


def table(before, now):
    """The table in Markdown.

    Args:
        before: Lines by room.
        now: The same.

    Returns:
        Its lines.
    """
    rows = [(name, purpose(name), before[name], now[name]) for name in sorted(before | now)]
    rows.append(("**all**", "", before.total(), now.total()))
    return [
        f"| room | what it holds | lines at {BEFORE} | lines now |",
        "|---|---|---:|---:|",
        *(f"| {name} | {holds} | {old:,} | {new:,} |" for name, holds, old, new in rows),
    ]


if __name__ == "__main__":
    print("\n".join(table(lines(BEFORE), lines(sys.argv[1] if len(sys.argv) > 1 else "HEAD"))))
