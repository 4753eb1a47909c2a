"""Training losses as Keras losses on slices in HU."""

from kpn_tf.losses.structure_aware import StructureAwareLoss

__all__ = ["StructureAwareLoss"]
