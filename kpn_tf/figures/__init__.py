"""Figures for papers and reports, drawn with matplotlib: what the loss weighs, kernels, training curves."""

import importlib

# Public name -> module that holds it. Resolved on first use: each figure loads only what it draws from.
_PUBLIC = {
    "write": "kpn_tf.figures.style",
}
_EXTRAS = {"matplotlib": "figures", "tensorflow": "train", "keras": "train"}

__all__ = [*_PUBLIC]


def __getattr__(name):
    if name in _PUBLIC:
        try:
            return getattr(importlib.import_module(_PUBLIC[name]), name)
        except ModuleNotFoundError as missing:
            if missing.name not in _EXTRAS:
                raise
            raise ImportError(
                f"kpn_tf.figures.{name} needs {missing.name}: pip install 'kpn-tf[{_EXTRAS[missing.name]}]'"
            ) from None
    raise AttributeError(f"module 'kpn_tf.figures' has no attribute {name!r}")


def __dir__():
    return __all__
