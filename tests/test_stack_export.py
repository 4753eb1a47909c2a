"""A network for stacks in every runtime: the numbers of Keras."""

import base64
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from tensorflow_serving.apis import prediction_log_pb2

from export import Release, to_onnx, to_openvino, to_saved_model, to_tflite
from export.silent_openvino import openvino
from kpn_tf import Denoiser
from kpn_tf.denoiser import Neighbour
from tests.stack_network import stack_network
from tests.test_denoiser import BOX, box_mean

RELEASE = Release("1", "Apache-2.0", "none")


@pytest.fixture(scope="module")
def network():
    return stack_network()


@pytest.fixture(scope="module")
def artefact(network, tmp_path_factory):
    """The network as a .tflite, with the 7x7 mean for slices without neighbours."""
    path = tmp_path_factory.mktemp("stack") / "mine.tflite"
    alone = shutil.copy(BOX, path.parent)
    report = to_tflite(network, path, RELEASE, precision="float32", alone=alone, alone_beyond_mm=2.0)
    assert (report["alone"], report["alone_beyond_mm"]) == ("box.tflite", 2.0)
    assert report["slices"] == 3
    assert "(1, H, W, 3)" in report["input"]
    return path


def test_an_exported_stack_network_denoises_a_volume_as_keras_does(network, artefact):
    interpreter = Interpreter(str(artefact))
    names = {"inputs": ["distances_mm", "slice_hu"], "outputs": ["denoised_hu"]}
    assert interpreter.get_signature_list()["serving_default"] == names
    interpreter.allocate_tensors()
    denoiser = Denoiser(artefact, threads=1)
    assert denoiser.slices == 3
    volume_hu = np.random.default_rng(2).normal(0, 80, (3, 45, 62)).astype("float32")
    denoised_hu = denoiser.volume(volume_hu, slice_spacing_mm=1.5)
    # Whole stacks, and the ends of the series, where the middle slice stands for what is missing.
    stacks = [volume_hu[[0, 0, 1]], volume_hu, volume_hu[[1, 2, 2]]]
    distances_mm = np.float32([[0, 0, 1.5], [1.5, 0, 1.5], [1.5, 0, 0]])
    expected = np.asarray(network([np.moveaxis(np.stack(stacks), 1, -1), distances_mm]))[..., 0]
    np.testing.assert_allclose(denoised_hu, expected, atol=0.05)
    np.testing.assert_allclose(denoiser(volume_hu[0]), box_mean(volume_hu[0]), atol=1e-3)


def test_an_exported_stack_network_tells_the_kernels_of_every_slice(network, artefact):
    denoiser = Denoiser(artefact, threads=1)
    stack_hu = np.random.default_rng(4).normal(0, 80, (45, 62, 3)).astype("float32")
    rows, columns = [22, 0, 44, 23], [31, 61, 0, 30]
    beside = [Neighbour(stack_hu[..., 0], 1.5), None]
    kernels = denoiser.kernels_at(stack_hu[..., 1], rows, columns, neighbours=beside)
    seen_hu = stack_hu[..., [0, 1, 1]]
    expected = network.kernels_at(seen_hu, [1.5, 0, 0], rows, columns)
    assert kernels.shape == (4, 3, 21, 21)
    np.testing.assert_allclose(kernels, expected, atol=1e-6)
    made_hu = (kernels[0] * np.moveaxis(seen_hu, -1, 0)[:, 12:33, 21:42]).sum()
    assert made_hu == pytest.approx(denoiser(stack_hu[..., 1], neighbours=beside)[22, 31], abs=0.01)


@pytest.fixture(scope="module")
def stacks(network):
    """Two stacks of odd sides, the second at the end of a series, their distances, and what Keras makes of them."""
    stack_hu = np.random.default_rng(5).normal(0, 80, (2, 37, 51, 3)).astype("float32")
    stack_hu[1, :, :, 2] = stack_hu[1, :, :, 1]
    distances_mm = np.float32([[1.5, 0, 1.5], [3, 0, 0]])
    return stack_hu, distances_mm, np.asarray(network([stack_hu, distances_mm]))


