"""Whether HU are right: mean error in every cell of a grid."""

import numpy as np
from numpy.typing import ArrayLike


def grid_bias_hu(
    reference_hu: ArrayLike, slice_hu: ArrayLike, cell: int, inside: ArrayLike | None = None
) -> np.ndarray:
    """Mean of slice minus reference in square cells that tile the slice from its top left.

    Args:
        reference_hu: `(H, W)`, the truth (or the slice before) in HU.
        slice_hu: `(H, W)`, what is compared, in HU.
        cell: Side of a cell in pixels; rows and columns left over at the bottom and right do not count.
        inside: `(H, W)` bool or `None`: only cells that lie in it as a whole count.

    Returns:
        `(H // cell, W // cell)` in HU; NaN where a cell does not count.

    Raises:
        ValueError: If the shapes differ, or the slice is smaller than one cell.

    Example:

    >>> grid_bias_hu(np.zeros((4, 5)), np.repeat([1.0, 3.0], 2)[:, None] * np.ones(5), 2)
    array([[1., 1.],
           [3., 3.]])
    """
    if np.shape(reference_hu) != np.shape(slice_hu) or np.ndim(slice_hu) != 2 or cell < 1:
        raise ValueError(
            "Expected two slices of the same shape (H, W) and a cell of 1 pixel or more. "
            f"Received: {np.shape(reference_hu)}, {np.shape(slice_hu)} and {cell}"
        )
    if min(np.shape(slice_hu)) < cell:
        raise ValueError(f"Expected at least {cell}x{cell} pixels. Received: {np.shape(slice_hu)}")
    difference_hu = np.asarray(slice_hu, np.float64) - np.asarray(reference_hu, np.float64)
    bias_hu = _cells(difference_hu, cell).mean((1, 3))
    if inside is not None:
        bias_hu[~_cells(np.asarray(inside, bool), cell).all((1, 3))] = np.nan
    return bias_hu


def _cells(image, cell):
    rows, columns = (size // cell for size in image.shape)
    return image[: rows * cell, : columns * cell].reshape(rows, cell, columns, cell)
