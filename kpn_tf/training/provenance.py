"""What a run folder says of how its training came about."""

import contextlib
import importlib
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np

import kpn_tf

# What Keras adds to the configuration of a network.
_OF_EVERY_LAYER = ("name", "trainable", "dtype")


def identity(network, config, loss, pairs):
    """What must be the same on every machine of a training, and for it to go on exactly.

    Args:
        network: Keras model.
        config: `TrainingConfig`.
        loss: Keras loss or function.
        pairs: Where they have a method `describe`, what it returns is part of it.

    Returns:
        Dict as it comes back from a JSON file: lists, no tuples.
    """
    # The name counts how many networks this process made: it says nothing of the network. Its dtype policy is named.
    shape = {key: value for key, value in network.get_config().items() if key not in _OF_EVERY_LAYER}
    found = {
        "config": asdict(config),
        "network": {"class": type(network).__name__, **shape},
        "precision": network.dtype_policy.name,
        "loss": _described_loss(loss),
        "pairs": pairs.describe() if hasattr(pairs, "describe") else None,
    }
    return json.loads(json.dumps(found))


def _described_loss(loss):
    if isinstance(loss, keras.losses.Loss):
        return {"class": type(loss).__name__, **loss.get_config()}
    return getattr(loss, "__name__", type(loss).__name__)


def _git_revision():
    """Revision of the checkout this package runs from; `None` if it runs from none, or without git."""
    checkout = Path(kpn_tf.__file__).parents[1]
    if not (checkout / ".git").exists():
        return None  # Installed: the repository around it, if any, is somebody else's.
    with contextlib.suppress(OSError):
        finished = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=False
        )
        return finished.stdout.strip() or None
    return None


def device_name():
    """Names what Keras computes on here: a GPU, or the processor."""
    # Imported here: no other backend needs them, and a process that imported JAX cannot be forked any more.
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.devices()[0].device_kind
    if backend == "tensorflow":
        import tensorflow as tf

        for adapter in tf.config.list_physical_devices("GPU"):
            return tf.config.experimental.get_device_details(adapter).get("device_name", "GPU")
    from kpn_tf.denoiser.devices import cpu_name

    return cpu_name()


def provenance():
    """What a training is made with and on, and was called as: a dict that `json.dumps` takes."""
    backend = keras.backend.backend()
    return {
        "device": device_name(),
        "git_revision": _git_revision(),
        "versions": {
            "kpn_tf": kpn_tf.__version__,
            "keras": keras.__version__,
            backend: importlib.import_module(backend).__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        # Folders may be named after patients.
        "command": [
            Path(sys.argv[0]).name,
            *("PATH" if os.sep in word or os.path.exists(word) else word for word in sys.argv[1:]),
        ],
    }