def code_of(page):
    """The blocks of Python on a page."""
    text = (Path(__file__).parents[1] / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_onnx_takes_stacks_of_any_size_and_their_distances(network, stacks, tmp_path):
    stack_hu, distances_mm, expected_hu = stacks
    report = to_onnx(network, tmp_path / "mine.onnx", RELEASE)
    assert "distances from the middle slice, mm, float32, (B, 3)" in report["input"]
    session = onnxruntime.InferenceSession(tmp_path / "mine.onnx", providers=["CPUExecutionProvider"])
    (denoised_hu,) = session.run(["denoised_hu"], {"slice_hu": stack_hu, "distances_mm": distances_mm})
    np.testing.assert_allclose(denoised_hu, expected_hu, atol=0.05)
    (example,) = (block for block in code_of("docs/by_hand.md") if "stack_hu" in block)
    exec(example, made := {})
    (denoised_hu,) = session.run(["denoised_hu"], made["inputs"])
    np.testing.assert_allclose(denoised_hu, network(list(made["inputs"].values())), atol=0.05)


def test_openvino_takes_stacks_of_any_size_and_their_distances(network, stacks, tmp_path):
    stack_hu, distances_mm, expected_hu = stacks
    report = to_openvino(network, tmp_path / "mine.xml", RELEASE)
    denoise = openvino.Core().compile_model(tmp_path / "mine.xml", "CPU", report["compile_with"])
    denoised_hu = denoise({"slice_hu": stack_hu, "distances_mm": distances_mm})["denoised_hu"]
    np.testing.assert_allclose(denoised_hu, expected_hu, atol=0.05)


def answer_of(served, request):
    """What TensorFlow Serving's REST interface makes of a request of one item of bytes."""
    (item,) = request["instances"]
    tensors = {**item, "slice_bytes": base64.b64decode(item["slice_bytes"]["b64"])}
    types = {"slice_bytes": tf.string, "distances_mm": tf.float32}
    inputs = {key: tf.constant([value], types.get(key, tf.int32)) for key, value in tensors.items()}
    (raw,) = served[request["signature_name"]](**inputs)["denoised_bytes"].numpy()
    answer = {"predictions": [{"b64": base64.b64encode(raw).decode()}]}
    return SimpleNamespace(ok=True, json=lambda: answer)


@pytest.mark.slow
def test_a_saved_model_takes_a_stack_for_every_item_by_every_signature(network, stacks, tmp_path):
    stack_hu, distances_mm, _ = stacks
    whole_hu = np.rint(stack_hu).astype("int16")
    expected_hu = np.asarray(network([whole_hu.astype("float32"), distances_mm]))
    to_saved_model(network, tmp_path / "served", RELEASE)
    served = tf.saved_model.load(str(tmp_path / "served" / "1")).signatures
    inputs = {
        "serving_default": {"slice_hu": whole_hu.astype("float32")},
        "int16": {"slice_hu": whole_hu.astype("int32")},
        "bytes": {
            "slice_bytes": [one.astype("<i2").tobytes() for one in whole_hu],
            "rows": np.int32([37, 37]),
            "columns": np.int32([51, 51]),
        },
    }
    for name, tensors in inputs.items():
        tensors = {
            key: tf.constant(value) for key, value in {**tensors, "distances_mm": distances_mm}.items()
        }
        ((_, answer),) = served[name](**tensors).items()
        denoised_hu = answer.numpy()
        if name == "bytes":
            denoised_hu = np.stack([np.frombuffer(raw, "<i2").reshape(37, 51, 1) for raw in denoised_hu])
        np.testing.assert_allclose(denoised_hu, expected_hu, atol=0.05 if name == "serving_default" else 0.55)
    (client,) = (block for block in code_of("docs/serving.md") if "def denoised" in block)
    exec(client[: client.index("\n\nslice_hu = ")], known := {})
    known["requests"] = SimpleNamespace(post=lambda address, json, timeout: answer_of(served, json))
    asked_hu = known["denoised"](whole_hu[0], distances_mm=distances_mm[0].tolist())
    np.testing.assert_allclose(asked_hu, expected_hu[0, :, :, 0], atol=0.55)
    cut = {**inputs["bytes"], "slice_bytes": [b"0000"] * 2, "distances_mm": distances_mm}
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"2 \* rows \* columns \* 3 bytes"):
        served["bytes"](**{key: tf.constant(value) for key, value in cut.items()})
    records = tf.data.TFRecordDataset(str(tmp_path / "served/1/assets.extra/tf_serving_warmup_requests"))
    for record in records.as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        assert tf.make_ndarray(log.predict_log.request.inputs["distances_mm"]).shape == (1, 3)


def test_a_network_for_stacks_has_no_integers(network, tmp_path):
    with pytest.raises(ValueError, match=r"network of stacks, and box.tflite in the folder of its file"):
        to_tflite(network, tmp_path / "mine.tflite", RELEASE, alone=BOX)
    two = [np.zeros((64, 64))] * 2
    with pytest.raises(ValueError, match=r"float16 or float32 for a network of stacks. Received: int16x8"):
        to_tflite(network, tmp_path / "mine.tflite", RELEASE, precision="int16x8", calibration=two)
    assert not list(tmp_path.rglob("*.*"))
