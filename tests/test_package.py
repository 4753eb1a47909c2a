"""What `pip install` puts on a machine: three packages, and a light base that denoises without TensorFlow."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file

ROOT = Path(__file__).parents[1]
PACKAGES = ("baselines", "export", "kpn_tf")

# What a scanner workstation runs.
BASE_MODULES = (
    "kpn_tf",
    "kpn_tf.hounsfield",
    "kpn_tf.dicom",
    "kpn_tf.dose.simulation",
    "kpn_tf.phantom",
    "kpn_tf.metrics",
    "kpn_tf.denoiser",
    "kpn_tf.evaluation",
    "kpn_tf.datasets",
    "kpn_tf.quality",
    "kpn_tf.batch",
    "kpn_tf.report",
    "kpn_tf.demo",
    "kpn_tf.figures",
    "kpn_tf.cli",
)
WHAT_EXTRAS_BRING = ("tensorflow", "keras", "jax", "scipy", "skimage", "bm3d", "matplotlib", "distributed")


def run(*command, cwd, check=True):
    """Runs a command that sees nothing of this checkout and this environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    finished = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)
    if check:
        assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from the source distribution, which is built from what this checkout ships."""
    source = tmp_path_factory.mktemp("source")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("LICENSE", "README.md", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "build", "--no-isolation", cwd=source)
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def workstation(wheel, tmp_path_factory):
    """An empty environment with the wheel, and what the wheel asks for at the versions `make demo` has."""
    folder = tmp_path_factory.mktemp("workstation")
    lock = (ROOT / "requirements/demo.txt").read_text(encoding="utf-8")
    constraints = folder / "constraints.txt"
    constraints.write_text(
        "\n".join(re.findall(r"^([\w.-]+==[^\\\n]+?) *\\?$", lock, re.MULTILINE)), encoding="utf-8"
    )
    run(sys.executable, "-m", "venv", str(folder), cwd=folder)
    python = folder / "bin/python"
    run(python, "-m", "pip", "install", "-qq", "--constraint", constraints, wheel, cwd=folder)
    return folder


def test_the_wheel_installs_exactly_three_top_level_packages(contents):
    assert {name.split("/")[0] for name in contents} == set(PACKAGES)


def test_the_wheel_holds_every_module_and_every_weight_on_disk_and_nothing_else(contents):
    on_disk = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    on_disk += [ROOT / name / "py.typed" for name in PACKAGES]
    on_disk += [ROOT / "kpn_tf/node/status/page.html", ROOT / "kpn_tf/study/sheet.html"]
    for folder in ("kpn_tf/weights", "kpn_tf/report/page", "baselines/weights"):
        on_disk += [path for path in (ROOT / folder).glob("*") if path.is_file()]
    assert contents == {path.relative_to(ROOT).as_posix() for path in on_disk}


def test_the_wheel_states_its_licence_and_the_python_it_needs(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        headers = message_from_bytes(archive.read(metadata))
        assert metadata.replace("METADATA", "licenses/LICENSE") in archive.namelist()
    assert headers["License-Expression"] == "Apache-2.0"
    assert headers["Requires-Python"] == ">=3.11"


def test_the_base_install_asks_for_nothing_that_an_extra_brings(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        asked = message_from_bytes(archive.read(metadata)).get_all("Requires-Dist")
    base = {re.match(r"[\w.-]+", one)[0] for one in asked if "extra ==" not in one}
    assert base == {
        "ai-edge-litert",
        "filelock",
        "numpy",
        "pydicom",
        "pyjpegls",
        "pylibjpeg",
        "pylibjpeg-openjpeg",
        "python-gdcm",
        "tqdm",
    }


def test_importing_the_package_loads_the_standard_library_alone(tmp_path):
    script = (
        "import sys; before = set(sys.modules); import kpn_tf; loaded = set(sys.modules) - before\n"
        "print(*sorted({name.partition('.')[0] for name in loaded} - sys.stdlib_module_names))"
    )
    assert run(sys.executable, "-c", script, cwd=tmp_path).stdout.split() == ["kpn_tf"]


@pytest.mark.parametrize("module", BASE_MODULES)
def test_importing_what_a_workstation_runs_loads_nothing_that_an_extra_brings(module, tmp_path):
    script = f"import sys, {module}; print(*(name for name in {WHAT_EXTRAS_BRING} if name in sys.modules))"
    assert run(sys.executable, "-W", "error", "-c", script, cwd=tmp_path).stdout.split() == []


@pytest.mark.registry
def test_a_wheel_alone_in_an_empty_environment_has_all_it_needs_and_no_tensorflow(workstation):
    run(workstation / "bin/python", "-m", "pip", "check", cwd=workstation)
    script = f"from importlib.util import find_spec; print(*filter(find_spec, {WHAT_EXTRAS_BRING}))"
    assert run(workstation / "bin/python", "-c", script, cwd=workstation).stdout.split() == []


@pytest.mark.registry
def test_a_wheel_alone_in_an_empty_environment_denoises_a_ct_slice(workstation, tmp_path):
    source = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    source.save_as(tmp_path / "slice.dcm")
    run(workstation / "bin/kpn", "denoise", "slice.dcm", "denoised", cwd=tmp_path)
    (written,) = (path for path in (tmp_path / "denoised").rglob("*") if path.is_file())
    denoised = pydicom.dcmread(written)
    assert denoised.StudyInstanceUID == source.StudyInstanceUID
    assert denoised.SeriesInstanceUID != source.SeriesInstanceUID
    assert denoised.pixel_array.shape == source.pixel_array.shape
    assert (denoised.pixel_array != source.pixel_array).any()


@pytest.mark.registry
@pytest.mark.parametrize("name", ["LocalConv", "StructKPN", "StructureAwareLoss"])
def test_a_public_name_without_its_extra_says_in_one_line_how_to_install_it(workstation, name):
    finished = run(
        workstation / "bin/python", "-c", f"import kpn_tf; kpn_tf.{name}", cwd=workstation, check=False
    )
    assert finished.returncode != 0
    assert "in a checkout, pip install '.[train]'" in finished.stderr.splitlines()[-1]


@pytest.mark.registry
def test_a_command_without_its_extra_says_in_one_line_how_to_install_it(workstation, tmp_path):
    finished = run(workstation / "bin/kpn", "train", "ct", "ct", "run", cwd=tmp_path, check=False)
    assert finished.returncode != 0
    (line,) = finished.stderr.splitlines()
    assert "in a checkout, pip install '.[train]'" in line
