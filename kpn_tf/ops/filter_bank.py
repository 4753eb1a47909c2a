"""A bank of fixed filters, and kernels that are mixtures of them.

If the kernel of a pixel is `V(p) = sum_c a_c(p) w_c`, then
`sum_t V_t(p) x(p + t) = sum_c a_c(p) (x * w_c)(p)`: the slice is correlated once with each filter and
the per-pixel kernels, `k * k` numbers each, never have to exist.
"""

import numpy as np
from keras import ops

from kpn_tf.ops.border import reflect_border
from kpn_tf.ops.space_depth import depth_to_space, space_to_depth


def polyphase_filters(filters, stride):
    """The bank re-arranged to act on the phases of a slice.

    The output phase `(a, b)` at `(i, j)` is `sum over u, v of w[u, v] x[s*i + a + u, s*j + b + v]`. With
    `a + u = s*m + p` and `b + v = s*n + q` this is an ordinary convolution over `(m, n)` with one input
    channel per phase `(p, q)`: the filter shifted by `(a, b)` and cut into blocks of `s`.

    Args:
        filters: Tensor `(k, k, C)`.
        stride: Number of phases per axis, `s`.

    Returns:
        Tensor `(M, M, s * s, s * s * C)` with `M = (k + s - 2) // s + 1`.
    """
    size, _, count = filters.shape
    blocks = (size + stride - 2) // stride + 1  # M
    spare = stride * blocks - size
    shifted = [
        ops.pad(filters, [[a, spare - a], [b, spare - b], [0, 0]])
        for a in range(stride)
        for b in range(stride)
    ]
    bank = ops.stack(shifted, axis=2)  # (s*M, s*M, s*s, C)
    bank = ops.reshape(bank, (blocks, stride, blocks, stride, stride * stride * count))
    bank = ops.transpose(bank, (0, 2, 1, 3, 4))  # (M, M, s, s, s*s*C)
    return ops.reshape(bank, (blocks, blocks, stride * stride, stride * stride * count))


def filter_bank_phases(image, filters, stride):
    """Correlates a slice with every filter of a bank; what comes out is left as phases.

    Args:
        image: Tensor `(B, H, W, 1)`; `H` and `W` are multiples of `stride`.
        filters: Tensor `(k, k, C)`, `k` odd, with `k - 1` a multiple of `stride`. Correlation order, border
            `32 1234 32`.
        stride: Number of phases per axis.

    Returns:
        Tensor `(B, H/s, W/s, s * s * C)`: the phases of `(B, H, W, C)`.

    Raises:
        ValueError: If `k - 1` is not a multiple of `stride`: the mirrored slice would not divide
            into phases.
    """
    size = filters.shape[0]
    if (size - 1) % stride:
        raise ValueError(
            f"Expected a kernel side of a multiple of {stride} plus one. Received: {size}; choose another stride"
        )
    phases = space_to_depth(reflect_border(image, size // 2), stride)
    return ops.conv(phases, polyphase_filters(filters, stride), padding="valid", data_format="channels_last")


def mixture_of_filters(image, shares, filters, stride):
    """Filters every pixel with its own mixture of the bank.

    Args:
        image: Tensor `(B, H, W, 1)`; `H` and `W` are multiples of `stride`.
        shares: Tensor `(B, H/s, W/s, s * s * C)`: phases of the share of each filter at each pixel.
        filters: Tensor `(k, k, C)`.
        stride: Number of phases per axis.

    Returns:
        Tensor `(B, H, W, 1)`, equal to `local_conv` with the kernels `sum_c shares_c * filters_c`.
    """
    phases = stride * stride
    responses = ops.multiply(filter_bank_phases(image, filters, stride), shares)
    # One sum per phase rather than a reshape: no size enters the graph, so it runs on any slice.
    sums = [ops.sum(phase, axis=-1, keepdims=True) for phase in ops.split(responses, phases, axis=-1)]
    return depth_to_space(ops.concatenate(sums, axis=-1), stride)


def denoising_filters(size, count):
    """The bank training starts from: what denoising filters look like.

    A delta, isotropic Gaussians and elongated Gaussians in eight directions, each of unit sum.

    Args:
        size: Odd side `k` of the filters.
        count: Number of filters `C`, at least 9.

    Returns:
        NumPy float32 array `(k, k, C)`.

    Raises:
        ValueError: If fewer than 9 filters are asked for.
    """
    if count < 9:
        raise ValueError(f"Expected at least 9 filters. Received: {count}")
    directions = 8
    elongations = (count - 5) // directions
    isotropic = count - 1 - directions * elongations
    widths = [(2.5, 0.8), (4.0, 1.2), (6.0, 2.0), (1.5, 0.6), (6.0, 1.0), (8.0, 3.0)]
    bank = [_gaussian(size, 0.0, 0.0, 0.0)]
    bank += [_gaussian(size, s, s, 0.0) for s in np.geomspace(0.6, size / 3.5, isotropic)]
    for level in range(elongations):
        bank += [_gaussian(size, *widths[level % 6], np.pi * d / directions) for d in range(directions)]
    return _unit_sums(bank)


def gaussian_filters(size, isotropic, directions, *, delta):
    """A small bank to start training from: isotropic Gaussians, and elongated ones of one width.

    Args:
        size: Odd side `k` of the filters.
        isotropic: Number of isotropic filters, from narrow to as wide as fits.
        directions: Number of elongated filters.
        delta: Whether the first isotropic filter is a delta.

    Returns:
        NumPy float32 array `(k, k, isotropic + directions)`, each filter of unit sum.
    """
    widths = np.geomspace(0.7, size / 3.5, isotropic - delta)
    bank = [_gaussian(size, 0.0, 0.0, 0.0)] * delta + [_gaussian(size, s, s, 0.0) for s in widths]
    bank += [_gaussian(size, 2.5, 0.8, np.pi * d / directions) for d in range(directions)]
    return _unit_sums(bank)


def _gaussian(size, along, across, angle):
    """A Gaussian `(k, k)` of two standard deviations in pixels, both above 0, or a delta."""
    offsets = np.arange(size) - size // 2
    row, column = np.meshgrid(offsets, offsets, indexing="ij")
    if not along:
        return (np.abs(row) + np.abs(column) == 0).astype(float)
    u = np.cos(angle) * column + np.sin(angle) * row
    v = np.cos(angle) * row - np.sin(angle) * column
    return np.exp(-0.5 * ((u / along) ** 2 + (v / across) ** 2))


def _unit_sums(bank):
    bank = np.stack(bank, axis=-1)  # (k, k, C)
    return (bank / bank.sum(axis=(0, 1))).astype("float32")
