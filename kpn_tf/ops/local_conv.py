"""Local convolution: every pixel has a kernel of its own (Eq. 1 of the StructKPN paper)."""

import math

from keras import ops

from kpn_tf.ops.border import reflect_border


def patches(image, size):
    """The `size * size` neighbourhood of every pixel as channels, mirrored at the border.

    Args:
        image: Tensor `(B, H, W, 1)`.
        size: Odd side of the neighbourhood in pixels.

    Returns:
        Tensor `(B, H, W, size * size)`; tap `t = i * size + j` holds the pixel at row offset
        `i - size // 2` and column offset `j - size // 2`.
    """
    padded = reflect_border(image, size // 2)
    spare = size - 1
    # Slices, for which every runtime has an operation: first the pixels beside a pixel, then the rows of these.
    beside = ops.concatenate([padded[:, :, j : j - spare or None] for j in range(size)], axis=-1)
    return ops.concatenate([beside[:, i : i - spare or None] for i in range(size)], axis=-1)


def local_conv(image, kernels):
    """Weighs the neighbourhood of every pixel with that pixel's own kernel.

    `out(y, x) = sum over i, j of kernels(y, x, i * k + j) * image(y + i - r, x + j - r)` with
    `r = k // 2`: correlation order (nothing is flipped), centre tap `(k * k) // 2`, mirrored border
    `32 1234 32`.

    Args:
        image: Tensor `(B, H, W, 1)`, any unit.
        kernels: Tensor `(B, H, W, k * k)`, `k` odd, one kernel per pixel.

    Returns:
        Tensor `(B, H, W, 1)` in the unit of `image`.

    Raises:
        ValueError: If the taps are not the square of an odd number.

    Source: Xu et al., ICIP 2021, Eq. 1 (written there with a flipped index: the same family of
        operators once the kernels are learnt).
    """
    weighed = ops.multiply(patches(image, kernel_side(kernels.shape[-1])), kernels)
    return ops.sum(weighed, axis=-1, keepdims=True)


def kernel_side(taps):
    """The side `k` of a kernel from its number of taps `k * k`.

    Args:
        taps: Number of taps.

    Returns:
        The odd side `k`.

    Raises:
        ValueError: If `taps` is not the square of an odd number.

    Example:

    >>> kernel_side(441)
    21
    """
    side = math.isqrt(taps)
    if side * side != taps or side % 2 == 0:
        raise ValueError(f"Expected the taps of a kernel to be the square of an odd number. Received: {taps}")
    return side
