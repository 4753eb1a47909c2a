"""Training losses and metrics on slices in HU."""

from kpn_tf.losses.error import absolute_error, huber_error
from kpn_tf.losses.fidelity import PSNR, SSIM
from kpn_tf.losses.structure_aware import StructureAwareLoss

__all__ = ["PSNR", "SSIM", "StructureAwareLoss", "absolute_error", "huber_error"]
