"""Trained networks as callables, HU in and HU out, on LiteRT: TensorFlow is not needed."""

from kpn_tf.denoiser.denoiser import Denoiser, Identity
from kpn_tf.denoiser.kernels import NoKernelsError
from kpn_tf.neighbours import Neighbour, neighbours_of, stacked

__all__ = ["Denoiser", "Identity", "Neighbour", "NoKernelsError", "neighbours_of", "stacked"]
