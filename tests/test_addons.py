"""A SavedModel of today in the last stack with tensorflow-addons: it loads, agrees, and addons train it."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export import Release
from export.saved_model import to_saved_model
from kpn_tf.cli.networks import load_network
from kpn_tf.denoiser.artefact import WEIGHTS_FOLDER
from tests.test_readme import blocks_of

ROOT = Path(__file__).parents[1]
REQUIREMENTS = ROOT / "requirements/addons.txt"
ENVIRONMENT = ROOT / ".venv-addons"
PAGE = ROOT / "docs/serving.md"
(FINE_TUNE,) = (
    block for block in blocks_of(PAGE.read_text(encoding="utf-8")) if "import tensorflow_addons" in block.code
)

OLD_STACK = """\
import json, runpy
import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa

def answers(folder):
    served = tf.saved_model.load(folder)
    slice_hu = np.load("slice.npy")
    stored_hu = np.rint(slice_hu).astype("<i2")
    raw = served.signatures["bytes"](
        slice_bytes=tf.constant([stored_hu[0].tobytes()]),
        rows=tf.constant([slice_hu.shape[1]]),
        columns=tf.constant([slice_hu.shape[2]]),
    )["denoised_bytes"].numpy()[0]
    return {
        "serving_default": served.signatures["serving_default"](slice_hu=tf.constant(slice_hu))["denoised_hu"],
        "int16": served.signatures["int16"](slice_hu=tf.constant(stored_hu, tf.int32))["denoised_hu"],
        "bytes": np.frombuffer(raw, "<i2").reshape(slice_hu.shape),
    }

np.savez("before.npz", **answers("served/1"))
names = runpy.run_path("fine_tune.py")
np.savez("after.npz", **answers("fine_tuned"))
untouched = tf.saved_model.load("served/1").trainable_variables
changed = [bool(np.any(a.numpy() != b.numpy())) for a, b in zip(names["variables"], untouched)]
with open("versions_and_changes.json", "w") as file:
    json.dump({"versions": [tf.__version__, tfa.__version__, np.__version__], "changed": changed}, file)
"""


def interpreter():
    """Python 3.11: TensorFlow 2.15 has no wheels for a newer one."""
    if sys.version_info[:2] == (3, 11):
        return sys.executable
    found = shutil.which("python3.11")
    if not found:
        pytest.skip("TensorFlow 2.15 has no wheels beyond Python 3.11, and there is no python3.11 on PATH")
    return found


@pytest.fixture(scope="module")
def old_python():
    """The interpreter of an environment of requirements/addons.txt, made once."""
    python = interpreter()
    version = subprocess.run([python, "--version"], capture_output=True, text=True, check=True).stdout
    digest = hashlib.sha256(f"{ROOT} {version}".encode() + REQUIREMENTS.read_bytes()).hexdigest()[:16]
    stamp = ENVIRONMENT / f"made-{digest}"
    if not stamp.exists():
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        subprocess.run([python, "-m", "venv", ENVIRONMENT], check=True)
        install = [ENVIRONMENT / "bin/python", "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        patience = ["--retries", "2", "--timeout", "30"]
        pip = subprocess.run(
            [*install, *patience, "--no-deps", "-r", REQUIREMENTS], capture_output=True, text=True
        )
        if pip.returncode:
            pytest.skip(f"pip could not install {REQUIREMENTS.name}: {pip.stderr.strip().splitlines()[-1]}")
        stamp.touch()
    return ENVIRONMENT / "bin/python"


@pytest.fixture(scope="module")
def network():
    return load_network(WEIGHTS_FOLDER / "edge.keras")


@pytest.fixture(scope="module")
def folder(old_python, network, tmp_path_factory):
    """Where the page's block has fine-tuned `served/1` in the old stack."""
    folder = tmp_path_factory.mktemp("addons")
    to_saved_model(network, folder / "served", Release("1", "Apache-2.0", "none"))
    rng = np.random.default_rng(11)
    normal_hu = np.full((2, 48, 56, 1), 40, "float32")
    normal_hu[:, 15:30, 20:40] = 110
    low_hu = (normal_hu + rng.normal(0, 40, normal_hu.shape)).astype("float32")
    np.savez(folder / "pairs.npz", low_hu=low_hu, normal_hu=normal_hu)
    np.save(folder / "slice.npy", rng.normal(0, 200, (1, 37, 51, 1)).astype("float32"))
    (folder / "fine_tune.py").write_text(FINE_TUNE.code, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    finished = subprocess.run(
        [old_python, "-c", OLD_STACK],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    (folder / "printed.txt").write_text(finished.stdout, encoding="utf-8")
    return folder


@pytest.mark.registry
def test_the_old_stack_gives_keras_numbers(folder, network):
    versions = json.loads((folder / "versions_and_changes.json").read_text())["versions"]
    assert versions == ["2.15.1", "0.23.0", "1.26.4"]
    slice_hu = np.load(folder / "slice.npy")
    on_whole_hu = np.asarray(network(np.rint(slice_hu)))
    with np.load(folder / "before.npz") as answers:
        np.testing.assert_allclose(answers["serving_default"], np.asarray(network(slice_hu)), atol=0.05)
        np.testing.assert_allclose(answers["int16"], on_whole_hu, atol=0.55)
        np.testing.assert_allclose(answers["bytes"], on_whole_hu, atol=0.55)


@pytest.mark.registry
def test_rectified_adam_in_lookahead_fine_tunes_every_variable(folder):
    lines = (folder / "printed.txt").read_text().splitlines()
    losses_hu = [float(line.split()[2]) for line in lines if line.startswith("step ")]
    assert len(losses_hu) == 5
    assert losses_hu[-1] < losses_hu[0]
    assert all(json.loads((folder / "versions_and_changes.json").read_text())["changed"])


@pytest.mark.registry
def test_what_was_fine_tuned_is_saved_with_all_signatures(folder):
    with np.load(folder / "before.npz") as before, np.load(folder / "after.npz") as after:
        for name in ("serving_default", "int16", "bytes"):
            assert np.any(before[name] != after[name])
        np.testing.assert_allclose(after["int16"], after["bytes"])
        np.testing.assert_allclose(after["int16"], after["serving_default"], atol=2.0)
