"""Mirrored borders: `1234` becomes `32 1234 32`, the edge pixel not repeated."""

from keras import ops


def reflect_border(image, radius):
    """Pads an image by mirroring it on all four sides.

    Args:
        image: Tensor `(B, H, W, C)` with `H, W > radius`.
        radius: Pixels added on each side.

    Returns:
        Tensor `(B, H + 2 * radius, W + 2 * radius, C)`.
    """
    return ops.pad(image, [[0, 0], [radius, radius], [radius, radius], [0, 0]], mode="reflect")


def reflect_to_multiple(image, multiple):
    """Mirrors rows at the bottom and columns at the right until both sides divide by `multiple`.

    Args:
        image: Tensor `(B, H, W, C)` with `H, W >= multiple`.
        multiple: Positive integer.

    Returns:
        Tensor `(B, H', W', C)`; the image itself where nothing is missing.
    """
    if multiple == 1:
        return image
    for axis, side in enumerate(ops.shape(image)[1:3], start=1):
        missing = missing_to_multiple(side, multiple)
        if isinstance(missing, int) and missing == 0:
            continue
        # Taken, not padded: where the padding is a tensor, LiteRT's converter loses the channels, which its
        # convolution needs; and PyTorch pads both axes or none. Not by the distance from the last: OpenVINO folds that
        # wrongly where a size is fixed.
        index = ops.arange(side + missing)
        image = ops.take(image, ops.minimum(index, 2 * (side - 1) - index), axis=axis)
    return image


def missing_to_multiple(length, multiple):
    """How much a length lacks to the next multiple.

    Args:
        length: Integer or scalar integer tensor.
        multiple: Positive integer.

    Returns:
        What `length` is, from 0 to `multiple - 1`.

    Example:

    >>> [missing_to_multiple(length, 4) for length in (8, 9, 11)]
    [0, 3, 1]
    """
    # Not -length % multiple: in ONNX files tf2onnx makes that a remainder rounded towards zero, which is negative.
    return (multiple - length % multiple) % multiple
