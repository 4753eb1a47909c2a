"""Weights of the baselines come in half precision, load in Keras, and say how they were trained."""

import json
import shutil

import keras
import numpy as np
import pytest

from baselines import shipped
from baselines.benchmark import cost, ship
from baselines.benchmark.methods import new_network
from baselines.benchmark.tables import TABLES, methods
from kpn_tf import cli
from kpn_tf.cli.networks import load_network
from kpn_tf.metrics import psnr
from kpn_tf.networks import StructKPN, load_saved
from kpn_tf.phantom import torso
from tests.noisy_torso import noisy_volume, write_torso

TRAINED = {method.name: method for method in methods(TABLES) if method.is_trained}


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(3)
    return StructKPN("edge")


@pytest.fixture(scope="module")
def runs(network, tmp_path_factory):
    """A folder of runs with one finished training."""
    folder = tmp_path_factory.mktemp("runs")
    training = folder / "trainings" / "edge-k21-l1-seed0-0123456789ab"
    training.mkdir(parents=True)
    network.save(training / "best.keras")
    (training / "run.json").write_text(json.dumps({"config": {"steps": 7}}))
    (training / "log.jsonl").write_text(json.dumps({"step": 7, "loss": 0.5}) + "\n")
    (folder / "rows").mkdir()
    kept = {"name": "", "key": {"seed": 0}, "result": {"steps": 7}}
    (folder / "rows" / "training-edge-k21-l1-seed0-0123456789ab.json").write_text(json.dumps(kept))
    return folder


def test_half_the_precision_is_half_the_file_and_the_same_network(runs, network, tmp_path):
    ship.take(runs, "edge-k21-l1", tmp_path)
    (full,) = runs.glob("trainings/*/best.keras")
    small = tmp_path / "edge-k21-l1.keras"
    assert small.stat().st_size < 0.6 * full.stat().st_size
    loaded = keras.saving.load_model(small, compile=False)
    for before, after in zip(network.variables, loaded.variables, strict=True):
        assert after.dtype == "float32"
        np.testing.assert_array_equal(after.numpy(), before.numpy().astype("float16").astype("float32"))


def test_the_record_says_what_decided_the_training_and_how_it_went(runs, tmp_path, monkeypatch):
    ship.take(runs, "edge-k21-l1", tmp_path)
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    assert shipped.names() == ["edge-k21-l1"]
    assert shipped.record("edge-k21-l1") == {
        "key": {"seed": 0},
        "training": {"steps": 7},
        "run": {"config": {"steps": 7}},
        "log": [{"step": 7, "loss": 0.5}],
    }
    assert shipped.record("redcnn-l1") is None


def test_other_seeds_of_the_same_training_leave_their_records_alone(runs, tmp_path):
    copied = tmp_path / "runs"
    shutil.copytree(runs, copied)
    for seed, steps, digest in ((1, 7, "aa"), (2, 9, "bb")):
        training = copied / "trainings" / f"edge-k21-l1-seed{seed}-{digest}"
        shutil.copytree(next(runs.glob("trainings/*")), training)
        kept = {"name": "", "key": {"seed": seed, "budget": steps}, "result": {"steps": steps}}
        (copied / "rows" / f"training-{training.name}.json").write_text(json.dumps(kept))
    first = next(copied.glob("rows/training-edge-k21-l1-seed0-*"))
    first.write_text(first.read_text().replace('{"seed": 0}', '{"seed": 0, "budget": 7}'))
    ship.take(copied, "edge-k21-l1", tmp_path / "weights")
    left = sorted(path.name for path in (tmp_path / "weights").iterdir())
    assert left == ["edge-k21-l1-seed1.json", "edge-k21-l1.json", "edge-k21-l1.keras"]
    record = json.loads((tmp_path / "weights" / left[0]).read_text(encoding="utf-8"))
    assert (record["key"]["seed"], record["training"]) == (1, {"steps": 7})


def test_the_same_weights_are_the_same_file(runs, tmp_path):
    for name in ("one", "two"):
        ship.take(runs, "edge-k21-l1", tmp_path / name)
    one, two = ((tmp_path / name / "edge-k21-l1.keras").read_bytes() for name in ("one", "two"))
    assert one == two


def test_a_weight_beyond_half_precision_is_refused(network, tmp_path):
    large = keras.models.clone_model(network)
    large.variables[0].assign(np.full(large.variables[0].shape, 7e4, "float32"))
    large.save(tmp_path / "large.keras")
    with pytest.raises(ValueError, match="Expected weights below 65504"):
        ship.halve(tmp_path / "large.keras", tmp_path / "half.keras")
    assert not (tmp_path / "half.keras").exists()


def test_a_training_that_is_not_there_is_refused(runs, tmp_path):
    with pytest.raises(FileNotFoundError, match="Expected one training of redcnn-l1"):
        ship.take(runs, "redcnn-l1", tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        name if name.startswith("redcnn") else pytest.param(name, marks=pytest.mark.slow)
        for name in shipped.names()
    ],
)
def test_shipped_weights_are_small_belong_to_their_method_and_remove_noise(name):
    path, method = shipped.weights(name), TRAINED[name]
    assert path.stat().st_size < 8e6
    network = load_saved(path)
    assert [v.shape for v in network.variables] == [v.shape for v in new_network(method).variables]
    record = shipped.record(name)
    assert record["training"]["loss"] == method.loss
    assert record["training"]["device"]
    assert record["log"][-1]["step"] == record["training"]["steps"] == record["run"]["config"]["steps"]
    middle = np.s_[160:288, 160:288]
    noisy_hu, truth_hu = (
        cost.noisy_slice()[middle],
        torso(cost.SIDE, cost.SIDE, 1, cost.PIXEL_MM).volume_hu[0][middle],
    )
    denoised_hu = network.predict_on_batch(noisy_hu[None, :, :, None].astype("float32"))[0, :, :, 0]
    gain = psnr(truth_hu, denoised_hu, convention="soft") - psnr(truth_hu, noisy_hu, convention="soft")
    assert gain > 6


def test_shipped_weights_have_a_name_for_the_command_line(tmp_path, capfd):
    name = min(shipped.names(), key=lambda name: shipped.weights(name).stat().st_size)
    write_torso(tmp_path / "series", noisy_volume(1))
    words = [str(tmp_path / "series"), "--denoiser", name]
    assert cli.main(["evaluate", *words]) == 0
    assert name in capfd.readouterr().out
    target = tmp_path / "network.keras"
    target.write_bytes(shipped.weights(name).read_bytes())
    one, two = (load_network(word) for word in (name, target))
    for left, right in zip(one.variables, two.variables, strict=True):
        np.testing.assert_array_equal(left.numpy(), right.numpy())


def test_an_unknown_name_is_told_the_known_ones(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Expected a \.keras file or one of .*Received: redcnn-l3"):
        load_network("redcnn-l3")
