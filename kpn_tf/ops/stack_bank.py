"""Banks of filters for the slices of a stack: small filters at full resolution, wide ones on 2×2 means.

The wide ones cost a sixteenth there. Their responses are interpolated back: `kpn_tf.kernels` says to which kernels.

What is computed here is most of the memory of a network of stacks, and LiteRT decides in which operations. On the CPU
it hands to XNNPACK what lies between the few operations that XNNPACK lacks, all at once; whatever passes from one part
to the next is held until then. Mirrored borders and splits into phases are therefore made of flips, concatenations and
strided convolutions, and there is neither a padding nor an exponential (512×512, five slices, two threads: 454 MB with
them, 312 MB and an eighth less CPU time without).
"""

import numpy as np
from keras import ops

from kpn_tf.kernels import BILINEAR
from kpn_tf.ops.filter_bank import polyphase_filters
from kpn_tf.ops.space_depth import depth_to_space

# Scores count up to so much above the mean of their pixel: e^60 is 1e26, and what is multiplied with it is finite.
MOST_SCORE = 60.0


def mirrored(stack, radius):
    """Pads a stack as `kpn_tf.ops.border.reflect_border` does.

    Args:
        stack: Tensor `(B, H, W, S)` with `H, W > radius`.
        radius: Pixels added on each side.

    Returns:
        Tensor `(B, H + 2 * radius, W + 2 * radius, S)`.
    """
    first, last = slice(1, radius + 1), slice(-radius - 1, -1)

    def row(rows, mirror):
        # One axis at a time: OpenVINO flips no two at once.
        left, right = (ops.flip(mirror(stack[:, rows, edge]), 2) for edge in (first, last))
        return ops.concatenate([left, mirror(stack[:, rows]), right], axis=2)

    def upside_down(part):
        return ops.flip(part, 1)

    rows = [row(first, upside_down), row(slice(None), lambda part: part), row(last, upside_down)]
    return ops.concatenate(rows, axis=1)


def phases_of(stack):
    """The four phases of each slice as channels, row phase slowest.

    Args:
        stack: Tensor `(B, H, W, S)`, `H` and `W` even.

    Returns:
        Tensor `(B, H/2, W/2, 4 * S)`, the first slice's phases first.
    """
    kernel = np.zeros((2, 2, stack.shape[-1], stack.shape[-1], 4), "float32")
    for row, column in np.ndindex(2, 2):
        kernel[row, column, ..., 2 * row + column] = np.eye(stack.shape[-1])
    return _strided(stack, kernel)


def block_phases_of(stack):
    """The means of blocks of 2×2 pixels, and the four phases of these as channels.

    Args:
        stack: Tensor `(B, H, W, S)`, `H` and `W` multiples of 4.

    Returns:
        Tensor `(B, H/4, W/4, 4 * S)`, as of `phases_of`.
    """
    kernel = np.zeros((4, 4, stack.shape[-1], stack.shape[-1], 4), "float32")
    for row, column in np.ndindex(4, 4):
        kernel[row, column, ..., 2 * (row // 2) + column // 2] = np.eye(stack.shape[-1]) / 4
    return _strided(stack, kernel)


def small_responses(phases, filters):
    """Correlates a slice with small filters.

    Args:
        phases: Phases `(B, h, w, 4)` of a slice with the border that the filters need.
        filters: Tensor `(n, n, C)`, `n` odd.

    Returns:
        Tensor `(B, H/2, W/2, 4 * C)`: the phases, row phase slowest.
    """
    return _conv(phases, polyphase_filters(filters, 2))


def wide_responses(block_phases, filters):
    """Correlates the 2×2 means of a slice with wide filters and interpolates between them.

    Args:
        block_phases: As of `block_phases_of`, of a slice with a border of `n + 1` pixels.
        filters: Tensor `(n, n, C)`, `n` odd, in blocks of 2×2 pixels.

    Returns:
        Tensor `(B, H/2, W/2, 4 * C)`: the phases, row phase slowest.
    """
    count = filters.shape[-1]
    # One block more on each side than the slice has: (B, H/2 + 2, W/2 + 2, C).
    responses = depth_to_space(_conv(block_phases, polyphase_filters(filters, 2)), 2)
    kernel = np.zeros((3, 3, count, 4, count), "float32")
    for row, column in np.ndindex(2, 2):
        weights = np.outer(BILINEAR[row], BILINEAR[column])
        for one in range(count):
            kernel[row : row + 2, column : column + 2, one, 2 * row + column, one] = weights
    return _conv(responses, kernel.reshape(3, 3, count, 4 * count))


def odds_of(features, kernel, bias):
    """What the shares of a slice's filters are in proportion to, from the features of a pixel: a softmax.

    It goes over these filters and one more, of score zero. What they have over that one, `e^score`, can be compared
    with the filters of other slices; an exponential of its own would be slow in LiteRT, and a sigmoid is not exact in
    onnxruntime.

    Args:
        features: Tensor `(B, h, w, F)`.
        kernel: Tensor `(F, C)` that makes scores of them, of mean zero over the filters of all slices.
        bias: Tensor `(C,)`, likewise.

    Returns:
        Tensors `(B, h, w, C)` and `(B, h, w, 1)`, above 0: of the filters, and of the one of score zero.
    """
    # Not ops.pad: where oneDNN is on, TensorFlow takes a padded kernel for a padded image and ends the process.
    kernel, bias = (ops.concatenate([one, ops.zeros_like(one[..., :1])], axis=-1) for one in (kernel, bias))
    scores = _conv(features, kernel[None, None]) + bias
    odds = ops.softmax(ops.minimum(scores, MOST_SCORE), axis=-1)
    return odds[..., :-1], odds[..., -1:]


def sums_of_phases(phases, counts):
    """Sums over the channels of each phase, of banks of so many filters: `(B, h, w, 4 * C)` to `(B, h, w, 4)`."""
    kernel = np.concatenate([np.kron(np.eye(4), np.ones((count, 1))) for count in counts])
    return _conv(phases, kernel.astype("float32")[None, None])


def _conv(image, kernel, **how):
    return ops.conv(image, kernel, padding="valid", data_format="channels_last", **how)


def _strided(stack, kernel):
    side, _, slices = kernel.shape[:3]
    return _conv(stack, kernel.reshape(side, side, slices, -1), strides=side)
