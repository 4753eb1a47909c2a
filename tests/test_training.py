import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from kpn_tf import StructKPN, StructureAwareLoss
from kpn_tf.evaluation import Pair
from kpn_tf.losses import HuberError, absolute_error
from kpn_tf.training import (
    TrainingConfig,
    TrainingDivergedError,
    make_optimizer,
    provenance,
    train,
    validation_scores,
)
from kpn_tf.training.pairs import SimulatedPairs, TrainingSlice
from kpn_tf.training.provenance import device_name, identity
from kpn_tf.training.run_folder import read_log

ROOT = Path(__file__).parents[1]


def pairs(patch=32, brighter_hu=0.0):
    rng = np.random.default_rng(1)
    body = np.where(np.indices((64, 64)).sum(0) % 32 < 16, 60.0, 20.0).astype("float32") + brighter_hu
    noise = rng.normal(size=(2, 64, 64)).astype("float16")
    return SimulatedPairs([TrainingSlice(body, noise, 10.0)], batch_size=2, steps=8, patch=patch, seed=5)


def network():
    keras.utils.set_random_seed(2)
    return StructKPN("edge", blocks=1, channels=8)


def validation_pair():
    rng = np.random.default_rng(3)
    normal = np.where(np.indices((40, 44)).sum(0) % 32 < 16, 60.0, 20.0).astype("float32")
    low = (normal + rng.normal(0, 20, normal.shape)).astype("float32")
    return Pair(low, normal, "patient", "slice", (0.8, 0.8))


def test_fit_and_the_custom_loop_take_the_same_steps():
    config = TrainingConfig(steps=4, ema=0.0)
    looped = train(network(), pairs(), config, progress=False)

    fitted = []
    model = network()
    model.compile(loss=StructureAwareLoss(), optimizer=make_optimizer(config))
    record = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: fitted.append(logs["loss"]))
    model.fit(pairs(), epochs=2, steps_per_epoch=2, shuffle=False, verbose=0, callbacks=[record])
    # fit reports the mean over the two batches of an epoch.
    np.testing.assert_allclose(fitted, [np.mean(looped[:2]), np.mean(looped[2:])], rtol=1e-4)


class Weighted(keras.utils.PyDataset):
    """Batches of `pairs` whose brighter pixels count five times."""

    def __init__(self):
        super().__init__()
        self._pairs = pairs()

    def __len__(self):
        return len(self._pairs)

    def __getitem__(self, index):
        low, normal = self._pairs[index]
        return low, normal, np.where(normal > 40, 5.0, 1.0).astype("float32")


@pytest.mark.parametrize("loss", [HuberError(), absolute_error, StructureAwareLoss()])
def test_fit_and_the_custom_loop_weigh_pixels_alike(loss):
    config = TrainingConfig(steps=2, ema=0.0)
    looped = train(network(), Weighted(), config, loss=loss, progress=False)
    fitted = []
    model = network()
    model.compile(loss=loss, optimizer=make_optimizer(config))
    record = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: fitted.append(logs["loss"]))
    model.fit(Weighted(), epochs=2, steps_per_epoch=1, shuffle=False, verbose=0, callbacks=[record])
    np.testing.assert_allclose(fitted, looped, rtol=1e-4)


def test_the_loss_is_the_mean_of_weights_times_huber():
    looped = train(network(), Weighted(), TrainingConfig(steps=1), loss=HuberError(), progress=False)
    low, normal, weights = Weighted()[0]
    error_hu = np.abs(network()(low).numpy() - normal)
    huber = np.where(error_hu < 30, error_hu**2 / 60, error_hu - 15) / 400
    assert looped[0] == pytest.approx(np.mean(weights * huber), rel=1e-4)


def test_training_lowers_the_loss_and_raises_the_psnr_of_a_validation_slice():
    model = network()
    before = validation_scores(model, [validation_pair()])["psnr_soft"]
    losses = train(model, pairs(), TrainingConfig(steps=30, ema=0.5), progress=False)
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert validation_scores(model, [validation_pair()])["psnr_soft"] > before


def test_a_run_folder_says_what_was_run_and_keeps_the_best_network(tmp_path):
    config = TrainingConfig(steps=4, validate_every=2, seed=7)
    model = network()
    train(model, pairs(), config, validation=[validation_pair()], run=tmp_path, progress=False)
    stated = json.loads((tmp_path / "run.json").read_text())
    assert stated["config"]["seed"] == 7
    assert {"kpn_tf", "keras", "tensorflow", "numpy", "python"} <= set(stated["versions"])
    assert "git_revision" in stated
    assert stated["device"] == device_name()
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [2, 4]
    assert list((tmp_path / "tensorboard").iterdir())
    best = keras.saving.load_model(tmp_path / "best.keras")
    score = validation_scores(best, [validation_pair()])["psnr_soft"]
    assert score == pytest.approx(max(entry["validation_psnr_soft"] for entry in log), abs=1e-3)


def test_what_decides_a_run_is_the_same_when_it_is_read_again():
    class Described:
        def describe(self):
            return {"lesions": {"diameter_mm": (3.0, 18.0)}}

    stated = identity(network(), TrainingConfig(steps=1), StructureAwareLoss(), Described())
    assert json.loads(json.dumps(stated)) == stated


