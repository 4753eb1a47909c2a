"""The training for a GPU takes the steps of the loop, on JAX alone; its data fit into one small file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from benchmarks.gpu_data import NOISE_STEP, TARGET_STEP_HU, packed, read_data, unpacked, write_data
from benchmarks.gpu_training import train as fit_in_parts
from kpn_tf import StructKPN, StructureAwareLoss
from kpn_tf.evaluation import Pair
from kpn_tf.losses import absolute_error
from kpn_tf.networks.saved import load_saved
from kpn_tf.training import TrainingConfig, train
from kpn_tf.training.pairs import SimulatedPairs, TrainingSlice
from kpn_tf.training.run_folder import read_run

CONFIG = TrainingConfig(steps=6, validate_every=3, ema=0.5)

# As on a machine with a GPU, where neither TensorFlow nor what reads DICOM is installed. Keras has one backend.
ON_JAX = """
import sys, time
sys.modules |= dict.fromkeys(("tensorflow", "pydicom", "filelock", "ai_edge_litert"))
from pathlib import Path
import numpy as np
from benchmarks.gpu_training import read_data, steps_until, train
from kpn_tf import StructureAwareLoss
from kpn_tf.networks.saved import load_saved
from kpn_tf.training.config import TrainingConfig
from kpn_tf.training.pairs import SimulatedPairs

