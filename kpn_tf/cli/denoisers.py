"""Words that name denoisers -> callables HU -> HU: shipped or own networks, baselines, any Python function."""

import dataclasses
import hashlib
import importlib
import importlib.metadata
import math
import os
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kpn_tf import console
from kpn_tf.cli import extras
from kpn_tf.cli.networks import is_network, load_network, network_path
from kpn_tf.denoiser import Denoiser, stacked
from kpn_tf.denoiser.strength import AtStrength, Remembering
from kpn_tf.evaluation.mean_of_slices import MeanOfSlices

MEAN = "mean3"


@dataclass(frozen=True)
class NamedDenoiser:
    """A denoiser to evaluate.

    Args:
        name: In the table.
        denoise: Callable `(H, W)` HU -> `(H, W)` HU.
        about: What identifies it, for the JSON document.
    """

    name: str
    denoise: object = field(repr=False)
    about: dict


def open_denoisers(words, threads, strengths=(), *, timed=False):
    """Makes the denoisers that the words name.

    Args:
        words: Each the name of shipped weights, a .tflite, a .keras, the name of a baseline's weights, `mean3` (the
            mean of three neighbouring slices), `bm3d` or `ksvd` (both also with `:SIGMA_HU`), `bm4d:SIGMA_HU`, or
            `module:function`; perhaps with `@STRENGTH` behind it.
        threads: For networks; `None` leaves it to them.
        strengths: Shares of the correction for those whose word has none: of several, a denoiser for each.
        timed: Whether their time is taken: then each strength runs for itself, else one run for each slice does for all
            strengths of a denoiser.

    Returns:
        List of `NamedDenoiser`; a file is called by its stem, or as typed where two would be called the same, and one
        below strength 1 with `@STRENGTH` behind it.

    Raises:
        ImportError: If a denoiser needs an extra that is not installed.
        FileNotFoundError: If there is no such network.
        ValueError: If a word names nothing, or two words name the same.
    """
    asked = [
        (name, strength)
        for name, own in map(_parted, words)
        for strength in ((own,) if own is not None else strengths or (1.0,))
    ]
    if len(set(asked)) < len(asked):
        raise ValueError(
            f"Expected every denoiser once, or at different strengths. Received: {', '.join(words)}"
        )
    names = list(dict.fromkeys(name for name, _ in asked))
    if threads is not None and any(map(is_network, names)):
        _limit_tensorflow(threads)
    opened = {name: _open(name, threads) for name in names}
    if not timed:
        opened = {
            name: dataclasses.replace(one, denoise=Remembering(one.denoise)) for name, one in opened.items()
        }
    called = [denoiser.name for denoiser in opened.values()]
    return [
        _at(opened[name], opened[name].name if called.count(opened[name].name) == 1 else name, strength)
        for name, strength in asked
    ]


def _parted(word):
    """`NAME@STRENGTH` -> the name and the strength; `None` for a word without one."""
    name, at, text = word.rpartition("@")
    try:
        strength = float(text) if at and name else None
    except ValueError:
        # An @ in the name of a file.
        return word, None
    if strength is None:
        return word, None
    if not 0.0 <= strength <= 1.0:
        raise ValueError(f"Expected NAME@STRENGTH with a strength from 0 to 1. Received: {word}")
    return name, strength


def _at(opened, name, strength):
    """A denoiser under its name, at a strength."""
    if strength == 1.0:
        return NamedDenoiser(name, opened.denoise, opened.about)
    about = {**opened.about, "strength": strength}
    return NamedDenoiser(f"{name}@{strength:g}", AtStrength(opened.denoise, strength), about)


def most_slices(functions):
    """Slices of a stack that the widest of the denoisers sees: 1 where none sees neighbours."""
    return max(getattr(function, "slices", 1) for function in functions)


