"""The networks: slices in HU in, slices in HU out."""

from kpn_tf.networks.saved import load_saved
from kpn_tf.networks.stack_kpn import StackKPN
from kpn_tf.networks.struct_kpn import StructKPN

__all__ = ["StackKPN", "StructKPN", "load_saved"]
