"""Networks from files."""

import os

import keras

from kpn_tf.networks.slice_network import SliceNetwork


def load_saved(path: str | os.PathLike[str]) -> keras.Model:
    """A network from a .keras file, computing in float32 whatever it was trained in.

    Args:
        path: The file.

    Returns:
        Keras model, not compiled.

    Raises:
        Exception: Whatever Keras meets in a damaged or foreign file.
    """
    network = keras.saving.load_model(path, compile=False)
    if not isinstance(network, SliceNetwork) or network.dtype_policy.name == "float32":
        return network
    again = type(network).from_config({**network.get_config(), "dtype": "float32"})
    again.set_weights(network.get_weights())
    return again
