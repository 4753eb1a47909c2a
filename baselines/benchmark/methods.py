"""From the name of a method to what denoises, and to what is trained."""

import importlib
import json
import warnings
from functools import partial
from pathlib import Path

import numpy as np

from baselines.packages import LicenceWarning
from baselines.redcnn import REDCNN
from baselines.wavresnet import WavResNet
from kpn_tf.denoiser import Denoiser
from kpn_tf.denoiser.artefact import WEIGHTS_FOLDER, open_artefact
from kpn_tf.losses import StructureAwareLoss, absolute_error
from kpn_tf.networks import StructKPN

# Greatest rates of Adam. Xu et al. train with 1e-4; `edge`, whose filters start as filters, was made with 1e-3.
LEARNING_RATES = {"redcnn": 1e-4, "redcnn16": 1e-3, "wavresnet": 1e-4, "paper": 1e-4, "edge": 1e-3}

# `redcnn16`: 12.9 GMAC for a slice of 512x512, where `edge` has 12.0.
_NETWORKS = {"redcnn": REDCNN, "redcnn16": partial(REDCNN, channels=16), "wavresnet": WavResNet}
# Imported when chosen: both need an extra.
_CLASSICAL = {"ksvd": ("baselines.ksvd", "KSVD"), "bm3d": ("baselines.bm3d", "BM3D")}
# What was chosen for them on the validation patient.
_CHOSEN = {"ksvd": ("FACTOR", "NOISY"), "bm3d": ("FACTOR", "NOISY")}
_LOSSES = {
    "l1": lambda: absolute_error,
    "published": lambda: StructureAwareLoss(absolute="window"),
    "structure": StructureAwareLoss,
}


def new_network(method):
    """The untrained network of a `Method` that is trained."""
    if method.kind in _NETWORKS:
        return _NETWORKS[method.kind]()
    return StructKPN(method.kind, method.kernel_size)


def loss_of(method):
    """The loss of a `Method` that is trained, on slices `(B, H, W, 1)` in HU."""
    return _LOSSES[method.loss]()


def denoiser(method, network=None):
    """What denoises slices `(H, W)` in HU.

    Args:
        method: `Method`.
        network: Keras model; needed by a method that is trained.

    Returns:
        Callable `(H, W)` HU -> `(H, W)` HU, or `None` for the low dose itself.

    Raises:
        ImportError: If a method needs an extra that is not installed.
    """
    if method.kind == "low dose":
        return None
    if method.is_shipped:
        return Denoiser(Path(method.kind).stem)
    if method.kind in _CLASSICAL:
        module, name = _CLASSICAL[method.kind]
        with warnings.catch_warnings():
            # The page names the licence, every time.
            warnings.simplefilter("ignore", LicenceWarning)
            return getattr(importlib.import_module(module), name)()

    def denoise(slice_hu):
        return network.predict_on_batch(np.asarray(slice_hu, np.float32)[None, :, :, None])[0, :, :, 0]

    return denoise


def identity(method):
    """What besides its name decides what an untrained method computes, for `json.dumps`."""
    if method.is_shipped:
        artefact = open_artefact(Path(method.kind).stem)
        return {"file_sha256": artefact.file_sha256, "weights_sha256": artefact.weights_sha256}
    if method.kind in _CLASSICAL:
        module = importlib.import_module(_CLASSICAL[method.kind][0])
        return {name.lower(): getattr(module, name) for name in _CHOSEN[method.kind]}
    return {}


def shipped_training(method):
    """How weights that are shipped were trained, as far as the record beside them says.

    Returns:
        Dict with `steps`, `learning_rate`, `batch` and `patch`; `None` for what it does not say.
    """
    record = json.loads((WEIGHTS_FOLDER / f"{Path(method.kind).stem}_run.json").read_text(encoding="utf-8"))
    pairs = record.get("pairs") or {}
    return {
        "steps": record["config"]["steps"],
        "learning_rate": record["config"]["learning_rate"],
        "batch": pairs.get("batch_size"),
        "patch": pairs.get("patch"),
    }
