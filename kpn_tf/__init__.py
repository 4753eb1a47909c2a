"""Low-dose CT noise removal by kernel prediction networks: Hounsfield units in, Hounsfield units out."""

from typing import TYPE_CHECKING

from kpn_tf import registration
from kpn_tf.lazy import public_names

if TYPE_CHECKING:
    from kpn_tf.denoiser import Denoiser as Denoiser
    from kpn_tf.dicom import read_volume as read_volume
    from kpn_tf.layers import LocalConv as LocalConv
    from kpn_tf.losses import PSNR as PSNR
    from kpn_tf.losses import SSIM as SSIM
    from kpn_tf.losses import StructureAwareLoss as StructureAwareLoss
    from kpn_tf.networks import StructKPN as StructKPN
    from kpn_tf.training.pairs import MeasuredPairs as MeasuredPairs
    from kpn_tf.training.pairs import SimulatedPairs as SimulatedPairs

__version__ = "0.2.0"

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
