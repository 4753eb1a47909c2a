"""A `.keras` file -> the network in it, with one sentence where that fails."""

import os
from pathlib import Path

from baselines import shipped
from kpn_tf import console


def is_network(word):
    """Whether a word names a network of Keras: a .keras file, or weights that come with the baselines."""
    return Path(word).suffix == ".keras" or word in shipped.names()


def network_path(word):
    """The .keras file that a word for which `is_network` holds stands for."""
    return shipped.weights(word) if word in shipped.names() else Path(word)


def load_network(word):
    """Loads a network that this project made; TensorFlow is imported only now.

    Args:
        word: A .keras file, or the name of weights that come with the baselines, such as `"redcnn-l1"`.

    Returns:
        Keras model, HU in and HU out.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If Keras cannot load it.
    """
    path = network_path(str(word))
    if path.suffix != ".keras" or not path.is_file():
        raise FileNotFoundError(
            f"Expected a .keras file or one of {', '.join(shipped.names())}. Received: {word}, which is none"
        )
    # Read when TensorFlow is first imported; without it, it greets with lines about its devices.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with console.silenced():
        from kpn_tf.networks import load_saved

        try:
            return load_saved(path)
        except Exception as error:
            # Keras raises whatever it meets in a damaged or foreign archive.
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(
                f"Expected a network that Keras can load. Received: {path} ({reason})"
            ) from error
