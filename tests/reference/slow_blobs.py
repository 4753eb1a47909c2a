"""Blobs as their definition reads: pixel by pixel."""

import numpy as np


def blobs(residual_hu, flat, pixel_mm, blob_mm, blob_hu):
    """Pixels of flat tissue whose Gaussian mean is beyond `blob_hu` and the farthest from zero around them."""
    rows, columns = residual_hu.shape
    sigma = blob_mm / 4 / pixel_mm
    reach, near = int(np.ceil(3 * sigma)), round(blob_mm / 2 / pixel_mm)
    padded = np.pad(residual_hu, reach, mode="reflect")
    mean_hu = np.empty(residual_hu.shape)
    offset = np.arange(-reach, reach + 1)
    weights = np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * sigma**2))
    for row in range(rows):
        for column in range(columns):
            patch = padded[row : row + 2 * reach + 1, column : column + 2 * reach + 1]
            mean_hu[row, column] = abs(np.sum(weights * patch) / weights.sum())
    count = 0
    for row in range(rows):
        for column in range(columns):
            around = mean_hu[max(0, row - near) : row + near + 1, max(0, column - near) : column + near + 1]
            here = mean_hu[row, column]
            count += bool(flat[row, column] and here > blob_hu and here == around.max())
    return count
