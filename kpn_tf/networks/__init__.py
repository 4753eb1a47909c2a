"""The networks: slices in HU in, slices in HU out."""

from kpn_tf.networks.saved import load_saved
from kpn_tf.networks.struct_kpn import StructKPN

__all__ = ["StructKPN", "load_saved"]
