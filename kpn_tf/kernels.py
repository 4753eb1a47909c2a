"""Learnt filters as the kernels that they make at a pixel, by NumPy alone.

Wide filters act on 2×2 means and are interpolated back (`kpn_tf.ops.stack_bank`), so the kernel that a pixel gets
depends on which of the four pixels of its 2×2 block it is: its phase.
"""

import numpy as np

# Bilinear interpolation of 2×2 means, along one axis: the weights of the two blocks that a pixel lies between.
BILINEAR = ((0.25, 0.75), (0.75, 0.25))

# Second moment of a square of side 1 about its own middle.
_TAP_MOMENT = 1 / 12


def wide_side(kernel_size):
    """Side of a wide filter in blocks, for kernels of `kernel_size` pixels."""
    return (kernel_size - 3) // 2


def kernel_shapes(kernels):
    """How far kernels reach, and how much longer than wide they are.

    By the matrix of the second moments of the taps about the pixel that the kernel is for: what the kernel blurs by. A
    tap is a square as large as its pixel. Along an axis on which the kernel sharpens, where negative taps outweigh, it
    counts as no wider than one tap.

    Args:
        kernels: `(N, k, k)`, `k` odd.

    Returns:
        Effective radius `(N,)` in pixels, the root of the sum of both moments: 0.41 for one tap. Anisotropy `(N,)`, the
        longer axis over the shorter one: 1 for a round kernel.

    Raises:
        ValueError: If the kernels are of another shape, or the taps of one do not sum to more than zero.

    Example:

    >>> radius, anisotropy = kernel_shapes(np.eye(3)[None])
    >>> round(float(radius[0]), 2), round(float(anisotropy[0]), 2)
    (1.22, 4.12)
    """
    kernels = np.asarray(kernels, np.float64)
    if kernels.ndim != 3 or kernels.shape[1] != kernels.shape[2] or kernels.shape[1] % 2 == 0:
        raise ValueError(f"Expected kernels of shape (N, k, k), k odd. Received: shape {kernels.shape}")
    total = kernels.sum(axis=(1, 2))
    if not (total > 0).all():
        raise ValueError(
            f"Expected kernels whose taps sum to more than 0. Received: a sum of {total.min():g}"
        )
    offset = np.arange(kernels.shape[1]) - kernels.shape[1] // 2
    rows = kernels.sum(axis=2) @ offset**2 / total
    columns = kernels.sum(axis=1) @ offset**2 / total
    both = np.einsum("nij,i,j->n", kernels, offset, offset) / total
    middle, spread = (rows + columns) / 2, np.hypot((rows - columns) / 2, both)
    longer, shorter = (np.maximum(moment, 0) + _TAP_MOMENT for moment in (middle + spread, middle - spread))
    return np.sqrt(longer + shorter), np.sqrt(longer / shorter)


def kernels_of_filters(filters, wide=None):
    """All filters of a slice as kernels of every phase.

    Args:
        filters: Array `(n, n, C)` at full resolution.
        wide: Array `(m, m, D)` in blocks, `m = wide_side(k)` with `k >= n`, or `None` if there are none.

    Returns:
        NumPy array `(4, k, k, C + D)`, row phase slowest; `k = n` where there are no wide filters.
    """
    if wide is None:
        return small_kernels(filters, filters.shape[0])
    side = 2 * wide.shape[0] + 3
    return np.concatenate([small_kernels(filters, side), wide_kernels(wide, side)], axis=-1)


def small_kernels(filters, kernel_size):
    """Filters at full resolution as kernels of every phase.

    Args:
        filters: Array `(n, n, C)`.
        kernel_size: Side `k` of the kernels.

    Returns:
        NumPy array `(4, k, k, C)`.
    """
    margin = (kernel_size - filters.shape[0]) // 2
    padded = np.pad(np.asarray(filters), [(margin, margin), (margin, margin), (0, 0)])
    return np.broadcast_to(padded, (4, *padded.shape))


def wide_kernels(filters, kernel_size):
    """Wide filters, 2×2 means and interpolation in one: the kernels of every phase.

    Args:
        filters: Array `(n, n, C)` in blocks, `n = wide_side(kernel_size)`.
        kernel_size: Side `k` of the kernels.

    Returns:
        NumPy array `(4, k, k, C)`.
    """
    filters = np.asarray(filters)
    size, radius = filters.shape[0], kernel_size // 2
    axes = np.zeros((2, kernel_size, size))
    for phase, weights in enumerate(BILINEAR):
        for block, weight in zip((phase - 1, phase), weights, strict=True):
            for tap in range(size):
                first = 2 * (block + tap - size // 2) - phase + radius
                axes[phase, first : first + 2, tap] += weight / 2
    kernels = np.einsum("aim,bjn,mnc->abijc", axes, axes, filters)
    return kernels.reshape(4, kernel_size, kernel_size, -1)


def mixed(shares, banks, phases):
    """The kernels at some pixels.

    Args:
        shares: `(N, C)`, of the filters of all slices, one slice after the other.
        banks: For each of `S` slices what `kernels_of_filters` returns; `C` filters together.
        phases: Of the pixels, `(N,)` from 0 to 3.

    Returns:
        `(N, S, k, k)`; the taps for a pixel sum to one over all slices if every filter does and the shares do.
    """
    ends = np.cumsum([bank.shape[-1] for bank in banks])[:-1]
    parts = zip(np.split(shares, ends, axis=-1), banks, strict=True)
    # Phase by phase: a bank for every pixel would be some 50 MB for a hundred of them.
    kernels = np.empty((len(shares), len(banks), *banks[0].shape[1:3]), np.float32)
    for z, (part, bank) in enumerate(parts):
        for phase in np.unique(phases):
            chosen = phases == phase
            kernels[chosen, z] = np.einsum("nc,ijc->nij", part[chosen], bank[phase])
    return kernels
