"""`kpn train` turns folders of series into a run folder, says what it leaves out, and goes on after a kill."""

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pydicom
import pytest

from kpn_tf import training
from kpn_tf.cli.prepare import PrepareConfig, left_out
from kpn_tf.cli.train import TrainConfig
from kpn_tf.dicom import SimulatedBy, derive_slice, read_slice
from kpn_tf.losses import absolute_error
from kpn_tf.networks.struct_kpn import PRESETS
from kpn_tf.training import pairs
from kpn_tf.training.data import volume_validation
from kpn_tf.training.data.folders import volumes
from tests.command import kpn
from tests.noisy_torso import noisy_volume, write_torso

SMALL = {"blocks": 1, "channels": 8}
TINY = ("--patch", "32", "--batch", "2", "--steps", "3", "--loss", "l1")
GUIDE = Path(__file__).parents[1] / "docs" / "train.md"


@pytest.fixture(autouse=True)
def policy():
    """`kpn train` sets the process's precision."""
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Series of a training and of a validation patient."""
    folder = tmp_path_factory.mktemp("data")
    write_torso(folder / "train")
    write_torso(folder / "validation", noisy_volume(2), patient_id="ID-4711")
    return folder


@pytest.fixture(scope="module", autouse=True)
def small():
    """An `edge` as narrow and shallow as will do: what is tested is what happens around it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "edge", PRESETS["edge"] | SMALL)
        yield


