import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from baselines import redcnn, wavresnet
from export import parity
from export.about import Release
from export.openvino import openvino, to_openvino
from kpn_tf import StructKPN

RELEASE = Release(version="1", licence="Apache-2.0", training_data="none")
BASELINES = {"RED-CNN": partial(redcnn.REDCNN, channels=16), "WavResNet": wavresnet.WavResNet}
PAGE = Path(__file__).parents[1] / "docs/by_hand.md"


def network_of(kind):
    """The same operations as in the network, fewer of them: a second instead of a minute."""
    keras.utils.set_random_seed(1)
    if kind == "edge":
        return StructKPN("edge")
    if kind == "paper":
        return StructKPN("paper", kernel_size=5, blocks=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wavresnet, "FEATURES", 16)
        patch.setattr(wavresnet, "MODULES", 2)
        return BASELINES[kind]()


@pytest.fixture(scope="module", params=["edge", "paper", *BASELINES])
def exported(request, tmp_path_factory):
    """A network, its .xml, and the report; compared on small slices, so that the large networks take seconds."""
    path = tmp_path_factory.mktemp("openvino") / "network.xml"
    network = network_of(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "comparison_slices", small_slices)
        return network, path, to_openvino(network, path, RELEASE)


@pytest.fixture
def edge(monkeypatch):
    monkeypatch.setattr(parity, "comparison_slices", small_slices)
    return network_of("edge")


def small_slices(side=None):
    return {"random": np.random.default_rng(4).normal(0, 300, (35, 46)).astype("float32")}


def compiled(path, report):
    return openvino.Core().compile_model(path, "CPU", report["compile_with"])


# 21 is the smallest side there is; 37 and 50 leave the remainders 1 and 2 by 4, 47 leaves 3.
@pytest.mark.parametrize("shape", [(1, 64, 96, 1), (2, 37, 50, 1), (1, 21, 47, 1)])
def test_openvino_gives_keras_numbers_on_any_size(exported, shape):
    network, path, report = exported
    slice_hu = np.random.default_rng(2).normal(0, 200, shape).astype("float32")
    denoised_hu = compiled(path, report)(slice_hu)["denoised_hu"]
    assert denoised_hu.shape == shape
    np.testing.assert_allclose(denoised_hu, network(slice_hu), atol=0.05)


@pytest.mark.parametrize("shape", [(1, 45, 63, 1), (1, 48, 64, 1)])
def test_a_model_fixed_to_one_size_gives_keras_numbers(exported, shape):
    network, path, report = exported
    model = openvino.Core().read_model(path)
    model.reshape(list(shape))
    slice_hu = np.random.default_rng(3).normal(0, 200, shape).astype("float32")
    denoised_hu = compiled(model, report)(slice_hu)["denoised_hu"]
    np.testing.assert_allclose(denoised_hu, network(slice_hu), atol=0.05)


def test_the_model_holds_the_report_and_has_one_input_and_one_output(exported):
    network, path, report = exported
    model = openvino.Core().read_model(path)
    assert json.loads(model.get_rt_info("kpn_tf").astype(str)) == report
    assert report["model"] == network.title
    assert report["multiple"] == 1
    # Without it a CPU with bfloat16 computes in that.
    assert report["compile_with"] == {"INFERENCE_PRECISION_HINT": "f32"}
    for tensors, name in ((model.inputs, "slice_hu"), (model.outputs, "denoised_hu")):
        (tensor,) = tensors
        assert tensor.get_names() == {name}
        assert str(tensor.get_partial_shape()) == "[?,?,?,1]"


def test_the_same_network_gives_the_same_bytes(edge, tmp_path):
    (tmp_path / "other").mkdir()
    to_openvino(edge, tmp_path / "edge.xml", RELEASE)
    to_openvino(network_of("edge"), tmp_path / "other/edge.xml", RELEASE)
    for name in ("edge.xml", "edge.bin"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_an_older_pair_of_files_is_replaced_as_a_whole(edge, tmp_path):
    for name in ("edge.xml", "edge.bin"):
        (tmp_path / name).write_text("older")
    report = to_openvino(edge, tmp_path / "edge.xml", RELEASE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["edge.bin", "edge.xml"]
    compiled(tmp_path / "edge.xml", report)


def test_a_model_that_differs_from_keras_leaves_what_was_there(edge, tmp_path, monkeypatch):
    for name in ("edge.xml", "edge.bin"):
        (tmp_path / name).write_text("older")
    monkeypatch.setitem(parity.TOLERANCE_HU, "float32", 1e-9)
    with pytest.raises(parity.ParityError, match=r"within 1e-09 HU of Keras\. Received: .* HU"):
        to_openvino(edge, tmp_path / "edge.xml", RELEASE)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "edge.xml": "older",
        "edge.bin": "older",
    }


def test_a_path_that_openvino_would_not_find_the_weights_of_is_refused(edge, tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.xml\. Received: .*edge\.ir"):
        to_openvino(edge, tmp_path / "edge.ir", RELEASE)


@keras.saving.register_keras_serializable("test_openvino")
class Exotic(keras.Model):
    """A network with an operation that OpenVINO does not have."""

    title, reach, multiple = "Exotic", 0, 1

    def call(self, slice_hu):
        return slice_hu + tf.math.igamma(2.0, tf.abs(slice_hu))


def test_a_network_without_an_openvino_form_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"has an OpenVINO form\. Received: Exotic \(No conversion .* Igamma\); nothing was written",
    ):
        to_openvino(Exotic(), tmp_path / "exotic.xml", RELEASE)
    assert not list(tmp_path.iterdir())


def test_exporting_reports_to_nobody():
    assert sys.modules["openvino_telemetry"] is None


def test_the_example_of_the_page_needs_numpy_and_openvino_alone(edge, tmp_path):
    slice_hu = small_slices()["random"]
    to_openvino(edge, tmp_path / "edge.xml", RELEASE)
    np.save(tmp_path / "slice.npy", slice_hu)
    example = re.search(r"## OpenVINO\n.*?```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[
        1
    ]
    barred = "import sys\nfor name in ('tensorflow', 'keras', 'kpn_tf', 'onnx'): sys.modules[name] = None\n"
    run = subprocess.run(
        [sys.executable, "-I", "-c", barred + example],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("StructKPN-edge 1 ")
    expected_hu = np.asarray(edge(slice_hu[None, :, :, None]))[0, :, :, 0]
    np.testing.assert_allclose(np.load(tmp_path / "denoised.npy"), expected_hu, atol=0.05)
