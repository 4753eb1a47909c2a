"""A network for stacks whose kernels differ from pixel to pixel, without training."""

import keras
import numpy as np

from kpn_tf.networks import StackKPN


def stack_network(slices=3):
    """`StackKPN` with random scores and random features of the distances."""
    keras.utils.set_random_seed(3)
    network = StackKPN(slices)
    rng = np.random.default_rng(1)
    for layer in (network.predictor, network.trunk.distances):
        layer.set_weights([rng.normal(0, 0.5, weight.shape) for weight in layer.get_weights()])
    return network
