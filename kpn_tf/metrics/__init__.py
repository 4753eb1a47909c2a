"""Image quality in numbers, NumPy only: distance from a reference; noise, sharpness, contrast and detectability."""

from kpn_tf.metrics.bias import grid_bias_hu
from kpn_tf.metrics.contrast import contrast_and_noise_hu, contrast_to_noise
from kpn_tf.metrics.eye_filter import eye_filter, eye_filtered_d_prime
from kpn_tf.metrics.fidelity import SSIM_FLAVOURS, psnr, rmse_hu, ssim
from kpn_tf.metrics.hotelling import (
    Detectability,
    auc_of,
    detectability,
    known_detectability,
    laguerre_gauss_channels,
    unbiased_square,
)
from kpn_tf.metrics.noise import (
    flat_noise_std_hu,
    flat_regions,
    mean_frequency,
    noise_power_spectrum,
    noise_power_spectrum_2d,
    noise_std_hu,
    regional_noise_std_hu,
)
from kpn_tf.metrics.noise_along_z import noise_correlation_along_z
from kpn_tf.metrics.noise_map import noise_std_map, window_side
from kpn_tf.metrics.structure import kernels_by_class, structure_by_class, structure_classes
from kpn_tf.metrics.transfer import TaskTransfer, fitted_disc, task_transfer

__all__ = [
    "SSIM_FLAVOURS",
    "Detectability",
    "TaskTransfer",
    "auc_of",
    "contrast_and_noise_hu",
    "contrast_to_noise",
    "detectability",
    "eye_filter",
    "eye_filtered_d_prime",
    "fitted_disc",
    "flat_noise_std_hu",
    "flat_regions",
    "grid_bias_hu",
    "kernels_by_class",
    "known_detectability",
    "laguerre_gauss_channels",
    "mean_frequency",
    "noise_correlation_along_z",
    "noise_power_spectrum",
    "noise_power_spectrum_2d",
    "noise_std_hu",
    "noise_std_map",
    "psnr",
    "regional_noise_std_hu",
    "rmse_hu",
    "ssim",
    "structure_by_class",
    "structure_classes",
    "task_transfer",
    "unbiased_square",
    "window_side",
]
