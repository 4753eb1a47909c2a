"""What a lesion stands out by: contrast in HU, and contrast over noise."""

import numpy as np
from numpy.typing import ArrayLike


def contrast_and_noise_hu(
    slice_hu: ArrayLike, inside: ArrayLike, background: ArrayLike
) -> tuple[float, float]:
    """Mean inside minus mean of the background, and standard deviation of the background's pixels.

    Args:
        slice_hu: `(H, W)` in HU.
        inside: `(H, W)` bool, pixels of the lesion.
        background: `(H, W)` bool, pixels beside it.

    Returns:
        Both in HU.

    Raises:
        ValueError: If the lesion has no pixel, or the background fewer than two.
    """
    if not np.any(inside) or np.count_nonzero(background) < 2:
        raise ValueError(
            "Expected pixels inside and 2 or more of background. "
            f"Received: {np.count_nonzero(inside)} and {np.count_nonzero(background)}"
        )
    slice_hu = np.asarray(slice_hu, np.float64)
    beside_hu = slice_hu[np.asarray(background)]
    return float(slice_hu[np.asarray(inside)].mean() - beside_hu.mean()), float(beside_hu.std(ddof=1))


def contrast_to_noise(slice_hu: ArrayLike, inside: ArrayLike, background: ArrayLike) -> float:
    """`|mean inside - mean of background| / standard deviation of the background's pixels`.

    Noise pushes it up where the contrast is small: of a lesion that is not there it is not 0. Where there are several
    realisations, take the mean of their contrasts over the root mean square of their noise.

    Args:
        slice_hu: `(H, W)` in HU.
        inside: `(H, W)` bool, pixels of the lesion.
        background: `(H, W)` bool, pixels beside it.

    Returns:
        The ratio; infinity over a background without noise.

    Raises:
        ValueError: As `contrast_and_noise_hu`.

    Example:

    >>> slice_hu = np.array([[20.0, 20.0, -1.0, 1.0]])
    >>> round(contrast_to_noise(slice_hu, slice_hu > 9, slice_hu < 9), 3)
    14.142

    Source: American College of Radiology, CT Accreditation Program, phantom testing instructions: the difference
        of the means over the standard deviation of the background.
    """
    contrast_hu, noise_hu = contrast_and_noise_hu(slice_hu, inside, background)
    return abs(contrast_hu) / noise_hu if noise_hu > 0 else float("inf")
