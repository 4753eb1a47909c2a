"""Local convolution, filter banks and structure tensors, one pixel at a time."""

import numpy as np


def local_conv(image, kernels):
    """`(H, W)` and `(H, W, k * k)` to `(H, W)`, border `32 1234 32`."""
    out = np.zeros(image.shape)
    for y, x in np.ndindex(image.shape):
        out[y, x] = local_conv_at(image, kernels[y, x], y, x)
    return out


def local_conv_at(image, kernel, y, x):
    """One pixel of it: `(H, W)` and `(k * k,)` to a number."""
    rows, columns = image.shape
    side = int(np.sqrt(len(kernel)))
    radius = side // 2
    out = 0.0
    for i in range(side):
        for j in range(side):
            value = image[mirror(y + i - radius, rows), mirror(x + j - radius, columns)]
            out += kernel[i * side + j] * value
    return out


def filter_bank(image, filters):
    """`(H, W)` and `(k, k, C)` to `(H, W, C)`."""
    rows, columns = image.shape
    kernels = filters.reshape(-1, filters.shape[-1])  # (k * k, C)
    planes = [
        local_conv(image, np.broadcast_to(kernels[:, c], (rows, columns, len(kernels))))
        for c in range(kernels.shape[1])
    ]
    return np.stack(planes, axis=-1)


def singular_values(image, size):
    """Singular values `(H, W, 2)` of the gradient rows in each `size * size` neighbourhood, inner pixels only."""
    rows, columns = image.shape
    d_row, d_column = np.zeros_like(image), np.zeros_like(image)
    for y in range(rows):
        for x in range(columns):
            d_row[y, x] = (image[mirror(y + 1, rows), x] - image[mirror(y - 1, rows), x]) / 2
            d_column[y, x] = (image[y, mirror(x + 1, columns)] - image[y, mirror(x - 1, columns)]) / 2
    radius = size // 2
    out = np.full((rows, columns, 2), np.nan)
    for y in range(radius, rows - radius):
        for x in range(radius, columns - radius):
            window = np.s_[y - radius : y + radius + 1, x - radius : x + radius + 1]
            gradients = np.stack([d_column[window].ravel(), d_row[window].ravel()], axis=1)
            out[y, x] = np.linalg.svd(gradients, compute_uv=False)
    return out


def kernel_shape(kernel):
    """Effective radius and anisotropy of one kernel `(k, k)`, tap by tap."""
    side = len(kernel)
    moments = np.zeros((2, 2))
    for i in range(side):
        for j in range(side):
            place = np.array([i - side // 2, j - side // 2])
            moments += kernel[i, j] / kernel.sum() * np.outer(place, place)
    axes = [max(moment, 0.0) + 1 / 12 for moment in np.linalg.eigvalsh(moments)]
    return np.sqrt(sum(axes)), np.sqrt(max(axes) / min(axes))


def mirror(index, size):
    """The pixel a position outside the image stands for, the edge not repeated."""
    if index < 0:
        index = -index
    return index if index < size else 2 * (size - 1) - index
