import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import ops

from baselines import contourlet, wavresnet
from baselines.wavresnet import WavResNet
from kpn_tf.networks.cost import gmac
from kpn_tf.training import TrainingConfig, train
from tests.reference import slow_contourlet
from tests.reference.slow_redcnn import convolve, relu

# By hand: 15 -> 128, the two after it and six modules of three, 896 -> 128 and the one after it, 128 -> 15.
WEIGHTS = 9 * (15 * 128 + (2 + 6 * 3) * 128 * 128 + 896 * 128 + 128 * 128 + 128 * 15)
# Each convolution but the last is normalised: 3 + 18 + 2 of them, 128 channels, a scale and an offset; 15 biases.
TRAINED = WEIGHTS + (3 + 18 + 2) * 128 * 2 + 15


@pytest.fixture(scope="module")
def network():
    return unlike_the_start()


def unlike_the_start():
    """A network whose batch normalisation does something, as after training, and whose head does much."""
    keras.utils.set_random_seed(5)
    network = WavResNet()
    rng = np.random.default_rng(6)
    for variable in network.variables:
        if variable.name in ("beta", "moving_mean", "bias"):
            variable.assign(rng.normal(0, 0.1, variable.shape))
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    network.head.kernel.assign(rng.normal(0, 0.02, network.head.kernel.shape))
    return network


def slice_of(rows, columns, seed=0):
    return np.random.default_rng(seed).normal(0, 80, (rows, columns)).astype("float32")


def denoise(network, slice_hu):
    return ops.convert_to_numpy(network(slice_hu[None, :, :, None]))[0, :, :, 0]


def as_described(network, slice_hu):
    """The network step by step in NumPy, `(H, W)` in HU to the same."""
    weights = iter([ops.convert_to_numpy(weight).astype("float64") for weight in network.weights])

    def convolution(features):
        return convolve(np.pad(features, [(1, 1), (1, 1), (0, 0)]), next(weights), 0)

    def normalised(features):
        scale, offset, mean, variance = (next(weights) for _ in range(4))
        return scale * (features - mean) / np.sqrt(variance + 1e-3) + offset

    def several(features, count):
        for _ in range(count):
            features = relu(normalised(convolution(features)))
        return features

    bands = slow_contourlet.analysis(slice_hu / 400)
    outputs = [several(bands, 3)]
    for _ in range(6):
        outputs.append(relu(several(outputs[-1], 3) + outputs[-1]))
    noise = convolution(several(np.concatenate(outputs, axis=-1), 2)) + next(weights)
    assert next(weights, None) is None
    confined = ops.convert_to_numpy(contourlet.confine(ops.convert_to_tensor(noise[None])))[0, :, :, 0]
    return (bands.sum(-1) - confined) * 400


def test_it_trains_4_169_231_parameters(network):
    assert sum(np.prod(variable.shape) for variable in network.trainable_variables) == TRAINED == 4_169_231
    # The running mean and variance of each normalised channel are stored, not trained.
    assert network.count_params() == TRAINED + (3 + 18 + 2) * 128 * 2


def test_it_costs_1091_gmac_a_slice_and_the_transform_1_4_more(network):
    by_hand = WEIGHTS * 512 * 512 / 1e9
    assert by_hand == pytest.approx(1091, abs=0.5)
    assert gmac(network) == pytest.approx(by_hand + 1.45, abs=0.02)


def test_it_is_the_network_that_is_described(network):
    slice_hu = slice_of(14, 17)
    expected_hu = as_described(network, slice_hu)
    np.testing.assert_allclose(denoise(network, slice_hu), expected_hu, atol=0.02)
    # The comparison says something only where the network does something.
    assert np.abs(expected_hu - slice_hu).mean() > 10


@pytest.mark.parametrize("shape", [(13, 13), (13, 22), (29, 18)])
def test_a_slice_of_any_size_keeps_its_size(network, shape):
    assert denoise(network, slice_of(*shape)).shape == shape


@pytest.mark.parametrize("shape", [(12, 64), (64, 12)])
def test_a_slice_smaller_than_a_filter_is_refused(network, shape):
    received = rf"H and W of 13 or more.*Received: shape \(1, {shape[0]}, {shape[1]}, 1\).*; pad"
    with pytest.raises(ValueError, match=received):
        network(np.zeros((1, *shape, 1), "float32"))


def test_slices_of_a_batch_do_not_mix(network):
    one_hu, other_hu = slice_of(15, 19, seed=1), slice_of(15, 19, seed=2)
    both_hu = ops.convert_to_numpy(network(np.stack([one_hu, other_hu])[..., None]))[..., 0]
    np.testing.assert_allclose(both_hu[0], denoise(network, one_hu), atol=0.02)
    np.testing.assert_allclose(both_hu[1], denoise(network, other_hu), atol=0.02)


