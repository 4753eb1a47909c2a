"""Low-dose CT noise removal by kernel prediction networks: Hounsfield units in, Hounsfield units out."""

from kpn_tf import registration
from kpn_tf.lazy import public_names

__version__ = "0.1.0"

# Public name -> module that holds it: a workstation without TensorFlow can import the package and denoise.
_PUBLIC = {
    "Denoiser": "kpn_tf.denoiser",
    "LocalConv": "kpn_tf.layers.local_conv",
    "MeasuredPairs": "kpn_tf.training.pairs",
    "PSNR": "kpn_tf.losses.fidelity",
    "SSIM": "kpn_tf.losses.fidelity",
    "SimulatedPairs": "kpn_tf.training.pairs",
    "StructKPN": "kpn_tf.networks.struct_kpn",
    "StructureAwareLoss": "kpn_tf.losses.structure_aware",
    "read_volume": "kpn_tf.dicom",
}

__all__ = ["__version__", *_PUBLIC]
__getattr__, __dir__ = public_names("kpn_tf", _PUBLIC, extra="train")

registration.register()
