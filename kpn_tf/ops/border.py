"""Mirrored borders: `1234` becomes `32 1234 32`, the edge pixel not repeated."""

import keras
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
    below, right = (missing_to_multiple(side, multiple) for side in ops.shape(image)[1:3])
    if keras.backend.backend() == "torch":
        return _mirrored_by_slices(image, below, right)
    grown = ops.pad(image, [[0, 0], [0, below], [0, right], [0, 0]], mode="reflect")
    if hasattr(grown, "set_shape"):
        # TensorFlow forgets the channels when it traces a padding that is a tensor; LiteRT's convolution needs them.
        grown.set_shape((image.shape[0], None, None, image.shape[3]))
    return grown


def _mirrored_by_slices(image, below, right):
    """PyTorch, whose padding wants both sides of two axes, or none: here often only one is missing."""
    for axis, missing in ((1, below), (2, right)):
        if missing:
            last = image.shape[axis] - 1
            mirrored = ops.flip(ops.take(image, list(range(last - missing, last)), axis=axis), axis=axis)
            image = ops.concatenate([image, mirrored], axis=axis)
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
