from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops

from kpn_tf.layers import SliceDistances, StackMixture
from kpn_tf.networks import StackKPN, StructKPN
from kpn_tf.networks.cost import gmac
from kpn_tf.ops.space_depth import space_to_depth
from kpn_tf.ops.stack_bank import block_phases_of, mirrored, phases_of
from tests.reference import slow_kernels


@pytest.fixture(scope="module", params=[3, 5])
def network(request):
    keras.utils.set_random_seed(3)
    network = StackKPN(request.param)
    rng = np.random.default_rng(1)
    # Scores far from equal, and banks far from their start: any weights must do.
    for layer in (network.predictor, network.filtering, network.trunk.distances):
        layer.set_weights([rng.normal(0, 0.5, weight.shape) for weight in layer.get_weights()])
    return network


def stack_of(rows, columns, slices, seed=0):
    return np.random.default_rng(seed).normal(0, 80, (rows, columns, slices)).astype("float32")


def distances_of(slices, step_mm=1.0):
    return np.abs(np.arange(slices) - slices // 2).astype("float32") * np.float32(step_mm)


def denoise(network, stack_hu, distances_mm):
    return ops.convert_to_numpy(network([stack_hu[None], distances_mm[None]]))[0, :, :, 0]


def test_the_bank_of_all_slices_is_the_kernels_of_all_slices(network):
    rows, columns, slices = 24, 28, network.slices
    stack_hu, distances_mm = stack_of(rows, columns, slices), distances_of(slices)
    chosen = [(0, 0), (0, 13), (11, 12), (11, 13), (12, 12), (12, 13), (23, 27)]  # all phases, the border
    kernels = network.kernels_at(stack_hu, distances_mm, *np.transpose(chosen))
    assert kernels.shape == (len(chosen), slices, 21, 21)
    np.testing.assert_allclose(kernels.sum(axis=(1, 2, 3)), 1, atol=1e-5)
    denoised = denoise(network, stack_hu, distances_mm)
    for place, by_slice in zip(chosen, kernels.reshape(len(chosen), slices, 441), strict=True):
        expected = sum(
            slow_kernels.local_conv_at(stack_hu[..., z], kernel, *place) for z, kernel in enumerate(by_slice)
        )
        assert denoised[place] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("shape", [(21, 21), (22, 27), (33, 40)])
def test_a_constant_stack_of_any_size_comes_back_unchanged(network, shape):
    flat = np.full((*shape, network.slices), 57.0, "float32")
    denoised = denoise(network, flat, distances_of(network.slices))
    np.testing.assert_allclose(denoised, flat[..., 0], atol=1e-2)


def test_what_lies_beyond_the_limits_of_the_middle_slice_alone_is_given_back(network):
    stack_hu, middle = stack_of(24, 24, network.slices), network.slices // 2
    metal = stack_hu.copy()
    metal[10, 10] = 3071.0
    beyond = metal.copy()
    beyond[10, 10, middle] += 9000.0
    beyond[10, 10, middle - 1] += 5000.0
    distances_mm = distances_of(network.slices)
    before, after = denoise(network, metal, distances_mm), denoise(network, beyond, distances_mm)
    difference = after - before
    assert difference[10, 10] == pytest.approx(9000.0, abs=0.1)
    difference[10, 10] = 0
    assert np.abs(difference).max() < 0.01


def test_the_network_is_told_the_distance_of_the_slices(network):
    stack_hu = stack_of(24, 24, network.slices)
    near, far = (denoise(network, stack_hu, distances_of(network.slices, mm)) for mm in (1.0, 5.0))
    assert np.abs(near - far).max() > 1.0


def test_no_distance_says_nothing():
    layer = SliceDistances(4)
    layer.build((None, 3))
    layer.set_weights([np.ones(layer.get_weights()[0].shape)])
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(np.zeros((1, 3), "float32"))), 0)
    assert ops.convert_to_numpy(layer(np.float32([[1, 0, 0]]))).shape == (1, 1, 1, 4)


def test_a_stack_network_survives_saving(network, tmp_path):
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    assert again.slices == network.slices
    stack_hu, distances_mm = stack_of(23, 31, network.slices), distances_of(network.slices)
    np.testing.assert_allclose(
        denoise(again, stack_hu, distances_mm), denoise(network, stack_hu, distances_mm), atol=1e-4
    )


def test_five_slices_cost_less_than_todays_single_slice():
    keras.utils.set_random_seed(1)
    assert gmac(StackKPN(5)) < 8.0 < gmac(StructKPN("edge")) < 13.0


def test_a_trunk_of_another_size_survives_its_configuration():
    network = StackKPN(3, 13, channels=8, wide_channels=12, blocks=1)
    again = StackKPN.from_config(network.get_config())
    assert again.get_config() == network.get_config()
    assert (again.trunk.channels, again.trunk.wide_channels, len(again.trunk.blocks)) == (8, 12, 1)
    assert gmac(again) < gmac(StackKPN(3, 13)) / 3


