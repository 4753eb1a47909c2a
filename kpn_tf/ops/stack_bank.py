"""Banks of filters for the slices of a stack: small filters at full resolution, wide ones on 2×2 means.

The wide ones cost a sixteenth there. Their responses are interpolated back: `kpn_tf.kernels` says to which kernels.
"""

import numpy as np
from keras import ops

from kpn_tf.kernels import BILINEAR
from kpn_tf.ops.border import reflect_border
from kpn_tf.ops.filter_bank import filter_bank_phases, polyphase_filters
from kpn_tf.ops.space_depth import depth_to_space, space_to_depth


def small_responses(image, filters):
    """Correlates a slice with small filters.

    Args:
        image: Tensor `(B, H, W, 1)`, `H` and `W` even.
        filters: Tensor `(n, n, C)`, `n` odd.

    Returns:
        List of four tensors `(B, H/2, W/2, C)`: the phases, row phase slowest.
    """
    return ops.split(filter_bank_phases(image, filters, 2), 4, axis=-1)


def wide_responses(image, filters):
    """Correlates the 2×2 means of a slice with wide filters and interpolates between them.

    Args:
        image: Tensor `(B, H, W, 1)`, `H` and `W` multiples of 4.
        filters: Tensor `(n, n, C)`, `n` odd with `n - 1` a multiple of 2, in blocks of 2×2 pixels.

    Returns:
        List of four tensors `(B, H/2, W/2, C)`: the phases, row phase slowest.
    """
    size, _, count = filters.shape
    padded = reflect_border(image, size + 1)
    blocks = ops.average_pool(padded, 2, 2, data_format="channels_last")
    # Phase by phase: XNNPACK keeps an index for every pixel and tap, which of one channel is most of the memory.
    bank = polyphase_filters(filters, 2)
    phases = ops.conv(space_to_depth(blocks, 2), bank, padding="valid", data_format="channels_last")
    responses = depth_to_space(phases, 2)
    # One block more on each side than the slice has: (B, H/2 + 2, W/2 + 2, C).
    phases = []
    for rows, row_weights in zip((responses[:, :-1], responses[:, 1:]), BILINEAR, strict=True):
        for corner, column_weights in zip((rows[:, :, :-1], rows[:, :, 1:]), BILINEAR, strict=True):
            weights = np.outer(row_weights, column_weights).astype("float32")[:, :, None, None]
            kernel = ops.convert_to_tensor(np.repeat(weights, count, axis=2))
            phases.append(ops.depthwise_conv(corner, kernel, padding="valid", data_format="channels_last"))
    return phases
