"""Low-dose CT noise removal by kernel prediction networks: Hounsfield units in, Hounsfield units out."""

import importlib

__version__ = "0.1.0"

# Public name -> module that holds it. Resolved on first use, so that a workstation
# without TensorFlow can import the package and denoise.
_PUBLIC = {
    "Denoiser": "kpn_tf.denoiser",
    "LocalConv": "kpn_tf.layers.local_conv",
    "StructKPN": "kpn_tf.networks.struct_kpn",
    "StructureAwareLoss": "kpn_tf.losses.structure_aware",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name):
    if name in _PUBLIC:
        try:
            return getattr(importlib.import_module(_PUBLIC[name]), name)
        except ModuleNotFoundError as missing:
            if missing.name not in ("tensorflow", "keras"):
                raise
            raise ImportError(
                f"kpn_tf.{name} needs the training extra: pip install 'kpn-tf[train]'"
            ) from None
    raise AttributeError(f"module 'kpn_tf' has no attribute {name!r}")


def __dir__():
    return __all__
