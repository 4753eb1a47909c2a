"""Deployable artefacts from trained networks, each proved against Keras in HU."""

from typing import TYPE_CHECKING

from kpn_tf.lazy import public_names

if TYPE_CHECKING:
    from export.about import Release as Release
    from export.onnx import to_onnx as to_onnx
    from export.openvino import to_openvino as to_openvino
    from export.saved_model import to_saved_model as to_saved_model
    from export.tflite import to_tflite as to_tflite

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
