"""Trained networks as callables, HU in and HU out, on LiteRT: TensorFlow is not needed."""

from kpn_tf.denoiser.denoiser import Denoiser, Identity

__all__ = ["Denoiser", "Identity"]
