"""`kpn export`: one command for each runtime, and one line for every wrong call."""

import hashlib
import json
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from export import runners
from kpn_tf import Denoiser, StructKPN
from kpn_tf.cli.export import PRECISIONS, TARGETS
from kpn_tf.denoiser.artefact import WEIGHTS_FOLDER, open_artefact
from tests.command import kpn
from tests.noisy_torso import write_torso
from tests.runner_process import answers

OWN = ["--version", "3", "--licence", "CC-BY-4.0", "--training-data", "a phantom"]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A network of the user's own."""
    keras.utils.set_random_seed(2)
    path = tmp_path_factory.mktemp("own") / "best.keras"
    StructKPN("edge", blocks=1, channels=8).save(path)
    return path


@pytest.mark.parametrize(
    ("to", "name", "written"),
    [
        ("tflite", "edge.tflite", "edge.tflite"),
        ("saved_model", "served", "served/1"),
        ("onnx", "edge.onnx", "edge.onnx"),
        ("openvino", "edge.xml", "edge.xml"),
    ],
)
def test_one_command_writes_the_shipped_network_for_each_runtime(
    to, name, written, tmp_path, capsys, monkeypatch
):
    assert kpn("export", "edge", "--to", to, tmp_path / name) == 0
    first, *parity = capsys.readouterr().out.splitlines()
    weights_sha256 = open_artefact("edge").weights_sha256
    file = ""
    if (tmp_path / name).is_file():
        file = f"file sha256 {hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}, "
    assert first.startswith(
        f"{tmp_path / name}: StructKPN-edge version 1, {file}weights sha256 {weights_sha256}, Apache"
    )
    assert len(parity) == (9 if to == "saved_model" else 3)
    assert all(line.startswith("parity with Keras: ") for line in parity)
    slice_hu = np.random.default_rng(1).normal(0, 100, (1, 60, 44, 1)).astype("float32")
    expected_hu = keras.saving.load_model(WEIGHTS_FOLDER / "edge.keras", compile=False)(slice_hu)
    tolerance_hu = 1.0 if to == "tflite" else 0.05
    if to == "saved_model":  # TensorFlow is here already; in a process of its own it would take many seconds.
        monkeypatch.setattr(runners, "_tensorflow", lambda threads: tf)
        denoised_hu = runners.run_artefact(tmp_path / written, 1)(slice_hu)
    else:
        (denoised_hu,) = answers(tmp_path / written, slice_hu, "run_artefact")
    np.testing.assert_allclose(denoised_hu, expected_hu, atol=tolerance_hu)


def test_every_target_has_its_test():
    assert set(TARGETS) == {"tflite", "saved_model", "onnx", "openvino"}


def test_the_command_knows_the_precisions_of_the_exporter():
    from export.tflite import PRECISIONS as PRECISIONS_OF_THE_EXPORTER

    assert PRECISIONS == PRECISIONS_OF_THE_EXPORTER


def test_a_network_of_the_users_own_carries_what_they_said_of_it(own, tmp_path, capsys):
    path = tmp_path / "mine.tflite"
    assert kpn("export", own, path, *OWN, "--precision", "float32", "--side", 128) == 0
    with zipfile.ZipFile(path) as archive:
        report = json.loads(archive.read("metadata.json"))
    assert (report["version"], report["licence"], report["training_data"]) == ("3", "CC-BY-4.0", "a phantom")
    assert report["side"] == 128
    assert Denoiser(path).identity.version == "3"
    assert kpn("export", own, path, *OWN) == 2
    assert "nothing is overwritten" in capsys.readouterr().err


def test_integers_are_fitted_to_the_low_dose_of_a_folder_of_series(tmp_path, capsys):
    write_torso(tmp_path / "ct")
    words = ["edge", tmp_path / "edge.tflite", "--calibration", tmp_path / "ct"]
    status = kpn("export", *words, "--precision", "int8")
    (line,) = capsys.readouterr().err.splitlines()
    assert status == 1
    assert "HU RMS of Keras in soft tissue" in line
    assert not (tmp_path / "edge.tflite").exists()


def test_a_folder_without_normal_dose_series_is_one_line(tmp_path, capsys):
    (tmp_path / "ct").mkdir()
    words = ["edge", tmp_path / "edge.tflite", "--calibration", tmp_path / "ct"]
    assert kpn("export", *words, "--precision", "int16x8") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "at least two calibration slices. Received: 0" in line


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["papers"], "Expected shipped weights (edge, paper, stack) or a .keras file. Received: papers"),
        (
            ["a.keras", "--version", "", *OWN[2:]],
            "expected --version, --licence and --training-data",
        ),
        (["edge", "--version", "2"], "--version, --licence and --training-data of edge are known"),
        (["a.keras", "--version", "2"], "expected --version, --licence and --training-data"),
        (["absent.keras", *OWN], "Received: absent.keras, which is none"),
        (["edge", "--to", "onnx", "--side", "512"], "belong to --to tflite"),
        (
            ["edge", "--precision", "int8"],
            "expected --calibration FOLDER with --precision int16x8",
        ),
        (
            ["edge", "--calibration", "."],
            "expected --calibration FOLDER with --precision int16x8",
        ),
        (["edge", "--to", "openvino"], "expected a name that ends in .xml, received out.tflite"),
        (["edge", "--side", "64"], "Expected a side of 100 or more that divides by 4"),
    ],
)
def test_a_wrong_call_is_one_line_and_writes_nothing(words, complaint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert kpn("export", words[0], "out.tflite", *words[1:]) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kpn export: ")
    assert complaint in line
    assert not list(tmp_path.iterdir())


def test_a_version_of_a_saved_model_is_a_whole_number(own, tmp_path, capsys):
    words = [own, tmp_path / "served", "--to", "saved_model", *OWN, "--version", "1.2"]
    assert kpn("export", *words) == 1
    assert "Expected a whole number as the version" in capsys.readouterr().err
    assert not (tmp_path / "served").exists()


def test_the_weights_of_an_openvino_file_overwrite_nothing_either(tmp_path, capsys):
    (tmp_path / "edge.bin").write_text("precious")
    assert kpn("export", "edge", "--to", "openvino", tmp_path / "edge.xml") == 2
    assert "edge.bin; nothing is overwritten" in capsys.readouterr().err
    assert (tmp_path / "edge.bin").read_text() == "precious"


def test_a_network_of_somebody_else_is_one_line(tmp_path, capsys):
    keras.Sequential([keras.Input((None, None, 1)), keras.layers.Conv2D(1, 3)]).save(tmp_path / "other.keras")
    assert kpn("export", tmp_path / "other.keras", tmp_path / "other.tflite", *OWN) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "Expected a network of kpn_tf or its baselines" in line
