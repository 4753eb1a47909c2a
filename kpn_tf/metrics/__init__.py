"""Image quality in numbers, NumPy only: distance from a reference, and noise measured in a slice itself."""

from kpn_tf.metrics.fidelity import SSIM_FLAVOURS, psnr, rmse_hu, ssim
from kpn_tf.metrics.noise import (
    flat_regions,
    noise_power_spectrum,
    noise_power_spectrum_2d,
    noise_std_hu,
    regional_noise_std_hu,
)

__all__ = [
    "SSIM_FLAVOURS",
    "flat_regions",
    "noise_power_spectrum",
    "noise_power_spectrum_2d",
    "noise_std_hu",
    "psnr",
    "regional_noise_std_hu",
    "rmse_hu",
    "ssim",
]