folder, config = Path(sys.argv[1]), TrainingConfig(steps=6, validate_every=3, ema=0.5)
slices, validation = read_data(folder / "data.npz")
pairs = SimulatedPairs(slices, batch_size=2, steps=6, patch=32, seed=5)
network = load_saved(folder / "first.keras")
before = [np.array(weight) for weight in network.get_weights()]
assert steps_until(time.monotonic(), network, pairs, StructureAwareLoss(), validation) == 1
assert all(np.array_equal(a, b) for a, b in zip(before, network.get_weights(), strict=True))
train(network, pairs, config, StructureAwareLoss(), validation, folder / "fitted")
best = load_saved(folder / "fitted/best.keras")
np.save(folder / "denoised.npy", best(validation[0].low_hu[None, :, :, None]))
"""


def slices(count=5):
    """An elliptic body in air, small and wide, with noise of deviation one."""
    rng = np.random.default_rng(1)
    y, x = np.indices((70, 96)) - np.array([35, 48])[:, None, None]
    for number in range(count):
        body = (y / 30) ** 2 + (x / 36) ** 2 < 1
        normal_hu = np.where(body, 40 + 20 * ((x + y) % 32 < 16) + number, -1000).astype("float32")
        noise = rng.normal(size=(3, *y.shape)).astype("float16")
        yield TrainingSlice(normal_hu, noise, 8.0 + number, 0.1 * number + 0.1)


def validation_pair():
    rng = np.random.default_rng(3)
    normal_hu = np.where(np.indices((40, 44)).sum(0) % 32 < 16, 60.0, 20.0).astype("float32")
    low_hu = (normal_hu + rng.normal(0, 20, normal_hu.shape)).astype("float32")
    return Pair(low_hu, normal_hu, "patient", "slice", (0.8, 0.8))


@pytest.mark.parametrize("step", [1.0, 2.0, 0.25])
def test_a_packed_image_comes_back_to_half_a_step(step):
    image = np.random.default_rng(4).normal(0, 300, (11, 7))
    image[2, 3], image[5, 0] = 3071, -1024
    np.testing.assert_allclose(unpacked(packed(image, step), (11, 7), step), image, rtol=0, atol=step / 2)


def test_the_file_holds_the_body_one_of_its_noise_fields_and_the_validation_pairs(tmp_path):
    given = list(slices())
    assert write_data(tmp_path / "data.npz", given, [validation_pair()], 1.0) == len(given)
    read, (pair,) = read_data(tmp_path / "data.npz")
    np.testing.assert_allclose(pair.low_hu, validation_pair().low_hu, atol=0.5)
    np.testing.assert_allclose(pair.normal_hu, validation_pair().normal_hu, atol=0.5)
    fields = set()
    for before, after in zip(given, read, strict=True):
        assert (after.noise_std_hu, after.weight) == (before.noise_std_hu, before.weight)
        rows, columns = after.normal_hu.shape
        assert 54 <= rows < 61
        assert 66 <= columns < 73
        # The body is symmetric, and so is the box.
        top, left = (70 - rows + 1) // 2, (96 - columns + 1) // 2
        box = slice(top, top + rows), slice(left, left + columns)
        np.testing.assert_allclose(after.normal_hu, before.normal_hu[box], atol=TARGET_STEP_HU / 2)
        (noise,) = after.noise
        errors = [np.abs(noise - field[box]).max() for field in before.noise.astype("float32")]
        assert min(errors) <= NOISE_STEP / 2
        fields.add(int(np.argmin(errors)))
    assert len(fields) > 1


def test_a_smaller_file_holds_fewer_slices_evenly_spread(tmp_path):
    size = 0.02
    count = write_data(tmp_path / "data.npz", list(slices(9)), [], size)
    assert 2 <= count < 9
    assert (tmp_path / "data.npz").stat().st_size <= size * 1e6
    kept = [one.noise_std_hu - 8 for one in read_data(tmp_path / "data.npz")[0]]
    assert kept == list(np.linspace(0, 8, count).round())
    with pytest.raises(ValueError, match=r"Expected room for a slice. Received: 0.001 MB"):
        write_data(tmp_path / "data.npz", list(slices(2)), [], 0.001)


def expect_one_record(fitted, looped):
    """Two run folders tell of the same steps and checkpoints."""
    ours, theirs = read_run(fitted).checkpoints, read_run(looped).checkpoints
    assert len(ours) == len(theirs) == 2
    assert ours[-1]["step"] == CONFIG.steps
    for mine, their in zip(ours, theirs, strict=True):
        assert mine.pop("seconds") > 0 < their.pop("seconds")
        assert mine == pytest.approx(their, rel=1e-4)
    ours, theirs = (json.loads((folder / "run.json").read_text()) for folder in (fitted, looped))
    assert ours.keys() == theirs.keys()
    for key in ("config", "network", "precision", "loss", "pairs"):
        assert ours[key] == theirs[key]


def test_fit_in_parts_averages_validates_and_records_as_the_loop_does(tmp_path):
    pairs = SimulatedPairs(list(slices()), batch_size=2, steps=6, patch=32, seed=5)
    keras.utils.set_random_seed(2)
    network = keras.Sequential([keras.Input((None, None, 1)), keras.layers.Conv2D(1, 3, padding="same")])
    again = keras.models.clone_model(network)
    again.set_weights(network.get_weights())
    given = {"loss": absolute_error, "validation": [validation_pair()]}
    fit_in_parts(again, pairs, CONFIG, **given, out=tmp_path / "fitted")
    train(network, pairs, CONFIG, **given, run=tmp_path / "looped", progress=False)
    expect_one_record(tmp_path / "fitted", tmp_path / "looped")
    fitted, looped = (
        keras.saving.load_model(tmp_path / name / "best.keras") for name in ("fitted", "looped")
    )
    for ours, theirs in zip(fitted.get_weights(), looped.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    with pytest.raises(FileExistsError, match="Expected a new folder"):
        fit_in_parts(again, pairs, CONFIG, **given, out=tmp_path / "fitted")


@pytest.mark.slow
def test_jax_alone_takes_the_steps_of_the_loop_and_keeps_the_same_record(tmp_path):
    write_data(tmp_path / "data.npz", list(slices()), [validation_pair()], 1.0)
    drawn, validation = read_data(tmp_path / "data.npz")
    pairs = SimulatedPairs(drawn, batch_size=2, steps=6, patch=32, seed=5)
    keras.utils.set_random_seed(2)
    network = StructKPN("edge", blocks=1, channels=8)
    network.save(tmp_path / "first.keras")
    finished = subprocess.run(
        [sys.executable, "-c", ON_JAX, tmp_path],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert finished.returncode == 0, finished.stderr
    train(
        network,
        pairs,
        CONFIG,
        loss=StructureAwareLoss(),
        validation=validation,
        run=tmp_path / "looped",
        progress=False,
    )
    expect_one_record(tmp_path / "fitted", tmp_path / "looped")
    assert "jax" in json.loads((tmp_path / "fitted/run.json").read_text())["versions"]

    # Weights that JAX wrote denoise on TensorFlow as they do on JAX, and as those of the loop.
    low_hu = validation[0].low_hu[None, :, :, None]
    best, loops = (load_saved(tmp_path / name / "best.keras") for name in ("fitted", "looped"))
    np.testing.assert_allclose(best(low_hu), np.load(tmp_path / "denoised.npy"), atol=0.01)
    np.testing.assert_allclose(best(low_hu), loops(low_hu), atol=0.05)
