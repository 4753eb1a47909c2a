"""RMSE in HU; PSNR and SSIM under a named convention.

A PSNR or SSIM means nothing without the window it was computed in (the same pair scores 27 dB in the
soft-tissue window and 45 dB over all of HU), so `convention` is always asked for and never guessed.
Arrays are `(H, W)` in HU.
"""

import numpy as np
from numpy.typing import ArrayLike

from kpn_tf.hounsfield import WINDOWS

# Wang et al., "Image quality assessment", IEEE TIP 2004, section III.C.
K1, K2 = 0.01, 0.03

SSIM_FLAVOURS = ("uniform7", "gaussian11")


def _pair(reference_hu, slice_hu):
    reference_hu = np.asarray(reference_hu, np.float64)
    slice_hu = np.asarray(slice_hu, np.float64)
    if reference_hu.ndim != 2 or reference_hu.shape != slice_hu.shape:
        raise ValueError(
            "Expected two slices of the same shape (H, W). "
            f"Received: {reference_hu.shape} and {slice_hu.shape}; compare slice by slice"
        )
    return reference_hu, slice_hu


def _clipped_pair(reference_hu, slice_hu, convention):
    if convention not in WINDOWS:
        raise ValueError(f"Expected convention to be one of {sorted(WINDOWS)}. Received: {convention!r}")
    window = WINDOWS[convention]
    reference_hu, slice_hu = _pair(reference_hu, slice_hu)
    return (
        np.clip(reference_hu, window.low_hu, window.high_hu),
        np.clip(slice_hu, window.low_hu, window.high_hu),
        window.width_hu,
    )


def rmse_hu(reference_hu: ArrayLike, slice_hu: ArrayLike) -> float:
    """Root mean squared error over the whole frame, nothing clipped.

    Args:
        reference_hu: `(H, W)`, the truth in HU.
        slice_hu: `(H, W)`, what is compared, in HU.

    Returns:
        The error in HU.

    Raises:
        ValueError: If the slices are not two-dimensional, or not of one shape.

    Example:

    >>> rmse_hu([[0.0, 0.0]], [[3.0, -3.0]])
    3.0
    """
    reference_hu, slice_hu = _pair(reference_hu, slice_hu)
    return float(np.sqrt(np.mean((slice_hu - reference_hu) ** 2)))


def psnr(reference_hu: ArrayLike, slice_hu: ArrayLike, *, convention: str) -> float:
    """Peak signal-to-noise ratio in dB; the peak is the width of the window.

    Args:
        reference_hu: `(H, W)`, the truth in HU.
        slice_hu: `(H, W)`, what is compared, in HU.
        convention: A key of `kpn_tf.hounsfield.WINDOWS`: both slices are clipped to that window.

    Returns:
        Decibels; infinity where the clipped slices are equal.

    Raises:
        ValueError: If the shapes differ or the convention is unknown.

    Example:

    >>> psnr([[0.0, 0.0]], [[40.0, 40.0]], convention="soft")
    20.0
    """
    reference_hu, slice_hu, data_range_hu = _clipped_pair(reference_hu, slice_hu, convention)
    mean_squared_error = np.mean((slice_hu - reference_hu) ** 2)
    if mean_squared_error == 0:
        return float("inf")
    return float(10 * np.log10(data_range_hu**2 / mean_squared_error))


def ssim(
    reference_hu: ArrayLike, slice_hu: ArrayLike, *, convention: str, flavour: str = "uniform7"
) -> float:
    """Mean structural similarity index over all windows that lie inside the frame.

    Computed on the clipped HU themselves, as public low-dose CT evaluations do: the clipped values are not
    shifted to start at zero, which would change the luminance term and with it the number.

    Args:
        reference_hu: `(H, W)`, the truth in HU.
        slice_hu: `(H, W)`, what is compared, in HU.
        convention: A key of `kpn_tf.hounsfield.WINDOWS`: both slices are clipped to it and its
            width is the data range.
        flavour: `"uniform7"`: 7×7 mean, sample covariance (scikit-image's default). `"gaussian11"`:
            Gaussian of σ = 1.5 on 11×11, population covariance (Wang et al. 2004).

    Returns:
        A number up to 1, which only equal slices reach.

    Raises:
        ValueError: If the shapes differ, the frame is smaller than one window, or a name is unknown.

    Source: Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment", IEEE TIP 13(4), 2004, Eq. 13.
    """
    reference_hu, slice_hu, data_range_hu = _clipped_pair(reference_hu, slice_hu, convention)
    return similarity(reference_hu / data_range_hu, slice_hu / data_range_hu, flavour)


def similarity(x, y, flavour):
    """Mean structural similarity index of two images whose data range is 1.

    Args:
        x: `(H, W)`, float64.
        y: `(H, W)`, likewise.
        flavour: As of `ssim`.

    Returns, Raises, Source: As of `ssim`.
    """
    if flavour not in SSIM_FLAVOURS:
        raise ValueError(f"Expected flavour to be one of {list(SSIM_FLAVOURS)}. Received: {flavour!r}")
    local_mean, side = (_uniform_mean, 7) if flavour == "uniform7" else (_gaussian_mean, 11)
    if min(x.shape) < side:
        raise ValueError(f"Expected at least {side}x{side} pixels for {flavour}. Received: {x.shape}")
    sample = side**2 / (side**2 - 1) if flavour == "uniform7" else 1.0
    mean_x, mean_y = local_mean(x), local_mean(y)
    mean_xy, mean_squares = mean_x * mean_y, mean_x**2 + mean_y**2
    covariance = sample * (local_mean(x * y) - mean_xy)
    variances = sample * (local_mean(x * x + y * y) - mean_squares)
    c1, c2 = K1**2, K2**2
    index = (2 * mean_xy + c1) * (2 * covariance + c2) / ((mean_squares + c1) * (variances + c2))
    return float(index.mean())


def _uniform_mean(image, side=7):
    # Running sums along each axis, not one integral image: the sums stay small, so float64 loses nothing.
    for axis in (0, 1):
        total = np.cumsum(np.moveaxis(image, axis, 0), axis=0)
        total[side:] = total[side:] - total[:-side]
        image = np.moveaxis(total[side - 1 :], 0, axis)
    return image / side**2  # (H-6, W-6)


def _gaussian_mean(image, radius=5, sigma=1.5):
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    taps /= taps.sum()
    rows, columns = (n - 2 * radius for n in image.shape)
    image = sum(tap * image[i : i + rows] for i, tap in enumerate(taps))
    return sum(tap * image[:, i : i + columns] for i, tap in enumerate(taps))  # (H-10, W-10)
