"""How far the noise of one slice is that of the next: its correlation along z."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from kpn_tf.metrics.noise import flat_regions, planes_removed

# A box that is flat in one slice can hold an edge in the next; there it is noisier than this.
_FLAT_IN_BOTH = 1.25


def noise_correlation_along_z(
    volume_hu: ArrayLike, pixel_spacing_mm: float | Sequence[float], most_slices: int = 3
) -> np.ndarray:
    """Correlation of the noise of slices at distances of one, two, ... slices, in flat soft tissue.

    The boxes are those of `flat_regions`, without their planes; only boxes that are about as flat in the other
    slice count.

    Args:
        volume_hu: Slices `(Z, H, W)` in HU, sorted by position and evenly spaced.
        pixel_spacing_mm: `(rows, columns)` distance between pixels in mm, or one number for both.
        most_slices: Largest distance in slices.

    Returns:
        `(most_slices,)`; NaN where no pair of slices has such a box.

    Example:

    >>> white = np.random.default_rng(0).normal(50.0, 20.0, (4, 64, 64))
    >>> bool(np.all(np.abs(noise_correlation_along_z(white, 1.0)) < 0.05))
    True
    """
    volume_hu = np.asarray(volume_hu)
    products = np.zeros((most_slices, 3))  # of both, of the one, of the other
    for z, slice_hu in enumerate(volume_hu):
        regions = flat_regions(slice_hu, pixel_spacing_mm)
        if not regions:
            continue
        here = planes_removed(np.stack([slice_hu[region] for region in regions]).astype(np.float64))
        power = np.mean(here**2, axis=(1, 2))
        for distance in range(1, min(most_slices, len(volume_hu) - 1 - z) + 1):
            other_hu = volume_hu[z + distance]
            there = planes_removed(np.stack([other_hu[region] for region in regions]).astype(np.float64))
            flat = np.mean(there**2, axis=(1, 2)) <= _FLAT_IN_BOTH**2 * power
            pair = here[flat], there[flat]
            products[distance - 1] += [np.sum(a * b) for a, b in (pair, (pair[0],) * 2, (pair[1],) * 2)]
    both, one, other = products.T
    with np.errstate(invalid="ignore"):
        return both / np.sqrt(one * other)
