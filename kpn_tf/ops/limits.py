"""What a network was not trained on, metal above all, kept from it and given back."""

from keras import ops

from kpn_tf.hounsfield import SEEN


def limited(slice_hu):
    """What a network sees of a slice.

    Args:
        slice_hu: Tensor in HU, any shape.

    Returns:
        The same, clipped to `kpn_tf.hounsfield.SEEN`.
    """
    return ops.clip(slice_hu, SEEN.low_hu, SEEN.high_hu)


def within_limits(denoise, slice_hu):
    """Denoises what lies within the limits, and adds what lies beyond them.

    Kernels may have negative taps; on values a hundred times those that they were trained on, these would draw a halo
    around metal and raise the noise.

    Args:
        denoise: Function of a tensor in HU to the same shape in HU.
        slice_hu: Tensor in HU.

    Returns:
        `denoise(limited) + (slice_hu - limited)`: what `denoise` alone returns where nothing lies beyond.

    Example:

    >>> import numpy as np
    >>> [float(value) for value in within_limits(lambda seen_hu: seen_hu / 2, np.array([-3000.0, 40.0, 9000.0]))]
    [-2400.0, 20.0, 8400.0]
    """
    seen_hu = limited(slice_hu)
    return denoise(seen_hu) + (slice_hu - seen_hu)
