"""Deployable artefacts from trained networks, each proved against Keras in HU."""

from kpn_tf.lazy import public_names

# Public name -> module that holds it: each runtime costs seconds and memory to load.
_PUBLIC = {
    "Release": "export.about",
    "to_onnx": "export.onnx",
    "to_openvino": "export.openvino",
    "to_saved_model": "export.saved_model",
    "to_tflite": "export.tflite",
}

__all__ = list(_PUBLIC)
__getattr__, __dir__ = public_names("export", _PUBLIC)
