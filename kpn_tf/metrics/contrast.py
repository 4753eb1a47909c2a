"""What a lesion stands out by: contrast in HU, and contrast over noise."""

import numpy as np


def contrast_hu(slice_hu, inside, background):
    """Mean inside minus mean of the background.

    Args:
        slice_hu: `(H, W)` in HU.
        inside: `(H, W)` bool, pixels of the lesion.
        background: `(H, W)` bool, pixels beside it.

    Returns:
        HU.

    Raises:
        ValueError: If either has no pixel.
    """
    slice_hu = np.asarray(slice_hu, np.float64)
    _need(inside, background, 1)
    return float(slice_hu[inside].mean() - slice_hu[background].mean())


def contrast_to_noise(slice_hu, inside, background):
    """`|mean inside - mean of background| / standard deviation of the background's pixels`.

    Noise pushes it up where the contrast is small: of a lesion that is not there it is not 0. Average the
    contrast over realisations first where there are several.

    Args:
        slice_hu: `(H, W)` in HU.
        inside: `(H, W)` bool, pixels of the lesion.
        background: `(H, W)` bool, pixels beside it.

    Returns:
        The ratio; infinity over a background without noise.

    Raises:
        ValueError: If the lesion has no pixel, or the background fewer than two.

    Example:

    >>> slice_hu = np.array([[20.0, 20.0, -1.0, 1.0]])
    >>> round(contrast_to_noise(slice_hu, slice_hu > 9, slice_hu < 9), 3)
    14.142

    Source: American College of Radiology, CT Accreditation Program, phantom testing instructions: the difference
        of the means over the standard deviation of the background.
    """
    _need(inside, background, 2)
    noise_hu = np.asarray(slice_hu, np.float64)[background].std(ddof=1)
    contrast = abs(contrast_hu(slice_hu, inside, background))
    return float(contrast / noise_hu) if noise_hu > 0 else float("inf")


def _need(inside, background, least):
    if not np.any(inside) or np.count_nonzero(background) < least:
        raise ValueError(
            f"Expected pixels inside and {least} or more of background. "
            f"Received: {np.count_nonzero(inside)} and {np.count_nonzero(background)}"
        )
