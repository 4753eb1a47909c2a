"""What tells trained values from others, whatever file they lie in."""

import hashlib

import numpy as np


def weights_sha256(network):
    """Hash of the trained values: equal in all forms of a network.

    Args:
        network: Keras model.

    Returns:
        SHA-256 over the values of all variables, in the order in which Keras lists them; a hexadecimal string.
    """
    digest = hashlib.sha256()
    for weight in network.weights:
        digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return digest.hexdigest()
