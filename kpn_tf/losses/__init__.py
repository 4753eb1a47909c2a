"""Training losses and metrics on slices in HU."""

from kpn_tf.losses.error import HuberError, absolute_error
from kpn_tf.losses.fidelity import PSNR, SSIM
from kpn_tf.losses.structure_aware import StructureAwareLoss

__all__ = ["PSNR", "SSIM", "HuberError", "StructureAwareLoss", "absolute_error"]
