"""A network for stacks as a .tflite: the numbers of Keras, slice by slice of a volume."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from export import Release, to_saved_model, to_tflite
from kpn_tf import Denoiser
from kpn_tf.denoiser import Neighbour
from kpn_tf.networks import StackKPN

RELEASE = Release("1", "Apache-2.0", "none")


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(3)
    network = StackKPN(3)
    rng = np.random.default_rng(1)
    for layer in (network.predictor, network.trunk.distances):
        layer.set_weights([rng.normal(0, 0.5, weight.shape) for weight in layer.get_weights()])
    return network


@pytest.fixture(scope="module")
def artefact(network, tmp_path_factory):
    """The network as a .tflite."""
    path = tmp_path_factory.mktemp("stack") / "mine.tflite"
    report = to_tflite(network, path, RELEASE, precision="float32")
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


def test_what_stack_networks_are_not_exported_to_is_said_in_one_sentence(network, tmp_path):
    with pytest.raises(ValueError, match=r"Expected a network of single slices. Received: one of stacks"):
        to_saved_model(network, tmp_path / "served", RELEASE)
    two = [np.zeros((64, 64))] * 2
    with pytest.raises(ValueError, match=r"float16 or float32 for a network of stacks. Received: int16x8"):
        to_tflite(network, tmp_path / "mine.tflite", RELEASE, precision="int16x8", calibration=two)
    assert not list(tmp_path.rglob("*.*"))
