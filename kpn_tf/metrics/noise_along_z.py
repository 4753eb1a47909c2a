"""How far the noise of one slice is that of the next: its correlation along z."""

from collections.abc import Sequence
from typing import Any

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
    products = np.zeros((most_slices, 3))
    for z, slice_hu in enumerate(volume_hu):
        regions = flat_regions(slice_hu, pixel_spacing_mm)
        for distance in range(1, min(most_slices, len(volume_hu) - 1 - z) + 1):
            products[distance - 1] += noise_products(slice_hu, volume_hu[z + distance], regions)
    return correlation(products)


def noise_products(slice_hu: ArrayLike, other_hu: ArrayLike, regions: Sequence[Any]) -> np.ndarray:
    """Sums of products of the noise of two slices, of which `correlation` makes one number.

    Args:
        slice_hu: `(H, W)` in HU.
        other_hu: Likewise.
        regions: The first one's `flat_regions`; those in which the other is noisier than flat do not count.

    Returns:
        `(3,)`: of the one with the other, of the one with itself, of the other with itself; added up over pairs.
    """
    if not regions:
        return np.zeros(3)
    here, there = (
        planes_removed(np.stack([np.asarray(hu, np.float64)[region] for region in regions]))
        for hu in (slice_hu, other_hu)
    )
    flat = np.mean(there**2, axis=(1, 2)) <= _FLAT_IN_BOTH**2 * np.mean(here**2, axis=(1, 2))
    here, there = here[flat], there[flat]
    return np.array([np.sum(here * there), np.sum(here**2), np.sum(there**2)])


def correlation(products: ArrayLike) -> np.ndarray:
    """The correlation of noise from sums of `noise_products`, `(..., 3)` to `(...)`; NaN where nothing was summed."""
    both, one, other = np.moveaxis(np.asarray(products), -1, 0)
    with np.errstate(invalid="ignore"):
        return both / np.sqrt(one * other)
