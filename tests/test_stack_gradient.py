from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from kpn_tf.layers import StackMixture

SLICES = 3


@pytest.mark.parametrize("scale", [1.0, 20.0, 60.0])
def test_scores_of_any_size_have_the_gradient_of_a_softmax(scale):
    """In the first hundred steps of a training from random weights scores reach 100."""
    rng = np.random.default_rng(4)
    layer = StackMixture(21, SLICES)
    stack = tf.constant(rng.normal(40, 300, (1, 24, 32, SLICES)), tf.float32)
    features = tf.Variable(rng.normal(0, 1, (1, 12, 16, 5)), dtype=tf.float32)
    kernel = tf.constant(rng.normal(0, scale / np.sqrt(5), (1, 1, 5, 4 * layer.filters)), tf.float32)
    bias = tf.constant(rng.normal(2, 1, 4 * layer.filters), tf.float32)
    pixels = [(row, column) for row in (3, 10, 17) for column in (2, 13, 28)]

    with tf.GradientTape(persistent=True) as tape:
        denoised = layer([stack, features], predictor=SimpleNamespace(kernel=kernel, bias=bias))
        found = sum(denoised[0, row, column, 0] for row, column in pixels)
        shares = layer.shares(features @ kernel[0, 0] + bias)
        padded = np.pad(stack[0], [(10, 10), (10, 10), (0, 0)], mode="reflect")
        expected = 0.0
        for row, column in pixels:
            phase = row % 2 * 2 + column % 2
            responses = [
                np.einsum("ij,ijc->c", padded[row : row + 21, column : column + 21, z], kernels[phase])
                for z, kernels in enumerate(layer.kernels())
            ]
            expected += tf.tensordot(
                np.float32(np.concatenate(responses)), shares[phase][0, row // 2, column // 2], 1
            )
    gradient = tape.gradient(found, features).numpy()
    slow = tape.gradient(expected, features).numpy()
    assert np.isfinite(gradient).all()
    assert np.abs(slow).max() > 1
    np.testing.assert_allclose(gradient, slow, atol=2e-4 * np.abs(slow).max())
