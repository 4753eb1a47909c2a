"""Keras layers: thin faces of the operations in `kpn_tf.ops`."""

from kpn_tf.layers.filter_mixture import FilterMixture
from kpn_tf.layers.local_conv import LocalConv
from kpn_tf.layers.residual_block import ResidualBlock
from kpn_tf.layers.slice_distances import SliceDistances
from kpn_tf.layers.stack_mixture import StackMixture

__all__ = ["FilterMixture", "LocalConv", "ResidualBlock", "SliceDistances", "StackMixture"]
