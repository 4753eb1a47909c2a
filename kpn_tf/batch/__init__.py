"""The main job: CT series on disk -> derived CT series on disk, atomically."""

from kpn_tf.batch.denoising import denoise
from kpn_tf.batch.outcome import JobReport, Progress, SeriesReport
from kpn_tf.batch.simulating import simulate

__all__ = ["JobReport", "Progress", "SeriesReport", "denoise", "simulate"]
