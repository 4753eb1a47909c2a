"""The graphs that artefacts hold: the numbers of Keras, in operations that every runtime has."""

import tensorflow as tf
from keras import ops

from kpn_tf.networks import StackKPN, StructKPN
from kpn_tf.ops.border import missing_to_multiple, reflect_border
from kpn_tf.ops.limits import within_limits

# Rows are worked on in so many pieces: an eighth of the kernels of a slice exists at a time.
STRIPS = 8


def grid(network):
    """What both sides of a slice must divide by in `whole(network)`."""
    return STRIPS if _has_free_kernels(network) else network.multiple


def slices_of(network):
    """How many neighbouring slices a network sees."""
    return getattr(network, "slices", 1)


def entrances(network, batch=None, side=None):
    """What `whole` and `any_size` are traced for.

    Args:
        network: Keras model.
        batch: Number of slices or stacks at a time; any if `None`.
        side: Side of square slices in pixels; any if `None`.

    Returns:
        List of `tf.TensorSpec`: `slice_hu` `(batch, side, side, S)` and, of a network for stacks, `distances_mm`
        `(batch, S)`.
    """
    slices = slices_of(network)
    specs = [tf.TensorSpec((batch, side, side, slices), tf.float32, name="slice_hu")]
    return specs + [tf.TensorSpec((batch, slices), tf.float32, name="distances_mm")] * (slices > 1)


def whole_side(network):
    """Longest side that goes through LiteRT in one piece, in pixels, or `None` where memory asks for no limit.

    XNNPACK keeps an index of 8 bytes for every pixel and tap of each of the 98 convolutions of the paper's
    network: a process holds 0.9 GB for 256x256 pixels, and 3.3 GB for 512x512.
    """
    return 256 if _has_free_kernels(network) else None


def whole(network):
    """The function to trace for slices whose sides divide by `grid(network)`.

    Args:
        network: Keras model with `denoise_whole`, HU in and HU out.

    Returns:
        Function from `(B, H, W, 1)` in HU to the same; of a network for stacks, from `(B, H, W, S)` in HU and
        `(B, S)` distances in mm.
    """
    if slices_of(network) > 1:
        return lambda stack_hu, distances_mm: network.denoise_whole([stack_hu, distances_mm])
    if not _has_free_kernels(network):
        return network.denoise_whole
    in_strips = _in_strips(network)
    return lambda slice_hu: within_limits(in_strips, slice_hu)


def shares(network):
    """The function to trace for the kernels, for slices whose sides divide by `grid(network)`.

    Args:
        network: Keras model.

    Returns:
        Function of what `whole(network)` takes that returns a dict: `shares`, the phases `(B, H/2, W/2, 4 * C)` of how
        much each pixel takes of the `C` filters of all slices, and for slice `z` the filters themselves, `filters_z`
        `(n, n, C)` and, where there are such, `wide_z` in blocks of 2×2 pixels (`kpn_tf.kernels` says what kernels
        they are). `None` if the network's kernels are no mixtures of learnt filters.
    """
    if isinstance(network, StackKPN):
        banks = network.filtering.unit_sum_banks
    elif isinstance(network, StructKPN) and network.kernels == "mixture":

        def banks():
            return [(network.filtering.unit_sum_bank(),)]

    else:
        return None

    def told(*inputs):
        found = {"shares": network.shares(inputs if len(inputs) > 1 else inputs[0])}
        for z, bank in enumerate(banks()):
            found |= {
                f"{name}_{z}": filters for name, filters in zip(("filters", "wide"), bank, strict=False)
            }
        return found

    return told


def any_size(network):
    """The function to trace for slices of any size the network takes; see `whole`."""
    if slices_of(network) > 1:
        return lambda stack_hu, distances_mm: network.call([stack_hu, distances_mm])
    if not _has_free_kernels(network):
        return network.call
    in_strips = _in_strips(network)

    def denoise(slice_hu):
        # The filtering alone is done on more rows than there are: the features must see the slice's own border.
        rows = ops.shape(slice_hu)[1]
        return in_strips(slice_hu, spare_rows=missing_to_multiple(rows, STRIPS))[:, :rows]

    return lambda slice_hu: within_limits(denoise, slice_hu)


def _in_strips(network):
    """The paper's network without `patches`, strip by strip: what it holds at a time is an eighth.

    The rows of every neighbourhood become channels once. Then, column by column of the kernels, a shift of these
    is weighed with the taps of that column and summed. Only the filtering is cut into strips: the features are
    computed once, so a strip's edge sees what it would see in the whole slice.
    """
    side = network.kernel_size
    spare = side - 1
    hidden, scores = network.predictor.layers

    def by_column(weights):
        """Tap `i * side + j` moved to place `j * side + i`: the taps of a column of the kernel side by side."""
        taps = ops.reshape(weights, (-1, side, side))
        return ops.reshape(ops.transpose(taps, (0, 2, 1)), weights.shape)

    def pieces(tensor, spare_rows):
        if not (isinstance(spare_rows, int) and spare_rows == 0):
            tensor = ops.pad(tensor, [[0, 0], [0, spare_rows], [0, 0], [0, 0]])
        return ops.split(tensor, STRIPS, axis=1)

    def denoise(slice_hu, spare_rows=0):
        padded = reflect_border(slice_hu, side // 2)
        rows = [padded[:, i : i - spare or None] for i in range(side)]
        neighbours = ops.concatenate(rows, axis=-1)  # (B, H, W + side - 1, side)
        features = network.trunk(slice_hu)
        strips = zip(pieces(neighbours, spare_rows), pieces(features, spare_rows), strict=True)
        kernel, bias = by_column(scores.kernel), by_column(scores.bias)
        denoised = []
        for strip, strip_features in strips:
            taps = ops.softmax(ops.conv(hidden(strip_features), kernel, padding="valid") + bias, axis=-1)
            columns = ops.split(taps, side, axis=-1)
            denoised.append(
                sum(
                    ops.sum(strip[:, :, j : j - spare or None] * column, axis=-1, keepdims=True)
                    for j, column in enumerate(columns)
                )
            )
        return ops.concatenate(denoised, axis=1)

    return denoise


def _has_free_kernels(network):
    return isinstance(network, StructKPN) and network.kernels == "free" and network.trunk.stride == 1
