"""Where in a slice the noise is: the standard deviation about a plane around every pixel, in HU."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

# Side of a window: a handful of grains of noise, less than most organs.
WINDOW_MM = 10.0


def window_side(pixel_spacing_mm: Sequence[float]) -> int:
    """Side of the windows of a map in pixels: the odd number nearest to 10 mm, 3 or more.

    Args:
        pixel_spacing_mm: `(rows, columns)` distance between pixels in mm; the shorter counts.

    Example:

    >>> window_side((0.75, 0.75)), window_side((2.8, 2.8))
    (13, 3)
    """
    return max(3, 2 * int(WINDOW_MM / min(pixel_spacing_mm) / 2) + 1)


def noise_std_map(slice_hu: ArrayLike, side: int) -> np.ndarray:
    """Standard deviation about the least-squares plane in the window around every pixel.

    A window that holds an edge or a vessel shows that as well as noise: compare maps where the slice is flat.

    Args:
        slice_hu: `(H, W)` in HU.
        side: Odd side of the window in pixels, 3 or more.

    Returns:
        `(H, W)` in HU, `side² - 3` degrees of freedom; NaN nearer to the border than half a window.

    Raises:
        ValueError: If the side is even or below 3, or the slice is smaller than one window.

    Example:

    >>> noise_std_map(np.arange(25.0).reshape(5, 5), 3).round(6)[:2]
    array([[nan, nan, nan, nan, nan],
           [nan,  0.,  0.,  0., nan]])

    Source: Christianson et al., "Automated technique to measure noise in clinical CT examinations", AJR 205
        (2015), for the map; they take the mean where this takes the plane, so that slow shading is no noise.
    """
    slice_hu = np.asarray(slice_hu, np.float64)
    if side < 3 or side % 2 == 0 or slice_hu.ndim != 2 or min(slice_hu.shape) < side:
        raise ValueError(
            "Expected an odd side of 3 or more and a slice (H, W) not smaller. "
            f"Received: side {side}, shape {slice_hu.shape}"
        )
    r = side // 2
    ones, ramp = np.ones(side), np.arange(-r, r + 1.0)
    n, moment = side**2, side * (ramp**2).sum()
    # About the middle of the slice's values, sums of squares lose nothing in float64.
    values = slice_hu - np.median(slice_hu)
    residual = (
        _window_sums(values**2, ones, ones)
        - _window_sums(values, ones, ones) ** 2 / n
        - _window_sums(values, ramp, ones) ** 2 / moment
        - _window_sums(values, ones, ramp) ** 2 / moment
    )
    std_hu = np.full(slice_hu.shape, np.nan)
    std_hu[r:-r, r:-r] = np.sqrt(np.maximum(residual, 0.0) / (n - 3))
    return std_hu


def _window_sums(values, row_weights, column_weights):
    """Weighted sum over every window that lies inside: `(H, W)` to `(H - side + 1, W - side + 1)`."""
    rows, columns = (size - len(row_weights) + 1 for size in values.shape)
    values = sum(weight * values[i : i + rows] for i, weight in enumerate(row_weights))
    return sum(weight * values[:, i : i + columns] for i, weight in enumerate(column_weights))
