import keras
import numpy as np
import pytest
from keras import ops

from baselines.redcnn import REDCNN
from kpn_tf.hounsfield import SEEN
from kpn_tf.networks.cost import gmac
from tests.reference import slow_redcnn


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(5)
    network = REDCNN()
    rng = np.random.default_rng(6)
    for layer in [*network.encoder, *network.decoder]:
        # Keras starts biases at zero; a bias that is left out would go unnoticed.
        layer.bias.assign(rng.normal(0, 0.1, layer.bias.shape))
    return network


def slice_of(rows, columns, seed=0):
    return np.random.default_rng(seed).normal(0, 80, (rows, columns)).astype("float32")


def denoise(network, slice_hu):
    return ops.convert_to_numpy(network(slice_hu[None, :, :, None]))[0, :, :, 0]


# By hand: (25·1·96 + 96) + 8·(25·96·96 + 96) + (25·96·1 + 1).
def test_it_has_1848865_parameters(network):
    assert network.count_params() == 1_848_865


# By hand, from the sides between the layers of a 512x512 slice: 508, 504, 500, 496, 492 and back.
def test_it_costs_458_gmac_a_slice(network):
    by_hand = 2 * (508**2 * 25 * 96 + (504**2 + 500**2 + 496**2 + 492**2) * 25 * 96 * 96) / 1e9
    assert gmac(network) == pytest.approx(by_hand, rel=1e-12)
    assert gmac(network) == pytest.approx(458, abs=0.5)


def test_the_cost_follows_rows_and_columns(network):
    # One pixel is left in the middle of the smallest slice: its 5x5 kernels meet 1, 25, 81, 169, 289 pixels.
    by_hand = 2 * (289 * 25 * 96 + (169 + 81 + 25 + 1) * 25 * 96 * 96) / 1e9
    assert gmac(network, 21, 21) == pytest.approx(by_hand, rel=1e-12)
    assert gmac(network, 40, 61) == gmac(network, 61, 40) > gmac(network, 40, 60)


def test_it_is_the_network_of_the_figure(network):
    slice_hu = slice_of(24, 29)
    layers = [
        [tuple(ops.convert_to_numpy(w) for w in (layer.kernel, layer.bias)) for layer in half]
        for half in (network.encoder, network.decoder)
    ]
    expected_hu = slow_redcnn.red_cnn((slice_hu + 1024) / 400, *layers) * 400 - 1024
    np.testing.assert_allclose(denoise(network, slice_hu), expected_hu, atol=0.02)
    # The comparison says something only where the last ReLU lets the network's own numbers through.
    assert (expected_hu > -1024).mean() > 0.5


@pytest.mark.parametrize("shape", [(21, 21), (21, 34), (37, 22)])
def test_a_slice_of_any_size_keeps_its_size(network, shape):
    assert denoise(network, slice_of(*shape)).shape == shape


def test_slices_of_a_batch_do_not_mix(network):
    one_hu, other_hu = slice_of(23, 27, seed=1), slice_of(23, 27, seed=2)
    both_hu = ops.convert_to_numpy(network(np.stack([one_hu, other_hu])[..., None]))[..., 0]
    np.testing.assert_allclose(both_hu[0], denoise(network, one_hu), atol=0.02)
    np.testing.assert_allclose(both_hu[1], denoise(network, other_hu), atol=0.02)


def test_without_weights_the_slice_comes_back_down_to_minus_1024_hu():
    network = REDCNN()
    network.set_weights([np.zeros(variable.shape) for variable in network.weights])
    slice_hu = slice_of(22, 25)
    slice_hu[3, 5], slice_hu[4, 6] = 3071, -2000
    seen_hu = np.clip(slice_hu, SEEN.low_hu, SEEN.high_hu)
    expected_hu = np.maximum(seen_hu, -1024) + slice_hu - seen_hu
    np.testing.assert_allclose(denoise(network, slice_hu), expected_hu, atol=1e-3)


def test_an_exporter_learns_what_it_must_know(network):
    assert (network.title, network.multiple) == ("RED-CNN", 1)
    slice_hu = slice_of(23, 26)[None, :, :, None]
    np.testing.assert_array_equal(network.denoise_whole(slice_hu), network(slice_hu))


def test_an_output_pixel_looks_exactly_as_far_as_the_network_says():
    network = REDCNN()
    for layer in [*network.encoder, *network.decoder]:
        # Positive weights and no biases: whatever a convolution sees comes through every ReLU.
        layer.kernel.assign(np.full(layer.kernel.shape, 0.01))
    slice_hu = np.full((49, 45), -1024, "float32")
    slice_hu[24, 22] = 3071
    rows, columns = np.nonzero(denoise(network, slice_hu) != -1024)
    assert network.reach == 20
    assert (rows.min(), rows.max()) == (24 - 20, 24 + 20)
    assert (columns.min(), columns.max()) == (22 - 20, 22 + 20)


def test_a_narrower_network_has_fewer_channels_and_keeps_them(tmp_path):
    network = REDCNN(channels=3)
    # By hand: (25·1·3 + 3) + 8·(25·3·3 + 3) + (25·3·1 + 1).
    assert network.count_params() == 78 + 8 * 228 + 76
    network.save(tmp_path / "network.keras")
    assert keras.saving.load_model(tmp_path / "network.keras").count_params() == network.count_params()


def test_weights_from_before_the_channels_could_be_chosen_have_96(network):
    config = network.get_config()
    assert config.pop("channels") == 96
    assert REDCNN.from_config(config).count_params() == network.count_params()


def test_a_network_without_channels_is_refused():
    with pytest.raises(ValueError, match=r"Expected one channel or more\. Received: 0"):
        REDCNN(channels=0)


@pytest.mark.parametrize("shape", [(20, 64), (64, 20)])
def test_a_slice_smaller_than_its_reach_is_refused(network, shape):
    received = rf"H and W of 21 or more.*Received: shape \(1, {shape[0]}, {shape[1]}, 1\).*; pad"
    with pytest.raises(ValueError, match=received):
        network(np.zeros((1, *shape, 1), "float32"))


def test_it_survives_saving(network, tmp_path):
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    slice_hu = slice_of(23, 31)
    np.testing.assert_allclose(denoise(again, slice_hu), denoise(network, slice_hu), atol=1e-3)


def test_fit_changes_every_weight():
    keras.utils.set_random_seed(7)
    network = REDCNN()
    before = network.get_weights()
    network.compile(optimizer="sgd", loss="mae")
    clean_hu = np.full((2, 25, 23, 1), 40, "float32")
    noisy_hu = clean_hu + np.random.default_rng(8).normal(0, 25, clean_hu.shape)
    network.fit(noisy_hu, clean_hu, batch_size=2, verbose=0)
    assert all((old != new).any() for old, new in zip(before, network.get_weights(), strict=True))


def test_convolutions_in_bfloat16_leave_hu_in_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = REDCNN()
    finally:
        keras.config.set_dtype_policy("float32")
    network.set_weights([np.zeros(variable.shape) for variable in network.weights])
    flat_hu = np.full((24, 28), 1003.25, "float32")  # not a bfloat16 number: the nearest is 1004
    np.testing.assert_allclose(denoise(network, flat_hu), flat_hu, atol=1e-2)