@pytest.mark.parametrize("wrong", [{"channels": 0}, {"wide_channels": -1}, {"blocks": 0}])
def test_a_trunk_of_no_size_is_refused(wrong):
    with pytest.raises(ValueError, match="Expected channels, wide_channels and blocks of 1 or more"):
        StackKPN(**wrong)


def mixture_inputs(layer, scale):
    """A stack and features, and what makes scores of them, of standard deviation `scale`."""
    rng = np.random.default_rng(4)
    features = rng.normal(0, 1, (1, 12, 16, 5)).astype("float32")
    kernel = rng.normal(0, scale / np.sqrt(5), (1, 1, 5, 4 * layer.filters)).astype("float32")
    bias = rng.normal(2, 1, 4 * layer.filters).astype("float32")
    return [stack_of(24, 32, layer.slices)[None], features], SimpleNamespace(kernel=kernel, bias=bias)


@pytest.mark.parametrize("scale", [1.0, 60.0])
def test_slice_after_slice_is_the_softmax_over_the_filters_of_all_slices(scale):
    layer = StackMixture(21, 3)
    inputs, predictor = mixture_inputs(layer, scale)
    denoised = ops.convert_to_numpy(layer(inputs, predictor=predictor))[0, :, :, 0]
    assert np.isfinite(denoised).all()
    shares = [
        ops.convert_to_numpy(phase)[0]
        for phase in layer.shares(inputs[1] @ predictor.kernel[0, 0] + predictor.bias)
    ]
    padded = np.pad(inputs[0][0], [(10, 10), (10, 10), (0, 0)], mode="reflect")
    for row, column in [(0, 0), (5, 6), (12, 31), (23, 30)]:
        phase = row % 2 * 2 + column % 2
        responses = [
            np.einsum("ij,ijc->c", padded[row : row + 21, column : column + 21, z], kernels[phase])
            for z, kernels in enumerate(layer.kernels())
        ]
        expected = np.concatenate(responses) @ shares[phase][row // 2, column // 2]
        assert denoised[row, column] == pytest.approx(expected, abs=2e-3)


def test_mirrored_borders_and_phases_are_those_of_the_operations_that_litert_is_slow_in():
    stack = stack_of(16, 20, 3)[None]
    np.testing.assert_array_equal(
        mirrored(stack, 4), np.pad(stack, [(0, 0), (4, 4), (4, 4), (0, 0)], "reflect")
    )
    means = stack.reshape(1, 8, 2, 10, 2, 3).mean((2, 4))
    for of, image in ((phases_of, stack), (block_phases_of, means)):
        found = ops.convert_to_numpy(of(stack))
        for z in range(3):
            expected = ops.convert_to_numpy(space_to_depth(image[..., z : z + 1], 2))
            np.testing.assert_allclose(found[..., 4 * z : 4 * z + 4], expected, atol=1e-4)


def test_the_mixture_comes_back_from_its_configuration():
    layer = StackMixture(21, 3)
    inputs, predictor = mixture_inputs(layer, 1.0)
    before = ops.convert_to_numpy(layer(inputs, predictor=predictor))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    np.testing.assert_array_equal(ops.convert_to_numpy(again(inputs, predictor=predictor)), before)


def test_a_trunk_in_bfloat16_leaves_hu_in_float32():
    network = StackKPN(3, dtype="mixed_bfloat16")
    flat = np.full((24, 28, 3), 1003.25, "float32")  # not a bfloat16 number: the nearest is 1004
    np.testing.assert_allclose(denoise(network, flat, distances_of(3)), flat[..., 0], atol=1e-2)


def test_the_scores_are_made_in_float32_under_every_dtype_policy(network):
    half = StackKPN(network.slices, dtype="mixed_bfloat16")
    full = StackKPN(network.slices)
    weights = [
        weight * ("trunk" not in variable.path)
        for weight, variable in zip(network.get_weights(), network.weights, strict=True)
    ]
    for one in (half, full):
        one.set_weights(weights)  # No features: the bias alone decides the shares.
    stack_hu, distances_mm = stack_of(24, 28, network.slices), distances_of(network.slices)
    np.testing.assert_allclose(
        denoise(half, stack_hu, distances_mm), denoise(full, stack_hu, distances_mm), atol=1e-3
    )


def test_wrong_stacks_are_refused(network):
    with pytest.raises(ValueError, match=r"slices to be one of \(3, 5\). Received: 2"):
        StackKPN(2)
    for wrong in (5, 20, 23):
        with pytest.raises(ValueError, match=rf"multiple of 4 plus one: .* Received: {wrong}"):
            StackKPN(kernel_size=wrong)
    with pytest.raises(ValueError, match=rf"stack of shape \(H, W, {network.slices}\)"):
        network.kernels_at(np.zeros((24, 24)), distances_of(network.slices), [0], [0])
