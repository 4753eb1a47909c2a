"""Figures for papers and reports, drawn with matplotlib: what the loss weighs, kernels, training curves, quality."""

import importlib

# Public name -> module that holds it. Resolved on first use: each figure loads only what it draws from.
_PUBLIC = {
    "quality_figures": "kpn_tf.figures.quality",
    "remarkable_pixels": "kpn_tf.figures.structure",
    "structure_figure": "kpn_tf.figures.structure",
    "training_figure": "kpn_tf.figures.training",
    "write": "kpn_tf.figures.style",
}
_EXTRAS = {"matplotlib": "figures", "tensorflow": "train", "keras": "train"}

__all__ = [*_PUBLIC]


def __getattr__(name):
    if name in _PUBLIC:
        try:
            return getattr(importlib.import_module(_PUBLIC[name]), name)
        except ModuleNotFoundError as missing:
            package = missing.name.partition(".")[0]
            if package not in _EXTRAS:
                raise
            raise ImportError(
                f"kpn_tf.figures.{name} needs {package}: in a checkout, pip install '.[{_EXTRAS[package]}]'"
            ) from None
    raise AttributeError(f"module 'kpn_tf.figures' has no attribute {name!r}")


def __dir__():
    return __all__
