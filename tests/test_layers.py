import keras
import numpy as np
import pytest
from keras import ops

from kpn_tf.layers import FilterMixture, LocalConv, ResidualBlock
from kpn_tf.ops.local_conv import local_conv


def noise(shape, seed):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def test_the_local_conv_layer_is_the_operation():
    image, kernels = noise((2, 11, 7, 1), 1), noise((2, 11, 7, 9), 2)
    out = LocalConv()([image, kernels])
    np.testing.assert_array_equal(ops.convert_to_numpy(out), ops.convert_to_numpy(local_conv(image, kernels)))


def test_a_filter_mixture_applies_the_mixed_unit_sum_kernels():
    layer = FilterMixture(kernel_size=5, filters=9)
    image, scores = noise((1, 12, 14, 1), 3), noise((1, 6, 7, 36), 4)
    out = ops.convert_to_numpy(layer([image, scores]))
    layer.bank.assign(noise((5, 5, 9), 5))  # any bank, its sums far from one
    bank = ops.convert_to_numpy(layer.unit_sum_bank())
    np.testing.assert_allclose(bank.sum(axis=(0, 1)), 1, atol=1e-5)
    out = ops.convert_to_numpy(layer([image, scores]))
    shares = ops.convert_to_numpy(layer.shares(scores)).reshape(6, 7, 2, 2, 9)
    shares = shares.transpose(0, 2, 1, 3, 4).reshape(1, 12, 14, 9)
    np.testing.assert_allclose(shares.sum(-1), 1, atol=1e-5)
    kernels = np.einsum("bhwc,ijc->bhwij", shares, bank).reshape(1, 12, 14, 25)
    np.testing.assert_allclose(out, ops.convert_to_numpy(local_conv(image, kernels)), atol=1e-5)


def test_two_groups_do_not_mix_their_channels():
    block = ResidualBlock(6, groups=2)
    features = noise((1, 9, 11, 6), 6)
    before = ops.convert_to_numpy(block(features))
    features[..., :3] += 1
    after = ops.convert_to_numpy(block(features))
    np.testing.assert_array_equal(before[..., 3:], after[..., 3:])
    assert np.abs(before[..., :3] - after[..., :3]).max() > 0.1


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        (LocalConv(), [(1, 8, 6, 1), (1, 8, 6, 9)]),
        (FilterMixture(5, 9), [(1, 8, 6, 1), (1, 4, 3, 36)]),
        (ResidualBlock(4, groups=2), [(1, 8, 6, 4)]),
    ],
)
def test_layers_come_back_from_their_configuration(layer, shapes):
    inputs = [noise(shape, 7) for shape in shapes]
    inputs = inputs if len(inputs) > 1 else inputs[0]
    before = ops.convert_to_numpy(layer(inputs))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    again(inputs)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(ops.convert_to_numpy(again(inputs)), before)
