"""Training losses on slices in HU."""

from kpn_tf.losses.absolute import absolute_error
from kpn_tf.losses.huber import huber_error
from kpn_tf.losses.structure_aware import StructureAwareLoss

__all__ = ["StructureAwareLoss", "absolute_error", "huber_error"]
