"""How much noise a denoiser without training is told of: measured in flat tissue of the slice it denoises."""

import numpy as np

from kpn_tf.dose.series_noise import NO_NOISE_HU
from kpn_tf.metrics import flat_regions, regional_noise_std_hu

# A denoiser is given HU and no pixel spacing. At 0.7 mm, a usual pixel of a body, the 15 mm boxes of the metrics are
# 21 x 21 pixels. At 0.8 mm they read 20.7 HU where boxes of 15 mm read 20.3 HU. Above 1 mm they are wider than tissue
# is flat: anatomy counts as noise, and sigma comes out too large.
BOX_PIXEL_MM = 0.7

# What a slice without flat tissue is taken to have: the noise of a quarter of a usual dose (3 mm slices, soft kernel).
ASSUMED_NOISE_HU = 32.0


def calibrated_sigma_hu(slice_hu, factor):
    """The sigma to denoise a slice with.

    CT's noise is coloured: the usual estimator, the median absolute deviation of the finest wavelet band, reads 9 HU
    where there are 21 (a soft kernel's quarter dose). The standard deviation over a box does not care for texture.

    Args:
        slice_hu: `(H, W)` in HU.
        factor: Of the denoiser: its best sigma over the noise's standard deviation, on validation slices.

    Returns:
        `factor` times the standard deviation in the flattest soft-tissue boxes of 21 x 21 pixels, in HU; times 32 HU
        in a slice without such a box (air, lung apices, fewer than 21 pixels along a side); 0 in one whose boxes
        show no noise (below 0.1 HU), which is synthetic.

    Example:

    >>> noisy_hu = np.random.default_rng(0).normal(50.0, 20.0, (128, 128))
    >>> 20 < calibrated_sigma_hu(noisy_hu, 1.1) < 24
    True
    """
    regions = flat_regions(slice_hu, BOX_PIXEL_MM)
    if not regions:
        return factor * ASSUMED_NOISE_HU
    noise_hu = regional_noise_std_hu(slice_hu, regions)
    return factor * noise_hu if noise_hu >= NO_NOISE_HU else 0.0


def checked_sigma_hu(sigma_hu):
    """A sigma that was given, or `None`, which asks for calibration.

    Raises:
        ValueError: If it is not above 0.
    """
    if sigma_hu is None:
        return None
    if not 0 < sigma_hu < float("inf"):
        raise ValueError(f"Expected sigma_hu above 0. Received: {sigma_hu}")
    return float(sigma_hu)


def checked_slice_hu(slice_hu):
    """A slice as float64.

    Raises:
        ValueError: If it is not two-dimensional, is empty, or holds NaN or infinity.
    """
    slice_hu = np.asarray(slice_hu, np.float64)
    if slice_hu.ndim != 2 or slice_hu.size == 0 or not np.isfinite(slice_hu).all():
        raise ValueError(f"Expected a finite slice of shape (H, W). Received: shape {slice_hu.shape}")
    return slice_hu