@pytest.mark.slow
def test_a_killed_run_goes_on_exactly(tmp_path):
    config = TrainingConfig(steps=6, validate_every=3)
    unbroken = network()
    losses = train(unbroken, pairs(), config, progress=False)

    script = textwrap.dedent(
        f"""
        from tests.test_training import network, pairs
        from kpn_tf.training import TrainingConfig, train
        class Slow:
            describe = pairs().describe
            def __getitem__(self, step):
                if step == 4:
                    open({str(tmp_path / "reached")!r}, "w").close()
                    import time
                    time.sleep(60)
                return pairs()[step]
        train(network(), Slow(), TrainingConfig(steps=6, validate_every=3), run={str(tmp_path)!r}, progress=False)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": os.getcwd()})
    deadline = time.monotonic() + 300
    while not (tmp_path / "reached").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()

    resumed = network()
    rest = train(resumed, pairs(), config, run=tmp_path, progress=False)
    assert len(rest) == 3  # the checkpoint of step 3 was the last
    np.testing.assert_allclose(rest, losses[3:], rtol=1e-4)
    for after, before in zip(resumed.get_weights(), unbroken.get_weights(), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-5)


def test_a_run_is_saved_between_validations_too_and_keeps_no_folders_name(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("kpn_tf.training.loop.time", clock)
    monkeypatch.setattr("kpn_tf.training.loop.SAVE_SECONDS", 0)
    monkeypatch.setattr("sys.argv", ["/opt/bin/kpn", "train", str(tmp_path), "--steps", "5"])
    config, asked = TrainingConfig(steps=5), []

    class Broken:
        describe = pairs().describe

        def __getitem__(self, step):
            asked.append(step)
            clock.now += 10
            if len(asked) == 4:
                raise KeyboardInterrupt
            return pairs()[step]

    with pytest.raises(KeyboardInterrupt):
        train(network(), Broken(), config, run=tmp_path, progress=False)
    clock.now += 1000
    rest = train(network(), Broken(), config, run=tmp_path, progress=False)
    assert asked == [0, 1, 2, 3, 3, 4]
    # Three steps to the last save, a step that is lost, a pause, two steps.
    assert read_log(tmp_path / "log.jsonl")[-1]["seconds"] == 50
    np.testing.assert_allclose(rest, train(network(), pairs(), config, progress=False)[3:], rtol=1e-4)
    assert json.loads((tmp_path / "run.json").read_text())["command"] == [
        "kpn",
        "train",
        "PATH",
        "--steps",
        "5",
    ]


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (lambda: {"config": TrainingConfig(steps=2)}, "config"),
        (lambda: {"network": StructKPN("edge", kernel_size=5, blocks=1, channels=8)}, "network"),
        (lambda: {"loss": StructureAwareLoss(strength="sqrt")}, "loss"),
        (lambda: {"loss": keras.losses.MeanAbsoluteError()}, "loss"),
        (lambda: {"pairs": pairs(patch=24)}, "pairs"),
        (lambda: {"pairs": pairs(brighter_hu=1.0)}, "pairs"),
    ],
)
def test_another_run_does_not_go_on_in_the_same_folder(short_run, other, what):
    own = {"network": network(), "pairs": pairs(), "config": TrainingConfig(steps=1), "loss": None}
    with pytest.raises(ValueError, match=rf"to hold a run of this configuration\. .* another {what};"):
        train(**{**own, **other()}, run=short_run, progress=False)


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train(network(), pairs(), TrainingConfig(steps=1), run=folder, progress=False)
    return folder


def test_a_run_needs_no_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    train(network(), pairs(), TrainingConfig(steps=1), run=tmp_path / "run", progress=False)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["git_revision"] is None


def test_an_installed_package_takes_no_revision_from_a_repository_around_it(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance.kpn_tf, "__file__", str(ROOT / "tests" / "kpn_tf" / "__init__.py"))
    assert provenance._git_revision() is None


def test_a_loss_that_is_no_number_stops_the_run_and_saves_its_batch(tmp_path):
    source = pairs()
    source.slices[0].normal_hu[:] = np.nan
    with pytest.raises(TrainingDivergedError, match=r"Received: nan at step 0; the batch is in"):
        train(network(), source, TrainingConfig(steps=2), run=tmp_path, progress=False)
    with np.load(tmp_path / "diverged.npz") as saved:
        assert np.isnan(saved["normal"]).all()


def test_weight_averaging_differs_from_the_last_weights():
    averaged, last = network(), network()
    train(averaged, pairs(), TrainingConfig(steps=8, ema=0.9), progress=False)
    train(last, pairs(), TrainingConfig(steps=8, ema=0.0), progress=False)
    assert np.abs(averaged.get_weights()[0] - last.get_weights()[0]).max() > 0


def test_a_configuration_out_of_range_is_refused():
    with pytest.raises(ValueError, match="Expected positive steps"):
        TrainingConfig(steps=0)
    with pytest.raises(ValueError, match=r"ema in \[0, 1\)"):
        TrainingConfig(steps=1, ema=1.0)