@pytest.fixture(scope="module")
def often():
    """Configurations that validate, and save, after every step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            training, "TrainingConfig", functools.partial(training.TrainingConfig, validate_every=1)
        )
        yield


@pytest.fixture(scope="module")
def unbroken(data, often, tmp_path_factory):
    """A finished run."""
    run = tmp_path_factory.mktemp("runs") / "unbroken"
    assert kpn("train", data / "train", data / "validation", run, *TINY) == 0
    return run


def log(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_a_run_leaves_the_best_network_a_log_and_what_was_run(unbroken):
    names = {path.name for path in unbroken.iterdir()}
    assert names == {"best.keras", "last.npz", "log.jsonl", "run.json", "tensorboard"}
    assert [entry["step"] for entry in log(unbroken)] == [1, 2, 3]
    stated = json.loads((unbroken / "run.json").read_text())
    assert (stated["config"]["steps"], stated["config"]["seed"]) == (3, 0)
    assert (stated["network"]["preset"], stated["loss"]) == ("edge", "absolute_error")
    assert (stated["pairs"]["patch"], stated["pairs"]["batch_size"]) == (32, 2)
    network = keras.saving.load_model(unbroken / "best.keras")
    assert network.preset == "edge"


def test_a_baseline_trains_in_the_same_loop(data, often, tmp_path):
    assert (
        kpn("train", data / "train", data / "validation", tmp_path / "run", *TINY, "--preset", "redcnn") == 0
    )
    stated = json.loads((tmp_path / "run" / "run.json").read_text())
    assert stated["network"] == {"class": "REDCNN", "channels": 96}
    assert keras.saving.load_model(tmp_path / "run" / "best.keras").title == "RED-CNN"


@pytest.mark.slow
def test_two_devices_of_one_processor_take_the_steps_of_one(data, unbroken, tmp_path):
    # In a process of its own: TensorFlow counts the devices of a process once.
    code = (
        "import functools, sys\nfrom kpn_tf import cli, training\n"
        "from kpn_tf.networks.struct_kpn import PRESETS\n"
        f"PRESETS['edge'] |= {SMALL}\n"
        "training.TrainingConfig = functools.partial(training.TrainingConfig, validate_every=1)\n"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    words = ("train", data / "train", data / "validation", tmp_path / "run", *TINY, "--workers", "2")
    subprocess.run([sys.executable, "-c", code, *words], cwd=Path(__file__).parents[1], check=True)
    one, two = log(unbroken), log(tmp_path / "run")
    assert [entry["step"] for entry in two] == [1, 2, 3]
    for key in ("loss", "validation_psnr_soft"):
        # What the order of a sum changes: measured below 1e-6.
        assert [entry[key] for entry in two] == pytest.approx([entry[key] for entry in one], rel=1e-5)
    with np.load(unbroken / "last.npz") as state, np.load(tmp_path / "run" / "last.npz") as shared:
        assert state.files == shared.files
        for name in set(state.files) - {"seconds"}:
            # Measured: 1.9e-6 of weights up to 1.
            np.testing.assert_allclose(shared[name], state[name], rtol=1e-5, atol=1e-5)


def test_an_interrupted_run_goes_on_exactly(data, often, unbroken, tmp_path, monkeypatch, capfd):
    words = ("train", data / "train", data / "validation", tmp_path / "run", *TINY)
    draw = pairs.SimulatedPairs.__getitem__

    def interrupted(self, index):
        if index == 2:
            raise KeyboardInterrupt
        return draw(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(pairs.SimulatedPairs, "__getitem__", interrupted)
        assert kpn(*words) == 130
    assert [entry["step"] for entry in log(tmp_path / "run")] == [1, 2]
    assert kpn(*words) == 0
    whole, resumed = log(unbroken), log(tmp_path / "run")
    assert [entry["step"] for entry in resumed] == [1, 2, 3]
    for one, other in zip(whole, resumed, strict=True):
        assert one | {"seconds": 0} == pytest.approx(other | {"seconds": 0}, rel=1e-4)
    # Once more: there is nothing left to do.
    assert kpn(*words) == 0
    assert len(log(tmp_path / "run")) == 3


def test_a_run_begun_from_dicom_goes_on_from_a_store_of_the_same_and_ends_alike(
    data, often, unbroken, tmp_path, monkeypatch, capfd
):
    assert kpn("prepare", data / "train", tmp_path / "store") == 0
    draw = pairs.SimulatedPairs.__getitem__

    def interrupted(self, index):
        if index == 1:
            raise KeyboardInterrupt
        return draw(self, index)

    words = (data / "validation", tmp_path / "run", *TINY)
    with monkeypatch.context() as patch:
        patch.setattr(pairs.SimulatedPairs, "__getitem__", interrupted)
        assert kpn("train", data / "train", *words) == 130
    assert kpn("train", tmp_path / "store", *words) == 0
    whole, resumed = log(unbroken), log(tmp_path / "run")
    assert [entry["step"] for entry in resumed] == [1, 2, 3]
    for one, other in zip(whole, resumed, strict=True):
        assert one | {"seconds": 0} == pytest.approx(other | {"seconds": 0}, rel=1e-4)


@pytest.mark.parametrize(
    ("words", "what"),
    [(("--loss", "structure"), "loss"), (("--batch", "3"), "pairs"), (("--seed", "1"), "config, pairs")],
)
def test_another_call_does_not_go_on_in_the_same_folder(data, often, unbroken, capfd, words, what):
    assert kpn("train", data / "train", data / "validation", unbroken, *TINY, *words) == 1
    assert f"to hold a run of this configuration. Received: one of another {what};" in capfd.readouterr().err


def test_what_is_no_normal_dose_is_left_out_with_a_line(tmp_path, capfd):
    folder = tmp_path / "mixed"
    good = write_torso(folder / "good")
    write_torso(folder / "drawn", noisy_volume(noise_hu=0.0))
    (folder / "own").mkdir()
    by = SimulatedBy("0.1.0", 0.25, 0, "ab" * 32)
    for path in good:
        ct = read_slice(path)
        derive_slice(ct, ct.slice_hu, by).save_as(folder / "own" / path.name)
    (folder / "SOURCE.txt").write_text("words")
    found = list(volumes(folder, left_out))
    err = capfd.readouterr().err
    assert f"left out: {folder / 'SOURCE.txt'}: is not a DICOM file" in err
    assert "made by kpn_tf, no normal-dose scan" in err
    assert len(found) == 2
    assert all(step_mm == 3.0 for *_, step_mm in found)
    assert kpn("train", folder / "drawn", folder / "good", tmp_path / "run", *TINY) == 1
    err = capfd.readouterr().err
    assert re.search(r"left out: series \.\.\.\S+( \(B30f\))?: Expected noise of 0\.1 HU or more", err)
    assert err.splitlines()[-1] == (
        f"kpn train: expected a normal-dose series in {folder / 'drawn'}, found none"
    )
    assert not (tmp_path / "run").exists()


def test_a_corrupt_slice_leaves_its_series_out(tmp_path, capfd):
    paths = write_torso(tmp_path / "in")
    paths[1].write_bytes(paths[1].read_bytes()[:-700])
    assert list(volumes(tmp_path / "in", left_out)) == []
    (line,) = capfd.readouterr().err.splitlines()
    assert re.match(rf"left out: series \.\.\.\S+ \(B30f\): {paths[1]}: has pixel data that cannot", line)


def test_slices_at_one_position_are_never_averaged(tmp_path):
    paths = write_torso(tmp_path / "in")
    dataset = pydicom.dcmread(paths[0])
    dataset.ImagePositionPatient = pydicom.dcmread(paths[1]).ImagePositionPatient
    dataset.save_as(paths[0])
    ((_, volume_hu, _, step_mm),) = volumes(tmp_path / "in", pytest.fail)
    assert (len(volume_hu), step_mm) == (3, np.inf)


def test_slices_smaller_than_a_patch_are_left_out(data, tmp_path, capfd):
    assert kpn("train", data / "train", data / "validation", tmp_path / "run", "--patch", "97") == 1
    err = capfd.readouterr().err
    assert "its slices are smaller than a patch of 97 x 97 pixels" in err
    assert "Traceback" not in err


def test_a_loss_that_is_no_number_is_one_line_and_its_batch_is_kept(data, tmp_path, monkeypatch, capfd):
    low = np.full((2, 32, 32, 1), np.nan, "float32")
    monkeypatch.setattr(pairs.SimulatedPairs, "__getitem__", lambda self, index: (low, low))
    run = tmp_path / "run"
    assert kpn("train", data / "train", data / "validation", run, *TINY) == 1
    assert "kpn train: Expected a finite loss. Received: nan at step 0" in capfd.readouterr().err
    assert (run / "diverged.npz").exists()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--loss", "l2"], "argument --loss: expected one of structure, published, l1, huber, received l2"),
        (
            ["--preset", "huge"],
            "argument --preset: expected one of edge, paper, redcnn, wavresnet, received huge",
        ),
        (["--precision", "float8"], "expected one of float32, mixed_bfloat16, received float8"),
        (["--steps", "0"], "argument --steps: expected a whole number from 1 on"),
        (["--batch", "0"], "argument --batch: expected a whole number from 1 on"),
        (["--patch", "20"], "argument --patch: expected a whole number from 21 on"),
        (["--learning-rate", "nan"], "argument --learning-rate: expected a number above 0"),
        (["--seed", "-1"], "argument --seed: expected a whole number from 0 on"),
        (
            ["--workers", "0"],
            "argument --workers: expected a whole number from 1 on or TF_CONFIG, received 0",
        ),
        (["--workers", "two"], "expected a whole number from 1 on or TF_CONFIG, received two"),
        (
            ["--workers", "2"],
            "kpn train: Expected to divide the CPU among 2 workers before TensorFlow's",
        ),
        (["--workers", "TF_CONFIG"], "kpn train: Expected TF_CONFIG to name all workers and which of them"),
    ],
)
def test_a_wrong_word_is_status_two_and_says_why(data, tmp_path, capfd, monkeypatch, words, complaint):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert kpn("train", data / "train", data / "validation", tmp_path / "run", *words) == 2
    assert complaint in capfd.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_missing_folder_is_status_two_before_anything_is_read(data, tmp_path, capfd):
    assert kpn("train", data / "train", tmp_path / "absent", tmp_path / "run") == 2
    assert capfd.readouterr().err == (
        f"kpn train: expected a CT file or a folder, received {tmp_path / 'absent'}, which does not exist\n"
    )
    (tmp_path / "file").write_text("words")
    assert kpn("train", data / "train", data / "validation", tmp_path / "file") == 2
    assert capfd.readouterr().err.endswith(f"received {tmp_path / 'file'}, which is a file\n")


def test_nothing_of_the_patient_is_printed_or_kept(data, unbroken, capfd):
    list(volumes(data / "train", left_out))
    kept = (unbroken / "run.json").read_text() + (unbroken / "log.jsonl").read_text()
    for secret in ("Secret", "ID-0815", "ID-4711"):
        assert secret not in kept + "".join(capfd.readouterr())


def test_help_loads_neither_tensorflow_nor_keras():
    code = (
        "import sys\nfrom kpn_tf import cli\n"
        "try:\n    cli.main(['train', '--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"
    assert run.stderr == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["prepare", pytest.param("train", marks=pytest.mark.slow)])
def test_an_interruption_while_noise_is_made_is_one_line(data, tmp_path, number, command):
    write_torso(tmp_path / "long", noisy_volume(60))
    words = ["train", tmp_path / "long", data / "validation", tmp_path / "r", *TINY]
    if command == "prepare":
        words = ["prepare", tmp_path / "long", tmp_path / "store"]
    process = subprocess.Popen(
        [sys.executable, "-m", "kpn_tf.cli", *words],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        # Where the tests run in the background of a shell, Ctrl-C is ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert "targets with" in process.stdout.readline()
    time.sleep(1)
    process.send_signal(number)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 128 + number
    assert re.fullmatch(r"kpn: (interrupted|terminated)\n", err)


def test_the_l1_loss_is_the_absolute_error_in_unit_scale():
    normal_hu = np.zeros((1, 11, 7, 1), "float32")
    np.testing.assert_allclose(
        absolute_error(normal_hu, normal_hu + 40), np.full((1, 11, 7, 1), 0.1), rtol=1e-6
    )


def test_every_option_and_file_is_in_the_guide(unbroken):
    guide = GUIDE.read_text()
    for name in PrepareConfig.__dataclass_fields__:
        assert (name.upper() if name in ("input", "store") else f"`--{name} ") in guide, name
    for name in TrainConfig.__dataclass_fields__:
        word = name.upper() if name in ("data", "validation", "run") else f"`--{name.replace('_', '-')} "
        assert word in guide, word
    for path in unbroken.iterdir():
        assert f"`{path.name}" in guide, path.name


def test_a_trained_network_is_evaluated_and_exported(data, unbroken, tmp_path):
    shutil.copy(unbroken / "best.keras", tmp_path / "mine.keras")
    words = ("--version", "1", "--licence", "Apache-2.0", "--training-data", "a torso")
    assert kpn("export", tmp_path / "mine.keras", tmp_path / "mine.tflite", *words) == 0
    assert (
        kpn(
            "evaluate", data / "validation",
            "--denoiser", tmp_path / "mine.tflite", "--denoiser", tmp_path / "mine.keras",
        )
        == 0
    )  # fmt: skip


@pytest.mark.slow
def test_a_network_for_stacks_is_trained_on_volumes_and_chosen_by_lesions_too(often, tmp_path, monkeypatch):
    monkeypatch.setattr(volume_validation, "SCANS", 2)
    monkeypatch.setattr(volume_validation, "STACKS", 1)
    write_torso(tmp_path / "train", noisy_volume(13))
    write_torso(tmp_path / "validation", noisy_volume(3), patient_id="ID-4711")
    call = ("train", tmp_path / "train", tmp_path / "validation", tmp_path / "run", "--slices", "3")
    tiny = ("--patch", "32", "--batch", "2", "--steps", "1", "--lesions", "1")
    assert kpn(*call, *tiny) == 0
    [entry] = log(tmp_path / "run")
    assert {"validation_psnr_soft", "validation_contrast", "validation_d_prime"} < set(entry)
    assert 0 < entry["validation_contrast"] < 1.1
    stated = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (stated["network"]["slices"], stated["loss"]["class"]) == (3, "HuberError")
    assert (stated["pairs"]["slices"], stated["pairs"]["lesion_share"]) == (3, 1.0)
    assert keras.saving.load_model(tmp_path / "run" / "best.keras").slices == 3


def test_options_of_stacks_belong_to_stacks(data, tmp_path, capsys):
    call = ("train", data / "train", data / "validation", tmp_path / "run")
    assert kpn(*call, "--preset", "redcnn", "--slices", "3") == 2
    assert "--slices 3 belongs to --preset edge, received redcnn" in capsys.readouterr().err
    assert kpn(*call, "--lesions", "0.5") == 2
    assert "--lesions belongs to --slices 3 or 5" in capsys.readouterr().err
