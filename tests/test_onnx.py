import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from baselines import redcnn, wavresnet
from export import parity
from export.about import Release
from export.onnx import to_onnx
from kpn_tf import StructKPN

RELEASE = Release(version="1", licence="Apache-2.0", training_data="none")
BASELINES = {"RED-CNN": partial(redcnn.REDCNN, channels=16), "WavResNet": wavresnet.WavResNet}
PAGE = Path(__file__).parents[1] / "docs/by_hand.md"


def network_of(kind):
    """The same operations as in the network, fewer of them: a second instead of a minute."""
    keras.utils.set_random_seed(1)
    if kind == "edge":
        return StructKPN("edge", blocks=1, channels=8)
    if kind == "paper":
        return StructKPN("paper", kernel_size=5, blocks=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wavresnet, "FEATURES", 16)
        patch.setattr(wavresnet, "MODULES", 2)
        return BASELINES[kind]()


@pytest.fixture(scope="module", params=["edge", "paper", *BASELINES])
def exported(request, tmp_path_factory):
    """A network, its file, and the report; compared on small slices, so that the large networks take seconds."""
    path = tmp_path_factory.mktemp("onnx") / "network.onnx"
    network = network_of(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "comparison_slices", small_slices)
        return network, path, to_onnx(network, path, RELEASE)


@pytest.fixture
def edge(monkeypatch):
    monkeypatch.setattr(parity, "comparison_slices", small_slices)
    return network_of("edge")


def small_slices(side=None):
    return {"random": np.random.default_rng(4).normal(0, 300, (35, 46)).astype("float32")}


def session_of(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


# 21 is the smallest side there is; 37 and 50 leave the remainders 1 and 2 by 4, 47 leaves 3.
@pytest.mark.parametrize("shape", [(1, 64, 96, 1), (2, 37, 50, 1), (1, 21, 47, 1)])
def test_onnxruntime_gives_keras_numbers_on_any_size(exported, shape):
    network, path, _ = exported
    slice_hu = np.random.default_rng(2).normal(0, 200, shape).astype("float32")
    (denoised_hu,) = session_of(path).run(["denoised_hu"], {"slice_hu": slice_hu})
    assert denoised_hu.shape == shape
    np.testing.assert_allclose(denoised_hu, network(slice_hu), atol=0.05)


def test_a_file_that_does_not_run_is_not_written(edge, tmp_path, monkeypatch):
    class Faulty:
        def __init__(self, *args, **options):
            pass

        def run(self, *args):
            raise Fail("Reshape: the size does not match")

    monkeypatch.setattr(onnxruntime, "InferenceSession", Faulty)
    with pytest.raises(
        parity.ParityError, match=r"an ONNX form of .* that runs. Received: .*the size does not match"
    ):
        to_onnx(edge, tmp_path / "network.onnx", RELEASE)
    assert not list(tmp_path.iterdir())


def test_no_reshape_goes_by_zeros(exported):
    """tf2onnx's own optimizers misread them, and the order in which they do is another one every time."""
    model = onnx.load(exported[1])
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    shapes = [constants.get(node.input[1]) for node in model.graph.node if node.op_type == "Reshape"]
    assert shapes
    assert all(shape is None or shape.all() for shape in shapes)


def test_the_file_holds_the_report_and_names_its_axes(exported):
    network, path, report = exported
    session = session_of(path)
    assert json.loads(session.get_modelmeta().custom_metadata_map["kpn_tf"]) == report
    assert report["model"] == network.title
    assert report["multiple"] == 1
    assert [compared["slice"] for compared in report["parity"]] == ["random"]
    for (tensor,), name in ((session.get_inputs(), "slice_hu"), (session.get_outputs(), "denoised_hu")):
        assert (tensor.name, tensor.shape) == (name, ["batch", "rows", "columns", 1])


def test_the_file_is_valid_and_of_the_standard_alone(exported):
    model = onnx.load(exported[1])
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}


def test_the_same_network_gives_the_same_bytes(edge, tmp_path):
    to_onnx(edge, tmp_path / "one.onnx", RELEASE)
    to_onnx(network_of("edge"), tmp_path / "other.onnx", RELEASE)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "other.onnx").read_bytes()


def test_a_file_that_differs_from_keras_is_not_written(edge, tmp_path, monkeypatch):
    monkeypatch.setitem(parity.TOLERANCE_HU, "float32", 1e-9)
    with pytest.raises(parity.ParityError, match=r"within 1e-09 HU of Keras\. Received: .* HU"):
        to_onnx(edge, tmp_path / "edge.onnx", RELEASE)
    assert not list(tmp_path.iterdir())


@keras.saving.register_keras_serializable("test_onnx")
class Exotic(keras.Model):
    """A network with an operation that ONNX does not have."""

    title, reach, multiple = "Exotic", 0, 1

    def call(self, slice_hu):
        return slice_hu + tf.math.igamma(2.0, tf.abs(slice_hu))


def test_a_network_without_an_onnx_form_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(
        ValueError, match=r"has an ONNX form\. Received: Exotic \(.*Igamma.*\); nothing was written"
    ):
        to_onnx(Exotic(), tmp_path / "exotic.onnx", RELEASE)
    assert not list(tmp_path.iterdir())


def test_the_example_of_the_page_needs_numpy_and_onnxruntime_alone(edge, tmp_path):
    slice_hu = small_slices()["random"]
    to_onnx(edge, tmp_path / "edge.onnx", RELEASE)
    np.save(tmp_path / "slice.npy", slice_hu)
    example = re.search(r"## ONNX\n.*?```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]
    barred = "import sys\nfor name in ('tensorflow', 'keras', 'kpn_tf', 'onnx'): sys.modules[name] = None\n"
    run = subprocess.run(
        [sys.executable, "-I", "-c", barred + example],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(f"{edge.title} 1 ")
    expected_hu = np.asarray(edge(slice_hu[None, :, :, None]))[0, :, :, 0]
    np.testing.assert_allclose(np.load(tmp_path / "denoised.npy"), expected_hu, atol=0.05)
