"""A network for stacks as a .tflite: the numbers of Keras, slice by slice of a volume."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from export import Release, to_saved_model, to_tflite
from kpn_tf import Denoiser
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


def test_an_exported_stack_network_denoises_a_volume_as_keras_does(network, tmp_path):
    report = to_tflite(network, tmp_path / "mine.tflite", RELEASE, precision="float32")
    assert report["slices"] == 3
    assert "(1, H, W, 3)" in report["input"]
    interpreter = Interpreter(str(tmp_path / "mine.tflite"))
    names = {"inputs": ["distances_mm", "slice_hu"], "outputs": ["denoised_hu"]}
    assert interpreter.get_signature_list() == {"serving_default": names}
    interpreter.allocate_tensors()
    denoiser = Denoiser(tmp_path / "mine.tflite", threads=1)
    assert denoiser.slices == 3
    volume_hu = np.random.default_rng(2).normal(0, 80, (3, 45, 62)).astype("float32")
    denoised_hu = denoiser.volume(volume_hu, slice_spacing_mm=1.5)
    # Whole stacks, and the ends of the series, where the middle slice stands for what is missing.
    stacks = [volume_hu[[0, 0, 1]], volume_hu, volume_hu[[1, 2, 2]]]
    distances_mm = np.float32([[0, 0, 1.5], [1.5, 0, 1.5], [1.5, 0, 0]])
    expected = np.asarray(network([np.moveaxis(np.stack(stacks), 1, -1), distances_mm]))[..., 0]
    np.testing.assert_allclose(denoised_hu, expected, atol=0.05)


def test_what_stack_networks_are_not_exported_to_is_said_in_one_sentence(network, tmp_path):
    with pytest.raises(ValueError, match=r"Expected a network of single slices. Received: one of stacks"):
        to_saved_model(network, tmp_path / "served", RELEASE)
    two = [np.zeros((64, 64))] * 2
    with pytest.raises(ValueError, match=r"float16 or float32 for a network of stacks. Received: int16x8"):
        to_tflite(network, tmp_path / "mine.tflite", RELEASE, precision="int16x8", calibration=two)
    assert not list(tmp_path.rglob("*.*"))