def test_a_network_that_finds_no_noise_gives_the_slice_back():
    network = WavResNet()
    network.head.kernel.assign(np.zeros(network.head.kernel.shape))
    slice_hu = slice_of(22, 25)
    slice_hu[3, 5], slice_hu[4, 6] = 3071, -2000
    np.testing.assert_allclose(denoise(network, slice_hu), slice_hu, atol=2e-3)


def test_an_output_pixel_looks_exactly_as_far_as_the_network_says():
    network = WavResNet()
    rng = np.random.default_rng(3)
    for variable in network.trainable_variables:
        if len(variable.shape) == 4:
            # Positive weights and no biases: what a convolution sees of either sign comes through every ReLU.
            variable.assign(rng.uniform(0.5, 1.5, variable.shape) / variable.shape[2])
    reach = network.reach
    assert reach == 90
    seen = set()
    for polarity_hu in (400, -400):
        slice_hu = np.zeros((96, 13), "float32")
        slice_hu[93] = polarity_hu
        seen |= set(np.nonzero(denoise(network, slice_hu).any(axis=1))[0])
    assert min(seen) == 93 - reach


def test_an_exporter_learns_what_it_must_know(network):
    assert (network.title, network.multiple) == ("WavResNet", 1)
    slice_hu = slice_of(15, 18)[None, :, :, None]
    np.testing.assert_allclose(network.denoise_whole(slice_hu), network(slice_hu, training=False), atol=1e-3)


def test_it_survives_saving(network, tmp_path):
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    slice_hu = slice_of(15, 19)
    np.testing.assert_allclose(denoise(again, slice_hu), denoise(network, slice_hu), atol=1e-3)


def test_training_lowers_the_loss_and_changes_every_weight(monkeypatch):
    monkeypatch.setattr(wavresnet, "MODULES", 2)
    monkeypatch.setattr(wavresnet, "FEATURES", 32)
    keras.utils.set_random_seed(7)
    network = WavResNet()
    before = network.get_weights()
    clean_hu = np.full((2, 19, 21, 1), 40, "float32")
    noisy_hu = clean_hu + np.random.default_rng(8).normal(0, 25, clean_hu.shape).astype("float32")
    losses = train(
        network,
        [(noisy_hu, clean_hu)] * 10,
        TrainingConfig(steps=10, learning_rate=2e-4, ema=0.0),
        loss=keras.losses.MeanAbsoluteError(),
        progress=False,
    )
    assert np.mean(losses[-3:]) < 0.8 * losses[0]
    # The running statistics of batch normalisation too, which is how it comes out of training mode.
    assert all((old != new).any() for old, new in zip(before, network.get_weights(), strict=True))
    assert np.isfinite(denoise(network, noisy_hu[0, :, :, 0])).all()


def test_convolutions_in_bfloat16_leave_hu_in_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = WavResNet()
    finally:
        keras.config.set_dtype_policy("float32")
    assert network.modules[0].layers[0].compute_dtype == "bfloat16"
    network.head.kernel.assign(np.zeros(network.head.kernel.shape))
    flat_hu = np.full((14, 18), 1003.25, "float32")  # not a bfloat16 number: the nearest is 1004
    np.testing.assert_allclose(denoise(network, flat_hu), flat_hu, atol=1e-2)


def test_litert_gives_the_same_hu_with_builtin_operations_for_any_size(tmp_path, monkeypatch):
    monkeypatch.setattr(wavresnet, "MODULES", 2)
    monkeypatch.setattr(wavresnet, "FEATURES", 16)
    network = unlike_the_start()
    archive = keras.export.ExportArchive()
    archive.track(network)
    signature = [tf.TensorSpec((1, None, None, 1), tf.float32, name="slice_hu")]
    archive.add_endpoint("serving_default", network.denoise_whole, input_signature=signature)
    archive.write_out(tmp_path / "saved", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(tmp_path / "saved"), signature_keys=["serving_default"]
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    interpreter = Interpreter(model_content=converter.convert())
    (entrance,), (exit_,) = interpreter.get_input_details(), interpreter.get_output_details()
    for shape in [(29, 34), (41, 23)]:
        slice_hu = slice_of(*shape)
        interpreter.resize_tensor_input(entrance["index"], (1, *shape, 1))
        interpreter.allocate_tensors()
        interpreter.set_tensor(entrance["index"], slice_hu[None, :, :, None])
        interpreter.invoke()
        out_hu = interpreter.get_tensor(exit_["index"])[0, :, :, 0]
        np.testing.assert_allclose(out_hu, denoise(network, slice_hu), atol=0.05)