def _open(word, threads):
    if is_network(word):
        return _keras(word)
    if word == MEAN:
        mean = MeanOfSlices()
        return NamedDenoiser(word, mean, {"mean_of_slices": mean.slices})
    name, _, _ = word.partition(":")
    baselines = {"bm3d": _bm3d, "bm4d": _bm4d, "ksvd": _ksvd}
    if name in baselines:
        extras.require(f"--denoiser {word}", "baselines")
        return baselines[name](word)
    if ":" in word and Path(word).suffix != ".tflite":
        return _function(word)
    with console.silenced():
        denoiser = Denoiser(word, threads=threads)
    about = {**denoiser.identity._asdict(), "threads": denoiser.threads}
    return NamedDenoiser(Path(word).stem, denoiser, about)


def _bm3d(word):
    from baselines.bm3d import BM3D, FACTOR

    sigma_hu = _sigma_hu(word)
    denoiser = _licensed(lambda: BM3D(sigma_hu))
    about = {
        "bm3d": importlib.metadata.version("bm3d"),
        **_noise(sigma_hu, FACTOR),
        "stage": "hard thresholding",
    }
    return NamedDenoiser(word, denoiser, about)


def _bm4d(word):
    from baselines.bm4d import BM4D

    sigma_hu = _sigma_hu(word)
    if sigma_hu is None:
        raise ValueError(f"Expected bm4d:SIGMA with a noise in HU above 0. Received: {word}")
    denoiser = _licensed(lambda: BM4D(sigma_hu))
    about = {
        "bm4d": importlib.metadata.version("bm4d"),
        "sigma_hu": sigma_hu,
        "slices": denoiser.slices,
        "stage": "hard thresholding",
    }
    return NamedDenoiser(word, denoiser, about)


def _licensed(make):
    """Makes a denoiser and says what its licence allows."""
    from baselines.packages import LicenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LicenceWarning)
        denoiser = make()
    for warning in caught:
        console.say(f"notice: {warning.message}", sys.stderr)
    return denoiser


def _ksvd(word):
    from baselines.ksvd import FACTOR, KSVD

    sigma_hu = _sigma_hu(word)
    denoiser = KSVD(sigma_hu)
    about = {
        "dictlearn": importlib.metadata.version("dictlearn"),
        **_noise(sigma_hu, FACTOR),
        "seed": denoiser.seed,
    }
    return NamedDenoiser(word, denoiser, about)


def _sigma_hu(word):
    """The noise that `NAME:SIGMA_HU` states, or `None`."""
    name, stated, text = word.partition(":")
    if not stated:
        return None
    try:
        sigma_hu = float(text)
    except ValueError:
        sigma_hu = math.nan
    if not 0 < sigma_hu < math.inf:
        raise ValueError(f"Expected {name}:SIGMA with a noise in HU above 0. Received: {word}")
    return sigma_hu


def _noise(sigma_hu, factor):
    """What is told of the noise a denoiser expects."""
    return {"sigma_over_noise": factor} if sigma_hu is None else {"sigma_hu": sigma_hu}


def _keras(word):
    extras.require(f"--denoiser {word}", "train")
    network = load_network(word)

    import keras

    from kpn_tf.networks.fingerprint import weights_sha256

    slices = getattr(network, "slices", 1)

    def denoise(slice_hu, neighbours=()):
        stack_hu, distances_mm = stacked(np.asarray(slice_hu, np.float32), neighbours, slices)
        inputs = stack_hu[None] if slices == 1 else [stack_hu[None], distances_mm[None]]  # (1, H, W, S)
        return network.predict_on_batch(inputs)[0, :, :, 0]

    denoise.slices = slices
    about = {
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
        "file_sha256": hashlib.sha256(network_path(word).read_bytes()).hexdigest(),
        "weights_sha256": weights_sha256(network),
    }
    return NamedDenoiser(network_path(word).stem, denoise, about)


def _limit_tensorflow(threads):
    extras.require("--denoiser with a .keras", "train")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with console.silenced():
        import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)


def _function(word):
    module, _, name = word.partition(":")
    # As with python -m: what lies in the current folder can be named.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        function = getattr(importlib.import_module(module), name)
    except Exception as error:
        # Whatever a stranger's module does when it is imported.
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"Expected module:function that can be imported. Received: {word} ({reason})"
        ) from error
    if not callable(function):
        raise ValueError(f"Expected a function from HU to HU. Received: {word}, which cannot be called")
    return NamedDenoiser(word, function, {"function": word})
