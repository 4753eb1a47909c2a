"""What Windows lacks is used nowhere, and the commands of a workstation run without it.

Tried on Linux, with what Windows lacks taken away: how Windows treats open files and names is not tried here.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import JPEGLSLossless

from kpn_tf.cli import serve_dicom
from tests.command import BOX, kpn
from tests.ct_series import write_ct_series

ROOT = Path(__file__).parents[1]

# Library reference of Python, "Availability: Unix" or "not Windows".
MODULES = {
    "curses",
    "fcntl",
    "grp",
    "posix",
    "pty",
    "pwd",
    "readline",
    "resource",
    "syslog",
    "termios",
    "tty",
}
OS = {
    "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "WNOHANG", "chown", "fchmod", "fchown", "fork", "forkpty",
    "getegid", "geteuid", "getgid", "getgroups", "getloadavg", "getpgid", "getuid", "killpg", "mkfifo", "nice",
    "posix_fadvise", "pread", "pwrite", "sched_getaffinity", "setsid", "setuid", "statvfs", "sync", "sysconf", "uname",
}  # fmt: skip
# All signals that Windows has and these packages need.
SIGNALS = {"SIGINT", "SIGTERM"}
CHILD = {"close_fds", "pass_fds", "preexec_fn", "process_group", "start_new_session", "umask"}

# The standard library itself needs the rest of `OS` where it runs on Linux.
TAKEN_AWAY = OS - {"WNOHANG", "O_CLOEXEC", "O_NONBLOCK", "statvfs", "sysconf", "uname"}

# Imported by every Python that is started with this folder on its path, a child's child too.
SITECUSTOMIZE = """
import os, pathlib, sys


class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {modules!r}:
            raise ModuleNotFoundError(name + " is not there on Windows")


for name in {modules!r} - {{"posix"}}:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Blocked())
for name in {names!r}:
    if hasattr(os, name):
        delattr(os, name)
pathlib.Path({folder!r}, "process-" + str(os.getpid())).touch()
"""


def product_files():
    return [path for package in ("kpn_tf", "baselines", "export") for path in (ROOT / package).rglob("*.py")]


def used(path):
    """What a module uses that Windows does not have, by name."""
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in MODULES:
            yield node.module
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{node.value.id}.{node.attr}"
            asked = f'hasattr(os, "{node.attr}")' in text
            if node.value.id == "os" and node.attr in OS and not asked:
                yield name
            is_signal = node.value.id == "signal" and node.attr.startswith("SIG") and node.attr[3] != "_"
            if is_signal and node.attr not in SIGNALS:
                yield name
        elif isinstance(node, ast.keyword) and node.arg in CHILD | {"dir_fd"}:
            yield node.arg


def test_no_module_uses_what_windows_lacks():
    found = {str(path.relative_to(ROOT)): list(used(path)) for path in product_files()}
    assert len(found) > 100
    assert {path: names for path, names in found.items() if names} == {}


def test_what_windows_lacks_is_found(tmp_path):
    module = tmp_path / "module.py"
    module.write_text(
        "import os, signal, fcntl\nfrom pwd import getpwuid\nos.fork()\nos.kill(1, signal.SIGKILL)\n"
        'run(preexec_fn=print)\nhasattr(os, "pread") and os.pread(0, 1, 2)\n'
    )
    assert sorted(used(module)) == ["fcntl", "os.fork", "preexec_fn", "pwd", "signal.SIGKILL"]


@pytest.fixture
def run_as_on_windows(tmp_path):
    """Function that runs `kpn` in a process without what Windows lacks; returns what it printed."""
    site, processes = tmp_path / "site", tmp_path / "processes"
    site.mkdir()
    processes.mkdir()
    text = SITECUSTOMIZE.format(modules=MODULES, names=TAKEN_AWAY, folder=str(processes))
    (site / "sitecustomize.py").write_text(text)

    def run(*words):
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)]),
            # filelock says that it has no locks where neither Windows's nor those of POSIX are there.
            "PYTHONWARNINGS": "ignore::UserWarning",
        }
        call = [sys.executable, "-P", "-m", "kpn_tf.cli", *map(str, words)]
        done = subprocess.run(
            call, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr
        assert list(processes.iterdir()) != []
        return done.stdout

    return run


@pytest.fixture
def compressed(tmp_path):
    """A folder with a series that a process of its own decodes."""
    for path in write_ct_series(tmp_path / "in", slices=3):
        dataset = pydicom.dcmread(path)
        dataset.compress(JPEGLSLossless)
        dataset.save_as(path)
    return tmp_path / "in"


def test_info_runs_without_what_windows_lacks(run_as_on_windows):
    assert "kpn_tf" in run_as_on_windows("info")


def test_denoise_and_its_child_run_without_what_windows_lacks(run_as_on_windows, compressed, tmp_path):
    out = run_as_on_windows("denoise", compressed, tmp_path / "out", "--weights", BOX)
    assert out.startswith("series ")
    (folder,) = (tmp_path / "out").iterdir()
    assert len(list(folder.glob("*.dcm"))) == 3
    assert len(list((tmp_path / "processes").iterdir())) == 2


def test_report_runs_without_what_windows_lacks(run_as_on_windows, compressed, tmp_path):
    run_as_on_windows("report", compressed, tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 0


def test_quality_runs_without_what_windows_lacks(run_as_on_windows, compressed, tmp_path):
    run_as_on_windows("quality", compressed, tmp_path / "measured", "--denoiser", BOX)
    assert (tmp_path / "measured" / "quality.md").stat().st_size > 0


@pytest.mark.slow
def test_export_runs_without_what_windows_lacks(run_as_on_windows, tmp_path):
    run_as_on_windows("export", "edge", tmp_path / "edge.tflite")
    assert (tmp_path / "edge.tflite").stat().st_size > 0


def test_the_node_says_in_one_sentence_that_it_does_not_run_on_windows(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(serve_dicom.sys, "platform", "win32")
    assert kpn("serve-dicom", tmp_path / "node.toml") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("kpn serve-dicom: Expected Linux or macOS")
